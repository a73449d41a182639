/** Weights in the order in which the tile kernel reads them. */
#include <math.h>
#include <string.h>

#include "conv.h"

#define MAGIC 0x50435643u /* "CVCP" */

enum { HEADER_BYTES = 64 };
_Static_assert(sizeof(cvc_packed) <= HEADER_BYTES, "header length");

/** Offset of a panel from the first one, in elements. */
static int64_t panel_offset(const cvc_conv *conv, cvc_pass pass, int64_t group,
                            int64_t panel) {
  const cvc_kernels *kernels = cvc_kernels_of(conv->dtype);
  const cvc_channels ch = cvc_conv_channels(conv, pass);
  const int64_t depth = ch.reduced * cvc_volume(conv->kernel);
  const int64_t width = cvc_round_up(ch.produced, kernels->vector_length);
  return depth * (group * width + panel * kernels->nr);
}

int64_t cvc_packed_elements(const cvc_conv *conv, cvc_pass pass) {
  return HEADER_BYTES / cvc_dtype_bytes(conv->dtype) +
         panel_offset(conv, pass, conv->groups, 0);
}

static cvc_packed header_of(const cvc_conv *conv, cvc_pass pass) {
  const cvc_channels ch = cvc_conv_channels(conv, pass);
  return (cvc_packed){.magic = MAGIC,
                      .format = CVC_FORMAT_PANELS,
                      .dtype = (uint16_t)conv->dtype,
                      .pass = (uint16_t)pass,
                      .nr = (uint16_t)cvc_kernels_of(conv->dtype)->nr,
                      .reduced = ch.reduced,
                      .produced = ch.produced,
                      .groups = ch.groups,
                      .taps = cvc_volume(conv->kernel)};
}

cvc_status cvc_check_packed(const cvc_conv *conv, cvc_pass pass,
                            const void *packed) {
  cvc_packed expected = header_of(conv, pass), found;
  memcpy(&found, packed, sizeof found);
  expected.all_finite = found.all_finite;
  return memcmp(&expected, &found, sizeof found) ? CVC_BAD_PACKING : CVC_OK;
}

const void *cvc_packed_panel(const cvc_conv *conv, cvc_pass pass,
                             const void *packed, int64_t group,
                             int64_t panel) {
  return cvc_at_const((const char *)packed + HEADER_BYTES,
                      panel_offset(conv, pass, group, panel),
                      cvc_dtype_bytes(conv->dtype));
}

typedef struct pack_job {
  const cvc_conv *conv;
  cvc_pass pass;
  const void *w;
  void *packed;
  int64_t panels;
  /* Strides of w, in elements. */
  int64_t group_stride, produced_stride, reduced_stride;
} pack_job;

/* panel[tap][reduced][width] = w; columns beyond `columns` are 0. Returns a
 * sum that is NaN if and only if a weight is not finite: x - x is 0 for
 * every finite x. */
#define PACK_PANEL(REAL)                                                      \
  static REAL pack_##REAL(const pack_job *p, const REAL *w, int64_t taps,     \
                          int64_t reduced, int64_t columns, int64_t width,    \
                          REAL *panel) {                                      \
    REAL zero = 0;                                                            \
    for (int64_t j = 0; j < columns; j++)                                     \
      for (int64_t c = 0; c < reduced; c++) {                                 \
        const REAL *from =                                                    \
            w + j * p->produced_stride + c * p->reduced_stride;               \
        for (int64_t tap = 0; tap < taps; tap++) {                            \
          panel[(tap * reduced + c) * width + j] = from[tap];                 \
          zero += from[tap] - from[tap];                                      \
        }                                                                     \
      }                                                                       \
    for (int64_t row = 0; row < taps * reduced; row++)                        \
      for (int64_t j = columns; j < width; j++) panel[row * width + j] = 0;   \
    return zero;                                                              \
  }
PACK_PANEL(float)
PACK_PANEL(double)

static void pack_task(void *context, int64_t task, int thread) {
  (void)thread;
  const pack_job *p = context;
  const cvc_conv *conv = p->conv;
  const cvc_kernels *kernels = cvc_kernels_of(conv->dtype);
  const cvc_channels ch = cvc_conv_channels(conv, p->pass);
  const int64_t group = task / p->panels, panel = task % p->panels;
  const int64_t width = cvc_panel_width(ch.produced, panel, kernels);
  const int64_t columns = cvc_min(width, ch.produced - panel * kernels->nr);
  const int64_t taps = cvc_volume(conv->kernel);
  const void *w =
      cvc_at_const(p->w,
                   group * p->group_stride +
                       panel * kernels->nr * p->produced_stride,
                   cvc_dtype_bytes(conv->dtype));
  void *to =
      (void *)cvc_packed_panel(conv, p->pass, p->packed, group, panel);
  double zero =
      conv->dtype == CVC_F32
          ? (double)pack_float(p, w, taps, ch.reduced, columns, width, to)
          : pack_double(p, w, taps, ch.reduced, columns, width, to);
  if (isnan(zero)) {
    const uint32_t no = 0; /* every task that writes it writes the same */
    __atomic_store(&((cvc_packed *)p->packed)->all_finite, &no,
                   __ATOMIC_RELAXED);
  }
}

cvc_status cvc_pack_panels(const cvc_conv *conv, cvc_pass pass, const void *w,
                           void *packed, const cvc_call *call) {
  const cvc_channels ch = cvc_conv_channels(conv, pass);
  const int64_t taps = cvc_volume(conv->kernel);
  const int64_t c = conv->c / conv->groups, k = conv->k / conv->groups;
  pack_job job = {.conv = conv,
                  .pass = pass,
                  .w = w,
                  .packed = packed,
                  .panels = cvc_panels(ch.produced, cvc_kernels_of(conv->dtype)),
                  .group_stride = k * c * taps,
                  .produced_stride = pass == CVC_FORWARD ? c * taps : taps,
                  .reduced_stride = pass == CVC_FORWARD ? taps : c * taps};
  cvc_packed header = header_of(conv, pass);
  header.all_finite = 1;
  memset(packed, 0, HEADER_BYTES);
  memcpy(packed, &header, sizeof header);
  const int64_t tasks = ch.groups * job.panels;
  const double work = 4.0 * (double)cvc_conv_w_elements(conv);
  return cvc_parallel(call, cvc_plan_threads(call, tasks, work), tasks,
                      pack_task, &job);
}
