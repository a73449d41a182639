/**
 * Convolution as a matrix product: the taps of a block of output pixels are
 * gathered into columns[pixel][tap][c] (im2col), then multiplied with the
 * packed weights by the tile kernel. The gradient with respect to x goes the
 * other way: a product gives the columns' gradient, which is added back to
 * the places it came from (col2im).
 */
#include <string.h>

#include "conv.h"

#define COLUMN_BYTES (128 * 1024)

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
  (void)pass;
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

/** A strip of rows of dx of one image and group. */
typedef struct strip {
  int64_t begin, end; /* rows */
  char *dx;           /* of the image, first channel of the group */
} strip;

/** Add one row of columns, [tap][c], to the places of dx it came from;
 * origin: the position of tap 0. */
static void scatter(const im2col *m, const strip *s, const int64_t origin[3],
                    const void *row) {
  const cvc_conv *conv = m->job->conv;
  const int64_t *kernel = conv->kernel, *size = conv->size;
  /* Taps low..high-1 of a filter row lie inside dx; without dilation and
   * groups they are neighbours there as in the columns. */
  const int64_t step = conv->dilation[2];
  int64_t low = 0, high = kernel[2];
  while (low < high && origin[2] + low * step < 0) low++;
  while (high > low && origin[2] + (high - 1) * step >= size[2]) high--;
  const int64_t together = step == 1 && conv->groups == 1 ? high - low : 1;
  for (int64_t t = 0; t < kernel[0]; t++) {
    const int64_t d = origin[0] + t * conv->dilation[0];
    if (d < 0 || d >= size[0]) continue;
    for (int64_t r = 0; r < kernel[1]; r++) {
      const int64_t h = origin[1] + r * conv->dilation[1];
      if (h < s->begin || h >= s->end) continue;
      for (int64_t tap = low; tap < high; tap += together) {
        const int64_t w = origin[2] + tap * step;
        const int64_t from = ((t * kernel[1] + r) * kernel[2] + tap) * m->c;
        void *to = cvc_at(s->dx, ((d * size[1] + h) * size[2] + w) * conv->c,
                          m->bytes);
        m->kernels->add(together * m->c, to, cvc_at_const(row, from, m->bytes),
                        to);
      }
    }
  }
}

/** Whether an output of this row takes a tap from rows [begin, end). */
static bool touches(const cvc_conv *conv, const strip *s, int64_t oh) {
  const int64_t first = oh * conv->stride[1] - conv->pad_before[1];
  const int64_t last = first + (conv->kernel[1] - 1) * conv->dilation[1];
  return first < s->end && last >= s->begin;
}

/** Columns of output pixels [first, first + count) of an image. */
static void gradient_block(const im2col *m, const void *dy, int64_t group,
                           int64_t count, void *columns) {
  const cvc_conv_job *job = m->job;
  for (int64_t panel = 0; panel < m->panels; panel++) {
    const int64_t width = cvc_panel_width(m->ch.produced, panel, m->kernels);
    const int64_t first = panel * m->kernels->nr;
    cvc_tile tile = {
        .a = dy,
        .b = cvc_packed_panel(job->conv, CVC_BACKWARD_DATA, job->choice,
                              job->packed, group, panel),
        .a_run = &no_offset,
        .b_run = &no_offset,
        .runs = 1,
        .length = m->ch.reduced,
        .a_row = job->conv->k,
        .a_step = 1,
        .b_step = width,
        .c = cvc_at(columns, first, m->bytes),
        .c_row = m->depth,
        .columns = (int)cvc_min(width, m->ch.produced - first)};
    cvc_run_tiles(m->kernels, &tile, count, m->bytes);
  }
}

/** A strip: the rows of outputs that reach it, in order, since windows
 * overlap. */
static void backward_task(void *context, int64_t task, int thread) {
  const im2col *m = context;
  const cvc_conv_job *job = m->job;
  const cvc_conv *conv = job->conv;
  const int64_t part = task % m->strips;
  const int64_t group = task / m->strips % m->ch.groups;
  const int64_t image = task / m->strips / m->ch.groups;
  const int64_t *size = conv->size;
  int64_t out[3];
  cvc_conv_out(conv, out);
  strip s = {.begin = part * size[1] / m->strips,
             .end = (part + 1) * size[1] / m->strips,
             .dx = cvc_at(job->target,
                          image * conv->c * cvc_volume(size) + group * m->c,
                          m->bytes)};
  for (int64_t d = 0; d < size[0]; d++)
    for (int64_t i = s.begin * size[2]; i < s.end * size[2]; i++)
      memset(cvc_at(s.dx, (d * size[1] * size[2] + i) * conv->c, m->bytes), 0,
             (size_t)(m->c * m->bytes));
  char *columns = columns_of(m, thread);
  /* All rows are one where a strip has the whole image. */
  const int64_t joined = m->strips == 1 ? out[0] * out[1] : 1;
  for (int64_t row = 0; row < out[0] * out[1]; row += joined) {
    if (joined == 1 && !touches(conv, &s, row % out[1])) continue;
    for (int64_t first = 0; first < joined * out[2]; first += m->block) {
      const int64_t count = cvc_min(m->block, joined * out[2] - first);
      const int64_t pixel = row * out[2] + first;
      gradient_block(m,
                     cvc_at_const(job->y,
                                  (image * m->pixels + pixel) * conv->k +
                                      group * m->ch.reduced,
                                  m->bytes),
                     group, count, columns);
      for (int64_t i = 0; i < count; i++) {
        const int64_t at = pixel + i, line = at / out[2];
        const int64_t origin[3] = {
            line / out[1] * conv->stride[0] - conv->pad_before[0],
            line % out[1] * conv->stride[1] - conv->pad_before[1],
            at % out[2] * conv->stride[2] - conv->pad_before[2]};
        scatter(m, &s, origin, cvc_at(columns, i * m->depth, m->bytes));
      }
    }
  }
}

cvc_status cvc_im2col_backward_data(const cvc_conv_job *job) {
  im2col m = im2col_of(job, CVC_BACKWARD_DATA);
  return cvc_parallel(job->call, job->threads,
                      job->conv->n * m.ch.groups * m.strips, backward_task, &m);
}
