/**
 * Group norm. A group is the work of one task: the sums of x - shift and of its
 * square, where the shift is an element of the group or, should that lie far
 * off, the mean; then y. The gradient takes its sums in the same pass.
 */
#include <math.h>
#include <stdlib.h>

#include "group_norm.h"

typedef struct job {
  const cvc_group_norm *norm;
  const cvc_kernels *kernels;
  const void *x, *weight, *bias;
  void *y;
  int64_t bytes;    /* of an element */
  int64_t of_group; /* channels */
  int64_t groups;   /* of a task */
  int64_t tasks;    /* of an image */
} job;

static double element(const job *j, const void *array, int64_t i,
                      double otherwise) {
  return array ? cvc_get(j->norm->dtype, array, i) : otherwise;
}

/**
 * From the sums of d = x - shift and of d^2 over `size` elements. Returns false
 * where the shift is so far from the mean that digits are lost.
 */
static bool set_moments(double size, double shift, double sum, double squares,
                        double eps, cvc_moments *m) {
  const double off = sum / size, variance = squares / size - off * off;
  m->mean = shift + off;
  m->off = off;
  m->factor = 1 / sqrt(variance + eps);
  return !(off * off > 10 * variance);
}

/** The sums around these shifts, and the groups' moments from them. */
static bool sum_groups(const cvc_group_norm *norm, const cvc_group_sums *groups,
                       cvc_moments *moments) {
  const cvc_sums *of = &groups->of;
  const double size = (double)(cvc_of_group(norm) * norm->space);
  bool good = true;
  cvc_kernels_of(norm->dtype)->sums(of);
  for (int64_t c = 0; c < groups->channels; c += groups->of_group) {
    double sum = 0, squares = 0;
    for (int64_t i = c; i < c + groups->of_group; i++)
      sum += of->sums[0][i], squares += of->sums[1][i];
    good &= set_moments(size, of->shift[c], sum, squares, norm->eps, moments++);
  }
  return good;
}

static void fill(double *to, int64_t count, double value) {
  for (int64_t i = 0; i < count; i++) to[i] = value;
}

void cvc_group_moments(const cvc_group_norm *norm, cvc_group_sums *groups,
                       cvc_moments *moments) {
  cvc_sums *of = &groups->of;
  const int64_t channels = groups->channels, of_group = groups->of_group;
  const int64_t step = of->by_column ? 1 : of->step;
  const int64_t middle = of->by_column ? 0 : of->columns / 2;
  double *shift = groups->room;
  of->shift = shift;
  for (int k = 0; k < 4; k++) of->sums[k] = shift + (k + 1) * channels;
  for (int64_t c = 0; c < channels; c += of_group)
    fill(shift + c, of_group, cvc_get(norm->dtype, of->x, c * step + middle));
  if (!sum_groups(norm, groups, moments)) {
    for (int64_t c = 0, g = 0; c < channels; c += of_group, g++)
      fill(shift + c, of_group, moments[g].mean);
    sum_groups(norm, groups, moments);
  }
}

/** Scale and shift of a channel: y = x * scale + shift. */
static void set_pair(const job *j, int64_t channel, const cvc_moments *m,
                     void *scale, void *shift, int64_t i) {
  const double a = element(j, j->weight, channel, 1) * m->factor;
  cvc_set(j->norm->dtype, scale, i, a);
  cvc_set(j->norm->dtype, shift, i,
          element(j, j->bias, channel, 0) - m->mean * a);
}

/** A group whose elements are neighbours. */
static void run_dense(const job *j, int64_t channel, const void *x, void *y) {
  const int64_t space = j->norm->space, size = j->of_group * space;
  double room[5];
  cvc_moments m;
  cvc_group_sums all = {
      .of = {.rows = 1, .columns = size, .step = size, .x = x},
      .channels = 1,
      .of_group = 1,
      .room = room};
  cvc_group_moments(j->norm, &all, &m);
  if (space == 1) { /* the channels are the columns */
    const void *weight = j->weight, *bias = j->bias;
    if (weight) weight = cvc_at_const(weight, channel, j->bytes);
    if (bias) bias = cvc_at_const(bias, channel, j->bytes);
    j->kernels->normalize(size, m.mean, m.factor, weight, bias, x, y);
    return;
  }
  double scale[CVC_GROUP_COLUMNS], shift[CVC_GROUP_COLUMNS];
  for (int64_t c = 0; c < j->of_group; c += CVC_GROUP_COLUMNS) {
    const int64_t channels = cvc_min(CVC_GROUP_COLUMNS, j->of_group - c);
    for (int64_t i = 0; i < channels; i++)
      set_pair(j, channel + c + i, &m, scale, shift, i);
    j->kernels->affine(channels, space, space, 0, scale, shift,
                       cvc_at_const(x, c * space, j->bytes),
                       cvc_at(y, c * space, j->bytes));
  }
}

/** Some of them, of one image. */
static void dense_task(void *context, int64_t task, int thread) {
  (void)thread;
  const job *j = context;
  const int64_t first = task % j->tasks * j->groups;
  const int64_t end = cvc_min(first + j->groups, j->norm->groups);
  const int64_t image = task / j->tasks * j->norm->c;
  for (int64_t group = first; group < end; group++) {
    const int64_t channel = group * j->of_group;
    const int64_t at = (image + channel) * j->norm->space;
    run_dense(j, channel, cvc_at_const(j->x, at, j->bytes),
              cvc_at(j->y, at, j->bytes));
  }
}

/** Some whole groups of channels-last images; scratch: [7][columns]. */
static void columns_of(const job *j, int64_t image, int64_t first,
                       int64_t columns, double *scratch) {
  const cvc_group_norm *norm = j->norm;
  const int64_t offset = image * norm->space * norm->c + first;
  const void *x = cvc_at_const(j->x, offset, j->bytes);
  void *y = cvc_at(j->y, offset, j->bytes);
  void *scale = scratch + 5 * columns, *shift = scratch + 6 * columns;
  cvc_moments moments[CVC_GROUP_COLUMNS];
  cvc_group_sums groups = {.of = {.rows = norm->space,
                                  .columns = columns,
                                  .step = norm->c,
                                  .by_column = true,
                                  .x = x},
                           .channels = columns,
                           .of_group = j->of_group,
                           .room = scratch};
  cvc_group_moments(norm, &groups, moments);
  for (int64_t c = 0; c < columns; c++)
    set_pair(j, first + c, &moments[c / j->of_group], scale, shift, c);
  j->kernels->affine(norm->space, columns, norm->c, 1, scale, shift, x, y);
}

typedef struct columns_job {
  job j;
  double *scratch;
} columns_job;

static void columns_task(void *context, int64_t task, int thread) {
  const columns_job *c = context;
  const int64_t columns = c->j.groups * c->j.of_group;
  const int64_t first = task % c->j.tasks * columns;
  columns_of(&c->j, task / c->j.tasks, first,
             cvc_min(columns, c->j.norm->c - first),
             c->scratch + thread * 7 * columns);
}

cvc_status cvc_group_norm_check(const cvc_group_norm *norm) {
  if (!norm) return CVC_BAD_ARGUMENT;
  CVC_TRY(cvc_initialize());
  if (!cvc_is_real(norm->dtype)) return CVC_UNSUPPORTED;
  if (norm->layout != CVC_CHANNELS_FIRST && norm->layout != CVC_CHANNELS_LAST)
    return CVC_BAD_ARGUMENT;
  const int64_t sizes[] = {norm->n, norm->c, norm->space};
  int64_t elements;
  CVC_TRY(cvc_elements(norm->dtype, 3, sizes, &elements));
  if (norm->groups < 1 || norm->c % norm->groups) return CVC_BAD_SHAPE;
  return CVC_OK;
}

cvc_status cvc_group_norm_forward(const cvc_group_norm *norm, const void *x,
                                  const void *weight, const void *bias, void *y,
                                  const cvc_call *call) {
  CVC_TRY(cvc_group_norm_check(norm));
  job j = {.norm = norm,
           .kernels = cvc_kernels_of(norm->dtype),
           .x = x,
           .weight = weight,
           .bias = bias,
           .y = y,
           .bytes = cvc_dtype_bytes(norm->dtype),
           .of_group = norm->c / norm->groups};
  const int64_t size = norm->n * norm->c * norm->space;
  if (!cvc_is_array(x, norm->dtype, size) ||
      !cvc_is_array(y, norm->dtype, size) ||
      !cvc_is_aligned(weight, norm->dtype) ||
      !cvc_is_aligned(bias, norm->dtype))
    return CVC_BAD_ARGUMENT;
  const int64_t whole = size * j.bytes, channels = norm->c * j.bytes;
  CVC_TRY(cvc_check_disjoint(x, whole, y, whole));
  CVC_TRY(cvc_check_disjoint(weight, channels, y, whole));
  CVC_TRY(cvc_check_disjoint(bias, channels, y, whole));
  if (size == 0) return CVC_OK;
  const double work = CVC_ELEMENT_WORK * (double)size;
  j.groups = cvc_groups_at_once(norm);
  j.tasks = cvc_ceil_div(norm->groups, j.groups);
  const int64_t tasks = norm->n * j.tasks;
  const int threads = cvc_plan_threads(call, tasks, work);
  if (cvc_group_is_dense(norm))
    return cvc_parallel(call, threads, tasks, dense_task, &j);
  columns_job c = {.j = j};
  c.scratch =
      malloc((size_t)(threads * 7 * j.groups * j.of_group) * sizeof *c.scratch);
  if (!c.scratch) return CVC_NO_MEMORY;
  const cvc_status status =
      cvc_parallel(call, threads, tasks, columns_task, &c);
  free(c.scratch);
  return status;
}
