/** Kernels for AVX2 with FMA: 16 vector registers, a tile of 6 x 2. */
#if defined(__x86_64__) && !defined(CVC_NO_AVX2)
#include <immintrin.h>
#include <stdint.h>

#include "../kernels/kernels.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

/* What GCC's vectors cannot say, as instantiate.h asks for it. */
#define CVC_PARTIAL
CVC_INLINE __m256i lanes_of(int words) { /* the first ones are set */
  static const int32_t table[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
  return _mm256_loadu_si256((const __m256i *)(table + 8 - words));
}
CVC_INLINE __m256 f32_load_lanes__avx2(const float *p, int lanes) {
  return _mm256_maskload_ps(p, lanes_of(lanes));
}
CVC_INLINE __m256d f64_load_lanes__avx2(const double *p, int lanes) {
  return _mm256_maskload_pd(p, lanes_of(2 * lanes));
}
CVC_INLINE void f32_store_lanes__avx2(float *p, int lanes, __m256 v) {
  _mm256_maskstore_ps(p, lanes_of(lanes), v);
}
CVC_INLINE void f64_store_lanes__avx2(double *p, int lanes, __m256d v) {
  _mm256_maskstore_pd(p, lanes_of(2 * lanes), v);
}
CVC_INLINE __m256 f32_above__avx2(__m256 a, __m256 b) {
  return _mm256_max_ps(a, b);
}
CVC_INLINE __m256 f32_below__avx2(__m256 a, __m256 b) {
  return _mm256_min_ps(a, b);
}
CVC_INLINE __m256d f64_above__avx2(__m256d a, __m256d b) {
  return _mm256_max_pd(a, b);
}
CVC_INLINE __m256d f64_below__avx2(__m256d a, __m256d b) {
  return _mm256_min_pd(a, b);
}
CVC_INLINE __m256 f32_square_root__avx2(__m256 v) { return _mm256_sqrt_ps(v); }
CVC_INLINE __m256d f64_square_root__avx2(__m256d v) {
  return _mm256_sqrt_pd(v);
}
CVC_INLINE void f32_stream__avx2(float *p, __m256 v) { _mm256_stream_ps(p, v); }
CVC_INLINE void f64_stream__avx2(double *p, __m256d v) {
  _mm256_stream_pd(p, v);
}

#define CVC_ISA avx2
#define CVC_VECTOR_BYTES 32
#define CVC_TILE_ROWS 6
#include "../kernels/instantiate.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
