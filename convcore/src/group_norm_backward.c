/**
 * The gradient of group norm: with batch norm's kernels, whose coefficients of
 * a channel are here those of a channel of an image. A task has some groups of
 * all images of a part of the batch, and the sums over these that give the
 * gradients of weight and bias; the parts are added in order.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "group_norm.h"

enum { PARTS = 64 };

/** Elements of each channel in a task's table. */
enum { MEAN, SCALE, SLOPE, OFFSET, COEFFICIENTS };

typedef struct job {
  const cvc_group_norm *norm;
  const cvc_kernels *kernels;
  const void *dy, *x, *weight;
  void *dx;
  int64_t bytes, of_group;
  int64_t columns, blocks; /* channels of a task, tasks of a part */
  int64_t parts;
  double *sums; /* [parts][2][c]: of dy, and of dy times the normalised x */
  char *memory; /* of each thread */
  int64_t memory_bytes;
} job;

/** What a thread works with. */
typedef struct workspace {
  double *moments; /* [3][columns] */
  double *sums;    /* [2][columns] of an image: of dy, and of dy (x - mean) */
  char *table;     /* [COEFFICIENTS][columns] */
} workspace;

static workspace workspace_of(const job *j, int thread) {
  char *memory = j->memory + thread * j->memory_bytes;
  double *moments = (double *)(void *)memory;
  return (workspace){.moments = moments,
                     .sums = moments + 3 * j->columns,
                     .table = (char *)(moments + 5 * j->columns)};
}

static void *coefficient(const job *j, const workspace *w, int which,
                         int64_t column) {
  return cvc_at(w->table, which * j->columns + column, j->bytes);
}

/** Run a kernel on channels first..first+columns-1 of an image: they are
 * columns or rows. */
static void run(const job *j, const workspace *w, int64_t image, int64_t first,
                int64_t columns, void (*kernel)(const cvc_norm *)) {
  const cvc_group_norm *norm = j->norm;
  const bool rows = norm->layout == CVC_CHANNELS_FIRST && norm->space > 1;
  const int64_t at =
      image * norm->space * norm->c + first * (rows ? norm->space : 1);
  const cvc_norm part = {.rows = rows ? columns : norm->space,
                         .columns = rows ? norm->space : columns,
                         .step = rows ? norm->space : norm->c,
                         .channels = rows,
                         .x = cvc_at_const(j->x, at, j->bytes),
                         .dy = cvc_at_const(j->dy, at, j->bytes),
                         .to = cvc_at(j->dx, at, j->bytes),
                         .mean = coefficient(j, w, MEAN, 0),
                         .scale = coefficient(j, w, SCALE, 0),
                         .slope = coefficient(j, w, SLOPE, 0),
                         .offset = coefficient(j, w, OFFSET, 0),
                         .sums = {w->sums, w->sums + j->columns}};
  kernel(&part);
}

/** The coefficients of a group's channels, and their share in the sums of the
 * part:  dx = dy * scale + (x - mean) * slope + offset. */
static void finish_group(const job *j, const workspace *w, int64_t first,
                         int64_t column, double factor, double *part) {
  const double size = (double)(j->of_group * j->norm->space);
  double sum = 0, product = 0;
  for (int64_t c = column; c < column + j->of_group; c++) {
    const double weight =
        j->weight ? cvc_get(j->norm->dtype, j->weight, first + c) : 1;
    const double of_dy = w->sums[c], of_both = w->sums[j->columns + c];
    sum += weight * of_dy;
    product += weight * of_both;
    part[first + c] += of_dy;
    part[j->norm->c + first + c] += of_both * factor;
    cvc_set(j->norm->dtype, coefficient(j, w, SCALE, c), 0, weight * factor);
  }
  const double slope = -factor * factor * factor * product / size;
  for (int64_t c = column; c < column + j->of_group; c++) {
    cvc_set(j->norm->dtype, coefficient(j, w, SLOPE, c), 0, slope);
    cvc_set(j->norm->dtype, coefficient(j, w, OFFSET, c), 0,
            -factor * sum / size);
  }
}

/** Some groups of an image. */
static void run_image(const job *j, const workspace *w, int64_t image,
                      int64_t first, int64_t columns, double *part) {
  const cvc_group_norm *norm = j->norm;
  const bool dense = cvc_group_is_dense(norm);
  const void *x = cvc_at_const(
      j->x, image * norm->space * norm->c + first * (dense ? norm->space : 1),
      j->bytes);
  cvc_moments moments[CVC_GROUP_COLUMNS];
  if (dense)
    moments[0] = cvc_dense_moments(norm, x);
  else
    cvc_column_moments(norm, x, columns, w->moments, moments);
  for (int64_t c = 0; c < columns; c++) {
    w->sums[c] = w->sums[j->columns + c] = 0;
    cvc_set(norm->dtype, coefficient(j, w, MEAN, c), 0,
            moments[c / j->of_group].mean);
  }
  run(j, w, image, first, columns, j->kernels->norm_gradient_sums);
  for (int64_t c = 0; c < columns; c += j->of_group)
    finish_group(j, w, first, c, moments[c / j->of_group].factor, part);
  run(j, w, image, first, columns, j->kernels->norm_gradient);
}

static void task_of_part(void *context, int64_t task, int thread) {
  const job *j = context;
  const workspace w = workspace_of(j, thread);
  const int64_t part = task / j->blocks;
  const int64_t first = task % j->blocks * j->columns;
  const int64_t columns = cvc_min(j->columns, j->norm->c - first);
  double *sums = j->sums + part * 2 * j->norm->c;
  for (int64_t c = first; c < first + columns; c++)
    sums[c] = sums[j->norm->c + c] = 0;
  for (int64_t image = part * j->norm->n / j->parts;
       image < (part + 1) * j->norm->n / j->parts; image++)
    run_image(j, &w, image, first, columns, sums);
}

/** Add all parts to the first. */
static void add_parts(const job *j) {
  const int64_t size = 2 * j->norm->c;
  for (int64_t part = 1; part < j->parts; part++)
    for (int64_t i = 0; i < size; i++) j->sums[i] += j->sums[part * size + i];
}

static cvc_status run_all(job *j, void *dweight, void *dbias,
                          const cvc_call *call) {
  const cvc_group_norm *norm = j->norm;
  const int64_t size = norm->n * norm->c * norm->space;
  j->parts = size ? cvc_min(norm->n, PARTS) : 0;
  j->columns = cvc_groups_at_once(norm) * j->of_group;
  j->blocks = cvc_ceil_div(norm->c, j->columns);
  const int64_t tasks = j->parts * j->blocks;
  const int threads =
      cvc_plan_threads(call, tasks, 2 * CVC_ELEMENT_WORK * (double)size);
  const int64_t sums =
      cvc_round_up(j->parts * 2 * norm->c * (int64_t)sizeof(double), 64);
  j->memory_bytes = cvc_round_up(
      (5 + COEFFICIENTS) * j->columns * (int64_t)sizeof(double), 64);
  char *memory = aligned_alloc(64, (size_t)(sums + threads * j->memory_bytes));
  if (!memory) return CVC_NO_MEMORY;
  j->sums = (double *)(void *)memory;
  j->memory = memory + sums;
  const cvc_status status = cvc_parallel(call, threads, tasks, task_of_part, j);
  add_parts(j);
  for (int64_t c = 0; c < norm->c && status == CVC_OK; c++) {
    if (dbias) cvc_set(norm->dtype, dbias, c, size ? j->sums[c] : 0);
    if (dweight)
      cvc_set(norm->dtype, dweight, c, size ? j->sums[norm->c + c] : 0);
  }
  free(memory);
  return status;
}

cvc_status cvc_group_norm_backward(const cvc_group_norm *norm, const void *dy,
                                   const void *x, const void *weight, void *dx,
                                   void *dweight, void *dbias,
                                   const cvc_call *call) {
  CVC_TRY(cvc_group_norm_check(norm));
  const cvc_dtype dtype = norm->dtype;
  const int64_t size = norm->n * norm->c * norm->space;
  if (!cvc_is_array(dy, dtype, size) || !cvc_is_array(x, dtype, size) ||
      !cvc_is_array(dx, dtype, size) || !cvc_is_aligned(weight, dtype) ||
      !cvc_is_aligned(dweight, dtype) || !cvc_is_aligned(dbias, dtype))
    return CVC_BAD_ARGUMENT;
  const int64_t bytes = cvc_dtype_bytes(dtype);
  const struct {
    const void *array;
    int64_t bytes;
  } in[] = {{dy, size * bytes}, {x, size * bytes}, {weight, norm->c * bytes}},
    out[] = {{dx, size * bytes},
             {dweight, norm->c * bytes},
             {dbias, norm->c * bytes}};
  for (int o = 0; o < 3; o++) {
    for (int i = 0; i < 3; i++)
      CVC_TRY(cvc_check_disjoint(in[i].array, in[i].bytes, out[o].array,
                                 out[o].bytes));
    for (int p = 0; p < o; p++)
      CVC_TRY(cvc_check_disjoint(out[p].array, out[p].bytes, out[o].array,
                                 out[o].bytes));
  }
  job j = {.norm = norm,
           .kernels = cvc_kernels_of(dtype),
           .dy = dy,
           .x = x,
           .weight = weight,
           .dx = dx,
           .bytes = bytes,
           .of_group = cvc_of_group(norm)};
  return run_all(&j, dweight, dbias, call);
}
