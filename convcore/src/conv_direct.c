/**
 * Direct convolution over channels-last memory, without im2col and without
 * padding copies: forward, and the gradient with respect to x as one
 * correlation for each remainder of the target position modulo the stride.
 *
 * The output is cut into regions with the same valid taps; a region runs only
 * those, so no product with padding is computed. Within a block of the
 * source that fits the second-level cache, all pixels go through one panel of
 * weights after the other.
 */
#include <stdatomic.h>
#include <string.h>

#include "conv.h"

#define BLOCK_BYTES (512 * 1024) /* source per block: a part of the L2 */
/* A target beyond the second level has its lines requested before its sums. */
#define REQUEST_BYTES (1024 * 1024)
#define PAGE_BYTES                                          \
  4096 /* lines so far apart share a set of the first level \
        */
#define WEIGHT_BYTES (256 * 1024) /* of weights that come from further away */

typedef struct direct {
  const cvc_conv_job *job;
  cvc_pass pass;
  const cvc_kernels *kernels;
  cvc_channels ch;
  const void *source;
  void *target;
  int64_t bytes;                            /* of an element */
  int64_t source_channels, target_channels; /* of all groups */
  int64_t source_size[3], target_size[3];
  cvc_axis axis[3];
  /* Planes are (image, output depth); a task is a block of planes, rows and
   * columns of outputs, one group and a range of panels. */
  int64_t planes, block_planes, block_rows, block_columns;
  int64_t plane_blocks, row_blocks, column_blocks;
  int64_t panels, panel_splits;
  int64_t first_pixel; /* of the source: its number in the array */
  bool gathers;        /* each task copies its pixels' taps */
  int64_t most_bytes;  /* of a workspace */
  cvc_stores stores;
  bool requests_weights; /* they do not stay in the caches */
  bool weights_first;    /* and are more than a block of the source */
  bool line;             /* every pixel for itself: all pixels are one row */
} direct;

/** Per-thread working memory, in scratch. */
typedef struct workspace {
  ptrdiff_t *a_run, *b_run;
  cvc_region *rows, *columns;
  char *copy; /* of the task's pixels */
} workspace;

/** Elements from a gathered pixel's taps to the next: a cache line more. */
static int64_t gathered_step(const direct *d) {
  const cvc_axis *axis = d->axis;
  return axis[0].taps * axis[1].taps * axis[2].taps * d->ch.reduced +
         64 / d->bytes;
}

static int64_t tables_bytes(const cvc_conv *conv) {
  int64_t regions = 2 * (conv->kernel[1] + conv->kernel[2]) + 2;
  int64_t bytes = 2 * cvc_volume(conv->kernel) * (int64_t)sizeof(ptrdiff_t) +
                  regions * (int64_t)sizeof(cvc_region);
  return cvc_round_up(bytes, 64);
}

static int64_t workspace_bytes(const direct *d) {
  const int64_t pixels = d->block_planes * d->block_rows * d->block_columns;
  const int64_t copy = d->gathers ? pixels * gathered_step(d) * d->bytes : 0;
  return tables_bytes(d->job->conv) + cvc_round_up(copy, 64);
}

static workspace workspace_of(const direct *d, int thread) {
  const cvc_conv *conv = d->job->conv;
  const int64_t taps = cvc_volume(conv->kernel);
  char *memory = (char *)d->job->scratch + thread * workspace_bytes(d);
  workspace space = {.rows = (cvc_region *)memory,
                     .copy = memory + tables_bytes(conv)};
  space.columns = space.rows + 2 * conv->kernel[1] + 1;
  space.a_run = (ptrdiff_t *)(space.columns + 2 * conv->kernel[2] + 1);
  space.b_run = space.a_run + taps;
  return space;
}

/** The valid taps of one region on the three axes. */
typedef struct valid {
  int64_t low[3], high[3];
} valid;

/**
 * Runs of the reduction for these taps, relative to the source of an output
 * pixel at its axes' offset 0 and to the panel. Taps that are neighbours in
 * both make one run. Sets tile->runs and tile->length.
 */
static void set_runs(const direct *d, const valid *taps, int64_t width,
                     const workspace *space, cvc_tile *tile) {
  const cvc_axis *axis = d->axis;
  const int64_t *kernel = d->job->conv->kernel;
  const int64_t reduced = d->ch.reduced, sc = d->source_channels;
  const bool dense = reduced == sc && axis[2].offset_step == 1;
  const bool merge = (d->gathers || dense) && axis[2].tap_step == 1;
  const int64_t last = taps->high[2] - taps->low[2];
  const int64_t count = merge ? cvc_min(last, 1) : last;
  int64_t runs = 0;
  for (int64_t jd = taps->low[0]; jd < taps->high[0]; jd++)
    for (int64_t jh = taps->low[1]; jh < taps->high[1]; jh++)
      for (int64_t j = 0; j < count; j++) {
        const int64_t jw = taps->low[2] + j;
        const int64_t at_d = axis[0].offset + jd * axis[0].offset_step;
        const int64_t at_h = axis[1].offset + jh * axis[1].offset_step;
        const int64_t at_w = axis[2].offset + jw * axis[2].offset_step;
        const int64_t t = axis[0].tap + jd * axis[0].tap_step;
        const int64_t r = axis[1].tap + jh * axis[1].tap_step;
        const int64_t s = axis[2].tap + jw * axis[2].tap_step;
        space->a_run[runs] =
            d->gathers
                ? ((jd * axis[1].taps + jh) * axis[2].taps + jw) * reduced
                : ((at_d * d->source_size[1] + at_h) * d->source_size[2] +
                   at_w) *
                      sc;
        space->b_run[runs] =
            ((t * kernel[1] + r) * kernel[2] + s) * reduced * width;
        runs++;
      }
  tile->runs = runs;
  tile->length = merge ? last * reduced : reduced;
}

/** All tiles of a rectangle of outputs with the same taps. `a` and `c` are
 * of its first pixel, channel 0 of the group and panel. */
static void run_rectangle(const direct *d, cvc_tile *tile, int64_t rows,
                          int64_t columns, const void *a, void *c,
                          const void *residual) {
  const cvc_axis *axis = d->axis;
  /* Distance to the next pixel down and across, in source and target. */
  const int64_t a_down =
      axis[1].source_step * d->source_size[2] * d->source_channels;
  const int64_t a_across = axis[2].source_step * d->source_channels;
  const int64_t c_down = axis[1].step * d->target_size[2] * d->target_channels;
  const int64_t c_across = axis[2].step * d->target_channels;

  const int64_t mr = d->kernels->mr;
  /* Tiles down the image jump from page to page: only for far fewer tiles. */
  const bool across = 3 * rows * cvc_ceil_div(columns, mr) <=
                      4 * columns * cvc_ceil_div(rows, mr);
  const int64_t lines = across ? rows : columns;
  const int64_t length = across ? columns : rows;
  const int64_t a_line = across ? a_down : a_across;
  const int64_t c_line = across ? c_down : c_across;
  tile->a_row = across ? a_across : a_down;
  tile->c_row = across ? c_across : c_down;
  tile->next_tile = tile->next_run
                        ? mr * tile->a_row
                        : tile->runs * tile->length * d->kernels->vector_length;
  for (int64_t line = 0; line < lines; line++) {
    const int64_t c_at = line * c_line;
    tile->a = cvc_at_const(a, line * a_line, d->bytes);
    tile->c = cvc_at(c, c_at, d->bytes);
    tile->residual = residual ? cvc_at_const(residual, c_at, d->bytes) : NULL;
    if (tile->next_run)
      tile->next = cvc_at_const(tile->a, tile->next_tile, d->bytes);
    cvc_run_tiles(d->kernels, tile, length, d->bytes);
  }
}

/** What a panel brings into the caches: the first one the source, a tile ahead,
 * the others, in the first block, the weights of the panel that comes next. */
static void request_next(const direct *d, cvc_tile *tile,
                         const workspace *space, int64_t group, int64_t panel,
                         bool first_block) {
  const cvc_conv_job *job = d->job;
  const bool weights = first_block && d->requests_weights;
  if (panel == 0 && !(weights && d->weights_first)) {
    tile->next = d->source;
    tile->next_run = space->a_run;
  } else if (weights && panel + 1 < d->panels) {
    tile->next = cvc_packed_panel(job->conv, d->pass, job->choice, job->packed,
                                  group, panel + 1);
    tile->next_end = cvc_packed_panel(job->conv, d->pass, job->choice,
                                      job->packed, group, panel + 2);
  }
}

/** One panel over the rows and columns of a block in one plane. */
static void run_plane(const direct *d, const workspace *space, int64_t plane,
                      int64_t group, int64_t panel, const cvc_region *rows,
                      int64_t n_rows, const cvc_region *columns,
                      int64_t n_columns) {
  const cvc_conv_job *job = d->job;
  const cvc_axis *axis = d->axis;
  const int64_t image = plane / axis[0].count, od = plane % axis[0].count;
  const int64_t width = cvc_panel_width(d->ch.produced, panel, d->kernels);
  const int64_t first_channel = group * d->ch.produced + panel * d->kernels->nr;
  const int64_t source_channel = group * d->ch.reduced;
  cvc_region depth;
  cvc_axis_regions(&axis[0], od, od + 1, &depth);

  cvc_tile tile = {
      .b = cvc_packed_panel(job->conv, d->pass, job->choice, job->packed, group,
                            panel),
      .a_run = space->a_run,
      .b_run = space->b_run,
      .a_step = 1,
      .b_step = width,
      .columns = (int)cvc_min(width, d->ch.produced - panel * d->kernels->nr),
      .bias =
          job->bias ? cvc_at_const(job->bias, first_channel, d->bytes) : NULL,
      .activation = cvc_conv_activation(job->conv, d->pass),
      .stores = d->stores,
  };
  request_next(d, &tile, space, group, panel,
               plane == 0 && rows->first == 0 && columns->first == 0);
  for (int64_t i = 0; i < n_rows; i++)
    for (int64_t j = 0; j < n_columns; j++) {
      const valid taps = {{depth.low, rows[i].low, columns[j].low},
                          {depth.high, rows[i].high, columns[j].high}};
      set_runs(d, &taps, width, space, &tile);
      const int64_t source_pixel =
          ((image * d->source_size[0] + od * axis[0].source_step) *
               d->source_size[1] +
           rows[i].first * axis[1].source_step) *
              d->source_size[2] +
          columns[j].first * axis[2].source_step - d->first_pixel;
      const int64_t target_pixel =
          ((image * d->target_size[0] + axis[0].first + od * axis[0].step) *
               d->target_size[1] +
           axis[1].first + rows[i].first * axis[1].step) *
              d->target_size[2] +
          axis[2].first + columns[j].first * axis[2].step;
      const int64_t at = target_pixel * d->target_channels + first_channel;
      run_rectangle(
          d, &tile, rows[i].count, columns[j].count,
          cvc_at_const(d->source,
                       source_pixel * d->source_channels + source_channel,
                       d->bytes),
          cvc_at(d->target, at, d->bytes),
          job->residual ? cvc_at_const(job->residual, at, d->bytes) : NULL);
    }
}

/** Copy the taps of one output, the first of whose pixels these are. */
static char *gather_taps(const direct *d, int64_t group, int64_t at_d,
                         int64_t at_h, int64_t at_w, char *to) {
  const cvc_axis *axis = d->axis;
  const size_t bytes = (size_t)(d->ch.reduced * d->bytes);
  for (int64_t t = 0; t < axis[0].taps; t++)
    for (int64_t r = 0; r < axis[1].taps; r++)
      for (int64_t s = 0; s < axis[2].taps; s++, to += bytes) {
        const int64_t pixel =
            ((at_d + t * axis[0].offset_step) * d->source_size[1] + at_h +
             r * axis[1].offset_step) *
                d->source_size[2] +
            at_w + s * axis[2].offset_step;
        const int64_t at = pixel * d->source_channels + group * d->ch.reduced;
        memcpy(to, cvc_at_const(d->source, at, d->bytes), bytes);
      }
  return to + 64;
}

/** Copy what a block of outputs takes, output by output: their pixels lie whole
 * pages apart, and those of a tile would drive each other from the first level.
 */
static void gather(direct *d, const workspace *space, int64_t group,
                   int64_t plane, int64_t planes, int64_t row, int64_t rows,
                   int64_t column, int64_t columns) {
  const cvc_axis *axis = d->axis;
  char *to = space->copy;
  for (int64_t p = plane; p < plane + planes; p++) {
    const int64_t image = p / axis[0].count, od = p % axis[0].count;
    const int64_t at_d =
        image * d->source_size[0] + axis[0].offset + od * axis[0].source_step;
    for (int64_t h = row; h < row + rows; h++)
      for (int64_t w = column; w < column + columns; w++)
        to = gather_taps(d, group, at_d,
                         h * axis[1].source_step + axis[1].offset,
                         w * axis[2].source_step + axis[2].offset, to);
  }
  d->source = space->copy;
  d->source_channels = gathered_step(d);
  d->first_pixel = (plane * rows + row) * columns + column;
  d->source_size[0] = axis[0].count;
  d->source_size[1] = rows;
  d->source_size[2] = columns;
  for (int i = 0; i < 3; i++) { /* where all taps are inside */
    d->axis[i].source_step = d->axis[i].offset_step = 1;
    d->axis[i].offset = 0;
    d->axis[i].source_size = axis[i].count + axis[i].taps;
  }
}

static void direct_task(void *context, int64_t task, int thread) {
  direct own = *(const direct *)context;
  direct *d = &own;
  const workspace space = workspace_of(d, thread);
  const int64_t split = task % d->panel_splits;
  task /= d->panel_splits;
  const int64_t group = task % d->ch.groups;
  task /= d->ch.groups;
  const int64_t column_block = task % d->column_blocks;
  task /= d->column_blocks;
  const int64_t row = task % d->row_blocks * d->block_rows;
  const int64_t plane = task / d->row_blocks * d->block_planes;
  const int64_t column = column_block * d->block_columns;

  const int64_t n_rows = cvc_axis_regions(
      &d->axis[1], row, cvc_min(row + d->block_rows, d->axis[1].count),
      space.rows);
  const int64_t n_columns = cvc_axis_regions(
      &d->axis[2], column, cvc_min(column + d->block_columns, d->axis[2].count),
      space.columns);
  const int64_t plane_end = cvc_min(plane + d->block_planes, d->planes);
  if (d->gathers)
    gather(d, &space, group, plane, plane_end - plane, row,
           cvc_min(d->block_rows, d->axis[1].count - row), column,
           cvc_min(d->block_columns, d->axis[2].count - column));
  for (int64_t panel = split * d->panels / d->panel_splits;
       panel < (split + 1) * d->panels / d->panel_splits; panel++)
    for (int64_t p = plane; p < plane_end; p++)
      run_plane(d, &space, p, group, panel, space.rows, n_rows, space.columns,
                n_columns);
  /* What was written past the caches is seen before the task's end is. */
  if (d->stores == CVC_STORES_STREAM) atomic_thread_fence(memory_order_seq_cst);
}

/** Every pixel for itself: the whole batch is one line of pixels. */
static bool is_pointwise(const cvc_conv *conv) {
  for (int i = 0; i < 3; i++)
    if (conv->kernel[i] != 1 || conv->stride[i] != 1 || conv->pad_before[i] ||
        conv->pad_after[i])
      return false;
  return true;
}

static void make_line(direct *d, int64_t pixels) {
  const cvc_axis one = {.step = 1,
                        .count = 1,
                        .source_size = 1,
                        .source_step = 1,
                        .taps = 1,
                        .offset_step = 1,
                        .tap_step = 1};
  for (int i = 0; i < 3; i++) {
    d->axis[i] = one;
    d->source_size[i] = d->target_size[i] = 1;
  }
  d->axis[2].count = d->axis[2].source_size = pixels;
  d->source_size[2] = d->target_size[2] = pixels;
  d->planes = 1;
  d->line = true;
}

/** Cut the outputs into blocks, enough of them for the threads. */
static void set_blocks(direct *d) {
  const int64_t mr = d->kernels->mr, threads = d->job->threads;
  const int64_t rows = d->axis[1].count, columns = d->axis[2].count;
  const int64_t row_bytes = columns * d->axis[2].source_step *
                            d->axis[1].source_step * d->ch.reduced * d->bytes;
  const int64_t enough = threads > 1 ? 4 * threads : 1;

  d->block_planes = d->block_rows = 1;
  d->block_columns = columns;
  if (rows * row_bytes <= BLOCK_BYTES && d->planes >= enough) {
    d->block_rows = rows;
    d->block_planes = cvc_max(
        cvc_min(BLOCK_BYTES / (rows * row_bytes), d->planes / enough), 1);
  } else if (row_bytes <= BLOCK_BYTES && rows > 1) {
    const int64_t parts = cvc_ceil_div(enough, d->planes);
    d->block_rows =
        cvc_max(cvc_min(BLOCK_BYTES / row_bytes, cvc_ceil_div(rows, parts)), 1);
  } else {
    const int64_t parts = cvc_max(cvc_ceil_div(row_bytes, BLOCK_BYTES),
                                  cvc_ceil_div(enough, d->planes * rows));
    d->block_columns =
        cvc_min(columns, cvc_round_up(cvc_ceil_div(columns, parts), 2 * mr));
  }
  d->plane_blocks = cvc_ceil_div(d->planes, d->block_planes);
  d->row_blocks = cvc_ceil_div(rows, d->block_rows);
  d->column_blocks = cvc_ceil_div(columns, d->block_columns);

  d->panels = cvc_panels(d->ch.produced, d->kernels);
  d->panel_splits = 1;
  const int64_t blocks =
      d->plane_blocks * d->row_blocks * d->column_blocks * d->ch.groups;
  if (threads > 1 && blocks < enough)
    d->panel_splits = cvc_min(d->panels, cvc_ceil_div(enough, blocks));
}

/** Whether tasks gather their pixels: those of a tile fall into one set of the
 * first level, every output has all taps, none of which another has, and panels
 * read them again. */
static bool gathers(const direct *d) {
  const int64_t step = d->axis[2].source_step * d->source_channels * d->bytes;
  if (d->ch.groups > 1 || step % PAGE_BYTES || d->panels < 2 * d->panel_splits)
    return false;
  for (int i = 0; i < 3; i++) {
    const cvc_axis *a = &d->axis[i];
    const int64_t extent = (a->taps - 1) * a->offset_step;
    const int64_t last = a->offset + (a->count - 1) * a->source_step;
    if (extent < 0 || a->taps > cvc_max(a->source_step, 1) || a->offset < 0 ||
        last + extent >= a->source_size)
      return false;
  }
  return true;
}

static cvc_stores stores_of(const direct *d) {
  const int64_t pixel = d->target_channels * d->bytes;
  const int64_t images = d->planes / d->axis[0].count;
  const int64_t bytes = images * cvc_volume(d->target_size) * pixel;
  const cvc_stores stores = cvc_stores_of(d->target, pixel, bytes);
  if (stores != CVC_STORES_PLAIN || bytes < REQUEST_BYTES) return stores;
  return CVC_STORES_REQUEST;
}

static bool is_empty(const direct *d) {
  return d->planes * d->axis[0].count * d->axis[1].count * d->axis[2].count ==
         0;
}

/** Run the correlation that d->axis describes. */
static cvc_status run_direct(direct *d) {
  if (is_empty(d)) return CVC_OK;
  set_blocks(d);
  d->gathers = gathers(d);
  d->stores = stores_of(d);
  const int64_t depth = d->ch.reduced * cvc_volume(d->job->conv->kernel);
  const int64_t pixels = d->block_planes * d->block_rows * d->block_columns;
  const int64_t weights = depth * d->ch.produced * d->bytes;
  d->requests_weights = weights >= WEIGHT_BYTES;
  d->weights_first =
      d->requests_weights && weights > pixels * d->axis[1].source_step *
                                           d->axis[2].source_step *
                                           d->ch.reduced * d->bytes;
  const int64_t tasks = d->plane_blocks * d->row_blocks * d->column_blocks *
                        d->ch.groups * d->panel_splits;
  return cvc_parallel(d->job->call, (int)cvc_min(d->job->threads, tasks), tasks,
                      direct_task, d);
}

/** Keep the largest workspace of the correlations of a pass. */
static cvc_status measure(direct *d) {
  if (is_empty(d)) return CVC_OK;
  set_blocks(d);
  d->gathers = gathers(d);
  d->most_bytes = cvc_max(d->most_bytes, workspace_bytes(d));
  return CVC_OK;
}

static direct direct_of(const cvc_conv_job *job, cvc_pass pass) {
  const cvc_conv *conv = job->conv;
  const bool forward = pass == CVC_FORWARD;
  direct d = {.job = job,
              .pass = pass,
              .kernels = cvc_kernels_of(conv->dtype),
              .ch = cvc_packed_channels(conv, pass, job->choice),
              .source = forward ? job->x : job->y,
              .target = job->target,
              .bytes = cvc_dtype_bytes(conv->dtype),
              .source_channels = forward ? conv->c : conv->k,
              .target_channels = forward ? cvc_conv_y_stride(conv) : conv->c};
  int64_t out[3];
  cvc_conv_out(conv, out);
  for (int i = 0; i < 3; i++) {
    d.source_size[i] = forward ? conv->size[i] : out[i];
    d.target_size[i] = forward ? out[i] : conv->size[i];
  }
  return d;
}

/** Apply a function to the correlations that a pass consists of: one, or one
 * for each remainder of the target modulo the stride. */
static cvc_status visit(direct *d, cvc_status (*function)(direct *)) {
  const cvc_conv *conv = d->job->conv;
  if (is_pointwise(conv)) {
    make_line(d, conv->n * cvc_volume(conv->size));
    return function(d);
  }
  int64_t remainders[3] = {1, 1, 1};
  for (int i = 0; i < 3 && d->pass == CVC_BACKWARD_DATA; i++)
    remainders[i] = cvc_min(conv->stride[i], conv->size[i]);
  for (int64_t at = 0; at < cvc_volume(remainders); at++) {
    const int64_t remainder[3] = {at / (remainders[1] * remainders[2]),
                                  at / remainders[2] % remainders[1],
                                  at % remainders[2]};
    for (int i = 0; i < 3; i++)
      d->axis[i] = d->pass == CVC_FORWARD
                       ? cvc_axis_forward(conv, i)
                       : cvc_axis_backward(conv, i, remainder[i]);
    d->planes = conv->n * d->axis[0].count;
    CVC_TRY(function(d));
  }
  return CVC_OK;
}

int64_t cvc_direct_scratch(const cvc_conv *conv, cvc_pass pass, int threads) {
  const cvc_conv_job job = {.conv = conv, .threads = threads};
  direct d = direct_of(&job, pass);
  d.most_bytes = tables_bytes(conv); /* of a rectangle */
  visit(&d, measure);
  return threads * d.most_bytes;
}

/** The regions of the outputs of an axis that lie at begin..end-1 of the
 * target. */
static int64_t regions_within(const cvc_axis *axis, int64_t begin, int64_t end,
                              cvc_region *regions) {
  const int64_t low = cvc_ceil_div(cvc_max(begin - axis->first, 0), axis->step);
  const int64_t high = cvc_ceil_div(cvc_max(end - axis->first, 0), axis->step);
  return cvc_axis_regions(axis, low, cvc_min(high, axis->count), regions);
}

void cvc_direct_rectangle(const cvc_conv_job *job, cvc_pass pass, void *scratch,
                          int64_t plane, int64_t group, int64_t row,
                          int64_t rows, int64_t column, int64_t columns) {
  const cvc_conv *conv = job->conv;
  const bool forward = pass == CVC_FORWARD;
  cvc_conv_job local = *job;
  local.scratch = scratch;
  direct d = direct_of(&local, pass);
  const workspace space = workspace_of(&d, 0);
  d.axis[0] =
      forward ? cvc_axis_forward(conv, 0) : cvc_axis_backward(conv, 0, 0);
  /* A strided gradient is one for each remainder of the index. */
  for (int64_t h = 0; h < (forward ? 1 : conv->stride[1]); h++)
    for (int64_t w = 0; w < (forward ? 1 : conv->stride[2]); w++) {
      d.axis[1] =
          forward ? cvc_axis_forward(conv, 1) : cvc_axis_backward(conv, 1, h);
      d.axis[2] =
          forward ? cvc_axis_forward(conv, 2) : cvc_axis_backward(conv, 2, w);
      const int64_t n_rows =
          regions_within(&d.axis[1], row, row + rows, space.rows);
      const int64_t n_columns =
          regions_within(&d.axis[2], column, column + columns, space.columns);
      for (int64_t p = 0; p < cvc_panels(d.ch.produced, d.kernels); p++)
        run_plane(&d, &space, plane, group, p, space.rows, n_rows,
                  space.columns, n_columns);
    }
}

cvc_status cvc_direct_run(const cvc_conv_job *job, cvc_pass pass) {
  direct d = direct_of(job, pass);
  return visit(&d, run_direct);
}
