/**
 * Convolution, the entry points: check the descriptor, choose the algorithm,
 * lay out the scratch, convert to channels-last and pack where needed, run.
 */
#include <string.h>

#include "conv.h"

/* ----------------------------------------------------------------- checks */

/** Product of sizes in elements and in bytes of the largest dtype fits. */
static cvc_status check_product(const int64_t *sizes, int count) {
  int64_t product = 16;
  for (int i = 0; i < count; i++) {
    if (sizes[i] == 0) return CVC_OK;
    CVC_TRY(cvc_multiply(&product, sizes[i]));
  }
  return CVC_OK;
}

static cvc_status check_axis(const cvc_conv *conv, int i, int64_t *out) {
  if (conv->size[i] < 1 || conv->kernel[i] < 1) return CVC_BAD_SHAPE;
  if (conv->stride[i] < 1 || conv->dilation[i] < 1) return CVC_BAD_SHAPE;
  if (conv->pad_before[i] < 0 || conv->pad_after[i] < 0) return CVC_BAD_SHAPE;
  int64_t padded, extent;
  if (__builtin_add_overflow(conv->size[i], conv->pad_before[i], &padded) ||
      __builtin_add_overflow(padded, conv->pad_after[i], &padded) ||
      __builtin_mul_overflow(conv->dilation[i], conv->kernel[i] - 1, &extent))
    return CVC_TOO_LARGE;
  if (extent >= padded) return CVC_BAD_SHAPE;
  /* Index arithmetic adds a few such terms. */
  if (padded > INT64_MAX / 8 || conv->stride[i] > INT64_MAX / 8)
    return CVC_TOO_LARGE;
  *out = (padded - extent - 1) / conv->stride[i] + 1;
  return CVC_OK;
}

cvc_status cvc_conv_output_size(const cvc_conv *conv, int64_t out[3]) {
  if (!conv || !out) return CVC_BAD_ARGUMENT;
  CVC_TRY(cvc_initialize());
  if (!cvc_is_real(conv->dtype)) return CVC_UNSUPPORTED;
  if (conv->layout != CVC_CHANNELS_FIRST && conv->layout != CVC_CHANNELS_LAST)
    return CVC_BAD_ARGUMENT;
  if (conv->algorithm < CVC_AUTO || conv->algorithm > CVC_WINOGRAD ||
      conv->precision < CVC_HIGHEST || conv->precision > CVC_MEDIUM ||
      conv->activation < CVC_ACTIVATION_NONE ||
      conv->activation > CVC_ACTIVATION_RELU6 ||
      conv->weights < CVC_WEIGHTS_PLAIN || conv->weights > CVC_WEIGHTS_PACKED)
    return CVC_BAD_ARGUMENT;
  if (conv->n < 0 || conv->c < 1 || conv->k < 1 || conv->groups < 1)
    return CVC_BAD_SHAPE;
  if (conv->c % conv->groups || conv->k % conv->groups) return CVC_BAD_SHAPE;
  if (conv->y_stride) {
    if (conv->y_stride < conv->k) return CVC_BAD_SHAPE;
    if (conv->layout != CVC_CHANNELS_LAST || cvc_is_depthwise(conv))
      return CVC_UNSUPPORTED;
  }
  int64_t o[3];
  for (int i = 0; i < 3; i++) CVC_TRY(check_axis(conv, i, &o[i]));
  const int64_t *s = conv->size, *f = conv->kernel;
  const int64_t x[] = {cvc_max(conv->n, 1), conv->c, s[0], s[1], s[2]};
  const int64_t pixel = cvc_conv_y_stride(conv);
  const int64_t y[] = {cvc_max(conv->n, 1), pixel, o[0], o[1], o[2]};
  /* 64: packed panels round the channels up; 8: granules. */
  const int64_t w[] = {64 * 8, conv->k, conv->c, f[0], f[1], f[2]};
  CVC_TRY(check_product(x, 5));
  CVC_TRY(check_product(y, 5));
  CVC_TRY(check_product(w, 6));
  for (int i = 0; i < 3; i++) out[i] = o[i];
  return CVC_OK;
}

/* ------------------------------------------------------ choice, packing */

cvc_status cvc_conv_choose(const cvc_conv *conv, cvc_pass pass,
                           cvc_algorithm *chosen) {
  int64_t out[3];
  cvc_choice choice;
  CVC_TRY(cvc_conv_output_size(conv, out));
  if (!chosen || pass < CVC_FORWARD || pass > CVC_BACKWARD_WEIGHT)
    return CVC_BAD_ARGUMENT;
  CVC_TRY(cvc_choose(conv, pass, &choice));
  *chosen = choice.algorithm;
  return CVC_OK;
}

/** The choice for packed weights, whatever the descriptor says of them. */
static cvc_status choose_packed(const cvc_conv *conv, cvc_pass pass,
                                cvc_choice *choice) {
  int64_t out[3];
  CVC_TRY(cvc_conv_output_size(conv, out));
  if (pass != CVC_FORWARD && pass != CVC_BACKWARD_DATA) return CVC_BAD_ARGUMENT;
  cvc_conv packed = *conv;
  packed.weights = CVC_WEIGHTS_PACKED;
  return cvc_choose(&packed, pass, choice);
}

cvc_status cvc_conv_packed_size(const cvc_conv *conv, cvc_pass pass,
                                int64_t *packed_size) {
  cvc_choice choice;
  CVC_TRY(choose_packed(conv, pass, &choice));
  if (!packed_size) return CVC_BAD_ARGUMENT;
  *packed_size = cvc_packed_elements(conv, pass, choice);
  return CVC_OK;
}

cvc_status cvc_conv_pack(const cvc_conv *conv, cvc_pass pass, const void *w,
                         void *packed, const cvc_call *call) {
  cvc_choice choice;
  CVC_TRY(choose_packed(conv, pass, &choice));
  if (!w || !packed || (uintptr_t)packed % 64) return CVC_BAD_ARGUMENT;
  const int64_t bytes = cvc_dtype_bytes(conv->dtype);
  CVC_TRY(cvc_check_disjoint(w, cvc_conv_w_elements(conv) * bytes, packed,
                             cvc_packed_elements(conv, pass, choice) * bytes));
  return cvc_pack(conv, pass, choice, w, packed, call);
}

cvc_status cvc_conv_unpack(const cvc_conv *conv, const void *packed, void *w) {
  cvc_choice choice;
  CVC_TRY(choose_packed(conv, CVC_FORWARD, &choice));
  if (!w || !packed || (uintptr_t)packed % 64) return CVC_BAD_ARGUMENT;
  const int64_t bytes = cvc_dtype_bytes(conv->dtype);
  CVC_TRY(cvc_check_disjoint(
      w, cvc_conv_w_elements(conv) * bytes, packed,
      cvc_packed_elements(conv, CVC_FORWARD, choice) * bytes));
  CVC_TRY(cvc_check_packed(conv, CVC_FORWARD, choice, packed));
  cvc_unpack(conv, choice, packed, w);
  return CVC_OK;
}

/* ------------------------------------------------------------------ runs */

#define BATCH_BYTES (512 * 1024) /* a part of the L2 cache */

/** Parts of the scratch of a call; 0 bytes: not needed. */
typedef struct parts {
  int64_t x, y, residual, packed, algorithm; /* bytes */
} parts;

static int64_t padded(int64_t elements, const cvc_conv *conv) {
  return cvc_round_up(elements * cvc_dtype_bytes(conv->dtype), 64);
}

/** Channels-first arrays whose memory is not that of channels-last. */
static bool converts(const cvc_conv *conv, int64_t channels,
                     const int64_t size[3]) {
  return conv->layout == CVC_CHANNELS_FIRST && channels > 1 &&
         cvc_volume(size) > 1;
}

static parts parts_of(const cvc_conv *conv, cvc_pass pass, cvc_choice choice,
                      bool residual, int threads) {
  int64_t out[3];
  cvc_conv_out(conv, out);
  parts p = {0};
  if (choice.planar) {
    p.algorithm = pass == CVC_BACKWARD_WEIGHT
                      ? cvc_weight_planes_scratch(conv, threads)
                      : cvc_planar_scratch(conv, pass, threads);
    return p;
  }
  const bool window = choice.linear && cvc_linear_channels(conv) > conv->c;
  if (!window && converts(conv, conv->c, conv->size))
    p.x = padded(cvc_conv_x_elements(conv), conv);
  if (converts(conv, conv->k, out))
    p.y = padded(cvc_conv_y_elements(conv), conv);
  if (residual) p.residual = p.y;
  if (choice.linear) {
    p.algorithm = cvc_linear_scratch(conv, pass, threads);
    return p;
  }
  const bool as_they_are = choice.algorithm == CVC_WINOGRAD &&
                           pass != CVC_BACKWARD_WEIGHT &&
                           cvc_winograd_plain(conv, pass, choice.m);
  if (pass != CVC_BACKWARD_WEIGHT && conv->weights == CVC_WEIGHTS_PLAIN &&
      !as_they_are)
    p.packed = padded(cvc_packed_elements(conv, pass, choice), conv);
  if (choice.depthwise)
    p.algorithm = cvc_depthwise_scratch(conv, pass, threads);
  else if (pass == CVC_BACKWARD_WEIGHT && choice.algorithm == CVC_WINOGRAD)
    p.algorithm = cvc_winograd_weight_scratch(conv, choice.m, threads);
  else if (pass == CVC_BACKWARD_WEIGHT)
    p.algorithm =
        cvc_weight_scratch(conv, threads, choice.algorithm == CVC_IM2COL);
  else if (choice.algorithm == CVC_WINOGRAD)
    p.algorithm = cvc_winograd_scratch(conv, pass, choice.m, threads);
  else if (choice.algorithm == CVC_IM2COL)
    /* Infinite weights send im2col to the direct algorithm. */
    p.algorithm = cvc_max(cvc_im2col_scratch(conv, pass, threads),
                          cvc_direct_scratch(conv, pass, threads));
  else
    p.algorithm = cvc_direct_scratch(conv, pass, threads);
  return p;
}

/** The descriptor of the images that run at a time: where arrays are converted,
 * as many as stay in the caches between that and their use; else all. */
static cvc_conv batch_of(const cvc_conv *conv, cvc_pass pass, cvc_choice choice,
                         int threads) {
  cvc_conv batch = *conv;
  if (conv->layout == CVC_CHANNELS_LAST || choice.planar || choice.linear ||
      conv->n == 0 || pass == CVC_BACKWARD_WEIGHT ||
      choice.algorithm == CVC_WINOGRAD)
    return batch;
  const int64_t bytes = cvc_dtype_bytes(conv->dtype);
  const int64_t image =
      (cvc_conv_x_elements(conv) + cvc_conv_y_elements(conv)) / conv->n * bytes;
  /* Weights come in again for every batch. */
  if (cvc_packed_elements(conv, pass, choice) * bytes <= BATCH_BYTES)
    batch.n = cvc_min(conv->n, threads * cvc_max(BATCH_BYTES / image, 1));
  return batch;
}

static int64_t total(const parts *p) {
  return p->x + p->y + p->residual + p->packed + p->algorithm;
}

double cvc_conv_work(const cvc_conv *conv) {
  const double products = 2.0 * (double)cvc_conv_y_elements(conv) *
                          (double)(conv->c / conv->groups) *
                          (double)cvc_volume(conv->kernel);
  const double elements =
      (double)(cvc_conv_x_elements(conv) + cvc_conv_y_elements(conv) +
               cvc_conv_w_elements(conv));
  return products + CVC_ELEMENT_WORK / 4 * elements;
}

/** What a thread has found out about a pass of a descriptor: to check that, to
 * choose and to divide the scratch take as long as a third of a small
 * convolution. */
typedef struct known {
  cvc_conv conv; /* c: 0 where nothing is known yet */
  cvc_pass pass;
  cvc_choice choice;
  double work;
  int64_t x_bytes, y_bytes, w_bytes; /* of the arrays; w: as it is given */
  int threads;                       /* that these are for: 0 none yet */
  cvc_conv batch;
  parts parts; /* with a residual */
} known;

/* Descriptors are compared byte by byte: six enums, then int64_t. */
_Static_assert(sizeof(cvc_conv) == 6 * sizeof(int) + 23 * sizeof(int64_t),
               "no padding");

/** Where this thread keeps it. */
static known *place_of(const cvc_conv *conv, cvc_pass pass) {
  enum { PLACES = 16 };
  static _Thread_local known places[PLACES];
  const int64_t parts[] = {conv->n,         conv->c,     conv->k,
                           conv->size[2],   pass,        conv->weights,
                           conv->kernel[2], conv->layout};
  uint64_t hash = 0;
  for (int i = 0; i < 8; i++) hash = hash * 31 + (uint64_t)parts[i];
  return &places[hash % PLACES];
}

/** Check the descriptor and choose, unless both is known; until the thread's
 * next call. */
static cvc_status know(const cvc_conv *conv, cvc_pass pass, known **found) {
  known *const k = *found = place_of(conv, pass);
  if (k->conv.c && k->pass == pass && memcmp(&k->conv, conv, sizeof *conv) == 0)
    return CVC_OK;
  int64_t out[3];
  cvc_choice choice;
  CVC_TRY(cvc_conv_output_size(conv, out));
  CVC_TRY(cvc_choose(conv, pass, &choice));
  const int64_t bytes = cvc_dtype_bytes(conv->dtype);
  const bool packed =
      pass != CVC_BACKWARD_WEIGHT && conv->weights == CVC_WEIGHTS_PACKED;
  const int64_t w = packed ? cvc_packed_elements(conv, pass, choice)
                           : cvc_conv_w_elements(conv);
  *k = (known){.conv = *conv,
               .pass = pass,
               .choice = choice,
               .work = cvc_conv_work(conv),
               .x_bytes = cvc_conv_x_elements(conv) * bytes,
               .y_bytes = cvc_conv_y_extent(conv) * bytes,
               .w_bytes = w * bytes};
  return CVC_OK;
}

cvc_status cvc_conv_scratch(const cvc_conv *conv, cvc_pass pass, int threads,
                            int64_t *scratch_bytes) {
  int64_t out[3];
  known *k;
  CVC_TRY(cvc_conv_output_size(conv, out));
  if (!scratch_bytes || threads < 0 || pass < CVC_FORWARD ||
      pass > CVC_BACKWARD_WEIGHT)
    return CVC_BAD_ARGUMENT;
  CVC_TRY(know(conv, pass, &k));
  const cvc_choice choice = k->choice;
  const cvc_call call = {.threads = threads};
  /* Alone and in a team; fewer threads may have larger parts. */
  const int threads_of_call[] = {cvc_plan_threads(&call, INT64_MAX, k->work),
                                 cvc_most_threads(&call, INT64_MAX, k->work)};
  *scratch_bytes = 0;
  for (int i = 0; i < 2; i++)
    for (int planar = choice.planar; planar >= 0; planar--) {
      const int used = threads_of_call[i];
      cvc_choice way = choice;
      way.planar = planar; /* infinite weights need the other way */
      const cvc_conv batch = batch_of(conv, pass, way, used);
      const parts p = parts_of(&batch, pass, way, pass == CVC_FORWARD, used);
      *scratch_bytes = cvc_max(*scratch_bytes, total(&p));
    }
  return CVC_OK;
}

/** What a pass reads and writes, as the caller gave it. */
typedef struct arrays {
  const void *x, *y, *w, *bias, *residual; /* y: dy */
  void *target, *db;
} arrays;

static cvc_status check_arrays(const known *known, const arrays *a) {
  const cvc_conv *conv = &known->conv;
  const cvc_pass pass = known->pass;
  const int64_t bytes = cvc_dtype_bytes(conv->dtype);
  const int64_t x = known->x_bytes, y = known->y_bytes, w = known->w_bytes;
  const int64_t k = conv->k * bytes;
  const int64_t target = pass == CVC_FORWARD         ? y
                         : pass == CVC_BACKWARD_DATA ? x
                                                     : w;
  const struct {
    const void *array;
    int64_t bytes;
  } inputs[] = {
      {a->x, x}, {a->y, y}, {a->w, w}, {a->bias, k}, {a->residual, y}};
  for (int i = 0; i < 5; i++) {
    if ((uintptr_t)inputs[i].array % (uintptr_t)bytes) return CVC_BAD_ARGUMENT;
    CVC_TRY(cvc_check_disjoint(a->target, target, inputs[i].array,
                               inputs[i].bytes));
    CVC_TRY(cvc_check_disjoint(a->db, k, inputs[i].array, inputs[i].bytes));
  }
  if ((uintptr_t)a->target % (uintptr_t)bytes ||
      (uintptr_t)a->db % (uintptr_t)bytes)
    return CVC_BAD_ARGUMENT;
  CVC_TRY(cvc_check_disjoint(a->target, target, a->db, k));
  if (pass != CVC_BACKWARD_WEIGHT && conv->weights == CVC_WEIGHTS_PACKED)
    return cvc_check_packed(conv, pass, known->choice, a->w);
  return CVC_OK;
}

/** Any padding that im2col or planar would multiply with infinite weights. */
static bool padding_meets_infinity(const cvc_conv *conv, cvc_choice choice,
                                   cvc_pass pass, const void *w) {
  bool pads = pass == CVC_BACKWARD_DATA && cvc_volume(conv->kernel) > 1;
  for (int i = 0; i < 3; i++) pads |= conv->pad_before[i] || conv->pad_after[i];
  if (!pads) return false;
  if (choice.planar && conv->weights == CVC_WEIGHTS_PLAIN)
    return !cvc_kernels_of(conv->dtype)
                ->all_finite(cvc_conv_w_elements(conv), w);
  return !((const cvc_packed *)w)->all_finite;
}

static cvc_status run_algorithm(const cvc_conv_job *job, cvc_pass pass) {
  const cvc_algorithm algorithm = job->choice.algorithm;
  const bool im2col = algorithm == CVC_IM2COL;
  if (job->choice.depthwise) return cvc_depthwise_run(job, pass);
  if (job->choice.linear) return cvc_linear_run(job, pass);
  if (pass == CVC_BACKWARD_WEIGHT && algorithm == CVC_WINOGRAD)
    return cvc_winograd_weight_run(job);
  if (pass == CVC_BACKWARD_WEIGHT && job->choice.planar)
    return cvc_weight_planes_run(job);
  if (pass == CVC_BACKWARD_WEIGHT) return cvc_weight_backward(job, im2col);
  if (algorithm == CVC_WINOGRAD) return cvc_winograd_run(job, pass);
  if (job->choice.planar) return cvc_planar_run(job, pass);
  if (im2col && pass == CVC_BACKWARD_DATA) return cvc_im2col_backward_data(job);
  if (im2col &&
      !padding_meets_infinity(job->conv, job->choice, pass, job->packed))
    return cvc_im2col_forward(job);
  return cvc_direct_run(job, pass);
}

/** Convert what the scratch has room for, run, convert back. */
static cvc_status run_batch(const cvc_conv *conv, cvc_pass pass,
                            cvc_choice choice, const parts *p, const arrays *a,
                            int threads, const cvc_call *call, char *scratch) {
  int64_t out[3];
  cvc_conv_out(conv, out);
  const int64_t pixels = cvc_volume(conv->size), out_pixels = cvc_volume(out);
  char *x = scratch, *y = x + p->x, *residual = y + p->y;
  cvc_conv_job job = {.conv = conv,
                      .choice = choice,
                      .call = call,
                      .threads = threads,
                      .x = a->x,
                      .y = a->y,
                      .packed = a->w,
                      .bias = a->bias,
                      .residual = a->residual,
                      .target = a->target,
                      .db = a->db,
                      .scratch = residual + p->residual};
  if (p->x && a->x) {
    CVC_TRY(
        cvc_transpose(conv->dtype, conv->n, conv->c, pixels, a->x, x, call));
    job.x = x;
  }
  if (p->y && a->y) {
    CVC_TRY(cvc_transpose(conv->dtype, conv->n, conv->k, out_pixels, a->y, y,
                          call));
    job.y = y;
  }
  if (p->residual && a->residual) {
    CVC_TRY(cvc_transpose(conv->dtype, conv->n, conv->k, out_pixels,
                          a->residual, residual, call));
    job.residual = residual;
  }
  if (pass == CVC_FORWARD && p->y) job.target = y;
  if (pass == CVC_BACKWARD_DATA && p->x) job.target = x;
  CVC_TRY(run_algorithm(&job, pass));
  if (job.target == a->target) return CVC_OK;
  return pass == CVC_FORWARD
             ? cvc_transpose(conv->dtype, conv->n, out_pixels, conv->k,
                             job.target, a->target, call)
             : cvc_transpose(conv->dtype, conv->n, pixels, conv->c, job.target,
                             a->target, call);
}

/** The arrays from image `first` on. */
static arrays arrays_from(const cvc_conv *conv, cvc_pass pass, const arrays *a,
                          int64_t first) {
  if (!first) return *a;
  const int64_t bytes = cvc_dtype_bytes(conv->dtype);
  const int64_t n = cvc_max(conv->n, 1);
  const int64_t x = first * (cvc_conv_x_elements(conv) / n);
  const int64_t y = first * (cvc_conv_y_elements(conv) / n);
  arrays from = *a;
  if (a->x) from.x = cvc_at_const(a->x, x, bytes);
  if (a->y) from.y = cvc_at_const(a->y, y, bytes);
  if (a->residual) from.residual = cvc_at_const(a->residual, y, bytes);
  if (pass != CVC_BACKWARD_WEIGHT)
    from.target = cvc_at(a->target, pass == CVC_FORWARD ? y : x, bytes);
  return from;
}

/** A call in scratch, as a team runs it. */
typedef struct run {
  const cvc_conv *conv;
  cvc_conv batch;
  cvc_pass pass;
  cvc_choice choice;
  parts parts;
  arrays arrays;
  int threads;
  const cvc_call *call;
  char *scratch;
} run;

/** Pack weights, then run the images batch by batch. */
static cvc_status run_in_scratch(void *context) {
  run *r = context;
  const int64_t images = r->batch.n;
  if (r->parts.packed) {
    CVC_TRY(cvc_pack(r->conv, r->pass, r->choice, r->arrays.w, r->scratch,
                     r->call));
    r->arrays.w = r->scratch;
  }
  int64_t first = 0;
  do {
    const arrays part = arrays_from(r->conv, r->pass, &r->arrays, first);
    r->batch.n = cvc_min(images, r->conv->n - first);
    CVC_TRY(run_batch(&r->batch, r->pass, r->choice, &r->parts, &part,
                      r->threads, r->call, r->scratch + r->parts.packed));
    first += images;
  } while (first < r->conv->n);
  return CVC_OK;
}

/** In the caller's scratch, or some of its own; by one team, since there may be
 * a loop for each remainder, and others to pack and to convert. */
static cvc_status run_team(run *r) {
  cvc_scratch scratch;
  CVC_TRY(cvc_scratch_begin(&scratch, r->call, total(&r->parts)));
  r->scratch = scratch.memory;
  const cvc_status status = cvc_with_team(r->threads, run_in_scratch, r);
  cvc_scratch_end(&scratch);
  return status;
}

/** Its batches and scratch, for its choice and threads. */
static void divide(run *r) {
  r->batch = batch_of(r->conv, r->pass, r->choice, r->threads);
  r->parts = parts_of(&r->batch, r->pass, r->choice, true, r->threads);
}

/** The same as it was for the last run, if that had as many threads. */
static void divide_known(run *r, known *k) {
  if (k->threads != r->threads) {
    divide(r);
    k->batch = r->batch;
    k->parts = r->parts;
    k->threads = r->threads;
  }
  r->batch = k->batch;
  r->parts = k->parts;
}

/** Whether the gradients of weights and bias have no infinity or NaN. */
static bool is_finite(const cvc_conv *conv, const arrays *a) {
  const cvc_kernels *kernels = cvc_kernels_of(conv->dtype);
  return (!a->target ||
          kernels->all_finite(cvc_conv_w_elements(conv), a->target)) &&
         (!a->db || kernels->all_finite(conv->k, a->db));
}

static cvc_status run_pass(const cvc_conv *conv, cvc_pass pass, const arrays *a,
                           const cvc_call *call) {
  known *k;
  CVC_TRY(know(conv, pass, &k));
  if (conv->y_stride && (pass != CVC_FORWARD || a->residual))
    return CVC_UNSUPPORTED;
  CVC_TRY(check_arrays(k, a));
  /* Without images there is nothing to write, but the sums over them. */
  if (conv->n == 0 && pass != CVC_BACKWARD_WEIGHT) return CVC_OK;
  run r = {.conv = conv,
           .pass = pass,
           .choice = k->choice,
           .arrays = *a,
           .threads = cvc_plan_threads(call, INT64_MAX, k->work),
           .call = call};
  if (r.choice.planar && pass != CVC_BACKWARD_WEIGHT &&
      padding_meets_infinity(conv, r.choice, pass, a->w)) {
    r.choice.planar = false;
    divide(&r);
  } else {
    divide_known(&r, k);
  }
  if (!a->residual) r.parts.residual = 0;
  CVC_TRY(run_team(&r));
  if (!r.choice.planar || pass != CVC_BACKWARD_WEIGHT || is_finite(conv, a))
    return CVC_OK;
  /* An infinity or NaN has met zeros that the definition does not have. */
  r.choice.planar = false;
  divide(&r);
  return run_team(&r);
}

/** A null array is an error unless it has no elements. */
static bool missing(const cvc_conv *conv, const void *array) {
  return !array && conv->n > 0;
}

cvc_status cvc_conv_forward(const cvc_conv *conv, const void *x, const void *w,
                            const void *bias, const void *residual, void *y,
                            const cvc_call *call) {
  if (!conv || missing(conv, x) || !w || missing(conv, y))
    return CVC_BAD_ARGUMENT;
  const arrays a = {
      .x = x, .w = w, .bias = bias, .residual = residual, .target = y};
  return run_pass(conv, CVC_FORWARD, &a, call);
}

cvc_status cvc_conv_backward_data(const cvc_conv *conv, const void *dy,
                                  const void *w, void *dx,
                                  const cvc_call *call) {
  if (!conv || missing(conv, dy) || !w || missing(conv, dx))
    return CVC_BAD_ARGUMENT;
  const arrays a = {.y = dy, .w = w, .target = dx};
  return run_pass(conv, CVC_BACKWARD_DATA, &a, call);
}

cvc_status cvc_conv_backward_weight(const cvc_conv *conv, const void *dy,
                                    const void *x, void *dw, void *db,
                                    const cvc_call *call) {
  if (!conv || missing(conv, dy) || missing(conv, x)) return CVC_BAD_ARGUMENT;
  if (!dw && !db) return CVC_OK;
  const arrays a = {.y = dy, .x = x, .target = dw, .db = db};
  return run_pass(conv, CVC_BACKWARD_WEIGHT, &a, call);
}
