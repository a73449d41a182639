/**
 * Lines of Winograd's algorithm, and where its tiles lie. Of its m outputs
 * along an axis only the last takes the point at infinity (A^T has a single
 * entry there), so a tile of m - 1 outputs is one of m without that point's
 * products. An axis is covered by as many whole tiles as are needed and by
 * short ones: 14 outputs by 4 + 4 + 3 + 3, which are 22 points instead of 24.
 */
#include "conv.h"

cvc_winograd_line cvc_winograd_line_of(const cvc_conv *conv, cvc_pass pass,
                                       int axis, int m) {
  const int stride = (int)conv->stride[axis], taps = (int)conv->kernel[axis];
  if (stride == 2 && taps == 3)
    return (cvc_winograd_line){.split = true,
                               .m = CVC_SPLIT_OUTPUTS,
                               .r = taps,
                               .n = CVC_SPLIT_POINTS,
                               .s = 1,
                               .spread = pass == CVC_BACKWARD_DATA ? 2 : 1,
                               .step = pass == CVC_BACKWARD_DATA ? 1 : 2,
                               .weights = CVC_SPLIT_WEIGHTS,
                               .last = CVC_SPLIT_POINTS - 2};
  const int r = (int)cvc_ceil_div(taps, stride), outputs = r == 1 ? 1 : m;
  const int n = outputs + r - 1;
  return (cvc_winograd_line){.m = outputs,
                             .r = r,
                             .n = n,
                             .s = stride,
                             .spread = 1,
                             .step = stride,
                             .weights = n,
                             .last = n - 1};
}

int cvc_winograd_weight_at(const cvc_winograd_line *line, int point) {
  if (!line->split || point < 5) return point;
  return point == line->last ? 5 : 6; /* at infinity; the middle tap */
}

bool cvc_winograd_is_first(const cvc_winograd_line *line, int point) {
  return !line->split || point <= 5 || point == line->last;
}

int cvc_winograd_points(const cvc_winograd_line *line, int outputs) {
  return outputs < line->m ? line->last : line->n;
}

cvc_winograd_tiles cvc_winograd_tiles_of(int64_t n, const int64_t out[2],
                                         const cvc_winograd_line line[2]) {
  cvc_winograd_tiles tiles = {.m = {line[0].m, line[1].m}};
  for (int i = 0; i < 2; i++) {
    const int64_t m = tiles.m[i], count = cvc_ceil_div(out[i], m);
    tiles.out[i] = out[i];
    tiles.whole[i] = cvc_max(out[i] - (m - 1) * count, 0);
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
                                      const cvc_winograd_line line[2],
                                      int64_t point, int64_t first,
                                      int64_t count) {
  const bool high = point / line[1].n >= line[0].last;
  const bool wide = point % line[1].n >= line[1].last;
  const int64_t begin = tiles->begin[wide ? 1 : 0];
  const int64_t end = tiles->begin[high ? 2 : wide ? 3 : 4];
  const int64_t low = cvc_max(begin, first);
  const int64_t past = cvc_min(end, first + count);
  return (cvc_winograd_range){low - first, cvc_max(past - low, 0)};
}

void cvc_winograd_request(const cvc_winograd_tiles *tiles,
                          const cvc_winograd_source *source, int64_t tile,
                          int64_t part, int64_t parts) {
  if (tile >= tiles->begin[4]) return;
  const cvc_winograd_place at = cvc_winograd_place_of(tiles, tile);
  const int64_t column = at.column * source->step[1] + source->origin[1];
  const int64_t end = column + source->pixels[1];
  const int64_t fresh = tiles->m[1] * source->step[1];
  const int64_t left = cvc_max(end - fresh, 0);
  const int64_t bytes = (cvc_min(end, source->size[1]) - left) * source->pixel;
  const int64_t rows = source->pixels[0];
  for (int64_t i = part * rows / parts; i < (part + 1) * rows / parts; i++) {
    const int64_t row = at.row * source->step[0] + source->origin[0] + i;
    if (row < 0 || row >= source->size[0]) continue;
    /* A row of the pixels is a stream to the hardware, too. */
    const char *memory =
        (const char *)source->array +
        ((at.image * source->size[0] + row) * source->size[1] + left) *
            source->pixel;
    cvc_request(memory, bytes);
  }
}
