/**
 * What the files of src/ share: the kernel table, checked arithmetic,
 * parallel loops and scratch. Not installed.
 */
#ifndef CVC_INTERNAL_H
#define CVC_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../include/convcore.h"
#include "../kernels/kernels.h"

/* Return from the enclosing function unless the expression is CVC_OK. */
#define CVC_TRY(expression)                      \
  do {                                           \
    cvc_status try_status = (expression);        \
    if (try_status != CVC_OK) return try_status; \
  } while (0)

/* --------------------------------------------------- dispatch.c, status.c */

/** The chosen kernels of CVC_F32 or CVC_F64; cvc_initialize succeeded. */
const cvc_kernels *cvc_kernels_of(cvc_dtype dtype);

/* ------------------------------------------------------ checked arithmetic */

static inline bool cvc_is_real(cvc_dtype dtype) {
  return dtype == CVC_F32 || dtype == CVC_F64;
}

/** Bytes of one element; 0 for an unknown dtype. */
static inline int64_t cvc_dtype_bytes(cvc_dtype dtype) {
  switch (dtype) {
    case CVC_F32: return 4;
    case CVC_F64: return 8;
    case CVC_U8: return 1;
    case CVC_I64: return 8;
  }
  return 0;
}

/** *product *= factor; CVC_TOO_LARGE on overflow. Both are >= 0. */
static inline cvc_status cvc_multiply(int64_t *product, int64_t factor) {
  return __builtin_mul_overflow(*product, factor, product) ? CVC_TOO_LARGE
                                                           : CVC_OK;
}

/**
 * Elements of an array of these sizes, whose bytes fit int64_t;
 * CVC_BAD_ARGUMENT for a negative size or an unknown dtype.
 */
static inline cvc_status cvc_elements(cvc_dtype dtype, int count,
                                      const int64_t *sizes, int64_t *elements) {
  const int64_t bytes = cvc_dtype_bytes(dtype);
  int64_t total = bytes;
  if (!bytes) return CVC_BAD_ARGUMENT;
  for (int i = 0; i < count; i++)
    if (sizes[i] < 0) return CVC_BAD_ARGUMENT;
  for (int i = 0; i < count; i++) CVC_TRY(cvc_multiply(&total, sizes[i]));
  *elements = total / bytes;
  return CVC_OK;
}

static inline int64_t cvc_min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t cvc_max(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t cvc_ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}
static inline int64_t cvc_round_up(int64_t a, int64_t b) {
  return cvc_ceil_div(a, b) * b;
}
static inline int64_t cvc_volume(const int64_t size[3]) {
  return size[0] * size[1] * size[2];
}

/** Element `offset` of an array whose elements have `bytes` bytes. */
static inline void *cvc_at(void *base, int64_t offset, int64_t bytes) {
  return (char *)base + offset * bytes;
}
static inline const void *cvc_at_const(const void *base, int64_t offset,
                                       int64_t bytes) {
  return (const char *)base + offset * bytes;
}

/** Element i of an array of CVC_F32 or CVC_F64, in double. */
static inline double cvc_get(cvc_dtype dtype, const void *array, int64_t i) {
  return dtype == CVC_F32 ? (double)((const float *)array)[i]
                          : ((const double *)array)[i];
}
static inline void cvc_set(cvc_dtype dtype, void *array, int64_t i,
                           double value) {
  if (dtype == CVC_F32)
    ((float *)array)[i] = (float)value;
  else
    ((double *)array)[i] = value;
}

static inline bool cvc_is_aligned(const void *array, cvc_dtype dtype) {
  return (uintptr_t)array % (uintptr_t)cvc_dtype_bytes(dtype) == 0;
}

/** CVC_OVERLAP when the two byte ranges share a byte; NULL shares none. */
cvc_status cvc_check_disjoint(const void *a, int64_t a_bytes, const void *b,
                              int64_t b_bytes);

/** Whether an array of `size` elements is there, and aligned. */
static inline bool cvc_is_array(const void *array, cvc_dtype dtype,
                                int64_t size) {
  return (array || !size) && cvc_is_aligned(array, dtype);
}

/* ---------------------------------------------------------------- threads.c */

/**
 * Threads that a call of `tasks` tasks and about `work` operations will use:
 * never more than there are tasks, one below about 1 M operations (20 M where
 * OMP_WAIT_POLICY has waiting threads sleep, fewer where a team is awake).
 */
int cvc_plan_threads(const cvc_call *call, int64_t tasks, double work);

/** As many as that may say in any call: for scratch. */
int cvc_most_threads(const cvc_call *call, int64_t tasks, double work);

/* Operations in whose time an element is read and written: memory is slower
 * than arithmetic. */
#define CVC_ELEMENT_WORK 64

/**
 * Run function(context, task, thread) for every task, each exactly once, by
 * `threads` threads in any order; thread is 0..threads-1 and the caller is
 * thread 0. Polls the call's interrupt; CVC_OK or CVC_INTERRUPTED.
 */
typedef void (*cvc_task)(void *context, int64_t task, int thread);
cvc_status cvc_parallel(const cvc_call *call, int threads, int64_t tasks,
                        cvc_task function, void *context);

/** `rounds` times the phases one after the other, in one go: a phase begins
 * when all tasks of the one before have ended. */
typedef struct cvc_phase {
  int64_t tasks;
  void (*function)(void *context, int64_t round, int64_t task, int thread);
} cvc_phase;
cvc_status cvc_parallel_phases(const cvc_call *call, int threads,
                               const cvc_phase *phases, int count,
                               int64_t rounds, void *context);

/**
 * Run function(context) on this thread, with others awaiting the loops that it
 * gives out: they wake and go to sleep once. Loops outside of such a function
 * have a team each.
 */
cvc_status cvc_with_team(int threads, cvc_status (*function)(void *context),
                         void *context);

/** Seconds of a clock that only goes forward; the same to some milliseconds, by
 * a cheaper one. */
double cvc_now(void);
double cvc_about_now(void);

/* ------------------------------------------------------------------ scratch */

/** Working memory of one call: the caller's, or allocated here. */
typedef struct cvc_scratch {
  void *memory;
  bool owned;
} cvc_scratch;

cvc_status cvc_scratch_begin(cvc_scratch *scratch, const cvc_call *call,
                             int64_t bytes);
void cvc_scratch_end(cvc_scratch *scratch);

/* ----------------------------------------------------------------- granules */

/**
 * Sums over the batch are formed within granules of samples, then in a
 * binary tree over the granules. Their number is a power of two <= 8 that
 * depends on n alone; granule g holds samples first(g)..first(g+1)-1.
 */
static inline int64_t cvc_granules(int64_t n) {
  int64_t granules = 1;
  while (granules < 8 && granules * 2 <= n) granules *= 2;
  return granules;
}
static inline int64_t cvc_granule_first(int64_t n, int64_t granule) {
  return granule * n / cvc_granules(n);
}

/* ------------------------------------------------------------ elementwise.c */

/** y[j][i] = x[i][j], i < a, j < b, elements of 1, 4 or 8 bytes; on the
 * calling thread. */
void cvc_transpose_matrix(int64_t bytes, int64_t a, int64_t b, const void *x,
                          void *y);

/* ------------------------------------- what plan.c asks of the operations */

/** Elements from the first of row 0 to the last of row rows-1. */
cvc_status cvc_copy_span(cvc_dtype dtype, int64_t rows, int64_t columns,
                         int64_t stride, int64_t *elements);

cvc_status cvc_function_check(const cvc_function *function);
/** Elements of a, b and y. */
cvc_status cvc_binary_check(const cvc_binary *binary, int64_t elements[3]);
cvc_status cvc_softmax_check(const cvc_softmax *softmax);
cvc_status cvc_group_norm_check(const cvc_group_norm *norm);
cvc_status cvc_interpolate_check(const cvc_interpolate *interpolate);
cvc_status cvc_adaptive_pool_check(const cvc_adaptive_pool *pool);

cvc_status cvc_lrn_check(const cvc_lrn *lrn);
cvc_status cvc_dropout_check(const cvc_dropout *dropout);
cvc_status cvc_batch_norm_check(const cvc_batch_norm *bn);

cvc_status cvc_cross_entropy_check(const cvc_cross_entropy *ce);

/** Elements of the loss. */
int64_t cvc_cross_entropy_losses(const cvc_cross_entropy *ce);

#endif /* CVC_INTERNAL_H */
