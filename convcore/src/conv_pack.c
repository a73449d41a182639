/** Weights in the order in which the tile kernel reads them. */
#include <string.h>

#include "conv.h"

#define MAGIC 0x50435643u /* "CVCP" */

enum { HEADER_BYTES = 64 };
_Static_assert(sizeof(cvc_packed) <= HEADER_BYTES, "header length");

/** im2col's gradient of x: those of a filter row's [s][c] are the channels that
 * it produces; each row is a group of its own. */
static bool gradient_columns(cvc_pass pass, cvc_choice choice) {
  return choice.algorithm == CVC_IM2COL && pass == CVC_BACKWARD_DATA;
}

cvc_channels cvc_packed_channels(const cvc_conv *conv, cvc_pass pass,
                                 cvc_choice choice) {
  if (choice.depthwise)
    return (cvc_channels){.reduced = 1, .produced = conv->c, .groups = 1};
  cvc_channels ch = cvc_conv_channels(conv, pass);
  if (gradient_columns(pass, choice)) {
    const int64_t units = cvc_gradient_units(conv);
    ch.produced *= cvc_volume(conv->kernel) / units;
    ch.groups *= units;
  }
  return ch;
}

static int64_t packed_taps(const cvc_conv *conv, cvc_pass pass,
                           cvc_choice choice) {
  return gradient_columns(pass, choice) ? 1 : cvc_volume(conv->kernel);
}

/** Columns of a full panel. */
static int64_t panel_columns(const cvc_conv *conv, cvc_choice choice) {
  const cvc_kernels *kernels = cvc_kernels_of(conv->dtype);
  return choice.depthwise ? kernels->vector_length : kernels->nr;
}

/** Offset of a panel from the first one, in elements. */
static int64_t panel_offset(const cvc_conv *conv, cvc_pass pass,
                            cvc_choice choice, int64_t group, int64_t panel) {
  const cvc_kernels *kernels = cvc_kernels_of(conv->dtype);
  const cvc_channels ch = cvc_packed_channels(conv, pass, choice);
  const int64_t depth = ch.reduced * packed_taps(conv, pass, choice);
  const int64_t width = cvc_round_up(ch.produced, kernels->vector_length);
  return depth * (group * width + panel * panel_columns(conv, choice));
}

/** All panels, rounded up to 64 bytes; in elements. */
static int64_t panels_elements(const cvc_conv *conv, cvc_pass pass,
                               cvc_choice choice) {
  const int64_t groups = cvc_packed_channels(conv, pass, choice).groups;
  return cvc_round_up(panel_offset(conv, pass, choice, groups, 0),
                      HEADER_BYTES / cvc_dtype_bytes(conv->dtype));
}

int64_t cvc_packed_elements(const cvc_conv *conv, cvc_pass pass,
                            cvc_choice choice) {
  int64_t elements = HEADER_BYTES / cvc_dtype_bytes(conv->dtype) +
                     panels_elements(conv, pass, choice);
  if (choice.planar || gradient_columns(pass, choice))
    elements += cvc_conv_w_elements(conv);
  if (choice.algorithm == CVC_WINOGRAD)
    elements += cvc_winograd_weights(conv, pass, choice.m);
  return elements;
}

static cvc_packed header_of(const cvc_conv *conv, cvc_pass pass,
                            cvc_choice choice) {
  const cvc_channels ch = cvc_packed_channels(conv, pass, choice);
  const int format = choice.algorithm == CVC_WINOGRAD
                         ? CVC_FORMAT_WINOGRAD + choice.m
                     : choice.planar                  ? CVC_FORMAT_PLANAR
                     : gradient_columns(pass, choice) ? CVC_FORMAT_COLUMNS
                                                      : CVC_FORMAT_PANELS;
  return (cvc_packed){.magic = MAGIC,
                      .format = (uint16_t)format,
                      .dtype = (uint16_t)conv->dtype,
                      .pass = (uint16_t)pass,
                      .nr = (uint16_t)panel_columns(conv, choice),
                      .reduced = ch.reduced,
                      .produced = ch.produced,
                      .groups = ch.groups,
                      .taps = cvc_volume(conv->kernel)};
}

cvc_status cvc_check_packed(const cvc_conv *conv, cvc_pass pass,
                            cvc_choice choice, const void *packed) {
  cvc_packed expected = header_of(conv, pass, choice), found;
  memcpy(&found, packed, sizeof found);
  expected.all_finite = found.all_finite;
  return memcmp(&expected, &found, sizeof found) ? CVC_BAD_PACKING : CVC_OK;
}

const void *cvc_packed_panel(const cvc_conv *conv, cvc_pass pass,
                             cvc_choice choice, const void *packed,
                             int64_t group, int64_t panel) {
  return cvc_at_const((const char *)packed + HEADER_BYTES,
                      panel_offset(conv, pass, choice, group, panel),
                      cvc_dtype_bytes(conv->dtype));
}

const void *cvc_packed_second(const cvc_conv *conv, cvc_pass pass,
                              cvc_choice choice, const void *packed) {
  return cvc_at_const((const char *)packed + HEADER_BYTES,
                      panels_elements(conv, pass, choice),
                      cvc_dtype_bytes(conv->dtype));
}

/* Reduced channels of a task; terms, which are taps of a channel, that are
 * brought into the order of the panels at a time. */
enum { TASK_CHANNELS = 32, TERMS = 144 };

typedef struct pack_job {
  const cvc_conv *conv;
  cvc_pass pass;
  cvc_choice choice;
  const void *w;
  void *packed;
  int64_t panels, parts; /* of a group; of a panel */
  int64_t taps;
  int64_t units; /* groups that are parts of a group of the convolution */
  /* Strides of w, in elements. */
  int64_t group_stride, unit_stride, produced_stride, reduced_stride;
} pack_job;

/** Where one panel's weights are read and written. */
typedef struct pack_panel {
  int64_t group, panel, columns, width, reduced;
  int64_t at; /* of w: its first element */
  const void *w;
  void *to; /* [tap][reduced][width] */
} pack_panel;

static pack_panel panel_at(const pack_job *p, int64_t group, int64_t panel) {
  const cvc_conv *conv = p->conv;
  const int64_t lanes = cvc_kernels_of(conv->dtype)->vector_length;
  const cvc_channels ch = cvc_packed_channels(conv, p->pass, p->choice);
  const int64_t full = panel_columns(conv, p->choice);
  int64_t first = panel * full;
  if (p->choice.depthwise)
    first = cvc_max(cvc_min(first, ch.produced - full), 0);
  const int64_t width = cvc_min(full, cvc_round_up(ch.produced - first, lanes));
  const int64_t at = group / p->units * p->group_stride +
                     group % p->units * p->unit_stride +
                     first * p->produced_stride;
  return (pack_panel){
      .group = group,
      .panel = panel,
      .columns = cvc_min(width, ch.produced - first),
      .width = width,
      .reduced = ch.reduced,
      .at = at,
      .w = cvc_at_const(p->w, at, cvc_dtype_bytes(conv->dtype)),
      .to = p->packed ? (void *)cvc_packed_panel(conv, p->pass, p->choice,
                                                 p->packed, group, panel)
                      : NULL};
}

/** `count` terms of a panel from number `first`, in the order (channel, tap).
 */
static void order_terms(const pack_job *p, const pack_panel *panel,
                        int64_t first, int64_t count, char *terms) {
  const int64_t bytes = cvc_dtype_bytes(p->conv->dtype);
  const int64_t row_bytes = panel->width * bytes;
  const cvc_kernels *kernels = cvc_kernels_of(p->conv->dtype);
  if (panel->columns < panel->width)
    memset(terms, 0, (size_t)(count * row_bytes));
  for (int64_t i = 0, side_by_side; i < count; i += side_by_side) {
    const int64_t c = (first + i) / p->taps, tap = (first + i) % p->taps;
    const void *w = cvc_at_const(panel->w, c * p->reduced_stride + tap, bytes);
    char *to = terms + i * row_bytes;
    side_by_side = cvc_min(p->taps - tap, count - i);
    if (p->produced_stride == 1) {
      memcpy(to, w, (size_t)(panel->columns * bytes));
      continue;
    }
    /* Forward, a column has the taps of all channels side by side. */
    if (p->reduced_stride == p->taps) side_by_side = count;
    kernels->transpose(panel->columns, side_by_side, w, p->produced_stride, to,
                       panel->width);
  }
}

static void pack_terms(const pack_job *p, const pack_panel *panel,
                       int64_t first, int64_t count) {
  const int64_t row_bytes = panel->width * cvc_dtype_bytes(p->conv->dtype);
  const cvc_kernels *kernels = cvc_kernels_of(p->conv->dtype);
  _Alignas(64) char buffer[TERMS * CVC_TERM_BYTES];
  order_terms(p, panel, first, count, buffer);
  if (!kernels->all_finite(count * panel->width, buffer)) {
    const uint32_t no = 0; /* every task that writes it writes the same */
    __atomic_store(&((cvc_packed *)p->packed)->all_finite, &no,
                   __ATOMIC_RELAXED);
  }
  for (int64_t i = 0; i < count; i++) {
    const int64_t tap = (first + i) % p->taps, c = (first + i) / p->taps;
    memcpy((char *)panel->to + (tap * panel->reduced + c) * row_bytes,
           buffer + i * row_bytes, (size_t)row_bytes);
  }
  if (p->choice.algorithm == CVC_WINOGRAD)
    cvc_winograd_pack(
        p->conv, p->pass, p->choice.m, panel->group, panel->panel,
        first / p->taps, count / p->taps, buffer,
        (void *)cvc_packed_second(p->conv, p->pass, p->choice, p->packed));
}

static void pack_task(void *context, int64_t task, int thread) {
  (void)thread;
  const pack_job *p = context;
  const pack_panel panel =
      panel_at(p, task / p->parts / p->panels, task / p->parts % p->panels);
  const int64_t begin = task % p->parts * TASK_CHANNELS;
  const int64_t end = cvc_min(begin + TASK_CHANNELS, panel.reduced);
  const int64_t most = p->taps < TERMS ? TERMS - TERMS % p->taps : TERMS;
  for (int64_t t = begin * p->taps; t < end * p->taps; t += most)
    pack_terms(p, &panel, t, cvc_min(most, end * p->taps - t));
}

static pack_job job_of(const cvc_conv *conv, cvc_pass pass, cvc_choice choice,
                       const void *w, void *packed) {
  const cvc_channels ch = cvc_packed_channels(conv, pass, choice);
  const int64_t taps = packed_taps(conv, pass, choice);
  const int64_t c = conv->c / conv->groups, k = conv->k / conv->groups;
  return (pack_job){
      .conv = conv,
      .pass = pass,
      .choice = choice,
      .w = w,
      .packed = packed,
      .panels = cvc_ceil_div(ch.produced, panel_columns(conv, choice)),
      .parts = cvc_ceil_div(ch.reduced, TASK_CHANNELS),
      .taps = taps,
      .units = 1,
      .group_stride = k * c * taps,
      .produced_stride = pass == CVC_FORWARD ? c * taps : taps,
      .reduced_stride = pass == CVC_FORWARD ? taps : c * taps};
}

void cvc_panel_filters(const cvc_conv *conv, cvc_pass pass, cvc_choice choice,
                       const void *w, int64_t group, int64_t panel, int64_t c,
                       int64_t count, void *filters) {
  const pack_job job = job_of(conv, pass, choice, w, NULL); /* reads only */
  const pack_panel at = panel_at(&job, group, panel);
  order_terms(&job, &at, c * job.taps, count * job.taps, filters);
}

cvc_memory_rows cvc_filter_rows(const cvc_conv *conv, cvc_pass pass,
                                cvc_choice choice, const void *w, int64_t group,
                                int64_t panel, int64_t c, int64_t count) {
  const pack_job job = job_of(conv, pass, choice, w, NULL);
  const pack_panel at = panel_at(&job, group, panel);
  const int64_t bytes = cvc_dtype_bytes(conv->dtype);
  const bool forward = pass == CVC_FORWARD;
  return (cvc_memory_rows){
      .at = cvc_at_const(at.w, c * job.reduced_stride, bytes),
      .rows = forward ? at.columns : count,
      .step = (forward ? job.produced_stride : job.reduced_stride) * bytes,
      .bytes = (forward ? count : at.columns) * job.taps * bytes};
}

void cvc_unpack(const cvc_conv *conv, cvc_choice choice, const void *packed,
                void *w) {
  const pack_job job = job_of(conv, CVC_FORWARD, choice, w, (void *)packed);
  const int64_t bytes = cvc_dtype_bytes(conv->dtype);
  const int64_t groups = cvc_packed_channels(conv, CVC_FORWARD, choice).groups;
  for (int64_t i = 0; i < groups * job.panels; i++) {
    const pack_panel panel = panel_at(&job, i / job.panels, i % job.panels);
    for (int64_t term = 0; term < panel.reduced * job.taps; term++) {
      const int64_t c = term % panel.reduced, tap = term / panel.reduced;
      const char *row = (const char *)panel.to + term * panel.width * bytes;
      char *to = cvc_at(w, panel.at + c * job.reduced_stride + tap, bytes);
      for (int64_t k = 0; k < panel.columns; k++)
        memcpy(to + k * job.produced_stride * bytes, row + k * bytes,
               (size_t)bytes);
    }
  }
}

cvc_status cvc_pack(const cvc_conv *conv, cvc_pass pass, cvc_choice choice,
                    const void *w, void *packed, const cvc_call *call) {
  const cvc_channels ch = cvc_packed_channels(conv, pass, choice);
  const int64_t c = conv->c / conv->groups, k = conv->k / conv->groups;
  pack_job job = job_of(conv, pass, choice, w, packed);
  cvc_packed header = header_of(conv, pass, choice);
  header.all_finite = 1;
  memset(packed, 0, HEADER_BYTES);
  memcpy(packed, &header, sizeof header);
  if (choice.planar)
    memcpy((void *)cvc_packed_second(conv, pass, choice, packed), w,
           (size_t)(cvc_conv_w_elements(conv) * cvc_dtype_bytes(conv->dtype)));
  if (gradient_columns(pass, choice)) {
    void *by_tap = (void *)cvc_packed_second(conv, pass, choice, packed);
    CVC_TRY(cvc_transpose(conv->dtype, conv->k, c, cvc_volume(conv->kernel), w,
                          by_tap, call));
    job.w = by_tap;
    job.units = cvc_gradient_units(conv);
    job.unit_stride = ch.produced;
    job.reduced_stride = job.units * ch.produced;
    job.group_stride = k * job.reduced_stride;
  }
  const int64_t tasks = ch.groups * job.panels * job.parts;
  const double work =
      CVC_ELEMENT_WORK / 2.0 * (double)cvc_packed_elements(conv, pass, choice);
  return cvc_parallel(call, cvc_plan_threads(call, tasks, work), tasks,
                      pack_task, &job);
}
