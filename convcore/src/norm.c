/**
 * Batch normalisation: checks, division into tasks, sums, entry points.
 *
 * Channels-last arrays are a matrix of pixels and channels, read twice: parts
 * of the pixels give sums of all channels, then blocks of them are computed;
 * sums are formed in float over 128 terms at most, in double over a part, then
 * in a binary tree over the parts: those of a granule of samples, then the
 * granules. Channels-first, a task is a few channels, whose second reading
 * finds them in the cache, and whose sums it forms alone. What is added is x -
 * shift, with a shift near the mean, so that no digits of the variance are
 * lost.
 */
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "internal.h"

#define STREAM_BYTES (12 * 1024 * 1024) /* of an array */

enum {
  PARTS = 8,         /* of a granule, at most; */
  PART_PIXELS = 512, /* each with so many, about */
  SAMPLE = 32,       /* pixels that give the shifts */
  TASK_ELEMENTS = 1 << 15,
  CHANNELS = 16,           /* of a task, channels-first, at most; */
  CHANNELS_BYTES = 1 << 17 /* each array of them has about so many */
};

/** Elements of each channel in the job's table. */
enum { MEAN, SCALE, BIAS, SLOPE, OFFSET, COEFFICIENTS };

typedef struct job {
  const cvc_batch_norm *bn;
  const cvc_kernels *kernels;
  int64_t bytes, parts, block, tasks;
  double share; /* of an element in a mean */
  bool backward, stream;
  const void *x, *dy, *y, *residual; /* y: of ReLU's gradient */
  const void *weight, *bias, *given_mean, *given_var;
  void *to, *mean, *var, *d_weight, *d_bias, *d_residual;
  char *table;  /* [COEFFICIENTS][c] */
  double *sums; /* [parts][2][c], or of a channel's granules */
} job;

static void *coefficient(const job *j, int which, int64_t channel) {
  return j->table + (which * j->bn->c + channel) * j->bytes;
}

/* ------------------------------------------------- coefficients of a channel
 */

static double get(const job *j, const void *array, int64_t i, double absent) {
  return array ? cvc_get(j->bn->dtype, array, i) : absent;
}

static void set(const job *j, void *array, int64_t i, double value) {
  if (array) cvc_set(j->bn->dtype, array, i, value);
}

/** Those of the forward pass. The backward pass computes the same again from
 * the stored mean and variance, and so finds the same mask. */
static void set_forward(const job *j, int64_t channel, double mean,
                        double var) {
  const double scale = get(j, j->weight, channel, 1) / sqrt(var + j->bn->eps);
  set(j, coefficient(j, MEAN, channel), 0, mean);
  set(j, coefficient(j, SCALE, channel), 0, scale);
  set(j, coefficient(j, BIAS, channel), 0, get(j, j->bias, channel, 0));
}

static void set_given(const job *j, int64_t channel) {
  set_forward(j, channel, get(j, j->given_mean, channel, 0),
              get(j, j->given_var, channel, 0));
}

/** From the sums of d = x - shift and d * d; the shift is in the table. */
static void set_moments(const job *j, int64_t channel, double sum,
                        double squares) {
  const double shift = get(j, coefficient(j, MEAN, channel), 0, 0);
  const double distance = sum * j->share;
  double mean = shift + distance;
  double var = squares * j->share - distance * distance;
  if (var < 0) var = 0;
  set(j, j->mean, channel, mean);
  set(j, j->var, channel, var);
  if (j->bn->dtype == CVC_F32) { /* as the backward pass will find them */
    mean = (float)mean;
    var = (float)var;
  }
  set_forward(j, channel, mean, var);
}

/** From the sums of dy and dy * (x - mean). */
static void set_gradient(const job *j, int64_t channel, double sum,
                         double product) {
  const double var = get(j, j->given_var, channel, 0) + j->bn->eps;
  const double factor = 1 / sqrt(var);
  const double scale = get(j, j->weight, channel, 1) * factor;
  const double share = j->bn->training ? -scale * j->share : 0;
  set(j, j->d_bias, channel, sum);
  set(j, j->d_weight, channel, product * factor);
  set(j, coefficient(j, SLOPE, channel), 0, share * product * factor * factor);
  set(j, coefficient(j, OFFSET, channel), 0, share * sum);
}

static void set_sums(const job *j, int64_t channel, double sum,
                     double product) {
  if (j->backward)
    set_gradient(j, channel, sum, product);
  else
    set_moments(j, channel, sum, product);
}

/** Add up sums[parts][size] in a binary tree; the result is in the first. */
static void tree(double *sums, int64_t parts, int64_t size) {
  for (int64_t step = 1; step < parts; step *= 2)
    for (int64_t i = 0; i + step < parts; i += 2 * step) {
      double *to = sums + i * size;
      const double *from = to + step * size;
      for (int64_t k = 0; k < size; k++) to[k] += from[k];
    }
}

/** Whether anything is summed up: not with given statistics. */
static bool has_sums(const job *j) { return j->backward || j->bn->training; }

/** Whether the mean is still to be found. */
static bool needs_shift(const job *j) {
  return !j->backward && j->bn->training;
}

/* ----------------------------------------------------- what a task computes */

/** A part of the arrays, from element `at` on, whose first channel is this. */
static cvc_norm part_of(const job *j, int64_t at, int64_t channel,
                        double *sums) {
  const int64_t bytes = j->bytes;
#define CVC_PART(array) ((array) ? cvc_at((void *)(array), at, bytes) : NULL)
  return (cvc_norm){.rows = 1,
                    .step = j->bn->c,
                    .relu = j->bn->activation != CVC_ACTIVATION_NONE,
                    .stream = j->stream,
                    .most = j->bn->activation == CVC_ACTIVATION_RELU6 ? 6 : NAN,
                    .x = CVC_PART(j->x),
                    .residual = CVC_PART(j->residual),
                    .dy = CVC_PART(j->dy),
                    .y = CVC_PART(j->y),
                    .mean = coefficient(j, MEAN, channel),
                    .scale = coefficient(j, SCALE, channel),
                    .bias = coefficient(j, BIAS, channel),
                    .slope = coefficient(j, SLOPE, channel),
                    .offset = coefficient(j, OFFSET, channel),
                    .to = CVC_PART(j->to),
                    .d_residual = CVC_PART(j->d_residual),
                    .sums = {sums, sums + j->bn->c}};
#undef CVC_PART
}

static void add_up(const job *j, const cvc_norm *norm) {
  if (j->backward)
    j->kernels->norm_gradient_sums(norm);
  else
    j->kernels->norm_moments(norm);
}

static void compute(const job *j, cvc_norm *norm) {
  if (!j->backward) {
    j->kernels->norm_apply(norm);
    return;
  }
  if (norm->d_residual) { /* holds what ReLU let through of dy */
    norm->dy = norm->d_residual;
    norm->relu = false;
  }
  if (norm->to) j->kernels->norm_gradient(norm);
}

/** Stores past the caches are done before others read. */
static void end_stores(const job *j) {
  if (j->stream) atomic_thread_fence(memory_order_seq_cst);
}

/** The shifts: without a mean to start from, that of a few pixels spread over
 * all of them; channels-first, that of the channel's first plane. */
static void set_shifts(const job *j) {
  const cvc_batch_norm *bn = j->bn;
  const int64_t pixels = bn->n * bn->pixels;
  const int64_t samples = cvc_min(pixels, SAMPLE);
  memset(j->table, 0, (size_t)(bn->c * j->bytes));
  memset(j->sums, 0, (size_t)(2 * bn->c) * sizeof(double));
  cvc_norm norm = part_of(j, 0, 0, j->sums);
  norm.rows = samples;
  norm.columns = bn->c;
  norm.step = pixels / samples * bn->c;
  j->kernels->norm_moments(&norm);
  for (int64_t channel = 0; channel < bn->c; channel++)
    set(j, coefficient(j, MEAN, channel), 0,
        j->sums[channel] / (double)samples);
}

/** First pixel of a part, counted over all images. */
static int64_t part_first(const job *j, int64_t part) {
  const int64_t per_granule = j->parts / cvc_granules(j->bn->n);
  const int64_t granule = part / per_granule, pixels = j->bn->pixels;
  const int64_t first = cvc_granule_first(j->bn->n, granule) * pixels;
  if (part % per_granule == 0) return first;
  const int64_t last = cvc_granule_first(j->bn->n, granule + 1) * pixels;
  return first + part % per_granule * (last - first) / per_granule;
}

static void sum_task(void *context, int64_t part, int thread) {
  (void)thread;
  const job *j = context;
  const int64_t c = j->bn->c, first = part_first(j, part);
  double *sums = j->sums + part * 2 * c;
  for (int64_t i = 0; i < 2 * c; i++) sums[i] = 0;
  cvc_norm norm = part_of(j, first * c, 0, sums);
  norm.rows = part_first(j, part + 1) - first;
  norm.columns = c;
  add_up(j, &norm);
}

static void rows_task(void *context, int64_t task, int thread) {
  (void)thread;
  const job *j = context;
  const int64_t first = task * j->block, all = j->bn->n * j->bn->pixels;
  cvc_norm norm = part_of(j, first * j->bn->c, 0, NULL);
  norm.rows = cvc_min(j->block, all - first);
  norm.columns = j->bn->c;
  compute(j, &norm);
  end_stores(j);
}

/** Make a part with the first plane of a channel one with all of them. */
static void set_planes(const job *j, double *sums, cvc_norm *norm) {
  const cvc_batch_norm *bn = j->bn;
  norm->plane = true;
  norm->rows = bn->n;
  norm->columns = bn->pixels;
  norm->step = bn->c * bn->pixels;
  norm->sums[0] = sums;
  norm->sums[1] = sums + 1;
}

static void set_shift(const job *j, int64_t channel, cvc_norm *norm) {
  double *sum = norm->sums[0], *squares = norm->sums[1];
  set(j, coefficient(j, MEAN, channel), 0, 0);
  norm->rows = 1;
  j->kernels->norm_moments(norm);
  norm->rows = j->bn->n;
  set(j, coefficient(j, MEAN, channel), 0, *sum / (double)j->bn->pixels);
  *sum = *squares = 0;
}

/** Neighbouring channels: small planes come in by the line. */
static void channels_task(void *context, int64_t task, int thread) {
  (void)thread;
  const job *j = context;
  const int64_t first = task * j->block;
  const int64_t last = cvc_min(first + j->block, j->bn->c);
  for (int64_t channel = first; channel < last; channel++) {
    double sums[2] = {0};
    cvc_norm norm = part_of(j, channel * j->bn->pixels, channel, NULL);
    set_planes(j, sums, &norm);
    if (needs_shift(j))
      set_shift(j, channel, &norm);
    else
      set_given(j, channel);
    if (has_sums(j)) {
      add_up(j, &norm);
      set_sums(j, channel, sums[0], sums[1]);
    }
    compute(j, &norm);
  }
  end_stores(j);
}

/** Channels-first, the channels of a task: as many as stay in the caches. */
static int64_t channels_of_task(const cvc_batch_norm *bn) {
  const int64_t bytes = bn->n * bn->pixels * cvc_dtype_bytes(bn->dtype);
  return cvc_max(1, cvc_min(CHANNELS_BYTES / cvc_max(bytes, 1), CHANNELS));
}

static int threads_of(const cvc_batch_norm *bn, int64_t tasks,
                      const cvc_call *call) {
  return cvc_plan_threads(
      call, tasks,
      CVC_ELEMENT_WORK * (double)bn->n * (double)bn->c * (double)bn->pixels);
}

static cvc_status run_rows(job *j, const cvc_call *call) {
  const cvc_batch_norm *bn = j->bn;
  if (needs_shift(j))
    set_shifts(j);
  else
    for (int64_t channel = 0; channel < bn->c; channel++) set_given(j, channel);
  if (has_sums(j)) {
    CVC_TRY(cvc_parallel(call, threads_of(bn, j->parts, call), j->parts,
                         sum_task, j));
    tree(j->sums, j->parts, 2 * bn->c);
    for (int64_t channel = 0; channel < bn->c; channel++)
      set_sums(j, channel, j->sums[channel], j->sums[bn->c + channel]);
  }
  if (!j->to) return CVC_OK;
  return cvc_parallel(call, threads_of(bn, j->tasks, call), j->tasks, rows_task,
                      j);
}

/** A power of two, that depends on the shape alone. */
static int64_t parts_of(const cvc_batch_norm *bn) {
  const int64_t granules = cvc_granules(bn->n);
  const int64_t pixels = bn->n / granules * bn->pixels;
  int64_t parts = 1;
  while (parts < PARTS && parts * 2 * PART_PIXELS <= pixels) parts *= 2;
  return parts * granules;
}

static int64_t table_bytes(const cvc_batch_norm *bn) {
  return cvc_round_up(COEFFICIENTS * bn->c * cvc_dtype_bytes(bn->dtype), 64);
}

static int64_t scratch_bytes_of(const cvc_batch_norm *bn) {
  int64_t bytes = table_bytes(bn);
  if (bn->layout == CVC_CHANNELS_LAST)
    bytes += parts_of(bn) * 2 * bn->c * (int64_t)sizeof(double);
  return bytes;
}

/** Whether the results go past the caches, which would not keep them: those of
 * whole lines, in memory that has not just been read. */
static bool streams(const job *j, int64_t row) {
  const int64_t size = j->bn->n * j->bn->c * j->bn->pixels;
  const bool in_place = j->to == j->dy || j->to == j->residual;
  return !in_place && size * j->bytes >= STREAM_BYTES &&
         (uintptr_t)j->to % 64 == 0 && row * j->bytes % 64 == 0;
}

static cvc_status run(job *j, const cvc_batch_norm *bn, const cvc_call *call) {
  j->bn = bn;
  j->kernels = cvc_kernels_of(bn->dtype);
  j->bytes = cvc_dtype_bytes(bn->dtype);
  j->parts = parts_of(bn);
  j->share = 1 / ((double)bn->n * (double)bn->pixels);
  const bool last = bn->layout == CVC_CHANNELS_LAST;
  j->stream = streams(j, last ? bn->c : bn->pixels);
  j->block = last ? cvc_ceil_div(TASK_ELEMENTS, bn->c) : channels_of_task(bn);
  j->tasks = cvc_ceil_div(last ? bn->n * bn->pixels : bn->c, j->block);
  cvc_scratch scratch;
  CVC_TRY(cvc_scratch_begin(&scratch, call, scratch_bytes_of(bn)));
  j->table = scratch.memory;
  j->sums = (double *)(j->table + table_bytes(bn));
  cvc_status status = last ? run_rows(j, call)
                           : cvc_parallel(call, threads_of(bn, j->tasks, call),
                                          j->tasks, channels_task, j);
  cvc_scratch_end(&scratch);
  return status;
}

/* ------------------------------------------------------------------ checks */

cvc_status cvc_batch_norm_check(const cvc_batch_norm *bn) {
  if (!bn) return CVC_BAD_ARGUMENT;
  CVC_TRY(cvc_initialize());
  if (!cvc_is_real(bn->dtype)) return CVC_UNSUPPORTED;
  if (bn->layout != CVC_CHANNELS_FIRST && bn->layout != CVC_CHANNELS_LAST)
    return CVC_BAD_ARGUMENT;
  if (bn->activation < CVC_ACTIVATION_NONE ||
      bn->activation > CVC_ACTIVATION_RELU6)
    return CVC_UNSUPPORTED;
  if (bn->n < 0 || bn->pixels < 0 || !(bn->eps >= 0)) return CVC_BAD_ARGUMENT;
  if (bn->c < 1 || (bn->training && (bn->n == 0 || bn->pixels == 0)))
    return CVC_BAD_SHAPE;
  /* The sums of up to 64 parts are in double. */
  const int64_t sizes[] = {16 * 8 * PARTS, cvc_max(bn->n, 1), bn->c,
                           cvc_max(bn->pixels, 1)};
  int64_t elements;
  return cvc_elements(CVC_F64, 4, sizes, &elements);
}

cvc_status cvc_batch_norm_scratch(const cvc_batch_norm *bn, int threads,
                                  int64_t *scratch_bytes) {
  CVC_TRY(cvc_batch_norm_check(bn));
  if (!scratch_bytes || threads < 0) return CVC_BAD_ARGUMENT;
  *scratch_bytes = scratch_bytes_of(bn);
  return CVC_OK;
}

/** An argument: an array of so many elements, and what may be the same. */
typedef struct array {
  const void *data;
  int64_t size;
} array;

/** Alignment, and that no output overlaps an input or another output; one
 * input may be the very same memory as the first output. */
static cvc_status check_arrays(const cvc_batch_norm *bn, const array *in,
                               int inputs, const array *out, int outputs,
                               const void *in_place) {
  const int64_t bytes = cvc_dtype_bytes(bn->dtype);
  for (int i = 0; i < inputs; i++)
    if (!cvc_is_aligned(in[i].data, bn->dtype)) return CVC_BAD_ARGUMENT;
  for (int o = 0; o < outputs; o++) {
    if (!cvc_is_aligned(out[o].data, bn->dtype)) return CVC_BAD_ARGUMENT;
    for (int i = 0; i < inputs; i++)
      if (o != 0 || in[i].data != in_place || out[0].data != in_place)
        CVC_TRY(cvc_check_disjoint(in[i].data, in[i].size * bytes, out[o].data,
                                   out[o].size * bytes));
    for (int p = 0; p < o; p++)
      CVC_TRY(cvc_check_disjoint(out[p].data, out[p].size * bytes, out[o].data,
                                 out[o].size * bytes));
  }
  return CVC_OK;
}

/* ------------------------------------------------------------ entry points */

cvc_status cvc_batch_norm_forward(const cvc_batch_norm *bn, const void *x,
                                  const void *weight, const void *bias,
                                  const void *given_mean, const void *given_var,
                                  const void *residual, void *y, void *mean,
                                  void *var, const cvc_call *call) {
  CVC_TRY(cvc_batch_norm_check(bn));
  const int64_t size = bn->n * bn->pixels * bn->c;
  if (size && (!x || !y)) return CVC_BAD_ARGUMENT;
  if (!bn->training && (!given_mean || !given_var)) return CVC_BAD_ARGUMENT;
  const array in[] = {{x, size},          {weight, bn->c},
                      {bias, bn->c},      {given_mean, bn->c},
                      {given_var, bn->c}, {residual, size}};
  const array out[] = {{y, size}, {mean, bn->c}, {var, bn->c}};
  CVC_TRY(check_arrays(bn, in, 6, out, 3, residual));
  if (!size) return CVC_OK;
  job j = {.x = x,
           .weight = weight,
           .bias = bias,
           .given_mean = given_mean,
           .given_var = given_var,
           .residual = residual,
           .to = y,
           .mean = mean,
           .var = var};
  return run(&j, bn, call);
}

cvc_status cvc_batch_norm_backward(const cvc_batch_norm *bn, const void *dy,
                                   const void *x, const void *y,
                                   const void *weight, const void *bias,
                                   const void *mean, const void *var, void *dx,
                                   void *dweight, void *dbias, void *dresidual,
                                   const cvc_call *call) {
  CVC_TRY(cvc_batch_norm_check(bn));
  const int64_t size = bn->n * bn->pixels * bn->c;
  if ((size && (!dy || !x)) || !mean || !var) return CVC_BAD_ARGUMENT;
  /* With a residual the sign of y does not follow from x. */
  if (dresidual && bn->activation != CVC_ACTIVATION_NONE && !y)
    return CVC_BAD_ARGUMENT;
  const array in[] = {{dy, size},      {x, size},     {y, size},
                      {weight, bn->c}, {bias, bn->c}, {mean, bn->c},
                      {var, bn->c}};
  /* The first output is written from dy alone, element by element. */
  const array first = dresidual ? (array){dresidual, size} : (array){dx, size};
  const array second = dresidual ? (array){dx, size} : (array){NULL, 0};
  const array out[] = {first, second, {dweight, bn->c}, {dbias, bn->c}};
  CVC_TRY(check_arrays(bn, in, 7, out, 4, dy));
  job j = {.backward = true,
           .dy = dy,
           .x = x,
           .y = y,
           .weight = weight,
           .bias = bias,
           .given_mean = mean,
           .given_var = var,
           .to = dx,
           .d_weight = dweight,
           .d_bias = dbias,
           .d_residual = dresidual};
  return run(&j, bn, call);
}

cvc_status cvc_running_statistics(cvc_dtype dtype, int64_t c, int64_t count,
                                  double momentum, const void *mean,
                                  const void *var, const void *running_mean,
                                  const void *running_var,
                                  const int64_t *batches, void *new_mean,
                                  void *new_var, int64_t *new_batches) {
  CVC_TRY(cvc_initialize());
  if (!cvc_is_real(dtype)) return CVC_UNSUPPORTED;
  if (c < 1 || count < 1) return CVC_BAD_SHAPE;
  if (!mean || !var || !running_mean || !running_var || !new_mean || !new_var ||
      (isnan(momentum) && !batches) || (batches && !new_batches))
    return CVC_BAD_ARGUMENT;
  const int64_t tracked = batches ? *batches + 1 : 1;
  const double share = isnan(momentum) ? 1 / (double)tracked : momentum;
  const double unbiased =
      (double)count / (double)(count > 1 ? count - 1 : count);
  if (batches) *new_batches = tracked;
  for (int64_t i = 0; i < c; i++) {
    const double old_mean = cvc_get(dtype, running_mean, i);
    const double old_var = cvc_get(dtype, running_var, i);
    cvc_set(dtype, new_mean, i,
            (1 - share) * old_mean + share * cvc_get(dtype, mean, i));
    cvc_set(dtype, new_var, i,
            (1 - share) * old_var + share * unbiased * cvc_get(dtype, var, i));
  }
  return CVC_OK;
}
