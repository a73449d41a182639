/** Batch and local response normalisation, by their definitions in double. */
#include "check.h"

static const cvc_dtype reals[] = {CVC_F32, CVC_F64};
static const cvc_layout layouts[] = {CVC_CHANNELS_FIRST, CVC_CHANNELS_LAST};

static const struct {
  int64_t n, c, pixels;
} shapes[] = {{2, 1, 1},   {1, 3, 5},    {3, 17, 7},  {8, 16, 64},
              {9, 33, 49}, {2, 70, 300}, {17, 5, 129}};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

typedef struct norm_case {
  cvc_batch_norm bn;
  bool affine, residual;
} norm_case;

/** Everything in double, in the order [n][c][pixel] or [n][pixel][c]. */
typedef struct wanted {
  double *y, *dx, *dresidual, *mean, *var, *dweight, *dbias;
} wanted;

static double *doubles(int64_t size) {
  return calloc((size_t)size + 1, sizeof(double));
}

static double at(cvc_dtype dtype, const void *array, int64_t i, double absent) {
  return array ? get(dtype, array, i) : absent;
}

/** The definition, channel by channel. */
static void define(const cvc_batch_norm *bn, const void *x, const void *dy,
                   const void *weight, const void *bias, const void *mean,
                   const void *var, const void *residual, wanted *w) {
  const double count = (double)(bn->n * bn->pixels);
  for (int64_t c = 0; c < bn->c; c++) {
    double m = 0, v = 0, total = 0, product = 0;
#define EACH                          \
  for (int64_t i = 0; i < bn->n; i++) \
    for (int64_t p = 0; p < bn->pixels; p++)
#define HERE offset_of(bn->layout, bn->c, bn->pixels, i, c, p)
    EACH m += get(bn->dtype, x, HERE) / count;
    EACH v += pow(get(bn->dtype, x, HERE) - m, 2) / count;
    if (!bn->training) {
      m = get(bn->dtype, mean, c);
      v = get(bn->dtype, var, c);
    }
    const double deviation = sqrt(v + bn->eps);
    const double scale = at(bn->dtype, weight, c, 1) / deviation;
    EACH {
      const double d = get(bn->dtype, x, HERE) - m;
      double y = d * scale + at(bn->dtype, bias, c, 0);
      y += at(bn->dtype, residual, HERE, 0);
      const bool above = bn->activation == CVC_ACTIVATION_RELU6 && y >= 6;
      const bool cut = (bn->activation && y <= 0) || above;
      w->y[HERE] = above ? 6 : cut ? 0 : y;
      w->dresidual[HERE] = cut ? 0 : get(bn->dtype, dy, HERE);
      total += w->dresidual[HERE];
      product += w->dresidual[HERE] * d;
    }
    EACH {
      const double d = get(bn->dtype, x, HERE) - m;
      const double shared =
          bn->training ? total / count + d * product / (v + bn->eps) / count
                       : 0;
      w->dx[HERE] = scale * (w->dresidual[HERE] - shared);
    }
    w->mean[c] = m;
    w->var[c] = v;
    w->dweight[c] = product / deviation;
    w->dbias[c] = total;
#undef EACH
#undef HERE
  }
}

static void test_batch_norm(const norm_case *t) {
  const cvc_batch_norm *bn = &t->bn;
  const cvc_dtype dtype = bn->dtype;
  const int64_t size = bn->n * bn->c * bn->pixels;
  void *x = random_array(dtype, size), *dy = random_array(dtype, size);
  void *weight = t->affine ? random_array(dtype, bn->c) : NULL;
  void *bias = t->affine ? random_array(dtype, bn->c) : NULL;
  void *residual = t->residual ? random_array(dtype, size) : NULL;
  void *mean = new_array(dtype, bn->c), *var = new_array(dtype, bn->c);
  for (int64_t i = 0; i < size; i++)
    set(dtype, x, i, 3 * get(dtype, x, i) + 20);
  for (int64_t c = 0; weight && c < bn->c; c++) /* so that some exceed 6 */
    set(dtype, weight, c, 9 * get(dtype, weight, c));
  for (int64_t c = 0; !bn->training && c < bn->c; c++) {
    set(dtype, mean, c, 20 + uniform());
    set(dtype, var, c, 2 + uniform());
  }
  wanted w = {doubles(size),  doubles(size),  doubles(size), doubles(bn->c),
              doubles(bn->c), doubles(bn->c), doubles(bn->c)};
  define(bn, x, dy, weight, bias, mean, var, residual, &w);

  void *first[5] = {NULL};
  for (int threads = 1; threads <= 3; threads++) {
    const cvc_call call = {.threads = threads};
    void *y = new_array(dtype, size), *dx = new_array(dtype, size);
    void *dresidual = t->residual ? new_array(dtype, size) : NULL;
    void *dweight = new_array(dtype, bn->c), *dbias = new_array(dtype, bn->c);
    CHECK_OK(cvc_batch_norm_forward(
        bn, x, weight, bias, bn->training ? NULL : mean,
        bn->training ? NULL : var, residual, y, bn->training ? mean : NULL,
        bn->training ? var : NULL, &call));
    CHECK_OK(cvc_batch_norm_backward(bn, dy, x, t->residual ? y : NULL, weight,
                                     bias, mean, var, dx, dweight, dbias,
                                     dresidual, &call));
    /* One value per channel: all is rounding. */
    const bool plain = bn->n * bn->pixels > 2;
    const double tolerance = dtype == CVC_F32 ? 2e-5 : 1e-12;
    CHECK(!plain || error_of(dtype, y, w.y, size) < tolerance);
    CHECK(error_of(dtype, mean, w.mean, bn->c) < tolerance);
    CHECK(!plain || error_of(dtype, var, w.var, bn->c) < tolerance);
    if (plain && !(bn->activation && dtype == CVC_F32)) {
      /* In float32 a result near 0 may be cut here and not there. */
      CHECK(error_of(dtype, dx, w.dx, size) < tolerance);
      CHECK(error_of(dtype, dweight, w.dweight, bn->c) < tolerance);
      CHECK(error_of(dtype, dbias, w.dbias, bn->c) < tolerance);
      if (dresidual)
        CHECK(error_of(dtype, dresidual, w.dresidual, size) < tolerance);
    }
    void *const results[] = {y, dx, dweight, dbias, dresidual};
    for (int i = 0; i < 5 && results[i]; i++) {
      if (!first[i]) first[i] = results[i];
      CHECK(same_bytes(dtype, first[i], results[i],
                       i == 2 || i == 3 ? bn->c : size));
    }
  }
  double *const all[] = {w.y,   w.dx,      w.dresidual, w.mean,
                         w.var, w.dweight, w.dbias};
  for (int i = 0; i < 7; i++) free(all[i]);
  release_arrays();
}

static void test_batch_norms(void) {
  for (int s = 0; s < SHAPES; s++)
    for (int way = 0; way < 96; way++) {
      const norm_case t = {.bn = {.dtype = reals[way & 1],
                                  .layout = layouts[way >> 1 & 1],
                                  .activation = (cvc_activation)(way >> 5),
                                  .training = way >> 2 & 1,
                                  .n = shapes[s].n,
                                  .c = shapes[s].c,
                                  .pixels = shapes[s].pixels,
                                  .eps = 1e-5},
                           .affine = way >> 3 & 1,
                           .residual = way >> 4 & 1};
      snprintf(context, sizeof context, "batch norm %ld x %ld x %ld, way %d",
               (long)t.bn.n, (long)t.bn.c, (long)t.bn.pixels, way);
      test_batch_norm(&t);
    }
}

static void test_running_statistics(void) {
  snprintf(context, sizeof context, "running statistics");
  float mean[] = {1, 2}, var[] = {4, 8}, old_mean[] = {0, 10},
        old_var[] = {1, 1};
  int64_t batches = 3;
  CHECK_OK(cvc_running_statistics(CVC_F32, 2, 5, 0.25, mean, var, old_mean,
                                  old_var, &batches, old_mean, old_var,
                                  &batches));
  CHECK(old_mean[0] == 0.25F && old_mean[1] == 8 && batches == 4);
  CHECK(old_var[0] == 2 && old_var[1] == 3.25F);
  CHECK_OK(cvc_running_statistics(CVC_F32, 2, 5, NAN, mean, var, old_mean,
                                  old_var, &batches, old_mean, old_var,
                                  &batches));
  CHECK(batches == 5 && fabs(old_mean[1] - 6.8) < 1e-6);
  CHECK_STATUS(cvc_running_statistics(CVC_F32, 2, 5, NAN, mean, var, old_mean,
                                      old_var, NULL, old_mean, old_var, NULL),
               CVC_BAD_ARGUMENT);
}

static void test_lrn(cvc_dtype dtype, int64_t pixels, int64_t c, int64_t size,
                     double beta) {
  snprintf(context, sizeof context, "lrn %ld x %ld, size %ld", (long)pixels,
           (long)c, (long)size);
  const cvc_lrn lrn = {dtype, pixels, c, size, 0.3, beta, 2};
  const int64_t elements = pixels * c;
  void *x = random_array(dtype, elements), *dy = random_array(dtype, elements);
  double *y = doubles(elements), *dx = doubles(elements), *d = doubles(c);
  for (int64_t p = 0; p < pixels; p++) {
    const int64_t row = p * c;
    for (int64_t i = 0; i < c; i++) {
      d[i] = lrn.k;
      for (int64_t j = i - size / 2; j <= i + (size - 1) / 2; j++)
        if (j >= 0 && j < c)
          d[i] += lrn.alpha / (double)size * pow(get(dtype, x, row + j), 2);
      y[row + i] = get(dtype, x, row + i) * pow(d[i], -beta);
      dx[row + i] += get(dtype, dy, row + i) * pow(d[i], -beta);
    }
    for (int64_t i = 0; i < c; i++)
      for (int64_t j = i - size / 2; j <= i + (size - 1) / 2; j++)
        if (j >= 0 && j < c)
          dx[row + j] -= 2 * lrn.alpha * beta / (double)size *
                         get(dtype, x, row + j) * get(dtype, dy, row + i) *
                         get(dtype, x, row + i) * pow(d[i], -beta - 1);
  }
  const double tolerance = dtype == CVC_F32 ? 1e-6 : 1e-14;
  void *got = new_array(dtype, elements),
       *gradient = new_array(dtype, elements);
  CHECK_OK(cvc_lrn_forward(&lrn, x, got, NULL));
  CHECK_OK(cvc_lrn_backward(&lrn, dy, x, gradient, NULL));
  CHECK(error_of(dtype, got, y, elements) < tolerance);
  CHECK(error_of(dtype, gradient, dx, elements) < tolerance);
  free(y);
  free(dx);
  free(d);
  release_arrays();
}

static void test_bad_arguments(void) {
  snprintf(context, sizeof context, "bad arguments");
  float *x = new_array(CVC_F32, 64), *y = new_array(CVC_F32, 64);
  float *m = new_array(CVC_F32, 4), *v = new_array(CVC_F32, 4);
  const cvc_batch_norm good = {.layout = CVC_CHANNELS_LAST,
                               .training = 1,
                               .n = 2,
                               .c = 4,
                               .pixels = 8,
                               .eps = 1e-5};
#define FORWARD(bn, x, y, residual) \
  cvc_batch_norm_forward(bn, x, NULL, NULL, NULL, NULL, residual, y, m, v, NULL)
  cvc_batch_norm bn = good;
  CHECK_STATUS(FORWARD(NULL, x, y, NULL), CVC_BAD_ARGUMENT);
  CHECK_STATUS(FORWARD(&bn, NULL, y, NULL), CVC_BAD_ARGUMENT);
  CHECK_STATUS(FORWARD(&bn, x, x, NULL), CVC_OVERLAP);
  CHECK_STATUS(FORWARD(&bn, x, y, y + 1), CVC_OVERLAP);
  bn.training = 0; /* without statistics */
  CHECK_STATUS(FORWARD(&bn, x, y, NULL), CVC_BAD_ARGUMENT);
  bn = good;
  bn.n = 0;
  CHECK_STATUS(FORWARD(&bn, x, y, NULL), CVC_BAD_SHAPE);
  bn.n = INT64_MAX / 4;
  CHECK_STATUS(FORWARD(&bn, x, y, NULL), CVC_TOO_LARGE);
  bn = good;
  bn.dtype = CVC_U8;
  CHECK_STATUS(FORWARD(&bn, x, y, NULL), CVC_UNSUPPORTED);
  bn = good;
  bn.activation = CVC_ACTIVATION_RELU; /* the mask of a sum needs y */
  CHECK_STATUS(cvc_batch_norm_backward(&bn, x, x, NULL, NULL, NULL, m, v, NULL,
                                       NULL, NULL, y, NULL),
               CVC_BAD_ARGUMENT);
#undef FORWARD
  cvc_lrn lrn = {CVC_F32, 4, 4, 0, 1, 1, 1};
  CHECK_STATUS(cvc_lrn_forward(&lrn, x, y, NULL), CVC_BAD_SHAPE);
  lrn.size = 3;
  CHECK_STATUS(cvc_lrn_forward(&lrn, x, x, NULL), CVC_OVERLAP);
  CHECK_STATUS(cvc_lrn_backward(&lrn, NULL, x, y, NULL), CVC_BAD_ARGUMENT);
  CHECK(untouched(CVC_F32, y, 64) && untouched(CVC_F32, m, 4));
  release_arrays();
}

int main(void) {
  for (int side = 0; side < 2; side++) {
    guard_before = side;
    test_batch_norms();
    for (int t = 0; t < 2; t++) {
      test_lrn(reals[t], 3, 33, 5, 0.75);
      test_lrn(reals[t], 5, 2, 4, 0.75);
      test_lrn(reals[t], 700, 64, 5, 0.75);
      test_lrn(reals[t], 2, 1, 3, 0.5);
    }
  }
  test_running_statistics();
  test_bad_arguments();
  return report("norm");
}
