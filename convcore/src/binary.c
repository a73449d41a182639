/** Arithmetic of two operands, one or both repeated along some dimensions. */
#include "internal.h"

enum { TASK_ELEMENTS = 1 << 14 };

/** The last two dimensions are the rows and columns of the kernel. */
typedef struct job {
  const cvc_binary *binary;
  const void *a, *b;
  void *y;
  int last;             /* the dimension of the columns */
  int64_t rows, blocks; /* rows of a task, tasks of a matrix */
} job;

static void run_task(void *context, int64_t task, int thread) {
  (void)thread;
  const job *j = context;
  const cvc_binary *o = j->binary;
  const int64_t bytes = cvc_dtype_bytes(o->dtype);
  const int r = j->last - 1;
  const int64_t first = task % j->blocks * j->rows;
  int64_t a = first * o->a_stride[r], b = first * o->b_stride[r];
  int64_t rest = task / j->blocks;
  const int64_t y = (rest * o->size[r] + first) * o->size[j->last];
  for (int d = r - 1; d >= 0; d--) {
    a += rest % o->size[d] * o->a_stride[d];
    b += rest % o->size[d] * o->b_stride[d];
    rest /= o->size[d];
  }
  cvc_kernels_of(o->dtype)->binary(
      o->operation, cvc_min(j->rows, o->size[r] - first), o->size[j->last],
      cvc_at_const(j->a, a, bytes), o->a_stride[r], o->a_stride[j->last],
      cvc_at_const(j->b, b, bytes), o->b_stride[r], o->b_stride[j->last],
      cvc_at(j->y, y, bytes));
}

/** Elements from the first to the last that an operand reads. */
static cvc_status span(const cvc_binary *o, const int64_t *stride,
                       int64_t *elements) {
  *elements = 1;
  for (int d = 0; d < o->dimensions; d++) {
    if (stride[d] < 0) return CVC_BAD_ARGUMENT;
    int64_t reach = o->size[d] - 1;
    CVC_TRY(cvc_multiply(&reach, stride[d]));
    if (__builtin_add_overflow(*elements, reach, elements))
      return CVC_TOO_LARGE;
  }
  return cvc_elements(o->dtype, 1, elements, elements);
}

cvc_status cvc_binary_check(const cvc_binary *o, int64_t elements[3]) {
  if (!o || o->dimensions < 2 || o->dimensions > CVC_MAX_DIMENSIONS ||
      o->operation < CVC_ADD || o->operation > CVC_DIVIDE)
    return CVC_BAD_ARGUMENT;
  CVC_TRY(cvc_initialize());
  if (!cvc_is_real(o->dtype)) return CVC_UNSUPPORTED;
  CVC_TRY(cvc_elements(o->dtype, o->dimensions, o->size, &elements[2]));
  elements[0] = elements[1] = 0;
  if (elements[2] == 0) return CVC_OK;
  CVC_TRY(span(o, o->a_stride, &elements[0]));
  CVC_TRY(span(o, o->b_stride, &elements[1]));
  const int last = o->dimensions - 1;
  const int64_t a = o->a_stride[last], b = o->b_stride[last];
  return o->size[last] == 1 || (a <= 1 && b <= 1 && a + b > 0)
             ? CVC_OK
             : CVC_UNSUPPORTED;
}

cvc_status cvc_binary_forward(const cvc_binary *o, const void *a, const void *b,
                              void *y, const cvc_call *call) {
  int64_t elements[3];
  CVC_TRY(cvc_binary_check(o, elements));
  if (!cvc_is_array(a, o->dtype, elements[0]) ||
      !cvc_is_array(b, o->dtype, elements[1]) ||
      !cvc_is_array(y, o->dtype, elements[2]))
    return CVC_BAD_ARGUMENT;
  const int64_t bytes = cvc_dtype_bytes(o->dtype), size = elements[2] * bytes;
  CVC_TRY(cvc_check_disjoint(a, elements[0] * bytes, y, size));
  CVC_TRY(cvc_check_disjoint(b, elements[1] * bytes, y, size));
  if (size == 0) return CVC_OK;
  job j = {.binary = o, .a = a, .b = b, .y = y, .last = o->dimensions - 1};
  const int64_t rows = o->size[j.last - 1], columns = o->size[j.last];
  j.rows = cvc_min(rows, cvc_max(1, TASK_ELEMENTS / columns));
  j.blocks = cvc_ceil_div(rows, j.rows);
  const int64_t tasks = elements[2] / (rows * columns) * j.blocks;
  const double work = CVC_ELEMENT_WORK * (double)elements[2];
  return cvc_parallel(call, cvc_plan_threads(call, tasks, work), tasks,
                      run_task, &j);
}
