/**
 * Pooling: checks, division into tasks, entry points.
 *
 * All kernels work on channels-last images, and a task writes a block of rows,
 * every element once: backward too, each element of dx gathers what the windows
 * above it give. Only indices that are positions are scattered. Planes of
 * channels-first arrays are independent of each other, so a task takes a few,
 * whatever their image, and makes them the channels of one image.
 */
#include <stdatomic.h>
#include <string.h>

#include "pool.h"

enum {
  STREAM_BYTES = 20 << 20, /* that the caches do not keep */
  BYTE_TAPS = 256,         /* that a byte can number */
  CHECK_BLOCK = 64,        /* positions: a loop that becomes vectors */
  TASK_ELEMENTS = 1 << 15, /* written by one task, about */
  BLOCK_CHANNELS = 64,     /* of an image, scattered by one task */
  BLOCK_PLANES = 16,       /* of channels-first arrays in one task */
  MAX_THREADS = 1024
};

/* ----------------------------------------------------------------- checks */

/** Whether every window of an axis holds an element. A window that begins in
 * the padding may miss the input with all its taps only when it ends before
 * it, or when the input is shorter than the dilation. */
static bool no_window_is_empty(const cvc_pool *pool, int i) {
  if (!cvc_pool_valid_taps(pool, i, pool->out[i] - 1)) return false;
  const int64_t in_padding =
      cvc_min(cvc_ceil_div(pool->pad_before[i], pool->stride[i]), pool->out[i]);
  const int64_t suspects =
      pool->size[i] < pool->dilation[i] ? in_padding : cvc_min(in_padding, 1);
  for (int64_t output = 0; output < suspects; output++)
    if (!cvc_pool_valid_taps(pool, i, output)) return false;
  return true;
}

static cvc_status check_axis(const cvc_pool *pool, int i) {
  const int64_t limit = INT64_MAX / 8; /* index arithmetic adds a few terms */
  if (pool->size[i] < 1 || pool->out[i] < 1 || pool->kernel[i] < 1 ||
      pool->stride[i] < 1 || pool->dilation[i] < 1 || pool->pad_before[i] < 0 ||
      pool->pad_after[i] < 0)
    return CVC_BAD_SHAPE;
  int64_t padded, extent, last;
  if (__builtin_add_overflow(pool->size[i], pool->pad_before[i], &padded) ||
      __builtin_add_overflow(padded, pool->pad_after[i], &padded) ||
      __builtin_mul_overflow(pool->dilation[i], pool->kernel[i], &extent) ||
      __builtin_mul_overflow(pool->stride[i], pool->out[i] - 1, &last) ||
      padded > limit || extent > limit || pool->stride[i] > limit)
    return CVC_TOO_LARGE;
  if (last >= padded) return CVC_BAD_SHAPE;
  if (pool->kind == CVC_POOL_MAX && !no_window_is_empty(pool, i))
    return CVC_BAD_SHAPE;
  return CVC_OK;
}

cvc_status cvc_pool_check(const cvc_pool *pool) {
  if (!pool) return CVC_BAD_ARGUMENT;
  CVC_TRY(cvc_initialize());
  if (!cvc_is_real(pool->dtype)) return CVC_UNSUPPORTED;
  if (pool->layout != CVC_CHANNELS_FIRST && pool->layout != CVC_CHANNELS_LAST)
    return CVC_BAD_ARGUMENT;
  if (pool->kind != CVC_POOL_MAX && pool->kind != CVC_POOL_AVERAGE)
    return CVC_BAD_ARGUMENT;
  if (pool->kind == CVC_POOL_MAX && pool->index_dtype != CVC_U8 &&
      pool->index_dtype != CVC_I64)
    return CVC_BAD_ARGUMENT;
  if (pool->n < 0) return CVC_BAD_ARGUMENT;
  if (pool->c < 1) return CVC_BAD_SHAPE;
  for (int i = 0; i < 3; i++) CVC_TRY(check_axis(pool, i));
  /* Working memory is per thread and at most a few times the larger array. */
  const int64_t images[] = {8 * MAX_THREADS, cvc_max(pool->n, 1), pool->c};
  int64_t elements, taps = 1;
  CVC_TRY(cvc_elements(CVC_F64, 3, images, &elements));
  for (int i = 0; i < 3; i++) {
    CVC_TRY(cvc_multiply(&elements, cvc_max(pool->size[i], pool->out[i])));
    CVC_TRY(cvc_multiply(&taps, pool->kernel[i]));
  }
  CVC_TRY(cvc_multiply(&elements, sizeof(double)));
  if (taps > INT32_MAX) return CVC_TOO_LARGE;
  if (pool->kind == CVC_POOL_MAX && pool->index_dtype == CVC_U8 &&
      taps > BYTE_TAPS)
    return CVC_UNSUPPORTED;
  return CVC_OK;
}

/* --------------------------------------------------------------- segments */

/** The positions of the maxima of a segment, a block of a row at a time. */
static void max_positions(const pool_pass *pass, const pool_space *space,
                          const pool_segment *s, int64_t row, int64_t pixel) {
  cvc_window window = s->window;
  window.rows = 1;
  window.pixels = cvc_min(window.pixels - pixel, POOL_BLOCK_PIXELS);
  const int64_t x = row * window.x_row + pixel * window.x_step;
  const int64_t y = s->y + row * window.y_row + pixel * pass->c;
  pass->kernels->max_pool(&window,
                          cvc_at_const(pass->from, s->x + x, pass->bytes),
                          cvc_at(pass->to, y, pass->bytes), space->row, 4);
  int64_t *index = (int64_t *)pass->index + y;
  int64_t position = s->position + x / pass->c;
  const int64_t step = window.x_step / pass->c;
  for (int64_t p = 0; p < window.pixels; p++, position += step)
    for (int64_t i = p * pass->c; i < (p + 1) * pass->c; i++)
      index[i] = position + space->position[space->row[i]];
}

static void max_forward(const pool_pass *pass, const pool_space *space,
                        const pool_segment *s) {
  if (pass->index && pass->pool.index_dtype == CVC_I64) {
    for (int64_t t = 0; t < s->window.end[0]; t++) space->tap[t] = (int32_t)t;
    for (int64_t row = 0; row < s->window.rows; row++)
      for (int64_t p = 0; p < s->window.pixels; p += POOL_BLOCK_PIXELS)
        max_positions(pass, space, s, row, p);
    return;
  }
  pass->kernels->max_pool(
      &s->window, cvc_at_const(pass->from, s->x, pass->bytes),
      cvc_at(pass->to, s->y, pass->bytes),
      pass->index ? (uint8_t *)pass->index + s->y : NULL, pass->index ? 1 : 0);
}

static void average_forward(const pool_pass *pass, const pool_space *space,
                            const pool_segment *s) {
  (void)space;
  pass->kernels->average_pool(&s->window, s->divisor,
                              cvc_at_const(pass->from, s->x, pass->bytes),
                              cvc_at(pass->to, s->y, pass->bytes));
}

static void max_backward(const pool_pass *pass, const pool_space *space,
                         const pool_segment *s) {
  (void)space;
  pass->kernels->max_pool_backward(&s->window,
                                   (const uint8_t *)pass->index + s->x,
                                   cvc_at_const(pass->from, s->x, pass->bytes),
                                   cvc_at(pass->to, s->y, pass->bytes));
}

static void average_backward(const pool_pass *pass, const pool_space *space,
                             const pool_segment *s) {
  pass->kernels->average_pool_backward(
      &s->window, space->weight, cvc_at_const(pass->from, s->x, pass->bytes),
      cvc_at(pass->to, s->y, pass->bytes));
}

/** NULL: positions are scattered. */
static pool_function function_of(const cvc_pool *pool, bool backward) {
  if (pool->kind == CVC_POOL_AVERAGE)
    return backward ? average_backward : average_forward;
  if (!backward) return max_forward;
  return pool->index_dtype == CVC_U8 ? max_backward : NULL;
}

/* ------------------------------------------------------------------ tasks */

/** A pass and its division into tasks. */
typedef struct job {
  pool_pass pass;
  const pool_few_way *way; /* of few channels, or NULL */
  pool_few few;
  bool planes;            /* channels first, */
  bool spread;            /* and dx is dy, spread over each plane */
  int64_t tasks, block;   /* block: rows, images or planes of a task */
  int64_t space_bytes;    /* of a thread's tables */
  int64_t image_bytes[3]; /* of a thread's image of from, to, index */
  char *workspaces;
} job;

/** Add dy where the positions of an image say, `channels` channels from c. */
static void scatter(const pool_pass *pass, int64_t image, int64_t c,
                    int64_t channels) {
  const int64_t pixels = cvc_volume(pass->pool.size);
  const int64_t outs = cvc_volume(pass->pool.out);
  const int64_t to = image * pixels * pass->c + c;
  const int64_t from = image * outs * pass->c + c;
  const bool dense = channels == pass->c;
  for (int64_t i = 0; i < (dense ? 1 : pixels); i++)
    memset(cvc_at(pass->to, to + i * pass->c, pass->bytes), 0,
           (size_t)(channels * (dense ? pixels : 1) * pass->bytes));
  pass->kernels->max_pool_scatter(outs, channels, pass->c,
                                  (const int64_t *)pass->index + from,
                                  cvc_at_const(pass->from, from, pass->bytes),
                                  cvc_at(pass->to, to, pass->bytes));
}

static void scatter_task(const job *j, int64_t task) {
  const int64_t blocks = cvc_ceil_div(j->pass.c, BLOCK_CHANNELS);
  const int64_t c = task % blocks * BLOCK_CHANNELS;
  const int64_t first = task / blocks * j->block;
  const int64_t last = cvc_min(first + j->block, j->pass.n);
  for (int64_t image = first; image < last; image++)
    scatter(&j->pass, image, c, cvc_min(BLOCK_CHANNELS, j->pass.c - c));
}

/** Planes as the channels of one image, which lies in `memory`. */
static void planes_task(const job *j, int64_t task, const pool_space *space,
                        char *memory) {
  const cvc_pool *pool = &j->pass.pool;
  const int64_t first = task * j->block;
  const int64_t planes = cvc_min(j->block, pool->n * pool->c - first);
  const int64_t pixels = cvc_volume(pool->size), outs = cvc_volume(pool->out);
  const bool backward = j->pass.backward;
  const int64_t from = backward ? outs : pixels, to = backward ? pixels : outs;
  const int64_t bytes = j->pass.bytes;
  const int64_t index_bytes = cvc_dtype_bytes(pool->index_dtype);
  pool_pass pass = j->pass;
  pass.n = 1;
  pass.c = planes;
  pass.from = memory;
  pass.to = memory + j->image_bytes[0];
  void *index = NULL;
  if (pass.index) {
    index = cvc_at(pass.index, first * outs, index_bytes);
    pass.index = (char *)pass.to + j->image_bytes[1];
  }
  cvc_transpose_matrix(bytes, planes, from,
                       cvc_at_const(j->pass.from, first * from, bytes), memory);
  if (backward && index)
    cvc_transpose_matrix(index_bytes, planes, outs, index, pass.index);
  if (pass.function)
    cvc_pool_visit(&pass, space, 0, cvc_pool_rows(&pass));
  else
    scatter(&pass, 0, 0, planes);
  cvc_transpose_matrix(bytes, to, planes, pass.to,
                       cvc_at(j->pass.to, first * to, bytes));
  if (!backward && index)
    cvc_transpose_matrix(index_bytes, outs, planes, pass.index, index);
}

/** Planes of dx under a single window: each is one share, all over. */
static void spread_task(const job *j, int64_t task) {
  const cvc_pool *pool = &j->pass.pool;
  const int64_t first = task * j->block, pixels = cvc_volume(pool->size);
  const int64_t planes = cvc_min(j->block, pool->n * pool->c - first);
  const double divisor = cvc_pool_divisor(&j->pass, (int64_t[3]){0});
  j->pass.kernels->spread(planes, pixels, 1 / divisor,
                          cvc_at_const(j->pass.from, first, j->pass.bytes),
                          cvc_at(j->pass.to, first * pixels, j->pass.bytes));
}

/** Whether each plane has a single window, with all its elements. */
static bool is_global(const cvc_pool *pool) {
  bool global = cvc_volume(pool->out) == 1;
  for (int i = 0; i < 3; i++)
    global &= cvc_pool_valid_taps(pool, i, 0) == pool->size[i];
  return global;
}

static int64_t workspace_bytes(const job *j) {
  if (j->way) return j->way->bytes(&j->pass, &j->few);
  return j->space_bytes + j->image_bytes[0] + j->image_bytes[1] +
         j->image_bytes[2];
}

static void run_task(void *context, int64_t task, int thread) {
  const job *j = context;
  char *memory = j->workspaces + thread * workspace_bytes(j);
  if (j->way) {
    j->way->task(&j->pass, &j->few, task, memory);
    return;
  }
  pool_space space;
  cvc_pool_carve(&j->pass, memory, &space);
  if (j->spread)
    spread_task(j, task);
  else if (j->planes)
    planes_task(j, task, &space, memory + j->space_bytes);
  else if (j->pass.function)
    cvc_pool_visit(
        &j->pass, &space, task * j->block,
        cvc_min((task + 1) * j->block, j->pass.n * cvc_pool_rows(&j->pass)));
  else
    scatter_task(j, task);
  if (j->pass.stream) atomic_thread_fence(memory_order_seq_cst);
}

/** How to do a pass on images of so many channels; NULL: they are many. */
static const pool_few_way *way_of(const pool_pass *pass, int64_t channels) {
  static const pool_few_way *const ways[] = {&cvc_pool_phases, &cvc_pool_shift,
                                             &cvc_pool_picks};
  if (pass->pool.kind != CVC_POOL_MAX ||
      cvc_volume(pass->pool.kernel) > BYTE_TAPS - 1 ||
      (channels > 1 && channels >= pass->kernels->vector_length))
    return NULL;
  for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
    if (ways[i]->serves(pass, channels)) return ways[i];
  return NULL;
}

static job job_of(const cvc_pool *pool, bool backward) {
  const int64_t pixels = cvc_volume(pool->size), outs = cvc_volume(pool->out);
  job j = {.pass = {.pool = *pool,
                    .kernels = cvc_kernels_of(pool->dtype),
                    .function = function_of(pool, backward),
                    .backward = backward,
                    .n = pool->n,
                    .c = pool->c,
                    .bytes = cvc_dtype_bytes(pool->dtype)},
           .planes = pool->layout == CVC_CHANNELS_FIRST};
  const int64_t few = j.planes ? 1 : pool->c;
  /* The stride of a single window means nothing; a long one makes all of dx
   * a single period. */
  for (int i = 0; i < 3; i++)
    if (pool->out[i] == 1)
      j.pass.pool.stride[i] = cvc_max(pool->stride[i], pool->size[i]);
  j.way = way_of(&j.pass, few);
  if (j.way) {
    j.way->set(&j.pass, few, &j.few);
    j.tasks = j.few.tasks;
    return j;
  }
  j.spread =
      j.planes && backward && pool->kind == CVC_POOL_AVERAGE && is_global(pool);
  if (j.spread) {
    j.block = cvc_ceil_div(TASK_ELEMENTS, pixels);
    j.tasks = cvc_ceil_div(pool->n * pool->c, j.block);
  } else if (j.planes) {
    j.block = cvc_min(BLOCK_PLANES, pool->n * pool->c);
    j.tasks = cvc_ceil_div(pool->n * pool->c, BLOCK_PLANES);
    j.pass.c = j.block;
    const int64_t bytes = j.block * j.pass.bytes;
    j.image_bytes[backward] = cvc_round_up(pixels * bytes, 64);
    j.image_bytes[!backward] = cvc_round_up(outs * bytes, 64);
    if (pool->kind == CVC_POOL_MAX)
      j.image_bytes[2] =
          cvc_round_up(outs * j.block * cvc_dtype_bytes(pool->index_dtype), 64);
  } else if (j.pass.function) {
    const int64_t rows = cvc_max(pool->n, 1) * cvc_pool_rows(&j.pass);
    const int64_t elements = pool->n * pool->c * (backward ? pixels : outs);
    j.block = cvc_ceil_div(TASK_ELEMENTS, cvc_max(elements / rows, 1));
    j.tasks = cvc_ceil_div(rows, j.block);
  } else {
    j.block = cvc_ceil_div(TASK_ELEMENTS, pixels * pool->c);
    j.tasks =
        cvc_ceil_div(pool->n, j.block) * cvc_ceil_div(pool->c, BLOCK_CHANNELS);
  }
  j.space_bytes = cvc_pool_carve(&j.pass, NULL, NULL);
  return j;
}

static double work_of(const job *j) {
  const cvc_pool *pool = &j->pass.pool;
  const double taps = (double)cvc_volume(pool->kernel);
  const double plane =
      (double)cvc_volume(pool->size) + taps * (double)cvc_volume(pool->out);
  return CVC_ELEMENT_WORK / 4 * plane * (double)pool->n * (double)pool->c;
}

static int64_t tables_bytes(const job *j) {
  return j->way ? j->way->tables_bytes(&j->pass, &j->few)
                : cvc_pool_axes_bytes(&j->pass);
}

static int64_t scratch_bytes_of(const job *j, const cvc_call *call) {
  const int threads = cvc_most_threads(call, j->tasks, work_of(j));
  return tables_bytes(j) + threads * workspace_bytes(j);
}

bool cvc_pool_exceeds_caches(const pool_pass *pass) {
  const cvc_pool *pool = &pass->pool;
  const int64_t plane = cvc_volume(pool->size) + cvc_volume(pool->out);
  return pool->n * pool->c * plane * pass->bytes >= STREAM_BYTES;
}

/** Whether that is so for channels-last images, whose pixels are lines. */
static bool streams(const pool_pass *pass) {
  return pass->pool.layout == CVC_CHANNELS_LAST && pass->function &&
         (uintptr_t)pass->to % 64 == 0 && pass->c * pass->bytes % 64 == 0 &&
         cvc_pool_exceeds_caches(pass);
}

static cvc_status run(job *j, const cvc_call *call) {
  j->pass.stream = streams(&j->pass);
  cvc_scratch scratch;
  CVC_TRY(cvc_scratch_begin(&scratch, call, scratch_bytes_of(j, call)));
  j->workspaces = (char *)scratch.memory + tables_bytes(j);
  const int threads = cvc_plan_threads(call, j->tasks, work_of(j));
  if (!j->way)
    cvc_pool_set_axes(&j->pass, scratch.memory);
  else
    j->way->set_tables(&j->pass, &j->few, scratch.memory);
  if (j->way && j->way->clear)
    for (int i = 0; i < threads; i++)
      j->way->clear(&j->pass, &j->few, j->workspaces + i * workspace_bytes(j));
  cvc_status status = cvc_parallel(call, threads, j->tasks, run_task, j);
  cvc_scratch_end(&scratch);
  return status;
}

/* ----------------------------------------------------------- entry points */

cvc_status cvc_pool_scratch(const cvc_pool *pool, int threads,
                            int64_t *scratch_bytes) {
  CVC_TRY(cvc_pool_check(pool));
  if (!scratch_bytes || threads < 0) return CVC_BAD_ARGUMENT;
  *scratch_bytes = 0;
  for (int backward = 0; backward < 2; backward++) {
    const job j = job_of(pool, backward);
    *scratch_bytes = cvc_max(
        *scratch_bytes, scratch_bytes_of(&j, &(cvc_call){.threads = threads}));
  }
  return CVC_OK;
}

/** Null, alignment and overlap of what a pass reads and writes. */
static cvc_status check_arrays(const cvc_pool *pool, const void *x,
                               const void *y, const void *index,
                               bool backward) {
  if (!pool->n) return CVC_OK;
  if (!x || !y) return CVC_BAD_ARGUMENT;
  const int64_t bytes = cvc_dtype_bytes(pool->dtype);
  const int64_t index_bytes = index ? cvc_dtype_bytes(pool->index_dtype) : 0;
  if (!cvc_is_aligned(x, pool->dtype) || !cvc_is_aligned(y, pool->dtype) ||
      (index && !cvc_is_aligned(index, pool->index_dtype)))
    return CVC_BAD_ARGUMENT;
  const int64_t images = pool->n * pool->c;
  const int64_t outputs = images * cvc_volume(pool->out);
  const int64_t x_bytes = images * cvc_volume(pool->size) * bytes;
  CVC_TRY(cvc_check_disjoint(x, x_bytes, y, outputs * bytes));
  CVC_TRY(cvc_check_disjoint(x, x_bytes, index, outputs * index_bytes));
  if (backward) return CVC_OK;
  return cvc_check_disjoint(y, outputs * bytes, index, outputs * index_bytes);
}

static cvc_status check_positions(const cvc_pool *pool,
                                  const int64_t *positions) {
  const uint64_t last = (uint64_t)cvc_volume(pool->size) - 1;
  const int64_t count = pool->n * pool->c * cvc_volume(pool->out);
  int64_t i = 0;
  uint64_t outside = 0; /* in its sign bit */
  for (; i + CHECK_BLOCK <= count; i += CHECK_BLOCK)
    for (int j = 0; j < CHECK_BLOCK; j++)
      outside |=
          (uint64_t)positions[i + j] | (last - (uint64_t)positions[i + j]);
  for (; i < count; i++)
    outside |= (uint64_t)positions[i] | (last - (uint64_t)positions[i]);
  return outside >> 63 ? CVC_BAD_ARGUMENT : CVC_OK;
}

cvc_status cvc_pool_forward(const cvc_pool *pool, const void *x, void *y,
                            void *indices, const cvc_call *call) {
  CVC_TRY(cvc_pool_check(pool));
  if (pool->kind == CVC_POOL_AVERAGE) indices = NULL;
  CVC_TRY(check_arrays(pool, x, y, indices, false));
  if (!pool->n) return CVC_OK;
  job j = job_of(pool, false);
  j.pass.from = x;
  j.pass.to = y;
  j.pass.index = indices;
  return run(&j, call);
}

cvc_status cvc_pool_backward(const cvc_pool *pool, const void *dy,
                             const void *indices, void *dx,
                             const cvc_call *call) {
  CVC_TRY(cvc_pool_check(pool));
  if (pool->kind == CVC_POOL_AVERAGE) indices = NULL;
  CVC_TRY(check_arrays(pool, dx, dy, indices, true));
  if (!pool->n) return CVC_OK;
  if (pool->kind == CVC_POOL_MAX) {
    if (!indices) return CVC_BAD_ARGUMENT;
    if (pool->index_dtype == CVC_I64) CVC_TRY(check_positions(pool, indices));
  }
  job j = job_of(pool, true);
  j.pass.from = dy;
  j.pass.to = dx;
  j.pass.index = (void *)indices;
  return run(&j, call);
}
