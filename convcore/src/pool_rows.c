/** Pooling: which taps of the windows of a row lie inside the input. */
#include "pool.h"

enum { BLOCK_PIXELS = 4096 }; /* of a segment; bounds the working memory */

cvc_axis cvc_pool_axis(const cvc_pool *pool, int i) {
  return (cvc_axis){.first = 0,
                    .step = 1,
                    .count = pool->out[i],
                    .source_size = pool->size[i],
                    .source_step = pool->stride[i],
                    .taps = pool->kernel[i],
                    .offset = -pool->pad_before[i],
                    .offset_step = pool->dilation[i],
                    .tap = 0,
                    .tap_step = 1};
}

cvc_region cvc_pool_taps(const cvc_axis *axis, int64_t output) {
  cvc_region region;
  cvc_axis_regions(axis, output, output + 1, &region);
  return region;
}

int64_t cvc_pool_carve(const pool_pass *pass, char *memory, pool_space *space) {
  const cvc_pool *pool = pass->pool;
  const int64_t taps = cvc_volume(pool->kernel);
  const int64_t pointers = 2 * taps + BYTE_TAPS;
  const int64_t row = cvc_min(pool->out[2], BLOCK_PIXELS) * pass->c;
  if (space) {
    space->offset = (ptrdiff_t *)memory;
    space->position = space->offset + taps;
    space->by_tap = space->position + taps;
    space->tap = (int32_t *)(space->offset + pointers);
    space->row = space->tap + taps;
  }
  return cvc_round_up(pointers * (int64_t)sizeof(ptrdiff_t) +
                          (taps + row) * (int64_t)sizeof(int32_t),
                      64);
}

int64_t cvc_pool_regions_bytes(const cvc_pool *pool) {
  return cvc_round_up((2 * pool->kernel[2] + 1) * (int64_t)sizeof(cvc_region),
                      64);
}

void cvc_pool_set_regions(pool_pass *pass, cvc_region *regions) {
  const cvc_pool *pool = pass->pool;
  const cvc_axis axis = cvc_pool_axis(pool, 2);
  pass->n_regions = cvc_axis_regions(&axis, 0, pool->out[2], regions);
  pass->regions = regions;
  const int64_t padded =
      pool->size[2] + pool->pad_before[2] + pool->pad_after[2];
  const int64_t room = padded - pool->dilation[2] * (pool->kernel[2] - 1) - 1;
  pass->whole = room < 0 ? 0 : room / pool->stride[2] + 1;
}

/** Taps of an axis that lie inside the padded input. */
static int64_t padded_taps(const cvc_pool *pool, int i, int64_t output) {
  const int64_t begin = output * pool->stride[i] - pool->pad_before[i];
  const int64_t end = pool->size[i] + pool->pad_after[i];
  return cvc_min(pool->kernel[i], cvc_ceil_div(end - begin, pool->dilation[i]));
}

static double divisor_of(const cvc_pool *pool, const cvc_region valid[3]) {
  if (pool->divisor) return (double)pool->divisor;
  int64_t count = 1;
  for (int i = 0; i < 3; i++)
    count *= pool->count_include_pad ? padded_taps(pool, i, valid[i].first)
                                     : valid[i].high - valid[i].low;
  return (double)cvc_max(count, 1); /* without taps the sum is 0 */
}

/** Fill the tables of valid taps; the position of the first. */
static int64_t find_taps(const pool_pass *pass, const cvc_region valid[3],
                         const pool_space *space, cvc_window *window) {
  const cvc_pool *pool = pass->pool;
  int64_t taps = 0, first = 0, at[3];
  for (int64_t t = valid[0].low; t < valid[0].high; t++)
    for (int64_t r = valid[1].low; r < valid[1].high; r++)
      for (int64_t s = valid[2].low; s < valid[2].high; s++) {
        const int64_t tap[3] = {t, r, s};
        for (int i = 0; i < 3; i++)
          at[i] = valid[i].first * pool->stride[i] - pool->pad_before[i] +
                  tap[i] * pool->dilation[i];
        const int64_t position =
            (at[0] * pool->size[1] + at[1]) * pool->size[2] + at[2];
        if (taps == 0) first = position;
        space->position[taps] = position - first;
        space->offset[taps] = (position - first) * pass->c;
        space->tap[taps] =
            (int32_t)((t * pool->kernel[1] + r) * pool->kernel[2] + s);
        taps++;
      }
  window->offset = space->offset;
  window->tap = space->tap;
  window->taps = taps;
  return first;
}

void cvc_pool_visit_row(const pool_pass *pass, const pool_space *space,
                        int64_t image, int64_t d, int64_t h, int64_t c,
                        int64_t channels) {
  const cvc_pool *pool = pass->pool;
  const cvc_axis axes[2] = {cvc_pool_axis(pool, 0), cvc_pool_axis(pool, 1)};
  const int64_t row =
      ((image * pool->out[0] + d) * pool->out[1] + h) * pool->out[2];
  cvc_region valid[3] = {cvc_pool_taps(&axes[0], d),
                         cvc_pool_taps(&axes[1], h)};
  pool_segment s = {.window = {.channels = channels,
                               .x_step = pool->stride[2] * pass->c,
                               .y_step = pass->c}};
  for (int64_t q = 0; q < pass->n_regions; q++) {
    valid[2] = pass->regions[q];
    const int64_t end = valid[2].first + valid[2].count;
    for (int64_t w = valid[2].first; w < end; w += s.window.pixels) {
      /* Windows that reach beyond the padding have divisors of their own. */
      s.window.pixels = w < pass->whole ? cvc_min(pass->whole, end) - w : 1;
      s.window.pixels = cvc_min(s.window.pixels, BLOCK_PIXELS);
      valid[2].first = w;
      s.position = find_taps(pass, valid, space, &s.window);
      s.divisor = divisor_of(pool, valid);
      s.x = (image * cvc_volume(pool->size) + s.position) * pass->c + c;
      s.y = (row + w) * pass->c + c;
      pass->function(pass, space, &s);
    }
  }
}
