/**
 * Winograd convolution, stride 1: forward, and the gradient with respect to x
 * as a forward pass with turned filters. A block of tiles is transformed into
 * v[point][tile][c], multiplied point by point with the transformed weights
 * u[panel][point][c][width] into m[point][tile][k], and transformed back with
 * bias, residual and activation.
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

typedef struct winograd {
  const cvc_conv_job *job;
  cvc_pass pass;
  const cvc_kernels *kernels;
  cvc_channels ch;
  int64_t bytes;
  /* Along h and w: points, outputs and filter taps of a tile; sizes; source
   * index of the first tap of output 0; tiles. */
  int n[2], m[2], r[2];
  int64_t source[2], target[2], origin[2], tiles[2];
  int64_t source_channels, target_channels;
  int64_t points, panels, total; /* total: tiles of all images */
  int64_t block, blocks;         /* tiles of a block; blocks */
  int64_t parts;                 /* of a block that threads share */
  int64_t v_row, m_row;          /* elements of a tile, in whole vectors */
  int64_t v_point, m_point;      /* elements between points */
  char *scratch;
  int64_t thread_bytes;
} winograd;

static void set_tile(winograd *g, const cvc_conv *conv, int m) {
  for (int i = 0; i < 2; i++) {
    g->r[i] = (int)conv->kernel[i + 1];
    g->m[i] = g->r[i] == 1 ? 1 : m;
    g->n[i] = g->m[i] + g->r[i] - 1;
  }
  g->points = g->n[0] * g->n[1];
}

int64_t cvc_winograd_points(const cvc_conv *conv, int m) {
  winograd g;
  set_tile(&g, conv, m);
  return g.points;
}

static winograd winograd_of(const cvc_conv *conv, cvc_pass pass, int m,
                            int threads) {
  winograd g = {.pass = pass,
                .kernels = cvc_kernels_of(conv->dtype),
                .ch = cvc_conv_channels(conv, pass),
                .bytes = cvc_dtype_bytes(conv->dtype)};
  const bool forward = pass == CVC_FORWARD;
  int64_t out[3];
  cvc_conv_out(conv, out);
  set_tile(&g, conv, m);
  for (int i = 0; i < 2; i++) {
    const int64_t before = conv->pad_before[i + 1];
    g.source[i] = forward ? conv->size[i + 1] : out[i + 1];
    g.target[i] = forward ? out[i + 1] : conv->size[i + 1];
    g.origin[i] = forward ? -before : before - (g.r[i] - 1);
    g.tiles[i] = cvc_ceil_div(g.target[i], g.m[i]);
  }
  g.source_channels = g.ch.reduced * conv->groups;
  g.target_channels = forward ? cvc_conv_y_stride(conv) : conv->c;
  g.panels = cvc_panels(g.ch.produced, g.kernels);
  g.total = conv->n * g.tiles[0] * g.tiles[1];
  g.v_row = cvc_round_up(g.ch.reduced, g.kernels->vector_length);
  g.m_row = cvc_round_up(g.ch.produced, g.kernels->vector_length);
  const int64_t tile_bytes = g.points * (g.v_row + g.m_row) * g.bytes;
  const int64_t weight_bytes = g.points * g.ch.reduced * g.m_row * g.bytes;
  const int64_t least = LEAST_TILES * (weight_bytes > CACHE_BYTES ? 2 : 1);
  const int64_t most =
      cvc_max(cvc_min(CACHE_BYTES / 2 / tile_bytes, MOST_TILES), least);
  g.blocks = cvc_max(cvc_ceil_div(g.total, most), 1);
  /* As many for each thread, but no smaller than a tile of the product. */
  const int64_t even = cvc_round_up(g.blocks, threads);
  if (g.blocks > 1 && g.total >= even * g.kernels->mr) g.blocks = even;
  g.block = cvc_ceil_div(g.total, g.blocks);
  /* One cache line more than a multiple of 4 KB would need: points of a tile
   * must not all fall into one cache set. */
  const int64_t line = 64 / g.bytes;
  g.v_point = cvc_round_up(g.block * g.v_row, line) + line;
  g.m_point = cvc_round_up(g.block * g.m_row, line) + line;
  g.thread_bytes =
      cvc_round_up(g.points * (g.v_point + g.m_point) * g.bytes, 64);
  return g;
}

void cvc_winograd_blocks(const cvc_conv *conv, cvc_pass pass, int m,
                         int64_t *tiles, int64_t *blocks) {
  const winograd g = winograd_of(conv, pass, m, 1);
  *tiles = g.total;
  *blocks = g.blocks;
}

/* ------------------------------------------------------------- weights */

/** Elements between points of a panel: a cache line more, as for v and m. */
static int64_t u_point(const winograd *g, int64_t width) {
  return g->ch.reduced * width + 64 / g->bytes;
}

static int64_t u_offset(const winograd *g, int64_t group, int64_t panel) {
  const int64_t panels = group * g->panels + panel; /* before it */
  const int64_t columns = group * g->m_row + panel * g->kernels->nr;
  return g->points * (g->ch.reduced * columns + panels * (64 / g->bytes));
}

int64_t cvc_winograd_weights(const cvc_conv *conv, cvc_pass pass, int m) {
  const winograd g = winograd_of(conv, pass, m, 1);
  return u_offset(&g, conv->groups, 0);
}

void cvc_winograd_pack(const cvc_conv *conv, cvc_pass pass, int m,
                       int64_t group, int64_t panel, int64_t c, int64_t count,
                       const void *w, void *points) {
  const winograd g = winograd_of(conv, pass, m, 1);
  const int64_t width = cvc_panel_width(g.ch.produced, panel, g.kernels);
  const int64_t taps = g.r[0] * g.r[1];
  cvc_winograd_filter filter = {.nh = g.n[0],
                                .nw = g.n[1],
                                .rw = g.r[1],
                                .width = (int)width,
                                .turned = pass == CVC_BACKWARD_DATA,
                                .u_point = u_point(&g, width)};
  const int64_t bytes = u_offset(&g, conv->groups, 0) * g.bytes;
  if (bytes >= STREAM_BYTES) filter.stores = CVC_STORES_STREAM;
  for (int64_t i = 0; i < count; i++) {
    filter.w = cvc_at_const(w, i * taps * width, g.bytes);
    filter.u =
        cvc_at(points, u_offset(&g, group, panel) + (c + i) * width, g.bytes);
    g.kernels->winograd_filter(&filter);
  }
  /* What was written past the caches is seen before the task's end is. */
  if (filter.stores == CVC_STORES_STREAM)
    atomic_thread_fence(memory_order_seq_cst);
}

/* -------------------------------------------------------- three phases */

/** Where a tile lies: image, first output row and column. */
typedef struct place {
  int64_t image, row, column;
} place;

static place place_of(const winograd *g, int64_t tile) {
  const int64_t per_image = g->tiles[0] * g->tiles[1];
  return (place){.image = tile / per_image,
                 .row = tile % per_image / g->tiles[1] * g->m[0],
                 .column = tile % g->tiles[1] * g->m[1]};
}

/** A range of tiles of one block and group, with its memory. */
typedef struct block {
  int64_t first, count, group;
  void *v, *m;
} block;

/** v of tiles [begin, end) of the block; `zeros` stands for the padding. */
static void transform_input(const winograd *g, const block *b, int64_t begin,
                            int64_t end, void *zeros) {
  const void *pixels[8 * 8];
  cvc_winograd_input input = {.nh = g->n[0],
                              .nw = g->n[1],
                              .pixels = pixels,
                              .next = g->m[1] * g->source_channels,
                              .channels = g->ch.reduced,
                              .v_point = g->v_point};
  const void *source = g->pass == CVC_FORWARD ? g->job->x : g->job->y;
  memset(zeros, 0, (size_t)(g->ch.reduced * g->bytes));
  for (int64_t t = begin; t < end; t++) {
    const place at = place_of(g, b->first + t);
    for (int i = 0; i < g->n[0]; i++) {
      const int64_t h = at.row + g->origin[0] + i;
      const int64_t row = (at.image * g->source[0] + h) * g->source[1];
      for (int j = 0; j < g->n[1]; j++) {
        const int64_t w = at.column + g->origin[1] + j;
        const bool inside =
            h >= 0 && h < g->source[0] && w >= 0 && w < g->source[1];
        const int64_t offset =
            (row + w) * g->source_channels + b->group * g->ch.reduced;
        pixels[i * g->n[1] + j] =
            inside ? cvc_at_const(source, offset, g->bytes) : zeros;
      }
    }
    input.v = cvc_at(b->v, t * g->v_row, g->bytes);
    g->kernels->winograd_input(&input);
  }
}

static const ptrdiff_t no_offset = 0;

/** m of all tiles of the block, panels [begin, end). */
static void multiply(const winograd *g, const block *b, int64_t begin,
                     int64_t end) {
  const void *u =
      cvc_packed_second(g->job->conv, g->pass, g->job->choice, g->job->packed);
  for (int64_t panel = begin; panel < end; panel++) {
    const int64_t width = cvc_panel_width(g->ch.produced, panel, g->kernels);
    const int64_t k = panel * g->kernels->nr;
    const void *panel_u =
        cvc_at_const(u, u_offset(g, b->group, panel), g->bytes);
    for (int64_t point = 0; point < g->points; point++) {
      cvc_tile tile = {
          .a = cvc_at_const(b->v, point * g->v_point, g->bytes),
          .b = cvc_at_const(panel_u, point * u_point(g, width), g->bytes),
          .a_run = &no_offset,
          .b_run = &no_offset,
          .runs = 1,
          .length = g->ch.reduced,
          .a_row = g->v_row,
          .a_step = 1,
          .b_step = width,
          .c = cvc_at(b->m, point * g->m_point + k, g->bytes),
          .c_row = g->m_row,
          .columns = (int)width,
          /* Two calls read all of the next point's weights. */
          .next =
              cvc_at_const(panel_u, (point + 1) * u_point(g, width), g->bytes),
          .next_tile = g->ch.reduced * g->kernels->vector_length};
      cvc_run_tiles(g->kernels, &tile, b->count, g->bytes);
    }
  }
}

/** y of tiles [begin, end) of the block. A tile with an infinity or NaN is
 * computed again by the direct algorithm, so that they appear where the
 * definition puts them and not all over the tile. */
static void transform_output(const winograd *g, const block *b, int64_t begin,
                             int64_t end, void *direct_scratch) {
  const cvc_conv_job *job = g->job;
  const int64_t first_channel = b->group * g->ch.produced;
  cvc_winograd_output output = {
      .nh = g->n[0],
      .nw = g->n[1],
      .mh = g->m[0],
      .mw = g->m[1],
      .m_point = g->m_point,
      .channels = g->ch.produced,
      .y_row = g->target[1] * g->target_channels,
      .y_column = g->target_channels,
      .bias =
          job->bias ? cvc_at_const(job->bias, first_channel, g->bytes) : NULL,
      .activation = cvc_conv_activation(job->conv, g->pass)};
  for (int64_t t = begin; t < end; t++) {
    const place at = place_of(g, b->first + t);
    const int64_t pixel =
        (at.image * g->target[0] + at.row) * g->target[1] + at.column;
    const int64_t offset = pixel * g->target_channels + first_channel;
    output.m = cvc_at_const(b->m, t * g->m_row, g->bytes);
    output.y = cvc_at(job->target, offset, g->bytes);
    output.residual =
        job->residual ? cvc_at_const(job->residual, offset, g->bytes) : NULL;
    output.height = (int)cvc_min(g->m[0], g->target[0] - at.row);
    output.width = (int)cvc_min(g->m[1], g->target[1] - at.column);
    if (!g->kernels->winograd_output(&output))
      cvc_direct_rectangle(job, g->pass, direct_scratch, at.image, b->group,
                           at.row, output.height, at.column, output.width);
  }
}

/* ------------------------------------------------------------ the blocks */

/** What a thread needs beside its block: first for the direct algorithm, then
 * a row of zeros. */
static int64_t zeros_bytes(const winograd *g) {
  return cvc_round_up(g->ch.reduced * g->bytes, 64);
}

static int64_t own_bytes(const winograd *g, const cvc_conv *conv) {
  return cvc_direct_scratch(conv, g->pass, 1) + zeros_bytes(g);
}

static void *direct_scratch(const winograd *g, int thread) {
  return g->scratch + thread * own_bytes(g, g->job->conv);
}

static void *zeros_of(const winograd *g, int thread) {
  return (char *)direct_scratch(g, thread + 1) - zeros_bytes(g);
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
  transform_input(g, &b, 0, b.count, zeros_of(g, thread));
  multiply(g, &b, 0, g->panels);
  transform_output(g, &b, 0, b.count, direct_scratch(g, thread));
}

/** Few blocks: each phase of a block is shared by the threads. */
static block shared_block(const winograd *g, int64_t index) {
  return block_at(g, index / g->ch.groups, index % g->ch.groups, 0);
}

static void input_task(void *context, int64_t index, int64_t task, int thread) {
  const winograd *g = context;
  const block b = shared_block(g, index);
  transform_input(g, &b, task * b.count / g->parts,
                  (task + 1) * b.count / g->parts, zeros_of(g, thread));
}

static void multiply_task(void *context, int64_t index, int64_t task,
                          int thread) {
  (void)thread;
  const winograd *g = context;
  const block b = shared_block(g, index);
  multiply(g, &b, task, task + 1);
}

static void output_task(void *context, int64_t index, int64_t task,
                        int thread) {
  const winograd *g = context;
  const block b = shared_block(g, index);
  transform_output(g, &b, task * b.count / g->parts,
                   (task + 1) * b.count / g->parts, direct_scratch(g, thread));
}

int64_t cvc_winograd_scratch(const cvc_conv *conv, cvc_pass pass, int m,
                             int threads) {
  const winograd g = winograd_of(conv, pass, m, 1); /* the largest blocks */
  return threads * (g.thread_bytes + own_bytes(&g, conv));
}

cvc_status cvc_winograd_run(const cvc_conv_job *job, cvc_pass pass) {
  winograd g = winograd_of(job->conv, pass, job->choice.m, job->threads);
  g.job = job;
  g.scratch = job->scratch;
  const int64_t tasks = g.blocks * g.ch.groups;
  if (tasks >= 2 * job->threads || tasks % job->threads == 0)
    return cvc_parallel(job->call, job->threads, tasks, block_task, &g);
  g.parts = cvc_min(g.block, 4 * job->threads);
  const cvc_phase phases[] = {
      {g.parts, input_task}, {g.panels, multiply_task}, {g.parts, output_task}};
  return cvc_parallel_phases(job->call, job->threads, phases, 3, tasks, &g);
}
