/**
 * Gradient with respect to weights of one input channel, stride 1: vectors run
 * along the pixels. A few images are copied into planes as wide as the output,
 *
 *   x[s][image][h][w], moved by s and padded,   dy[k][image][h][w],
 *
 * so high that dy is 0 where a tap's x is that of the next image. So
 *
 *   dw[k][r][s] = sum over t of dy[k][t] x[s][t + r*width],
 *
 * products of long rows (the kernel `dots`). Granules of samples are summed,
 * then added in a binary tree. Where a result is not finite the caller computes
 * all again in the direct way: zeros meet more elements here than there.
 */
#include <string.h>

#include "conv.h"

#define PLANES_BYTES (256 * 1024) /* a part of the second level */

typedef struct planes {
  const cvc_conv_job *job;
  const cvc_kernels *kernels;
  int64_t bytes, k, taps;
  int64_t rows, width, height; /* of dy; of a plane */
  int64_t images, length;      /* at a time; elements of all of them */
  int64_t granules, partial;   /* elements: dw[k][r][s], then db[k] */
  char *partials, *workspaces;
  int64_t workspace_bytes;
} planes;

/** Per-thread working memory. */
typedef struct workspace {
  char *x, *dy, *ones, *sums;
} workspace;

/** Planes of an image: of x, of dy, of ones. */
static int64_t planes_of(const planes *p, const cvc_conv *conv) {
  return conv->kernel[2] + p->k + 1;
}

static void set_planes(planes *p, const cvc_conv *conv) {
  int64_t out[3];
  cvc_conv_out(conv, out);
  *p = (planes){.kernels = cvc_kernels_of(conv->dtype),
                .bytes = cvc_dtype_bytes(conv->dtype),
                .k = conv->k,
                .taps = cvc_volume(conv->kernel),
                .rows = out[1],
                .width = out[2],
                .granules = cvc_granules(conv->n)};
  p->height = out[1] + conv->dilation[1] * (conv->kernel[1] - 1);
  const int64_t plane = p->height * p->width;
  const int64_t most = PLANES_BYTES / (planes_of(p, conv) * plane * p->bytes);
  p->images = cvc_max(cvc_min(most, conv->n / p->granules), 1);
  p->length = p->images * plane;
  p->partial = p->k * p->taps + p->k;
}

bool cvc_weight_planes_fits(const cvc_conv *conv) {
  if (conv->c != 1 || conv->size[0] != 1 || conv->kernel[0] != 1 ||
      conv->pad_before[0] || conv->pad_after[0] || conv->stride[1] != 1 ||
      conv->stride[2] != 1)
    return false;
  planes p;
  set_planes(&p, conv);
  return planes_of(&p, conv) * p.height * p.width * p.bytes <= 4 * PLANES_BYTES;
}

cvc_planes_work cvc_weight_planes_work(const cvc_conv *conv) {
  planes p;
  set_planes(&p, conv);
  const double n = (double)conv->n, k = (double)p.k;
  return (cvc_planes_work){
      .products = n * (double)(p.height * p.width) * k * (double)p.taps,
      .totals = n / (double)p.images * k * (double)(conv->kernel[1] + 1),
      .copied = n * (double)(p.height * p.width * planes_of(&p, conv))};
}

/** Elements from one plane's images to those of the next. */
static int64_t row_of(const planes *p) {
  return cvc_round_up(p->length * p->bytes, 64) / p->bytes;
}

/** Sets the parts of the workspace; returns its bytes. */
static int64_t carve(const planes *p, const cvc_conv *conv, char *memory,
                     workspace *space) {
  const int64_t row = row_of(p) * p->bytes;
  const int64_t vector = p->kernels->vector_length * p->bytes;
  const int64_t columns =
      cvc_round_up(conv->kernel[2], p->kernels->vector_length);
  const int64_t x = conv->kernel[2] * row + vector; /* as `rows` writes it */
  if (memory) {
    space->ones = memory;
    space->dy = memory + row;
    space->x = space->dy + p->k * row;
    space->sums = space->x + cvc_round_up(x, 64);
  }
  return (1 + p->k) * row + cvc_round_up(x, 64) +
         cvc_round_up(p->k * columns * vector, 64);
}

static int64_t partials_bytes(const planes *p) {
  return cvc_round_up(p->granules * p->partial * p->bytes, 64);
}

int64_t cvc_weight_planes_scratch(const cvc_conv *conv, int threads) {
  planes p;
  set_planes(&p, conv);
  return partials_bytes(&p) + threads * carve(&p, conv, NULL, NULL);
}

static void *partial_of(const planes *p, int64_t granule) {
  return cvc_at(p->partials, granule * p->partial, p->bytes);
}

/** The plane of an image that tap s of a row takes: x moved and padded. */
static void fill_x(const planes *p, int64_t image, int64_t tap, char *plane) {
  const cvc_conv *conv = p->job->conv;
  const int64_t *size = conv->size, row = p->width * p->bytes;
  const int64_t top = cvc_min(conv->pad_before[1], p->height);
  const int64_t rows = cvc_min(size[1], p->height - top);
  const int64_t from = tap * conv->dilation[2] - conv->pad_before[2];
  const int64_t low = cvc_min(cvc_max(-from, 0), p->width);
  const int64_t high = cvc_max(cvc_min(size[2] - from, p->width), low);
  const cvc_rows copy = {
      .rows = rows,
      .low = low,
      .high = high,
      .width = p->width,
      .x = cvc_at_const(p->job->x, image * size[1] * size[2] + from + low,
                        p->bytes),
      .x_end = cvc_at_const(p->job->x, conv->n * size[1] * size[2], p->bytes),
      .x_row = size[2],
      .x_step = 1,
      .y = plane + top * row};
  memset(plane, 0, (size_t)(top * row));
  p->kernels->rows(&copy);
  memset(plane + (top + rows) * row, 0,
         (size_t)((p->height - top - rows) * row));
}

/** Planes of images [first, first + count). */
static void fill(const planes *p, const workspace *space, int64_t first,
                 int64_t count) {
  const cvc_conv *conv = p->job->conv;
  const int64_t plane = p->height * p->width, pixels = p->rows * p->width;
  const int64_t row = row_of(p);
  for (int64_t tap = 0; tap < conv->kernel[2]; tap++)
    for (int64_t i = 0; i < count; i++)
      fill_x(p, first + i, tap,
             cvc_at(space->x, tap * row + i * plane, p->bytes));
  for (int64_t i = 0; i < count; i++) {
    const void *dy =
        cvc_at_const(p->job->y, (first + i) * p->k * pixels, p->bytes);
    char *to = cvc_at(space->dy, i * plane, p->bytes);
    if (conv->layout == CVC_CHANNELS_LAST)
      p->kernels->transpose(pixels, p->k, dy, p->k, to, row);
    for (int64_t k = 0; k < p->k; k++) {
      char *of_k = cvc_at(to, k * row, p->bytes);
      if (conv->layout == CVC_CHANNELS_FIRST)
        memcpy(of_k, cvc_at_const(dy, k * pixels, p->bytes),
               (size_t)(pixels * p->bytes));
      memset(of_k + pixels * p->bytes, 0,
             (size_t)((plane - pixels) * p->bytes));
    }
  }
}

static void set_ones(const planes *p, char *ones) {
  const int64_t size = p->length * p->bytes;
  cvc_set(p->job->conv->dtype, ones, 0, 1);
  for (int64_t done = p->bytes; done < size; done *= 2)
    memcpy(ones + done, ones, (size_t)cvc_min(done, size - done));
}

/** Images of a granule, a few at a time. */
static void planes_task(void *context, int64_t granule, int thread) {
  planes *p = context;
  const cvc_conv *conv = p->job->conv;
  workspace space;
  carve(p, conv, p->workspaces + thread * p->workspace_bytes, &space);
  const int64_t end = cvc_granule_first(conv->n, granule + 1);
  char *partial = partial_of(p, granule);
  memset(partial, 0, (size_t)(p->partial * p->bytes));
  if (p->job->db) set_ones(p, space.ones);
  for (int64_t first = cvc_granule_first(conv->n, granule); first < end;
       first += p->images) {
    const int64_t count = cvc_min(p->images, end - first);
    fill(p, &space, first, count);
    cvc_tile tile = {
        .a = space.dy,
        .a_row = row_of(p),
        .b_step = row_of(p),
        .length = (count * p->height - (p->height - p->rows)) * p->width,
        .c_row = p->taps,
        .rows = (int)p->k,
        .columns = (int)conv->kernel[2],
        .accumulate = true};
    for (int64_t r = 0; r < conv->kernel[1] && p->job->target; r++) {
      tile.b = cvc_at(space.x, r * conv->dilation[1] * p->width, p->bytes);
      tile.c = cvc_at(partial, r * conv->kernel[2], p->bytes);
      p->kernels->dots(&tile, space.sums);
    }
    if (!p->job->db) continue;
    tile.b = space.ones;
    tile.c = cvc_at(partial, p->k * p->taps, p->bytes);
    tile.c_row = tile.columns = 1;
    p->kernels->dots(&tile, space.sums);
  }
}

cvc_status cvc_weight_planes_run(const cvc_conv_job *job) {
  planes p;
  set_planes(&p, job->conv);
  p.job = job;
  p.partials = job->scratch;
  p.workspaces = p.partials + partials_bytes(&p);
  p.workspace_bytes = carve(&p, job->conv, NULL, NULL);
  CVC_TRY(cvc_parallel(job->call, job->threads, p.granules, planes_task, &p));
  for (int64_t step = 1; step < p.granules; step *= 2)
    for (int64_t g = 0; g + step < p.granules; g += 2 * step)
      p.kernels->add(p.partial, partial_of(&p, g), partial_of(&p, g + step),
                     partial_of(&p, g));
  const int64_t weights = p.k * p.taps;
  if (job->target)
    memcpy(job->target, partial_of(&p, 0), (size_t)(weights * p.bytes));
  if (job->db)
    memcpy(job->db, cvc_at(partial_of(&p, 0), weights, p.bytes),
           (size_t)(p.k * p.bytes));
  return CVC_OK;
}
