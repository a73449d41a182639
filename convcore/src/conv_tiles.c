#include "conv.h"

#define STREAM_BYTES (24 * 1024 * 1024) /* the last-level cache keeps less */

cvc_stores cvc_stores_of(const void *target, int64_t row, int64_t bytes) {
  const bool aligned = (uintptr_t)target % 64 == 0 && row % 64 == 0;
  return aligned && bytes >= STREAM_BYTES ? CVC_STORES_STREAM
                                          : CVC_STORES_PLAIN;
}

void cvc_run_tiles(const cvc_kernels *kernels, cvc_tile *tile, int64_t rows,
                   int64_t bytes) {
  const int64_t tiles = cvc_ceil_div(rows, kernels->mr);
  const void *a = tile->a, *residual = tile->residual;
  const void *row_bias = tile->row_bias;
  void *c = tile->c;
  for (int64_t i = 0; i < tiles; i++) {
    const int64_t first = i * rows / tiles;
    tile->rows = (int)((i + 1) * rows / tiles - first);
    tile->a = cvc_at_const(a, first * tile->a_row, bytes);
    tile->c = cvc_at(c, first * tile->c_row, bytes);
    if (row_bias) tile->row_bias = cvc_at_const(row_bias, first, bytes);
    if (residual)
      tile->residual = cvc_at_const(residual, first * tile->c_row, bytes);
    kernels->tile(tile);
    if (!tile->next) continue;
    tile->next = cvc_at_const(tile->next, tile->next_tile, bytes);
    if (tile->next_end && tile->next >= tile->next_end) tile->next = NULL;
  }
}
