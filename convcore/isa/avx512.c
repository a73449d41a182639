/** Kernels for AVX-512 (F, BW, DQ, VL): 32 vector registers, a tile of
 * 14 x 2. */
#if defined(__x86_64__) && !defined(CVC_NO_AVX512)
#if defined(__clang__)
#pragma clang attribute push(                                               \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), \
    apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")
#endif
#define CVC_ISA avx512
#define CVC_VECTOR_BYTES 64
#define CVC_TILE_ROWS 14
#include "../kernels/instantiate.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
