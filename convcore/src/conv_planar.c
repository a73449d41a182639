/**
 * Convolution with vectors along the pixels of one channel, for few output
 * channels and for channels-first arrays: the tile kernel with output
 * channels as rows, straight from the plain weights, and pixels as columns.
 *
 * A strip of the source is copied into planes, padded with zeros, and split
 * by the remainder of the position modulo the stride, so that the sources of
 * neighbouring outputs are neighbours:
 *
 *   plane[c][ph][pw][i][j] = x[c][i*stride + ph - pad][j*stride + pw - pad]
 *
 * Outputs are numbered through the whole strip with the planes' width, which
 * makes one long row of columns; the few between the end of a row of outputs
 * and the beginning of the next are computed and dropped.
 */
#include <string.h>

#include "conv.h"

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
              .target_channels = forward ? conv->k : conv->c};
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

  p.width = w->count + p.reach[1] / w->source_step;
  const int64_t row_bytes =
      p.phases[0] * p.phases[1] * p.ch.reduced * cvc_max(p.width, 1) * p.bytes;
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

  /* A vector that begins inside a plane may end behind it. */
  const int64_t nr = p.kernels->nr;
  p.phase_size = p.line ? nr : p.plane_rows * p.width + nr;
  p.channel_size = p.phases[0] * p.phases[1] * p.phase_size;
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

void cvc_planar_work(const cvc_conv *conv, cvc_pass pass, double *columns,
                     double *products, double *moved) {
  int64_t parts[2], at[2];
  parts_of(conv, pass, parts);
  *columns = *products = *moved = 0;
  for (at[0] = 0; at[0] < parts[0]; at[0]++)
    for (at[1] = 0; at[1] < parts[1]; at[1]++) {
      const planar p = planar_of(conv, pass, at, 1);
      const int64_t used = p.strip * p.width - (p.width - p.axis[1].count);
      const double all = (double)(conv->n * p.strips) *
                         (double)cvc_round_up(used, p.kernels->vector_length);
      *columns += all;
      *products += all * (double)(p.axis[0].taps * p.axis[1].taps);
      if (!p.line)
        *moved += (double)(conv->n * p.strips * p.plane_rows * p.width *
                           p.phases[0] * p.phases[1] * p.source_channels);
    }
}

/* ------------------------------------------------------------- the planes */

/* plane[j] = row[j*step] for j in [low, high), 0 elsewhere, j < width. */
#define COPY_ROW(TYPE)                                                    \
  static void copy_##TYPE(const TYPE *row, int64_t step, int64_t low,     \
                          int64_t high, int64_t width, TYPE *plane) {     \
    for (int64_t j = 0; j < low; j++) plane[j] = 0;                       \
    if (step == 1 && low < high)                                          \
      memcpy(plane + low, row + low, (size_t)(high - low) * sizeof *row); \
    else                                                                  \
      for (int64_t j = low; j < high; j++) plane[j] = row[j * step];      \
    for (int64_t j = cvc_max(low, high); j < width; j++) plane[j] = 0;    \
  }
COPY_ROW(uint32_t)
COPY_ROW(uint64_t)

/** Rows of one phase of one channel, for outputs from `first` on. */
static void fill_phase(const planar *p, const void *image, int64_t first,
                       int64_t ph, int64_t pw, void *plane) {
  const int64_t step = p->source_last ? p->source_channels : 1;
  const int64_t w0 = p->origin[1] + pw;
  const int64_t h_step = p->axis[0].source_step;
  const int64_t w_step = p->axis[1].source_step;
  /* Columns j with 0 <= w0 + j*w_step < source width. */
  int64_t low = w0 < 0 ? cvc_ceil_div(-w0, w_step) : 0;
  int64_t high =
      w0 < p->source[1] ? cvc_ceil_div(p->source[1] - w0, w_step) : 0;
  low = cvc_min(low, p->width);
  high = cvc_max(low, cvc_min(high, p->width));
  for (int64_t i = 0; i < p->plane_rows; i++) {
    const int64_t h = p->origin[0] + (first + i) * h_step + ph;
    const bool inside = h >= 0 && h < p->source[0];
    const int64_t at = (h * p->source[1] + w0) * step;
    void *to = cvc_at(plane, i * p->width, p->bytes);
    const void *row = inside ? cvc_at_const(image, at, p->bytes) : image;
    const int64_t end = inside ? high : low;
    const int64_t begin = inside ? low : p->width;
    if (p->bytes == 4)
      copy_uint32_t(row, w_step * step, begin, end, p->width, to);
    else
      copy_uint64_t(row, w_step * step, begin, end, p->width, to);
  }
  memset(cvc_at(plane, p->plane_rows * p->width, p->bytes), 0,
         (size_t)(p->kernels->nr * p->bytes));
}

/** Channel c of a group of an image of the source, channels first or last. */
static const void *source_channel(const planar *p, int64_t image,
                                  int64_t channel) {
  const void *source = p->pass == CVC_FORWARD ? p->job->x : p->job->y;
  const int64_t pixels = p->source[0] * p->source[1];
  const int64_t at = image * p->source_channels * pixels +
                     channel * (p->source_last ? 1 : pixels);
  return cvc_at_const(source, at, p->bytes);
}

static void fill_planes(const planar *p, int64_t image, int64_t group,
                        int64_t first, char *planes) {
  for (int64_t c = 0; c < p->ch.reduced; c++)
    for (int64_t ph = 0; ph < p->phases[0]; ph++)
      for (int64_t pw = 0; pw < p->phases[1]; pw++)
        fill_phase(p, source_channel(p, image, group * p->ch.reduced + c),
                   first, ph, pw,
                   cvc_at(planes,
                          c * p->channel_size +
                              (ph * p->phases[1] + pw) * p->phase_size,
                          p->bytes));
}

/* --------------------------------------------------------------- products */

/** Per-call runs: by tap over channels, or, where channels are fewer than
 * the taps of a row, by channel and filter row over those taps. */
typedef struct runs {
  ptrdiff_t *a, *b;
  ptrdiff_t count, length, a_step, b_step;
} runs;

static bool runs_along_row(const planar *p) {
  return p->ch.reduced < p->axis[1].taps && p->phases[1] == 1;
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
  const int64_t phase =
      h % ah->source_step * p->phases[1] + w % aw->source_step;
  return phase * p->phase_size + h / ah->source_step * p->width +
         w / aw->source_step;
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
    to->b_step = p->axis[1].offset_step;
    for (int64_t c = 0; c < p->ch.reduced; c++)
      for (int64_t jh = 0; jh < rows; jh++) {
        to->a[c * rows + jh] = c * p->w_step + weight_offset(p, conv, jh, 0);
        to->b[c * rows + jh] = c * p->channel_size + tap_offset(p, jh, 0);
      }
    return;
  }
  to->length = p->ch.reduced;
  to->a_step = p->w_step;
  to->b_step = p->line ? p->source[0] * p->source[1] : p->channel_size;
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

/** Outputs of columns q.. of a strip, all produced channels. */
static void run_columns(const call *l, const strip *s, int64_t q,
                        int64_t columns, const void *b, ptrdiff_t b_step) {
  const planar *p = &l->p;
  const cvc_conv_job *job = p->job;
  const int64_t k = s->group * p->ch.produced;
  const int64_t pixels = p->target[0] * p->target[1];
  const int64_t weights =
      p->ch.produced * p->ch.reduced * cvc_volume(job->conv->kernel);
  cvc_tile tile = {
      .a = cvc_at_const(p->w, s->group * weights, p->bytes),
      .b = b,
      .a_run = l->runs.a,
      .b_run = l->runs.b,
      .runs = l->runs.count,
      .length = l->runs.length,
      .a_row = p->w_row,
      .a_step = l->runs.a_step,
      .b_step = b_step,
      .columns = (int)columns,
      .row_bias = job->bias ? cvc_at_const(job->bias, k, p->bytes) : NULL};
  if (p->in_place) {
    const int64_t at = (s->image * p->target_channels + k) * pixels +
                       s->first * p->target[1] + q;
    tile.c = cvc_at(job->target, at, p->bytes);
    tile.c_row = pixels;
    tile.residual =
        job->residual ? cvc_at_const(job->residual, at, p->bytes) : NULL;
    tile.relu =
        p->pass == CVC_FORWARD && job->conv->activation == CVC_ACTIVATION_RELU;
  } else {
    tile.c = cvc_at(s->sums, q, p->bytes);
    tile.c_row = p->strip * p->width;
  }
  cvc_run_tiles(p->kernels, &tile, p->ch.produced, p->bytes);
}

/** The planes serve every column. */
static void run_planes(const call *l, const strip *s, int64_t columns) {
  const planar *p = &l->p;
  fill_planes(p, s->image, s->group, s->first, s->planes);
  const int64_t nr = p->kernels->nr;
  for (int64_t q = 0; q < columns; q += nr)
    run_columns(l, s, q, cvc_min(nr, columns - q),
                cvc_at(s->planes, q, p->bytes), l->runs.b_step);
}

/** The source itself serves, but for a last vector that is not full. */
static void run_line(const call *l, const strip *s, int64_t columns) {
  const planar *p = &l->p;
  const int64_t nr = p->kernels->nr, pixels = p->source[0] * p->source[1];
  const void *source =
      cvc_at_const(source_channel(p, s->image, s->group * p->ch.reduced),
                   s->first * p->source[1], p->bytes);
  for (int64_t q = 0; q < columns; q += nr) {
    const int64_t count = cvc_min(nr, columns - q);
    const void *b = cvc_at_const(source, q, p->bytes);
    if (count % p->kernels->vector_length == 0) {
      run_columns(l, s, q, count, b, pixels);
      continue;
    }
    for (int64_t c = 0; c < p->ch.reduced; c++) {
      char *to = cvc_at(s->planes, c * nr, p->bytes);
      memcpy(to, cvc_at_const(b, c * pixels, p->bytes),
             (size_t)(count * p->bytes));
      memset(to + count * p->bytes, 0, (size_t)((nr - count) * p->bytes));
    }
    run_columns(l, s, q, count, s->planes, nr);
  }
}

/* y = activation(sums + residual), where the sums are not in place. */
#define STORE_SUMS(REAL)                                                 \
  static void store_##REAL(const planar *p, const strip *s, bool relu) { \
    const cvc_axis *h = &p->axis[0], *w = &p->axis[1];                   \
    const int64_t pixels = p->target[0] * p->target[1];                  \
    const int64_t k_step = p->target_last ? 1 : pixels;                  \
    const int64_t step = p->target_last ? p->target_channels : 1;        \
    const int64_t first = s->group * p->ch.produced;                     \
    for (int64_t i = 0; i < s->rows; i++) {                              \
      const int64_t row = h->first + (s->first + i) * h->step;           \
      const int64_t pixel = row * p->target[1] + w->first;               \
      const int64_t at = s->image * p->target_channels * pixels +        \
                         first * k_step + pixel * step;                  \
      REAL *y = (REAL *)p->job->target + at;                             \
      const REAL *residual =                                             \
          p->job->residual ? (const REAL *)p->job->residual + at : NULL; \
      for (int64_t k = 0; k < p->ch.produced; k++) {                     \
        const REAL *sums =                                               \
            (const REAL *)s->sums + (k * p->strip + i) * p->width;       \
        for (int64_t j = 0; j < w->count; j++) {                         \
          const int64_t to = k * k_step + j * w->step * step;            \
          REAL sum = residual ? sums[j] + residual[to] : sums[j];        \
          y[to] = relu && sum <= 0 ? 0 : sum;                            \
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
  const bool relu =
      p->pass == CVC_FORWARD && p->job->conv->activation == CVC_ACTIVATION_RELU;
  if (p->job->conv->dtype == CVC_F32)
    store_float(p, &s, relu);
  else
    store_double(p, &s, relu);
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
