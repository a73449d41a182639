/** Kernels for AVX-512 (F, BW, DQ, VL): 32 vector registers, a tile of
 * 14 x 2. */
#if defined(__x86_64__) && !defined(CVC_NO_AVX512)
#include <immintrin.h>

#include "../kernels/kernels.h"

#if defined(__clang__)
#pragma clang attribute push(                                               \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), \
    apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")
#endif

#define CVC_LANES_OF(lanes) ((1u << (lanes)) - 1)

/* What GCC's vectors cannot say, as instantiate.h asks for it. */
#define CVC_PARTIAL
CVC_INLINE __m512 f32_load_lanes__avx512(const float *p, int lanes) {
  return _mm512_maskz_loadu_ps((__mmask16)CVC_LANES_OF(lanes), p);
}
CVC_INLINE __m512d f64_load_lanes__avx512(const double *p, int lanes) {
  return _mm512_maskz_loadu_pd((__mmask8)CVC_LANES_OF(lanes), p);
}
CVC_INLINE void f32_store_lanes__avx512(float *p, int lanes, __m512 v) {
  _mm512_mask_storeu_ps(p, (__mmask16)CVC_LANES_OF(lanes), v);
}
CVC_INLINE void f64_store_lanes__avx512(double *p, int lanes, __m512d v) {
  _mm512_mask_storeu_pd(p, (__mmask8)CVC_LANES_OF(lanes), v);
}
CVC_INLINE __m512 f32_above__avx512(__m512 a, __m512 b) {
  return _mm512_max_ps(a, b);
}
CVC_INLINE __m512 f32_below__avx512(__m512 a, __m512 b) {
  return _mm512_min_ps(a, b);
}
CVC_INLINE __m512d f64_above__avx512(__m512d a, __m512d b) {
  return _mm512_max_pd(a, b);
}
CVC_INLINE __m512d f64_below__avx512(__m512d a, __m512d b) {
  return _mm512_min_pd(a, b);
}
CVC_INLINE __m512 f32_square_root__avx512(__m512 v) {
  return _mm512_sqrt_ps(v);
}
CVC_INLINE __m512d f64_square_root__avx512(__m512d v) {
  return _mm512_sqrt_pd(v);
}
CVC_INLINE void f32_stream__avx512(float *p, __m512 v) {
  _mm512_stream_ps(p, v);
}
CVC_INLINE void f64_stream__avx512(double *p, __m512d v) {
  _mm512_stream_pd(p, v);
}

#define CVC_HALVES
CVC_INLINE __m256 f32_lower__avx512(__m512 v) {
  return _mm512_castps512_ps256(v);
}
CVC_INLINE __m256d f64_lower__avx512(__m512d v) {
  return _mm512_castpd512_pd256(v);
}
CVC_INLINE __m512 f32_widened__avx512(__m256 v) {
  return _mm512_zextps256_ps512(v);
}
CVC_INLINE __m512d f64_widened__avx512(__m256d v) {
  return _mm512_zextpd256_pd512(v);
}

#define CVC_MASKS
CVC_INLINE __m512 f32_add_taps__avx512(__m512 sum, const uint8_t *index,
                                       int32_t tap, int lanes,
                                       const float *dy) {
  const __mmask16 all = (__mmask16)CVC_LANES_OF(lanes);
  const __m128i taps = _mm_maskz_loadu_epi8(all, index);
  const __mmask16 of = _mm_cmpeq_epi8_mask(taps, _mm_set1_epi8((char)tap));
  return _mm512_mask_add_ps(sum, of & all, sum, _mm512_maskz_loadu_ps(all, dy));
}
CVC_INLINE __m512d f64_add_taps__avx512(__m512d sum, const uint8_t *index,
                                        int32_t tap, int lanes,
                                        const double *dy) {
  const __mmask8 all = (__mmask8)CVC_LANES_OF(lanes);
  const __m128i taps = _mm_maskz_loadu_epi8(all, index);
  const __mmask16 of = _mm_cmpeq_epi8_mask(taps, _mm_set1_epi8((char)tap));
  return _mm512_mask_add_pd(sum, (__mmask8)of & all, sum,
                            _mm512_maskz_loadu_pd(all, dy));
}
typedef struct f32_pick__avx512 {
  __m512i lane;
  __m128i index_lane;
} f32_pick__avx512;
typedef struct f32_picked__avx512 {
  __m128i taps;
  __m512 dy;
} f32_picked__avx512;
CVC_INLINE f32_pick__avx512 f32_pick_of__avx512(const uint8_t *lane) {
  const __m128i from = _mm_loadu_si128((const __m128i *)lane);
  return (f32_pick__avx512){_mm512_cvtepu8_epi32(from), from};
}
CVC_INLINE f32_picked__avx512 f32_picked_from__avx512(f32_pick__avx512 pick,
                                                      const uint8_t *index,
                                                      const float *dy,
                                                      int lanes) {
  const __mmask16 all = (__mmask16)CVC_LANES_OF(lanes);
  return (f32_picked__avx512){
      _mm_shuffle_epi8(_mm_maskz_loadu_epi8(all, index), pick.index_lane),
      _mm512_permutexvar_ps(pick.lane, _mm512_maskz_loadu_ps(all, dy))};
}
typedef __m128i f32_taps__avx512;
CVC_INLINE __m128i f32_taps_of__avx512(const uint8_t *tap) {
  return _mm_loadu_si128((const __m128i *)tap);
}
CVC_INLINE __m512 f32_add_picked__avx512(__m512 sum, f32_picked__avx512 picked,
                                         __m128i taps) {
  return _mm512_mask_add_ps(
      sum, (__mmask16)_mm_cmpeq_epi8_mask(picked.taps, taps), sum, picked.dy);
}
typedef f32_pick__avx512 f64_pick__avx512;
typedef struct f64_picked__avx512 {
  __m128i taps;
  __m512d dy;
} f64_picked__avx512;
CVC_INLINE f64_pick__avx512 f64_pick_of__avx512(const uint8_t *lane) {
  const __m128i from = _mm_loadl_epi64((const __m128i *)lane);
  return (f64_pick__avx512){_mm512_cvtepu8_epi64(from), from};
}
CVC_INLINE f64_picked__avx512 f64_picked_from__avx512(f64_pick__avx512 pick,
                                                      const uint8_t *index,
                                                      const double *dy,
                                                      int lanes) {
  const __mmask8 all = (__mmask8)CVC_LANES_OF(lanes);
  return (f64_picked__avx512){
      _mm_shuffle_epi8(_mm_maskz_loadu_epi8(all, index), pick.index_lane),
      _mm512_permutexvar_pd(pick.lane, _mm512_maskz_loadu_pd(all, dy))};
}
typedef __m128i f64_taps__avx512;
CVC_INLINE __m128i f64_taps_of__avx512(const uint8_t *tap) {
  return _mm_loadl_epi64((const __m128i *)tap);
}
CVC_INLINE __m512d f64_add_picked__avx512(__m512d sum,
                                          f64_picked__avx512 picked,
                                          __m128i taps) {
  return _mm512_mask_add_pd(
      sum, (__mmask8)_mm_cmpeq_epi8_mask(picked.taps, taps), sum, picked.dy);
}

#define CVC_ISA avx512
#define CVC_VECTOR_BYTES 64
#define CVC_TILE_ROWS 14
#include "../kernels/instantiate.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
