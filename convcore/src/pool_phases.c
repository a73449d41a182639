/**
 * Max pooling with pixels in the lanes, for images of few channels: planes of
 * channels-first arrays, which have one, and channels-last images with less
 * than a vector.
 *
 * A task copies some padded images sorted by phase, pixel u of an axis to place
 * u / stride of phase u % stride. There the sources of all targets lie at the
 * same distances, whatever the row: so all targets of the task are channels of
 * a single pixel to the kernels. What is computed for places that are no target
 * is not copied back. Where the padding before an axis is a whole period it
 * serves as that behind the row before, too.
 */
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "pool.h"

enum {
  TASK_ELEMENTS = 1 << 14, /* sorted ones, about */
  MOST_TAPS = 256,         /* that a byte can number */
  MOST_ELEMENTS = 1 << 16, /* of a channels-last image: the second cache */
  ROOM = 16,               /* behind the places of a phase: of a vector */
};

/* ----------------------------------------------------------------- layout */

/** How far the taps of a window reach, in places. */
static int64_t reach_of(const cvc_pool *pool, int i) {
  return (pool->kernel[i] - 1) * pool->dilation[i] / pool->stride[i];
}

/** Places of an axis: those of the inputs, and of all that outputs reach. */
static int64_t places_of(const cvc_pool *pool, int i) {
  const int64_t stride = pool->stride[i], before = pool->pad_before[i];
  const int64_t inputs = (pool->size[i] - 1 + before) / stride + 1;
  const int64_t shared = cvc_min(before / stride, reach_of(pool, i));
  return cvc_max(inputs, pool->out[i] + reach_of(pool, i) - shared);
}

bool cvc_pool_has_phases(const pool_pass *pass, int64_t channels) {
  const cvc_pool *pool = &pass->pool;
  const int64_t size = cvc_volume(pool->size);
  if (pool->kind != CVC_POOL_MAX || cvc_volume(pool->kernel) > MOST_TAPS ||
      (pass->backward && pool->index_dtype != CVC_U8))
    return false;
  if (channels > 1 && (channels >= pass->kernels->vector_length ||
                       size * channels > MOST_ELEMENTS))
    return false;
  /* Far taps of a few pixels would leave most of the memory to padding. */
  int64_t places = 1;
  for (int i = 0; i < 3; i++)
    if (cvc_multiply(&places, places_of(pool, i)) != CVC_OK ||
        cvc_multiply(&places, pool->stride[i]) != CVC_OK)
      return false;
  return places <= 4 * cvc_max(size, cvc_volume(pool->out)) + 64;
}

/** Elements between two targets and their sources. */
static int64_t distance(const pool_phases *f, const int64_t places[3]) {
  return ((places[0] * f->places[1] + places[1]) * f->places[2] + places[2]) *
         f->channels;
}

void cvc_pool_set_phases(const pool_pass *pass, int64_t channels,
                         pool_phases *f) {
  const cvc_pool *pool = &pass->pool;
  int64_t reach[3];
  *f = (pool_phases){.channels = channels};
  for (int i = 0; i < 3; i++) {
    f->places[i] = places_of(pool, i);
    reach[i] = reach_of(pool, i);
  }
  f->phases = cvc_volume(pool->stride);
  f->image = cvc_volume(f->places) * channels;
  f->images = cvc_max(1, TASK_ELEMENTS / (f->phases * f->image));
  f->images = cvc_min(f->images, cvc_max(1, pool->n * pool->c / channels));
  f->before = distance(f, reach);
  f->step = cvc_round_up(f->images * f->image + 2 * f->before + ROOM, 64);
}

/** Whether dx goes past the caches, from memory in which it was ordered. */
static bool streams(const pool_pass *pass) {
  return pass->backward && cvc_pool_exceeds_caches(pass);
}

int64_t cvc_pool_phases_bytes(const pool_pass *pass, const pool_phases *f) {
  const int64_t inputs = cvc_volume(pass->pool.size) * f->channels;
  const int64_t ordered = streams(pass) ? f->images * inputs : 0;
  return cvc_round_up(
      ((f->phases + 1) * f->step + ordered) * pass->bytes + f->step, 64);
}

int64_t cvc_pool_phase_tables_bytes(const pool_pass *pass) {
  const int64_t taps = cvc_volume(pass->pool.kernel);
  return cvc_round_up(
      (2 * taps + cvc_volume(pass->pool.stride)) * (int64_t)sizeof(ptrdiff_t) +
          taps * (int64_t)sizeof(int32_t),
      64);
}

/** Phase of a pixel; their axes' phases are as digits of a number. */
static int64_t phase_of(const cvc_pool *pool, const int64_t pixel[3]) {
  int64_t phase = 0;
  for (int i = 0; i < 3; i++)
    phase = phase * pool->stride[i] + pixel[i] % pool->stride[i];
  return phase;
}

/** Backward the targets of each phase have their own taps, in the order of
 * their sources: from the last tap to the first. */
void cvc_pool_set_phase_tables(const pool_pass *pass, pool_phases *f,
                               char *memory) {
  const cvc_pool *pool = &pass->pool;
  const int64_t taps = cvc_volume(pool->kernel);
  const int64_t targets = pass->backward ? f->phases : 1;
  int64_t count = 0;
  f->offset = (ptrdiff_t *)(void *)memory;
  f->position = f->offset + taps;
  f->end = f->position + taps;
  f->tap = (int32_t *)(f->end + f->phases);
  for (int64_t target = 0; target < targets; target++) {
    for (int64_t i = 0; i < taps; i++) {
      const int64_t t = pass->backward ? taps - 1 - i : i;
      const int64_t of_plane = pool->kernel[1] * pool->kernel[2];
      const int64_t at[3] = {t / of_plane * pool->dilation[0],
                             t % of_plane / pool->kernel[2] * pool->dilation[1],
                             t % pool->kernel[2] * pool->dilation[2]};
      const int64_t places[3] = {at[0] / pool->stride[0],
                                 at[1] / pool->stride[1],
                                 at[2] / pool->stride[2]};
      const int64_t phase = phase_of(pool, at), away = distance(f, places);
      if (pass->backward && phase != target) continue;
      f->offset[count] = pass->backward ? -away : phase * f->step + away;
      f->position[t] = (at[0] * pool->size[1] + at[1]) * pool->size[2] + at[2];
      f->tap[count++] = (int32_t)t;
    }
    f->end[target] = count;
  }
}

/* ------------------------------------------------------- copies of a task */

static cvc_phases dense_phases(const pool_phases *f, const int64_t size[3]) {
  return (cvc_phases){.rows = size[1],
                      .pixels = size[2],
                      .channels = f->channels,
                      .row_stride = 1,
                      .stride = 1,
                      .image_step = f->image,
                      .row_step = f->places[2] * f->channels};
}

/** Copy images between an array and the places of the sources, forward, or of
 * the targets, backward. Those of two dimensions are copied at once. */
static void copy_inputs(const pool_pass *pass, const pool_phases *f,
                        int64_t images, void *dense, char *sorted) {
  const cvc_pool *pool = &pass->pool;
  const int64_t depth = pool->size[0], stride = pool->stride[0];
  const int64_t slice = pool->size[1] * pool->size[2] * f->channels;
  cvc_phases copy = dense_phases(f, pool->size);
  copy.images = depth == 1 ? images : 1;
  copy.row_stride = pool->stride[1];
  copy.stride = pool->stride[2];
  copy.row_pad = pool->pad_before[1];
  copy.pad = pool->pad_before[2];
  copy.phase_step = f->step;
  copy.row_phase_step = pool->stride[2] * f->step;
  for (int64_t i = 0; i < images; i += copy.images)
    for (int64_t d = 0; d < depth; d++) {
      const int64_t u = d + pool->pad_before[0], phase = u % stride;
      const int64_t to = phase * pool->stride[1] * copy.row_phase_step +
                         i * f->image +
                         u / stride * f->places[1] * f->places[2] * f->channels;
      void *from = cvc_at(dense, (i * depth + d) * slice, pass->bytes);
      void *place = sorted + to * pass->bytes;
      if (pass->backward)
        pass->kernels->join(&copy, place, from);
      else
        pass->kernels->split(&copy, from, place);
    }
}

/** Whether outputs lie in their places as in their array. */
static bool is_dense(const pool_pass *pass, const pool_phases *f) {
  return cvc_volume(f->places) == cvc_volume(pass->pool.out);
}

/** The same of y or dy, of one phase. */
static void copy_outputs(const pool_pass *pass, const pool_phases *f,
                         int64_t images, void *dense, char *sorted) {
  const int64_t *out = pass->pool.out;
  const int64_t slice = out[1] * out[2] * f->channels;
  cvc_phases copy = dense_phases(f, out);
  if (is_dense(pass, f)) {
    const int64_t size = images * f->image * pass->bytes;
    if (pass->backward)
      memcpy(sorted, dense, (size_t)size);
    else
      memcpy(dense, sorted, (size_t)size);
    return;
  }
  copy.images = out[0] == 1 ? images : 1;
  for (int64_t i = 0; i < images; i += copy.images)
    for (int64_t d = 0; d < out[0]; d++) {
      const int64_t to =
          i * f->image + d * f->places[1] * f->places[2] * f->channels;
      void *from = cvc_at(dense, (i * out[0] + d) * slice, pass->bytes);
      void *place = sorted + to * pass->bytes;
      if (pass->backward)
        pass->kernels->split(&copy, from, place);
      else
        pass->kernels->join(&copy, place, from);
    }
}

/** A row of bytes, mostly a short one: in parts that may reach beyond it, as
 * long as there are `room` bytes in the array. */
static void copy_bytes(const uint8_t *from, uint8_t *to, int64_t size,
                       int64_t room) {
  int64_t i = 0;
  for (; i < size && i + ROOM <= room; i += ROOM)
    memcpy(to + i, from + i, ROOM);
  for (; i < size; i++) to[i] = from[i];
}

/** Row h of depth d of an image's indices: where it is among the places. */
static int64_t index_row(const pool_phases *f, int64_t image, int64_t d,
                         int64_t h) {
  return image * f->image + (d * f->places[1] + h) * f->places[2] * f->channels;
}

/** The first tap of an axis whose source is inside. */
static int64_t first_tap(const cvc_pool *pool, int i, int64_t output) {
  const int64_t outside = pool->pad_before[i] - output * pool->stride[i];
  return outside > 0 ? cvc_ceil_div(outside, pool->dilation[i]) : 0;
}

/** The maximum -infinity may have been found in the padding: then its first
 * tap in the input is meant. */
static void mend_row(const pool_pass *pass, const pool_phases *f, int64_t d,
                     int64_t h, const void *y, uint8_t *index) {
  const cvc_pool *pool = &pass->pool;
  const int64_t tap =
      first_tap(pool, 0, d) * pool->kernel[1] + first_tap(pool, 1, h);
  const int64_t suspects =
      tap ? pool->out[2]
          : cvc_min(pool->out[2],
                    cvc_ceil_div(pool->pad_before[2], pool->stride[2]));
  for (int64_t i = 0; i < suspects * f->channels; i++)
    if (cvc_get(pool->dtype, y, i) == -INFINITY)
      index[i] = (uint8_t)(tap * pool->kernel[2] +
                           first_tap(pool, 2, i / f->channels));
}

/** The positions that a row of taps stands for. */
static void set_positions(const pool_pass *pass, const pool_phases *f,
                          int64_t d, int64_t h, const uint8_t *tap,
                          int64_t *position) {
  const cvc_pool *pool = &pass->pool;
  int64_t first[3];
  const int64_t out[3] = {d, h, 0};
  for (int i = 0; i < 3; i++)
    first[i] = out[i] * pool->stride[i] - pool->pad_before[i];
  int64_t at = (first[0] * pool->size[1] + first[1]) * pool->size[2] + first[2];
  for (int64_t w = 0; w < pool->out[2]; w++, at += pool->stride[2])
    for (int64_t c = 0; c < f->channels; c++)
      *position++ = at + f->position[*tap++];
}

/** Copy indices between the array, from row `row` on, and the places. */
static void copy_indices(const pool_pass *pass, const pool_phases *f,
                         int64_t images, int64_t row, const char *y,
                         uint8_t *index) {
  const cvc_pool *pool = &pass->pool;
  const int64_t size = pool->out[2] * f->channels;
  if (pass->backward && is_dense(pass, f)) {
    memcpy(index, (const uint8_t *)pass->index + row * size,
           (size_t)(images * f->image));
    return;
  }
  const int64_t rows = row + images * pool->out[0] * pool->out[1];
  for (int64_t i = 0; i < images; i++)
    for (int64_t d = 0; d < pool->out[0]; d++)
      for (int64_t h = 0; h < pool->out[1]; h++, row++) {
        const int64_t place = index_row(f, i, d, h);
        uint8_t *taps = index + place;
        if (pass->backward) {
          copy_bytes((const uint8_t *)pass->index + row * size, taps, size,
                     (rows - row) * size);
          continue;
        }
        mend_row(pass, f, d, h, y + place * pass->bytes, taps);
        if (pool->index_dtype == CVC_U8)
          copy_bytes(taps, (uint8_t *)pass->index + row * size, size,
                     (rows - row) * size);
        else
          set_positions(pass, f, d, h, taps,
                        (int64_t *)pass->index + row * size);
      }
}

/* ------------------------------------------------------------------ a task */

/** All of `memory` becomes padding; tasks change only what is none. */
void cvc_pool_clear_phases(const pool_pass *pass, const pool_phases *f,
                           char *memory) {
  const int64_t bytes = pass->bytes;
  const int64_t size = (pass->backward ? 1 : f->phases) * f->step * bytes;
  if (pass->backward) {
    memset(memory, 0, (size_t)(size + f->step)); /* and indices behind dy */
    return;
  }
  cvc_set(pass->pool.dtype, memory, 0, -INFINITY);
  for (int64_t done = bytes; done < size; done *= 2)
    memcpy(memory + done, memory, (size_t)cvc_min(done, size - done));
}

void cvc_pool_phases_task(const pool_pass *pass, const pool_phases *f,
                          int64_t task, char *memory) {
  const cvc_pool *pool = &pass->pool;
  const int64_t bytes = pass->bytes, all = pool->n * pool->c / f->channels;
  const int64_t first = task * f->images;
  const int64_t images = cvc_min(f->images, all - first);
  const int64_t inputs = cvc_volume(pool->size) * f->channels;
  const int64_t outputs = cvc_volume(pool->out) * f->channels;
  const int64_t row = first * pool->out[0] * pool->out[1];
  const int64_t from_bytes = (pass->backward ? 1 : f->phases) * f->step * bytes;
  uint8_t *index = (uint8_t *)memory + from_bytes + f->before;
  char *from = memory + f->before * bytes;
  char *to = memory + from_bytes + f->step;
  cvc_window window = {.rows = 1,
                       .row_phases = 1,
                       .pixels = 1,
                       .phases = 1,
                       .channels = images * f->image,
                       .x_step = images * f->image,
                       .y_row = images * f->image,
                       .offset = f->offset,
                       .tap = f->tap,
                       .end = f->end};
  if (!pass->backward) {
    copy_inputs(pass, f, images,
                cvc_at((void *)pass->from, first * inputs, bytes), from);
    pass->kernels->max_pool(&window, from, to, pass->index ? index : NULL,
                            pass->index ? 1 : 0);
    copy_outputs(pass, f, images, cvc_at(pass->to, first * outputs, bytes), to);
    if (pass->index) copy_indices(pass, f, images, row, to, index);
    return;
  }
  copy_outputs(pass, f, images,
               cvc_at((void *)pass->from, first * outputs, bytes), from);
  copy_indices(pass, f, images, row, NULL, index);
  for (int64_t phase = 0; phase < f->phases; phase++) {
    const ptrdiff_t begin = phase ? f->end[phase - 1] : 0;
    const ptrdiff_t end = f->end[phase] - begin;
    window.offset = f->offset + begin;
    window.tap = f->tap + begin;
    window.end = &end;
    pass->kernels->max_pool_backward(&window, index, from,
                                     to + phase * f->step * bytes);
  }
  void *dx = cvc_at(pass->to, first * inputs, bytes);
  if (!streams(pass)) {
    copy_inputs(pass, f, images, dx, to);
    return;
  }
  char *ordered = to + f->phases * f->step * bytes;
  copy_inputs(pass, f, images, ordered, to);
  pass->kernels->stream_copy(images * inputs, ordered, dx);
  atomic_thread_fence(memory_order_seq_cst);
}
