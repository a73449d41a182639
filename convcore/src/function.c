/** Functions of each element and their gradients. */
#include "../kernels/functions.inc"
#include "internal.h"

enum { TASK_ELEMENTS = 1 << 13 };

#define CVC_NAME(name) #name,
static const char *const names[] = {CVC_ELEMENT_FUNCTIONS(CVC_NAME)};
#undef CVC_NAME

const char *cvc_function_name(int number) {
  return number >= 0 && number < CVC_FUNCTION_COUNT ? names[number] : NULL;
}

typedef struct job {
  const cvc_function *function;
  const void *dy, *x; /* dy: NULL in the forward pass */
  void *to;
} job;

static void run_task(void *context, int64_t task, int thread) {
  (void)thread;
  const job *j = context;
  const cvc_function *f = j->function;
  const cvc_kernels *kernels = cvc_kernels_of(f->dtype);
  const int64_t bytes = cvc_dtype_bytes(f->dtype);
  const int64_t first = task * TASK_ELEMENTS;
  const int64_t size = cvc_min(TASK_ELEMENTS, f->size - first);
  const void *x = cvc_at_const(j->x, first, bytes);
  void *to = cvc_at(j->to, first, bytes);
  if (j->dy)
    kernels->function_backward(size, f->number, f->a, f->b,
                               cvc_at_const(j->dy, first, bytes), x, to);
  else
    kernels->function_forward(size, f->number, f->a, f->b, x, to);
}

cvc_status cvc_function_check(const cvc_function *function) {
  int64_t elements;
  if (!function || function->number < 0 ||
      function->number >= CVC_FUNCTION_COUNT)
    return CVC_BAD_ARGUMENT;
  CVC_TRY(cvc_initialize());
  if (!cvc_is_real(function->dtype)) return CVC_UNSUPPORTED;
  return cvc_elements(function->dtype, 1, &function->size, &elements);
}

static cvc_status run(job *j, const void *in_place, const void *other,
                      const cvc_call *call) {
  const cvc_function *f = j->function;
  const int64_t bytes = f->size * cvc_dtype_bytes(f->dtype);
  if (in_place != j->to)
    CVC_TRY(cvc_check_disjoint(in_place, bytes, j->to, bytes));
  CVC_TRY(cvc_check_disjoint(other, bytes, j->to, bytes));
  const int64_t tasks = cvc_ceil_div(f->size, TASK_ELEMENTS);
  /* Most of them have an exponential. */
  const double work = 2.0 * CVC_ELEMENT_WORK * (double)f->size;
  return cvc_parallel(call, cvc_plan_threads(call, tasks, work), tasks,
                      run_task, j);
}

cvc_status cvc_function_forward(const cvc_function *function, const void *x,
                                void *y, const cvc_call *call) {
  CVC_TRY(cvc_function_check(function));
  if (!cvc_is_array(x, function->dtype, function->size) ||
      !cvc_is_array(y, function->dtype, function->size))
    return CVC_BAD_ARGUMENT;
  job j = {.function = function, .x = x, .to = y};
  return run(&j, x, NULL, call);
}

cvc_status cvc_function_backward(const cvc_function *function, const void *dy,
                                 const void *x, void *dx,
                                 const cvc_call *call) {
  CVC_TRY(cvc_function_check(function));
  if (!cvc_is_array(dy, function->dtype, function->size) ||
      !cvc_is_array(x, function->dtype, function->size) ||
      !cvc_is_array(dx, function->dtype, function->size))
    return CVC_BAD_ARGUMENT;
  job j = {.function = function, .dy = dy, .x = x, .to = dx};
  return run(&j, dy, x, call);
}
