/** Kernels for AVX2 with FMA: 16 vector registers, a tile of 6 x 2. */
#if defined(__x86_64__) && !defined(CVC_NO_AVX2)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#define CVC_ISA avx2
#define CVC_VECTOR_BYTES 32
#define CVC_TILE_ROWS 6
#include "../kernels/instantiate.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
