/** Dropout: shares, seeds, and bits that depend on nothing else. */
#include "check.h"

enum { SIZE = 100003 };

static const int64_t draws[] = {42, 7};

static void *dropped(cvc_dtype dtype, double p, int64_t stream,
                     const int64_t *from, int threads) {
  const cvc_dropout dropout = {dtype, SIZE, stream, p};
  const cvc_call call = {.threads = threads};
  void *x = new_array(dtype, SIZE), *y = new_array(dtype, SIZE);
  for (int64_t i = 0; i < SIZE; i++) set(dtype, x, i, 1);
  CHECK_OK(cvc_dropout_apply(&dropout, from, x, y, &call));
  CHECK_OK(cvc_dropout_apply(&dropout, from, x, x, &call)); /* in place */
  CHECK(same_bytes(dtype, x, y, SIZE));
  return y;
}

static int64_t zeros_of(cvc_dtype dtype, const void *y) {
  int64_t zeros = 0;
  for (int64_t i = 0; i < SIZE; i++) zeros += get(dtype, y, i) == 0;
  return zeros;
}

int main(void) {
  for (int side = 0; side < 2; side++) {
    guard_before = side;
    const void *y = dropped(CVC_F32, 0.3, 1, draws, 1);
    const void *wide = dropped(CVC_F64, 0.3, 1, draws, 1);
    CHECK(fabs((double)zeros_of(CVC_F32, y) / SIZE - 0.3) < 0.005);
    for (int64_t i = 0; i < SIZE; i++) {
      const double value = get(CVC_F32, y, i);
      CHECK(value == 0 || fabs(value - 1 / 0.7) < 1e-6);
      CHECK((value == 0) == (get(CVC_F64, wide, i) == 0));
    }
    for (int threads = 2; threads <= 3; threads++)
      CHECK(same_bytes(CVC_F32, y, dropped(CVC_F32, 0.3, 1, draws, threads),
                       SIZE));
    const int64_t others[][2] = {{43, 7}, {42, 8}, {42 + (1LL << 32), 7}};
    for (int i = 0; i < 3; i++)
      CHECK(!same_bytes(CVC_F32, y, dropped(CVC_F32, 0.3, 1, others[i], 1),
                        SIZE));
    CHECK(!same_bytes(CVC_F32, y, dropped(CVC_F32, 0.3, 2, draws, 1), SIZE));
    CHECK(zeros_of(CVC_F32, dropped(CVC_F32, 0, 1, draws, 1)) == 0);
    CHECK(zeros_of(CVC_F32, dropped(CVC_F32, 1, 1, draws, 1)) == SIZE);
    release_arrays();
  }
  float x[4] = {0};
  const cvc_dropout bad = {CVC_F32, 4, 0, 1.5}, good = {CVC_F32, 4, 0, 0.5};
  CHECK_STATUS(cvc_dropout_apply(&bad, draws, x, x, NULL), CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_dropout_apply(&good, NULL, x, x, NULL), CVC_BAD_ARGUMENT);
  return report("dropout");
}
