/** Kernels for the compiler's baseline: SSE2 on x86-64, NEON on AArch64. */
#define CVC_ISA generic
#define CVC_VECTOR_BYTES 16
#define CVC_TILE_ROWS 6
#include "../kernels/instantiate.h"
