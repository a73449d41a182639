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

/** Pixels of a block of columns. */
static int64_t block_of(const cvc_conv *conv) {
  int64_t out[3];
  cvc_conv_out(conv, out);
  const int64_t row = depth_of(conv) * cvc_dtype_bytes(conv->dtype);
  return cvc_max(cvc_min(COLUMN_BYTES / row, cvc_volume(out)), 1);
}

int64_t cvc_im2col_scratch(const cvc_conv *conv, cvc_pass pass, int threads) {
  (void)pass;
  return threads * cvc_round_up(block_of(conv) * depth_of(conv) *
                                    cvc_dtype_bytes(conv->dtype),
                                64);
}

/** Source pixel of every tap of output `pixel`, in tap order: calls
 * visit(context, tap, source pixel or -1 in the padding). */
typedef void (*visit_tap)(void *context, int64_t tap, int64_t source);

static void visit_taps(const cvc_conv *conv, int64_t pixel, visit_tap visit,
                       void *context) {
  int64_t out[3], origin[3], tap = 0;
  cvc_conv_out(conv, out);
  const int64_t at[3] = {pixel / (out[1] * out[2]), pixel / out[2] % out[1],
                         pixel % out[2]};
  for (int i = 0; i < 3; i++)
    origin[i] = at[i] * conv->stride[i] - conv->pad_before[i];
  for (int64_t t = 0; t < conv->kernel[0]; t++)
    for (int64_t r = 0; r < conv->kernel[1]; r++)
      for (int64_t s = 0; s < conv->kernel[2]; s++, tap++) {
        const int64_t d = origin[0] + t * conv->dilation[0];
        const int64_t h = origin[1] + r * conv->dilation[1];
        const int64_t w = origin[2] + s * conv->dilation[2];
        const bool inside = d >= 0 && d < conv->size[0] && h >= 0 &&
                            h < conv->size[1] && w >= 0 && w < conv->size[2];
        visit(context, tap,
              inside ? (d * conv->size[1] + h) * conv->size[2] + w : -1);
      }
}

/** One pixel of x or dx against one row of columns. */
typedef struct gather {
  void *x; /* not written by gather_tap */
  int64_t channels, c, bytes;
  const cvc_kernels *kernels;
  void *row;
} gather;

static void gather_tap(void *context, int64_t tap, int64_t source) {
  const gather *g = context;
  void *to = cvc_at(g->row, tap * g->c, g->bytes);
  const size_t bytes = (size_t)(g->c * g->bytes);
  if (source < 0)
    memset(to, 0, bytes);
  else
    memcpy(to, cvc_at(g->x, source * g->channels, g->bytes), bytes);
}

static void scatter_tap(void *context, int64_t tap, int64_t source) {
  const gather *g = context;
  if (source < 0) return;
  void *to = cvc_at(g->x, source * g->channels, g->bytes);
  g->kernels->add(g->c, to, cvc_at(g->row, tap * g->c, g->bytes), to);
}

void cvc_im2col(const cvc_conv *conv, const void *x, int64_t channels,
                int64_t c, int64_t first, int64_t count, void *columns) {
  gather g = {.x = (void *)x,
              .channels = channels,
              .c = c,
              .bytes = cvc_dtype_bytes(conv->dtype)};
  const int64_t depth = cvc_volume(conv->kernel) * c;
  for (int64_t i = 0; i < count; i++) {
    g.row = cvc_at(columns, i * depth, g.bytes);
    visit_taps(conv, first + i, gather_tap, &g);
  }
}

typedef struct im2col {
  const cvc_conv_job *job;
  const cvc_kernels *kernels;
  cvc_channels ch;
  int64_t bytes, depth, block, blocks, pixels, panels;
} im2col;

static im2col im2col_of(const cvc_conv_job *job, cvc_pass pass) {
  const cvc_conv *conv = job->conv;
  int64_t out[3];
  cvc_conv_out(conv, out);
  im2col m = {.job = job,
              .kernels = cvc_kernels_of(conv->dtype),
              .ch = cvc_conv_channels(conv, pass),
              .bytes = cvc_dtype_bytes(conv->dtype),
              .depth = depth_of(conv),
              .block = block_of(conv),
              .pixels = cvc_volume(out)};
  m.blocks = cvc_ceil_div(m.pixels, m.block);
  m.panels = cvc_panels(m.ch.produced, m.kernels);
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
    const int64_t at = (image * m->pixels + first) * conv->k + k;
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
        .c_row = conv->k,
        .columns = (int)cvc_min(width, m->ch.produced - panel * m->kernels->nr),
        .bias = job->bias ? cvc_at_const(job->bias, k, m->bytes) : NULL,
        .residual =
            job->residual ? cvc_at_const(job->residual, at, m->bytes) : NULL,
        .relu = conv->activation == CVC_ACTIVATION_RELU};
    cvc_run_tiles(m->kernels, &tile, count, m->bytes);
  }
}

cvc_status cvc_im2col_forward(const cvc_conv_job *job) {
  im2col m = im2col_of(job, CVC_FORWARD);
  return cvc_parallel(job->call, job->threads,
                      job->conv->n * m.ch.groups * m.blocks, forward_task, &m);
}

/** dx of one image and group: its blocks in order, since windows overlap. */
static void backward_task(void *context, int64_t task, int thread) {
  const im2col *m = context;
  const cvc_conv_job *job = m->job;
  const cvc_conv *conv = job->conv;
  const int64_t group = task % m->ch.groups, image = task / m->ch.groups;
  const int64_t size = cvc_volume(conv->size);
  const int64_t taps = cvc_volume(conv->kernel);
  void *columns = columns_of(m, thread);
  gather g = {
      .x = cvc_at(job->target, image * conv->c * size + group * m->ch.produced,
                  m->bytes),
      .channels = conv->c,
      .c = m->ch.produced,
      .bytes = m->bytes,
      .kernels = m->kernels};
  for (int64_t pixel = 0; pixel < size; pixel++)
    memset(cvc_at(g.x, pixel * conv->c, m->bytes), 0, (size_t)(g.c * m->bytes));
  for (int64_t first = 0; first < m->pixels; first += m->block) {
    const int64_t count = cvc_min(m->block, m->pixels - first);
    const void *dy = cvc_at_const(
        job->y, (image * m->pixels + first) * conv->k + group * m->ch.reduced,
        m->bytes);
    for (int64_t panel = 0; panel < m->panels; panel++)
      for (int64_t tap = 0; tap < taps; tap++) {
        const int64_t width =
            cvc_panel_width(m->ch.produced, panel, m->kernels);
        const int64_t c = panel * m->kernels->nr;
        cvc_tile tile = {
            .a = dy,
            .b = cvc_at_const(
                cvc_packed_panel(conv, CVC_BACKWARD_DATA, job->choice,
                                 job->packed, group, panel),
                tap * m->ch.reduced * width, m->bytes),
            .a_run = &no_offset,
            .b_run = &no_offset,
            .runs = 1,
            .length = m->ch.reduced,
            .a_row = conv->k,
            .a_step = 1,
            .b_step = width,
            .c = cvc_at(columns, tap * g.c + c, m->bytes),
            .c_row = m->depth,
            .columns = (int)cvc_min(width, m->ch.produced - c)};
        cvc_run_tiles(m->kernels, &tile, count, m->bytes);
      }
    for (int64_t i = 0; i < count; i++) {
      g.row = cvc_at(columns, i * m->depth, m->bytes);
      visit_taps(conv, first + i, scatter_tap, &g);
    }
  }
}

cvc_status cvc_im2col_backward_data(const cvc_conv_job *job) {
  im2col m = im2col_of(job, CVC_BACKWARD_DATA);
  return cvc_parallel(job->call, job->threads, job->conv->n * m.ch.groups,
                      backward_task, &m);
}
