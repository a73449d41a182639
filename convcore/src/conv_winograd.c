/**
 * Winograd convolution: forward, and the gradient with respect to x as a
 * forward pass with turned filters, of stride 1. 3x3 filters of stride 2 have
 * lines of their own (winograd_lines.inc); else a forward pass of another
 * stride is one of stride 1 whose input channels are those of stride x stride
 * pixels, with the filter's taps shared out among them. A block of tiles is
 * transformed into v[point][tile][c], multiplied point by point with the
 * transformed weights u[panel][point][c][width] into m[point][tile][k], and
 * transformed back with bias, residual and activation.
 */
#include <stdatomic.h>
#include <string.h>

#include "conv.h"

/* Bytes of v and m in a block, half of a second-level cache, and tiles. Where
 * the weights do not stay in it, they are read once per block. */
#define CACHE_BYTES (1024 * 1024)
#define LEAST_TILES 28
#define MOST_TILES 112
#define STREAM_BYTES (16 * 1024 * 1024)
/* Transformed weights are up to four times what they are made from. Plain ones
 * serve one run: where one block has all tiles they are made at their turn, so
 * many bytes at a time that they stay in the cache. */
#define FRESH_BYTES (256 * 1024)

enum {
  MOST_TAPS = 25, /* of a filter */
  TERMS = 144     /* taps of the filters that are brought into order at once */
};

typedef struct winograd {
  const cvc_conv_job *job;
  cvc_pass pass;
  const cvc_kernels *kernels;
  cvc_channels ch;
  int64_t bytes;
  cvc_winograd_line line[2]; /* along h and w */
  cvc_winograd_source source;
  int64_t target[2];        /* its size */
  cvc_winograd_tiles tiles; /* of all images */
  int64_t source_channels, target_channels;
  /* Channels of s pixels side by side; of s such rows: the terms. */
  int64_t channels, depth;
  int64_t points, weights;  /* of a tile; of a filter */
  int64_t panels, total;    /* total: all tiles */
  int64_t block, blocks;    /* tiles of a block; blocks */
  bool fresh;               /* u is made from plain weights at its turn, */
  int64_t terms;            /* of so many channels at a time */
  const void *direct;       /* that algorithm's panels, or NULL: */
  atomic_bool *unfinished;  /* it is missing */
  int64_t parts;            /* of a block that threads share */
  int64_t v_row, m_row;     /* elements of a tile, in whole vectors */
  int64_t v_point, m_point; /* elements between points */
  char *scratch;
  int64_t thread_bytes;
} winograd;

static winograd winograd_of(const cvc_conv *conv, cvc_pass pass, int m,
                            int threads) {
  winograd g = {.pass = pass,
                .kernels = cvc_kernels_of(conv->dtype),
                .ch = cvc_conv_channels(conv, pass),
                .bytes = cvc_dtype_bytes(conv->dtype)};
  const bool forward = pass == CVC_FORWARD;
  int64_t out[3];
  cvc_conv_out(conv, out);
  int64_t outputs[2];
  for (int i = 0; i < 2; i++) {
    const int64_t before = conv->pad_before[i + 1];
    const cvc_winograd_line line = cvc_winograd_line_of(conv, pass, i + 1, m);
    g.line[i] = line;
    g.source.size[i] = forward ? conv->size[i + 1] : out[i + 1];
    g.source.pixels[i] = (line.n - 1) * line.s / line.spread + line.s;
    g.source.step[i] = line.step;
    g.target[i] = forward ? out[i + 1] : conv->size[i + 1];
    g.source.origin[i] = forward      ? -before
                         : line.split ? (before - 1) / 2
                                      : before - (line.r - 1);
    outputs[i] = cvc_ceil_div(g.target[i], line.spread);
  }
  g.points = g.line[0].n * g.line[1].n;
  g.weights = g.line[0].weights * g.line[1].weights;
  g.source_channels = g.ch.reduced * conv->groups;
  g.source.pixel = g.source_channels * g.bytes;
  g.target_channels = forward ? cvc_conv_y_stride(conv) : conv->c;
  g.channels = g.ch.reduced * g.line[1].s;
  g.depth = g.channels * g.line[0].s;
  g.panels = cvc_panels(g.ch.produced, g.kernels);
  g.tiles = cvc_winograd_tiles_of(conv->n, outputs, g.line);
  g.total = g.tiles.begin[4];
  /* The last pixels may be less than a vector. */
  const int64_t vector = g.kernels->vector_length;
  g.v_row =
      cvc_round_up(g.depth - g.channels + cvc_max(g.channels, vector), vector);
  g.m_row = cvc_round_up(g.ch.produced, g.kernels->vector_length);
  const int64_t tile_bytes = g.points * (g.v_row + g.m_row) * g.bytes;
  const int64_t weight_bytes = g.weights * g.depth * g.m_row * g.bytes;
  const int64_t least = LEAST_TILES * (weight_bytes > CACHE_BYTES ? 2 : 1);
  const int64_t most =
      cvc_max(cvc_min(CACHE_BYTES / 2 / tile_bytes, MOST_TILES), least);
  g.blocks = cvc_max(cvc_ceil_div(g.total, most), 1);
  /* As many for each thread, but no smaller than a tile of the product. */
  const int64_t even = cvc_round_up(g.blocks, threads);
  if (g.blocks > 1 && g.total >= even * g.kernels->mr) g.blocks = even;
  g.block = cvc_ceil_div(g.total, g.blocks);
  g.fresh = conv->weights == CVC_WEIGHTS_PLAIN && g.blocks == 1 &&
            g.depth == g.ch.reduced;
  g.terms = g.depth;
  if (g.fresh) {
    const int64_t row_bytes = g.weights * g.kernels->nr * g.bytes;
    g.terms = cvc_ceil_div(
        g.depth, cvc_ceil_div(cvc_max(g.depth, 1) * row_bytes, FRESH_BYTES));
  }
  /* One cache line more than a multiple of 4 KB would need: points of a tile
   * must not all fall into one cache set. */
  const int64_t line = 64 / g.bytes;
  g.v_point = cvc_round_up(g.block * g.v_row, line) + line;
  g.m_point = cvc_round_up(g.block * g.m_row, line) + line;
  g.thread_bytes =
      cvc_round_up(g.points * (g.v_point + g.m_point) * g.bytes, 64);
  return g;
}

cvc_winograd_size cvc_winograd_sizes(const cvc_conv *conv, cvc_pass pass,
                                     int m) {
  const winograd g = winograd_of(conv, pass, m, 1);
  double products = 0;
  for (int64_t point = 0; point < g.points; point++)
    products +=
        (double)cvc_winograd_users(&g.tiles, g.line, point, 0, g.total).count;
  return (cvc_winograd_size){.points = g.points,
                             .weights = g.weights,
                             .tiles = g.total,
                             .products = products,
                             .blocks = g.blocks,
                             .channels = g.channels,
                             .depth = g.depth};
}

/* ------------------------------------------------------------- weights */

/** Elements between points of a panel: a cache line more, as for v and m. */
static int64_t u_point(const winograd *g, int64_t width) {
  return g->terms * width + 64 / g->bytes;
}

static int64_t u_offset(const winograd *g, int64_t group, int64_t panel) {
  const int64_t panels = group * g->panels + panel; /* before it */
  const int64_t columns = group * g->m_row + panel * g->kernels->nr;
  return g->weights * (g->depth * columns + panels * (64 / g->bytes));
}

bool cvc_winograd_plain(const cvc_conv *conv, cvc_pass pass, int m) {
  return winograd_of(conv, pass, m, 1).fresh;
}

int64_t cvc_winograd_weights(const cvc_conv *conv, cvc_pass pass, int m) {
  const winograd g = winograd_of(conv, pass, m, 1);
  return u_offset(&g, conv->groups, 0);
}

/** Every s-th tap of a filter, from (p, q) on, of `width` columns; 0 where the
 * filter has none. */
static void take_taps(const winograd *g, const cvc_conv *conv, int64_t p,
                      int64_t q, int64_t width, const void *w, char *taps) {
  const size_t bytes = (size_t)(width * g->bytes);
  const cvc_winograd_line *h = &g->line[0], *w_line = &g->line[1];
  for (int64_t i = p; i < h->r * h->s; i += h->s)
    for (int64_t j = q; j < w_line->r * w_line->s;
         j += w_line->s, taps += bytes) {
      if (i < conv->kernel[1] && j < conv->kernel[2])
        memcpy(taps,
               cvc_at_const(w, (i * conv->kernel[2] + j) * width, g->bytes),
               bytes);
      else
        memset(taps, 0, bytes);
    }
}

/** u of `count` channels from channel c on, of the panel of `width` columns
 * that begins at u, from their filters w[c][tap][width]. */
static void transform_filters(const winograd *g, const cvc_conv *conv,
                              int64_t width, int64_t c, int64_t count,
                              const void *w, void *u, cvc_stores stores) {
  const int64_t taps = conv->kernel[1] * conv->kernel[2];
  _Alignas(64) char taken[MOST_TAPS * CVC_TERM_BYTES];
  const int64_t s_w = g->line[1].s, parts = g->line[0].s * s_w;
  cvc_winograd_filter filter = {.nh = g->line[0].weights,
                                .nw = g->line[1].weights,
                                .rw = g->line[1].r,
                                .width = (int)width,
                                .turned = g->pass == CVC_BACKWARD_DATA,
                                .u_point = u_point(g, width),
                                .stores = stores};
  for (int64_t i = 0; i < count; i++)
    for (int64_t part = 0; part < parts; part++) {
      filter.w = cvc_at_const(w, i * taps * width, g->bytes);
      if (parts > 1) {
        take_taps(g, conv, part / s_w, part % s_w, width, filter.w, taken);
        filter.w = taken;
      }
      filter.u = cvc_at(u, (part * g->ch.reduced + c + i) * width, g->bytes);
      g->kernels->winograd_filter(&filter);
    }
}

void cvc_winograd_pack(const cvc_conv *conv, cvc_pass pass, int m,
                       int64_t group, int64_t panel, int64_t c, int64_t count,
                       const void *w, void *points) {
  const winograd g = winograd_of(conv, pass, m, 1);
  const bool streams = u_offset(&g, conv->groups, 0) * g.bytes >= STREAM_BYTES;
  transform_filters(&g, conv, cvc_panel_width(g.ch.produced, panel, g.kernels),
                    c, count, w,
                    cvc_at(points, u_offset(&g, group, panel), g.bytes),
                    streams ? CVC_STORES_STREAM : CVC_STORES_PLAIN);
  /* What was written past the caches is seen before the task's end is. */
  if (streams) atomic_thread_fence(memory_order_seq_cst);
}

/* -------------------------------------------------------- three phases */

/** A range of tiles of one block and group, with its memory. */
typedef struct block {
  int64_t first, count, group;
  void *v, *m;
} block;

/** Per-thread memory of the input transform. */
typedef struct margin {
  void *zeros;  /* of all channels: what lies outside */
  char *pixels; /* [n*n][channels]: what does in part */
} margin;

/** Channels of s pixels of source row `row` from column w on, not all of which
 * are inside. */
static const void *edge_of(const winograd *g, int64_t row, int64_t w,
                           int64_t first_channel, const margin *margin,
                           int64_t number) {
  const int64_t s = g->line[1].s, end = w + s, size = g->source.size[1];
  if (end <= 0 || w >= size) return margin->zeros;
  const int64_t low = cvc_max(w, 0), high = cvc_min(end, size);
  const void *from = cvc_at_const(
      g->source.array, (row * size + low) * g->source_channels + first_channel,
      g->bytes);
  /* Strided convolutions have one group: pixels are neighbours. */
  char *to = cvc_at(margin->pixels, number * g->channels, g->bytes);
  memset(to, 0, (size_t)(g->channels * g->bytes));
  memcpy(cvc_at(to, (low - w) * g->ch.reduced, g->bytes), from,
         (size_t)((high - low) * g->ch.reduced * g->bytes));
  return to;
}

/** Source index of element i of a line, of its outputs from `output` on; of a
 * split line of a gradient each element serves both kinds of points. */
static int64_t source_index(const winograd *g, int axis, int64_t output,
                            int i) {
  const cvc_winograd_line *line = &g->line[axis];
  return output * line->step + i * line->s / line->spread +
         g->source.origin[axis];
}

/** v of tiles [begin, end) of the block. */
static void transform_input(const winograd *g, const block *b, int64_t begin,
                            int64_t end, const margin *margin) {
  const cvc_winograd_line *lines = g->line;
  const void *pixels[CVC_MOST_POINTS];
  cvc_winograd_input input = {
      .nh = lines[0].n,
      .nw = lines[1].n,
      .pixels = pixels,
      .next = lines[1].m * lines[1].step * g->source_channels,
      .channels = g->channels,
      .v_point = g->v_point};
  const int64_t first_channel = b->group * g->ch.reduced;
  memset(margin->zeros, 0, (size_t)(g->channels * g->bytes));
  for (int64_t t = begin; t < end; t++) {
    const cvc_winograd_place at =
        cvc_winograd_place_of(&g->tiles, b->first + t);
    input.points_h = cvc_winograd_points(&lines[0], at.height);
    input.points_w = cvc_winograd_points(&lines[1], at.width);
    int64_t columns[CVC_MOST_LINE]; /* bytes from a row's begin, if inside */
    for (int j = 0; j < lines[1].n; j++) {
      const int64_t w = source_index(g, 1, at.column, j);
      const bool inside = w >= 0 && w + lines[1].s <= g->source.size[1];
      columns[j] = inside ? w * g->source.pixel : -1;
    }
    for (int p = 0; p < lines[0].s; p++) {
      for (int i = 0; i < lines[0].n; i++) {
        const void **row_pixels = pixels + i * lines[1].n;
        const int64_t h = source_index(g, 0, at.row, i) + p;
        const bool inside = h >= 0 && h < g->source.size[0];
        const int64_t row = at.image * g->source.size[0] + h;
        const char *first = /* of row 0 where there is no such row */
            (const char *)g->source.array +
            (inside ? row * g->source.size[1] * g->source.pixel : 0) +
            first_channel * g->bytes;
        for (int j = 0; j < lines[1].n; j++)
          row_pixels[j] =
              !inside ? margin->zeros
              : columns[j] >= 0
                  ? first + columns[j]
                  : edge_of(g, row, source_index(g, 1, at.column, j),
                            first_channel, margin, i * lines[1].n + j);
      }
      input.v = cvc_at(b->v, t * g->v_row + p * g->channels, g->bytes);
      g->kernels->winograd_input(&input);
    }
  }
}

static const ptrdiff_t no_offset = 0;

/** u of a panel, `count` terms from c on: as it was packed, or made now. */
static const void *panel_weights(const winograd *g, int64_t group,
                                 int64_t panel, int64_t c, int64_t count,
                                 void *fresh) {
  const cvc_conv_job *job = g->job;
  const cvc_conv *conv = job->conv;
  if (!g->fresh)
    return cvc_at_const(
        cvc_packed_second(conv, g->pass, job->choice, job->packed),
        u_offset(g, group, panel), g->bytes);
  const int64_t width = cvc_panel_width(g->ch.produced, panel, g->kernels);
  const int64_t most = TERMS / (conv->kernel[1] * conv->kernel[2]);
  _Alignas(64) char filters[TERMS * CVC_TERM_BYTES];
  for (int64_t i = 0; i < count; i += most) {
    const int64_t some = cvc_min(most, count - i);
    cvc_panel_filters(conv, g->pass, job->choice, job->packed, group, panel,
                      c + i, some, filters);
    transform_filters(g, conv, width, i, some, filters, fresh,
                      CVC_STORES_PLAIN);
  }
  return fresh;
}

/** Which points of the filters a point is multiplied with. */
static int64_t weights_of(const winograd *g, int64_t point) {
  const int n = g->line[1].n, at = (int)point;
  return cvc_winograd_weight_at(&g->line[0], at / n) * g->line[1].weights +
         cvc_winograd_weight_at(&g->line[1], at % n);
}

/** Request the pixels of the next block, some during each of the products. */
static void request_next(const winograd *g, const block *b, int64_t product) {
  const int64_t products = g->panels * g->points;
  const int64_t begin = product * b->count / products;
  const int64_t end = (product + 1) * b->count / products;
  for (int64_t t = begin; t < end; t++)
    cvc_winograd_request(&g->tiles, &g->source, b->first + b->count + t, 0, 1);
}

/** What u is made from after this, terms from c on of a panel before `end`. */
static cvc_memory_rows filters_at(const winograd *g, int64_t group,
                                  int64_t panel, int64_t end, int64_t c) {
  if (!g->fresh || panel >= end) return (cvc_memory_rows){0};
  return cvc_filter_rows(g->job->conv, g->pass, g->job->choice, g->job->packed,
                         group, panel, c, cvc_min(g->terms, g->depth - c));
}

/** Request some of them during each of a panel's products: they are rows that
 * lie far apart. */
static void request_filters(const winograd *g, const cvc_memory_rows *filters,
                            int64_t point) {
  const int64_t end = (point + 1) * filters->rows / g->points;
  for (int64_t i = point * filters->rows / g->points; i < end; i++)
    for (int64_t j = 0; j < filters->bytes; j += 64) /* to the second level */
      __builtin_prefetch(filters->at + i * filters->step + j, 0, 2);
}

/** `count` terms from c on of m of all tiles of the block, one panel; the
 * filters that come next are requested. */
static void multiply_terms(const winograd *g, const block *b, int64_t panel,
                           int64_t c, int64_t count, const void *u,
                           cvc_memory_rows filters) {
  const int64_t width = cvc_panel_width(g->ch.produced, panel, g->kernels);
  const int64_t k = panel * g->kernels->nr;
  for (int64_t point = 0; point < g->points; point++) {
    const cvc_winograd_range users =
        cvc_winograd_users(&g->tiles, g->line, point, b->first, b->count);
    const void *weights =
        cvc_at_const(u, weights_of(g, point) * u_point(g, width), g->bytes);
    const void *next =
        cvc_at_const(u, weights_of(g, point + 1) * u_point(g, width), g->bytes);
    cvc_tile tile = {
        .a = cvc_at_const(b->v, point * g->v_point + users.first * g->v_row + c,
                          g->bytes),
        .b = weights,
        .a_run = &no_offset,
        .b_run = &no_offset,
        .runs = 1,
        .length = count,
        .a_row = g->v_row,
        .a_step = 1,
        .b_step = width,
        .c = cvc_at(b->m, point * g->m_point + users.first * g->m_row + k,
                    g->bytes),
        .c_row = g->m_row,
        .columns = (int)width,
        .accumulate = c > 0,
        /* Two calls read all of the next point's weights. */
        .next = next != weights ? next : NULL,
        .next_tile = count * g->kernels->vector_length};
    cvc_run_tiles(g->kernels, &tile, users.count, g->bytes);
    request_next(g, b, panel * g->points + point);
    request_filters(g, &filters, point);
  }
}

/** m of all tiles of the block, panels [begin, end). */
static void multiply(const winograd *g, const block *b, int64_t begin,
                     int64_t end, void *fresh) {
  for (int64_t panel = begin; panel < end; panel++)
    for (int64_t c = 0; c < g->depth; c += g->terms) {
      const int64_t count = cvc_min(g->terms, g->depth - c);
      const void *u = panel_weights(g, b->group, panel, c, count, fresh);
      const bool same = c + count < g->depth;
      multiply_terms(g, b, panel, c, count, u,
                     filters_at(g, b->group, same ? panel : panel + 1, end,
                                same ? c + count : 0));
    }
}

/** y of tiles [begin, end) of the block. A tile with an infinity or NaN is
 * computed again by the direct algorithm, so that they appear where the
 * definition puts them and not all over the tile. */
static void transform_output(const winograd *g, const block *b, int64_t begin,
                             int64_t end, void *direct_scratch) {
  const cvc_conv_job *job = g->job;
  const cvc_winograd_line *lines = g->line;
  const int spread_h = lines[0].spread, spread_w = lines[1].spread;
  cvc_conv_job direct = *job;
  direct.packed = g->direct;
  const int64_t first_channel = b->group * g->ch.produced;
  cvc_winograd_output output = {
      .nh = lines[0].n,
      .nw = lines[1].n,
      .mh = lines[0].m * spread_h,
      .mw = lines[1].m * spread_w,
      .m_point = g->m_point,
      .channels = g->ch.produced,
      .y_row = g->target[1] * g->target_channels,
      .y_column = g->target_channels,
      .bias =
          job->bias ? cvc_at_const(job->bias, first_channel, g->bytes) : NULL,
      .activation = cvc_conv_activation(job->conv, g->pass)};
  for (int64_t t = begin; t < end; t++) {
    const cvc_winograd_place at =
        cvc_winograd_place_of(&g->tiles, b->first + t);
    const int64_t row = at.row * spread_h, column = at.column * spread_w;
    const int64_t pixel =
        (at.image * g->target[0] + row) * g->target[1] + column;
    const int64_t offset = pixel * g->target_channels + first_channel;
    output.m = cvc_at_const(b->m, t * g->m_row, g->bytes);
    output.y = cvc_at(job->target, offset, g->bytes);
    output.residual =
        job->residual ? cvc_at_const(job->residual, offset, g->bytes) : NULL;
    output.points_h = cvc_winograd_points(&lines[0], at.height);
    output.points_w = cvc_winograd_points(&lines[1], at.width);
    output.height = (int)cvc_min(at.height * spread_h, g->target[0] - row);
    output.width = (int)cvc_min(at.width * spread_w, g->target[1] - column);
    if (g->kernels->winograd_output(&output)) continue;
    if (!g->direct)
      atomic_store_explicit(g->unfinished, true, memory_order_relaxed);
    else
      cvc_direct_rectangle(&direct, g->pass, direct_scratch, at.image, b->group,
                           row, output.height, column, output.width);
  }
}

/* ------------------------------------------------------------ the blocks */

/** What a thread needs beside its block: memory for the direct algorithm, then
 * that of the margin and of weights. */
static int64_t zeros_bytes(const winograd *g) {
  return cvc_round_up(g->channels * g->bytes, 64);
}

static int64_t margin_bytes(const winograd *g) {
  const int64_t pixels =
      g->line[1].s > 1 ? g->points * g->channels * g->bytes : 0;
  return zeros_bytes(g) + cvc_round_up(pixels, 64);
}

static int64_t fresh_bytes(const winograd *g) {
  const int64_t most = u_point(g, cvc_min(g->m_row, g->kernels->nr));
  return g->fresh ? cvc_round_up(g->weights * most * g->bytes, 64) : 0;
}

static int64_t own_bytes(const winograd *g, const cvc_conv *conv) {
  return cvc_direct_scratch(conv, g->pass, 1) + margin_bytes(g) +
         fresh_bytes(g);
}

static void *direct_scratch(const winograd *g, int thread) {
  return g->scratch + thread * own_bytes(g, g->job->conv);
}

static void *fresh_of(const winograd *g, int thread) {
  return (char *)direct_scratch(g, thread + 1) - fresh_bytes(g);
}

static margin margin_of(const winograd *g, int thread) {
  char *zeros = (char *)fresh_of(g, thread) - margin_bytes(g);
  return (margin){.zeros = zeros, .pixels = zeros + zeros_bytes(g)};
}

static block block_at(const winograd *g, int64_t index, int64_t group,
                      int slot) {
  const int64_t first = index * g->total / g->blocks;
  char *memory = direct_scratch(g, g->job->threads);
  memory += slot * g->thread_bytes;
  return (block){.first = first,
                 .count = (index + 1) * g->total / g->blocks - first,
                 .group = group,
                 .v = memory,
                 .m = cvc_at(memory, g->points * g->v_point, g->bytes)};
}

/** Many blocks: each is one task. */
static void block_task(void *context, int64_t task, int thread) {
  const winograd *g = context;
  const block b = block_at(g, task / g->ch.groups, task % g->ch.groups, thread);
  const margin margin = margin_of(g, thread);
  transform_input(g, &b, 0, b.count, &margin);
  multiply(g, &b, 0, g->panels, fresh_of(g, thread));
  transform_output(g, &b, 0, b.count, direct_scratch(g, thread));
}

/** Few blocks: each phase of a block is shared by the threads. */
static block shared_block(const winograd *g, int64_t index) {
  return block_at(g, index / g->ch.groups, index % g->ch.groups, 0);
}

static void input_task(void *context, int64_t index, int64_t task, int thread) {
  const winograd *g = context;
  const block b = shared_block(g, index);
  const margin margin = margin_of(g, thread);
  transform_input(g, &b, task * b.count / g->parts,
                  (task + 1) * b.count / g->parts, &margin);
}

static void multiply_task(void *context, int64_t index, int64_t task,
                          int thread) {
  const winograd *g = context;
  const block b = shared_block(g, index);
  multiply(g, &b, task, task + 1, fresh_of(g, thread));
}

static void output_task(void *context, int64_t index, int64_t task,
                        int thread) {
  const winograd *g = context;
  const block b = shared_block(g, index);
  transform_output(g, &b, task * b.count / g->parts,
                   (task + 1) * b.count / g->parts, direct_scratch(g, thread));
}

/** The panels that the direct algorithm reads, of plain weights. */
static const cvc_choice by_panels = {.algorithm = CVC_DIRECT};

static int64_t panels_bytes(const winograd *g, const cvc_conv *conv) {
  if (!g->fresh) return 0;
  return cvc_round_up(cvc_packed_elements(conv, g->pass, by_panels) * g->bytes,
                      64);
}

int64_t cvc_winograd_scratch(const cvc_conv *conv, cvc_pass pass, int m,
                             int threads) {
  const winograd g = winograd_of(conv, pass, m, 1); /* the largest blocks */
  return panels_bytes(&g, conv) +
         threads * (g.thread_bytes + own_bytes(&g, conv));
}

static cvc_status run_blocks(winograd *g) {
  const cvc_conv_job *job = g->job;
  const int64_t tasks = g->blocks * g->ch.groups;
  if (tasks >= 2 * job->threads || tasks % job->threads == 0)
    return cvc_parallel(job->call, job->threads, tasks, block_task, g);
  g->parts = cvc_min(g->block, 4 * job->threads);
  const cvc_phase phases[] = {{g->parts, input_task},
                              {g->panels, multiply_task},
                              {g->parts, output_task}};
  return cvc_parallel_phases(job->call, job->threads, phases, 3, tasks, g);
}

cvc_status cvc_winograd_run(const cvc_conv_job *job, cvc_pass pass) {
  const cvc_conv *conv = job->conv;
  winograd g = winograd_of(conv, pass, job->choice.m, job->threads);
  atomic_bool unfinished = false;
  g.job = job;
  g.source.array = pass == CVC_FORWARD ? job->x : job->y;
  g.scratch = cvc_at(job->scratch, panels_bytes(&g, conv), 1);
  g.unfinished = &unfinished;
  if (!g.fresh) g.direct = job->packed;
  CVC_TRY(run_blocks(&g));
  if (!unfinished) return CVC_OK;
  /* Some tiles need the direct algorithm, and that its panels. */
  CVC_TRY(
      cvc_pack(conv, pass, by_panels, job->packed, job->scratch, job->call));
  g.direct = job->scratch;
  return run_blocks(&g);
}
