/**
 * Convolution as a matrix product: the taps of a block of output pixels are
 * gathered into columns[pixel][tap][c] (im2col), then multiplied with the
 * packed weights by the tile kernel. The gradient with respect to x goes the
 * other way: products of dy with the taps of a filter row are added to the
 * places that those come from (col2im), without being columns first.
 */
#include <string.h>

#include "conv.h"

#define COLUMN_BYTES (128 * 1024)
#define DY_BYTES \
  (256 * 1024) /* that all taps take while the caches keep them */

static int64_t depth_of(const cvc_conv *conv) {
  return cvc_volume(conv->kernel) * (conv->c / conv->groups);
}

/** Pixels of a block of columns: two tiles at least, for which the weights come
 * in once. */
static int64_t block_of(const cvc_conv *conv) {
  int64_t out[3];
  cvc_conv_out(conv, out);
  const int64_t row = depth_of(conv) * cvc_dtype_bytes(conv->dtype);
  const int64_t least = 2 * cvc_kernels_of(conv->dtype)->mr;
  return cvc_min(cvc_max(COLUMN_BYTES / row, least), cvc_volume(out));
}

int64_t cvc_im2col_scratch(const cvc_conv *conv, cvc_pass pass, int threads) {
  if (pass == CVC_BACKWARD_DATA) return 0;
  return threads * cvc_round_up(block_of(conv) * depth_of(conv) *
                                    cvc_dtype_bytes(conv->dtype),
                                64);
}

void cvc_im2col(const cvc_conv *conv, const void *x, int64_t channels,
                int64_t c, int64_t first, int64_t count, void *columns) {
  const int64_t bytes = cvc_dtype_bytes(conv->dtype);
  const int64_t *size = conv->size;
  int64_t out[3], origin[3];
  cvc_conv_out(conv, out);
  char *to = columns;
  for (int64_t pixel = first; pixel < first + count; pixel++) {
    const int64_t at[3] = {pixel / (out[1] * out[2]), pixel / out[2] % out[1],
                           pixel % out[2]};
    for (int i = 0; i < 3; i++)
      origin[i] = at[i] * conv->stride[i] - conv->pad_before[i];
    for (int64_t t = 0; t < conv->kernel[0]; t++)
      for (int64_t r = 0; r < conv->kernel[1]; r++)
        for (int64_t s = 0; s < conv->kernel[2]; s++, to += c * bytes) {
          const int64_t d = origin[0] + t * conv->dilation[0];
          const int64_t h = origin[1] + r * conv->dilation[1];
          const int64_t w = origin[2] + s * conv->dilation[2];
          if (d < 0 || d >= size[0] || h < 0 || h >= size[1] || w < 0 ||
              w >= size[2]) {
            memset(to, 0, (size_t)(c * bytes));
            continue;
          }
          const int64_t from = (d * size[1] + h) * size[2] + w;
          memcpy(to, cvc_at_const(x, from * channels, bytes),
                 (size_t)(c * bytes));
        }
  }
}

typedef struct im2col {
  const cvc_conv_job *job;
  const cvc_kernels *kernels;
  cvc_channels ch;
  int64_t c, bytes, depth, block, blocks, pixels, panels, strips;
} im2col;

static im2col im2col_of(const cvc_conv_job *job, cvc_pass pass) {
  const cvc_conv *conv = job->conv;
  int64_t out[3];
  cvc_conv_out(conv, out);
  im2col m = {.job = job,
              .kernels = cvc_kernels_of(conv->dtype),
              .ch = cvc_packed_channels(conv, pass, job->choice),
              .bytes = cvc_dtype_bytes(conv->dtype),
              .depth = depth_of(conv),
              .block = block_of(conv),
              .pixels = cvc_volume(out)};
  m.blocks = cvc_ceil_div(m.pixels, m.block);
  m.panels = cvc_panels(m.ch.produced, m.kernels);
  m.c = conv->c / conv->groups;
  /* Strips of rows of dx, for images that are fewer than the threads. */
  const int64_t images = conv->n * conv->groups;
  m.strips =
      job->threads > 1 && images < 4 * job->threads
          ? cvc_min(cvc_ceil_div(4 * job->threads, images), conv->size[1])
          : 1;
  return m;
}

static void *columns_of(const im2col *m, int thread) {
  return (char *)m->job->scratch +
         thread * cvc_im2col_scratch(m->job->conv, CVC_FORWARD, 1);
}

static const ptrdiff_t no_offset = 0;

/** y of one block of pixels of one image and group. */
static void forward_task(void *context, int64_t task, int thread) {
  const im2col *m = context;
  const cvc_conv_job *job = m->job;
  const cvc_conv *conv = job->conv;
  const int64_t first = task % m->blocks * m->block;
  const int64_t group = task / m->blocks % m->ch.groups;
  const int64_t image = task / m->blocks / m->ch.groups;
  const int64_t count = cvc_min(m->block, m->pixels - first);
  void *columns = columns_of(m, thread);
  cvc_im2col(conv,
             cvc_at_const(job->x,
                          image * conv->c * cvc_volume(conv->size) +
                              group * m->ch.reduced,
                          m->bytes),
             conv->c, m->ch.reduced, first, count, columns);
  for (int64_t panel = 0; panel < m->panels; panel++) {
    const int64_t width = cvc_panel_width(m->ch.produced, panel, m->kernels);
    const int64_t k = group * m->ch.produced + panel * m->kernels->nr;
    const int64_t y_stride = cvc_conv_y_stride(conv);
    const int64_t at = (image * m->pixels + first) * y_stride + k;
    cvc_tile tile = {
        .a = columns,
        .b = cvc_packed_panel(conv, CVC_FORWARD, job->choice, job->packed,
                              group, panel),
        .a_run = &no_offset,
        .b_run = &no_offset,
        .runs = 1,
        .length = m->depth,
        .a_row = m->depth,
        .a_step = 1,
        .b_step = width,
        .c = cvc_at(job->target, at, m->bytes),
        .c_row = y_stride,
        .columns = (int)cvc_min(width, m->ch.produced - panel * m->kernels->nr),
        .bias = job->bias ? cvc_at_const(job->bias, k, m->bytes) : NULL,
        .residual =
            job->residual ? cvc_at_const(job->residual, at, m->bytes) : NULL,
        .activation = conv->activation};
    cvc_run_tiles(m->kernels, &tile, count, m->bytes);
  }
}

cvc_status cvc_im2col_forward(const cvc_conv_job *job) {
  im2col m = im2col_of(job, CVC_FORWARD);
  return cvc_parallel(job->call, job->threads,
                      job->conv->n * m.ch.groups * m.blocks, forward_task, &m);
}

/** Taps that are neighbours in x: those of a filter row, or one. */
static int64_t taps_together(const cvc_conv *conv) {
  return conv->dilation[2] == 1 && conv->groups == 1 ? conv->kernel[2] : 1;
}

int64_t cvc_gradient_units(const cvc_conv *conv) {
  return cvc_volume(conv->kernel) / taps_together(conv);
}

/** A strip of rows of dx of one image and group. */
typedef struct strip {
  int64_t image, group, begin, end; /* rows */
} strip;

/** Rows of outputs whose tap lies in [begin, end). */
static void outputs_inside(const cvc_conv *conv, int64_t tap, int64_t begin,
                           int64_t end, int64_t *low, int64_t *high) {
  const int64_t stride = conv->stride[1];
  const int64_t at =
      tap * conv->dilation[1] - conv->pad_before[1]; /* of output 0 */
  int64_t out[3];
  cvc_conv_out(conv, out);
  *low = cvc_min(cvc_ceil_div(cvc_max(begin - at, 0), stride), out[1]);
  *high = cvc_min(cvc_ceil_div(cvc_max(end - at, 0), stride), out[1]);
}

/** What of the outputs of one depth adds to dx at the taps that are together
 * from `tap` on, of one panel. */
typedef struct addition {
  const im2col *m;
  const cvc_conv *conv;
  int64_t out[3], first, end; /* columns of a window in this panel */
  int64_t tap, dy, dx;        /* along w; pixels of output and x (row, 0) */
  const char *b;
  int64_t width;
} addition;

/** Position along w of the first tap of an output's window. */
static int64_t window_at(const addition *a, int64_t ow) {
  return ow * a->conv->stride[2] + a->tap * a->conv->dilation[2] -
         a->conv->pad_before[2];
}

/** Outputs whose windows do not overlap: `rows` from (row, ow) on, each `down`
 * rows and `across` columns further; those of dx begin at row h. */
static void add_rows(const addition *a, int64_t group, int64_t row, int64_t h,
                     int64_t ow, int64_t rows, int64_t down, int64_t across) {
  const im2col *m = a->m;
  const cvc_conv *conv = a->conv;
  const int64_t w = window_at(a, ow), in_row = conv->size[2];
  const int64_t first = cvc_max(-w * m->c, a->first);
  const int64_t end = cvc_min((in_row - w) * m->c, a->end);
  if (first >= end) return;
  cvc_tile tile = {
      .a = cvc_at_const(
          m->job->y,
          (a->dy + row * a->out[2] + ow) * conv->k + group * m->ch.reduced,
          m->bytes),
      .b = a->b + (first - a->first) * m->bytes,
      .a_run = &no_offset,
      .b_run = &no_offset,
      .runs = 1,
      .length = m->ch.reduced,
      .a_row = (down * a->out[2] + across) * conv->k,
      .a_step = 1,
      .b_step = a->width,
      .c = cvc_at(m->job->target,
                  (a->dx + h * in_row + w) * conv->c + group * m->c + first,
                  m->bytes),
      .c_row = (down * conv->stride[1] * in_row + across * conv->stride[2]) *
               conv->c,
      .columns = (int)(end - first),
      .accumulate = true};
  cvc_run_tiles(m->kernels, &tile, rows, m->bytes);
}

/** Rows [low, high) of outputs, the first of them at row h of dx. */
static void add_plane(const addition *a, int64_t group, int64_t low,
                      int64_t high, int64_t h) {
  const cvc_conv *conv = a->conv;
  const int64_t together = taps_together(conv), mr = a->m->kernels->mr;
  /* So far apart windows do not overlap; outputs between whole windows. */
  const int64_t apart = cvc_ceil_div(together, conv->stride[2]);
  int64_t begin = 0, end = a->out[2];
  while (begin < end && window_at(a, begin) < 0) begin++;
  while (end > begin && window_at(a, end - 1) + together > conv->size[2]) end--;
  const bool across = (end - begin) / apart >= mr;
  if (!across) begin = end = a->out[2];
  for (int64_t ow = 0; ow < begin; ow++)
    add_rows(a, group, low, h, ow, high - low, 1, 0);
  for (int64_t row = low; row < high && across; row++)
    for (int64_t i = 0; i < apart && begin + i < end; i++)
      add_rows(a, group, row, h + (row - low) * conv->stride[1], begin + i,
               cvc_ceil_div(end - begin - i, apart), 0, apart);
  for (int64_t ow = end; ow < a->out[2]; ow++)
    add_rows(a, group, low, h, ow, high - low, 1, 0);
}

/** The same of the tap and depth od, which lies at d of dx, panel by panel. */
static void add_depth(const im2col *m, const strip *at, const int64_t tap[3],
                      int64_t od, int64_t d, int64_t low, int64_t high) {
  const cvc_conv *conv = m->job->conv;
  const int64_t *size = conv->size, *kernel = conv->kernel;
  const int64_t together = taps_together(conv), nr = m->kernels->nr;
  const int64_t unit =
      ((tap[0] * kernel[1] + tap[1]) * kernel[2] + tap[2]) / together;
  const int64_t h =
      low * conv->stride[1] + tap[1] * conv->dilation[1] - conv->pad_before[1];
  addition a = {.m = m, .conv = conv, .tap = tap[2]};
  cvc_conv_out(conv, a.out);
  a.dy = (at->image * a.out[0] + od) * a.out[1] * a.out[2];
  a.dx = (at->image * size[0] + d) * size[1] * size[2];
  for (int64_t panel = 0; panel < m->panels; panel++) {
    a.b = cvc_packed_panel(conv, CVC_BACKWARD_DATA, m->job->choice,
                           m->job->packed,
                           at->group * cvc_gradient_units(conv) + unit, panel);
    a.width = cvc_panel_width(m->ch.produced, panel, m->kernels);
    a.first = panel * nr;
    a.end = cvc_min(a.first + a.width, together * m->c);
    add_plane(&a, at->group, low, high, h);
  }
}

/** Pixels of a single group lie side by side. */
static void clear(const im2col *m, const strip *s) {
  const cvc_conv *conv = m->job->conv;
  const int64_t *size = conv->size, pixels = (s->end - s->begin) * size[2];
  const int64_t runs = conv->groups == 1 ? 1 : pixels;
  const size_t bytes = (size_t)(pixels / runs * m->c * m->bytes);
  for (int64_t d = 0; d < size[0]; d++) {
    const int64_t first =
        ((s->image * size[0] + d) * size[1] + s->begin) * size[2];
    for (int64_t i = 0; i < runs; i++)
      memset(cvc_at(m->job->target, (first + i) * conv->c + s->group * m->c,
                    m->bytes),
             0, bytes);
  }
}

/** The rows of a strip at d, from rows `first` to `end` - 1 of outputs at od.
 * An element takes those that reach it in their order, however they are cut:
 * the last tap is that of the first. */
static void add_block(const im2col *m, const strip *s, int64_t tap_d,
                      int64_t od, int64_t d, int64_t first, int64_t end) {
  const cvc_conv *conv = m->job->conv;
  int64_t tap[3] = {tap_d};
  for (tap[1] = conv->kernel[1] - 1; tap[1] >= 0; tap[1]--) {
    int64_t low, high;
    outputs_inside(conv, tap[1], s->begin, s->end, &low, &high);
    low = cvc_max(low, first);
    high = cvc_min(high, end);
    if (low >= high) continue;
    for (tap[2] = 0; tap[2] < conv->kernel[2]; tap[2] += taps_together(conv))
      add_depth(m, s, tap, od, d, low, high);
  }
}

/** The rows of a strip, from blocks of the outputs that reach it. */
static void backward_task(void *context, int64_t task, int thread) {
  (void)thread;
  const im2col *m = context;
  const cvc_conv *conv = m->job->conv;
  const int64_t part = task % m->strips;
  const strip s = {.image = task / m->strips / conv->groups,
                   .group = task / m->strips % conv->groups,
                   .begin = part * conv->size[1] / m->strips,
                   .end = (part + 1) * conv->size[1] / m->strips};
  int64_t out[3];
  cvc_conv_out(conv, out);
  const int64_t row = out[2] * m->ch.reduced * m->bytes;
  const int64_t block = cvc_max(1, DY_BYTES / row);
  clear(m, &s);
  for (int64_t od = 0; od < out[0]; od++)
    for (int64_t first = 0; first < out[1]; first += block)
      for (int64_t tap = 0; tap < conv->kernel[0]; tap++) {
        const int64_t d = od * conv->stride[0] + tap * conv->dilation[0] -
                          conv->pad_before[0];
        if (d >= 0 && d < conv->size[0])
          add_block(m, &s, tap, od, d, first, cvc_min(first + block, out[1]));
      }
}

cvc_status cvc_im2col_backward_data(const cvc_conv_job *job) {
  im2col m = im2col_of(job, CVC_BACKWARD_DATA);
  return cvc_parallel(job->call, job->threads,
                      job->conv->n * job->conv->groups * m.strips,
                      backward_task, &m);
}
