/**
 * Gradient with respect to weights and bias. For one panel of output channels
 * a partial result is
 *
 *   partial[tap][c][width] = sum over samples, output pixels of
 *                            x[pixel at tap][c] dy[pixel][panel]
 *   partial[last row]      = sum of dy[pixel][panel]           (the bias)
 *
 * formed by the tile kernel straight from channels-last memory: c runs along
 * the tile's rows, the reduction along the pixels for which the tap lies
 * inside x. The sums over granules of samples are added in a binary tree.
 * A task forms some rows of a partial, for one granule or for all of them;
 * the order of the sums is the same.
 */
#include <string.h>

#include "conv.h"

#define CHUNK_BYTES                                                           \
  (96 * 1024)                         /* of a dy panel: stays in the L2 while \
                                         all taps read it */
#define WAVE_BYTES (64 * 1024 * 1024) /* partials alive at a time */
#define TASK_PRODUCTS 5e7             /* some milliseconds of a task */
#define TASK_ROWS 1024                /* of a partial; four fit the L2 */
#define RESIDENT_BYTES (1024 * 1024)  /* of a panel of all samples of dy */
#define ENOUGH_TASKS 8
#define COLUMN_BYTES (128 * 1024) /* of a block of im2col columns */
#define FEW_CHANNELS 8

/** What the rows of a tile are. */
typedef enum way {
  BY_TAP,    /* input channels of one tap */
  BY_ROW,    /* few channels: those of all taps of one filter row, which are
                neighbours in x once a copy of it has padding */
  BY_COLUMNS /* im2col: channels of all taps, gathered */
} way;

typedef struct weight {
  const cvc_conv_job *job;
  const cvc_kernels *kernels;
  cvc_channels ch; /* reduced: c, produced: k, per group */
  way way;
  int64_t bytes;
  int64_t out[3], pixels, taps; /* pixels of one image of dy */
  int64_t granules, panels;     /* panels of all groups */
  int64_t groups;               /* of granules: partials of a panel */
  int64_t rows;                 /* of a partial: taps * c + 1 */
  int64_t parts;                /* tasks that share a partial, by rows */
  int64_t chunk, strip;         /* samples whose sum one tile forms, or output
                                   rows of one sample */
  int64_t wave, first_panel;    /* panels in this wave; its first */
  char *partials, *workspaces;
  int64_t workspace_bytes;
} weight;

/** Per-thread working memory. */
typedef struct workspace {
  char *dy;   /* [chunk * pixels][nr]: a panel narrower than dy's rows */
  char *copy; /* of x: padded, or a block of im2col columns */
  char *sums; /* of granules that wait for their partner in the tree */
  ptrdiff_t *a_run, *b_run;
} workspace;

static way way_of(const cvc_conv *conv, bool im2col) {
  if (im2col) return BY_COLUMNS;
  const bool few = conv->groups == 1 && conv->c <= FEW_CHANNELS;
  const bool plane = conv->size[0] == 1 && conv->kernel[0] == 1 &&
                     !conv->pad_before[0] && !conv->pad_after[0];
  return few && plane && conv->dilation[2] == 1 && conv->kernel[2] > 1 ? BY_ROW
                                                                       : BY_TAP;
}

/**
 * Which part of the sum a task forms. Where dy is small and the filters many,
 * one task goes through all granules, so that a partial is written once;
 * else every granule is a task. The sums are the same.
 */
static void set_tasks(weight *w, const cvc_conv *conv, bool copies) {
  const int64_t nr = w->kernels->nr, mr = w->kernels->mr;
  const int64_t dy_bytes = conv->n * w->pixels * nr * w->bytes;
  const double products =
      (double)(conv->n * w->pixels) * (double)(w->rows * nr);
  const int64_t most = cvc_ceil_div(w->rows, mr);
  if (!copies && dy_bytes <= RESIDENT_BYTES) {
    w->groups = 1;
    w->parts = cvc_min(most, cvc_max(cvc_ceil_div(w->rows, TASK_ROWS),
                                     (int64_t)(products / TASK_PRODUCTS)));
    if (w->panels * w->parts >= ENOUGH_TASKS) return;
  }
  w->groups = w->granules;
  w->parts = copies
                 ? 1
                 : cvc_max(1, cvc_min(most, (int64_t)(products / TASK_PRODUCTS /
                                                      (double)w->granules)));
}

static weight weight_of(const cvc_conv *conv, bool im2col) {
  weight w = {.kernels = cvc_kernels_of(conv->dtype),
              .way = way_of(conv, im2col),
              .bytes = cvc_dtype_bytes(conv->dtype),
              .taps = cvc_volume(conv->kernel),
              .granules = cvc_granules(conv->n)};
  w.ch = cvc_conv_channels(conv, CVC_FORWARD);
  cvc_conv_out(conv, w.out);
  w.pixels = cvc_volume(w.out);
  w.rows = w.taps * w.ch.reduced + 1;
  w.panels = w.ch.groups * cvc_panels(w.ch.produced, w.kernels);
  const bool copies = w.way == BY_ROW || w.way == BY_COLUMNS;
  const int64_t panel_pixels = w.pixels * w.kernels->nr * w.bytes;
  w.chunk = copies ? 1 : cvc_max(CHUNK_BYTES / panel_pixels, 1);
  w.chunk = cvc_min(w.chunk, cvc_max(conv->n, 1));
  const int64_t row_bytes = w.out[0] * w.out[2] * w.kernels->nr * w.bytes;
  w.strip = w.chunk > 1 || w.way == BY_COLUMNS
                ? w.out[1]
                : cvc_max(CHUNK_BYTES / row_bytes, 1);
  set_tasks(&w, conv, copies);
  const int64_t panel_bytes = w.groups * w.rows * w.kernels->nr * w.bytes;
  w.wave = cvc_max(cvc_min(WAVE_BYTES / panel_bytes, w.panels), 1);
  return w;
}

/** Size of the padded copy of an image, exactly what the taps reach. */
static void padded_size(const cvc_conv *conv, const int64_t out[3],
                        int64_t size[2]) {
  for (int i = 0; i < 2; i++)
    size[i] = (out[i + 1] - 1) * conv->stride[i + 1] +
              (conv->kernel[i + 1] - 1) * conv->dilation[i + 1] + 1;
}

static int64_t block_pixels(const weight *w) {
  const int64_t row = w->taps * w->ch.reduced * w->bytes;
  return cvc_min(cvc_max(COLUMN_BYTES / row, 1), w->pixels);
}

/** Bytes of the rows that one task sums. */
static int64_t sum_bytes(const weight *w) {
  return (w->rows / w->parts + 1) * w->kernels->nr * w->bytes;
}

/** Levels of the tree below the root: 3 for 8 granules in a task. */
static int64_t waiting_sums(const weight *w) {
  int64_t levels = 0;
  for (int64_t g = w->granules / w->groups; g > 1; g /= 2) levels++;
  return levels;
}

/** Sets the offsets of the workspace's parts; returns its bytes. */
static int64_t carve(const weight *w, const cvc_conv *conv, char *memory,
                     workspace *space) {
  const int64_t dy =
      cvc_round_up(w->chunk * w->pixels * w->kernels->nr * w->bytes, 64);
  int64_t copy = 0, size[2];
  padded_size(conv, w->out, size);
  if (w->way == BY_COLUMNS) copy = block_pixels(w) * w->taps * w->ch.reduced;
  if (w->way == BY_ROW) copy = size[0] * size[1] * conv->c;
  copy = cvc_round_up(copy * w->bytes, 64);
  const int64_t sums = cvc_round_up(waiting_sums(w) * sum_bytes(w), 64);
  const int64_t runs = w->chunk * w->out[0] * w->out[1];
  if (memory) {
    space->dy = memory;
    space->copy = memory + dy;
    space->sums = memory + dy + copy;
    space->a_run = (ptrdiff_t *)(memory + dy + copy + sums);
    space->b_run = space->a_run + runs;
  }
  return dy + copy + sums +
         cvc_round_up(2 * runs * (int64_t)sizeof(ptrdiff_t), 64);
}

int64_t cvc_weight_scratch(const cvc_conv *conv, int threads, bool im2col) {
  const weight w = weight_of(conv, im2col);
  return cvc_round_up(w.wave * w.groups * w.rows * w.kernels->nr * w.bytes,
                      64) +
         threads * carve(&w, conv, NULL, NULL);
}

/** partial[rows][nr] of a group of granules and a panel of this wave. */
static char *partial_of(const weight *w, int64_t group, int64_t panel) {
  return cvc_at(
      w->partials,
      (group * w->wave + panel - w->first_panel) * w->rows * w->kernels->nr,
      w->bytes);
}

/** One panel: which channels of dy, and how they are read. */
typedef struct panel_view {
  int64_t group, first, width; /* first: channel of dy */
  int columns;
  const void *dy; /* of the chunk's first sample */
  int64_t step;   /* to the next pixel */
} panel_view;

static panel_view panel_of(const weight *w, int64_t panel) {
  const int64_t per_group = cvc_panels(w->ch.produced, w->kernels);
  const int64_t group = panel / per_group, i = panel % per_group;
  const int64_t rest = w->ch.produced - i * w->kernels->nr;
  panel_view view = {.group = group,
                     .first = group * w->ch.produced + i * w->kernels->nr,
                     .width = cvc_panel_width(w->ch.produced, i, w->kernels)};
  view.columns = (int)cvc_min(rest, view.width);
  return view;
}

/** Point the view at dy of the samples. Where a vector reaches beyond a
 * pixel's channels it reads the next one's, whose products are not stored;
 * copied where it would reach beyond the array. */
static void view_samples(const weight *w, const workspace *space,
                         int64_t sample, int64_t samples, panel_view *view) {
  const int64_t k = w->job->conv->k;
  view->dy =
      cvc_at_const(w->job->y, sample * w->pixels * k + view->first, w->bytes);
  view->step = k;
  const int64_t rest = (w->job->conv->n - sample - samples) * w->pixels * k;
  if (view->first + view->width <= k + rest) return;
  const size_t used = (size_t)(view->columns * w->bytes);
  const size_t padding = (size_t)(view->width * w->bytes) - used;
  for (int64_t pixel = 0; pixel < samples * w->pixels; pixel++) {
    char *to = cvc_at(space->dy, pixel * view->width, w->bytes);
    memcpy(to, cvc_at_const(view->dy, pixel * k, w->bytes), used);
    memset(to + used, 0, padding);
  }
  view->dy = space->dy;
  view->step = view->width;
}

/** What a tile sums over: output rows [top, bottom) of some samples. */
typedef struct strip {
  int64_t sample, samples, top, bottom;
} strip;

/** Channels [begin, end) of one tap: the pixels of the strip in as few runs
 * as possible. */
static void run_tap(const weight *w, const workspace *space, int64_t tap,
                    int64_t begin, int64_t end, const strip *strip,
                    const panel_view *view, cvc_tile *tile) {
  const cvc_conv *conv = w->job->conv;
  const int64_t *kernel = conv->kernel, *size = conv->size;
  const int64_t of_tap[3] = {tap / (kernel[1] * kernel[2]),
                             tap / kernel[2] % kernel[1], tap % kernel[2]};
  int64_t low[3], high[3], start[3]; /* start: x index of output `low` */
  for (int i = 0; i < 3; i++) {
    cvc_tap_outputs(conv, i, of_tap[i], &low[i], &high[i]);
    start[i] = low[i] * conv->stride[i] - conv->pad_before[i] +
               of_tap[i] * conv->dilation[i];
  }
  tile->a_row = 1;
  tile->a_step = conv->stride[2] * conv->c;
  tile->length = high[2] - low[2];
  const int64_t bottom = cvc_min(high[1], strip->bottom);
  int64_t runs = 0;
  if (tile->length)
    for (int64_t n = 0; n < strip->samples; n++)
      for (int64_t od = low[0]; od < high[0]; od++)
        for (int64_t oh = cvc_max(low[1], strip->top); oh < bottom;
             oh++, runs++) {
          const int64_t d = start[0] + (od - low[0]) * conv->stride[0];
          const int64_t h = start[1] + (oh - low[1]) * conv->stride[1];
          space->a_run[runs] =
              (((n * size[0] + d) * size[1] + h) * size[2] + start[2]) *
              conv->c;
          space->b_run[runs] =
              (((n * w->out[0] + od) * w->out[1] + oh) * w->out[2] + low[2]) *
              view->step;
        }
  /* Every row ends where the next one begins: one run. */
  if (runs > 1) {
    bool joined = true;
    for (int64_t q = 1; q < runs && joined; q++)
      joined =
          space->a_run[q] - space->a_run[q - 1] ==
              tile->length * tile->a_step &&
          space->b_run[q] - space->b_run[q - 1] == tile->length * view->step;
    if (joined) {
      tile->length *= runs;
      runs = 1;
    }
  }
  tile->runs = runs;
  tile->a = cvc_at_const(w->job->x,
                         strip->sample * conv->c * cvc_volume(size) +
                             view->group * w->ch.reduced + begin,
                         w->bytes);
  cvc_run_tiles(w->kernels, tile, end - begin, w->bytes);
}

/** The same through blocks of im2col columns of one sample. */
static void run_columns(const weight *w, const workspace *space, int64_t sample,
                        const panel_view *view, cvc_tile tile) {
  const cvc_conv *conv = w->job->conv;
  const int64_t depth = w->taps * w->ch.reduced, block = block_pixels(w);
  const void *x = cvc_at_const(
      w->job->x,
      sample * conv->c * cvc_volume(conv->size) + view->group * w->ch.reduced,
      w->bytes);
  void *c = tile.c;
  space->a_run[0] = 0;
  tile.runs = 1;
  tile.a_row = 1;
  tile.a_step = depth;
  for (int64_t first = 0; first < w->pixels; first += block) {
    tile.length = cvc_min(block, w->pixels - first);
    cvc_im2col(conv, x, conv->c, w->ch.reduced, first, tile.length,
               space->copy);
    space->b_run[0] = first * view->step;
    tile.a = space->copy;
    tile.c = c;
    cvc_run_tiles(w->kernels, &tile, depth, w->bytes);
    tile.accumulate = true;
  }
}

/** Copy an image with as much of its padding as the taps reach. */
static void copy_padded(const weight *w, int64_t sample, char *copy) {
  const cvc_conv *conv = w->job->conv;
  const int64_t pixel = conv->c * w->bytes;
  const char *image = cvc_at_const(
      w->job->x, sample * conv->c * cvc_volume(conv->size), w->bytes);
  int64_t size[2];
  padded_size(conv, w->out, size);
  const int64_t left = cvc_min(conv->pad_before[2], size[1]);
  const int64_t used = cvc_max(0, cvc_min(conv->size[2], size[1] - left));
  for (int64_t i = 0; i < size[0]; i++) {
    const int64_t h = i - conv->pad_before[1];
    char *to = copy + i * size[1] * pixel;
    memset(to, 0, (size_t)(size[1] * pixel));
    if (h >= 0 && h < conv->size[1])
      memcpy(to + left * pixel, image + h * conv->size[2] * pixel,
             (size_t)(used * pixel));
  }
}

/** The taps of one filter row after the other from a padded copy of x. */
static void run_filter_rows(const weight *w, const workspace *space,
                            const strip *strip, const panel_view *view,
                            cvc_tile tile) {
  const cvc_conv *conv = w->job->conv;
  const int64_t row = conv->kernel[2] * conv->c;
  void *c = tile.c;
  int64_t size[2];
  padded_size(conv, w->out, size);
  tile.a_row = 1;
  tile.a_step = conv->stride[2] * conv->c;
  tile.runs = strip->bottom - strip->top;
  tile.length = w->out[2];
  for (int64_t r = 0; r < conv->kernel[1]; r++) {
    for (int64_t i = 0; i < tile.runs; i++) {
      const int64_t oh = strip->top + i;
      const int64_t h = oh * conv->stride[1] + r * conv->dilation[1];
      space->a_run[i] = h * size[1] * conv->c;
      space->b_run[i] = oh * w->out[2] * view->step;
    }
    tile.a = space->copy;
    tile.c = cvc_at(c, r * row * w->kernels->nr, w->bytes);
    cvc_run_tiles(w->kernels, &tile, row, w->bytes);
  }
}

/** Whether a strip may run on a copy of x, whose padding is 0: not where an
 * infinite dy would make NaN of that. */
static bool may_copy(const weight *w, const strip *strip) {
  const cvc_conv *conv = w->job->conv;
  if (w->way != BY_ROW && w->way != BY_COLUMNS) return false;
  for (int i = 0; i < 3; i++)
    if (conv->pad_before[i] || conv->pad_after[i]) {
      const int64_t row = w->out[2] * conv->k;
      const int64_t first = strip->sample * w->out[0] * w->out[1] + strip->top;
      const int64_t rows = w->out[0] * (strip->bottom - strip->top);
      return w->kernels->all_finite(
          rows * row, cvc_at_const(w->job->y, first * row, w->bytes));
    }
  return true;
}

/** The bias row: a product with ones. */
static void run_bias(const weight *w, const workspace *space,
                     const strip *strip, const panel_view *view,
                     cvc_tile *tile) {
  static const float one_f32 = 1;
  static const double one_f64 = 1;
  tile->runs = strip->samples * w->out[0];
  for (int64_t i = 0; i < tile->runs; i++) {
    space->a_run[i] = 0;
    space->b_run[i] = (i * w->out[1] + strip->top) * w->out[2] * view->step;
  }
  tile->a = w->job->conv->dtype == CVC_F32 ? (const void *)&one_f32
                                           : (const void *)&one_f64;
  tile->a_row = tile->a_step = 0;
  tile->length = (strip->bottom - strip->top) * w->out[2];
  cvc_run_tiles(w->kernels, tile, 1, w->bytes);
}

/** Rows of a partial that a task forms, and of which panel. */
typedef struct share {
  int64_t panel, first_row, end_row;
} share;

/** sums[row - first_row] of a strip; tile.b is dy of its first sample. */
static void sum_strip(const weight *w, const workspace *space,
                      const share *share, const strip *strip,
                      const panel_view *view, cvc_tile tile, char *sums) {
  const int64_t nr = w->kernels->nr, c = w->ch.reduced;
  const bool copies = may_copy(w, strip);
  tile.c = sums;
  if (w->job->target && copies && w->way == BY_COLUMNS) {
    run_columns(w, space, strip->sample, view, tile);
  } else if (w->job->target && copies) {
    run_filter_rows(w, space, strip, view, tile);
  } else if (w->job->target) {
    const int64_t stop = cvc_min(share->end_row, c * w->taps);
    for (int64_t row = share->first_row; row < stop;) {
      const int64_t tap = row / c, first = row % c;
      const int64_t last = cvc_min(first + stop - row, c);
      tile.c = cvc_at(sums, (row - share->first_row) * nr, w->bytes);
      run_tap(w, space, tap, first, last, strip, view, &tile);
      row += last - first;
    }
  }
  if (w->job->db && share->end_row == w->rows) {
    tile.c = cvc_at(sums, (w->rows - 1 - share->first_row) * nr, w->bytes);
    run_bias(w, space, strip, view, &tile);
  }
}

/** The same of one granule. */
static void sum_granule(const weight *w, const workspace *space,
                        const share *share, int64_t granule, char *sums) {
  const cvc_conv *conv = w->job->conv;
  const int64_t nr = w->kernels->nr;
  const int64_t end = cvc_granule_first(conv->n, granule + 1);
  panel_view view = panel_of(w, share->panel);
  cvc_tile tile = {.a_run = space->a_run,
                   .b_run = space->b_run,
                   .c_row = nr,
                   .columns = view.columns};
  if (conv->n == 0)
    memset(sums, 0,
           (size_t)((share->end_row - share->first_row) * nr * w->bytes));
  strip strip = {.sample = cvc_granule_first(conv->n, granule)};
  for (; strip.sample < end; strip.sample += strip.samples) {
    strip.samples = cvc_min(w->chunk, end - strip.sample);
    view_samples(w, space, strip.sample, strip.samples, &view);
    if (w->way == BY_ROW && w->job->target)
      copy_padded(w, strip.sample, space->copy);
    tile.b = view.dy;
    tile.b_step = view.step;
    for (strip.top = 0; strip.top < w->out[1]; strip.top = strip.bottom) {
      strip.bottom = cvc_min(strip.top + w->strip, w->out[1]);
      sum_strip(w, space, share, &strip, &view, tile, sums);
      tile.accumulate = true;
    }
  }
}

/** A share of one group of granules: their sums, added in a binary tree as
 * soon as both of a pair are there. */
static void weight_task(void *context, int64_t task, int thread) {
  const weight *w = context;
  workspace space;
  carve(w, w->job->conv, w->workspaces + thread * w->workspace_bytes, &space);
  const int64_t part = task % w->parts;
  task /= w->parts;
  const int64_t group = task % w->groups;
  const share share = {.panel = w->first_panel + task / w->groups,
                       .first_row = part * w->rows / w->parts,
                       .end_row = (part + 1) * w->rows / w->parts};
  const int64_t nr = w->kernels->nr;
  const int64_t elements = (share.end_row - share.first_row) * nr;
  const int64_t count = w->granules / w->groups;
  char *levels[4]; /* of the tree; the root is the partial itself */
  levels[0] =
      cvc_at(partial_of(w, group, share.panel), share.first_row * nr, w->bytes);
  for (int i = 0; i < 3; i++) levels[i + 1] = space.sums + i * sum_bytes(w);
  int depth = 0;
  for (int64_t i = 0; i < count; i++) {
    sum_granule(w, &space, &share, group * count + i, levels[depth]);
    for (int64_t pairs = i; pairs & 1; pairs >>= 1, depth--)
      w->kernels->add(elements, levels[depth - 1], levels[depth],
                      levels[depth - 1]);
    depth++;
  }
}

/* dw[j][c][tap] = partial[tap][c][j], c in [begin, end). */
#define UNPACK(REAL)                                                           \
  static void unpack_##REAL(const weight *w, const REAL *partial, int columns, \
                            int64_t begin, int64_t end, REAL *dw) {            \
    const int64_t c_total = w->ch.reduced, nr = w->kernels->nr;                \
    for (int j = 0; j < columns; j++)                                          \
      for (int64_t c = begin; c < end; c++)                                    \
        for (int64_t tap = 0; tap < w->taps; tap++)                            \
          dw[(j * c_total + c) * w->taps + tap] =                              \
              partial[(tap * c_total + c) * nr + j];                           \
  }
UNPACK(float)
UNPACK(double)

/** Add the groups of rows [row, row + count) of a panel in a tree, into
 * group 0. */
static void add_groups(const weight *w, int64_t panel, int64_t row,
                       int64_t count) {
  const int64_t nr = w->kernels->nr;
  for (int64_t step = 1; step < w->groups; step *= 2)
    for (int64_t g = 0; g + step < w->groups; g += 2 * step) {
      void *sum = cvc_at(partial_of(w, g, panel), row * nr, w->bytes);
      w->kernels->add(
          count * nr, sum,
          cvc_at(partial_of(w, g + step, panel), row * nr, w->bytes), sum);
    }
}

enum { REDUCE_CHANNELS = 64 }; /* channels of x that one task adds */

static void reduce_task(void *context, int64_t task, int thread) {
  (void)thread;
  const weight *w = context;
  const int64_t c = w->ch.reduced;
  const int64_t parts = cvc_ceil_div(c, REDUCE_CHANNELS);
  const int64_t panel = w->first_panel + task / parts;
  const int64_t begin = task % parts * REDUCE_CHANNELS;
  const int64_t end = cvc_min(begin + REDUCE_CHANNELS, c);
  const panel_view view = panel_of(w, panel);
  char *partial = partial_of(w, 0, panel);
  if (w->job->target) {
    for (int64_t tap = 0; tap < w->taps; tap++)
      add_groups(w, panel, tap * c + begin, end - begin);
    void *dw = cvc_at(w->job->target, view.first * c * w->taps, w->bytes);
    if (w->job->conv->dtype == CVC_F32)
      unpack_float(w, (const float *)partial, view.columns, begin, end, dw);
    else
      unpack_double(w, (const double *)partial, view.columns, begin, end, dw);
  }
  if (w->job->db && begin == 0) {
    add_groups(w, panel, w->rows - 1, 1);
    memcpy(cvc_at(w->job->db, view.first, w->bytes),
           cvc_at(partial, (w->rows - 1) * w->kernels->nr, w->bytes),
           (size_t)(view.columns * w->bytes));
  }
}

cvc_status cvc_weight_backward(const cvc_conv_job *job, bool im2col) {
  weight w = weight_of(job->conv, im2col);
  w.job = job;
  w.partials = job->scratch;
  w.workspace_bytes = carve(&w, job->conv, NULL, NULL);
  w.workspaces =
      w.partials +
      cvc_round_up(w.wave * w.groups * w.rows * w.kernels->nr * w.bytes, 64);
  const int64_t parts = cvc_ceil_div(w.ch.reduced, REDUCE_CHANNELS);
  for (; w.first_panel < w.panels; w.first_panel += w.wave) {
    const int64_t wave = cvc_min(w.wave, w.panels - w.first_panel);
    CVC_TRY(cvc_parallel(job->call, job->threads, wave * w.groups * w.parts,
                         weight_task, &w));
    CVC_TRY(
        cvc_parallel(job->call, job->threads, wave * parts, reduce_task, &w));
  }
  return CVC_OK;
}
