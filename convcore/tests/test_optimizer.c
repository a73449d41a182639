/** Optimizers, against PyTorch's formulas in double. */
#include "check.h"

static const cvc_dtype reals[] = {CVC_F32, CVC_F64};
static const int64_t sizes[] = {0, 1, 7, 16, 33, 1000, 40000};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

/** Arrays of one update, and what they should become. */
typedef struct arrays_of {
  cvc_dtype dtype;
  int64_t size;
  void *g, *now[3]; /* p and the state */
  double *wanted[3];
} arrays_of;

static arrays_of make(cvc_dtype dtype, int64_t size) {
  arrays_of a = {.dtype = dtype, .size = size, .g = random_array(dtype, size)};
  for (int i = 0; i < 3; i++) {
    a.now[i] = random_array(dtype, size);
    a.wanted[i] = malloc(((size_t)size + 1) * sizeof(double));
    /* Means of squares are positive. */
    for (int64_t j = 0; i > 0 && j < size; j++)
      set(dtype, a.now[i], j, fabs(get(dtype, a.now[i], j)));
    for (int64_t j = 0; j < size; j++) a.wanted[i][j] = get(dtype, a.now[i], j);
  }
  return a;
}

static void compare(arrays_of *a) {
  const double tolerance = a->dtype == CVC_F32 ? 4e-6 : 1e-13;
  for (int i = 0; i < 3; i++) {
    CHECK(error_of(a->dtype, a->now[i], a->wanted[i], a->size) < tolerance);
    free(a->wanted[i]);
  }
}

static void test_sgd(cvc_dtype dtype, int64_t size, const cvc_sgd *sgd) {
  arrays_of a = make(dtype, size);
  double *p = a.wanted[0], *m = a.wanted[1];
  const bool with_m = sgd->momentum != 0;
  for (int64_t i = 0; i < size; i++) {
    const double d =
        sgd->gradient_scale * get(dtype, a.g, i) + sgd->weight_decay * p[i];
    double step = d;
    if (with_m) {
      m[i] =
          sgd->step == 0 ? d : sgd->momentum * m[i] + (1 - sgd->dampening) * d;
      step = sgd->nesterov ? d + sgd->momentum * m[i] : m[i];
    }
    p[i] -= sgd->lr * step;
  }
  CHECK_OK(cvc_sgd_step(dtype, size, sgd, a.g, a.now[0],
                        with_m ? a.now[1] : NULL, NULL));
  compare(&a);
}

static void test_adam(cvc_dtype dtype, int64_t size, const cvc_adam *adam) {
  arrays_of a = make(dtype, size);
  double *p = a.wanted[0], *m = a.wanted[1], *v = a.wanted[2];
  const double t = (double)adam->step + 1;
  for (int64_t i = 0; i < size; i++) {
    double d = adam->gradient_scale * get(dtype, a.g, i);
    if (adam->decoupled)
      p[i] *= 1 - adam->lr * adam->weight_decay;
    else
      d += adam->weight_decay * p[i];
    m[i] = adam->beta1 * m[i] + (1 - adam->beta1) * d;
    v[i] = adam->beta2 * v[i] + (1 - adam->beta2) * d * d;
    p[i] -= adam->lr * m[i] / (1 - pow(adam->beta1, t)) /
            (sqrt(v[i] / (1 - pow(adam->beta2, t))) + adam->eps);
  }
  CHECK_OK(cvc_adam_step(dtype, size, adam, a.g, a.now[0], a.now[1], a.now[2],
                         NULL));
  compare(&a);
}

static void test_rmsprop(cvc_dtype dtype, int64_t size,
                         const cvc_rmsprop *rmsprop) {
  arrays_of a = make(dtype, size);
  double *p = a.wanted[0], *v = a.wanted[1], *m = a.wanted[2];
  const bool with_m = rmsprop->momentum != 0;
  for (int64_t i = 0; i < size; i++) {
    const double d = rmsprop->gradient_scale * get(dtype, a.g, i) +
                     rmsprop->weight_decay * p[i];
    v[i] = rmsprop->alpha * v[i] + (1 - rmsprop->alpha) * d * d;
    double step = d / (sqrt(v[i]) + rmsprop->eps);
    if (with_m) step = m[i] = rmsprop->momentum * m[i] + step;
    p[i] -= rmsprop->lr * step;
  }
  CHECK_OK(cvc_rmsprop_step(dtype, size, rmsprop, a.g, a.now[0], a.now[1],
                            with_m ? a.now[2] : NULL, NULL));
  compare(&a);
}

static void test_updates(void) {
  const cvc_sgd sgd[] = {{.lr = 0.1, .gradient_scale = 1},
                         {0.1, 0, 0, 0.01, 0.5, 0, 5},
                         {.lr = 0.1, .momentum = 0.9, .gradient_scale = 1},
                         {0.1, 0.9, 0, 0, 1, 0, 1},
                         {0.1, 0.9, 0.5, 0.01, 1, 0, 7},
                         {0.1, 0.9, 0, 0.01, 1, 1, 0},
                         {0.1, 0.9, 0, 0.01, 0.3, 1, 7}};
  const cvc_adam adam[] = {{0.1, 0.9, 0.999, 1e-8, 0, 1, 0, 0},
                           {0.1, 0.8, 0.99, 1e-4, 0.1, 0.5, 0, 3},
                           {0.1, 0.9, 0.999, 1e-8, 0.1, 1, 1, 9}};
  const cvc_rmsprop rmsprop[] = {{0.1, 0.9, 1e-3, 0, 0, 1},
                                 {0.1, 0.9, 1e-3, 0.1, 0.9, 0.5}};
  for (int i = 0; i < SIZES; i++)
    for (int t = 0; t < 2; t++) {
      snprintf(context, sizeof context, "dtype %d, %ld elements", reals[t],
               (long)sizes[i]);
      for (size_t u = 0; u < sizeof sgd / sizeof sgd[0]; u++)
        test_sgd(reals[t], sizes[i], &sgd[u]);
      for (size_t u = 0; u < sizeof adam / sizeof adam[0]; u++)
        test_adam(reals[t], sizes[i], &adam[u]);
      for (size_t u = 0; u < sizeof rmsprop / sizeof rmsprop[0]; u++)
        test_rmsprop(reals[t], sizes[i], &rmsprop[u]);
      release_arrays();
    }
}

static void test_sum_of_squares(void) {
  for (int i = 0; i < SIZES; i++)
    for (int t = 0; t < 2; t++) {
      void *x = random_array(reals[t], sizes[i]);
      double wanted = 0, sums[3];
      for (int64_t j = 0; j < sizes[i]; j++)
        wanted += get(reals[t], x, j) * get(reals[t], x, j);
      for (int threads = 1; threads <= 3; threads++) {
        const cvc_call call = {.threads = threads};
        CHECK_OK(cvc_sum_of_squares(reals[t], sizes[i], x, &sums[threads - 1],
                                    &call));
      }
      CHECK(fabs(sums[0] - wanted) <= 1e-13 * wanted);
      CHECK(sums[0] == sums[1] && sums[0] == sums[2]);
      release_arrays();
    }
}

/** The same bits with 1, 2 and 3 threads. */
static void test_threads(void) {
  snprintf(context, sizeof context, "threads");
  enum { SIZE = 500000 };
  const cvc_adam adam = {0.1, 0.9, 0.999, 1e-8, 0.1, 1, 1, 9};
  const void *g = random_array(CVC_F32, SIZE), *first[3] = {NULL};
  for (int threads = 1; threads <= 3; threads++) {
    const cvc_call call = {.threads = threads};
    void *now[3];
    for (int i = 0; i < 3; i++) {
      now[i] = new_array(CVC_F32, SIZE);
      for (int64_t j = 0; j < SIZE; j++)
        set(CVC_F32, now[i], j, (double)(j % 97) / 97);
    }
    CHECK_OK(
        cvc_adam_step(CVC_F32, SIZE, &adam, g, now[0], now[1], now[2], &call));
    for (int i = 0; i < 3; i++) {
      if (!first[i]) first[i] = now[i];
      CHECK(same_bytes(CVC_F32, first[i], now[i], SIZE));
    }
  }
  release_arrays();
}

static void test_bad_arguments(void) {
  snprintf(context, sizeof context, "bad arguments");
  const int64_t huge = INT64_MAX / 2;
  float *x = new_array(CVC_F32, 64), *y = new_array(CVC_F32, 64);
  float *z = new_array(CVC_F32, 64);
  const cvc_sgd sgd = {.lr = 0.1, .momentum = 0.9, .gradient_scale = 1};
  const cvc_sgd negative = {.lr = 0.1, .step = -1};
  CHECK_STATUS(cvc_sgd_step(CVC_F32, 4, NULL, x, y, z, NULL), CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_sgd_step(CVC_F32, 4, &negative, x, y, z, NULL),
               CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_sgd_step(CVC_F32, 4, &sgd, x, y, NULL, NULL),
               CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_sgd_step(CVC_F32, -4, &sgd, x, y, z, NULL),
               CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_sgd_step(CVC_F32, huge, &sgd, x, y, z, NULL), CVC_TOO_LARGE);
  CHECK_STATUS(cvc_sgd_step(CVC_U8, 4, &sgd, x, y, z, NULL), CVC_UNSUPPORTED);
  CHECK_STATUS(cvc_sgd_step(CVC_F32, 4, &sgd, y, y, z, NULL), CVC_OVERLAP);
  CHECK_STATUS(cvc_sgd_step(CVC_F32, 4, &sgd, x, y, y + 3, NULL), CVC_OVERLAP);
  const cvc_adam adam = {0.1, 0.9, 0.999, 1e-8, 0, 1, 0, 0};
  CHECK_STATUS(cvc_adam_step(CVC_F32, 4, &adam, x, y, z, NULL, NULL),
               CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_adam_step(CVC_F32, 4, &adam, x, y, z, z + 2, NULL),
               CVC_OVERLAP);
  const cvc_rmsprop rmsprop = {0.1, 0.9, 1e-8, 0, 0.9, 1};
  CHECK_STATUS(cvc_rmsprop_step(CVC_F32, 4, &rmsprop, x, y, z, NULL, NULL),
               CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_sum_of_squares(CVC_F32, 4, x, NULL, NULL), CVC_BAD_ARGUMENT);
  CHECK(untouched(CVC_F32, y, 64) && untouched(CVC_F32, z, 64));
  release_arrays();
}

int main(void) {
  for (int side = 0; side < 2; side++) {
    guard_before = side;
    test_updates();
    test_sum_of_squares();
  }
  test_threads();
  test_bad_arguments();
  return report("optimizer");
}
