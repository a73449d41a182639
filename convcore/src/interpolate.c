/**
 * Interpolation. Every mode is a weighted sum of a few inputs along each axis.
 * Input rows that are resampled along the width before they are blended are so
 * once: neighbouring output rows share them.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "interpolate.h"

/* Every pixel from all its sources at once, where channels fill a vector; else
 * rows are resampled first, or blended first, whichever are fewer. */
typedef enum way { PIXELS, ROWS_FIRST, BLEND_FIRST } way;

enum { MAX_TAPS = 4, MAX_ROWS = MAX_TAPS * MAX_TAPS };

/** The inputs of every output along an axis: index[tap][out], weight[tap][out].
 */
typedef struct axis {
  int64_t size, out;
  ptrdiff_t *index;
  double *weight;
} axis;

typedef struct job {
  const cvc_interpolate *of;
  const cvc_kernels *kernels;
  int taps;
  axis axes[3];
  void *weight; /* of the width, in the dtype */
  const void *x;
  void *y;
  int64_t channels; /* inner ones: those of channels-last images, else 1 */
  way way;
  int64_t width; /* entries of the width's index */
  int64_t bytes, row_bytes;
  int64_t rows, blocks; /* output rows of a task, tasks of an image */
  char *cache;          /* of each thread: MAX_ROWS resampled rows */
} job;

/* ------------------------------------------------------------------- taps */

/** Cubic convolution (Keys, 1981) of the four neighbours. */
static void cubic(double t, double *weight, int64_t step) {
  const double a = -0.75;
  const double distance[4] = {t + 1, t, 1 - t, 2 - t};
  for (int i = 0; i < 4; i++) {
    const double d = distance[i];
    weight[i * step] = i == 0 || i == 3
                           ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
                           : ((a + 2) * d - (a + 3)) * d * d + 1;
  }
}

/* As PyTorch computes it, in the same precision: float32 for the nearest
 * neighbour, that of the images for the others. */
void cvc_interpolation_axis(const cvc_interpolate *of, int a, ptrdiff_t *index,
                            double *weight) {
  const int64_t n = of->size[a], out = of->out[a];
  const double scale = of->scale[a];
  for (int64_t i = 0; i < out; i++, index++, weight++) {
    if (of->mode == CVC_NEAREST || of->mode == CVC_NEAREST_EXACT) {
      const float half = of->mode == CVC_NEAREST ? 0 : 0.5f;
      const int64_t at = (int64_t)floorf(((float)i + half) * (float)scale);
      *index = cvc_min(at, n - 1);
      *weight = 1;
      continue;
    }
    double at =
        of->align_corners ? (double)i * scale : ((double)i + 0.5) * scale - 0.5;
    if (of->dtype == CVC_F32)
      at = of->align_corners ? (float)i * (float)scale
                             : ((float)i + 0.5f) * (float)scale - 0.5f;
    if (of->mode == CVC_LINEAR) {
      at = fmax(at, 0);
      const int64_t first = cvc_min((int64_t)at, n - 1);
      const double t = fmin(at - (double)first, 1);
      index[0] = first;
      index[out] = cvc_min(first + 1, n - 1);
      weight[0] = 1 - t;
      weight[out] = t;
      continue;
    }
    const double first = floor(at);
    for (int t = 0; t < 4; t++)
      index[t * out] = cvc_max(0, cvc_min((int64_t)first + t - 1, n - 1));
    cubic(at - first, weight, out);
  }
}

int cvc_interpolation_taps(cvc_interpolation mode) {
  return mode == CVC_CUBIC ? 4 : mode == CVC_LINEAR ? 2 : 1;
}

/* ------------------------------------------------------------------- rows */

/** Resampled rows that a thread has, and which input rows they are. */
typedef struct cache {
  char *rows;
  int64_t is[MAX_ROWS];
} cache;

static const void *input_row(const job *j, const void *image, int64_t row) {
  return cvc_at_const(image, row * j->axes[2].size * j->channels, j->bytes);
}

/**
 * Where the resampled rows of these numbers are. Those that the thread does not
 * have are computed, in the place of one that is not among them: there are as
 * many places as rows.
 */
static void find_rows(const job *j, const void *image, const int64_t *rows,
                      int count, cache *cache, const void **found) {
  bool taken[MAX_ROWS] = {false};
  for (int i = 0; i < count; i++) {
    found[i] = NULL;
    for (int place = 0; place < count && !found[i]; place++)
      if (cache->is[place] == rows[i]) {
        found[i] = cache->rows + place * j->row_bytes;
        taken[place] = true;
      }
  }
  for (int i = 0, place = 0; i < count; i++) {
    if (found[i]) continue;
    while (taken[place]) place++;
    void *to = cache->rows + place * j->row_bytes;
    j->kernels->resample(j->width, j->taps, j->axes[2].index, j->weight,
                         input_row(j, image, rows[i]), to);
    cache->is[place] = rows[i];
    taken[place++] = true;
    found[i] = to;
  }
}

static void run_task(void *context, int64_t task, int thread) {
  const job *j = context;
  const axis *depth = &j->axes[0], *height = &j->axes[1], *width = &j->axes[2];
  const int64_t image = task / j->blocks;
  const int64_t pixels = depth->size * height->size * width->size;
  const void *x = cvc_at_const(j->x, image * pixels * j->channels, j->bytes);
  const int64_t rows = depth->out * height->out;
  const int64_t first = task % j->blocks * j->rows;
  const int64_t last = cvc_min(first + j->rows, rows);
  const int64_t row = width->out * j->channels;
  /* One axis has one tap where it is not resampled in depth. */
  const int depth_taps = depth->size == 1 ? 1 : j->taps;
  const int height_taps = height->size == 1 ? 1 : j->taps;
  const int room = depth_taps * height_taps;
  cache kept = {.rows = j->cache + thread * MAX_ROWS * j->row_bytes};
  for (int i = 0; i < room; i++) kept.is[i] = -1;
  for (int64_t r = first; r < last; r++) {
    const int64_t od = r / height->out, oh = r % height->out;
    const void *inputs[MAX_ROWS];
    int64_t wanted[MAX_ROWS];
    double weight[MAX_ROWS];
    for (int i = 0; i < room; i++) {
      const int64_t d = i / height_taps * depth->out + od;
      const int64_t h = i % height_taps * height->out + oh;
      wanted[i] = depth->index[d] * height->size + height->index[h];
      weight[i] = (depth_taps == 1 ? 1 : depth->weight[d]) *
                  (height_taps == 1 ? 1 : height->weight[h]);
    }
    void *y = cvc_at(j->y, (image * rows + r) * row, j->bytes);
    if (j->way == ROWS_FIRST) {
      find_rows(j, x, wanted, room, &kept, inputs);
      j->kernels->blend(row, room, weight, inputs, y);
      continue;
    }
    for (int i = 0; i < room; i++) inputs[i] = input_row(j, x, wanted[i]);
    if (j->way == PIXELS) {
      j->kernels->resample_pixels(width->out, j->channels, room, inputs, weight,
                                  j->taps, width->index, j->weight, y);
      continue;
    }
    j->kernels->blend(width->size * j->channels, room, weight, inputs,
                      kept.rows);
    j->kernels->resample(j->width, j->taps, width->index, j->weight, kept.rows,
                         y);
  }
}

/* ------------------------------------------------------------ entry points */

cvc_status cvc_interpolate_check(const cvc_interpolate *of) {
  if (!of) return CVC_BAD_ARGUMENT;
  CVC_TRY(cvc_initialize());
  if (!cvc_is_real(of->dtype)) return CVC_UNSUPPORTED;
  if ((of->layout != CVC_CHANNELS_FIRST && of->layout != CVC_CHANNELS_LAST) ||
      of->mode < CVC_NEAREST || of->mode > CVC_CUBIC)
    return CVC_BAD_ARGUMENT;
  int64_t elements;
  for (int i = 0; i < 3; i++) {
    if (of->size[i] < 1 || of->out[i] < 1) return CVC_BAD_SHAPE;
    if (!(of->scale[i] >= 0 && of->scale[i] < 0x1p60)) return CVC_BAD_ARGUMENT;
  }
  const int64_t x[] = {of->n, of->c, of->size[0], of->size[1], of->size[2]};
  const int64_t y[] = {of->n, of->c, of->out[0], of->out[1], of->out[2]};
  CVC_TRY(cvc_elements(of->dtype, 5, x, &elements));
  return cvc_elements(of->dtype, 5, y, &elements);
}

/** Memory of the taps and of the threads' rows, in one block. */
static cvc_status allocate(job *j, int threads, void **memory) {
  const int64_t outputs = j->axes[0].out + j->axes[1].out + j->width;
  const int64_t per_tap = sizeof(ptrdiff_t) + sizeof(double);
  const int64_t taps = cvc_round_up(outputs * j->taps * per_tap, 64);
  const int64_t weights = cvc_round_up(j->width * j->taps * j->bytes, 64);
  const int64_t cache = threads * MAX_ROWS * j->row_bytes;
  *memory = aligned_alloc(64, (size_t)(taps + weights + cache));
  if (!*memory) return CVC_NO_MEMORY;
  char *at = *memory;
  j->weight = at + taps;
  j->cache = at + taps + weights;
  for (int a = 0; a < 3; a++) {
    const int64_t entries = (a == 2 ? j->width : j->axes[a].out) * j->taps;
    j->axes[a].weight = (double *)(void *)at;
    at += entries * (int64_t)sizeof(double);
    j->axes[a].index = (ptrdiff_t *)(void *)at;
    at += entries * (int64_t)sizeof(ptrdiff_t);
  }
  return CVC_OK;
}

/** Index and weight of the width for each element: those of its pixel. */
static void spread_width(job *j) {
  const axis *width = &j->axes[2];
  const int64_t step = j->width / width->out;
  for (int64_t i = width->out * j->taps - 1; i >= 0; i--)
    for (int64_t c = step - 1; c >= 0; c--) {
      const int64_t at = i * step + c;
      width->index[at] = width->index[i] * step + c;
      if (j->bytes == 4)
        ((float *)j->weight)[at] = (float)width->weight[i];
      else
        ((double *)j->weight)[at] = width->weight[i];
    }
}

cvc_status cvc_interpolate_forward(const cvc_interpolate *of, const void *x,
                                   void *y, const cvc_call *call) {
  CVC_TRY(cvc_interpolate_check(of));
  const bool last = of->layout == CVC_CHANNELS_LAST;
  job j = {.of = of,
           .kernels = cvc_kernels_of(of->dtype),
           .taps = cvc_interpolation_taps(of->mode),
           .x = x,
           .y = y,
           .channels = last ? of->c : 1,
           .bytes = cvc_dtype_bytes(of->dtype)};
  for (int a = 0; a < 3; a++)
    j.axes[a] = (axis){.size = of->size[a], .out = of->out[a]};
  const int64_t x_size = of->n * of->c * cvc_volume(of->size);
  const int64_t y_size = of->n * of->c * cvc_volume(of->out);
  if (!cvc_is_array(x, of->dtype, x_size) ||
      !cvc_is_array(y, of->dtype, y_size))
    return CVC_BAD_ARGUMENT;
  CVC_TRY(cvc_check_disjoint(x, x_size * j.bytes, y, y_size * j.bytes));
  if (y_size == 0) return CVC_OK;
  const int64_t row = of->out[2] * j.channels, rows = of->out[0] * of->out[1];
  const int64_t longest = cvc_max(row, of->size[2] * j.channels);
  j.row_bytes = cvc_round_up(longest * j.bytes, 64);
  const bool fewer = rows < of->size[0] * of->size[1];
  j.way = j.channels >= j.kernels->vector_length ? PIXELS
          : fewer                                ? BLEND_FIRST
                                                 : ROWS_FIRST;
  j.width = j.way == PIXELS ? of->out[2] : row;
  /* A task computes the rows at its edges itself: not too few of them. */
  j.rows = cvc_min(rows, cvc_max(16, (1 << 15) / row));
  j.blocks = cvc_ceil_div(rows, j.rows);
  const int64_t tasks = (last ? of->n : of->n * of->c) * j.blocks;
  const int threads =
      cvc_plan_threads(call, tasks, CVC_ELEMENT_WORK * (double)y_size);
  void *memory;
  CVC_TRY(allocate(&j, threads, &memory));
  for (int a = 0; a < 3; a++)
    cvc_interpolation_axis(of, a, j.axes[a].index, j.axes[a].weight);
  spread_width(&j);
  const cvc_status status = cvc_parallel(call, threads, tasks, run_task, &j);
  free(memory);
  return status;
}
