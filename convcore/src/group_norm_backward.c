/**
 * The gradient of group norm:
 *
 *   dx = dy * scale + (x - mean) * slope + offset
 *
 * with a scale for each channel, and the rest of its group; where channels are
 * columns, that is a matrix of batch norm's. A task has some groups of all
 * images of a part of the batch, and the sums over these that give the
 * gradients of weight and bias; the parts are added in order.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "group_norm.h"

enum { TASKS = 64 }; /* at least, where there are so many images */

/** Elements of each channel in a task's table. */
enum { MEAN, SCALE, SLOPE, OFFSET, COEFFICIENTS };

typedef struct job {
  const cvc_group_norm *norm;
  const cvc_kernels *kernels;
  const void *dy, *x, *weight;
  void *dx;
  int64_t bytes, of_group;
  bool rows;               /* channels are rows, else columns */
  int64_t columns, blocks; /* channels of a task, tasks of a part */
  int64_t parts;
  double *sums; /* [parts][2][c]: of dy, and of dy times the normalised x */
  char *memory; /* of each thread */
  int64_t memory_bytes;
} job;

/** What a thread works with. */
typedef struct workspace {
  double *room; /* [5][columns], of cvc_group_moments */
  char *table;  /* [COEFFICIENTS][columns] */
} workspace;

static workspace workspace_of(const job *j, int thread) {
  char *memory = j->memory + thread * j->memory_bytes;
  double *room = (double *)(void *)memory;
  return (workspace){.room = room, .table = (char *)(room + 5 * j->columns)};
}

static void *coefficients(const job *j, const workspace *w, int which) {
  return cvc_at(w->table, which * j->columns, j->bytes);
}

/** Slope and offset of a group. */
typedef struct line {
  double slope, offset;
} line;

/** Those of the group whose first channel is number `c` of the sums and `first`
 * of all; sets the channels' scales, and adds to the sums of the part. */
static line finish_group(const job *j, const workspace *w, const cvc_sums *of,
                         int64_t c, int64_t first, const cvc_moments *moments,
                         double *part) {
  const cvc_dtype dtype = j->norm->dtype;
  const double size = (double)(j->of_group * j->norm->space);
  const double *of_dy = of->sums[2] + c, *products = of->sums[3] + c;
  const double factor = moments->factor, off = moments->off;
  void *scale = cvc_at(coefficients(j, w, SCALE), c, j->bytes);
  double *bias = part + first, *weights = bias + j->norm->c;
  double sum = 0, product = 0;
  for (int64_t i = 0; i < j->of_group; i++) {
    const double weight = j->weight ? cvc_get(dtype, j->weight, first + i) : 1;
    const double both = products[i] - off * of_dy[i]; /* dy (x - mean) */
    sum += weight * of_dy[i];
    product += weight * both;
    bias[i] += of_dy[i];
    weights[i] += both * factor;
    cvc_set(dtype, scale, i, weight * factor);
  }
  return (line){.slope = -factor * factor * factor * product / size,
                .offset = -factor * sum / size};
}

/** dx of groups whose channels are rows. */
static void finish_rows(const job *j, const workspace *w,
                        const cvc_group_sums *groups, int64_t first,
                        const cvc_moments *moments, void *dx, double *part) {
  const int64_t space = j->norm->space;
  for (int64_t c = 0; c < groups->channels; c += j->of_group, moments++) {
    const line l = finish_group(j, w, &groups->of, c, first + c, moments, part);
    j->kernels->group_gradient(j->of_group, space, moments->mean, l.slope,
                               l.offset,
                               cvc_at(coefficients(j, w, SCALE), c, j->bytes),
                               cvc_at_const(groups->of.dy, c * space, j->bytes),
                               cvc_at_const(groups->of.x, c * space, j->bytes),
                               cvc_at(dx, c * space, j->bytes));
  }
}

/** dx of groups whose channels are columns. */
static void finish_columns(const job *j, const workspace *w,
                           const cvc_group_sums *groups, int64_t first,
                           const cvc_moments *moments, void *dx, double *part) {
  const cvc_sums *of = &groups->of;
  const cvc_dtype dtype = j->norm->dtype;
  const cvc_norm gradient = {.rows = of->rows,
                             .columns = of->columns,
                             .step = of->step,
                             .x = of->x,
                             .dy = of->dy,
                             .to = dx,
                             .mean = coefficients(j, w, MEAN),
                             .scale = coefficients(j, w, SCALE),
                             .slope = coefficients(j, w, SLOPE),
                             .offset = coefficients(j, w, OFFSET)};
  for (int64_t c = 0; c < groups->channels; c += j->of_group, moments++) {
    const line l = finish_group(j, w, of, c, first + c, moments, part);
    for (int64_t i = c; i < c + j->of_group; i++) {
      cvc_set(dtype, coefficients(j, w, MEAN), i, moments->mean);
      cvc_set(dtype, coefficients(j, w, SLOPE), i, l.slope);
      cvc_set(dtype, coefficients(j, w, OFFSET), i, l.offset);
    }
  }
  j->kernels->norm_gradient(&gradient);
}

/** Some groups of an image. */
static void run_image(const job *j, const workspace *w, int64_t image,
                      int64_t first, int64_t channels, double *part) {
  const cvc_group_norm *norm = j->norm;
  const int64_t at =
      image * norm->space * norm->c + first * (j->rows ? norm->space : 1);
  cvc_moments moments[CVC_GROUP_COLUMNS];
  cvc_group_sums groups = {.of = {.rows = j->rows ? channels : norm->space,
                                  .columns = j->rows ? norm->space : channels,
                                  .step = j->rows ? norm->space : norm->c,
                                  .by_column = !j->rows,
                                  .x = cvc_at_const(j->x, at, j->bytes),
                                  .dy = cvc_at_const(j->dy, at, j->bytes)},
                           .channels = channels,
                           .of_group = j->of_group,
                           .room = w->room};
  cvc_group_moments(norm, &groups, moments);
  (j->rows ? finish_rows : finish_columns)(j, w, &groups, first, moments,
                                           cvc_at(j->dx, at, j->bytes), part);
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
  j->rows = norm->layout == CVC_CHANNELS_FIRST && norm->space > 1;
  j->columns = cvc_groups_at_once(norm) * j->of_group;
  j->blocks = cvc_ceil_div(norm->c, j->columns);
  j->parts = size ? cvc_min(norm->n, cvc_ceil_div(TASKS, j->blocks)) : 0;
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
