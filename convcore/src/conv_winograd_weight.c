/**
 * Gradient with respect to weights by Winograd's algorithm, of stride 1, and of
 * 3x3 filters of stride 2. Blocks of tiles of x and dy are transformed into
 *
 *   v[c panel][point][tile][nr],   d[k panel][point][tile][nr],
 *
 * whose products, summed over the tiles of all blocks and over the points that
 * meet the same point of the filters,
 *
 *   m[k panel][c panel][point][k][c],
 *
 * are transformed into dw at the end. An element of m is one sum in the order
 * of the tiles, whatever part of m a task forms.
 */
#include <stdatomic.h>
#include <string.h>

#include "conv.h"

#define BLOCK_TILES 128 /* of many blocks: v and d stay in the last cache */
#define MOST_TILES 200  /* of a single block, whose m needs no memory */
#define TASK_TILES 4    /* that a task transforms */
#define LINE 64         /* bytes */

/** What is transformed: x or dy. */
typedef struct side {
  cvc_winograd_source source;
  int64_t channels, panels, planes; /* channels and panels of a group */
  void *points;                     /* v or d */
  void (*transform)(const cvc_winograd_input *tile);
} side;

typedef struct gradient {
  const cvc_conv_job *job;
  const cvc_kernels *kernels;
  int64_t bytes, nr, groups;
  cvc_winograd_line line[2];
  cvc_winograd_tiles tiles; /* of all images */
  int64_t points, total;    /* total: all tiles */
  int64_t sums;             /* of points: those of a filter */
  int64_t blocks, plane;    /* plane: elements between points of v and d */
  side x, dy;
  int64_t pairs, parts; /* panels of k and c; tasks of a pair, by points */
  void *m_sums, *zeros;
  atomic_bool not_finite;
} gradient;

/** A block of tiles. */
typedef struct block {
  gradient *g;
  int64_t index, first, count;
} block;

static block block_of(gradient *g, int64_t index) {
  const int64_t first = index * g->total / g->blocks;
  return (block){.g = g,
                 .index = index,
                 .first = first,
                 .count = (index + 1) * g->total / g->blocks - first};
}

static int64_t side_elements(const gradient *g, const side *s) {
  return g->groups * s->panels * s->planes * g->plane;
}
/** Elements between points of m; see `plane`. */
static int64_t m_point(const gradient *g) {
  return g->nr * g->nr + LINE / g->bytes;
}
static int64_t m_elements(const gradient *g) { return g->sums * m_point(g); }
/** m of a pair is kept from block to block, or until all its parts are there;
 * else a thread has one. */
static bool keeps_m(const gradient *g) { return g->blocks > 1 || g->parts > 1; }

static void set_gradient(gradient *g, const cvc_conv *conv, int m,
                         int threads) {
  const cvc_channels ch = cvc_conv_channels(conv, CVC_FORWARD);
  memset(g, 0, sizeof *g);
  g->kernels = cvc_kernels_of(conv->dtype);
  g->bytes = cvc_dtype_bytes(conv->dtype);
  g->nr = g->kernels->nr;
  g->groups = ch.groups;
  int64_t out[3];
  cvc_conv_out(conv, out);
  for (int i = 0; i < 2; i++) {
    g->line[i] = cvc_winograd_line_of(conv, CVC_FORWARD, i + 1, m);
    g->x.source.pixels[i] = g->line[i].n;
    g->x.source.step[i] = g->line[i].step;
    g->x.source.size[i] = conv->size[i + 1];
    g->x.source.origin[i] = -conv->pad_before[i + 1];
    g->dy.source.pixels[i] = g->line[i].m;
    g->dy.source.step[i] = 1;
    g->dy.source.size[i] = out[i + 1];
  }
  g->points = g->x.planes = g->line[0].n * g->line[1].n;
  g->sums = g->line[0].weights * g->line[1].weights;
  g->dy.planes = g->points + 1;
  g->x.source.pixel = conv->c * g->bytes;
  g->dy.source.pixel = conv->k * g->bytes;
  g->x.channels = ch.reduced;
  g->dy.channels = ch.produced;
  g->x.panels = cvc_panels(ch.reduced, g->kernels);
  g->dy.panels = cvc_panels(ch.produced, g->kernels);
  g->x.transform = g->kernels->winograd_input;
  g->dy.transform = g->kernels->winograd_gradient;
  g->tiles = cvc_winograd_tiles_of(conv->n, out + 1, g->line);
  g->total = g->tiles.begin[4];
  g->blocks = g->total <= MOST_TILES ? 1 : cvc_ceil_div(g->total, BLOCK_TILES);
  /* A cache line more than a multiple of the page size would need: points of
   * a tile must not all fall into one cache set. */
  g->plane = cvc_ceil_div(g->total, g->blocks) * g->nr + LINE / g->bytes;
  g->pairs = g->groups * g->x.panels * g->dy.panels;
  const int64_t tasks = threads > 1 ? 4 * threads : 1;
  g->parts = cvc_min(cvc_ceil_div(tasks, g->pairs), g->sums);
}

/** Sets the arrays in scratch; returns their bytes. */
static int64_t carve(gradient *g, int threads, char *memory) {
  const int64_t m = (keeps_m(g) ? g->pairs : threads) * m_elements(g);
  const int64_t v = side_elements(g, &g->x), d = side_elements(g, &g->dy);
  const int64_t zeros = g->groups * cvc_max(g->x.channels, g->dy.channels);
  if (memory) {
    g->x.points = memory;
    g->dy.points = cvc_at(memory, v, g->bytes);
    g->m_sums = cvc_at(memory, v + d, g->bytes);
    g->zeros = cvc_at(memory, v + d + m, g->bytes);
    memset(g->zeros, 0, (size_t)(zeros * g->bytes));
  }
  return cvc_round_up((v + d + m + zeros) * g->bytes, LINE);
}

/* -------------------------------------------------------------- transforms */

/** The pixels of a tile, first channel. A short tile of dy has zeros in the
 * rows and columns that are the next tile's. */
static void set_pixels(const gradient *g, const side *s, cvc_winograd_place at,
                       const void **pixels) {
  const cvc_winograd_source *from = &s->source;
  const int64_t top = at.row * from->step[0] + from->origin[0];
  const int64_t left = at.column * from->step[1] + from->origin[1];
  const int64_t rows = from->pixels[0] - (at.height < g->line[0].m);
  const int64_t columns = from->pixels[1] - (at.width < g->line[1].m);
  int64_t offset[CVC_MOST_LINE]; /* bytes from a row's begin, if inside */
  for (int j = 0; j < from->pixels[1]; j++) {
    const int64_t w = left + j;
    offset[j] =
        w >= 0 && w < from->size[1] && j < columns ? w * from->pixel : -1;
  }
  for (int i = 0; i < from->pixels[0]; i++) {
    const int64_t h = top + i;
    const bool inside = h >= 0 && h < from->size[0] && i < rows;
    const int64_t row = /* 0 where there is no such row */
        inside ? (at.image * from->size[0] + h) * from->size[1] * from->pixel
               : 0;
    for (int j = 0; j < from->pixels[1]; j++)
      *pixels++ = inside && offset[j] >= 0
                      ? (const char *)from->array + row + offset[j]
                      : g->zeros;
  }
}

/** Some tiles of the block, all channels. Meanwhile those of the next task are
 * requested. */
static void transform_side(const block *b, const side *s, int64_t begin,
                           int64_t end) {
  const gradient *g = b->g;
  const void *pixels[TASK_TILES][CVC_MOST_POINTS], *at[CVC_MOST_POINTS];
  cvc_winograd_place places[TASK_TILES];
  const int64_t count = s->source.pixels[0] * s->source.pixels[1];
  for (int64_t t = begin; t < end; t++) {
    places[t - begin] = cvc_winograd_place_of(&g->tiles, b->first + t);
    set_pixels(g, s, places[t - begin], pixels[t - begin]);
  }
  cvc_winograd_input tile = {.nh = g->line[0].n,
                             .nw = g->line[1].n,
                             .mh = g->line[0].m,
                             .mw = g->line[1].m,
                             .pixels = at,
                             .v_point = g->plane};
  const int64_t panels = g->groups * s->panels;
  for (int64_t p = 0; p < panels; p++) {
    const int64_t c = p % s->panels * g->nr;
    const int64_t offset = (p / s->panels * s->channels + c) * g->bytes;
    tile.channels = cvc_min(g->nr, s->channels - c);
    for (int64_t t = begin; t < end; t++) {
      for (int i = 0; i < count; i++)
        at[i] = (const char *)pixels[t - begin][i] + offset;
      cvc_winograd_request(&g->tiles, &s->source, b->first + end + t - begin, p,
                           panels);
      const cvc_winograd_place *place = &places[t - begin];
      tile.points_h = cvc_winograd_points(&g->line[0], place->height);
      tile.points_w = cvc_winograd_points(&g->line[1], place->width);
      tile.v =
          cvc_at(s->points, p * s->planes * g->plane + t * g->nr, g->bytes);
      s->transform(&tile);
    }
  }
}

/** Even tasks transform dy, odd ones x. */
static void transform_task(void *context, int64_t index, int64_t task,
                           int thread) {
  (void)thread;
  gradient *g = context;
  const block b = block_of(g, index);
  const int64_t begin = task / 2 * TASK_TILES;
  if (task % 2 && !g->job->target) return;
  transform_side(&b, task % 2 ? &g->x : &g->dy, begin,
                 cvc_min(begin + TASK_TILES, b.count));
}

/* ---------------------------------------------------------------- products */

/** A panel of k and one of c, of one group. */
typedef struct pair {
  int64_t index, group, k, c; /* first channels of the panels, in the group */
  int64_t rows, columns;
  const void *v, *d;
  void *m;
} pair;

static pair pair_of(const gradient *g, int64_t index, int thread) {
  const int64_t c = index % g->x.panels;
  const int64_t k = index / g->x.panels % g->dy.panels;
  const int64_t group = index / g->x.panels / g->dy.panels;
  return (pair){
      .index = index,
      .group = group,
      .k = k * g->nr,
      .c = c * g->nr,
      .rows = cvc_min(g->nr, g->dy.channels - k * g->nr),
      .columns = cvc_min(g->nr, g->x.channels - c * g->nr),
      .v = cvc_at_const(g->x.points,
                        (group * g->x.panels + c) * g->x.planes * g->plane,
                        g->bytes),
      .d = cvc_at_const(g->dy.points,
                        (group * g->dy.panels + k) * g->dy.planes * g->plane,
                        g->bytes),
      .m = cvc_at(g->m_sums, (keeps_m(g) ? index : thread) * m_elements(g),
                  g->bytes)};
}

/** Row k of dw of a pair. */
static void *dw_of(const gradient *g, const pair *p, int64_t k) {
  const int64_t row = p->group * g->dy.channels + p->k + k;
  return cvc_at(g->job->target,
                (row * g->x.channels + p->c) * g->line[0].r * g->line[1].r,
                g->bytes);
}

/** A task that multiplies stores the result. */
static bool stores(const block *b) {
  return b->g->parts == 1 && b->index == b->g->blocks - 1;
}

static const ptrdiff_t no_offset = 0;

/** What a point adds to m, where `first` to what the blocks before did. */
static void multiply_point(const block *b, const pair *p, int64_t point,
                           int64_t sum, bool first) {
  const gradient *g = b->g;
  const cvc_winograd_range users =
      cvc_winograd_users(&g->tiles, g->line, point, b->first, b->count);
  const int64_t at = point * g->plane + users.first * g->nr;
  cvc_tile tile = {
      .a = cvc_at_const(p->d, at, g->bytes),
      .b = cvc_at_const(p->v, at, g->bytes),
      .a_run = &no_offset,
      .b_run = &no_offset,
      .runs = 1,
      .length = users.count,
      .a_row = 1,
      .a_step = g->nr,
      .b_step = g->nr,
      .c = cvc_at(p->m, sum * m_point(g), g->bytes),
      .c_row = g->nr,
      .columns = (int)cvc_round_up(p->columns, g->kernels->vector_length),
      .accumulate = !first || b->index > 0};
  cvc_run_tiles(g->kernels, &tile, p->rows, g->bytes);
}

/** Request the pixels of the next block, some during each of the products. */
static void request_next(const block *b, int64_t product) {
  const gradient *g = b->g;
  const int64_t products = g->pairs * g->sums;
  const int64_t begin = product * b->count / products;
  const int64_t end = (product + 1) * b->count / products;
  for (int64_t t = begin; t < end; t++) {
    const int64_t tile = b->first + b->count + t;
    cvc_winograd_request(&g->tiles, &g->x.source, tile, 0, 1);
    cvc_winograd_request(&g->tiles, &g->dy.source, tile, 0, 1);
  }
}

/** Sums [begin, end) of m, of the first block or with those before. */
static void multiply(const block *b, const pair *p, int64_t begin,
                     int64_t end) {
  const gradient *g = b->g;
  const cvc_winograd_line *h = &g->line[0], *w = &g->line[1];
  for (int64_t point = 0; point < g->points; point++) {
    const int i = (int)(point / w->n), j = (int)(point % w->n);
    const int64_t sum = cvc_winograd_weight_at(h, i) * w->weights +
                        cvc_winograd_weight_at(w, j);
    if (sum < begin || sum >= end) continue;
    const bool first =
        cvc_winograd_is_first(h, i) && cvc_winograd_is_first(w, j);
    multiply_point(b, p, point, sum, first);
    if (!first) continue;
    request_next(b, p->index * g->sums + sum);
    /* dw of a row is far from that of the next one. */
    if (sum < p->rows && stores(b))
      cvc_request(dw_of(g, p, sum), p->columns * h->r * w->r * g->bytes);
  }
}

/** db of a panel: the sums of the tiles, a product with ones. */
static void add_bias(const block *b, const pair *p) {
  const gradient *g = b->g;
  static const float one_f32 = 1;
  static const double one_f64 = 1;
  const cvc_tile tile = {
      .a = g->bytes == 4 ? (const void *)&one_f32 : (const void *)&one_f64,
      .b = cvc_at_const(p->d, g->points * g->plane, g->bytes),
      .a_run = &no_offset,
      .b_run = &no_offset,
      .runs = 1,
      .length = b->count,
      .b_step = g->nr,
      .c = cvc_at(g->job->db, p->group * g->dy.channels + p->k, g->bytes),
      .rows = 1,
      .columns = (int)p->rows,
      .accumulate = b->index > 0};
  g->kernels->tile(&tile);
}

static void store(gradient *g, const pair *p) {
  const cvc_winograd_weight weight = {
      .nh = g->line[0].weights,
      .nw = g->line[1].weights,
      .rh = g->line[0].r,
      .rw = g->line[1].r,
      .m = p->m,
      .m_point = m_point(g),
      .m_row = g->nr,
      .rows = p->rows,
      .columns = (int)p->columns,
      .w = dw_of(g, p, 0),
      .w_row = g->x.channels * g->line[0].r * g->line[1].r};
  if (!g->kernels->winograd_weight(&weight))
    atomic_store_explicit(&g->not_finite, true, memory_order_relaxed);
}

static void multiply_task(void *context, int64_t index, int64_t task,
                          int thread) {
  gradient *g = context;
  const block b = block_of(g, index);
  const pair p = pair_of(g, task / g->parts, thread);
  const int64_t part = task % g->parts;
  if (g->job->db && p.c == 0 && part == 0) add_bias(&b, &p);
  if (!g->job->target) return;
  multiply(&b, &p, part * g->sums / g->parts, (part + 1) * g->sums / g->parts);
  if (stores(&b)) store(g, &p);
}

static void store_task(void *context, int64_t task, int thread) {
  gradient *g = context;
  const pair p = pair_of(g, task, thread);
  store(g, &p);
}

int64_t cvc_winograd_weight_scratch(const cvc_conv *conv, int m, int threads) {
  gradient g;
  set_gradient(&g, conv, m, threads);
  return cvc_max(carve(&g, threads, NULL),
                 cvc_weight_scratch(conv, threads, false));
}

/** Zero what of the last panel's columns is no channel: it is read. */
static void clear_tail(const gradient *g) {
  if (g->x.channels % g->kernels->vector_length == 0) return;
  const int64_t panel = g->points * g->plane;
  for (int64_t group = 1; group <= g->groups; group++)
    memset(cvc_at(g->x.points, (group * g->x.panels - 1) * panel, g->bytes), 0,
           (size_t)(panel * g->bytes));
}

cvc_status cvc_winograd_weight_run(const cvc_conv_job *job) {
  gradient g;
  set_gradient(&g, job->conv, job->choice.m, job->threads);
  g.job = job;
  g.x.source.array = job->x;
  g.dy.source.array = job->y;
  carve(&g, job->threads, job->scratch);
  clear_tail(&g);
  const int64_t tiles = cvc_ceil_div(g.total, g.blocks); /* of a block */
  const cvc_phase phases[] = {
      {2 * cvc_ceil_div(tiles, TASK_TILES), transform_task},
      {g.pairs * g.parts, multiply_task}};
  CVC_TRY(
      cvc_parallel_phases(job->call, job->threads, phases, 2, g.blocks, &g));
  if (g.parts > 1 && job->target)
    CVC_TRY(cvc_parallel(job->call, job->threads, g.pairs, store_task, &g));
  if (!g.not_finite) return CVC_OK;
  /* In a tile an infinity or NaN spreads to taps where the definition has
   * none. */
  cvc_conv_job weights = *job;
  weights.db = NULL;
  return cvc_weight_backward(&weights, false);
}
