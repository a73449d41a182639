/** Optimizers: one pass over gradients, parameters and state. */
#include <math.h>

#include "internal.h"

enum { TASK_ELEMENTS = 1 << 14 };

/* ------------------------------------------------------------------- update */

typedef struct update {
  void(*kernel) CVC_OPTIMIZER;
  const double *hyper;
  int64_t size, bytes;
  const void *g;
  void *p, *first, *second;
} update;

static void update_task(void *context, int64_t task, int thread) {
  (void)thread;
  const update *u = context;
  const int64_t at = task * TASK_ELEMENTS;
  u->kernel(cvc_min(TASK_ELEMENTS, u->size - at), u->hyper,
            cvc_at_const(u->g, at, u->bytes), cvc_at(u->p, at, u->bytes),
            u->first ? cvc_at(u->first, at, u->bytes) : NULL,
            u->second ? cvc_at(u->second, at, u->bytes) : NULL);
}

static cvc_status check(cvc_dtype dtype, int64_t size) {
  int64_t elements;
  CVC_TRY(cvc_initialize());
  CVC_TRY(cvc_elements(dtype, 1, &size, &elements));
  return cvc_is_real(dtype) ? CVC_OK : CVC_UNSUPPORTED;
}

static cvc_status run(update *u, cvc_dtype dtype, const cvc_call *call) {
  const void *const arrays[] = {u->g, u->p, u->first, u->second};
  u->bytes = cvc_dtype_bytes(dtype);
  if (u->size > 0 && (!u->g || !u->p)) return CVC_BAD_ARGUMENT;
  for (int i = 0; i < 4; i++) {
    if (!cvc_is_aligned(arrays[i], dtype)) return CVC_BAD_ARGUMENT;
    for (int j = 0; j < i; j++)
      CVC_TRY(cvc_check_disjoint(arrays[i], u->size * u->bytes, arrays[j],
                                 u->size * u->bytes));
  }
  const int64_t tasks = cvc_ceil_div(u->size, TASK_ELEMENTS);
  const double work = CVC_ELEMENT_WORK * (double)u->size;
  return cvc_parallel(call, cvc_plan_threads(call, tasks, work), tasks,
                      update_task, u);
}

cvc_status cvc_sgd_step(cvc_dtype dtype, int64_t size, const cvc_sgd *sgd,
                        const void *g, void *p, void *m, const cvc_call *call) {
  CVC_TRY(check(dtype, size));
  if (!sgd || sgd->step < 0) return CVC_BAD_ARGUMENT;
  if (size > 0 && !m && sgd->momentum != 0) return CVC_BAD_ARGUMENT;
  const double hyper[] = {
      sgd->lr,           sgd->momentum,       sgd->dampening,
      sgd->weight_decay, sgd->gradient_scale, (double)sgd->nesterov,
      (double)sgd->step};
  update u = {.kernel = cvc_kernels_of(dtype)->sgd,
              .hyper = hyper,
              .size = size,
              .g = g,
              .p = p,
              .first = sgd->momentum != 0 ? m : NULL};
  return run(&u, dtype, call);
}

cvc_status cvc_adam_step(cvc_dtype dtype, int64_t size, const cvc_adam *adam,
                         const void *g, void *p, void *m, void *v,
                         const cvc_call *call) {
  CVC_TRY(check(dtype, size));
  if (!adam || adam->step < 0 || (size > 0 && (!m || !v)))
    return CVC_BAD_ARGUMENT;
  const double steps = (double)adam->step + 1;
  const double hyper[] = {adam->lr,
                          adam->beta1,
                          adam->beta2,
                          adam->eps,
                          adam->weight_decay,
                          adam->gradient_scale,
                          (double)adam->decoupled,
                          (double)adam->step,
                          1 - pow(adam->beta1, steps),
                          1 - pow(adam->beta2, steps)};
  update u = {.kernel = cvc_kernels_of(dtype)->adam,
              .hyper = hyper,
              .size = size,
              .g = g,
              .p = p,
              .first = m,
              .second = v};
  return run(&u, dtype, call);
}

cvc_status cvc_rmsprop_step(cvc_dtype dtype, int64_t size,
                            const cvc_rmsprop *rmsprop, const void *g, void *p,
                            void *v, void *m, const cvc_call *call) {
  CVC_TRY(check(dtype, size));
  if (!rmsprop || (size > 0 && (!v || (!m && rmsprop->momentum != 0))))
    return CVC_BAD_ARGUMENT;
  const double hyper[] = {rmsprop->lr,       rmsprop->alpha,
                          rmsprop->eps,      rmsprop->weight_decay,
                          rmsprop->momentum, rmsprop->gradient_scale};
  update u = {.kernel = cvc_kernels_of(dtype)->rmsprop,
              .hyper = hyper,
              .size = size,
              .g = g,
              .p = p,
              .first = v,
              .second = rmsprop->momentum != 0 ? m : NULL};
  return run(&u, dtype, call);
}

/* ---------------------------------------------------------- sum of squares */

enum { PARTS = 64 }; /* each summed in order; then in a binary tree */

typedef struct squares {
  cvc_dtype dtype;
  int64_t size;
  const void *x;
  double sums[PARTS];
} squares;

static void squares_task(void *context, int64_t part, int thread) {
  (void)thread;
  squares *s = context;
  const int64_t block = cvc_ceil_div(s->size, PARTS);
  const int64_t end = cvc_min((part + 1) * block, s->size);
  double sum[8] = {0}; /* eight chains, for speed */
  for (int64_t i = part * block; i < end; i++) {
    const double value = cvc_get(s->dtype, s->x, i);
    sum[i % 8] += value * value;
  }
  s->sums[part] = ((sum[0] + sum[1]) + (sum[2] + sum[3])) +
                  ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

cvc_status cvc_sum_of_squares(cvc_dtype dtype, int64_t size, const void *x,
                              double *sum, const cvc_call *call) {
  CVC_TRY(check(dtype, size));
  if (!sum || (size > 0 && !x) || !cvc_is_aligned(x, dtype))
    return CVC_BAD_ARGUMENT;
  squares s = {.dtype = dtype, .size = size, .x = x};
  CVC_TRY(cvc_parallel(
      call, cvc_plan_threads(call, PARTS, CVC_ELEMENT_WORK / 4 * (double)size),
      PARTS, squares_task, &s));
  for (int step = 1; step < PARTS; step *= 2)
    for (int i = 0; i + step < PARTS; i += 2 * step)
      s.sums[i] += s.sums[i + step];
  *sum = s.sums[0];
  return CVC_OK;
}
