/**
 * Max pooling of images of few channels, pixels in the lanes.
 *
 * A task copies some padded images sorted by phase, pixel u of an axis to place
 * u / stride of phase u % stride. There the sources of all outputs lie at the
 * same distances, whatever the row: so all outputs of the task are channels of
 * a single pixel to the kernels. What is computed for places that are no output
 * is not copied back. Where the padding before an axis is a whole period it
 * serves as that behind the row before, too.
 *
 * Windows that lie inside, two pixels apart in a row, need no copies: every
 * other pixel is a shuffle of two vectors.
 */
#include <math.h>
#include <string.h>

#include "pool.h"

enum {
  TASK_ELEMENTS = 1 << 14, /* sorted ones, about */
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

/** Whether windows lie inside, two pixels apart. Of short vectors the shuffles
 * cost more than the copies. */
static bool are_pairs(const pool_pass *pass) {
  const cvc_pool *pool = &pass->pool;
  for (int i = 0; i < 3; i++) {
    const int64_t last = (pool->out[i] - 1) * pool->stride[i] +
                         (pool->kernel[i] - 1) * pool->dilation[i];
    if (pool->pad_before[i] || last >= pool->size[i]) return false;
  }
  return pool->stride[2] == 2 && pass->kernels->vector_length >= 8;
}

static bool serves(const pool_pass *pass, int64_t channels) {
  const cvc_pool *pool = &pass->pool;
  const int64_t size = cvc_volume(pool->size);
  if (!pass->backward && are_pairs(pass)) return true;
  if (pass->backward || (channels > 1 && size * channels > MOST_ELEMENTS))
    return false;
  /* Far taps of a few pixels would leave most of the memory to padding. */
  int64_t places = 1;
  for (int i = 0; i < 3; i++)
    if (cvc_multiply(&places, places_of(pool, i)) != CVC_OK ||
        cvc_multiply(&places, pool->stride[i]) != CVC_OK)
      return false;
  return places <= 4 * cvc_max(size, cvc_volume(pool->out)) + 64;
}

/** Elements between two places. */
static int64_t distance(const pool_phases *f, const int64_t places[3]) {
  return ((places[0] * f->places[1] + places[1]) * f->places[2] + places[2]) *
         f->channels;
}

static void set(const pool_pass *pass, int64_t channels, pool_few *few) {
  const cvc_pool *pool = &pass->pool;
  pool_phases *f = &few->phases;
  int64_t reach[3];
  *f = (pool_phases){.channels = channels, .pairs = are_pairs(pass)};
  for (int i = 0; i < 3; i++) {
    f->places[i] = f->pairs ? pool->out[i] : places_of(pool, i);
    reach[i] = f->pairs ? 0 : reach_of(pool, i);
  }
  f->phases = cvc_volume(pool->stride);
  f->image = cvc_volume(f->places) * channels;
  f->images = cvc_max(1, TASK_ELEMENTS / (f->phases * f->image));
  f->images = cvc_min(f->images, cvc_max(1, pool->n * pool->c / channels));
  f->step = cvc_round_up(f->images * f->image + distance(f, reach) + ROOM, 64);
  few->tasks = cvc_ceil_div(pool->n * pool->c, f->images * channels);
}

static int64_t bytes_of(const pool_pass *pass, const pool_few *few) {
  const pool_phases *f = &few->phases;
  const int64_t copies = f->pairs ? 0 : f->phases + 1;
  return cvc_round_up(copies * f->step * pass->bytes + f->step, 64);
}

static int64_t tables_bytes(const pool_pass *pass, const pool_few *few) {
  (void)few;
  return cvc_round_up(cvc_volume(pass->pool.kernel) *
                          (int64_t)(2 * sizeof(ptrdiff_t) + sizeof(int32_t)),
                      64);
}

/** Phase of a pixel; their axes' phases are as digits of a number. */
static int64_t phase_of(const cvc_pool *pool, const int64_t pixel[3]) {
  int64_t phase = 0;
  for (int i = 0; i < 3; i++)
    phase = phase * pool->stride[i] + pixel[i] % pool->stride[i];
  return phase;
}

static void set_tables(pool_pass *pass, pool_few *few, char *memory) {
  const cvc_pool *pool = &pass->pool;
  pool_phases *f = &few->phases;
  const int64_t taps = cvc_volume(pool->kernel);
  f->offset = (ptrdiff_t *)(void *)memory;
  f->position = f->offset + taps;
  f->tap = (int32_t *)(f->position + taps);
  for (int64_t t = 0; t < taps; t++) {
    int64_t at[3];
    cvc_pool_place(pool, t, at);
    const int64_t places[3] = {at[0] / pool->stride[0], at[1] / pool->stride[1],
                               at[2] / pool->stride[2]};
    f->position[t] = (at[0] * pool->size[1] + at[1]) * pool->size[2] + at[2];
    f->offset[t] = f->pairs
                       ? f->position[t] * f->channels
                       : phase_of(pool, at) * f->step + distance(f, places);
    f->tap[t] = (int32_t)t;
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

/** Copy images to the places of the sources: those of two dimensions at once.
 */
static void copy_inputs(const pool_pass *pass, const pool_phases *f,
                        int64_t images, const void *dense, char *sorted) {
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
      pass->kernels->split(
          &copy, cvc_at_const(dense, (i * depth + d) * slice, pass->bytes),
          sorted + to * pass->bytes);
    }
}

/** Whether outputs lie in their places as in their array. */
static bool is_dense(const pool_pass *pass, const pool_phases *f) {
  return cvc_volume(f->places) == cvc_volume(pass->pool.out);
}

/** Copy outputs from their places. */
static void copy_outputs(const pool_pass *pass, const pool_phases *f,
                         int64_t images, const char *sorted, void *dense) {
  const int64_t *out = pass->pool.out;
  const int64_t slice = out[1] * out[2] * f->channels;
  cvc_phases copy = dense_phases(f, out);
  if (is_dense(pass, f)) {
    memcpy(dense, sorted, (size_t)(images * f->image * pass->bytes));
    return;
  }
  copy.images = out[0] == 1 ? images : 1;
  for (int64_t i = 0; i < images; i += copy.images)
    for (int64_t d = 0; d < out[0]; d++) {
      const int64_t from =
          i * f->image + d * f->places[1] * f->places[2] * f->channels;
      pass->kernels->join(&copy, sorted + from * pass->bytes,
                          cvc_at(dense, (i * out[0] + d) * slice, pass->bytes));
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

/** Copy indices from the places to the array, from row `row` on. */
static void copy_indices(const pool_pass *pass, const pool_phases *f,
                         int64_t images, int64_t row, const char *y,
                         uint8_t *index) {
  const cvc_pool *pool = &pass->pool;
  const int64_t size = pool->out[2] * f->channels;
  const int64_t rows = row + images * pool->out[0] * pool->out[1];
  for (int64_t i = 0; i < images; i++)
    for (int64_t d = 0; d < pool->out[0]; d++)
      for (int64_t h = 0; h < pool->out[1]; h++, row++) {
        const int64_t place = index_row(f, i, d, h);
        uint8_t *taps = index + place;
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
static void clear(const pool_pass *pass, const pool_few *few, char *memory) {
  const pool_phases *f = &few->phases;
  const int64_t bytes = pass->bytes, size = f->phases * f->step * bytes;
  if (f->pairs) return;
  cvc_set(pass->pool.dtype, memory, 0, -INFINITY);
  for (int64_t done = bytes; done < size; done *= 2)
    memcpy(memory + done, memory, (size_t)cvc_min(done, size - done));
}

/** Images from `first` on, their pixels where they are. */
static void run_pairs(const pool_pass *pass, const pool_phases *f,
                      int64_t first, int64_t images, uint8_t *index) {
  const cvc_pool *pool = &pass->pool;
  const int64_t row = pool->size[2] * f->channels, slice = pool->size[1] * row;
  const int64_t inputs = pool->size[0] * slice;
  const bool flat = pool->out[0] == 1;
  const bool copied = index && pool->index_dtype != CVC_U8;
  cvc_pairs pairs = {.images = flat ? images : pool->out[0],
                     .rows = pool->out[1],
                     .pixels = pool->out[2],
                     .channels = f->channels,
                     .x_image = flat ? inputs : pool->stride[0] * slice,
                     .x_row = pool->stride[1] * row,
                     .taps = (int)cvc_volume(pool->kernel),
                     .offset = f->offset};
  for (int64_t i = 0; i < images; i += flat ? images : 1) {
    const int64_t to = (first + i) * f->image;
    pairs.x_size = (pool->n * pool->c / f->channels - first - i) * inputs;
    uint8_t *taps = copied  ? index + i * f->image
                    : index ? (uint8_t *)pass->index + to
                            : NULL;
    pass->kernels->max_pool_pairs(
        &pairs, cvc_at_const(pass->from, (first + i) * inputs, pass->bytes),
        cvc_at(pass->to, to, pass->bytes), taps);
  }
  if (copied)
    copy_indices(pass, f, images, first * pool->out[0] * pool->out[1],
                 cvc_at(pass->to, first * f->image, pass->bytes), index);
}

static void run_task(const pool_pass *pass, const pool_few *few, int64_t task,
                     char *memory) {
  const cvc_pool *pool = &pass->pool;
  const pool_phases *f = &few->phases;
  const int64_t bytes = pass->bytes, all = pool->n * pool->c / f->channels;
  const int64_t first = task * f->images;
  const int64_t images = cvc_min(f->images, all - first);
  const int64_t inputs = cvc_volume(pool->size) * f->channels;
  const int64_t outputs = cvc_volume(pool->out) * f->channels;
  if (f->pairs) {
    run_pairs(pass, f, first, images, pass->index ? (uint8_t *)memory : NULL);
    return;
  }
  char *to = memory + f->phases * f->step * bytes;
  uint8_t *index = pass->index ? (uint8_t *)to + f->step * bytes : NULL;
  const ptrdiff_t end = cvc_volume(pool->kernel);
  const cvc_window window = {.rows = 1,
                             .row_phases = 1,
                             .pixels = 1,
                             .phases = 1,
                             .channels = images * f->image,
                             .x_step = images * f->image,
                             .y_row = images * f->image,
                             .offset = f->offset,
                             .tap = f->tap,
                             .end = &end};
  copy_inputs(pass, f, images, cvc_at_const(pass->from, first * inputs, bytes),
              memory);
  pass->kernels->max_pool(&window, memory, to, index, pass->index ? 1 : 0);
  copy_outputs(pass, f, images, to, cvc_at(pass->to, first * outputs, bytes));
  if (pass->index)
    copy_indices(pass, f, images, first * pool->out[0] * pool->out[1], to,
                 index);
}

const pool_few_way cvc_pool_phases = {.serves = serves,
                                      .set = set,
                                      .tables_bytes = tables_bytes,
                                      .set_tables = set_tables,
                                      .bytes = bytes_of,
                                      .clear = clear,
                                      .task = run_task};
