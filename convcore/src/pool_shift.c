/**
 * The gradient of max pooling where there are as many windows as pixels, a
 * pixel apart: 3x3 with padding 1 and the like, for images of few channels.
 *
 * The source of tap t of element i is element i - distance(t), in the same
 * image or not: no index names a tap outside of its image. So all of dx is one
 * pixel of many channels to the kernel, whatever its rows.
 */
#include <stdatomic.h>
#include <string.h>

#include "pool.h"

enum { TASK_ELEMENTS = 1 << 13 };

static bool serves(const pool_pass *pass, int64_t channels) {
  (void)channels;
  const cvc_pool *pool = &pass->pool;
  bool same = pass->backward && pool->index_dtype == CVC_U8;
  for (int i = 0; i < 3; i++)
    same &= pool->out[i] == pool->size[i] &&
            (pool->stride[i] == 1 || pool->out[i] == 1);
  return same;
}

/** Elements from the source of tap t to its target. */
static int64_t distance(const cvc_pool *pool, int64_t channels, int64_t t) {
  int64_t elements = 0, place[3];
  cvc_pool_place(pool, t, place);
  for (int i = 0; i < 3; i++)
    elements = elements * pool->size[i] + place[i] - pool->pad_before[i];
  return elements * channels;
}

static void set(const pool_pass *pass, int64_t channels, pool_few *few) {
  pool_shift *p = &few->shift;
  const cvc_pool *pool = &pass->pool;
  p->channels = channels;
  p->after = -distance(pool, channels, 0);
  p->before = distance(pool, channels, cvc_volume(pool->kernel) - 1);
  p->size = pool->n * pool->c * cvc_volume(pool->size);
  few->tasks = cvc_ceil_div(p->size, TASK_ELEMENTS);
}

static int64_t tables_bytes(const pool_pass *pass, const pool_few *few) {
  (void)few;
  return cvc_round_up(cvc_volume(pass->pool.kernel) *
                          (int64_t)(sizeof(ptrdiff_t) + sizeof(int32_t)),
                      64);
}

/** In the order of their sources: from the last tap to the first. */
static void set_tables(pool_pass *pass, pool_few *few, char *memory) {
  pool_shift *p = &few->shift;
  const int64_t taps = cvc_volume(pass->pool.kernel);
  p->offset = (ptrdiff_t *)(void *)memory;
  p->tap = (int32_t *)(p->offset + taps);
  p->taps = taps;
  for (int64_t i = 0; i < taps; i++) {
    const int64_t t = taps - 1 - i;
    p->offset[i] = -distance(&pass->pool, p->channels, t);
    p->tap[i] = (int32_t)t;
  }
}

/** Elements of dy of a task, and as many indices behind them. */
static int64_t sources(const pool_shift *p) {
  return p->before + TASK_ELEMENTS + p->after;
}

static int64_t bytes_of(const pool_pass *pass, const pool_few *few) {
  return cvc_round_up(sources(&few->shift) * (pass->bytes + 1), 64);
}

/** Whether dx goes past the caches: its tasks are of whole lines. */
static bool streams(const pool_pass *pass) {
  return cvc_pool_exceeds_caches(pass) && (uintptr_t)pass->to % 64 == 0;
}

/** At the ends of the arrays sources that are none are zeros, in a copy. */
static void run_task(const pool_pass *pass, const pool_few *few, int64_t task,
                     char *memory) {
  const pool_shift *p = &few->shift;
  const int64_t first = task * TASK_ELEMENTS, bytes = pass->bytes;
  const int64_t size = cvc_min(TASK_ELEMENTS, p->size - first);
  const char *dy = cvc_at_const(pass->from, first, bytes);
  const uint8_t *index = (const uint8_t *)pass->index + first;
  const int64_t before = cvc_min(p->before, first);
  const int64_t after = cvc_min(p->after, p->size - first - size);
  if (before < p->before || after < p->after) {
    uint8_t *copied = (uint8_t *)memory + sources(p) * bytes;
    const int64_t at = p->before - before, count = before + size + after;
    memset(memory, 0, (size_t)(sources(p) * (bytes + 1)));
    memcpy(memory + at * bytes, dy - before * bytes, (size_t)(count * bytes));
    memcpy(copied + at, index - before, (size_t)count);
    dy = memory + p->before * bytes;
    index = copied + p->before;
  }
  const ptrdiff_t end = p->taps;
  const cvc_window window = {.rows = 1,
                             .row_phases = 1,
                             .pixels = 1,
                             .phases = 1,
                             .channels = size,
                             .x_step = size,
                             .y_row = size,
                             .offset = p->offset,
                             .tap = p->tap,
                             .end = &end,
                             .stream = streams(pass)};
  pass->kernels->max_pool_backward(&window, index, dy,
                                   cvc_at(pass->to, first, bytes));
  if (window.stream) atomic_thread_fence(memory_order_seq_cst);
}

const pool_few_way cvc_pool_shift = {.serves = serves,
                                     .set = set,
                                     .tables_bytes = tables_bytes,
                                     .set_tables = set_tables,
                                     .bytes = bytes_of,
                                     .task = run_task};
