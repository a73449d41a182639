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
 * inside x. A task forms some rows of some panels' partials, strip by strip of
 * pixels, so that the strip's x stays in the second level for all of them: for
 * one granule of samples, whose sums are then added in a binary tree, or for
 * all samples. Which of both, and the strips, follow from the shape.
 */
#include <string.h>

#include "conv.h"

#define STRIP_BYTES (384 * 1024) /* of x: a part of the second level */
#define LEAST_PIXELS 64          /* of a strip, and most: their sums are one */
#define MOST_PIXELS 192          /* chain */
#define GATHER_BYTES \
  2048              /* from pixel to pixel: so far apart, few sets serve */
#define FEW_TILES 3 /* that read dy where it is: copying costs more */
#define WAVE_BYTES (64 * 1024 * 1024) /* partials alive at a time */
#define TASK_PRODUCTS 2.5e8           /* some milliseconds of a task */
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
  int64_t sums;                 /* partials of a panel: granules, or 1 */
  int64_t panels;               /* of a group of channels */
  int64_t block, blocks;     /* panels of a task; such blocks of all groups */
  int64_t rows;              /* of a partial: taps * c + 1 */
  int64_t parts;             /* tasks that share a partial, by rows */
  int64_t chunk, strip;      /* samples of a strip, or output rows of one
                                sample */
  bool gathers;              /* copies the channels of a tap */
  int64_t wave, first_block; /* blocks in this wave; its first */
  char *partials, *workspaces;
  int64_t workspace_bytes;
} weight;

/** Per-thread working memory. */
typedef struct workspace {
  char *dy;   /* [panel of the block][pixel of the strip][nr] */
  char *copy; /* of x: a tap's channels, side by side; the padded image; a
                 block of im2col columns */
  ptrdiff_t *a_run, *b_run;
} workspace;

/** Elements of a panel's partial. */
static int64_t panel_elements(const weight *w) {
  return w->rows * w->kernels->nr;
}

static way way_of(const cvc_conv *conv, bool im2col) {
  if (im2col) return BY_COLUMNS;
  const bool few = conv->groups == 1 && conv->c <= FEW_CHANNELS;
  const bool plane = conv->size[0] == 1 && conv->kernel[0] == 1 &&
                     !conv->pad_before[0] && !conv->pad_after[0];
  return few && plane && conv->dilation[2] == 1 && conv->kernel[2] > 1 ? BY_ROW
                                                                       : BY_TAP;
}

/**
 * What is a task: the least traffic from beyond the second level, of enough
 * tasks. x comes in again for every block of panels, dy for every part of the
 * rows; partials of granules are written and read.
 */
static void set_tasks(weight *w, const cvc_conv *conv) {
  const double x = (double)(cvc_conv_x_elements(conv)) / (double)w->ch.groups;
  const double dy = (double)(cvc_conv_y_elements(conv)) / (double)w->ch.groups;
  const double dw = (double)(w->rows * w->panels * w->kernels->nr);
  const double products = dw * (double)(conv->n * w->pixels);
  const int64_t granules = cvc_granules(conv->n);
  const int64_t most =
      w->way == BY_TAP ? cvc_ceil_div(w->rows, w->kernels->mr) : 1;
  double best = 0;
  for (int64_t sums = granules; sums; sums = sums > 1 ? 1 : 0)
    for (int64_t block = w->panels;; block = cvc_ceil_div(block, 2)) {
      const int64_t blocks = cvc_ceil_div(w->panels, block);
      const int64_t tasks = sums * blocks;
      const int64_t wanted = cvc_max(ENOUGH_TASKS / w->ch.groups,
                                     (int64_t)(products / TASK_PRODUCTS));
      const int64_t parts =
          cvc_min(cvc_max(cvc_ceil_div(wanted, tasks), 1), most);
      double traffic = x * (double)blocks + dy * (double)parts;
      if (sums > 1) traffic += 3 * dw * (double)sums;
      /* Without enough tasks threads would wait: as many as there can be. */
      if (tasks * parts < wanted)
        traffic *= (double)wanted / (double)(tasks * parts);
      if (best == 0 || traffic < best) {
        best = traffic;
        w->sums = sums;
        w->block = block;
        w->parts = parts;
      }
      if (block == 1) break;
    }
  w->blocks = w->ch.groups * cvc_ceil_div(w->panels, w->block);
}

/** Pixels of a strip, in whole rows or samples. */
static void set_strip(weight *w, const cvc_conv *conv) {
  const int64_t channels = cvc_ceil_div(w->ch.reduced, w->parts);
  const int64_t row = channels * cvc_volume(conv->stride) * w->bytes;
  const int64_t pixels =
      cvc_max(cvc_min(STRIP_BYTES / row, MOST_PIXELS), LEAST_PIXELS);
  w->chunk = w->way == BY_TAP ? pixels / w->pixels : 1;
  w->chunk = cvc_max(cvc_min(w->chunk, conv->n), 1);
  w->strip = cvc_max(pixels / (w->out[0] * w->out[2]), 1);
  w->strip = w->chunk > 1 ? w->out[1] : cvc_min(w->strip, w->out[1]);
  if (w->out[1]) /* all of about the same height */
    w->strip = cvc_ceil_div(w->out[1], cvc_ceil_div(w->out[1], w->strip));
  /* Copied where the channels of a tap lie far apart and are read often. */
  w->gathers = w->way == BY_TAP && w->block > 1 &&
               conv->stride[2] * conv->c * w->bytes >= GATHER_BYTES;
}

static weight weight_of(const cvc_conv *conv, bool im2col) {
  weight w = {.kernels = cvc_kernels_of(conv->dtype),
              .way = way_of(conv, im2col),
              .bytes = cvc_dtype_bytes(conv->dtype),
              .taps = cvc_volume(conv->kernel)};
  w.ch = cvc_conv_channels(conv, CVC_FORWARD);
  cvc_conv_out(conv, w.out);
  w.pixels = cvc_volume(w.out);
  w.rows = w.taps * w.ch.reduced + 1;
  w.panels = cvc_panels(w.ch.produced, w.kernels);
  set_tasks(&w, conv);
  set_strip(&w, conv);
  w.wave = WAVE_BYTES / (w.sums * w.block * panel_elements(&w) * w.bytes);
  w.wave = cvc_max(cvc_min(w.wave, w.blocks), 1);
  return w;
}

/** Size of the padded copy of an image, exactly what the taps reach. */
static void padded_size(const cvc_conv *conv, const int64_t out[3],
                        int64_t size[2]) {
  for (int i = 0; i < 2; i++)
    size[i] = (out[i + 1] - 1) * conv->stride[i + 1] +
              (conv->kernel[i + 1] - 1) * conv->dilation[i + 1] + 1;
}

/** Most pixels of a strip. */
static int64_t strip_pixels(const weight *w) {
  return w->chunk * w->out[0] * w->strip * w->out[2];
}

/** Pixels of a block of im2col columns. */
static int64_t column_pixels(const weight *w) {
  const int64_t row = w->taps * w->ch.reduced * w->bytes;
  return cvc_min(cvc_max(COLUMN_BYTES / row, 1), w->strip * w->out[2]);
}

/** Sets the offsets of the workspace's parts; returns its bytes. */
static int64_t carve(const weight *w, const cvc_conv *conv, char *memory,
                     workspace *space) {
  const int64_t dy =
      cvc_round_up(w->block * strip_pixels(w) * w->kernels->nr * w->bytes, 64);
  int64_t copy = 0, size[2];
  padded_size(conv, w->out, size);
  if (w->gathers) copy = strip_pixels(w) * (w->ch.reduced + 64 / w->bytes);
  if (w->way == BY_COLUMNS) copy = column_pixels(w) * w->taps * w->ch.reduced;
  if (w->way == BY_ROW) copy = size[0] * size[1] * conv->c;
  copy = cvc_round_up(copy * w->bytes, 64);
  const int64_t runs = w->chunk * w->out[0] * w->strip;
  if (memory) {
    space->dy = memory;
    space->copy = memory + dy;
    space->a_run = (ptrdiff_t *)(memory + dy + copy);
    space->b_run = space->a_run + runs;
  }
  return dy + copy + cvc_round_up(2 * runs * (int64_t)sizeof(ptrdiff_t), 64);
}

static int64_t partials_bytes(const weight *w) {
  return cvc_round_up(
      w->wave * w->sums * w->block * panel_elements(w) * w->bytes, 64);
}

int64_t cvc_weight_scratch(const cvc_conv *conv, int threads, bool im2col) {
  const weight w = weight_of(conv, im2col);
  return partials_bytes(&w) + threads * carve(&w, conv, NULL, NULL);
}

/** partial[rows][nr] of a sum and panel `i` of a block of this wave. */
static char *partial_of(const weight *w, int64_t sum, int64_t block,
                        int64_t i) {
  const int64_t at = (sum * w->wave + block - w->first_block) * w->block + i;
  return cvc_at(w->partials, at * panel_elements(w), w->bytes);
}

/** A panel: its channels of dy, and the width in which they are packed. What a
 * partial has beyond its columns is never used. */
typedef struct panel {
  int64_t group, first;
  int columns, width;
} panel;

static panel panel_of(const weight *w, int64_t block, int64_t i) {
  const int64_t blocks = cvc_ceil_div(w->panels, w->block);
  const int64_t group = block / blocks;
  const int64_t at = block % blocks * w->block + i, nr = w->kernels->nr;
  const int64_t width = cvc_panel_width(w->ch.produced, at, w->kernels);
  return (panel){.group = group,
                 .first = group * w->ch.produced + at * nr,
                 .columns = (int)cvc_min(w->ch.produced - at * nr, width),
                 .width = (int)width};
}

/** Panels of a block: the last one of a group may have fewer. */
static int64_t panels_of(const weight *w, int64_t block) {
  const int64_t blocks = cvc_ceil_div(w->panels, w->block);
  return cvc_min(w->block, w->panels - block % blocks * w->block);
}

/** Memory whose lines are requested while tiles run. */
typedef struct request {
  const char *at, *end;
} request;

/** What is summed at a time: output rows [top, bottom) of some samples, for
 * some rows of the partials of a block of panels. */
typedef struct strip {
  const weight *w;
  const workspace *space;
  int64_t sample, samples, top, bottom;
  int64_t sum, block, first_row, end_row;
  bool accumulate;
  const char *dy;            /* of the strip: the first panel, */
  int64_t dy_step, dy_panel; /* elements to the next pixel and panel */
  request next[2];           /* dy and x of the strip that follows */
} strip;

/** Number of an output row within the strip. */
static int64_t row_of(const strip *s, int64_t sample, int64_t od, int64_t oh) {
  return (sample * s->w->out[0] + od) * (s->bottom - s->top) + oh - s->top;
}

static int64_t rows_of(const strip *s) {
  return s->samples * s->w->out[0] * (s->bottom - s->top);
}

/** Whether dy serves as it is, where few tiles read it: the lanes beyond its
 * channels are those of the next pixels, and their sums are dropped. Behind the
 * array there are none. */
static bool is_read_in_place(const strip *s) {
  const weight *w = s->w;
  const cvc_conv *conv = w->job->conv;
  const bool dense = w->out[0] == 1 || s->bottom - s->top == w->out[1];
  const bool few =
      w->panels == 1 || s->end_row - s->first_row <= FEW_TILES * w->kernels->mr;
  const panel p = panel_of(w, s->block, panels_of(w, s->block) - 1);
  const int64_t pixels =
      (s->sample * w->out[0] * w->out[1] + s->top + rows_of(s)) * w->out[2];
  const int64_t read = (pixels - 1) * conv->k + p.first + p.width;
  return few && dense && read <= conv->n * w->pixels * conv->k;
}

/** dy of the strip by panels, [panel][pixel][nr], with zeros in the lanes
 * beyond the channels. */
static void pack_dy(strip *s) {
  const weight *w = s->w;
  const int64_t k = w->job->conv->k, nr = w->kernels->nr;
  const int64_t length = (s->bottom - s->top) * w->out[2];
  const int64_t panels = panels_of(w, s->block);
  const panel first = panel_of(w, s->block, 0);
  const panel last = panel_of(w, s->block, panels - 1);
  const size_t full = (size_t)(nr * w->bytes);
  const size_t used = (size_t)(last.columns * w->bytes);
  const size_t rest = (size_t)(last.width * w->bytes) - used;
  const int64_t panel_bytes = strip_pixels(w) * nr * w->bytes;
  char *to = s->space->dy;
  if (is_read_in_place(s)) {
    const int64_t pixel =
        (s->sample * w->out[0] * w->out[1] + s->top) * w->out[2];
    s->dy = cvc_at_const(w->job->y, pixel * k + first.first, w->bytes);
    s->dy_step = k;
    s->dy_panel = nr;
    return;
  }
  s->dy = to;
  s->dy_step = nr;
  s->dy_panel = strip_pixels(w) * nr;
  for (int64_t plane = 0; plane < s->samples * w->out[0]; plane++) {
    const int64_t row = (s->sample * w->out[0] + plane) * w->out[1] + s->top;
    const char *from =
        cvc_at_const(w->job->y, row * w->out[2] * k + first.first, w->bytes);
    for (int64_t pixel = 0; pixel < length; pixel++) {
      for (int64_t i = 0; i < panels - 1; i++)
        memcpy(to + i * panel_bytes, from + i * (int64_t)full, full);
      char *tail = to + (panels - 1) * panel_bytes;
      memcpy(tail, from + (panels - 1) * (int64_t)full, used);
      if (rest) memset(tail + used, 0, rest);
      to += full;
      from += k * w->bytes;
    }
  }
}

/** Let each term of the tiles request a line of what comes next. */
static void set_request(const strip *s, cvc_tile *tile) {
  const request *r = s->next[0].at ? &s->next[0] : &s->next[1];
  tile->next = r->at;
  tile->next_end = r->end;
  tile->next_tile = tile->runs * tile->length * s->w->kernels->vector_length;
}

static void keep_request(strip *s, const cvc_tile *tile) {
  request *r = s->next[0].at ? &s->next[0] : &s->next[1];
  r->at = tile->next;
}

/** Rows [row, row + count) of the partials, of all panels of the block. */
static void run_panels(strip *s, cvc_tile *tile, int64_t row, int64_t count) {
  const weight *w = s->w;
  const int64_t nr = w->kernels->nr;
  const void *a = tile->a;
  tile->a_run = s->space->a_run;
  tile->b_run = s->space->b_run;
  tile->b_step = s->dy_step;
  tile->c_row = nr;
  tile->accumulate = s->accumulate;
  tile->stores = CVC_STORES_REQUEST;
  for (int64_t i = 0; i < panels_of(w, s->block); i++) {
    tile->a = a;
    tile->b = cvc_at_const(s->dy, i * s->dy_panel, w->bytes);
    tile->c = cvc_at(partial_of(w, s->sum, s->block, i), row * nr, w->bytes);
    tile->columns = panel_of(w, s->block, i).columns;
    set_request(s, tile);
    cvc_run_tiles(w->kernels, tile, count, w->bytes);
    keep_request(s, tile);
  }
}

/** One run where every row ends where the next one begins. */
static void join_runs(const workspace *space, cvc_tile *tile, int64_t b_step) {
  for (int64_t q = 1; q < tile->runs; q++)
    if (space->a_run[q] - space->a_run[q - 1] != tile->length * tile->a_step ||
        space->b_run[q] - space->b_run[q - 1] != tile->length * b_step)
      return;
  if (tile->runs > 1) tile->length *= tile->runs;
  tile->runs = cvc_min(tile->runs, 1);
}

/** Elements from a gathered pixel to the next: a cache line more than a
 * multiple of a kilobyte, whose lines would share few sets. */
static int64_t gathered_step(const weight *w, int64_t channels) {
  return channels * w->bytes % 1024 ? channels : channels + 64 / w->bytes;
}

/** Bring the channels of all pixels of the runs together. */
static void gather(const strip *s, cvc_tile *tile, int64_t channels) {
  const int64_t bytes = s->w->bytes, step = gathered_step(s->w, channels);
  char *to = s->space->copy;
  for (int64_t q = 0; q < tile->runs; q++) {
    const char *from = cvc_at_const(tile->a, s->space->a_run[q], bytes);
    s->space->a_run[q] = (to - s->space->copy) / bytes;
    for (int64_t i = 0; i < tile->length; i++) {
      memcpy(to, from, (size_t)(channels * bytes));
      to += step * bytes;
      from += tile->a_step * bytes;
    }
  }
  tile->a = s->space->copy;
  tile->a_step = step;
}

/** Channels [begin, end) of one tap: the pixels of the strip in as few runs
 * as possible. */
static void run_tap(strip *s, int64_t tap, int64_t begin, int64_t end) {
  const weight *w = s->w;
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
  const int64_t group = panel_of(w, s->block, 0).group;
  const int64_t bottom = cvc_min(high[1], s->bottom);
  cvc_tile tile = {.a = cvc_at_const(w->job->x,
                                     s->sample * conv->c * cvc_volume(size) +
                                         group * w->ch.reduced + begin,
                                     w->bytes),
                   .a_row = 1,
                   .a_step = conv->stride[2] * conv->c,
                   .length = high[2] - low[2]};
  if (tile.length)
    for (int64_t n = 0; n < s->samples; n++)
      for (int64_t od = low[0]; od < high[0]; od++)
        for (int64_t oh = cvc_max(low[1], s->top); oh < bottom; oh++) {
          const int64_t d = start[0] + (od - low[0]) * conv->stride[0];
          const int64_t h = start[1] + (oh - low[1]) * conv->stride[1];
          s->space->a_run[tile.runs] =
              (((n * size[0] + d) * size[1] + h) * size[2] + start[2]) *
              conv->c;
          s->space->b_run[tile.runs++] =
              (row_of(s, n, od, oh) * w->out[2] + low[2]) * s->dy_step;
        }
  if (w->gathers) gather(s, &tile, end - begin);
  join_runs(s->space, &tile, s->dy_step);
  run_panels(s, &tile, tap * w->ch.reduced + begin, end - begin);
}

static void run_taps(strip *s) {
  const int64_t c = s->w->ch.reduced;
  const int64_t stop = cvc_min(s->end_row, c * s->w->taps);
  for (int64_t row = s->first_row; row < stop;) {
    const int64_t tap = row / c, first = row % c;
    const int64_t last = cvc_min(first + stop - row, c);
    run_tap(s, tap, first, last);
    row += last - first;
  }
}

/** The same through blocks of im2col columns of one sample. */
static void run_columns(strip *s) {
  const weight *w = s->w;
  const cvc_conv *conv = w->job->conv;
  const int64_t depth = w->taps * w->ch.reduced, most = column_pixels(w);
  const int64_t group = panel_of(w, s->block, 0).group;
  const void *x = cvc_at_const(
      w->job->x,
      s->sample * conv->c * cvc_volume(conv->size) + group * w->ch.reduced,
      w->bytes);
  const int64_t plane = (s->bottom - s->top) * w->out[2];
  strip part = *s;
  for (int64_t od = 0; od < w->out[0]; od++)
    for (int64_t first = 0; first < plane; first += most) {
      cvc_tile tile = {.a = s->space->copy,
                       .runs = 1,
                       .length = cvc_min(most, plane - first),
                       .a_row = 1,
                       .a_step = depth};
      cvc_im2col(conv, x, conv->c, w->ch.reduced,
                 (od * w->out[1] + s->top) * w->out[2] + first, tile.length,
                 s->space->copy);
      s->space->a_run[0] = 0;
      s->space->b_run[0] = (od * plane + first) * s->dy_step;
      run_panels(&part, &tile, 0, depth);
      part.accumulate = true;
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
static void run_filter_rows(strip *s) {
  const weight *w = s->w;
  const cvc_conv *conv = w->job->conv;
  const int64_t row = conv->kernel[2] * conv->c;
  int64_t size[2];
  padded_size(conv, w->out, size);
  for (int64_t r = 0; r < conv->kernel[1]; r++) {
    cvc_tile tile = {.a = s->space->copy,
                     .runs = s->bottom - s->top,
                     .length = w->out[2],
                     .a_row = 1,
                     .a_step = conv->stride[2] * conv->c};
    for (int64_t i = 0; i < tile.runs; i++) {
      const int64_t h = (s->top + i) * conv->stride[1] + r * conv->dilation[1];
      s->space->a_run[i] = h * size[1] * conv->c;
      s->space->b_run[i] = i * w->out[2] * s->dy_step;
    }
    run_panels(s, &tile, r * row, row);
  }
}

/** Whether a strip may run on a copy of x, whose padding is 0: not where an
 * infinite dy would make NaN of that. */
static bool may_copy(const strip *s) {
  const weight *w = s->w;
  const cvc_conv *conv = w->job->conv;
  if (w->way == BY_TAP) return false;
  bool pads = false;
  for (int i = 0; i < 3; i++) pads |= conv->pad_before[i] || conv->pad_after[i];
  if (!pads) return true;
  for (int64_t od = 0; od < w->out[0]; od++) {
    const int64_t first = (s->sample * w->out[0] + od) * w->out[1] + s->top;
    const int64_t row = w->out[2] * conv->k;
    if (!w->kernels->all_finite((s->bottom - s->top) * row,
                                cvc_at_const(w->job->y, first * row, w->bytes)))
      return false;
  }
  return true;
}

/** The bias row: a product with ones. */
static void run_bias(strip *s) {
  static const float one_f32 = 1;
  static const double one_f64 = 1;
  const bool is_float = s->w->job->conv->dtype == CVC_F32;
  cvc_tile tile = {
      .a = is_float ? (const void *)&one_f32 : (const void *)&one_f64,
      .runs = 1,
      .length = rows_of(s) * s->w->out[2]};
  s->space->a_run[0] = s->space->b_run[0] = 0;
  run_panels(s, &tile, s->w->rows - 1, 1);
}

static void run_strip(strip *s) {
  const weight *w = s->w;
  pack_dy(s);
  if (w->job->target && !may_copy(s))
    run_taps(s);
  else if (w->job->target && w->way == BY_COLUMNS)
    run_columns(s);
  else if (w->job->target)
    run_filter_rows(s);
  if (w->job->db && s->end_row == w->rows) run_bias(s);
}

/** Without samples the sums are 0. */
static void clear(const strip *s) {
  const weight *w = s->w;
  const int64_t nr = w->kernels->nr;
  for (int64_t i = 0; i < panels_of(w, s->block); i++)
    memset(
        cvc_at(partial_of(w, s->sum, s->block, i), s->first_row * nr, w->bytes),
        0, (size_t)((s->end_row - s->first_row) * nr * w->bytes));
}

/** Rows `row`.. of an array, at most so many of `bytes` bytes each. */
static request rows_from(const void *array, int64_t row, int64_t rows,
                         int64_t bytes) {
  const char *at = (const char *)array + row * bytes;
  return rows > 0 ? (request){at, at + rows * bytes} : (request){NULL, NULL};
}

/** What follows in memory when the strip has ended, and will be read, by the
 * next task if need be; most of it first, since a product requests one of both,
 * and there may be only one. */
static void set_next(strip *s) {
  const weight *w = s->w;
  const cvc_conv *conv = w->job->conv;
  const int64_t last = s->sample + s->samples - 1; /* that the strip has */
  const int64_t row = last * w->out[1] + s->bottom;
  const int64_t h = s->bottom < w->out[1]
                        ? last * conv->size[1] + s->bottom * conv->stride[1]
                        : (last + 1) * conv->size[1];
  const int64_t rows = w->chunk * w->strip;
  request dy = {NULL, NULL}, x = {NULL, NULL};
  if (w->out[0] == 1 && conv->size[0] == 1) {
    if (w->block == w->panels)
      dy = rows_from(w->job->y, row, cvc_min(conv->n * w->out[1] - row, rows),
                     w->out[2] * conv->k * w->bytes);
    if (w->parts == 1)
      x = rows_from(
          w->job->x, h,
          cvc_min(conv->n * conv->size[1] - h, rows * conv->stride[1]),
          conv->size[2] * conv->c * w->bytes);
  }
  const bool x_first = x.end - x.at > dy.end - dy.at;
  s->next[0] = x_first ? x : dy;
  s->next[1] = x_first ? dy : x;
}

/** Some rows of one sum of a block of panels, strip by strip. */
static void weight_task(void *context, int64_t task, int thread) {
  const weight *w = context;
  const int64_t part = task % w->parts, n = w->job->conv->n;
  task /= w->parts;
  workspace space;
  carve(w, w->job->conv, w->workspaces + thread * w->workspace_bytes, &space);
  strip s = {.w = w,
             .space = &space,
             .sum = task % w->sums,
             .block = w->first_block + task / w->sums,
             .first_row = part * w->rows / w->parts,
             .end_row = (part + 1) * w->rows / w->parts};
  s.sample = w->sums > 1 ? cvc_granule_first(n, s.sum) : 0;
  const int64_t end = w->sums > 1 ? cvc_granule_first(n, s.sum + 1) : n;
  if (n == 0) clear(&s);
  for (; s.sample < end; s.sample += s.samples) {
    s.samples = cvc_min(w->chunk, end - s.sample);
    if (w->way == BY_ROW && w->job->target)
      copy_padded(w, s.sample, space.copy);
    for (s.top = 0; s.top < w->out[1]; s.top = s.bottom) {
      s.bottom = cvc_min(s.top + w->strip, w->out[1]);
      set_next(&s);
      run_strip(&s);
      s.accumulate = true;
    }
  }
}

/** Add the granules' rows [row, row + count) of a panel in a tree, into that of
 * the first. */
static void add_sums(const weight *w, int64_t block, int64_t i, int64_t row,
                     int64_t count) {
  const int64_t nr = w->kernels->nr;
  for (int64_t step = 1; step < w->sums; step *= 2)
    for (int64_t g = 0; g + step < w->sums; g += 2 * step) {
      void *sum = cvc_at(partial_of(w, g, block, i), row * nr, w->bytes);
      const void *other =
          cvc_at(partial_of(w, g + step, block, i), row * nr, w->bytes);
      w->kernels->add(count * nr, sum, other, sum);
    }
}

enum { REDUCE_CHANNELS = 64 }; /* channels of x that one task adds */

/** dw[j][c][tap] = partial[tap][c][j], c in [begin, end); all panels of the
 * block but their last columns are full. */
static void unpack(const weight *w, const char *partial, int columns,
                   int64_t begin, int64_t end, void *dw) {
  const int64_t c = w->ch.reduced, nr = w->kernels->nr;
  if (w->taps == 1) {
    w->kernels->transpose(end - begin, columns,
                          cvc_at_const(partial, begin * nr, w->bytes), nr,
                          cvc_at(dw, begin, w->bytes), c);
    return;
  }
  for (int64_t i = begin; i < end; i++)
    w->kernels->transpose(w->taps, columns,
                          cvc_at_const(partial, i * nr, w->bytes), c * nr,
                          cvc_at(dw, i * w->taps, w->bytes), c * w->taps);
}

static void reduce_task(void *context, int64_t task, int thread) {
  (void)thread;
  const weight *w = context;
  const int64_t c = w->ch.reduced;
  const int64_t parts = cvc_ceil_div(c, REDUCE_CHANNELS);
  const int64_t begin = task % parts * REDUCE_CHANNELS;
  const int64_t end = cvc_min(begin + REDUCE_CHANNELS, c);
  task /= parts;
  const int64_t block = w->first_block + task / w->block, i = task % w->block;
  if (i >= panels_of(w, block)) return;
  const panel p = panel_of(w, block, i);
  char *partial = partial_of(w, 0, block, i);
  if (w->job->target) {
    for (int64_t tap = 0; tap < w->taps; tap++)
      add_sums(w, block, i, tap * c + begin, end - begin);
    unpack(w, partial, p.columns, begin, end,
           cvc_at(w->job->target, p.first * c * w->taps, w->bytes));
  }
  if (w->job->db && begin == 0) {
    add_sums(w, block, i, w->rows - 1, 1);
    memcpy(cvc_at(w->job->db, p.first, w->bytes),
           cvc_at(partial, (w->rows - 1) * w->kernels->nr, w->bytes),
           (size_t)(p.columns * w->bytes));
  }
}

cvc_status cvc_weight_backward(const cvc_conv_job *job, bool im2col) {
  weight w = weight_of(job->conv, im2col);
  w.job = job;
  w.partials = job->scratch;
  w.workspace_bytes = carve(&w, job->conv, NULL, NULL);
  w.workspaces = w.partials + partials_bytes(&w);
  const int64_t parts = cvc_ceil_div(w.ch.reduced, REDUCE_CHANNELS);
  for (; w.first_block < w.blocks; w.first_block += w.wave) {
    const int64_t wave = cvc_min(w.wave, w.blocks - w.first_block);
    CVC_TRY(cvc_parallel(job->call, job->threads, wave * w.sums * w.parts,
                         weight_task, &w));
    CVC_TRY(cvc_parallel(job->call, job->threads, wave * w.block * parts,
                         reduce_task, &w));
  }
  return CVC_OK;
}
