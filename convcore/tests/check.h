/**
 * What the C tests share: checks that count, arrays between guard pages,
 * random numbers. A test is one program; main ends with `return report(name);`.
 */
#ifndef CVC_TESTS_CHECK_H
#define CVC_TESTS_CHECK_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../include/convcore.h"

#define UNUSED __attribute__((unused))

/* ----------------------------------------------------------------- checks */

static int checks_done, checks_failed;
static char context[200]; /* the case that runs, for messages */

static void check(bool passed, const char *file, int line, const char *what) {
  checks_done++;
  if (passed) return;
  if (++checks_failed <= 20)
    printf("%s:%d: %s  [%s]\n", file, line, what, context);
}

#define CHECK(condition) check(condition, __FILE__, __LINE__, #condition)

/** A call whose status is `expected`. */
#define CHECK_STATUS(call, expected)                                       \
  do {                                                                     \
    const cvc_status got_ = (call);                                        \
    if (got_ != (expected)) printf("status %d: ", got_);                   \
    check(got_ == (expected), __FILE__, __LINE__, #call " is " #expected); \
  } while (0)
#define CHECK_OK(call) CHECK_STATUS(call, CVC_OK)

static int report(const char *name) {
  printf("%-12s %-8s %6d checks, %d failed\n", name,
         cvc_isa() ? cvc_isa() : "-", checks_done, checks_failed);
  return checks_failed > 0;
}

/* ----------------------------------------------------------------- arrays */

/* Arrays end at an unreadable page, or begin after one, by turns: a test runs
 * its cases once for each side. */
static bool guard_before;

static struct {
  void *pages;
  size_t bytes;
} arrays[256];
static int n_arrays;

UNUSED static size_t bytes_of(cvc_dtype dtype) {
  return dtype == CVC_U8 ? 1 : dtype == CVC_F32 ? 4 : 8;
}

/** `bytes` bytes of 0xA5, their address a multiple of `alignment`. */
UNUSED static void *guarded(size_t bytes, size_t alignment) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  const size_t inside = (bytes + page - 1) / page * page;
  char *pages = mmap(NULL, inside + 2 * page, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED || n_arrays == 256) {
    printf("no memory for the test's arrays\n");
    exit(1);
  }
  mprotect(pages, page, PROT_NONE);
  mprotect(pages + page + inside, page, PROT_NONE);
  arrays[n_arrays].pages = pages;
  arrays[n_arrays++].bytes = inside + 2 * page;
  const size_t shift =
      guard_before ? 0 : (inside - bytes) / alignment * alignment;
  return memset(pages + page + shift, 0xA5, bytes);
}

UNUSED static void *new_array(cvc_dtype dtype, int64_t size) {
  return guarded((size_t)size * bytes_of(dtype), bytes_of(dtype));
}

/** From now on nothing may write to the arrays that exist. */
UNUSED static void protect_arrays(void) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  for (int i = 0; i < n_arrays; i++)
    mprotect((char *)arrays[i].pages + page, arrays[i].bytes - 2 * page,
             PROT_READ);
}

UNUSED static void release_arrays(void) {
  while (n_arrays > 0) {
    n_arrays--;
    munmap(arrays[n_arrays].pages, arrays[n_arrays].bytes);
  }
}

UNUSED static double get(cvc_dtype dtype, const void *array, int64_t i) {
  switch (dtype) {
    case CVC_F32: return (double)((const float *)array)[i];
    case CVC_F64: return ((const double *)array)[i];
    case CVC_U8: return ((const uint8_t *)array)[i];
    case CVC_I64: return (double)((const int64_t *)array)[i];
  }
  return NAN;
}

UNUSED static void set(cvc_dtype dtype, void *array, int64_t i, double value) {
  switch (dtype) {
    case CVC_F32: ((float *)array)[i] = (float)value; break;
    case CVC_F64: ((double *)array)[i] = value; break;
    case CVC_U8: ((uint8_t *)array)[i] = (uint8_t)value; break;
    case CVC_I64: ((int64_t *)array)[i] = (int64_t)value; break;
  }
}

/* ---------------------------------------------------------------- numbers */

static uint64_t random_state = 1;

/** Uniform in [-1, 1); the same sequence in every run. */
UNUSED static double uniform(void) {
  random_state = random_state * 6364136223846793005U + 1442695040888963407U;
  return (double)(int64_t)(random_state >> 11) * 0x1p-52 - 1;
}

UNUSED static void *random_array(cvc_dtype dtype, int64_t size) {
  void *array = new_array(dtype, size);
  for (int64_t i = 0; i < size; i++) set(dtype, array, i, uniform());
  return array;
}

/** max |got - wanted| / max(max |wanted|, scale); infinite when one is NaN. */
UNUSED static double error_beside(cvc_dtype dtype, const void *got,
                                  const double *wanted, int64_t size,
                                  double scale) {
  double error = 0;
  for (int64_t i = 0; i < size; i++) {
    const double difference = fabs(get(dtype, got, i) - wanted[i]);
    if (isnan(difference)) return INFINITY;
    error = fmax(error, difference);
    scale = fmax(scale, fabs(wanted[i]));
  }
  return error > 0 ? error / scale : 0;
}

UNUSED static double error_of(cvc_dtype dtype, const void *got,
                              const double *wanted, int64_t size) {
  return error_beside(dtype, got, wanted, size, 0);
}

UNUSED static bool same_bytes(cvc_dtype dtype, const void *a, const void *b,
                              int64_t size) {
  return memcmp(a, b, (size_t)size * bytes_of(dtype)) == 0;
}

UNUSED static bool untouched(cvc_dtype dtype, const void *array, int64_t size) {
  for (size_t i = 0; i < (size_t)size * bytes_of(dtype); i++)
    if (((const uint8_t *)array)[i] != 0xA5) return false;
  return true;
}

UNUSED static int64_t volume(const int64_t size[3]) {
  return size[0] * size[1] * size[2];
}

/** Offset of [n][c][pixel], or [n][pixel][c]. */
UNUSED static int64_t offset_of(cvc_layout layout, int64_t c_total,
                                int64_t pixels, int64_t n, int64_t c,
                                int64_t pixel) {
  return layout == CVC_CHANNELS_FIRST ? (n * c_total + c) * pixels + pixel
                                      : (n * pixels + pixel) * c_total + c;
}

#endif /* CVC_TESTS_CHECK_H */
