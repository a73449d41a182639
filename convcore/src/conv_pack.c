/** Weights in the order in which the tile kernel reads them. */
#include <math.h>
#include <string.h>

#include "conv.h"

#define MAGIC 0x50435643u /* "CVCP" */

enum { HEADER_BYTES = 64 };
_Static_assert(sizeof(cvc_packed) <= HEADER_BYTES, "header length");

cvc_channels cvc_packed_channels(const cvc_conv *conv, cvc_pass pass,
                                 cvc_choice choice) {
  if (choice.depthwise)
    return (cvc_channels){.reduced = 1, .produced = conv->c, .groups = 1};
  return cvc_conv_channels(conv, pass);
}

/** Offset of a panel from the first one, in elements. */
static int64_t panel_offset(const cvc_conv *conv, cvc_pass pass,
                            cvc_choice choice, int64_t group, int64_t panel) {
  const cvc_kernels *kernels = cvc_kernels_of(conv->dtype);
  const cvc_channels ch = cvc_packed_channels(conv, pass, choice);
  const int64_t depth = ch.reduced * cvc_volume(conv->kernel);
  const int64_t width = cvc_round_up(ch.produced, kernels->vector_length);
  return depth * (group * width + panel * kernels->nr);
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
  if (choice.algorithm == CVC_WINOGRAD)
    elements += panel_offset(conv, pass, choice, conv->groups, 0) /
                cvc_volume(conv->kernel) * cvc_winograd_points(conv, choice.m);
  return elements;
}

static cvc_packed header_of(const cvc_conv *conv, cvc_pass pass,
                            cvc_choice choice) {
  const cvc_channels ch = cvc_packed_channels(conv, pass, choice);
  const int format = choice.algorithm == CVC_WINOGRAD
                         ? CVC_FORMAT_WINOGRAD + choice.m
                         : CVC_FORMAT_PANELS;
  return (cvc_packed){.magic = MAGIC,
                      .format = (uint16_t)format,
                      .dtype = (uint16_t)conv->dtype,
                      .pass = (uint16_t)pass,
                      .nr = (uint16_t)cvc_kernels_of(conv->dtype)->nr,
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

const void *cvc_packed_points(const cvc_conv *conv, cvc_pass pass,
                              cvc_choice choice, const void *packed) {
  return cvc_at_const((const char *)packed + HEADER_BYTES,
                      panels_elements(conv, pass, choice),
                      cvc_dtype_bytes(conv->dtype));
}

enum { PACK_CHANNELS = 32 }; /* reduced channels that one task packs */

typedef struct pack_job {
  const cvc_conv *conv;
  cvc_pass pass;
  cvc_choice choice;
  const void *w;
  void *packed;
  int64_t panels, parts; /* of a group; of a panel */
  /* Strides of w, in elements. */
  int64_t group_stride, produced_stride, reduced_stride;
} pack_job;

/* panel[tap][c][width] = w for c in [begin, end); columns beyond `columns`
 * are 0. Returns a sum that is NaN if and only if a weight is not finite:
 * x - x is 0 for every finite x. */
#define PACK_PANEL(REAL)                                                     \
  static bool pack_##REAL(const pack_job *p, const REAL *w, int64_t reduced, \
                          int64_t begin, int64_t end, int64_t columns,       \
                          int64_t width, REAL *panel) {                      \
    const int64_t taps = cvc_volume(p->conv->kernel);                        \
    REAL zero = 0;                                                           \
    for (int64_t c = begin; c < end; c++)                                    \
      for (int64_t tap = 0; tap < taps; tap++) {                             \
        const REAL *from = w + c * p->reduced_stride + tap;                  \
        REAL *to = panel + (tap * reduced + c) * width;                      \
        for (int64_t j = 0; j < columns; j++) {                              \
          to[j] = from[j * p->produced_stride];                              \
          zero += to[j] - to[j];                                             \
        }                                                                    \
        for (int64_t j = columns; j < width; j++) to[j] = 0;                 \
      }                                                                      \
    return isnan(zero);                                                      \
  }
PACK_PANEL(float)
PACK_PANEL(double)

static void pack_task(void *context, int64_t task, int thread) {
  (void)thread;
  const pack_job *p = context;
  const cvc_conv *conv = p->conv;
  const cvc_kernels *kernels = cvc_kernels_of(conv->dtype);
  const cvc_channels ch = cvc_packed_channels(conv, p->pass, p->choice);
  const int64_t begin = task % p->parts * PACK_CHANNELS;
  const int64_t end = cvc_min(begin + PACK_CHANNELS, ch.reduced);
  const int64_t panel = task / p->parts % p->panels;
  const int64_t group = task / p->parts / p->panels;
  const int64_t width = cvc_panel_width(ch.produced, panel, kernels);
  const int64_t columns = cvc_min(width, ch.produced - panel * kernels->nr);
  const void *w = cvc_at_const(
      p->w, group * p->group_stride + panel * kernels->nr * p->produced_stride,
      cvc_dtype_bytes(conv->dtype));
  void *to = (void *)cvc_packed_panel(conv, p->pass, p->choice, p->packed,
                                      group, panel);
  const bool not_finite =
      conv->dtype == CVC_F32
          ? pack_float(p, w, ch.reduced, begin, end, columns, width, to)
          : pack_double(p, w, ch.reduced, begin, end, columns, width, to);
  if (not_finite) {
    const uint32_t no = 0; /* every task that writes it writes the same */
    __atomic_store(&((cvc_packed *)p->packed)->all_finite, &no,
                   __ATOMIC_RELAXED);
  }
  if (p->choice.algorithm == CVC_WINOGRAD)
    cvc_winograd_pack(
        conv, p->pass, p->choice.m, group, panel, begin, end, p->w,
        (void *)cvc_packed_points(conv, p->pass, p->choice, p->packed));
}

cvc_status cvc_pack(const cvc_conv *conv, cvc_pass pass, cvc_choice choice,
                    const void *w, void *packed, const cvc_call *call) {
  const cvc_channels ch = cvc_packed_channels(conv, pass, choice);
  const int64_t taps = cvc_volume(conv->kernel);
  const int64_t c = conv->c / conv->groups, k = conv->k / conv->groups;
  pack_job job = {
      .conv = conv,
      .pass = pass,
      .choice = choice,
      .w = w,
      .packed = packed,
      .panels = cvc_panels(ch.produced, cvc_kernels_of(conv->dtype)),
      .parts = cvc_ceil_div(ch.reduced, PACK_CHANNELS),
      .group_stride = k * c * taps,
      .produced_stride = pass == CVC_FORWARD ? c * taps : taps,
      .reduced_stride = pass == CVC_FORWARD ? taps : c * taps};
  cvc_packed header = header_of(conv, pass, choice);
  header.all_finite = 1;
  memset(packed, 0, HEADER_BYTES);
  memcpy(packed, &header, sizeof header);
  const int64_t tasks = ch.groups * job.panels * job.parts;
  const double work = 8.0 * (double)cvc_packed_elements(conv, pass, choice);
  return cvc_parallel(call, cvc_plan_threads(call, tasks, work), tasks,
                      pack_task, &job);
}
