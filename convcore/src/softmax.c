/** Softmax and its logarithm along a dimension, and their gradients. */
#include "internal.h"

enum {
  COLUMNS = 256, /* of a task, where the dimension is not the last */
  TASK_ELEMENTS = 1 << 12
};

typedef struct job {
  const cvc_softmax *softmax;
  const void *dy, *x; /* backward: x is y, and dy not NULL */
  void *to;
  int64_t rows, blocks; /* of a task; blocks of columns of a row */
} job;

/** Some columns; or rows, where the dimension is the last. */
static void run_block(const job *j, int64_t offset, int64_t columns) {
  const cvc_softmax *s = j->softmax;
  const cvc_kernels *kernels = cvc_kernels_of(s->dtype);
  const int64_t bytes = cvc_dtype_bytes(s->dtype);
  const void *x = cvc_at_const(j->x, offset, bytes);
  void *to = cvc_at(j->to, offset, bytes);
  if (j->dy)
    kernels->softmax_backward(s->length, s->inner, columns, s->logarithm,
                              cvc_at_const(j->dy, offset, bytes), x, to);
  else
    kernels->softmax(s->length, s->inner, columns, s->logarithm, x, to);
}

static void run_task(void *context, int64_t task, int thread) {
  (void)thread;
  const job *j = context;
  const cvc_softmax *s = j->softmax;
  if (s->inner == 1) {
    const int64_t row = task * j->rows;
    run_block(j, row * s->length, cvc_min(j->rows, s->outer - row));
    return;
  }
  const int64_t column = task % j->blocks * COLUMNS;
  const int64_t columns = cvc_min(COLUMNS, s->inner - column);
  const int64_t first = task / j->blocks * j->rows;
  const int64_t last = cvc_min(first + j->rows, s->outer);
  for (int64_t row = first; row < last; row++)
    run_block(j, row * s->length * s->inner + column, columns);
}

cvc_status cvc_softmax_check(const cvc_softmax *softmax) {
  if (!softmax) return CVC_BAD_ARGUMENT;
  CVC_TRY(cvc_initialize());
  if (!cvc_is_real(softmax->dtype)) return CVC_UNSUPPORTED;
  const int64_t sizes[] = {softmax->outer, softmax->length, softmax->inner};
  int64_t elements;
  return cvc_elements(softmax->dtype, 3, sizes, &elements);
}

static cvc_status run(job *j, const cvc_call *call) {
  const cvc_softmax *s = j->softmax;
  CVC_TRY(cvc_softmax_check(s));
  const int64_t size = s->outer * s->length * s->inner;
  const int64_t bytes = size * cvc_dtype_bytes(s->dtype);
  if (!cvc_is_array(j->x, s->dtype, size) ||
      !cvc_is_array(j->to, s->dtype, size) || !cvc_is_aligned(j->dy, s->dtype))
    return CVC_BAD_ARGUMENT;
  CVC_TRY(cvc_check_disjoint(j->x, bytes, j->to, bytes));
  CVC_TRY(cvc_check_disjoint(j->dy, bytes, j->to, bytes));
  if (size == 0) return CVC_OK;
  j->blocks = cvc_ceil_div(s->inner, COLUMNS);
  const int64_t of_row = s->length * cvc_min(s->inner, COLUMNS);
  j->rows = cvc_max(1, TASK_ELEMENTS / of_row);
  const int64_t tasks = cvc_ceil_div(s->outer, j->rows) * j->blocks;
  const double work = 2.0 * CVC_ELEMENT_WORK * (double)size;
  return cvc_parallel(call, cvc_plan_threads(call, tasks, work), tasks,
                      run_task, j);
}

cvc_status cvc_softmax_forward(const cvc_softmax *softmax, const void *x,
                               void *y, const cvc_call *call) {
  job j = {.softmax = softmax, .x = x, .to = y};
  return run(&j, call);
}

cvc_status cvc_softmax_backward(const cvc_softmax *softmax, const void *dy,
                                const void *y, void *dx, const cvc_call *call) {
  if (!dy && softmax && softmax->outer && softmax->length && softmax->inner)
    return CVC_BAD_ARGUMENT;
  job j = {.softmax = softmax, .dy = dy, .x = y, .to = dx};
  return run(&j, call);
}
