/**
 * The gradient of interpolation. An element of dx is a weighted sum of those
 * outputs that it is an input of: for a row of dx, rows of dy are blended, then
 * the pixels of that.
 */
#include <stdlib.h>

#include "interpolate.h"

enum { TASK_ELEMENTS = 1 << 15 };

/** Along an axis, input i is one of outputs index[t], t from begin[i] to
 * begin[i + 1] - 1, whose weights it has. */
typedef struct users {
  int64_t *begin, *index;
  double *weight;
} users;

typedef struct job {
  const cvc_interpolate *of;
  const cvc_kernels *kernels;
  users axes[3];
  const void *dy;
  void *dx;
  int64_t channels; /* inner ones: those of channels-last images, else 1 */
  int64_t bytes, rows, blocks; /* rows of dx of a task, tasks of an image */
  int64_t most;                /* rows that are blended, or pixels */
  int64_t taps;                /* of one channel: [taps][pixels of a row], */
  ptrdiff_t *index;            /* pixels of a blended row, */
  void *weight;                /* in the dtype */
  char *memory;                /* of each thread */
  int64_t blended_bytes, memory_bytes;
} job;

/** Sort the outputs by their inputs; in `memory`, which is moved on. */
static users users_of(const cvc_interpolate *of, int a, char **memory) {
  const int64_t taps = cvc_interpolation_taps(of->mode);
  const int64_t size = of->size[a], out = of->out[a], entries = taps * out;
  users u = {.weight = (double *)(void *)*memory};
  u.index = (int64_t *)(u.weight + entries);
  u.begin = u.index + entries;
  double *weight = (double *)(u.begin + size + 2);
  ptrdiff_t *index = (ptrdiff_t *)(weight + entries);
  *memory = (char *)(index + entries);
  cvc_interpolation_axis(of, a, index, weight);
  /* Count, one place further on; then every place is the end of the last. */
  for (int64_t i = 0; i < size + 2; i++) u.begin[i] = 0;
  for (int64_t i = 0; i < entries; i++) u.begin[index[i] + 2]++;
  for (int64_t i = 2; i < size + 2; i++) u.begin[i] += u.begin[i - 1];
  for (int64_t o = 0; o < out; o++)
    for (int64_t t = 0; t < taps; t++) {
      const int64_t at = u.begin[index[t * out + o] + 1]++;
      u.index[at] = o;
      u.weight[at] = weight[t * out + o];
    }
  return u;
}

static int64_t users_bytes(const cvc_interpolate *of) {
  const int64_t taps = cvc_interpolation_taps(of->mode);
  int64_t words = 0;
  for (int a = 0; a < 3; a++) words += 4 * taps * of->out[a] + of->size[a] + 2;
  return words * 8;
}

/** The most outputs that an input has. */
static int64_t most_users(const users *u, int64_t size) {
  int64_t most = 0;
  for (int64_t i = 0; i < size; i++)
    most = cvc_max(most, u->begin[i + 1] - u->begin[i]);
  return most;
}

/** Bytes of the outputs of each pixel of a row, in a rectangular table. */
static int64_t pixels_bytes(const job *j) {
  return j->channels == 1 ? j->taps * j->of->size[2] * 16 : 0;
}

/** Fill it: where a pixel has fewer, the others are an element behind the row,
 * which is 0. */
static void set_pixels(job *j, char *memory) {
  const users *u = &j->axes[2];
  const int64_t size = j->of->size[2];
  j->index = (ptrdiff_t *)(void *)memory;
  j->weight = memory + j->taps * size * (int64_t)sizeof *j->index;
  for (int64_t i = 0; i < size; i++)
    for (int64_t t = 0; t < j->taps; t++) {
      const int64_t at = u->begin[i] + t;
      const bool is = at < u->begin[i + 1];
      j->index[t * size + i] = is ? u->index[at] : j->of->out[2];
      cvc_set(j->of->dtype, j->weight, t * size + i, is ? u->weight[at] : 0);
    }
}

/** A row of dx from a blended row of dy. */
static void add_up_row(const job *j, const void *blended, const void **pixels,
                       void *dx) {
  const users *u = &j->axes[2];
  const int64_t size = j->of->size[2];
  if (j->channels == 1) {
    j->kernels->resample(size, (int)j->taps, j->index, j->weight, blended, dx);
  } else {
    for (int64_t i = 0; i < size; i++) {
      const int64_t first = u->begin[i], count = u->begin[i + 1] - first;
      for (int64_t t = 0; t < count; t++)
        pixels[t] =
            cvc_at_const(blended, u->index[first + t] * j->channels, j->bytes);
      j->kernels->blend(j->channels, (int)count, u->weight + first, pixels,
                        cvc_at(dx, i * j->channels, j->bytes));
    }
  }
}

static void rows_task(void *context, int64_t task, int thread) {
  const job *j = context;
  const cvc_interpolate *of = j->of;
  const users *depth = &j->axes[0], *height = &j->axes[1];
  const int64_t image = task / j->blocks, rows = of->size[0] * of->size[1];
  const int64_t first = task % j->blocks * j->rows;
  const int64_t row = of->size[2] * j->channels;
  const int64_t dy_row = of->out[2] * j->channels;
  char *blended = j->memory + thread * j->memory_bytes;
  const void **sources = (const void **)(void *)(blended + j->blended_bytes);
  double *weight = (double *)(void *)(sources + j->most);
  for (int64_t r = first; r < cvc_min(first + j->rows, rows); r++) {
    const int64_t d = r / of->size[1], h = r % of->size[1];
    int count = 0;
    for (int64_t s = depth->begin[d]; s < depth->begin[d + 1]; s++)
      for (int64_t t = height->begin[h]; t < height->begin[h + 1]; t++) {
        const int64_t from =
            (image * of->out[0] + depth->index[s]) * of->out[1] +
            height->index[t];
        sources[count] = cvc_at_const(j->dy, from * dy_row, j->bytes);
        weight[count++] = depth->weight[s] * height->weight[t];
      }
    j->kernels->blend(dy_row, count, weight, sources, blended);
    cvc_set(of->dtype, blended, dy_row, 0);
    add_up_row(j, blended, sources,
               cvc_at(j->dx, (image * rows + r) * row, j->bytes));
  }
}

static cvc_status run_all(job *j, int64_t images, const cvc_call *call) {
  const cvc_interpolate *of = j->of;
  const int64_t rows = of->size[0] * of->size[1];
  const int64_t dy_row = of->out[2] * j->channels;
  const int64_t pixels = cvc_volume(of->size) + cvc_volume(of->out);
  char *table = malloc((size_t)users_bytes(of)), *at = table;
  if (!table) return CVC_NO_MEMORY;
  for (int a = 0; a < 3; a++) j->axes[a] = users_of(of, a, &at);
  j->most = cvc_max(most_users(&j->axes[0], of->size[0]) *
                        most_users(&j->axes[1], of->size[1]),
                    most_users(&j->axes[2], of->size[2]));
  j->rows = cvc_min(rows, cvc_max(1, TASK_ELEMENTS / dy_row));
  j->blocks = cvc_ceil_div(rows, j->rows);
  const int64_t tasks = images * j->blocks;
  const double work =
      CVC_ELEMENT_WORK * (double)(images * j->channels) * (double)pixels;
  const int threads = cvc_plan_threads(call, tasks, work);
  j->taps = cvc_max(1, most_users(&j->axes[2], of->size[2]));
  if (j->taps == 3) j->taps = 4; /* which has a loop of its own */
  j->blended_bytes = cvc_round_up((dy_row + 1) * j->bytes, 64);
  j->memory_bytes = cvc_round_up(
      j->blended_bytes + j->most * (int64_t)(sizeof(void *) + sizeof(double)),
      64);
  const int64_t all = threads * j->memory_bytes;
  j->memory =
      aligned_alloc(64, (size_t)(all + cvc_round_up(pixels_bytes(j), 64)));
  cvc_status status = CVC_NO_MEMORY;
  if (j->memory) {
    if (j->channels == 1) set_pixels(j, j->memory + all);
    status = cvc_parallel(call, threads, tasks, rows_task, j);
  }
  free(j->memory);
  free(table);
  return status;
}

cvc_status cvc_interpolate_backward(const cvc_interpolate *of, const void *dy,
                                    void *dx, const cvc_call *call) {
  CVC_TRY(cvc_interpolate_check(of));
  const bool last = of->layout == CVC_CHANNELS_LAST;
  const int64_t bytes = cvc_dtype_bytes(of->dtype);
  const int64_t dx_size = of->n * of->c * cvc_volume(of->size);
  const int64_t dy_size = of->n * of->c * cvc_volume(of->out);
  if (!cvc_is_array(dy, of->dtype, dy_size) ||
      !cvc_is_array(dx, of->dtype, dx_size))
    return CVC_BAD_ARGUMENT;
  CVC_TRY(cvc_check_disjoint(dy, dy_size * bytes, dx, dx_size * bytes));
  if (dx_size == 0) return CVC_OK;
  job j = {.of = of,
           .kernels = cvc_kernels_of(of->dtype),
           .dy = dy,
           .dx = dx,
           .channels = last ? of->c : 1,
           .bytes = bytes};
  return run_all(&j, last ? of->n : of->n * of->c, call);
}
