/** ReLU, sum, transposition, copy and SGD. */
#include "check.h"

static const int64_t sizes[] = {0, 1, 3, 7, 8, 15, 16, 17, 33, 100, 16385};
enum { SIZES = sizeof sizes / sizeof sizes[0] };
static const cvc_dtype reals[] = {CVC_F32, CVC_F64};
static const cvc_dtype dtypes[] = {CVC_F32, CVC_F64, CVC_U8, CVC_I64};

static void test_relu(cvc_dtype dtype, int64_t size) {
  void *x = random_array(dtype, size), *y = new_array(dtype, size);
  void *dy = random_array(dtype, size), *dx = new_array(dtype, size);
  if (size > 2) {
    set(dtype, x, 0, NAN);
    set(dtype, x, 1, INFINITY);
    set(dtype, x, size - 1, -INFINITY);
  }
  CHECK_OK(cvc_relu_forward(dtype, size, x, y, NULL));
  CHECK_OK(cvc_relu_backward(dtype, size, dy, y, dx, NULL));
  for (int64_t i = 0; i < size; i++) {
    const double a = get(dtype, x, i), b = get(dtype, y, i);
    CHECK(isnan(a) ? isnan(b) : b == (a > 0 ? a : 0));
    CHECK(get(dtype, dx, i) == (b > 0 ? get(dtype, dy, i) : 0));
  }
  CHECK_OK(cvc_relu_backward(dtype, size, dy, y, dy, NULL));
  CHECK(same_bytes(dtype, dy, dx, size));
  CHECK_OK(cvc_relu_forward(dtype, size, x, x, NULL));
  CHECK(same_bytes(dtype, x, y, size));
}

static void test_add(cvc_dtype dtype, int64_t size) {
  void *a = random_array(dtype, size), *b = random_array(dtype, size);
  void *y = new_array(dtype, size);
  CHECK_OK(cvc_add(dtype, size, a, b, y, NULL));
  for (int64_t i = 0; i < size; i++) {
    const double sum = get(dtype, a, i) + get(dtype, b, i);
    CHECK(get(dtype, y, i) == (dtype == CVC_F32 ? (double)(float)sum : sum));
  }
  CHECK_OK(cvc_add(dtype, size, a, b, b, NULL));
  CHECK(same_bytes(dtype, b, y, size));
}

static void test_transpose(cvc_dtype dtype, int64_t batch, int64_t a,
                           int64_t b) {
  snprintf(context, sizeof context, "transpose dtype %d: %ld x %ld x %ld",
           dtype, (long)batch, (long)a, (long)b);
  const int64_t size = batch * a * b;
  void *x = new_array(dtype, size), *y = new_array(dtype, size);
  for (int64_t i = 0; i < size; i++) set(dtype, x, i, (double)(i % 251));
  CHECK_OK(cvc_transpose(dtype, batch, a, b, x, y, NULL));
  bool right = true;
  for (int64_t n = 0; n < batch; n++)
    for (int64_t i = 0; i < a; i++)
      for (int64_t j = 0; j < b; j++)
        right &= get(dtype, x, (n * a + i) * b + j) ==
                 get(dtype, y, (n * b + j) * a + i);
  CHECK(right);
}

static void test_copy(cvc_dtype dtype, int64_t rows, int64_t columns,
                      int64_t x_stride, int64_t y_stride) {
  snprintf(context, sizeof context, "copy dtype %d: %ld x %ld", dtype,
           (long)rows, (long)columns);
  const int64_t x_size = (rows - 1) * x_stride + columns;
  const int64_t y_size = (rows - 1) * y_stride + columns;
  void *x = new_array(dtype, x_size), *y = new_array(dtype, y_size);
  for (int64_t i = 0; i < x_size; i++) set(dtype, x, i, (double)(i % 251));
  CHECK_OK(cvc_copy(dtype, rows, columns, x, x_stride, y, y_stride, NULL));
  bool right = true;
  for (int64_t i = 0; i < rows; i++) {
    const int64_t at = i * y_stride;
    for (int64_t j = 0; j < columns; j++)
      right &= get(dtype, x, i * x_stride + j) == get(dtype, y, at + j);
    if (i + 1 < rows)
      right &=
          untouched(dtype, (char *)y + (size_t)(at + columns) * bytes_of(dtype),
                    y_stride - columns);
  }
  CHECK(right);
}

static void test_sizes(void) {
  for (int i = 0; i < SIZES; i++)
    for (int t = 0; t < 2; t++) {
      snprintf(context, sizeof context, "dtype %d, %ld elements", reals[t],
               (long)sizes[i]);
      test_relu(reals[t], sizes[i]);
      test_add(reals[t], sizes[i]);
      release_arrays();
    }
  for (int t = 0; t < 4; t++) {
    test_transpose(dtypes[t], 2, 3, 5);
    test_transpose(dtypes[t], 1, 1, 7);
    test_transpose(dtypes[t], 3, 17, 33);
    test_transpose(dtypes[t], 2, 6, 784);
    test_transpose(dtypes[t], 1, 300, 70);
    test_transpose(dtypes[t], 0, 4, 4);
    test_copy(dtypes[t], 1, 40000, 40000, 40000);
    test_copy(dtypes[t], 5, 7, 9, 12);
    test_copy(dtypes[t], 4, 7, 0, 7);
    test_copy(dtypes[t], 3, 0, 4, 4);
    release_arrays();
  }
}

/** The same bits with 1, 2 and 3 threads. */
static void test_threads(void) {
  snprintf(context, sizeof context, "threads");
  const int64_t size = 500000;
  void *p = random_array(CVC_F32, size), *m = random_array(CVC_F32, size);
  void *first = NULL;
  for (int threads = 1; threads <= 3; threads++) {
    const cvc_call call = {.threads = threads};
    void *y = new_array(CVC_F32, size), *v = new_array(CVC_F32, size);
    CHECK_OK(cvc_transpose(CVC_F32, 1, 500, 1000, p, y, &call));
    CHECK_OK(cvc_copy(CVC_F32, 1000, 500, m, 500, v, 500, &call));
    CHECK_OK(cvc_relu_forward(CVC_F32, size, y, y, &call));
    CHECK_OK(cvc_add(CVC_F32, size, y, v, y, &call));
    if (!first) first = y;
    CHECK(same_bytes(CVC_F32, first, y, size));
  }
  release_arrays();
}

static void test_bad_calls(void) {
  snprintf(context, sizeof context, "bad calls");
  float x[64] = {0}, y[64];
  const int64_t huge = INT64_MAX / 2;
  const cvc_dtype unknown = (cvc_dtype)9;
  memset(y, 0xA5, sizeof y);

  CHECK_STATUS(cvc_relu_forward(unknown, 4, x, y, NULL), CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_relu_forward(CVC_U8, 4, x, y, NULL), CVC_UNSUPPORTED);
  CHECK_STATUS(cvc_relu_forward(CVC_F32, -1, x, y, NULL), CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_relu_forward(CVC_F32, huge, x, y, NULL), CVC_TOO_LARGE);
  CHECK_STATUS(cvc_relu_forward(CVC_F32, 4, NULL, y, NULL), CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_relu_forward(CVC_F32, 4, x, NULL, NULL), CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_relu_forward(CVC_F32, 4, y + 1, y, NULL), CVC_OVERLAP);
  CHECK_STATUS(cvc_relu_forward(CVC_F32, 4, x, (char *)y + 1, NULL),
               CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_relu_backward(CVC_F32, 4, x, y, y, NULL), CVC_OVERLAP);
  CHECK_STATUS(cvc_relu_backward(CVC_F32, 4, y, x, y + 3, NULL), CVC_OVERLAP);
  CHECK_STATUS(cvc_relu_backward(CVC_F32, 4, x, NULL, y, NULL),
               CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_add(CVC_I64, 4, x, x, y, NULL), CVC_UNSUPPORTED);
  CHECK_STATUS(cvc_add(CVC_F32, 4, x, NULL, y, NULL), CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_add(CVC_F32, 4, x, y + 2, y, NULL), CVC_OVERLAP);

  CHECK_STATUS(cvc_transpose(unknown, 1, 2, 2, x, y, NULL), CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_transpose(CVC_F32, 1, -2, 2, x, y, NULL), CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_transpose(CVC_F32, 1, 2, 2, NULL, y, NULL),
               CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_transpose(CVC_F32, huge, 2, 2, x, y, NULL), CVC_TOO_LARGE);
  CHECK_STATUS(cvc_transpose(CVC_F32, 1, 2, 2, y, y, NULL), CVC_OVERLAP);

  CHECK_STATUS(cvc_copy(CVC_F32, 2, 4, x, 4, y, 3, NULL), CVC_BAD_SHAPE);
  CHECK_STATUS(cvc_copy(CVC_F32, -2, 4, x, 4, y, 4, NULL), CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_copy(CVC_F32, 2, 4, x, -4, y, 4, NULL), CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_copy(CVC_F32, 2, 4, x, 4, NULL, 4, NULL), CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_copy(CVC_F32, huge, 4, x, huge, y, 4, NULL), CVC_TOO_LARGE);
  CHECK_STATUS(cvc_copy(CVC_F32, 2, 4, y, 4, y + 4, 4, NULL), CVC_OVERLAP);

  CHECK(untouched(CVC_F32, y, 64));
  CHECK_OK(cvc_relu_forward(CVC_F32, 0, NULL, NULL, NULL));
  CHECK_OK(cvc_transpose(CVC_F32, 0, 4, 4, NULL, NULL, NULL));
}

int main(void) {
  for (int side = 0; side < 2; side++) {
    guard_before = side;
    test_sizes();
  }
  test_threads();
  test_bad_calls();
  return report("elementwise");
}
