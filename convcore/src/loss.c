/**
 * Softmax cross-entropy. Everything is computed in double: the cost is small
 * beside the layers', and the loss keeps its digits over large batches.
 */
#include <math.h>

#include "internal.h"

/* A granule is computed in this many parts, added in order. */
enum { PARTS = 32, MAX_TASKS = 8 * PARTS };

typedef struct job {
  const cvc_cross_entropy *ce;
  const void *logits, *weight, *dloss;
  const int64_t *target;
  void *to;            /* loss or dlogits */
  double weight_total; /* sum over j of u[j] */
  double divisor;      /* of the mean; 1 for other reductions */
  double sums[MAX_TASKS];
} job;

static double element(const job *l, const void *array, int64_t i) {
  return cvc_get(l->ce->dtype, array, i);
}

static void set_element(const job *l, int64_t i, double value) {
  cvc_set(l->ce->dtype, l->to, i, value);
}

static double class_weight(const job *l, int64_t j) {
  return l->weight ? element(l, l->weight, j) : 1;
}

/** log of the sum of exp(x[j]) of a row of logits. */
static double log_sum_exp(const job *l, int64_t row) {
  const int64_t classes = l->ce->classes, first = row * classes;
  double largest = -INFINITY, sum = 0;
  for (int64_t j = 0; j < classes; j++)
    largest = fmax(largest, element(l, l->logits, first + j));
  for (int64_t j = 0; j < classes; j++)
    sum += exp(element(l, l->logits, first + j) - largest);
  return largest + log(sum);
}

static double row_loss(const job *l, int64_t row) {
  const double smoothing = l->ce->label_smoothing;
  const int64_t classes = l->ce->classes, first = row * classes;
  const int64_t t = l->target[row];
  if (t == l->ce->ignore_index) return 0;
  const double log_sum = log_sum_exp(l, row);
  const double at_target = log_sum - element(l, l->logits, first + t);
  if (smoothing == 0) return class_weight(l, t) * at_target;
  double all = 0;
  for (int64_t j = 0; j < classes; j++)
    all += class_weight(l, j) * (log_sum - element(l, l->logits, first + j));
  return (1 - smoothing) * class_weight(l, t) * at_target +
         smoothing / (double)classes * all;
}

static void row_gradient(const job *l, int64_t row) {
  const double smoothing = l->ce->label_smoothing;
  const int64_t classes = l->ce->classes, first = row * classes;
  const int64_t t = l->target[row];
  if (t == l->ce->ignore_index) {
    for (int64_t j = 0; j < classes; j++) set_element(l, first + j, 0);
    return;
  }
  const bool by_row = l->ce->reduction == CVC_REDUCTION_NONE;
  const double scale = element(l, l->dloss, by_row ? row : 0) / l->divisor;
  const double log_sum = log_sum_exp(l, row);
  const double hard = (1 - smoothing) * class_weight(l, t);
  const double soft = smoothing / (double)classes;
  const double total = hard + soft * l->weight_total;
  for (int64_t j = 0; j < classes; j++) {
    const double p = exp(element(l, l->logits, first + j) - log_sum);
    const double wanted = (j == t ? hard : 0) + soft * class_weight(l, j);
    set_element(l, first + j, scale * (total * p - wanted));
  }
}

/* ------------------------------------------------------------------- rows */

/** Rows first..last-1 of a task: part `task % PARTS` of a granule. */
static void rows_of(int64_t n, int64_t task, int64_t *first, int64_t *last) {
  const int64_t begin = cvc_granule_first(n, task / PARTS);
  const int64_t rows = cvc_granule_first(n, task / PARTS + 1) - begin;
  const int64_t per_part = cvc_ceil_div(rows, PARTS);
  const int64_t part = task % PARTS;
  *first = begin + cvc_min(rows, part * per_part);
  *last = begin + cvc_min(rows, (part + 1) * per_part);
}

/** Sum of the tasks' sums: parts in order, granules in a tree. */
static double total(const double sums[MAX_TASKS], int64_t granules) {
  double of[8] = {0};
  for (int64_t g = 0; g < granules; g++)
    for (int part = 0; part < PARTS; part++) of[g] += sums[g * PARTS + part];
  for (int64_t step = 1; step < granules; step *= 2)
    for (int64_t g = 0; g + step < granules; g += 2 * step)
      of[g] += of[g + step];
  return of[0];
}

static void forward_task(void *context, int64_t task, int thread) {
  (void)thread;
  job *l = context;
  int64_t first, last;
  rows_of(l->ce->n, task, &first, &last);
  double sum = 0;
  for (int64_t row = first; row < last; row++) {
    const double value = row_loss(l, row);
    if (l->ce->reduction == CVC_REDUCTION_NONE) set_element(l, row, value);
    sum += value;
  }
  l->sums[task] = sum;
}

static void backward_task(void *context, int64_t task, int thread) {
  (void)thread;
  const job *l = context;
  int64_t first, last;
  rows_of(l->ce->n, task, &first, &last);
  for (int64_t row = first; row < last; row++) row_gradient(l, row);
}

static cvc_status run(job *l, const cvc_call *call, cvc_task task) {
  const int64_t tasks = cvc_granules(l->ce->n) * PARTS;
  const double work =
      2.0 * CVC_ELEMENT_WORK * (double)l->ce->n * (double)l->ce->classes;
  return cvc_parallel(call, cvc_plan_threads(call, tasks, work), tasks, task,
                      l);
}

/** Sum of the class weights of the rows that count. */
static double counted_weight(const job *l) {
  const int64_t n = l->ce->n, granules = cvc_granules(n);
  double sums[MAX_TASKS] = {0};
  for (int64_t task = 0; task < granules * PARTS; task++) {
    int64_t first, last;
    rows_of(n, task, &first, &last);
    for (int64_t row = first; row < last; row++)
      if (l->target[row] != l->ce->ignore_index)
        sums[task] += class_weight(l, l->target[row]);
  }
  return total(sums, granules);
}

/* ----------------------------------------------------------------- checks */

cvc_status cvc_cross_entropy_check(const cvc_cross_entropy *ce) {
  if (!ce) return CVC_BAD_ARGUMENT;
  CVC_TRY(cvc_initialize());
  if (!cvc_is_real(ce->dtype)) return CVC_UNSUPPORTED;
  if (ce->reduction < CVC_REDUCTION_NONE || ce->reduction > CVC_REDUCTION_SUM)
    return CVC_BAD_ARGUMENT;
  if (!(ce->label_smoothing >= 0 && ce->label_smoothing <= 1))
    return CVC_BAD_ARGUMENT;
  if (ce->n < 0) return CVC_BAD_ARGUMENT;
  if (ce->classes < 1) return CVC_BAD_SHAPE;
  /* 8: granules multiply n. */
  const int64_t sizes[] = {8, cvc_max(ce->n, 1), ce->classes};
  int64_t elements;
  return cvc_elements(CVC_F64, 3, sizes, &elements);
}

static cvc_status check_targets(const cvc_cross_entropy *ce,
                                const int64_t *target) {
  for (int64_t i = 0; i < ce->n; i++)
    if (target[i] != ce->ignore_index &&
        (target[i] < 0 || target[i] >= ce->classes))
      return CVC_BAD_ARGUMENT;
  return CVC_OK;
}

/** Null, alignment, overlap, targets: all that stands before the first
 * write. */
static cvc_status check_arrays(const job *l, int64_t to_elements,
                               int64_t dloss_elements) {
  const cvc_cross_entropy *ce = l->ce;
  const int64_t bytes = cvc_dtype_bytes(ce->dtype);
  const void *const arrays[] = {l->logits, l->weight, l->dloss, l->to};
  for (int i = 0; i < 4; i++)
    if (!cvc_is_aligned(arrays[i], ce->dtype)) return CVC_BAD_ARGUMENT;
  if (!cvc_is_aligned(l->target, CVC_I64)) return CVC_BAD_ARGUMENT;
  if ((to_elements && !l->to) || (dloss_elements && !l->dloss) ||
      (ce->n && (!l->logits || !l->target)))
    return CVC_BAD_ARGUMENT;
  const int64_t to = to_elements * bytes;
  CVC_TRY(
      cvc_check_disjoint(l->to, to, l->logits, ce->n * ce->classes * bytes));
  CVC_TRY(cvc_check_disjoint(l->to, to, l->weight, ce->classes * bytes));
  CVC_TRY(cvc_check_disjoint(l->to, to, l->dloss, dloss_elements * bytes));
  CVC_TRY(cvc_check_disjoint(l->to, to, l->target,
                             ce->n * (int64_t)sizeof(int64_t)));
  return check_targets(ce, l->target);
}

int64_t cvc_cross_entropy_losses(const cvc_cross_entropy *ce) {
  return ce->reduction == CVC_REDUCTION_NONE ? ce->n : 1;
}

/* ------------------------------------------------------------ entry points */

cvc_status cvc_cross_entropy_forward(const cvc_cross_entropy *ce,
                                     const void *logits, const int64_t *target,
                                     const void *weight, void *loss,
                                     const cvc_call *call) {
  CVC_TRY(cvc_cross_entropy_check(ce));
  job l = {.ce = ce,
           .logits = logits,
           .weight = weight,
           .target = target,
           .to = loss};
  CVC_TRY(check_arrays(&l, cvc_cross_entropy_losses(ce), 0));
  CVC_TRY(run(&l, call, forward_task));
  const double sum = total(l.sums, cvc_granules(ce->n));
  if (ce->reduction == CVC_REDUCTION_SUM) set_element(&l, 0, sum);
  if (ce->reduction == CVC_REDUCTION_MEAN)
    set_element(&l, 0, sum / counted_weight(&l));
  return CVC_OK;
}

cvc_status cvc_cross_entropy_backward(const cvc_cross_entropy *ce,
                                      const void *dloss, const void *logits,
                                      const int64_t *target, const void *weight,
                                      void *dlogits, const cvc_call *call) {
  CVC_TRY(cvc_cross_entropy_check(ce));
  job l = {.ce = ce,
           .logits = logits,
           .weight = weight,
           .dloss = dloss,
           .target = target,
           .to = dlogits,
           .divisor = 1};
  CVC_TRY(check_arrays(&l, ce->n * ce->classes, cvc_cross_entropy_losses(ce)));
  for (int64_t j = 0; j < ce->classes; j++)
    l.weight_total += class_weight(&l, j);
  if (ce->reduction == CVC_REDUCTION_MEAN) l.divisor = counted_weight(&l);
  return run(&l, call, backward_task);
}
