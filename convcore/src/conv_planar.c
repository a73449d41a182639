/**
 * Convolution with vectors along the pixels of one channel, for few output
 * channels and for channels-first arrays: the tile kernel with output
 * channels as rows, straight from the plain weights, and pixels as columns.
 *
 * A strip of the source is copied into planes, padded with zeros, so that the
 * sources of neighbouring outputs are neighbours. Along h there is a plane for
 * each remainder of the position modulo the stride; along w either, too,
 *
 *   plane[c][ph][pw][i][j] = x[c][i*stride + ph - pad][j*stride + pw - pad]
 *
 * or, where channels are few, one for each tap:
 *
 *   plane[c][ph][s][i][j] = x[c][i*stride + ph - pad][j*stride + s - pad]
 *
 * Outputs are numbered through the whole strip with the planes' width, which
 * makes one long row of columns. A plane for each tap is as wide as the output,
 * so that the columns are the target's; else the few between the end of a row
 * of outputs and the beginning of the next are computed and dropped.
 */
#include <string.h>

#include "conv.h"

#define SQUARE_ROWS 3            /* fewer are faster one by one */
#define STRIP_BYTES (192 * 1024) /* of the planes: a part of the L2 */

typedef struct planar {
  const cvc_conv_job *job;
  cvc_pass pass;
  const cvc_kernels *kernels;
  cvc_channels ch;
  int64_t bytes;
  const void *w;
  int64_t w_row, w_step; /* to the next produced and reduced channel */
  /* Along h and w: the axis, the least source index of output 0's taps, how
   * far the others reach, remainders that a tap can have; sizes. */
  cvc_axis axis[2];
  int64_t origin[2], reach[2], phases[2];
  bool by_tap;       /* a plane for each tap along w */
  int64_t planes[2]; /* of a channel */
  int64_t source[2], target[2];
  int64_t source_channels, target_channels;
  bool source_last, target_last; /* channels-last arrays */
  bool line;             /* the source serves as it is: 1x1, channels first */
  bool in_place;         /* columns are the target's: no scratch for results */
  int64_t strip, strips; /* rows of outputs of a strip; strips */
  int64_t plane_rows, width;        /* of one phase of a plane */
  int64_t phase_size, channel_size; /* elements */
  int64_t thread_bytes, sums_at;    /* offset of the results, in bytes */
} planar;

/** Whether a plane for each tap along w costs less than what it saves: columns
 * that are dropped, and to move the results. In quarters of a cycle. */
static bool is_by_tap(const planar *p) {
  const cvc_axis *h = &p->axis[0], *w = &p->axis[1];
  const int64_t dropped = p->reach[1] / w->source_step;
  const int64_t copied = p->ch.reduced * (w->taps - p->phases[1]) * w->count *
                         (p->source_last ? 2 : 1);
  const int64_t products = p->ch.produced * p->ch.reduced * h->taps * w->taps;
  return dropped &&
         copied < 2 * dropped * products / p->kernels->vector_length +
                      p->ch.produced * w->count;
}

/** The part of a pass whose target indices leave these remainders modulo the
 * stride; a forward pass is one part. */
static planar planar_of(const cvc_conv *conv, cvc_pass pass,
                        const int64_t remainder[2], int threads) {
  const bool forward = pass == CVC_FORWARD;
  const int64_t taps = cvc_volume(conv->kernel), c = conv->c / conv->groups;
  int64_t out[3];
  cvc_conv_out(conv, out);
  planar p = {.pass = pass,
              .kernels = cvc_kernels_of(conv->dtype),
              .ch = cvc_conv_channels(conv, pass),
              .bytes = cvc_dtype_bytes(conv->dtype),
              .w_row = forward ? c * taps : taps,
              .w_step = forward ? taps : c * taps,
              .source_channels = forward ? conv->c : conv->k,
              .target_channels = forward ? cvc_conv_y_stride(conv) : conv->c};
  for (int i = 0; i < 2; i++) {
    const cvc_axis a = forward ? cvc_axis_forward(conv, i + 1)
                               : cvc_axis_backward(conv, i + 1, remainder[i]);
    const int64_t last = a.taps ? (a.taps - 1) * a.offset_step : 0;
    p.axis[i] = a;
    p.source[i] = a.source_size;
    p.target[i] = forward ? out[i + 1] : conv->size[i + 1];
    p.origin[i] = a.offset + cvc_min(last, 0);
    p.reach[i] = last < 0 ? -last : last;
    p.phases[i] = a.taps > 1 ? a.source_step : 1;
  }
  const cvc_axis *h = &p.axis[0], *w = &p.axis[1];
  const bool last = conv->layout == CVC_CHANNELS_LAST;
  p.source_last =
      last && p.source_channels > 1 && p.source[0] * p.source[1] > 1;
  p.target_last =
      last && p.target_channels > 1 && p.target[0] * p.target[1] > 1;
  p.line = taps == 1 && !p.source_last && p.source[0] == p.target[0] &&
           p.source[1] == p.target[1] && p.origin[0] == 0 && p.origin[1] == 0;

  p.by_tap = is_by_tap(&p);
  p.planes[0] = p.phases[0];
  p.planes[1] = p.by_tap ? w->taps : p.phases[1];
  p.width = w->count + (p.by_tap ? 0 : p.reach[1] / w->source_step);
  const int64_t row_bytes =
      p.planes[0] * p.planes[1] * p.ch.reduced * cvc_max(p.width, 1) * p.bytes;
  const int64_t rows = cvc_max(h->count, 1);
  p.strip = cvc_min(cvc_max(STRIP_BYTES / row_bytes, 1), rows);
  /* Enough tasks for the threads; what one computes does not depend on it. */
  const int64_t images = cvc_max(conv->n * conv->groups, 1);
  p.strips = cvc_ceil_div(rows, p.strip);
  if (threads > 1)
    p.strips =
        cvc_min(cvc_max(p.strips, cvc_ceil_div(4 * threads, images)), rows);
  p.strip = cvc_ceil_div(rows, p.strips);
  p.strips = cvc_ceil_div(rows, p.strip);
  p.plane_rows = p.strip + p.reach[0] / h->source_step;
  p.in_place = !p.target_last && w->count == p.target[1] &&
               p.width == w->count && h->step == 1;

  /* A vector that begins inside a plane may end behind it; what it takes from
   * there is dropped. */
  const int64_t nr = p.kernels->nr;
  p.phase_size = p.line ? nr : p.plane_rows * p.width + nr;
  p.channel_size = p.planes[0] * p.planes[1] * p.phase_size;
  p.sums_at = cvc_round_up(p.ch.reduced * p.channel_size * p.bytes, 64);
  p.thread_bytes = p.sums_at;
  if (!p.in_place)
    p.thread_bytes +=
        cvc_round_up(p.ch.produced * p.strip * p.width * p.bytes, 64);
  return p;
}

bool cvc_planar_fits(const cvc_conv *conv, cvc_pass pass) {
  if (conv->size[0] != 1 || conv->kernel[0] != 1 || conv->pad_before[0] ||
      conv->pad_after[0])
    return false;
  /* A part for each remainder: not for very large strides. */
  return pass == CVC_FORWARD || (pass == CVC_BACKWARD_DATA &&
                                 conv->stride[1] <= 8 && conv->stride[2] <= 8);
}

/** Parts of a pass along h and w. */
static void parts_of(const cvc_conv *conv, cvc_pass pass, int64_t parts[2]) {
  for (int i = 0; i < 2; i++)
    parts[i] = pass == CVC_FORWARD
                   ? 1
                   : cvc_min(conv->stride[i + 1], conv->size[i + 1]);
}

cvc_planar_work cvc_planar_work_of(const cvc_conv *conv, cvc_pass pass) {
  int64_t parts[2], at[2];
  cvc_planar_work work = {0};
  parts_of(conv, pass, parts);
  for (at[0] = 0; at[0] < parts[0]; at[0]++)
    for (at[1] = 0; at[1] < parts[1]; at[1]++) {
      const planar p = planar_of(conv, pass, at, 1);
      const int64_t used = p.strip * p.width - (p.width - p.axis[1].count);
      const double strips = (double)(conv->n * p.strips);
      const double columns =
          strips * (double)cvc_round_up(used, p.kernels->vector_length);
      work.columns += columns;
      work.products += columns * (double)(p.axis[0].taps * p.axis[1].taps);
      if (!p.line && p.axis[0].taps > 0 && p.axis[1].taps > 0) {
        const double planes =
            strips * (double)(p.planes[0] * p.planes[1] * p.source_channels);
        work.planes += planes;
        work.copied += planes * (double)(p.plane_rows * p.width);
      }
      if (!p.in_place)
        work.moved += columns * (double)(p.ch.produced * p.ch.groups);
    }
  return work;
}

/* ------------------------------------------------------------- the planes */

/** Where a plane takes its elements from: element (i, j) is the source's
 * (h + i*step, w + j*step). Rows top <= i < bottom and columns low <= j < high
 * lie in the source; the others are zeros. */
typedef struct inside {
  int64_t h, w, top, bottom, low, high;
} inside;

/** Indices low <= i < high whose source from + i*step exists. */
static void indices_inside(int64_t from, int64_t step, int64_t size,
                           int64_t count, int64_t *low, int64_t *high) {
  const int64_t room = size - from;
  *low = cvc_min(from < 0 ? cvc_ceil_div(-from, step) : 0, count);
  *high = room > 0 ? cvc_min(cvc_ceil_div(room, step), count) : 0;
  *high = cvc_max(*low, *high);
}

/** Plane (ph, pw), for outputs from row `first` on. */
static inside inside_of(const planar *p, int64_t first, int64_t ph,
                        int64_t pw) {
  const cvc_axis *h = &p->axis[0], *w = &p->axis[1];
  inside at = {
      .h = p->origin[0] + first * h->source_step + ph,
      .w = p->by_tap ? w->offset + pw * w->offset_step : p->origin[1] + pw};
  indices_inside(at.h, h->source_step, p->source[0], p->plane_rows, &at.top,
                 &at.bottom);
  indices_inside(at.w, w->source_step, p->source[1], p->width, &at.low,
                 &at.high);
  return at;
}

/** One plane of a channel that is an array of its own. */
static void fill_plane(const planar *p, const void *channel, const void *end,
                       const inside *at, char *plane) {
  const int64_t h_step = p->axis[0].source_step;
  const int64_t w_step = p->axis[1].source_step;
  const int64_t row = p->width * p->bytes;
  memset(plane, 0, (size_t)(at->top * row));
  const int64_t source =
      (at->h + at->top * h_step) * p->source[1] + at->w + at->low * w_step;
  const cvc_rows rows = {.rows = at->bottom - at->top,
                         .low = at->low,
                         .high = at->high,
                         .width = p->width,
                         .x = cvc_at_const(channel, source, p->bytes),
                         .x_end = end,
                         .x_row = h_step * p->source[1],
                         .x_step = w_step,
                         .y = plane + at->top * row};
  p->kernels->rows(&rows);
  memset(plane + at->bottom * row, 0,
         (size_t)((p->plane_rows - at->bottom) * row));
}

/** One plane of every channel of a group, from channels-last memory. */
static void fill_from_pixels(const planar *p, const void *image,
                             const inside *at, char *planes) {
  const int64_t pixel = p->source_channels, channels = p->ch.reduced;
  const int64_t w_step = p->axis[1].source_step;
  const int64_t row = p->axis[0].source_step * p->source[1];
  int64_t rows = at->bottom - at->top, width = at->high - at->low;
  if (rows < p->plane_rows || width < p->width)
    for (int64_t c = 0; c < channels; c++)
      memset(cvc_at(planes, c * p->channel_size, p->bytes), 0,
             (size_t)(p->plane_rows * p->width * p->bytes));
  if (width == p->width && row == width * w_step) { /* one long row */
    width *= rows;
    rows = cvc_min(rows, 1);
  }
  for (int64_t i = 0; i < rows; i++) {
    const int64_t h = at->h + (at->top + i) * p->axis[0].source_step;
    const int64_t w = at->w + at->low * w_step;
    const int64_t target = (at->top + i) * p->width + at->low;
    p->kernels->transpose(
        width, channels,
        cvc_at_const(image, (h * p->source[1] + w) * pixel, p->bytes),
        w_step * pixel, cvc_at(planes, target, p->bytes), p->channel_size);
  }
}

/** The source, or channel c of an image of it, channels first or last. */
static const void *source_of(const planar *p) {
  return p->pass == CVC_FORWARD ? p->job->x : p->job->y;
}
static const void *source_channel(const planar *p, int64_t image,
                                  int64_t channel) {
  const int64_t pixels = p->source[0] * p->source[1];
  const int64_t at = image * p->source_channels * pixels +
                     channel * (p->source_last ? 1 : pixels);
  return cvc_at_const(source_of(p), at, p->bytes);
}

static void fill_planes(const planar *p, int64_t image, int64_t group,
                        int64_t first, char *planes) {
  const void *end = source_channel(p, p->job->conv->n, 0);
  const int64_t channel = group * p->ch.reduced;
  for (int64_t i = 0; i < p->planes[0] * p->planes[1]; i++) {
    const inside at = inside_of(p, first, i / p->planes[1], i % p->planes[1]);
    char *phase = cvc_at(planes, i * p->phase_size, p->bytes);
    if (p->source_last) {
      fill_from_pixels(p, source_channel(p, image, channel), &at, phase);
      continue;
    }
    for (int64_t c = 0; c < p->ch.reduced; c++)
      fill_plane(p, source_channel(p, image, channel + c), end, &at,
                 cvc_at(phase, c * p->channel_size, p->bytes));
  }
}

/* --------------------------------------------------------------- products */

/** Per-call runs: by tap over channels, or, where channels are fewer than
 * the taps of a row, by channel and filter row over those taps. */
typedef struct runs {
  ptrdiff_t *a, *b;
  ptrdiff_t count, length, a_step, b_step;
} runs;

static bool runs_along_row(const planar *p) {
  return p->ch.reduced < p->axis[1].taps && (p->by_tap || p->phases[1] == 1);
}

static int64_t runs_count(const planar *p) {
  return p->axis[0].taps *
         (runs_along_row(p) ? p->ch.reduced : p->axis[1].taps);
}

/** Bytes of the runs of any part. */
static int64_t runs_bytes(const cvc_conv *conv, cvc_pass pass) {
  const int64_t rows = conv->kernel[1], columns = conv->kernel[2];
  const int64_t reduced = cvc_conv_channels(conv, pass).reduced;
  const int64_t most = rows * cvc_max(cvc_min(reduced, columns), columns);
  return cvc_round_up(2 * most * (int64_t)sizeof(ptrdiff_t), 64);
}

/** Offset in a channel's planes of the source of output 0 at a tap. */
static int64_t tap_offset(const planar *p, int64_t jh, int64_t jw) {
  const cvc_axis *ah = &p->axis[0], *aw = &p->axis[1];
  const int64_t h = ah->offset + jh * ah->offset_step - p->origin[0];
  const int64_t w = aw->offset + jw * aw->offset_step - p->origin[1];
  const int64_t row = h % ah->source_step * p->planes[1];
  const int64_t at = h / ah->source_step * p->width;
  if (p->by_tap) return (row + jw) * p->phase_size + at;
  return (row + w % aw->source_step) * p->phase_size + at + w / aw->source_step;
}

/** Its offset in the weights of one channel. */
static int64_t weight_offset(const planar *p, const cvc_conv *conv, int64_t jh,
                             int64_t jw) {
  return (p->axis[0].tap + jh * p->axis[0].tap_step) * conv->kernel[2] +
         p->axis[1].tap + jw * p->axis[1].tap_step;
}

static void set_runs(const planar *p, const cvc_conv *conv, runs *to) {
  const int64_t rows = p->axis[0].taps, columns = p->axis[1].taps;
  to->count = runs_count(p);
  if (runs_along_row(p)) {
    to->length = columns;
    to->a_step = p->axis[1].tap_step;
    to->b_step = p->by_tap ? p->phase_size : p->axis[1].offset_step;
    for (int64_t c = 0; c < p->ch.reduced; c++)
      for (int64_t jh = 0; jh < rows; jh++) {
        to->a[c * rows + jh] = c * p->w_step + weight_offset(p, conv, jh, 0);
        to->b[c * rows + jh] = c * p->channel_size + tap_offset(p, jh, 0);
      }
    return;
  }
  to->length = p->ch.reduced;
  to->a_step = p->w_step;
  to->b_step = p->channel_size;
  for (int64_t jh = 0; jh < rows; jh++)
    for (int64_t jw = 0; jw < columns; jw++) {
      to->a[jh * columns + jw] = weight_offset(p, conv, jh, jw);
      to->b[jh * columns + jw] = p->line ? 0 : tap_offset(p, jh, jw);
    }
}

typedef struct call {
  planar p;
  runs runs;
  char *workspaces;
} call;

/** A strip of one image and group. */
typedef struct strip {
  int64_t image, group, first, rows; /* rows of outputs */
  char *planes, *sums;
} strip;

/** Columns of a strip from sources at b, all produced channels. Where the
 * last vector would not be full it begins earlier, and some columns are
 * computed twice. */
static void run_columns(const call *l, const strip *s, int64_t columns,
                        const void *b, ptrdiff_t b_step) {
  const planar *p = &l->p;
  const cvc_conv_job *job = p->job;
  const int64_t lanes = p->kernels->vector_length, nr = p->kernels->nr;
  const int64_t channel = s->group * p->ch.produced;
  const int64_t tiles = cvc_ceil_div(p->ch.produced, p->kernels->mr);
  cvc_tile tile = {.a_run = l->runs.a,
                   .b_run = l->runs.b,
                   .runs = l->runs.count,
                   .length = l->runs.length,
                   .a_row = p->w_row,
                   .a_step = l->runs.a_step,
                   .b_step = b_step,
                   .c_row = p->strip * p->width};
  char *c = s->sums;
  const char *residual = NULL;
  if (p->in_place) {
    tile.c_row = p->target[0] * p->target[1];
    const int64_t at = (s->image * p->target_channels + channel) * tile.c_row +
                       s->first * p->target[1];
    c = cvc_at(job->target, at, p->bytes);
    if (job->residual) residual = cvc_at_const(job->residual, at, p->bytes);
  }
  if (p->in_place || !job->residual)
    tile.activation = cvc_conv_activation(job->conv, p->pass);
  for (int64_t i = 0; i < tiles; i++) {
    const int64_t first = i * p->ch.produced / tiles;
    tile.rows = (int)((i + 1) * p->ch.produced / tiles - first);
    tile.a =
        cvc_at_const(p->w,
                     channel * p->ch.reduced * cvc_volume(job->conv->kernel) +
                         first * p->w_row,
                     p->bytes);
    if (job->bias)
      tile.row_bias = cvc_at_const(job->bias, channel + first, p->bytes);
    for (int64_t q = 0; q < columns; q += tile.columns) {
      const int64_t width = columns >= nr && columns - q > lanes ? nr : lanes;
      const int64_t from = cvc_max(cvc_min(q, columns - width), 0);
      const int64_t at = first * tile.c_row + from;
      tile.columns = (int)cvc_min(width, columns);
      tile.b = cvc_at_const(b, from, p->bytes);
      tile.c = cvc_at(c, at, p->bytes);
      if (residual) tile.residual = cvc_at_const(residual, at, p->bytes);
      p->kernels->tile(&tile);
    }
  }
}

/** The planes serve every column. */
static void run_planes(const call *l, const strip *s, int64_t columns) {
  if (l->runs.count > 0)
    fill_planes(&l->p, s->image, s->group, s->first, s->planes);
  run_columns(l, s, columns, s->planes, l->runs.b_step);
}

/** The source itself serves, but for less than a vector. */
static void run_line(const call *l, const strip *s, int64_t columns) {
  const planar *p = &l->p;
  const int64_t nr = p->kernels->nr, pixels = p->source[0] * p->source[1];
  const void *source =
      cvc_at_const(source_channel(p, s->image, s->group * p->ch.reduced),
                   s->first * p->source[1], p->bytes);
  if (columns >= p->kernels->vector_length) {
    run_columns(l, s, columns, source, pixels);
    return;
  }
  memset(s->planes, 0, (size_t)(p->ch.reduced * nr * p->bytes));
  for (int64_t c = 0; c < p->ch.reduced; c++)
    memcpy(cvc_at(s->planes, c * nr, p->bytes),
           cvc_at_const(source, c * pixels, p->bytes),
           (size_t)(columns * p->bytes));
  run_columns(l, s, columns, s->planes, nr);
}

/** Move sums to channels-last memory. */
static void store_pixels(const planar *p, const strip *s) {
  const cvc_axis *h = &p->axis[0], *w = &p->axis[1];
  const bool dense = w->count == p->width && w->count == p->target[1] &&
                     h->step == 1; /* one long row */
  const int64_t rows = dense ? 1 : s->rows, together = s->rows / rows;
  for (int64_t i = 0; i < rows; i++) {
    const int64_t row = h->first + (s->first + i) * h->step;
    const int64_t pixel =
        (s->image * p->target[0] + row) * p->target[1] + w->first;
    const int64_t at = pixel * p->target_channels + s->group * p->ch.produced;
    p->kernels->transpose(
        p->ch.produced, together * w->count,
        cvc_at_const(s->sums, i * p->width, p->bytes), p->strip * p->width,
        cvc_at(p->job->target, at, p->bytes), w->step * p->target_channels);
  }
}

/* The same to memory of either layout, with a residual: that, then the
 * activation. */
#define STORE_SUMS(REAL)                                                 \
  static void store_##REAL(const planar *p, const strip *s,              \
                           cvc_activation activation) {                  \
    const cvc_axis *h = &p->axis[0], *w = &p->axis[1];                   \
    const int64_t pixels = p->target[0] * p->target[1];                  \
    const int64_t pixel_step = p->target_last ? p->target_channels : 1;  \
    const int64_t k_step = p->target_last ? 1 : pixels;                  \
    const int64_t step = w->step * pixel_step, count = w->count;         \
    for (int64_t k = 0; k < p->ch.produced; k++) {                       \
      const int64_t channel = s->group * p->ch.produced + k;             \
      for (int64_t i = 0; i < s->rows; i++) {                            \
        const int64_t row = h->first + (s->first + i) * h->step;         \
        const int64_t at = s->image * p->target_channels * pixels +      \
                           channel * k_step +                            \
                           (row * p->target[1] + w->first) * pixel_step; \
        REAL *y = (REAL *)p->job->target + at;                           \
        const REAL *residual = (const REAL *)p->job->residual;           \
        const REAL *sums =                                               \
            (const REAL *)s->sums + (k * p->strip + i) * p->width;       \
        if (!residual) {                                                 \
          for (int64_t j = 0; j < count; j++) y[j * step] = sums[j];     \
          continue;                                                      \
        }                                                                \
        for (int64_t j = 0; j < count; j++) {                            \
          REAL sum = sums[j] + residual[at + j * step];                  \
          if (activation != CVC_ACTIVATION_NONE && sum <= 0) sum = 0;    \
          if (activation == CVC_ACTIVATION_RELU6 && sum > 6) sum = 6;    \
          y[j * step] = sum;                                             \
        }                                                                \
      }                                                                  \
    }                                                                    \
  }
STORE_SUMS(float)
STORE_SUMS(double)

static void planar_task(void *context, int64_t task, int thread) {
  const call *l = context;
  const planar *p = &l->p;
  strip s = {.first = task % p->strips * p->strip,
             .group = task / p->strips % p->ch.groups,
             .image = task / p->strips / p->ch.groups,
             .planes = l->workspaces + thread * p->thread_bytes};
  s.rows = cvc_min(p->strip, p->axis[0].count - s.first);
  s.sums = s.planes + p->sums_at;
  const int64_t columns = s.rows * p->width - (p->width - p->axis[1].count);
  if (p->line)
    run_line(l, &s, columns);
  else
    run_planes(l, &s, columns);
  if (p->in_place) return;
  if (p->target_last && !p->job->residual && p->ch.produced >= SQUARE_ROWS) {
    store_pixels(p, &s);
    return;
  }
  const cvc_activation activation = cvc_conv_activation(p->job->conv, p->pass);
  if (p->job->conv->dtype == CVC_F32)
    store_float(p, &s, activation);
  else
    store_double(p, &s, activation);
}

int64_t cvc_planar_scratch(const cvc_conv *conv, cvc_pass pass, int threads) {
  int64_t parts[2], at[2], most = 0;
  parts_of(conv, pass, parts);
  for (at[0] = 0; at[0] < parts[0]; at[0]++)
    for (at[1] = 0; at[1] < parts[1]; at[1]++)
      most = cvc_max(most, planar_of(conv, pass, at, threads).thread_bytes);
  return threads * most + runs_bytes(conv, pass);
}

static cvc_status run_part(const cvc_conv_job *job, cvc_pass pass,
                           const int64_t remainder[2]) {
  call l = {.p = planar_of(job->conv, pass, remainder, job->threads)};
  if (l.p.axis[0].count * l.p.axis[1].count == 0) return CVC_OK;
  l.p.job = job;
  l.p.w = job->conv->weights == CVC_WEIGHTS_PACKED
              ? cvc_packed_second(job->conv, pass, job->choice, job->packed)
              : job->packed;
  l.runs.a = job->scratch;
  l.runs.b = l.runs.a + runs_count(&l.p);
  set_runs(&l.p, job->conv, &l.runs);
  l.workspaces = (char *)job->scratch + runs_bytes(job->conv, pass);
  return cvc_parallel(job->call, job->threads,
                      job->conv->n * l.p.ch.groups * l.p.strips, planar_task,
                      &l);
}

cvc_status cvc_planar_run(const cvc_conv_job *job, cvc_pass pass) {
  int64_t parts[2], at[2];
  parts_of(job->conv, pass, parts);
  for (at[0] = 0; at[0] < parts[0]; at[0]++)
    for (at[1] = 0; at[1] < parts[1]; at[1]++) CVC_TRY(run_part(job, pass, at));
  return CVC_OK;
}
