/** The index arithmetic of a convolution: sizes, axes, regions. */
#include "conv.h"

static int64_t gcd(int64_t a, int64_t b) { return b ? gcd(b, a % b) : a; }

static int64_t floor_mod(int64_t a, int64_t b) { return ((a % b) + b) % b; }

static int64_t floor_div(int64_t a, int64_t b) {
  if (b == 1) return a; /* divisions are slow */
  return (a - floor_mod(a, b)) / b;
}

void cvc_conv_out(const cvc_conv *conv, int64_t out[3]) {
  for (int i = 0; i < 3; i++) {
    int64_t padded = conv->size[i] + conv->pad_before[i] + conv->pad_after[i];
    int64_t extent = conv->dilation[i] * (conv->kernel[i] - 1) + 1;
    out[i] = padded - extent + 1;
    if (conv->stride[i] > 1) /* divisions are slow */
      out[i] = (padded - extent) / conv->stride[i] + 1;
  }
}

int64_t cvc_conv_x_elements(const cvc_conv *conv) {
  return conv->n * conv->c * cvc_volume(conv->size);
}

int64_t cvc_conv_y_elements(const cvc_conv *conv) {
  int64_t out[3];
  cvc_conv_out(conv, out);
  return conv->n * conv->k * cvc_volume(out);
}

int64_t cvc_conv_y_stride(const cvc_conv *conv) {
  return conv->y_stride ? conv->y_stride : conv->k;
}

int64_t cvc_conv_y_extent(const cvc_conv *conv) {
  const int64_t elements = cvc_conv_y_elements(conv);
  return elements ? (elements / conv->k - 1) * cvc_conv_y_stride(conv) + conv->k
                  : 0;
}

int64_t cvc_conv_w_elements(const cvc_conv *conv) {
  return conv->k * (conv->c / conv->groups) * cvc_volume(conv->kernel);
}

bool cvc_is_depthwise(const cvc_conv *conv) {
  return conv->groups > 1 && conv->c == conv->groups && conv->k == conv->groups;
}

void cvc_tap_outputs(const cvc_conv *conv, int i, int64_t tap, int64_t *low,
                     int64_t *high) {
  int64_t out[3];
  cvc_conv_out(conv, out);
  const int64_t at = tap * conv->dilation[i] - conv->pad_before[i];
  const int64_t room = conv->size[i] - at; /* o*stride < room */
  *low = cvc_min(cvc_ceil_div(cvc_max(-at, 0), conv->stride[i]), out[i]);
  *high =
      room <= 0
          ? *low
          : cvc_max(*low, cvc_min(cvc_ceil_div(room, conv->stride[i]), out[i]));
}

cvc_axis cvc_axis_forward(const cvc_conv *conv, int i) {
  int64_t out[3];
  cvc_conv_out(conv, out);
  return (cvc_axis){.first = 0,
                    .step = 1,
                    .count = out[i],
                    .source_size = conv->size[i],
                    .source_step = conv->stride[i],
                    .taps = conv->kernel[i],
                    .offset = -conv->pad_before[i],
                    .offset_step = conv->dilation[i],
                    .tap = 0,
                    .tap_step = 1};
}

cvc_axis cvc_axis_backward(const cvc_conv *conv, int i, int64_t remainder) {
  /* dx[remainder + m*stride] takes dy[o] w[t] where
   *   o*stride = remainder + m*stride + pad - t*dilation.
   * The taps that leave no remainder are t0, t0 + period, ... */
  const int64_t stride = conv->stride[i], dilation = conv->dilation[i];
  const int64_t shift = remainder + conv->pad_before[i];
  const int64_t period = stride / gcd(dilation, stride);
  int64_t out[3], t0 = 0;
  cvc_conv_out(conv, out);
  while (t0 < period && floor_mod(shift - t0 * dilation, stride)) t0++;
  bool any = t0 < period && t0 < conv->kernel[i];
  return (cvc_axis){
      .first = remainder,
      .step = stride,
      .count = cvc_ceil_div(cvc_max(conv->size[i] - remainder, 0), stride),
      .source_size = out[i],
      .source_step = 1,
      .taps = any ? cvc_ceil_div(conv->kernel[i] - t0, period) : 0,
      .offset = any ? floor_div(shift - t0 * dilation, stride) : 0,
      .offset_step = any ? -(period * dilation / stride) : 1,
      .tap = t0,
      .tap_step = period};
}

/** Output i and its taps whose source lies inside: low..high-1. By fields, in
 * place: what copies a structure waits for the stores of its parts. */
static void set_region(const cvc_axis *axis, int64_t i, cvc_region *region) {
  const int64_t at = i * axis->source_step + axis->offset;
  const int64_t step = axis->offset_step;
  int64_t low, high; /* of 0 <= at + j*step < size */
  if (step > 0) {
    low = at < 0 ? cvc_ceil_div(-at, step) : 0;
    high = floor_div(axis->source_size - 1 - at, step) + 1;
  } else {
    low = cvc_ceil_div(cvc_max(at - axis->source_size + 1, 0), -step);
    high = floor_div(at, -step) + 1;
  }
  region->first = i;
  region->count = 1;
  region->low = cvc_min(low, axis->taps);
  region->high = cvc_max(region->low, cvc_min(high, axis->taps));
}

int64_t cvc_axis_regions(const cvc_axis *axis, int64_t begin, int64_t end,
                         cvc_region *regions) {
  int64_t regions_found = 0;
  for (int64_t i = begin; i < end;) {
    cvc_region *region = &regions[regions_found++];
    set_region(axis, i, region);
    /* Where every tap is valid the region ends at the last such output. */
    if (region->low == 0 && region->high == axis->taps && axis->taps) {
      int64_t reach = axis->offset_step > 0
                          ? axis->offset + (axis->taps - 1) * axis->offset_step
                          : axis->offset;
      int64_t last =
          floor_div(axis->source_size - 1 - reach, axis->source_step);
      region->count = cvc_max(cvc_min(last + 1, end) - i, 1);
    } else {
      for (; i + region->count < end; region->count++) {
        cvc_region next;
        set_region(axis, i + region->count, &next);
        if (next.low != region->low || next.high != region->high) break;
      }
    }
    i += region->count;
  }
  return regions_found;
}
