/** Local response normalisation: blocks of pixels, each on its own. */
#include "internal.h"

enum { TASK_ELEMENTS = 1 << 14, MAX_THREADS = 1024 };

typedef struct job {
  const cvc_lrn *lrn;
  const cvc_kernels *kernels;
  int64_t bytes, block; /* pixels of a task */
  const void *dy, *x;   /* dy: backward */
  void *to;
  char *work;
} job;

/** Two rows of the kernel. */
static int64_t work_bytes(const cvc_lrn *lrn) {
  return cvc_round_up(2 * (lrn->c + lrn->size) * cvc_dtype_bytes(lrn->dtype),
                      64);
}

static int64_t block_of(const cvc_lrn *lrn) {
  return cvc_ceil_div(TASK_ELEMENTS, lrn->c);
}

static int64_t tasks_of(const cvc_lrn *lrn) {
  return cvc_ceil_div(lrn->pixels, block_of(lrn));
}

static double work_of(const cvc_lrn *lrn) {
  return 2.0 * CVC_ELEMENT_WORK * (double)lrn->pixels * (double)lrn->c;
}

static void run_task(void *context, int64_t task, int thread) {
  const job *j = context;
  const int64_t first = task * j->block, at = first * j->lrn->c;
  const int64_t pixels = cvc_min(j->block, j->lrn->pixels - first);
  const void *x = cvc_at_const(j->x, at, j->bytes);
  void *to = cvc_at(j->to, at, j->bytes);
  char *work = j->work + thread * work_bytes(j->lrn);
  if (j->dy)
    j->kernels->lrn_backward(j->lrn, pixels, cvc_at_const(j->dy, at, j->bytes),
                             x, to, work);
  else
    j->kernels->lrn_forward(j->lrn, pixels, x, to, work);
}

cvc_status cvc_lrn_check(const cvc_lrn *lrn) {
  if (!lrn) return CVC_BAD_ARGUMENT;
  CVC_TRY(cvc_initialize());
  if (!cvc_is_real(lrn->dtype)) return CVC_UNSUPPORTED;
  if (lrn->pixels < 0) return CVC_BAD_ARGUMENT;
  if (lrn->c < 1 || lrn->size < 1) return CVC_BAD_SHAPE;
  int64_t row, bytes = 8 * 3 * MAX_THREADS;
  if (__builtin_add_overflow(lrn->c, lrn->size, &row)) return CVC_TOO_LARGE;
  CVC_TRY(cvc_multiply(&bytes, row));
  return cvc_multiply(&bytes, cvc_max(lrn->pixels, 1));
}

cvc_status cvc_lrn_scratch(const cvc_lrn *lrn, int threads,
                           int64_t *scratch_bytes) {
  CVC_TRY(cvc_lrn_check(lrn));
  if (!scratch_bytes || threads < 0) return CVC_BAD_ARGUMENT;
  const cvc_call call = {.threads = threads};
  *scratch_bytes =
      cvc_most_threads(&call, tasks_of(lrn), work_of(lrn)) * work_bytes(lrn);
  return CVC_OK;
}

static cvc_status run(job *j, const cvc_lrn *lrn, const cvc_call *call) {
  CVC_TRY(cvc_lrn_check(lrn));
  if (lrn->pixels == 0) return CVC_OK;
  if (!j->x || !j->to || !cvc_is_aligned(j->x, lrn->dtype) ||
      !cvc_is_aligned(j->dy, lrn->dtype) || !cvc_is_aligned(j->to, lrn->dtype))
    return CVC_BAD_ARGUMENT;
  j->lrn = lrn;
  j->kernels = cvc_kernels_of(lrn->dtype);
  j->bytes = cvc_dtype_bytes(lrn->dtype);
  j->block = block_of(lrn);
  const int64_t bytes = lrn->pixels * lrn->c * j->bytes;
  CVC_TRY(cvc_check_disjoint(j->x, bytes, j->to, bytes));
  CVC_TRY(cvc_check_disjoint(j->dy, bytes, j->to, bytes));
  const int threads = cvc_plan_threads(call, tasks_of(lrn), work_of(lrn));
  cvc_scratch scratch;
  CVC_TRY(cvc_scratch_begin(&scratch, call, threads * work_bytes(lrn)));
  j->work = scratch.memory;
  const cvc_status status =
      cvc_parallel(call, threads, tasks_of(lrn), run_task, j);
  cvc_scratch_end(&scratch);
  return status;
}

cvc_status cvc_lrn_forward(const cvc_lrn *lrn, const void *x, void *y,
                           const cvc_call *call) {
  job j = {.x = x, .to = y};
  return run(&j, lrn, call);
}

cvc_status cvc_lrn_backward(const cvc_lrn *lrn, const void *dy, const void *x,
                            void *dx, const cvc_call *call) {
  if (lrn && lrn->pixels && !dy) return CVC_BAD_ARGUMENT;
  job j = {.dy = dy, .x = x, .to = dx};
  return run(&j, lrn, call);
}
