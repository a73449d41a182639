/** Dropout: blocks of elements, each with random words of its own. */
#include "internal.h"

enum { TASK_ELEMENTS = 1 << 14 /* a multiple of 64 */ };

typedef struct job {
  const cvc_kernels *kernels;
  cvc_draw draw;
  int64_t size, bytes;
  const void *x;
  void *y;
} job;

static void run_task(void *context, int64_t task, int thread) {
  (void)thread;
  const job *j = context;
  const int64_t first = task * TASK_ELEMENTS;
  j->kernels->dropout(&j->draw, first, cvc_min(TASK_ELEMENTS, j->size - first),
                      cvc_at_const(j->x, first, j->bytes),
                      cvc_at(j->y, first, j->bytes));
}

cvc_status cvc_dropout_check(const cvc_dropout *dropout) {
  int64_t elements;
  if (!dropout) return CVC_BAD_ARGUMENT;
  CVC_TRY(cvc_initialize());
  CVC_TRY(cvc_elements(dropout->dtype, 1, &dropout->size, &elements));
  if (!cvc_is_real(dropout->dtype)) return CVC_UNSUPPORTED;
  return dropout->p >= 0 && dropout->p <= 1 ? CVC_OK : CVC_BAD_ARGUMENT;
}

cvc_status cvc_dropout_apply(const cvc_dropout *dropout, const int64_t draws[2],
                             const void *x, void *y, const cvc_call *call) {
  CVC_TRY(cvc_dropout_check(dropout));
  if (!draws || (dropout->size && (!x || !y))) return CVC_BAD_ARGUMENT;
  if (!cvc_is_aligned(x, dropout->dtype) || !cvc_is_aligned(y, dropout->dtype))
    return CVC_BAD_ARGUMENT;
  const uint64_t seed = (uint64_t)draws[0];
  job j = {.kernels = cvc_kernels_of(dropout->dtype),
           .draw = {.key = {(uint32_t)seed, (uint32_t)(seed >> 32)},
                    .stream = (uint32_t)dropout->stream,
                    .step = (uint32_t)draws[1],
                    .dropped = (uint64_t)(dropout->p * 0x1p32),
                    .scale = dropout->p < 1 ? 1 / (1 - dropout->p) : 0},
           .size = dropout->size,
           .bytes = cvc_dtype_bytes(dropout->dtype),
           .x = x,
           .y = y};
  if (x != y)
    CVC_TRY(cvc_check_disjoint(x, j.size * j.bytes, y, j.size * j.bytes));
  const int64_t tasks = cvc_ceil_div(j.size, TASK_ELEMENTS);
  const double work = CVC_ELEMENT_WORK * (double)j.size;
  return cvc_parallel(call, cvc_plan_threads(call, tasks, work), tasks,
                      run_task, &j);
}
