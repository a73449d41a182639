/**
 * Adaptive average pooling: window o of an axis reaches from o*size/out rounded
 * down to (o + 1)*size/out rounded up, so windows differ in length and overlap.
 *
 * One table of taps and weights serves all images. Forward the targets are the
 * outputs; backward the elements of dx, whose taps are the windows above them.
 * Planes of channels-first arrays become the channels of one image.
 */
#include "internal.h"

enum { BLOCK_PLANES = 16, MAX_THREADS = 1024 };

/** The targets of a pass along one axis, and their sources. */
typedef struct axis {
  int64_t size, out, targets, sources;
  bool backward;
} axis;

typedef struct job {
  const cvc_adaptive_pool *pool;
  const cvc_kernels *kernels;
  axis axes[3];
  cvc_window window; /* of an image */
  double *weight;
  int64_t bytes, channels, tasks;
  const void *from;
  void *to;
  char *workspaces; /* of threads: two images of planes */
  int64_t workspace_bytes;
} job;

static int64_t begin_of(const axis *a, int64_t window) {
  return window * a->size / a->out;
}
static int64_t end_of(const axis *a, int64_t window) {
  return cvc_ceil_div((window + 1) * a->size, a->out);
}

/** First source of a target, and the one after its last. */
static void sources_of(const axis *a, int64_t target, int64_t *first,
                       int64_t *last) {
  if (!a->backward) {
    *first = begin_of(a, target);
    *last = end_of(a, target);
    return;
  }
  /* The windows from the first that ends after it to the last that begins
   * before. */
  *first = target * a->out / a->size;
  *last = cvc_ceil_div((target + 1) * a->out, a->size);
}

static int64_t taps_of(const axis *a) {
  int64_t taps = 0, first, last;
  for (int64_t target = 0; target < a->targets; target++) {
    sources_of(a, target, &first, &last);
    taps += last - first;
  }
  return taps;
}

static double weight_of(const axis *a, int64_t target, int64_t source) {
  const int64_t window = a->backward ? source : target;
  return 1 / (double)(end_of(a, window) - begin_of(a, window));
}

/** Append the taps of a target; `at` of them are there. */
static int64_t add_taps(job *j, const int64_t target[3], int64_t at) {
  const axis *axes = j->axes;
  ptrdiff_t *offset = (ptrdiff_t *)j->window.offset;
  int64_t first[3], last[3], s[3];
  for (int i = 0; i < 3; i++)
    sources_of(&axes[i], target[i], &first[i], &last[i]);
  for (s[0] = first[0]; s[0] < last[0]; s[0]++)
    for (s[1] = first[1]; s[1] < last[1]; s[1]++)
      for (s[2] = first[2]; s[2] < last[2]; s[2]++, at++) {
        offset[at] =
            ((s[0] * axes[1].sources + s[1]) * axes[2].sources + s[2]) *
            j->channels;
        j->weight[at] = 1;
        for (int i = 0; i < 3; i++)
          j->weight[at] *= weight_of(&axes[i], target[i], s[i]);
      }
  return at;
}

static void fill_table(job *j) {
  ptrdiff_t *end = (ptrdiff_t *)j->window.end;
  int64_t target[3], at = 0, i = 0;
  for (target[0] = 0; target[0] < j->axes[0].targets; target[0]++)
    for (target[1] = 0; target[1] < j->axes[1].targets; target[1]++)
      for (target[2] = 0; target[2] < j->axes[2].targets; target[2]++)
        end[i++] = at = add_taps(j, target, at);
}

/* ------------------------------------------------------------------- tasks */

static int64_t pixels_from(const job *j) {
  return j->axes[0].sources * j->axes[1].sources * j->axes[2].sources;
}
static int64_t pixels_to(const job *j) {
  return j->axes[0].targets * j->axes[1].targets * j->axes[2].targets;
}

static void run_task(void *context, int64_t task, int thread) {
  const job *j = context;
  const cvc_adaptive_pool *pool = j->pool;
  const int64_t from = pixels_from(j), to = pixels_to(j);
  const int64_t first = task * j->channels;
  const void *source = cvc_at_const(j->from, first * from, j->bytes);
  void *target = cvc_at(j->to, first * to, j->bytes);
  if (pool->layout == CVC_CHANNELS_LAST) {
    j->kernels->average_pool_backward(&j->window, j->weight, source, target);
    return;
  }
  char *memory = j->workspaces + thread * j->workspace_bytes;
  char *result = memory + cvc_round_up(from * j->channels * j->bytes, 64);
  cvc_transpose_matrix(j->bytes, j->channels, from, source, memory);
  j->kernels->average_pool_backward(&j->window, j->weight, memory, result);
  cvc_transpose_matrix(j->bytes, to, j->channels, result, target);
}

/** Planes of a task: a power of two that divides their number. */
static int64_t block_of(int64_t planes) {
  int64_t block = 1;
  while (block < BLOCK_PLANES && planes % (2 * block) == 0) block *= 2;
  return block;
}

static job job_of(const cvc_adaptive_pool *pool, bool backward) {
  const bool last = pool->layout == CVC_CHANNELS_LAST;
  const int64_t planes = pool->n * pool->c;
  job j = {.pool = pool,
           .kernels = cvc_kernels_of(pool->dtype),
           .bytes = cvc_dtype_bytes(pool->dtype),
           .channels = last ? pool->c : block_of(planes)};
  for (int i = 0; i < 3; i++)
    j.axes[i] = (axis){.size = pool->size[i],
                       .out = pool->out[i],
                       .targets = backward ? pool->size[i] : pool->out[i],
                       .sources = backward ? pool->out[i] : pool->size[i],
                       .backward = backward};
  j.tasks = planes / j.channels;
  j.window = (cvc_window){.rows = 1,
                          .row_phases = j.axes[0].targets * j.axes[1].targets,
                          .pixels = 1,
                          .phases = j.axes[2].targets,
                          .channels = j.channels,
                          .y_row = j.axes[2].targets * j.channels};
  if (!last)
    j.workspace_bytes =
        cvc_round_up(pixels_from(&j) * j.channels * j.bytes, 64) +
        cvc_round_up(pixels_to(&j) * j.channels * j.bytes, 64);
  return j;
}

static int64_t taps_of_image(const job *j) {
  return taps_of(&j->axes[0]) * taps_of(&j->axes[1]) * taps_of(&j->axes[2]);
}

/** The table: a weight and an offset per tap, an end per target. */
static int64_t table_bytes(const job *j) {
  const int64_t tap = sizeof(double) + sizeof(ptrdiff_t);
  return cvc_round_up(
      taps_of_image(j) * tap + pixels_to(j) * (int64_t)sizeof(ptrdiff_t), 64);
}

static double work_of(const job *j) {
  const double pixels = (double)(pixels_from(j) + pixels_to(j));
  return CVC_ELEMENT_WORK / 2 * pixels * (double)j->pool->n *
         (double)j->pool->c;
}

static int64_t scratch_bytes_of(const job *j, const cvc_call *call) {
  return table_bytes(j) +
         cvc_most_threads(call, j->tasks, work_of(j)) * j->workspace_bytes;
}

/* ------------------------------------------------------------------ checks */

cvc_status cvc_adaptive_pool_check(const cvc_adaptive_pool *pool) {
  if (!pool) return CVC_BAD_ARGUMENT;
  CVC_TRY(cvc_initialize());
  if (!cvc_is_real(pool->dtype)) return CVC_UNSUPPORTED;
  if (pool->layout != CVC_CHANNELS_FIRST && pool->layout != CVC_CHANNELS_LAST)
    return CVC_BAD_ARGUMENT;
  if (pool->n < 0) return CVC_BAD_ARGUMENT;
  if (pool->c < 1) return CVC_BAD_SHAPE;
  /* The table has up to size + out taps per axis, 16 bytes each. */
  int64_t elements = 16 * MAX_THREADS;
  CVC_TRY(cvc_multiply(&elements, cvc_max(pool->n, 1)));
  CVC_TRY(cvc_multiply(&elements, pool->c));
  for (int i = 0; i < 3; i++) {
    int64_t both = pool->size[i];
    if (pool->size[i] < 1 || pool->out[i] < 1) return CVC_BAD_SHAPE;
    CVC_TRY(cvc_multiply(&both, pool->out[i])); /* o*size */
    CVC_TRY(cvc_multiply(&elements, cvc_max(pool->size[i], pool->out[i])));
    CVC_TRY(cvc_multiply(&elements, 2));
  }
  return CVC_OK;
}

static cvc_status run(const cvc_adaptive_pool *pool, bool backward,
                      const void *from, void *to, const cvc_call *call) {
  CVC_TRY(cvc_adaptive_pool_check(pool));
  if (!pool->n) return CVC_OK;
  if (!from || !to || !cvc_is_aligned(from, pool->dtype) ||
      !cvc_is_aligned(to, pool->dtype))
    return CVC_BAD_ARGUMENT;
  job j = job_of(pool, backward);
  j.from = from;
  j.to = to;
  const int64_t image = j.bytes * pool->n * pool->c;
  CVC_TRY(cvc_check_disjoint(from, pixels_from(&j) * image, to,
                             pixels_to(&j) * image));
  cvc_scratch scratch;
  CVC_TRY(cvc_scratch_begin(&scratch, call, scratch_bytes_of(&j, call)));
  j.weight = scratch.memory;
  j.window.offset = (ptrdiff_t *)(j.weight + taps_of_image(&j));
  j.window.end = j.window.offset + taps_of_image(&j);
  j.workspaces = (char *)scratch.memory + table_bytes(&j);
  fill_table(&j);
  const int threads = cvc_plan_threads(call, j.tasks, work_of(&j));
  const cvc_status status = cvc_parallel(call, threads, j.tasks, run_task, &j);
  cvc_scratch_end(&scratch);
  return status;
}

/* ------------------------------------------------------------ entry points */

cvc_status cvc_adaptive_pool_scratch(const cvc_adaptive_pool *pool, int threads,
                                     int64_t *scratch_bytes) {
  CVC_TRY(cvc_adaptive_pool_check(pool));
  if (!scratch_bytes || threads < 0) return CVC_BAD_ARGUMENT;
  const cvc_call call = {.threads = threads};
  *scratch_bytes = 0;
  for (int backward = 0; pool->n && backward < 2; backward++) {
    const job j = job_of(pool, backward);
    *scratch_bytes = cvc_max(*scratch_bytes, scratch_bytes_of(&j, &call));
  }
  return CVC_OK;
}

cvc_status cvc_adaptive_pool_forward(const cvc_adaptive_pool *pool,
                                     const void *x, void *y,
                                     const cvc_call *call) {
  return run(pool, false, x, y, call);
}

cvc_status cvc_adaptive_pool_backward(const cvc_adaptive_pool *pool,
                                      const void *dy, void *dx,
                                      const cvc_call *call) {
  return run(pool, true, dy, dx, call);
}
