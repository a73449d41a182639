/**
 * The gradient of max pooling with pixels in the lanes, for images of few
 * channels: planes of channels-first arrays, which have one, and channels-last
 * images with less than a vector.
 *
 * A row of dx is computed vector by vector, from dy and the indices as they
 * are. Where the sources of a vector's lanes lie, and with which taps, is the
 * same in all rows, but for the row of taps, and for vectors a period apart the
 * same but for the distance: a table says it. A window gives a target one tap,
 * so taps of different remainders modulo the stride are one term: they are
 * merged as long as no lane has two.
 *
 * The kernel computes one vector of all rows of dx that a block has, the rows
 * of a period at once: they share what they pick from a row of sources.
 */
#include <stdatomic.h>
#include <string.h>

#include "pool.h"

enum {
  TASK_ELEMENTS = 1 << 15,
  NO_TAP = 255,         /* no tap's number */
  MOST_BYTES = 1 << 20, /* of tables */
  MOST_LANES = 64,
  BLOCK_ELEMENTS = 1 << 13, /* of dx, in the first cache */
  PHASES = 2                /* of a period of rows at a time */
};

/** Vectors of a row: how many, and which of them have all their sources inside
 * and so repeat each `period`. */
typedef struct row_vectors {
  int64_t count, first, last, period, length;
} row_vectors;

static int64_t greatest_divisor(int64_t a, int64_t b) {
  return b ? greatest_divisor(b, a % b) : a;
}

static int64_t clamp(int64_t value, int64_t low, int64_t high) {
  return cvc_max(low, cvc_min(value, high));
}

static row_vectors vectors_of(const pool_pass *pass, int64_t channels) {
  const cvc_pool *pool = &pass->pool;
  const int64_t length = pass->kernels->vector_length,
                pad = pool->pad_before[2];
  const int64_t reach = (pool->kernel[2] - 1) * pool->dilation[2];
  const int64_t step = pool->stride[2] * channels;
  row_vectors v = {.count = cvc_ceil_div(pool->size[2] * channels, length),
                   .period = step / greatest_divisor(step, length),
                   .length = length};
  const int64_t inside =
      cvc_min(pool->size[2], pool->out[2] * pool->stride[2] - pad);
  v.last = cvc_max(inside, 0) * channels / length;
  v.first = clamp(cvc_ceil_div((reach - pad) * channels, length), 0, v.last);
  return v;
}

/** The vectors that are in the table: those of which no other is a repetition.
 */
static int64_t unique_vectors(const row_vectors *v) {
  return v->count - (v->last - v->first) +
         cvc_min(v->period, v->last - v->first);
}

/** Rows of taps. */
static int64_t tap_rows(const cvc_pool *pool) {
  return pool->kernel[0] * pool->kernel[1];
}

/** Carve the tables from `memory`, if any; their size. */
static int64_t carve(const pool_pass *pass, int64_t channels, char *memory,
                     pool_picks *picks) {
  const cvc_pool *pool = &pass->pool;
  const row_vectors v = vectors_of(pass, channels);
  const int64_t terms = unique_vectors(&v) * pool->kernel[2];
  if (memory) {
    picks->terms = terms;
    picks->source = (ptrdiff_t *)(void *)memory;
    picks->vector = (pool_pick *)(picks->source + terms);
    picks->lane = (uint8_t *)(picks->vector + v.count);
    picks->tap = picks->lane + terms * v.length;
  }
  return cvc_round_up(terms * (int64_t)sizeof *picks->source +
                          v.count * (int64_t)sizeof *picks->vector +
                          (2 + tap_rows(pool)) * terms * v.length,
                      64);
}

static bool serves(const pool_pass *pass, int64_t channels) {
  return pass->backward && pass->pool.index_dtype == CVC_U8 &&
         carve(pass, channels, NULL, NULL) <= MOST_BYTES;
}

/** The sources of a vector's lanes within a row, and the taps that they have:
 * of one term. */
typedef struct term {
  int64_t least, most; /* sources */
  int64_t source[MOST_LANES];
  uint8_t tap[MOST_LANES];
} term;

/** The lanes that get something from tap s; false when there are none. */
static bool term_of(const cvc_pool *pool, int64_t channels, int64_t s,
                    int64_t first, int64_t length, term *term) {
  term->least = INT64_MAX;
  term->most = -1;
  memset(term->tap, NO_TAP, sizeof term->tap);
  for (int64_t i = 0; i < length; i++) {
    const int64_t w = (first + i) / channels, c = (first + i) % channels;
    const int64_t at = w + pool->pad_before[2] - s * pool->dilation[2];
    if (w >= pool->size[2] || at < 0 || at % pool->stride[2]) continue;
    if (at / pool->stride[2] >= pool->out[2]) continue;
    term->tap[i] = (uint8_t)s;
    term->source[i] = at / pool->stride[2] * channels + c;
    term->least = cvc_min(term->least, term->source[i]);
    term->most = cvc_max(term->most, term->source[i]);
  }
  return term->most >= 0;
}

/** Add the lanes of a term to another, unless they share one or their sources
 * are not in one vector. */
static bool merge(const term *from, int64_t length, term *to) {
  const int64_t least = cvc_min(from->least, to->least);
  const int64_t most = cvc_max(from->most, to->most);
  if (most - least >= length) return false;
  for (int64_t i = 0; i < length; i++)
    if (from->tap[i] != NO_TAP && to->tap[i] != NO_TAP) return false;
  for (int64_t i = 0; i < length; i++)
    if (from->tap[i] != NO_TAP) {
      to->tap[i] = from->tap[i];
      to->source[i] = from->source[i];
    }
  to->least = least;
  to->most = most;
  return true;
}

/** Write a term to the table: its taps are those of each row of taps. */
static void put_term(const pool_pass *pass, const pool_picks *p, int64_t number,
                     int64_t length, const term *term) {
  const cvc_pool *pool = &pass->pool;
  p->source[number] = term->least;
  for (int64_t i = 0; i < length; i++) {
    const bool none = term->tap[i] == NO_TAP;
    p->lane[number * length + i] =
        none ? 0 : (uint8_t)(term->source[i] - term->least);
    for (int64_t row = 0; row < tap_rows(pool); row++)
      p->tap[(row * p->terms + number) * length + i] =
          none ? NO_TAP : (uint8_t)(row * pool->kernel[2] + term->tap[i]);
  }
}

/** Terms of the vector from element `first` of a row on, in the order of their
 * sources: from the last tap to the first. Their number. */
static int64_t put_terms(const pool_pass *pass, const pool_picks *p,
                         int64_t channels, int64_t first, int64_t length,
                         int64_t number) {
  const cvc_pool *pool = &pass->pool;
  const int64_t before = number;
  term open, next;
  bool is_open = false;
  for (int64_t s = pool->kernel[2] - 1; s >= 0; s--) {
    if (!term_of(pool, channels, s, first, length, &next)) continue;
    if (is_open && merge(&next, length, &open)) continue;
    if (is_open) put_term(pass, p, number++, length, &open);
    open = next;
    is_open = true;
  }
  if (is_open) put_term(pass, p, number++, length, &open);
  return number - before;
}

static void set_vectors(const pool_pass *pass, const pool_picks *p,
                        int64_t channels) {
  const row_vectors v = vectors_of(pass, channels);
  const int64_t width = pass->pool.size[2] * channels;
  const int64_t step = v.period * v.length / pass->pool.stride[2];
  int32_t terms = 0;
  memset(p->tap + tap_rows(&pass->pool) * p->terms * v.length, NO_TAP,
         (size_t)(p->terms * v.length));
  for (int64_t i = 0; i < v.count; i++) {
    pool_pick *pick = &p->vector[i];
    if (i >= v.first + v.period && i < v.last) {
      *pick = pick[-v.period];
      pick->target += v.period * v.length;
      pick->source += step;
      continue;
    }
    /* The last vector ends with the row. */
    const int64_t first = cvc_max(0, cvc_min(i * v.length, width - v.length));
    const int64_t more = put_terms(pass, p, channels, first, v.length, terms);
    *pick =
        (pool_pick){.target = first, .first = terms, .terms = (int32_t)more};
    terms += (int32_t)more;
  }
}

static void set(const pool_pass *pass, int64_t channels, pool_few *few) {
  pool_picks *p = &few->picks;
  const cvc_pool *pool = &pass->pool;
  const int64_t all = pool->n * pool->c / channels;
  const int64_t image = cvc_volume(pool->size) * channels;
  const int64_t rows = cvc_pool_rows(pass);
  *p = (pool_picks){.channels = channels,
                    .vectors = vectors_of(pass, channels).count,
                    .images = clamp(TASK_ELEMENTS / image, 1, cvc_max(all, 1)),
                    .rows = rows};
  if (p->images == 1) p->rows = clamp(TASK_ELEMENTS * rows / image, 1, rows);
  p->parts = cvc_ceil_div(rows, p->rows);
  few->tasks = cvc_ceil_div(all, p->images) * p->parts;
}

static int64_t tables_bytes(const pool_pass *pass, const pool_few *few) {
  return cvc_pool_axes_bytes(pass) +
         carve(pass, few->picks.channels, NULL, NULL);
}

static void set_tables(pool_pass *pass, pool_few *few, char *memory) {
  pool_picks *p = &few->picks;
  cvc_pool_set_axes(pass, memory);
  carve(pass, p->channels, memory + cvc_pool_axes_bytes(pass), p);
  set_vectors(pass, p, p->channels);
}

/* ----------------------------------------------------------------- a task */

/** A column in all vectors: what the kernel gets, and its tables. */
typedef struct column {
  cvc_picks picks;
  const uint8_t *index;
  const void *dy;
  int64_t size;             /* of both */
  ptrdiff_t *row, *tap_row; /* [rows of taps], [PHASES][rows of taps] */
} column;

static int64_t carve_column(const pool_pass *pass, char *memory, column *c) {
  const int64_t rows = tap_rows(&pass->pool);
  if (c) {
    c->row = (ptrdiff_t *)(void *)memory;
    c->tap_row = c->row + rows;
  }
  return cvc_round_up((1 + PHASES) * rows * (int64_t)sizeof(ptrdiff_t), 64);
}

/** Whether dx goes past the caches, from memory in which it was ordered. */
static bool streams(const pool_pass *pass) {
  return cvc_pool_exceeds_caches(pass);
}

/** Whether all vectors of dx are whole lines, which need no ordering. */
static bool is_ordered(const pool_pass *pass, const pool_picks *p) {
  const int64_t vector = pass->kernels->vector_length * pass->bytes;
  const int64_t row = pass->pool.size[2] * p->channels * pass->bytes;
  return vector % 64 == 0 && row % vector == 0 && (uintptr_t)pass->to % 64 == 0;
}

static int64_t bytes_of(const pool_pass *pass, const pool_few *few) {
  const pool_picks *p = &few->picks;
  const cvc_pool *pool = &pass->pool;
  const int64_t row =
      cvc_min(pool->stride[1], pool->size[1]) * pool->size[2] * p->channels;
  const int64_t ordered = p->images * p->rows * row * pass->bytes;
  return carve_column(pass, NULL, NULL) +
         (streams(pass) ? cvc_round_up(ordered, 64) : 0);
}

/** The first source of a row of them. */
static ptrdiff_t row_of(const pool_pass *pass, const pool_picks *p,
                        int64_t slice, int64_t row) {
  const pool_axis *axes = pass->axes;
  return (slice * axes[1].sources + row) * axes[2].sources * p->channels;
}

/** Where it is in the table, or belongs. */
static int find_row(const column *c, ptrdiff_t row) {
  int i = 0;
  while (i < c->picks.sources && c->row[i] < row) i++;
  return i;
}

static void add_row(column *c, ptrdiff_t row) {
  const int i = find_row(c, row);
  if (i < c->picks.sources && c->row[i] == row) return;
  for (int k = c->picks.sources++; k > i; k--) c->row[k] = c->row[k - 1];
  c->row[i] = row;
}

/** The rows of sources of targets in phases first..first+count-1 of a run of
 * rows: all of them, then the row of taps that a phase has of each. */
static void set_rows(const pool_pass *pass, const pool_picks *p, int64_t depth,
                     const pool_run *run, int64_t first, int64_t count,
                     column *c) {
  const pool_axis *axes = pass->axes;
  const int64_t d = depth / axes[0].phases, of = depth % axes[0].phases;
  const int64_t taps = p->terms * pass->kernels->vector_length;
  const int64_t none = tap_rows(&pass->pool) * taps;
#define EACH_ROW(begin_phase, end_phase)                                       \
  for (int64_t i = axes[0].begin[of]; i < axes[0].begin[of + 1]; i++)          \
    for (int64_t j = axes[1].begin[begin_phase]; j < axes[1].begin[end_phase]; \
         j++)                                                                  \
      if (cvc_pool_is_valid(&axes[0].taps[i], d) &&                            \
          cvc_pool_is_valid(&axes[1].taps[j], run->first))
  c->picks.phases = (int)count;
  c->picks.sources = 0;
  EACH_ROW(first, first + count)
  add_row(c, row_of(pass, p, d + axes[0].taps[i].offset,
                    run->first + axes[1].taps[j].offset));
  for (int64_t phase = 0; phase < count; phase++) {
    ptrdiff_t *tap_row = c->tap_row + phase * c->picks.sources;
    for (int k = 0; k < c->picks.sources; k++) tap_row[k] = none;
    EACH_ROW(first + phase, first + phase + 1) {
      const pool_tap *slice = &axes[0].taps[i], *row = &axes[1].taps[j];
      const int k = find_row(
          c, row_of(pass, p, d + slice->offset, run->first + row->offset));
      tap_row[k] = (slice->number * pass->pool.kernel[1] + row->number) * taps;
    }
  }
#undef EACH_ROW
}

/** All vectors of the rows of periods of some images that the picks say, from
 * sources and to targets which begin so many elements further on. */
static void pick(const pool_pass *pass, const pool_picks *p, column *c,
                 int64_t from, void *to) {
  const int64_t length = pass->kernels->vector_length;
  for (const pool_pick *vector = p->vector; vector < p->vector + p->vectors;
       vector++) {
    const int64_t source = from + vector->source;
    c->picks.x_size = c->size - source;
    c->picks.terms = vector->terms;
    c->picks.term = p->source + vector->first;
    c->picks.lane = p->lane + vector->first * length;
    c->picks.tap = p->tap + vector->first * length;
    pass->kernels->max_pool_pick(&c->picks, c->index + source,
                                 cvc_at_const(c->dy, source, pass->bytes),
                                 cvc_at(to, vector->target, pass->bytes));
  }
}

/** The same, in blocks that stay in the first cache while their vectors are
 * computed column by column. */
static void pick_blocks(const pool_pass *pass, const pool_picks *p, column *c,
                        void *to) {
  const int64_t images = c->picks.images, rows = c->picks.rows;
  const int64_t x_image = c->picks.x_image, x_row = c->picks.x_row;
  const int64_t y_image = c->picks.y_image, y_row = c->picks.y_row;
  const int64_t most = clamp(BLOCK_ELEMENTS / y_row, 1, rows);
  const int64_t step = clamp(BLOCK_ELEMENTS / (most * y_row), 1, images);
  for (int64_t i = 0; i < images; i += step)
    for (int64_t row = 0; row < rows; row += most) {
      c->picks.images = cvc_min(step, images - i);
      c->picks.rows = cvc_min(most, rows - row);
      pick(pass, p, c, i * x_image + row * x_row,
           cvc_at(to, i * y_image + row * y_row, pass->bytes));
    }
  c->picks.images = images;
}

/** Rows of periods of images, whose first target is `to`. */
static void visit(const pool_pass *pass, const pool_picks *p, column *c,
                  int64_t first, int64_t last, int64_t begin, char *to) {
  const pool_axis *axes = pass->axes;
  const int64_t width = axes[2].targets * p->channels;
  const int64_t height = cvc_ceil_div(axes[1].targets, axes[1].phases);
  while (first < last) {
    const int64_t depth = first / height, h = first % height;
    const pool_run run =
        cvc_pool_next_run(&axes[1], h, cvc_min(height, h + last - first));
    for (int64_t phase = 0; phase < run.phases; phase += PHASES) {
      const int64_t row = depth * axes[1].targets + h * axes[1].phases + phase;
      set_rows(pass, p, depth, &run, phase, cvc_min(PHASES, run.phases - phase),
               c);
      c->picks.rows = run.count;
      pick_blocks(pass, p, c, cvc_at(to, row * width - begin, pass->bytes));
    }
    first += run.count;
  }
}

/** The first target of a row of periods. */
static int64_t first_target(const pool_pass *pass, const pool_picks *p,
                            int64_t row) {
  const pool_axis *axes = pass->axes;
  const int64_t height = cvc_ceil_div(axes[1].targets, axes[1].phases);
  return (row / height * axes[1].targets + row % height * axes[1].phases) *
         axes[2].targets * p->channels;
}

static void run_task(const pool_pass *pass, const pool_few *few, int64_t task,
                     char *memory) {
  const pool_picks *p = &few->picks;
  const cvc_pool *pool = &pass->pool;
  const int64_t all = pool->n * pool->c / p->channels;
  const int64_t image = task / p->parts * p->images;
  const int64_t first = task % p->parts * p->rows;
  const int64_t last = cvc_min(first + p->rows, cvc_pool_rows(pass));
  const int64_t images = cvc_min(p->images, all - image);
  const int64_t inputs = cvc_volume(pool->size) * p->channels;
  const int64_t outputs = cvc_volume(pool->out) * p->channels;
  const int64_t width = pool->size[2] * p->channels;
  column c = {.dy = cvc_at_const(pass->from, image * outputs, pass->bytes),
              .index = (const uint8_t *)pass->index + image * outputs,
              .size = (all - image) * outputs};
  char *ordered = memory + carve_column(pass, memory, &c);
  c.picks = (cvc_picks){.images = images,
                        .lanes = cvc_min(width, pass->kernels->vector_length),
                        .x_image = outputs,
                        .x_row = pool->out[2] * p->channels,
                        .y_image = inputs,
                        .y_row = pass->axes[1].phases * width,
                        .y_phase = width,
                        .row = c.row,
                        .tap_row = c.tap_row};
  const int64_t begin = first_target(pass, p, first);
  const bool order = streams(pass) && !is_ordered(pass, p);
  c.picks.stream = streams(pass) && !order;
  const int64_t size =
      (images - 1) * inputs + first_target(pass, p, last) - begin;
  void *dx = cvc_at(pass->to, image * inputs + begin, pass->bytes);
  visit(pass, p, &c, first, last, begin, order ? ordered : dx);
  if (!streams(pass)) return;
  if (order) pass->kernels->stream_copy(size, ordered, dx);
  atomic_thread_fence(memory_order_seq_cst);
}

const pool_few_way cvc_pool_picks = {.serves = serves,
                                     .set = set,
                                     .tables_bytes = tables_bytes,
                                     .set_tables = set_tables,
                                     .bytes = bytes_of,
                                     .task = run_task};
