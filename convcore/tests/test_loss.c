/** Softmax cross-entropy, against its definition and finite differences. */
#include "check.h"

typedef struct loss_case {
  int64_t n, classes;
  double smoothing;
  bool weighted;
} loss_case;

static const loss_case cases[] = {
    {1, 1, 0, false},    {1, 2, 0, false},     {3, 10, 0, true},
    {7, 10, 0.1, false}, {64, 10, 0.1, true},  {9, 33, 1, true},
    {300, 5, 0, false},  {1000, 3, 0.2, true},
};
enum { CASES = sizeof cases / sizeof cases[0], IGNORED = -100 };

/** The loss of a row by its definition; *u is the weight that it counts. */
static double row_loss(const loss_case *c, cvc_dtype dtype, const void *logits,
                       const int64_t *target, const void *weight, int64_t row,
                       double *u) {
  const int64_t t = target[row];
  double sum = 0, loss = 0;
  *u = 0;
  if (t == IGNORED) return 0;
  for (int64_t j = 0; j < c->classes; j++)
    sum += exp(get(dtype, logits, row * c->classes + j));
  for (int64_t j = 0; j < c->classes; j++) {
    const double weight_j = weight ? get(dtype, weight, j) : 1;
    const double log_p = get(dtype, logits, row * c->classes + j) - log(sum);
    const double share =
        (j == t ? 1 - c->smoothing : 0) + c->smoothing / (double)c->classes;
    loss -= share * weight_j * log_p;
    if (j == t) *u = weight_j;
  }
  return loss;
}

static double total_loss(const loss_case *c, cvc_dtype dtype,
                         const void *logits, const int64_t *target,
                         const void *weight, bool mean) {
  double sum = 0, counted = 0, u;
  for (int64_t row = 0; row < c->n; row++) {
    sum += row_loss(c, dtype, logits, target, weight, row, &u);
    counted += u;
  }
  return mean ? sum / counted : sum;
}

static void test_case(const loss_case *c, cvc_dtype dtype) {
  const int64_t size = c->n * c->classes;
  const double tolerance = dtype == CVC_F32 ? 2e-6 : 1e-13;
  void *logits = random_array(dtype, size);
  void *dlogits = new_array(dtype, size);
  void *weight = c->weighted ? new_array(dtype, c->classes) : NULL;
  int64_t *target = new_array(CVC_I64, c->n);
  void *losses = new_array(dtype, c->n), *loss = new_array(dtype, 1);
  for (int64_t i = 0; i < size; i++)
    set(dtype, logits, i, 5 * get(dtype, logits, i));
  for (int64_t j = 0; weight && j < c->classes; j++)
    set(dtype, weight, j, 1.5 + uniform());
  for (int64_t i = 0; i < c->n; i++)
    target[i] = i % 7 == 5 ? IGNORED : (i * 3) % c->classes;

  cvc_cross_entropy ce = {.dtype = dtype,
                          .n = c->n,
                          .classes = c->classes,
                          .ignore_index = IGNORED,
                          .label_smoothing = c->smoothing};
  ce.reduction = CVC_REDUCTION_NONE;
  CHECK_OK(
      cvc_cross_entropy_forward(&ce, logits, target, weight, losses, NULL));
  for (int64_t i = 0; i < c->n; i++) {
    double u, wanted = row_loss(c, dtype, logits, target, weight, i, &u);
    CHECK(fabs(get(dtype, losses, i) - wanted) <=
          tolerance * (1 + fabs(wanted)));
  }
  const double dloss_value = 0.75;
  void *dloss = new_array(dtype, 1);
  set(dtype, dloss, 0, dloss_value);
  for (int mean = 0; mean < 2; mean++) {
    ce.reduction = mean ? CVC_REDUCTION_MEAN : CVC_REDUCTION_SUM;
    const double wanted = total_loss(c, dtype, logits, target, weight, mean);
    CHECK_OK(
        cvc_cross_entropy_forward(&ce, logits, target, weight, loss, NULL));
    CHECK(fabs(get(dtype, loss, 0) - wanted) <= tolerance * (1 + fabs(wanted)));
    CHECK_OK(cvc_cross_entropy_backward(&ce, dloss, logits, target, weight,
                                        dlogits, NULL));
    if (dtype == CVC_F32) continue;
    for (int64_t i = 0; i < size; i += 1 + size / 40) {
      double *x = (double *)logits + i, old = *x, h = 1e-5;
      *x = old + h;
      const double high = total_loss(c, dtype, logits, target, weight, mean);
      *x = old - h;
      const double low = total_loss(c, dtype, logits, target, weight, mean);
      *x = old;
      CHECK(fabs(((double *)dlogits)[i] -
                 dloss_value * (high - low) / (2 * h)) < 1e-6);
    }
  }
  /* With a gradient of 1 per row, no reduction is the sum. */
  void *by_row = new_array(dtype, size), *ones = new_array(dtype, c->n);
  for (int64_t i = 0; i < c->n; i++) set(dtype, ones, i, 1);
  set(dtype, dloss, 0, 1);
  ce.reduction = CVC_REDUCTION_SUM;
  CHECK_OK(cvc_cross_entropy_backward(&ce, dloss, logits, target, weight,
                                      dlogits, NULL));
  ce.reduction = CVC_REDUCTION_NONE;
  CHECK_OK(cvc_cross_entropy_backward(&ce, ones, logits, target, weight, by_row,
                                      NULL));
  CHECK(same_bytes(dtype, dlogits, by_row, size));
}

static void test_extremes(void) {
  snprintf(context, sizeof context, "extremes");
  cvc_cross_entropy ce = {.dtype = CVC_F32,
                          .reduction = CVC_REDUCTION_MEAN,
                          .n = 1,
                          .classes = 3,
                          .ignore_index = IGNORED};
  const float large[] = {1e30f, 0, -1e30f};
  int64_t target = 0;
  float loss = -1, dlogits[3];
  CHECK_OK(cvc_cross_entropy_forward(&ce, large, &target, NULL, &loss, NULL));
  CHECK(loss == 0);
  const float closed[] = {1, 2, -INFINITY};
  CHECK_OK(cvc_cross_entropy_forward(&ce, closed, &target, NULL, &loss, NULL));
  CHECK(fabsf(loss - logf(1 + expf(1))) < 1e-6f);
  const float one = 1;
  CHECK_OK(cvc_cross_entropy_backward(&ce, &one, closed, &target, NULL, dlogits,
                                      NULL));
  CHECK(dlogits[2] == 0 && fabsf(dlogits[0] + dlogits[1]) < 1e-6f);
  const float broken[] = {1, NAN, 0};
  CHECK_OK(cvc_cross_entropy_forward(&ce, broken, &target, NULL, &loss, NULL));
  CHECK(isnan(loss));
  /* The mean of no rows is NaN, their sum 0; their gradient is 0. */
  target = IGNORED;
  CHECK_OK(cvc_cross_entropy_forward(&ce, closed, &target, NULL, &loss, NULL));
  CHECK(isnan(loss));
  CHECK_OK(cvc_cross_entropy_backward(&ce, &one, closed, &target, NULL, dlogits,
                                      NULL));
  CHECK(dlogits[0] == 0 && dlogits[1] == 0 && dlogits[2] == 0);
  ce.n = 0;
  CHECK_OK(cvc_cross_entropy_forward(&ce, NULL, NULL, NULL, &loss, NULL));
  CHECK(isnan(loss));
  CHECK_OK(cvc_cross_entropy_backward(&ce, &one, NULL, NULL, NULL, NULL, NULL));
  ce.reduction = CVC_REDUCTION_SUM;
  CHECK_OK(cvc_cross_entropy_forward(&ce, NULL, NULL, NULL, &loss, NULL));
  CHECK(loss == 0);
  ce.reduction = CVC_REDUCTION_NONE;
  CHECK_OK(cvc_cross_entropy_forward(&ce, NULL, NULL, NULL, NULL, NULL));
}

static void test_threads(void) {
  snprintf(context, sizeof context, "threads");
  cvc_cross_entropy ce = {.dtype = CVC_F32,
                          .reduction = CVC_REDUCTION_MEAN,
                          .n = 1003,
                          .classes = 100,
                          .ignore_index = IGNORED,
                          .label_smoothing = 0.1};
  float *logits = random_array(CVC_F32, ce.n * ce.classes);
  int64_t *target = new_array(CVC_I64, ce.n);
  for (int64_t i = 0; i < ce.n; i++) target[i] = i % ce.classes;
  float losses[3], one = 1;
  float *first = NULL;
  for (int threads = 1; threads <= 3; threads++) {
    const cvc_call call = {.threads = threads};
    float *dlogits = new_array(CVC_F32, ce.n * ce.classes);
    CHECK_OK(cvc_cross_entropy_forward(&ce, logits, target, NULL,
                                       &losses[threads - 1], &call));
    CHECK_OK(cvc_cross_entropy_backward(&ce, &one, logits, target, NULL,
                                        dlogits, &call));
    if (!first) first = dlogits;
    CHECK(same_bytes(CVC_F32, first, dlogits, ce.n * ce.classes));
    CHECK(same_bytes(CVC_F32, &losses[0], &losses[threads - 1], 1));
  }
  release_arrays();
}

static void test_bad_calls(void) {
  snprintf(context, sizeof context, "bad calls");
  const cvc_cross_entropy good = {.dtype = CVC_F32,
                                  .reduction = CVC_REDUCTION_NONE,
                                  .n = 2,
                                  .classes = 3,
                                  .ignore_index = IGNORED};
  float logits[6] = {0}, out[8];
  int64_t target[2] = {0, 2};
  memset(out, 0xA5, sizeof out);
  cvc_cross_entropy ce = good;
#define FORWARD(x, t, y) cvc_cross_entropy_forward(&ce, x, t, NULL, y, NULL)
#define BAD(field, value, status)                       \
  do {                                                  \
    ce = good;                                          \
    ce.field = value;                                   \
    CHECK_STATUS(FORWARD(logits, target, out), status); \
  } while (0)
  BAD(dtype, CVC_I64, CVC_UNSUPPORTED);
  BAD(reduction, (cvc_reduction)7, CVC_BAD_ARGUMENT);
  BAD(n, -1, CVC_BAD_ARGUMENT);
  BAD(classes, 0, CVC_BAD_SHAPE);
  BAD(label_smoothing, 1.5, CVC_BAD_ARGUMENT);
  BAD(label_smoothing, NAN, CVC_BAD_ARGUMENT);
  BAD(n, INT64_MAX / 4, CVC_TOO_LARGE);
  ce = good;
  CHECK_STATUS(cvc_cross_entropy_forward(NULL, logits, target, NULL, out, NULL),
               CVC_BAD_ARGUMENT);
  CHECK_STATUS(FORWARD(NULL, target, out), CVC_BAD_ARGUMENT);
  CHECK_STATUS(FORWARD(logits, NULL, out), CVC_BAD_ARGUMENT);
  CHECK_STATUS(FORWARD(logits, target, NULL), CVC_BAD_ARGUMENT);
  CHECK_STATUS(FORWARD(out, target, out + 5), CVC_OVERLAP);
  CHECK_STATUS(
      cvc_cross_entropy_backward(&ce, NULL, logits, target, NULL, out, NULL),
      CVC_BAD_ARGUMENT);
  CHECK_STATUS(
      cvc_cross_entropy_backward(&ce, out, logits, target, NULL, out + 1, NULL),
      CVC_OVERLAP);
  target[1] = 3;
  CHECK_STATUS(FORWARD(logits, target, out), CVC_BAD_ARGUMENT);
  target[1] = -1;
  CHECK_STATUS(FORWARD(logits, target, out), CVC_BAD_ARGUMENT);
  CHECK_STATUS(
      cvc_cross_entropy_backward(&ce, logits, logits, target, NULL, out, NULL),
      CVC_BAD_ARGUMENT);
  CHECK(untouched(CVC_F32, out, 8));
#undef BAD
#undef FORWARD
}

int main(void) {
  for (int side = 0; side < 2; side++) {
    guard_before = side;
    for (int i = 0; i < CASES; i++)
      for (int t = 0; t < 2; t++) {
        snprintf(context, sizeof context, "dtype %d, n %ld, classes %ld", t,
                 (long)cases[i].n, (long)cases[i].classes);
        test_case(&cases[i], t ? CVC_F64 : CVC_F32);
        release_arrays();
      }
  }
  test_extremes();
  test_threads();
  test_bad_calls();
  return report("loss");
}
