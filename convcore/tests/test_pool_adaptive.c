/** Adaptive average pooling, by its definition. */
#include "check.h"

static const cvc_dtype reals[] = {CVC_F32, CVC_F64};

static const struct {
  int64_t n, c, size[3], out[3];
} shapes[] = {{1, 1, {1, 1, 1}, {1, 1, 1}},   {2, 3, {1, 5, 7}, {1, 5, 7}},
              {2, 16, {1, 7, 7}, {1, 1, 1}},  {3, 17, {1, 2, 2}, {1, 7, 7}},
              {1, 33, {1, 13, 9}, {1, 6, 4}}, {2, 5, {3, 4, 5}, {2, 7, 3}},
              {9, 64, {1, 8, 8}, {1, 3, 5}}};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static int64_t first_of(int64_t o, int64_t size, int64_t out) {
  return o * size / out;
}
static int64_t last_of(int64_t o, int64_t size, int64_t out) {
  return ((o + 1) * size + out - 1) / out;
}

static void test_case(const cvc_adaptive_pool *pool) {
  const int64_t pixels = volume(pool->size), outs = volume(pool->out);
  const int64_t images = pool->n * pool->c;
  void *x = random_array(pool->dtype, images * pixels);
  void *dy = random_array(pool->dtype, images * outs);
  double *y = calloc((size_t)(images * outs), sizeof *y);
  double *dx = calloc((size_t)(images * pixels), sizeof *dx);
  for (int64_t image = 0; image < images; image++)
    for (int64_t o = 0; o < outs; o++) {
      int64_t index = o, first[3], last[3], s[3], count = 1;
      for (int i = 2; i >= 0; i--) {
        first[i] = first_of(index % pool->out[i], pool->size[i], pool->out[i]);
        last[i] = last_of(index % pool->out[i], pool->size[i], pool->out[i]);
        count *= last[i] - first[i];
        index /= pool->out[i];
      }
      const int64_t to = offset_of(pool->layout, pool->c, outs, image / pool->c,
                                   image % pool->c, o);
      for (s[0] = first[0]; s[0] < last[0]; s[0]++)
        for (s[1] = first[1]; s[1] < last[1]; s[1]++)
          for (s[2] = first[2]; s[2] < last[2]; s[2]++) {
            const int64_t from = offset_of(
                pool->layout, pool->c, pixels, image / pool->c, image % pool->c,
                (s[0] * pool->size[1] + s[1]) * pool->size[2] + s[2]);
            y[to] += get(pool->dtype, x, from) / (double)count;
            dx[from] += get(pool->dtype, dy, to) / (double)count;
          }
    }
  const double tolerance = pool->dtype == CVC_F32 ? 1e-6 : 1e-14;
  const void *first_y = NULL, *first_dx = NULL;
  for (int threads = 1; threads <= 3; threads++) {
    const cvc_call call = {.threads = threads};
    void *got_y = new_array(pool->dtype, images * outs);
    void *got_dx = new_array(pool->dtype, images * pixels);
    CHECK_OK(cvc_adaptive_pool_forward(pool, x, got_y, &call));
    CHECK_OK(cvc_adaptive_pool_backward(pool, dy, got_dx, &call));
    CHECK(error_of(pool->dtype, got_y, y, images * outs) < tolerance);
    CHECK(error_of(pool->dtype, got_dx, dx, images * pixels) < tolerance);
    if (!first_y) {
      first_y = got_y;
      first_dx = got_dx;
    }
    CHECK(same_bytes(pool->dtype, first_y, got_y, images * outs));
    CHECK(same_bytes(pool->dtype, first_dx, got_dx, images * pixels));
  }
  free(y);
  free(dx);
  release_arrays();
}

static void test_bad_arguments(void) {
  snprintf(context, sizeof context, "bad arguments");
  float *x = new_array(CVC_F32, 64), *y = new_array(CVC_F32, 64);
  cvc_adaptive_pool pool = {CVC_F32, CVC_CHANNELS_LAST, 1,
                            2,       {1, 4, 4},         {1, 2, 0}};
  CHECK_STATUS(cvc_adaptive_pool_forward(&pool, x, y, NULL), CVC_BAD_SHAPE);
  pool.out[2] = 2;
  CHECK_STATUS(cvc_adaptive_pool_forward(&pool, x, NULL, NULL),
               CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_adaptive_pool_forward(&pool, x, x + 1, NULL), CVC_OVERLAP);
  pool.dtype = CVC_I64;
  CHECK_STATUS(cvc_adaptive_pool_forward(&pool, x, y, NULL), CVC_UNSUPPORTED);
  pool.dtype = CVC_F32;
  pool.size[1] = INT64_MAX / 2;
  CHECK_STATUS(cvc_adaptive_pool_forward(&pool, x, y, NULL), CVC_TOO_LARGE);
  CHECK(untouched(CVC_F32, y, 64));
  release_arrays();
}

int main(void) {
  for (int way = 0; way < SHAPES * 8; way++) {
    const int s = way / 8;
    guard_before = way & 1;
    cvc_adaptive_pool pool = {
        .dtype = reals[way >> 1 & 1],
        .layout = way & 4 ? CVC_CHANNELS_LAST : CVC_CHANNELS_FIRST,
        .n = shapes[s].n,
        .c = shapes[s].c};
    memcpy(pool.size, shapes[s].size, sizeof pool.size);
    memcpy(pool.out, shapes[s].out, sizeof pool.out);
    snprintf(context, sizeof context, "shape %d, way %d", s, way % 8);
    test_case(&pool);
  }
  test_bad_arguments();
  return report("adaptive pool");
}
