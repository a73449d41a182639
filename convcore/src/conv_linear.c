/**
 * Pixels that are convolved each for itself, linear layers above all, and
 * images that are one window, whose elements are the channels, with the weights
 * as they are: products of matrices.
 *
 *   y[p][k]  = sum over c of x[p][c] w[k][c]
 *   dx[p][c] = sum over k of dy[p][k] w[k][c]
 *   dw[k][c] = sum over p of dy[p][k] x[p][c]
 *
 * Forward, the terms lie side by side in both factors (the kernel `dots`). In
 * the other two they do so in none: the tile kernel runs on blocks of w or x,
 * which for few rows are read where they are, else from a copy in panels.
 */
#include <stdatomic.h>
#include <string.h>

#include "conv.h"

#define MOST_PIXELS 512 /* where they are more than one of an image */
/* Forward, the sums of a task: pixels by output channels, a vector each. */
#define DOT_PIXELS 96
#define DOT_CHANNELS 32
/* Backward, the results of a task, and terms between two additions to them. */
#define BLOCK_ROWS 112
#define BLOCK_BYTES 4096 /* of a row */
#define BLOCK_TERMS 96
#define FEW_ROWS 14            /* that take the block as it is */
#define FEW_BYTES (128 * 1024) /* of these in a block: second-level cache */
#define PANELS_AHEAD 4         /* memory is requested so early */
#define LINE_BYTES 64
/* Rows of b that are copied side by side: the lines of more would share too
 * few places of the caches. */
#define COPY_TERMS 16

/** An image is one window: channels-first, w[k] has its elements' order. */
static bool is_window(const cvc_conv *conv) {
  for (int i = 0; i < 3; i++)
    if (conv->kernel[i] != conv->size[i] || conv->dilation[i] != 1)
      return false;
  return conv->layout == CVC_CHANNELS_FIRST || conv->c == 1;
}

static bool is_pixel(const cvc_conv *conv) {
  for (int i = 0; i < 3; i++)
    if (conv->kernel[i] != 1 || conv->stride[i] != 1) return false;
  return true;
}

int64_t cvc_linear_pixels(const cvc_conv *conv) {
  int64_t out[3];
  cvc_conv_out(conv, out);
  return conv->n * cvc_volume(out);
}

int64_t cvc_linear_channels(const cvc_conv *conv) {
  return conv->c * cvc_volume(conv->kernel);
}

bool cvc_linear_fits(const cvc_conv *conv, cvc_pass pass) {
  if (pass != CVC_BACKWARD_WEIGHT && conv->weights == CVC_WEIGHTS_PACKED)
    return false;
  for (int i = 0; i < 3; i++)
    if (conv->pad_before[i] || conv->pad_after[i]) return false;
  const int64_t pixels = cvc_linear_pixels(conv);
  return conv->groups == 1 && conv->n > 0 &&
         (is_pixel(conv) || is_window(conv)) &&
         (pixels == conv->n || pixels <= MOST_PIXELS);
}

static const ptrdiff_t start = 0; /* the only run of a product */

/* ---------------------------------------------------------------- forward */

typedef struct dots {
  const cvc_conv_job *job;
  const cvc_kernels *kernels;
  int64_t bytes, pixels, pixel_blocks;
} dots;

static int64_t dots_scratch(const cvc_conv *conv) {
  const cvc_kernels *kernels = cvc_kernels_of(conv->dtype);
  return cvc_min(cvc_linear_pixels(conv), DOT_PIXELS) *
         cvc_round_up(DOT_CHANNELS, kernels->vector_length) *
         kernels->vector_length * cvc_dtype_bytes(conv->dtype);
}

static void dots_task(void *context, int64_t task, int thread) {
  const dots *d = context;
  const cvc_conv_job *job = d->job;
  const int64_t c = cvc_linear_channels(job->conv), k = job->conv->k;
  const int64_t c_row = cvc_conv_y_stride(job->conv);
  const int64_t pixel = task % d->pixel_blocks * d->pixels / d->pixel_blocks;
  const int64_t end =
      (task % d->pixel_blocks + 1) * d->pixels / d->pixel_blocks;
  const int64_t channel = task / d->pixel_blocks * DOT_CHANNELS;
  const int64_t at = pixel * c_row + channel;
  const cvc_tile tile = {
      .a = cvc_at_const(job->x, pixel * c, d->bytes),
      .b = cvc_at_const(job->packed, channel * c, d->bytes),
      .length = c,
      .a_row = c,
      .b_step = c,
      .c = cvc_at(job->target, at, d->bytes),
      .c_row = c_row,
      .rows = (int)(end - pixel),
      .columns = (int)cvc_min(DOT_CHANNELS, k - channel),
      .bias = job->bias ? cvc_at_const(job->bias, channel, d->bytes) : NULL,
      .residual =
          job->residual ? cvc_at_const(job->residual, at, d->bytes) : NULL,
      .activation = job->conv->activation,
  };
  d->kernels->dots(&tile,
                   cvc_at(job->scratch, thread * dots_scratch(job->conv), 1));
}

static cvc_status run_dots(const cvc_conv_job *job) {
  const cvc_conv *conv = job->conv;
  dots d = {.job = job,
            .kernels = cvc_kernels_of(conv->dtype),
            .bytes = cvc_dtype_bytes(conv->dtype),
            .pixels = cvc_linear_pixels(conv)};
  d.pixel_blocks = cvc_ceil_div(d.pixels, DOT_PIXELS);
  const int64_t tasks = d.pixel_blocks * cvc_ceil_div(conv->k, DOT_CHANNELS);
  return cvc_parallel(job->call, (int)cvc_min(job->threads, tasks), tasks,
                      dots_task, &d);
}

/* --------------------------------------------------------------- backward */

/** c[i][j] = sum over t < terms of a[i*a_row + t*a_step] * b[t*columns + j],
 * i < rows, j < columns; rows of c are dense. */
typedef struct product {
  const cvc_kernels *kernels;
  int64_t bytes, rows, columns, terms;
  const void *a, *b;
  int64_t a_row, a_step;
  void *c;
  cvc_stores stores;
  int64_t block_columns, column_blocks;
  char *memory; /* of each thread: a copy of a block, or few rows of sums */
} product;

/** Bytes of the copy of a block, and what the kernel writes behind it. */
enum { BLOCK_MEMORY = BLOCK_BYTES * BLOCK_TERMS + LINE_BYTES };

/** A block of b: `columns` from `first` on, terms from `term` on. */
typedef struct block {
  int64_t first, columns, term, terms;
} block;

/** Request the lines of `terms` rows of a panel. */
static void request(const product *p, const char *b, int64_t terms) {
  const int64_t width = p->kernels->nr * p->bytes;
  for (int64_t t = 0; t < terms; t++, b += p->columns * p->bytes)
    for (int64_t i = 0; i < width; i += LINE_BYTES) __builtin_prefetch(b + i);
}

/** Copy a block, panel by panel: [panel][term][nr], with zeros where there is
 * no column. */
static void copy_block(const product *p, const block *block, char *panels) {
  const int64_t nr = p->kernels->nr;
  cvc_rows rows = {.x_end = cvc_at_const(p->b, p->terms * p->columns, p->bytes),
                   .x_row = p->columns,
                   .x_step = 1,
                   .width = nr};
  for (int64_t t = 0; t < block->terms; t += COPY_TERMS)
    for (int64_t j = 0; j < block->columns; j += nr) {
      rows.rows = cvc_min(COPY_TERMS, block->terms - t);
      rows.high = cvc_min(nr, block->columns - j);
      rows.x = cvc_at_const(
          p->b, (block->term + t) * p->columns + block->first + j, p->bytes);
      rows.y = cvc_at(panels, j * block->terms + t * nr, p->bytes);
      request(p, (const char *)rows.x + PANELS_AHEAD * nr * p->bytes,
              rows.rows);
      p->kernels->rows(&rows);
    }
}

/** The tile of a block's products for the rows from `row` on; b and the rows of
 * c are to follow. */
static cvc_tile tile_of(const product *p, const block *block, int64_t row,
                        int64_t rows) {
  return (cvc_tile){
      .a = cvc_at_const(p->a, row * p->a_row + block->term * p->a_step,
                        p->bytes),
      .a_run = &start,
      .b_run = &start,
      .runs = 1,
      .length = block->terms,
      .a_row = p->a_row,
      .a_step = p->a_step,
      .c = cvc_at(p->c, row * p->columns + block->first, p->bytes),
      .c_row = p->columns,
      .rows = (int)rows,
      .accumulate = block->term > 0,
      .stores = p->stores,
  };
}

/** Few rows, with b where it is; the sums of a block, but the first, join c
 * from memory of their own. */
static void combine_block(const product *p, const block *block, void *sums) {
  cvc_tile tile = tile_of(p, block, 0, p->rows);
  void *const c = tile.c;
  tile.b =
      cvc_at_const(p->b, block->term * p->columns + block->first, p->bytes);
  tile.b_step = p->columns;
  tile.columns = (int)block->columns;
  if (block->term) {
    tile.c = sums;
    tile.c_row = block->columns;
  }
  p->kernels->combine(&tile);
  for (int64_t i = 0; i < p->rows && block->term; i++) {
    void *row = cvc_at(c, i * p->columns, p->bytes);
    p->kernels->add(block->columns, row,
                    cvc_at(sums, i * block->columns, p->bytes), row);
  }
}

/** The rows from `row` on, with the panels of a block. */
static void multiply_block(const product *p, const block *block, int64_t row,
                           int64_t rows, const void *panels) {
  const int64_t nr = p->kernels->nr;
  cvc_tile tile = tile_of(p, block, row, rows);
  void *const c = tile.c;
  tile.b_step = nr;
  for (int64_t j = 0; j < block->columns; j += nr) {
    tile.columns = (int)cvc_min(nr, block->columns - j);
    tile.b = cvc_at_const(panels, j * block->terms, p->bytes);
    tile.c = cvc_at(c, j, p->bytes);
    p->kernels->tile(&tile);
  }
}

static void product_task(void *context, int64_t task, int thread) {
  const product *p = context;
  char *memory = p->memory + thread * BLOCK_MEMORY;
  const int64_t row = task / p->column_blocks * BLOCK_ROWS;
  const int64_t rows = cvc_min(BLOCK_ROWS, p->rows - row);
  const int64_t tiles = cvc_ceil_div(rows, p->kernels->mr);
  block block = {.first = task % p->column_blocks * p->block_columns};
  block.columns = cvc_min(p->block_columns, p->columns - block.first);
  for (; block.term < p->terms; block.term += block.terms) {
    block.terms = cvc_min(BLOCK_TERMS, p->terms - block.term);
    if (p->rows <= FEW_ROWS) {
      combine_block(p, &block, memory);
      continue;
    }
    copy_block(p, &block, memory);
    for (int64_t i = 0; i < tiles; i++) {
      const int64_t first = i * rows / tiles, end = (i + 1) * rows / tiles;
      multiply_block(p, &block, row + first, end - first, memory);
    }
  }
  if (p->stores == CVC_STORES_STREAM) atomic_thread_fence(memory_order_seq_cst);
}

static cvc_status run_product(const cvc_conv_job *job, product p) {
  p.kernels = cvc_kernels_of(job->conv->dtype);
  p.bytes = cvc_dtype_bytes(job->conv->dtype);
  p.memory = job->scratch;
  const int64_t row_blocks = cvc_ceil_div(p.rows, BLOCK_ROWS);
  const int64_t enough = job->threads > 1 ? 4 * job->threads : 1;
  const bool few = p.rows <= FEW_ROWS;
  const int64_t width =
      few ? cvc_max(FEW_BYTES / p.rows, BLOCK_BYTES) : BLOCK_BYTES;
  p.block_columns =
      cvc_min(width / p.bytes,
              cvc_round_up(cvc_ceil_div(p.columns * row_blocks, enough),
                           p.kernels->nr));
  p.column_blocks = cvc_ceil_div(p.columns, p.block_columns);
  if (p.terms <= BLOCK_TERMS) /* else the results are read again */
    p.stores =
        cvc_stores_of(p.c, p.columns * p.bytes, p.rows * p.columns * p.bytes);
  const int64_t tasks = p.column_blocks * row_blocks;
  return cvc_parallel(job->call, (int)cvc_min(job->threads, tasks), tasks,
                      product_task, &p);
}

static cvc_status run_data(const cvc_conv_job *job) {
  const int64_t c = cvc_linear_channels(job->conv), k = job->conv->k;
  return run_product(job, (product){.rows = cvc_linear_pixels(job->conv),
                                    .columns = c,
                                    .terms = k,
                                    .a = job->y,
                                    .a_row = k,
                                    .a_step = 1,
                                    .b = job->packed,
                                    .c = job->target});
}

static cvc_status run_weight(const cvc_conv_job *job) {
  static const float one_f32 = 1;
  static const double one_f64 = 1;
  const int64_t c = cvc_linear_channels(job->conv), k = job->conv->k;
  const int64_t pixels = cvc_linear_pixels(job->conv);
  if (job->target)
    CVC_TRY(run_product(job, (product){.rows = k,
                                       .columns = c,
                                       .terms = pixels,
                                       .a = job->y,
                                       .a_row = 1,
                                       .a_step = k,
                                       .b = job->x,
                                       .c = job->target}));
  if (!job->db) return CVC_OK;
  const void *one = job->conv->dtype == CVC_F32 ? (const void *)&one_f32
                                                : (const void *)&one_f64;
  return run_product(job, (product){.rows = 1,
                                    .columns = k,
                                    .terms = pixels,
                                    .a = one,
                                    .b = job->y,
                                    .c = job->db});
}

int64_t cvc_linear_scratch(const cvc_conv *conv, cvc_pass pass, int threads) {
  return threads *
         (pass == CVC_FORWARD ? dots_scratch(conv) : (int64_t)BLOCK_MEMORY);
}

cvc_status cvc_linear_run(const cvc_conv_job *job, cvc_pass pass) {
  switch (pass) {
    case CVC_FORWARD: return run_dots(job);
    case CVC_BACKWARD_DATA: return run_data(job);
    case CVC_BACKWARD_WEIGHT: return run_weight(job);
  }
  return CVC_BAD_ARGUMENT;
}
