/** Pooling: which taps of which windows belong to a target, and targets with
 * the same taps. */
#include <string.h>

#include "pool.h"

/* ------------------------------------------------------------------- axes */

void cvc_pool_place(const cvc_pool *pool, int64_t tap, int64_t place[3]) {
  for (int i = 2; i >= 0; i--) {
    place[i] = tap % pool->kernel[i] * pool->dilation[i];
    tap /= pool->kernel[i];
  }
}

/** First index of an axis that the window of an output takes. */
static int64_t window_begin(const cvc_pool *pool, int i, int64_t output) {
  return output * pool->stride[i] - pool->pad_before[i];
}

/** Taps of a window from `begin` that lie below `end`. */
static int64_t taps_below(const cvc_pool *pool, int i, int64_t begin,
                          int64_t end) {
  const int64_t room = cvc_max(end - begin, 0);
  return cvc_min(pool->kernel[i], cvc_ceil_div(room, pool->dilation[i]));
}

int64_t cvc_pool_valid_taps(const cvc_pool *pool, int i, int64_t output) {
  const int64_t begin = window_begin(pool, i, output);
  return taps_below(pool, i, begin, pool->size[i]) -
         taps_below(pool, i, begin, 0);
}

/** Taps of a window that its average counts. */
static int64_t counted_taps(const cvc_pool *pool, int i, int64_t output) {
  if (!pool->count_include_pad) return cvc_pool_valid_taps(pool, i, output);
  return taps_below(pool, i, window_begin(pool, i, output),
                    pool->size[i] + pool->pad_after[i]);
}

/** Divisors differ only among averages of different numbers of taps. */
static void set_full(const cvc_pool *pool, int i, pool_axis *axis) {
  axis->full_first = 0;
  axis->full_last = pool->out[i];
  if (pool->kind == CVC_POOL_MAX || pool->divisor) return;
  const int64_t limit =
      pool->size[i] + (pool->count_include_pad ? pool->pad_after[i] : 0);
  const int64_t room =
      limit + pool->pad_before[i] - pool->dilation[i] * (pool->kernel[i] - 1);
  if (!pool->count_include_pad)
    axis->full_first = cvc_ceil_div(pool->pad_before[i], pool->stride[i]);
  axis->full_last =
      cvc_min(axis->full_last, cvc_ceil_div(cvc_max(room, 0), pool->stride[i]));
}

/** Periods in which the tap's source is inside. */
static void set_periods(const pool_axis *axis, pool_tap *tap) {
  tap->first = cvc_ceil_div(cvc_max(-tap->offset, 0), axis->step);
  tap->last = cvc_ceil_div(cvc_max(axis->sources - tap->offset, 0), axis->step);
}

static void set_forward(const cvc_pool *pool, int i, pool_axis *axis) {
  for (int64_t t = 0; t < pool->kernel[i]; t++) {
    axis->taps[t] = (pool_tap){
        .number = t, .offset = t * pool->dilation[i] - pool->pad_before[i]};
    set_periods(axis, &axis->taps[t]);
  }
  axis->begin[0] = 0;
  axis->begin[1] = pool->kernel[i];
}

/** The first target that takes a tap is, modulo the stride, in this phase. */
static int64_t phase_of(const cvc_pool *pool, int i, int64_t tap) {
  const int64_t stride = pool->stride[i];
  const int64_t at = tap * pool->dilation[i] - pool->pad_before[i];
  return (at % stride + stride) % stride;
}

static void set_backward(const cvc_pool *pool, int i, pool_axis *axis) {
  const int64_t stride = pool->stride[i], taps = pool->kernel[i];
  memset(axis->begin, 0, (size_t)(axis->phases + 1) * sizeof *axis->begin);
  for (int64_t t = 0; t < taps; t++) {
    const int64_t phase = phase_of(pool, i, t);
    if (phase < axis->phases) axis->begin[phase]++;
  }
  for (int64_t phase = 0; phase < axis->phases; phase++)
    axis->begin[phase + 1] += axis->begin[phase];
  /* From ends to beginnings: the last tap has the first source. */
  for (int64_t t = 0; t < taps; t++) {
    const int64_t phase = phase_of(pool, i, t);
    if (phase >= axis->phases) continue;
    const int64_t at = phase + pool->pad_before[i] - t * pool->dilation[i];
    pool_tap *tap = &axis->taps[--axis->begin[phase]];
    *tap =
        (pool_tap){.number = t, .offset = at / stride, .output = at / stride};
    set_periods(axis, tap);
  }
}

static pool_axis axis_of(const pool_pass *pass, int i) {
  const cvc_pool *pool = &pass->pool;
  if (pass->backward)
    return (pool_axis){.targets = pool->size[i],
                       .phases = cvc_min(pool->stride[i], pool->size[i]),
                       .sources = pool->out[i],
                       .step = 1};
  return (pool_axis){.targets = pool->out[i],
                     .phases = 1,
                     .sources = pool->size[i],
                     .step = pool->stride[i]};
}

int64_t cvc_pool_axes_bytes(const pool_pass *pass) {
  int64_t bytes = 0;
  for (int i = 0; i < 3; i++)
    bytes += pass->pool.kernel[i] * (int64_t)sizeof(pool_tap) +
             (axis_of(pass, i).phases + 1) * (int64_t)sizeof(int64_t);
  return cvc_round_up(bytes, 64);
}

void cvc_pool_set_axes(pool_pass *pass, char *memory) {
  const cvc_pool *pool = &pass->pool;
  for (int i = 0; i < 3; i++) {
    pool_axis *axis = &pass->axes[i];
    *axis = axis_of(pass, i);
    axis->taps = (pool_tap *)memory;
    axis->begin = (int64_t *)(axis->taps + pool->kernel[i]);
    memory = (char *)(axis->begin + axis->phases + 1);
    set_full(pool, i, axis);
    if (pass->backward)
      set_backward(pool, i, axis);
    else
      set_forward(pool, i, axis);
  }
}

/* --------------------------------------------------------------- segments */

int64_t cvc_pool_carve(const pool_pass *pass, char *memory, pool_space *space) {
  const cvc_pool *pool = &pass->pool;
  const int64_t taps = cvc_volume(pool->kernel);
  const int64_t phases = axis_of(pass, 1).phases * axis_of(pass, 2).phases;
  const int64_t row = cvc_min(pool->out[2], POOL_BLOCK_PIXELS) * pass->c;
  if (space) {
    space->offset = (ptrdiff_t *)memory;
    space->position = space->offset + taps;
    space->end = space->position + taps;
    space->weight = (double *)(space->end + phases);
    space->tap = (int32_t *)(space->weight + taps);
    space->row = space->tap + taps;
  }
  return cvc_round_up((3 * taps + phases) * (int64_t)sizeof(double) +
                          (taps + row) * (int64_t)sizeof(int32_t),
                      64);
}

bool cvc_pool_is_valid(const pool_tap *tap, int64_t period) {
  return period >= tap->first && period < tap->last;
}

static bool is_full(const pool_axis *axis, int64_t output) {
  return output >= axis->full_first && output < axis->full_last;
}

/** The run that begins with period `first` and ends before `last`. */
static pool_run run_of(const pool_axis *axis, int64_t phases, int64_t first,
                       int64_t last) {
  for (int64_t t = 0; t < axis->begin[phases]; t++) {
    const pool_tap *tap = &axis->taps[t];
    if (first < tap->first) last = cvc_min(last, tap->first);
    if (!cvc_pool_is_valid(tap, first)) continue;
    last = cvc_min(last, tap->last);
    last = cvc_min(last, is_full(axis, first + tap->output)
                             ? axis->full_last - tap->output
                             : first + 1);
  }
  return (pool_run){phases, first, last - first};
}

double cvc_pool_divisor(const pool_pass *pass, const int64_t output[3]) {
  const cvc_pool *pool = &pass->pool;
  if (pool->divisor) return (double)pool->divisor;
  int64_t count = 1;
  for (int i = 0; i < 3; i++)
    count *= is_full(&pass->axes[i], output[i])
                 ? pool->kernel[i]
                 : counted_taps(pool, i, output[i]);
  return (double)cvc_max(count, 1); /* without taps the sum is 0 */
}

/** Fill the tables of the valid taps of one target of a period, behind `taps`
 * others of which the first has its source at *position; the new number. */
static int64_t add_taps(const pool_pass *pass, const pool_space *space,
                        const int64_t phase[3], const pool_run run[3],
                        int64_t taps, int64_t *position) {
  const pool_axis *axes = pass->axes;
  const cvc_pool *pool = &pass->pool;
  int64_t at[3], source[3], output[3], number[3];
#define EACH_TAP(i)                                                          \
  for (at[i] = axes[i].begin[phase[i]]; at[i] < axes[i].begin[phase[i] + 1]; \
       at[i]++)                                                              \
    if (cvc_pool_is_valid(&axes[i].taps[at[i]], run[i].first))
  EACH_TAP(0) EACH_TAP(1) EACH_TAP(2) {
    for (int i = 0; i < 3; i++) {
      const pool_tap *tap = &axes[i].taps[at[i]];
      source[i] = run[i].first * axes[i].step + tap->offset;
      output[i] = run[i].first + tap->output;
      number[i] = tap->number;
    }
    const int64_t here =
        (source[0] * axes[1].sources + source[1]) * axes[2].sources + source[2];
    if (taps == 0) *position = here;
    space->position[taps] = here - *position;
    space->offset[taps] = (here - *position) * pass->c;
    space->tap[taps] =
        (int32_t)((number[0] * pool->kernel[1] + number[1]) * pool->kernel[2] +
                  number[2]);
    if (pass->backward && pool->kind == CVC_POOL_AVERAGE)
      space->weight[taps] = 1 / cvc_pool_divisor(pass, output);
    taps++;
  }
#undef EACH_TAP
  return taps;
}

/** A segment in a plane of targets, those of one depth of an image. */
static void visit_segment(const pool_pass *pass, const pool_space *space,
                          int64_t image, int64_t depth, const pool_run run[3]) {
  const pool_axis *axes = pass->axes;
  const int64_t c = pass->c, y_row = axes[2].targets * c;
  int64_t targets = 0, taps = 0, phase[3] = {depth % axes[0].phases};
  pool_segment s = {.window = {.rows = run[1].count,
                               .row_phases = run[1].phases,
                               .pixels = run[2].count,
                               .phases = run[2].phases,
                               .channels = c,
                               .y_row = y_row,
                               .offset = space->offset,
                               .tap = space->tap,
                               .end = space->end,
                               .stream = pass->stream}};
  for (phase[1] = 0; phase[1] < run[1].phases; phase[1]++)
    for (phase[2] = 0; phase[2] < run[2].phases; phase[2]++)
      space->end[targets++] = taps =
          add_taps(pass, space, phase, run, taps, &s.position);
  /* Steps between valid sources lie inside the source; others may overflow. */
  if (taps && run[1].count > 1)
    s.window.x_row = axes[1].step * axes[2].sources * c;
  if (taps && run[2].count > 1) s.window.x_step = axes[2].step * c;
  const int64_t sources = axes[0].sources * axes[1].sources * axes[2].sources;
  s.x = (image * sources + s.position) * c;
  s.y = ((image * axes[0].targets + depth) * axes[1].targets +
         run[1].first * axes[1].phases) *
            y_row +
        run[2].first * axes[2].phases * c;
  if (!pass->backward)
    s.divisor = cvc_pool_divisor(
        pass, (int64_t[3]){run[0].first, run[1].first, run[2].first});
  pass->function(pass, space, &s);
}

static int64_t periods(const pool_axis *axis) {
  return cvc_ceil_div(axis->targets, axis->phases);
}

pool_run cvc_pool_next_run(const pool_axis *axis, int64_t first, int64_t last) {
  const int64_t whole = axis->targets / axis->phases;
  if (first < whole)
    return run_of(axis, axis->phases, first, cvc_min(last, whole));
  return run_of(axis, axis->targets % axis->phases, first, last);
}

/** Rows h..end-1 of periods of a plane. */
static void visit_plane(const pool_pass *pass, const pool_space *space,
                        int64_t image, int64_t depth, int64_t h, int64_t end) {
  const pool_axis *axes = pass->axes;
  const int64_t d = depth / axes[0].phases, width = periods(&axes[2]);
  pool_run run[3] = {{1, d, 1}};
  for (; h < end; h += run[1].count) {
    run[1] = cvc_pool_next_run(&axes[1], h, end);
    for (int64_t w = 0; w < width; w += run[2].count) {
      run[2] = cvc_pool_next_run(&axes[2], w, width);
      visit_segment(pass, space, image, depth, run);
    }
  }
}

int64_t cvc_pool_rows(const pool_pass *pass) {
  const pool_axis height = axis_of(pass, 1);
  return axis_of(pass, 0).targets * periods(&height);
}

void cvc_pool_visit(const pool_pass *pass, const pool_space *space,
                    int64_t first, int64_t last) {
  const int64_t depth = pass->axes[0].targets;
  const int64_t height = periods(&pass->axes[1]);
  while (first < last) {
    const int64_t plane = first / height, h = first % height;
    const int64_t end = cvc_min(height, h + last - first);
    visit_plane(pass, space, plane / depth, plane % depth, h, end);
    first += end - h;
  }
}
