/**
 * Depthwise convolution over channels-last memory, row by row of the target, in
 * the order in which it lies in memory. Each target row is the sum of a few
 * source rows, one run of the kernel each. The gradient with respect to the
 * weights goes the way of the forward pass: dy is the target, which is read,
 * and the weights are added to.
 */
#include <string.h>

#include "conv.h"

#define BLOCK_BYTES (256 * 1024) /* of the target, for one task */
#define LEAST_COLUMNS 64         /* of a task that is a part of a row */
/* Arrays that come from memory are requested so many bytes before their use. */
#define STREAM_BYTES (8 * 1024 * 1024)
#define AHEAD_BYTES 4096
/* A weight gradient: pixels whose blocks are added in one chain; x and dy of a
 * task. */
#define SUM_PIXELS 512
#define TASK_BYTES (32 * 1024 * 1024)

typedef struct depthwise {
  const cvc_conv_job *job;
  cvc_pass pass;
  const cvc_kernels *kernels;
  const void *source;
  void *target;
  int64_t bytes, channels;
  int64_t source_size[3], target_size[3];
  /* Steps of the target index from one output of an axis to the next: taps
   * and weights differ between the phases of a step. */
  int64_t steps[3];
  /* A task is a block of rows of all images and depths, of columns, and a
   * range of whole vectors of channels, the last one with the rest. */
  int64_t rows, block_rows, row_blocks;
  int64_t block_columns, column_blocks;
  int64_t vectors, splits;
  int64_t workspace_bytes, panel_elements;
  char *sums; /* of a weight gradient: [granule][panel][taps + 1][vector] */
} depthwise;

/** Columns of a target row that run in one call of the kernel. */
typedef struct segment {
  cvc_axis axis;
  cvc_region region;
  int window; /* as in cvc_depthwise */
} segment;

/** Per-thread working memory. */
typedef struct workspace {
  char *sums;        /* of a weight gradient, of some rows */
  cvc_axis *axes[2]; /* of the phases of depth and of height */
  segment *segments;
  cvc_region *regions;
  ptrdiff_t *a_run, *b_run, *lower_run;
} workspace;

/** Vectors of channels, the last one with less than a whole one more. */
static int64_t panels_of(const cvc_conv *conv) {
  return cvc_ceil_div(conv->c, cvc_kernels_of(conv->dtype)->vector_length);
}

/** Vectors of a panel: the taps, and in a gradient the bias. */
static int64_t panel_taps(const cvc_conv *conv, cvc_pass pass) {
  return cvc_volume(conv->kernel) + (pass == CVC_BACKWARD_WEIGHT);
}

/** Bytes of the sums of all panels of a weight gradient. */
static int64_t sum_bytes(const cvc_conv *conv) {
  return panels_of(conv) * panel_taps(conv, CVC_BACKWARD_WEIGHT) *
         cvc_kernels_of(conv->dtype)->vector_length *
         cvc_dtype_bytes(conv->dtype);
}

/** Sets the workspace's parts; returns its bytes. */
static int64_t carve(const cvc_conv *conv, cvc_pass pass, char *memory,
                     workspace *space) {
  int64_t phases[3];
  for (int i = 0; i < 3; i++)
    phases[i] = cvc_min(conv->stride[i], conv->size[i]);
  const int64_t segments = phases[2] + 2 * conv->kernel[2];
  const int64_t regions = 2 * conv->kernel[2] + 1;
  const int64_t runs = conv->kernel[0] * 2 * conv->kernel[1]; /* two lines */
  const int64_t sums = pass == CVC_BACKWARD_WEIGHT ? sum_bytes(conv) : 0;
  if (memory) {
    space->sums = memory;
    space->axes[0] = (cvc_axis *)(memory + sums);
    space->axes[1] = space->axes[0] + phases[0];
    space->segments = (segment *)(space->axes[1] + phases[1]);
    space->regions = (cvc_region *)(space->segments + segments);
    space->a_run = (ptrdiff_t *)(space->regions + regions);
    space->b_run = space->a_run + runs;
    space->lower_run = space->b_run + runs;
  }
  return cvc_round_up(sums +
                          (phases[0] + phases[1]) * (int64_t)sizeof(cvc_axis) +
                          segments * (int64_t)sizeof(segment) +
                          regions * (int64_t)sizeof(cvc_region) +
                          3 * runs * (int64_t)sizeof(ptrdiff_t),
                      64);
}

int64_t cvc_depthwise_scratch(const cvc_conv *conv, cvc_pass pass,
                              int threads) {
  int64_t bytes = threads * carve(conv, pass, NULL, NULL);
  if (pass == CVC_BACKWARD_WEIGHT)
    bytes += cvc_granules(conv->n) * sum_bytes(conv);
  return bytes;
}

static cvc_axis axis_of(const depthwise *d, int i, int64_t phase) {
  return d->pass == CVC_BACKWARD_DATA
             ? cvc_axis_backward(d->job->conv, i, phase)
             : cvc_axis_forward(d->job->conv, i);
}

/** The stride of the axis when the kernel has a loop for windows of its taps
 * that lie side by side, else 0. */
static int window_of(const depthwise *d, const cvc_axis *axis) {
  const int64_t step = axis->offset_step;
  if ((step != 1 && step != -1) || axis->source_step > 2 ||
      d->channels < d->kernels->vector_length)
    return 0;
#define CASE(length, stride) \
  if (axis->taps == length && axis->source_step == stride) return stride;
  CVC_WINDOWS(CASE)
#undef CASE
  return 0;
}

/** Segments of target columns begin..end-1, `begin` a multiple of the step.
 */
static int64_t set_segments(const depthwise *d, const workspace *space,
                            int64_t begin, int64_t end) {
  int64_t segments = 0;
  for (int64_t phase = 0; phase < d->steps[2]; phase++) {
    const cvc_axis axis = axis_of(d, 2, phase);
    const int64_t first = begin / axis.step;
    const int64_t last =
        cvc_min(cvc_ceil_div(end - phase, axis.step), axis.count);
    const int window = window_of(d, &axis);
    int64_t regions = 1;
    if (window)
      space->regions[0] = (cvc_region){first, last - first, 0, axis.taps};
    else
      regions = cvc_axis_regions(&axis, first, last, space->regions);
    for (int64_t i = 0; i < regions; i++)
      if (space->regions[i].count > 0)
        space->segments[segments++] =
            (segment){axis, space->regions[i], window};
  }
  return segments;
}

/** What all rows of a task have in common. */
typedef struct share {
  const workspace *space;
  int64_t segments;
  int64_t channel;            /* its first one */
  int columns;                /* channels */
  const void *weights, *bias; /* of that channel; a gradient adds to them */
  ptrdiff_t ahead;
} share;

/** The i-th tap of an axis in the order in which they lie in the source. */
static int64_t tap_of(const cvc_axis *axis, int64_t i) {
  return axis->offset_step < 0 ? axis->taps - 1 - i : i;
}

/** The source index of a tap for output `output`. */
static int64_t source_of(const cvc_axis *axis, int64_t output, int64_t tap) {
  return output * axis->source_step + axis->offset + tap * axis->offset_step;
}

/** One segment of one target row, or of two that lie one above the other. */
static void run_segment(const depthwise *d, const share *share,
                        const int64_t row[3], int lines, const segment *s) {
  const cvc_conv_job *job = d->job;
  const int64_t *kernel = job->conv->kernel, *size = d->source_size;
  const workspace *space = share->space;
  const int64_t lanes = d->kernels->vector_length;
  const int64_t z_index = row[1] / d->steps[0], y_index = row[2] / d->steps[1];
  const cvc_axis *zs = &space->axes[0][row[1] % d->steps[0]];
  const cvc_axis *ys = &space->axes[1][row[2] % d->steps[1]], *xs = &s->axis;

  /* Taps of a row in the order in which they lie in the source. */
  const int64_t sign = xs->offset_step < 0 ? -1 : 1;
  const int64_t taps = s->region.high - s->region.low;
  const int64_t tap = sign < 0 ? s->region.high - 1 : s->region.low;
  const int64_t x = source_of(xs, s->region.first, tap);
  const int64_t end = x + (s->region.count - 1) * xs->source_step +
                      (taps - 1) * sign * xs->offset_step + 1;
  const int64_t below = lines > 1 ? ys->source_step : 0;
  const int64_t top = source_of(ys, y_index, tap_of(ys, 0));
  const int64_t step = ys->offset_step * (ys->offset_step < 0 ? -1 : 1);
  int64_t runs = 0, lower_begin = 0, upper_end = 0;
  for (int64_t i = 0; i < zs->taps; i++) {
    const int64_t z = source_of(zs, z_index, tap_of(zs, i));
    if (z < 0 || z >= size[0]) continue;
    const int64_t t = zs->tap + tap_of(zs, i) * zs->tap_step;
    for (int64_t j = 0; j < ys->taps + below; j++) {
      const int64_t y = top + j * step;
      if (y < 0 || y >= size[1]) continue;
      space->a_run[runs] = ((z * size[1] + y) * size[2] + x) * d->channels;
      for (int line = 0; line < lines; line++) {
        const int64_t r = ys->tap + tap_of(ys, j - line * below) * ys->tap_step;
        (line ? space->lower_run : space->b_run)[runs] =
            ((t * kernel[1] + r) * kernel[2] + xs->tap + tap * xs->tap_step) *
            lanes;
      }
      if (lines == 1 || j < below) lower_begin = runs + 1;
      if (j < ys->taps) upper_end = runs + 1;
      runs++;
    }
  }

  const int64_t image = row[0] * cvc_volume(size) * d->channels;
  const int64_t line =
      (row[0] * d->target_size[0] + row[1]) * d->target_size[1] + row[2];
  const int64_t pixel =
      line * d->target_size[2] + xs->first + s->region.first * xs->step;
  const int64_t at = pixel * d->channels + share->channel;
  const cvc_depthwise call = {
      .tile = {.a = cvc_at_const(d->source, image + share->channel, d->bytes),
               .b = share->weights,
               .a_run = space->a_run,
               .b_run = space->b_run,
               .runs = runs,
               .length = taps,
               .a_row = xs->source_step * d->channels,
               .a_step = sign * xs->offset_step * d->channels,
               .b_step = sign * xs->tap_step * lanes,
               .c = cvc_at(d->target, at, d->bytes),
               .c_row = xs->step * d->channels,
               .rows = (int)s->region.count,
               .columns = share->columns,
               .bias = share->bias,
               .residual = job->residual
                               ? cvc_at_const(job->residual, at, d->bytes)
                               : NULL,
               .activation = cvc_conv_activation(job->conv, d->pass)},
      .b_vector = d->panel_elements,
      .gradient = d->pass == CVC_BACKWARD_WEIGHT,
      .window = s->window,
      .absent_left = cvc_max(0, -x),
      .absent_right = cvc_max(0, end - size[2]),
      .ahead = share->ahead,
      .line = lines > 1 ? d->target_size[2] : 0,
      .lower_begin = lower_begin,
      .upper_end = upper_end,
      .lower_run = space->lower_run};
  d->kernels->depthwise(&call);
}

/** Bytes of source and target. */
static int64_t array_bytes(const depthwise *d) {
  const cvc_conv *conv = d->job->conv;
  return (cvc_conv_x_elements(conv) + cvc_conv_y_elements(conv)) * d->bytes;
}

/** Columns begin..end-1 and vectors first..last-1. */
static share share_of(const depthwise *d, const workspace *space, int64_t begin,
                      int64_t end, int64_t first, int64_t last) {
  const int64_t lanes = d->kernels->vector_length, channel = first * lanes;
  for (int i = 0; i < 2; i++)
    for (int64_t phase = 0; phase < d->steps[i]; phase++)
      space->axes[i][phase] = axis_of(d, i, phase);
  return (share){
      .space = space,
      .segments = set_segments(d, space, begin, end),
      .channel = channel,
      .columns =
          (int)((last == d->vectors ? d->channels : last * lanes) - channel),
      .ahead = array_bytes(d) > STREAM_BYTES ? AHEAD_BYTES / d->bytes : 0};
}

/** Whether the kernel can run two target rows at once: those share most of
 * their source rows, which without that come from the second-level cache for
 * each. */
static bool runs_two_lines(const depthwise *d, const workspace *space) {
  const cvc_axis *zs = &space->axes[0][0], *ys = &space->axes[1][0];
  return d->pass != CVC_BACKWARD_WEIGHT && d->kernels->mr >= 14 &&
         zs->taps == 1 && d->steps[1] == 1 && d->steps[2] == 1 &&
         ys->taps > ys->source_step &&
         (ys->offset_step == 1 || ys->offset_step == -1) &&
         space->segments[0].window;
}

static void run_rows(const depthwise *d, const share *share, int64_t begin,
                     int64_t end) {
  const bool two = runs_two_lines(d, share->space);
  int lines;
  for (int64_t i = begin; i < end; i += lines) {
    const int64_t plane = i / d->target_size[1], h = i % d->target_size[1];
    const int64_t row[3] = {plane / d->target_size[0],
                            plane % d->target_size[0], h};
    lines = two && i + 1 < end && h + 1 < d->target_size[1] ? 2 : 1;
    for (int64_t s = 0; s < share->segments; s++)
      run_segment(d, share, row, lines, &share->space->segments[s]);
  }
}

static workspace workspace_of(const depthwise *d, int thread) {
  workspace space = {0};
  carve(d->job->conv, d->pass,
        (char *)d->job->scratch + thread * d->workspace_bytes, &space);
  return space;
}

static void depthwise_task(void *context, int64_t task, int thread) {
  const depthwise *d = context;
  const cvc_conv_job *job = d->job;
  const workspace space = workspace_of(d, thread);
  const int64_t split = task % d->splits;
  task /= d->splits;
  const int64_t column = task % d->column_blocks * d->block_columns;
  const int64_t line = task / d->column_blocks * d->block_rows;
  const int64_t first = split * d->vectors / d->splits;
  share share = share_of(d, &space, column,
                         cvc_min(column + d->block_columns, d->target_size[2]),
                         first, (split + 1) * d->vectors / d->splits);
  share.weights =
      cvc_packed_panel(job->conv, d->pass, job->choice, job->packed, 0, first);
  if (job->bias) share.bias = cvc_at_const(job->bias, share.channel, d->bytes);
  run_rows(d, &share, line, cvc_min(line + d->block_rows, d->rows));
}

static int64_t enough_tasks(const cvc_conv_job *job) {
  return job->threads > 1 ? 4 * job->threads : 1;
}

/** Cut the target into tasks, enough of them for the threads. */
static void set_tasks(depthwise *d) {
  const int64_t enough = enough_tasks(d->job), columns = d->target_size[2];
  const int64_t row_bytes = columns * d->channels * d->bytes;
  d->block_rows = cvc_max(
      cvc_min(BLOCK_BYTES / row_bytes, cvc_ceil_div(d->rows, enough)), 1);
  d->row_blocks = cvc_ceil_div(d->rows, d->block_rows);
  const int64_t parts = cvc_min(cvc_max(cvc_ceil_div(row_bytes, BLOCK_BYTES),
                                        cvc_ceil_div(enough, d->row_blocks)),
                                cvc_ceil_div(columns, LEAST_COLUMNS));
  d->block_columns = cvc_round_up(cvc_ceil_div(columns, parts), d->steps[2]);
  d->column_blocks = cvc_ceil_div(columns, d->block_columns);
  d->splits = cvc_min(d->vectors,
                      cvc_ceil_div(enough, d->row_blocks * d->column_blocks));
}

static depthwise depthwise_of(const cvc_conv_job *job, cvc_pass pass) {
  const cvc_conv *conv = job->conv;
  const bool data = pass == CVC_BACKWARD_DATA;
  const cvc_kernels *kernels = cvc_kernels_of(conv->dtype);
  depthwise d = {
      .job = job,
      .pass = pass,
      .kernels = kernels,
      .source = data ? job->y : job->x,
      .target = pass == CVC_BACKWARD_WEIGHT ? (void *)job->y : job->target,
      .bytes = cvc_dtype_bytes(conv->dtype),
      .channels = conv->c,
      .vectors = cvc_max(conv->c / kernels->vector_length, 1),
      .workspace_bytes = carve(conv, pass, NULL, NULL),
      .panel_elements = panel_taps(conv, pass) * kernels->vector_length};
  int64_t out[3];
  cvc_conv_out(conv, out);
  for (int i = 0; i < 3; i++) {
    d.source_size[i] = data ? out[i] : conv->size[i];
    d.target_size[i] = data ? conv->size[i] : out[i];
    d.steps[i] = data ? cvc_min(conv->stride[i], conv->size[i]) : 1;
  }
  d.rows = conv->n * d.target_size[0] * d.target_size[1];
  return d;
}

/* ------------------------------------------------------- backward-weight */

/** Those of a granule from a panel on. */
static char *sums_of(const depthwise *d, int64_t granule, int64_t panel) {
  const int64_t panels = panels_of(d->job->conv);
  return cvc_at(d->sums, (granule * panels + panel) * d->panel_elements,
                d->bytes);
}

/** A range of vectors of one granule. The kernel's sums of a block of pixels
 * are added for some rows in the workspace, and those then for all: three
 * levels.
 */
static void weight_task(void *context, int64_t task, int thread) {
  const depthwise *d = context;
  const int64_t n = d->job->conv->n, lanes = d->kernels->vector_length;
  const int64_t granule = task / d->splits, split = task % d->splits;
  const int64_t first = split * d->vectors / d->splits;
  const workspace space = workspace_of(d, thread);
  share share = share_of(d, &space, 0, d->target_size[2], first,
                         (split + 1) * d->vectors / d->splits);
  const int64_t elements =
      cvc_ceil_div(share.columns, lanes) * d->panel_elements;
  share.weights = space.sums;
  if (d->job->db)
    share.bias = cvc_at(space.sums, d->panel_elements - lanes, d->bytes);
  char *sums = sums_of(d, granule, first);
  memset(sums, 0, (size_t)(elements * d->bytes));
  const int64_t image = d->target_size[0] * d->target_size[1];
  const int64_t end = cvc_granule_first(n, granule + 1) * image;
  const int64_t step = cvc_max(SUM_PIXELS / d->target_size[2], 1);
  for (int64_t row = cvc_granule_first(n, granule) * image; row < end;
       row += step) {
    memset(space.sums, 0, (size_t)(elements * d->bytes));
    run_rows(d, &share, row, cvc_min(row + step, end));
    d->kernels->add(elements, sums, space.sums, sums);
  }
}

/* dw[channel][tap] and db[channel] of one panel. */
#define UNPACK(REAL)                                                           \
  static void unpack_##REAL(const REAL *panel, int64_t lanes, int64_t first,   \
                            int64_t count, int64_t taps, REAL *dw, REAL *db) { \
    for (int64_t j = 0; j < count; j++) {                                      \
      for (int64_t tap = 0; tap < taps && dw; tap++)                           \
        dw[(first + j) * taps + tap] = panel[tap * lanes + j];                 \
      if (db) db[first + j] = panel[taps * lanes + j];                         \
    }                                                                          \
  }
UNPACK(float)
UNPACK(double)

/** Add the granules of a panel in a binary tree, and write it. */
static void reduce_task(void *context, int64_t panel, int thread) {
  (void)thread;
  const depthwise *d = context;
  const cvc_conv *conv = d->job->conv;
  const int64_t lanes = d->kernels->vector_length;
  const int64_t granules = cvc_granules(conv->n);
  for (int64_t step = 1; step < granules; step *= 2)
    for (int64_t g = 0; g + step < granules; g += 2 * step)
      d->kernels->add(d->panel_elements, sums_of(d, g, panel),
                      sums_of(d, g + step, panel), sums_of(d, g, panel));
  const int64_t first = cvc_max(cvc_min(panel * lanes, conv->c - lanes), 0);
  const int64_t count = cvc_min(lanes, conv->c);
  const int64_t taps = cvc_volume(conv->kernel);
  const void *sums = sums_of(d, 0, panel);
  if (conv->dtype == CVC_F32)
    unpack_float(sums, lanes, first, count, taps, d->job->target, d->job->db);
  else
    unpack_double(sums, lanes, first, count, taps, d->job->target, d->job->db);
}

static cvc_status backward_weight(const cvc_conv_job *job) {
  const cvc_conv *conv = job->conv;
  depthwise d = depthwise_of(job, CVC_BACKWARD_WEIGHT);
  d.sums = (char *)job->scratch + job->threads * d.workspace_bytes;
  const int64_t granules = cvc_granules(conv->n);
  const int64_t tasks =
      cvc_max(enough_tasks(job), array_bytes(&d) / TASK_BYTES);
  d.splits = cvc_min(d.vectors, cvc_ceil_div(tasks, granules));
  CVC_TRY(cvc_parallel(job->call, job->threads, granules * d.splits,
                       weight_task, &d));
  return cvc_parallel(job->call, 1, panels_of(conv), reduce_task, &d);
}

cvc_status cvc_depthwise_run(const cvc_conv_job *job, cvc_pass pass) {
  if (pass == CVC_BACKWARD_WEIGHT) return backward_weight(job);
  depthwise d = depthwise_of(job, pass);
  set_tasks(&d);
  const int64_t tasks = d.row_blocks * d.column_blocks * d.splits;
  return cvc_parallel(job->call, (int)cvc_min(job->threads, tasks), tasks,
                      depthwise_task, &d);
}
