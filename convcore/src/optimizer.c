/** Optimizers: one pass over gradients, parameters and state. */
#include "internal.h"

enum { TASK_ELEMENTS = 1 << 14, WORK_PER_ELEMENT = 8 };

typedef struct sgd {
  const cvc_kernels *kernels;
  double hyper[6];
  int64_t size, bytes;
  const void *g;
  void *p, *m;
} sgd;

static void sgd_task(void *context, int64_t task, int thread) {
  (void)thread;
  const sgd *s = context;
  const int64_t first = task * TASK_ELEMENTS;
  s->kernels->sgd(cvc_min(TASK_ELEMENTS, s->size - first), s->hyper,
                  cvc_at_const(s->g, first, s->bytes),
                  cvc_at(s->p, first, s->bytes),
                  s->m ? cvc_at(s->m, first, s->bytes) : NULL);
}

cvc_status cvc_sgd_step(cvc_dtype dtype, int64_t size, const cvc_sgd *hyper,
                        const void *g, void *p, void *m, const cvc_call *call) {
  int64_t elements;
  CVC_TRY(cvc_initialize());
  CVC_TRY(cvc_elements(dtype, 1, &size, &elements));
  if (!cvc_is_real(dtype)) return CVC_UNSUPPORTED;
  if (!hyper || hyper->step < 0) return CVC_BAD_ARGUMENT;
  const int64_t bytes = cvc_dtype_bytes(dtype);
  if (!cvc_is_aligned(g, dtype) || !cvc_is_aligned(p, dtype) ||
      !cvc_is_aligned(m, dtype))
    return CVC_BAD_ARGUMENT;
  if (size > 0 && (!g || !p || (!m && hyper->momentum != 0)))
    return CVC_BAD_ARGUMENT;
  CVC_TRY(cvc_check_disjoint(g, size * bytes, p, size * bytes));
  CVC_TRY(cvc_check_disjoint(g, size * bytes, m, size * bytes));
  CVC_TRY(cvc_check_disjoint(p, size * bytes, m, size * bytes));
  sgd s = {.kernels = cvc_kernels_of(dtype),
           .hyper = {hyper->lr, hyper->momentum, hyper->dampening,
                     hyper->weight_decay, (double)hyper->nesterov,
                     (double)hyper->step},
           .size = size,
           .bytes = bytes,
           .g = g,
           .p = p,
           .m = hyper->momentum != 0 ? m : NULL};
  const int64_t tasks = cvc_ceil_div(size, TASK_ELEMENTS);
  const double work = WORK_PER_ELEMENT * (double)size;
  return cvc_parallel(call, cvc_plan_threads(call, tasks, work), tasks,
                      sgd_task, &s);
}
