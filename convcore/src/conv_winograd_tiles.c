/**
 * Where the tiles of Winograd's algorithm lie. Of its m outputs along an axis
 * only the last takes the point at infinity (A^T has a single entry there), so
 * a tile of m - 1 outputs is one of m without that point's products. An axis is
 * covered by as many whole tiles as are needed and by short ones: 14 outputs by
 * 4 + 4 + 3 + 3, which are 22 points instead of 24.
 */
#include "conv.h"

cvc_winograd_tiles cvc_winograd_tiles_of(int64_t n, const int64_t out[2],
                                         const int m[2]) {
  cvc_winograd_tiles tiles = {.m = {m[0], m[1]}};
  for (int i = 0; i < 2; i++) {
    const int64_t count = cvc_ceil_div(out[i], m[i]);
    tiles.out[i] = out[i];
    tiles.whole[i] = cvc_max(out[i] - (m[i] - 1) * count, 0);
    tiles.other[i] = count - tiles.whole[i];
  }
  const int64_t *whole = tiles.whole, *other = tiles.other;
  const int64_t counts[] = {whole[0] * other[1], whole[0] * whole[1],
                            other[0] * whole[1], other[0] * other[1]};
  for (int kind = 0; kind < 4; kind++)
    tiles.begin[kind + 1] = tiles.begin[kind] + n * counts[kind];
  return tiles;
}

/** Tile `index` along axis i, of the whole or of the short ones. */
static int64_t first_output(const cvc_winograd_tiles *tiles, int i, bool whole,
                            int64_t index) {
  return whole ? index * tiles->m[i]
               : tiles->whole[i] * tiles->m[i] + index * (tiles->m[i] - 1);
}

static int outputs(const cvc_winograd_tiles *tiles, int i, bool whole,
                   int64_t first) {
  return (int)cvc_min(tiles->m[i] - !whole, tiles->out[i] - first);
}

cvc_winograd_place cvc_winograd_place_of(const cvc_winograd_tiles *tiles,
                                         int64_t tile) {
  int kind = 0;
  while (tile >= tiles->begin[kind + 1]) kind++;
  const bool high = kind < 2, wide = kind == 1 || kind == 2;
  const int64_t rows = high ? tiles->whole[0] : tiles->other[0];
  const int64_t columns = wide ? tiles->whole[1] : tiles->other[1];
  const int64_t index = tile - tiles->begin[kind];
  const int64_t row = first_output(tiles, 0, high, index / columns % rows);
  const int64_t column = first_output(tiles, 1, wide, index % columns);
  return (cvc_winograd_place){.image = index / columns / rows,
                              .row = row,
                              .column = column,
                              .height = outputs(tiles, 0, high, row),
                              .width = outputs(tiles, 1, wide, column)};
}

cvc_winograd_range cvc_winograd_users(const cvc_winograd_tiles *tiles,
                                      bool last_row, bool last_column,
                                      int64_t first, int64_t count) {
  const int64_t begin = tiles->begin[last_column ? 1 : 0];
  const int64_t end = tiles->begin[!last_row ? last_column ? 3 : 4 : 2];
  const int64_t low = cvc_max(begin, first);
  const int64_t high = cvc_min(end, first + count);
  return (cvc_winograd_range){low - first, cvc_max(high - low, 0)};
}
