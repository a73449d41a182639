/**
 * Which algorithm a convolution runs: the one that a model of its cost
 * predicts to be fastest. A pure function of descriptor and ISA.
 *
 * Costs are in cycles of one thread. The units are vector operations, so one
 * set of constants serves every ISA; docs/design/0003 has the measurements
 * behind them.
 */
#include "conv.h"

#define FMAS_PER_CYCLE 2.0
/* Part of that rate which the tile kernel reaches on long and on short
 * products, and on Winograd's, whose operands come from further away. */
#define DIRECT_RATE 0.95
#define WINOGRAD_RATE 0.85
#define PLANAR_RATE 0.8  /* its vectors are not aligned */
#define COLUMNS_RATE 0.8 /* of im2col's gradient, whose sums are short */
#define DOTS_RATE 0.8    /* and those of linear choices: forward, backward */
#define PRODUCT_RATE 0.85
/* Cycles to add the lanes of a vector of sums. */
#define TOTALS_CYCLES 60.0
/* Cycles per tile: a call, the epilogue of its rows. */
#define TILE_OVERHEAD 40.0
/* Cycles to set up a region of equal taps; cycles per term of the sums of one
 * at a corner. */
#define REGION_CYCLES 60.0
#define CORNER_CYCLES 1.5
/* Cycles to store a row whose last vector is not full. */
#define TAIL_CYCLES 25.0
/* Cycles per point and vector of channels of the two transforms. */
#define INPUT_CYCLES 4.0
#define OUTPUT_CYCLES 3.0
/* Of each per tile, where the channels fill no vector. */
#define FEW_INPUT_CYCLES 200.0
#define FEW_OUTPUT_CYCLES 600.0
/* Of the gradient of weights: cycles per element to add and store the direct
 * algorithm's parts, and per point and vector to transform Winograd's sums. */
#define WEIGHT_CYCLES 2.5
#define STORE_CYCLES 8.0
/* Bytes that stay in the second-level cache, and bytes per cycle at which what
 * does not arrives, requested early, from beyond. */
#define CACHE_BYTES (1024 * 1024)
#define STREAM_RATE 12.0
/* Cycles for a run of the reduction. */
#define RUN_CYCLES 6.0
/* Cycles for a weight that comes in alone. */
#define FAR_CYCLES 2.0
/* Cycles to begin a plane. */
#define PLANE_CYCLES 50.0
/* Moving a pixel's vector of channels to their planes, or back. */
#define SQUARE_CYCLES 5.0
/* Moving a row of pixels of one channel, cycles per element. */
#define ROW_CYCLES 0.25
/* One that are not side by side. */
#define STEP_CYCLES 1.0
/* Adding a vector of a row's products to dx. */
#define ADD_CYCLES 2.0
/* Converting a whole array between layouts, cycles per element. */
#define CONVERT_CYCLES 0.5
/* Packing, cycles per vector of weights: moving, bringing in order alone, and
 * Winograd's transform. */
#define PACK_CYCLES 18.0
#define ORDER_CYCLES 6.0
#define FILTER_CYCLES 6.0

/** Winograd tiles that exist, for filters of r taps on both axes (or on w
 * alone), with the class of their error. Of a strided filter every stride-th
 * tap counts, but of one that is split. */
enum { SPLIT = 0 };
static const struct {
  int64_t r;
  int m;
  cvc_precision precision;
} tiles[] = {
    {3, 4, CVC_HIGHEST}, {3, 2, CVC_HIGHEST}, {5, 2, CVC_HIGHEST},
    {4, 3, CVC_HIGHEST}, {5, 4, CVC_HIGH},    {SPLIT, 5, CVC_HIGHEST},
};
enum { TILES = sizeof tiles / sizeof tiles[0] };

/** 3x3 taps and stride 2, which have split lines. The gradient of x begins with
 * the middle tap's element, as one pixel of padding has it. */
static bool split_fits(const cvc_conv *conv, cvc_pass pass) {
  for (int axis = 1; axis < 3; axis++) {
    if (conv->kernel[axis] != 3 || conv->stride[axis] != 2) return false;
    if (pass == CVC_BACKWARD_DATA && conv->pad_before[axis] % 2 == 0)
      return false;
  }
  return true;
}

/** Tile `i` can do this convolution. */
static bool tile_fits(const cvc_conv *conv, cvc_pass pass, int i) {
  const int64_t *kernel = conv->kernel, *stride = conv->stride;
  const bool strided = stride[1] > 1 || stride[2] > 1;
  if (conv->size[0] != 1 || kernel[0] != 1) return false;
  for (int axis = 0; axis < 3; axis++)
    if (conv->dilation[axis] != 1) return false;
  if (conv->pad_before[0] || conv->pad_after[0] || stride[0] != 1) return false;
  if (tiles[i].precision > conv->precision) return false;
  if (tiles[i].r == SPLIT) return split_fits(conv, pass);
  if (strided && (pass != CVC_FORWARD || conv->groups > 1)) return false;
  /* Kernels for gradients exist for 3 and 5 taps. */
  if (pass != CVC_FORWARD && tiles[i].r % 2 == 0) return false;
  if (cvc_ceil_div(kernel[2], stride[2]) != tiles[i].r) return false;
  /* Kernels exist for lines of 6 points: F(4, 3) and F(2, 5). */
  if (kernel[1] == 1)
    return !strided && tiles[i].r % 2 && tiles[i].r + tiles[i].m - 1 == 6;
  return cvc_ceil_div(kernel[1], stride[1]) == tiles[i].r;
}

static double larger(double a, double b) { return a > b ? a : b; }

/** Vectors that hold the channels. */
static double vectors(const cvc_conv *conv, int64_t channels) {
  const int64_t length = cvc_kernels_of(conv->dtype)->vector_length;
  return (double)cvc_ceil_div(channels, length);
}

/** Cycles to multiply `rows` rows with a matrix of this depth. */
static double product_cycles(const cvc_conv *conv, double rows, double depth,
                             int64_t columns, double rate) {
  const cvc_kernels *kernels = cvc_kernels_of(conv->dtype);
  const double panels = (double)cvc_panels(columns, kernels);
  return rows * depth * vectors(conv, columns) / (FMAS_PER_CYCLE * rate) +
         rows / kernels->mr * panels * TILE_OVERHEAD +
         (columns % kernels->vector_length ? rows * TAIL_CYCLES : 0);
}

/** Bytes of weights that stream in again for every block. */
static double stream_cycles(double bytes, double blocks) {
  return blocks * larger(bytes - CACHE_BYTES, 0) / STREAM_RATE;
}

/** Channels-first arrays are converted, x and y. */
static double convert_cycles(const cvc_conv *conv) {
  int64_t out[3];
  cvc_conv_out(conv, out);
  double elements = 0;
  if (conv->layout == CVC_CHANNELS_LAST) return 0;
  if (conv->c > 1) elements += (double)cvc_conv_x_elements(conv);
  if (conv->k > 1) elements += (double)cvc_conv_y_elements(conv);
  return CONVERT_CYCLES * elements;
}

static double planar_cycles(const cvc_conv *conv, cvc_pass pass) {
  const cvc_kernels *kernels = cvc_kernels_of(conv->dtype);
  const cvc_channels ch = cvc_conv_channels(conv, pass);
  const double groups = (double)ch.groups, reduced = (double)ch.reduced;
  const double tiles = (double)cvc_ceil_div(ch.produced, kernels->mr);
  const cvc_planar_work work = cvc_planar_work_of(conv, pass);
  /* Two vectors a row; below four rows the chain of sums is the limit. */
  const bool line =
      cvc_volume(conv->kernel) == 1 && conv->stride[1] * conv->stride[2] == 1;
  const double rate = line ? DIRECT_RATE : PLANAR_RATE;
  const double term =
      larger((double)ch.produced / tiles, 4) * 2 / FMAS_PER_CYCLE / rate;
  /* A run is one tap's channels, or those taps of a row that are more. */
  const double run = larger(reduced, (double)conv->kernel[2]);
  /* The gradient takes weights that are far from one another: those that the
   * second level does not keep come in one by one, for each image. */
  const int64_t bytes = cvc_dtype_bytes(conv->dtype);
  const double far =
      pass == CVC_BACKWARD_DATA
          ? larger((double)(cvc_conv_w_elements(conv) - CACHE_BYTES / bytes), 0)
          : 0;
  const double cycles =
      (double)conv->n * far * FAR_CYCLES + PLANE_CYCLES * work.planes +
      groups / kernels->nr * tiles *
          (work.products * reduced * (term + RUN_CYCLES / run) +
           work.columns * TILE_OVERHEAD);
  const bool strided = pass == CVC_FORWARD && conv->stride[2] > 1;
  const bool squares = conv->layout == CVC_CHANNELS_LAST;
  const double copy = squares && ch.reduced * ch.groups > 1
                          ? SQUARE_CYCLES * vectors(conv, ch.reduced) / reduced
                          : (strided ? STEP_CYCLES : ROW_CYCLES);
  const double move =
      squares && ch.produced * ch.groups > 1
          ? SQUARE_CYCLES * vectors(conv, ch.produced) / (double)ch.produced
          : STEP_CYCLES;
  return cycles + work.copied * copy + work.moved * move;
}

/** im2col's gradient of x: every output's row of dy times the taps of a filter
 * row, added to their places. */
static double gradient_columns_cycles(const cvc_conv *conv, cvc_pass pass) {
  const cvc_channels ch = cvc_conv_channels(conv, pass);
  const int64_t units = cvc_gradient_units(conv);
  const int64_t columns = ch.produced * cvc_volume(conv->kernel) / units;
  const double outputs = (double)cvc_conv_y_elements(conv) / (double)conv->k;
  const double rows = outputs * (double)units;
  double cycles =
      product_cycles(conv, rows, (double)ch.reduced, columns, COLUMNS_RATE) +
      rows * ADD_CYCLES * vectors(conv, columns);
  if (conv->weights == CVC_WEIGHTS_PLAIN)
    cycles +=
        PACK_CYCLES * (double)(units * ch.reduced) * vectors(conv, columns);
  return cycles + convert_cycles(conv);
}

/** Regions of outputs along an axis: the inner one and those at its ends. */
static double axis_regions(const cvc_conv *conv, cvc_pass pass, int i) {
  int64_t out[3], first = 0, last;
  cvc_conv_out(conv, out);
  const int64_t extent = conv->dilation[i] * (conv->kernel[i] - 1);
  last = out[i];
  for (int64_t tap = 0; tap < conv->kernel[i]; tap++) {
    int64_t low, high;
    cvc_tap_outputs(conv, i, tap, &low, &high);
    first = cvc_max(first, low);
    last = cvc_min(last, high);
  }
  int64_t edges = out[i] - cvc_max(last - first, 0);
  if (pass == CVC_BACKWARD_DATA)
    edges = conv->size[i] - cvc_max(out[i] * conv->stride[i] - extent, 0);
  return 1 + (double)cvc_max(0, cvc_min(edges, 2 * (conv->kernel[i] - 1)));
}

static double direct_cycles(const cvc_conv *conv, cvc_pass pass) {
  const cvc_channels ch = cvc_conv_channels(conv, pass);
  const double groups = (double)ch.groups;
  double taps = (double)conv->n; /* valid ones of all outputs */
  for (int i = 0; i < 3; i++) {
    int64_t sum = 0;
    for (int64_t tap = 0; tap < conv->kernel[i]; tap++) {
      int64_t low, high;
      cvc_tap_outputs(conv, i, tap, &low, &high);
      sum += high - low;
    }
    taps *= (double)sum;
  }
  const double all_taps = (double)cvc_volume(conv->kernel);
  const double weights =
      all_taps * (double)ch.reduced * groups * vectors(conv, ch.produced);
  const double vector_bytes =
      (double)(cvc_kernels_of(conv->dtype)->vector_length *
               cvc_dtype_bytes(conv->dtype));
  const double depth = all_taps * (double)ch.reduced;
  double cycles = larger(groups * product_cycles(conv, taps / all_taps, depth,
                                                 ch.produced, DIRECT_RATE),
                         stream_cycles(weights * vector_bytes, 1));
  /* Regions of outputs with the same valid taps; those at the corners have a
   * pixel or few, whose sums are one chain. */
  const double rows = axis_regions(conv, pass, 1);
  const double columns = axis_regions(conv, pass, 2);
  const double panels =
      (double)cvc_panels(ch.produced, cvc_kernels_of(conv->dtype));
  const double spread = /* of the taps over the pixels of x */
      pass == CVC_BACKWARD_DATA
          ? (double)(conv->stride[0] * conv->stride[1] * conv->stride[2])
          : 1;
  cycles += groups * panels * (double)conv->n *
            (rows * columns * REGION_CYCLES +
             (rows - 1) * (columns - 1) * CORNER_CYCLES * depth / spread);
  if (conv->weights == CVC_WEIGHTS_PLAIN) cycles += PACK_CYCLES * weights;
  return cycles + convert_cycles(conv);
}

static double winograd_cycles(const cvc_conv *conv, cvc_pass pass, int m) {
  const cvc_channels ch = cvc_conv_channels(conv, pass);
  const cvc_winograd_size size = cvc_winograd_sizes(conv, pass, m);
  const int64_t lanes = cvc_kernels_of(conv->dtype)->vector_length;
  const double groups = (double)ch.groups, points = (double)size.points;
  const double tiles = (double)size.tiles, depth = (double)size.depth;
  const double weights =
      (double)size.weights * depth * groups * vectors(conv, ch.produced);
  const double vector_bytes = (double)(lanes * cvc_dtype_bytes(conv->dtype));
  const int64_t whole = cvc_round_up(ch.produced, lanes); /* m's rows */
  double cycles =
      larger(groups * points *
                 product_cycles(conv, size.products / points, depth, whole,
                                WINOGRAD_RATE),
             stream_cycles(weights * vector_bytes, (double)size.blocks));
  const double inputs =
      depth / (double)size.channels; /* transforms of a tile */
  cycles += tiles * groups * points *
            (INPUT_CYCLES * inputs * vectors(conv, size.channels) +
             OUTPUT_CYCLES * vectors(conv, ch.produced));
  const double few = (size.channels < lanes ? inputs * FEW_INPUT_CYCLES : 0) +
                     (ch.produced < lanes ? FEW_OUTPUT_CYCLES : 0);
  cycles += tiles * groups * few;
  if (conv->weights == CVC_WEIGHTS_PLAIN)
    cycles += FILTER_CYCLES * weights +
              (cvc_winograd_plain(conv, pass, m) ? ORDER_CYCLES : PACK_CYCLES) *
                  groups * (double)ch.reduced * vectors(conv, ch.produced) *
                  (double)cvc_volume(conv->kernel);
  return cycles + convert_cycles(conv);
}

/** Products with the weights as they are. */
static double linear_cycles(const cvc_conv *conv, cvc_pass pass) {
  const double pixels = (double)cvc_linear_pixels(conv);
  const double k = (double)conv->k;
  const int64_t c = cvc_linear_channels(conv);
  const double bytes =
      (double)(cvc_conv_w_elements(conv) * cvc_dtype_bytes(conv->dtype));
  double cycles = c == conv->c ? convert_cycles(conv) : 0;
  if (pass == CVC_FORWARD)
    cycles += pixels * k * vectors(conv, c) / (FMAS_PER_CYCLE * DOTS_RATE) +
              pixels * vectors(conv, conv->k) * TOTALS_CYCLES;
  else if (pass == CVC_BACKWARD_DATA)
    cycles += product_cycles(conv, pixels, k, c, PRODUCT_RATE);
  else
    cycles += product_cycles(conv, k, pixels, c, PRODUCT_RATE);
  return larger(cycles, stream_cycles(bytes, 1));
}

/** The gradient of weights: pixels are what is summed over. */
static double weight_cycles(const cvc_conv *conv) {
  const cvc_channels ch = cvc_conv_channels(conv, CVC_FORWARD);
  const double taps = (double)cvc_volume(conv->kernel);
  const double pixels = (double)cvc_conv_y_elements(conv) / (double)conv->k;
  return (double)ch.groups * product_cycles(conv, taps * (double)ch.reduced,
                                            pixels, ch.produced, DIRECT_RATE) +
         WEIGHT_CYCLES * (double)cvc_conv_w_elements(conv) +
         convert_cycles(conv);
}

static double planes_weight_cycles(const cvc_conv *conv) {
  const cvc_planes_work work = cvc_weight_planes_work(conv);
  const double lanes = (double)cvc_kernels_of(conv->dtype)->vector_length;
  return work.products / lanes / (FMAS_PER_CYCLE * DOTS_RATE) +
         work.totals * TOTALS_CYCLES + work.copied * ROW_CYCLES;
}

static double winograd_weight_cycles(const cvc_conv *conv, int m) {
  const cvc_channels ch = cvc_conv_channels(conv, CVC_FORWARD);
  const cvc_winograd_size size = cvc_winograd_sizes(conv, CVC_FORWARD, m);
  const double points = (double)size.points, tiles = (double)size.tiles;
  const double product =
      product_cycles(conv, (double)ch.produced, size.products / points,
                     ch.reduced, WINOGRAD_RATE);
  const double transforms =
      tiles * (INPUT_CYCLES * vectors(conv, ch.reduced) +
               OUTPUT_CYCLES * vectors(conv, ch.produced)) +
      (double)ch.produced * vectors(conv, ch.reduced) * STORE_CYCLES;
  return (double)ch.groups * points * (product + transforms) +
         convert_cycles(conv);
}

/** A way to run a pass, and what the model predicts for it. */
typedef struct option {
  cvc_choice choice;
  double cycles;
} option;

/** Every way to run a pass that the algorithm named by the descriptor allows;
 * CVC_AUTO allows all. */
static int options_of(const cvc_conv *conv, cvc_pass pass, option *options) {
  const cvc_algorithm named = conv->algorithm;
  int count = 0;
  if (named == CVC_IM2COL) {
    options[count++] = (option){.choice = {.algorithm = CVC_IM2COL}};
    return count;
  }
  if (named != CVC_WINOGRAD) {
    const bool depthwise = cvc_is_depthwise(conv);
    options[count++] =
        (option){{.algorithm = CVC_DIRECT, .depthwise = depthwise},
                 pass == CVC_BACKWARD_WEIGHT ? weight_cycles(conv)
                                             : direct_cycles(conv, pass)};
    if (depthwise) return count;
    if (cvc_linear_fits(conv, pass))
      options[count++] = (option){{.algorithm = CVC_DIRECT, .linear = true},
                                  linear_cycles(conv, pass)};
    if (pass == CVC_BACKWARD_WEIGHT && cvc_weight_planes_fits(conv))
      options[count++] = (option){{.algorithm = CVC_DIRECT, .planar = true},
                                  planes_weight_cycles(conv)};
    if (pass != CVC_BACKWARD_WEIGHT && cvc_planar_fits(conv, pass))
      options[count++] = (option){{.algorithm = CVC_DIRECT, .planar = true},
                                  planar_cycles(conv, pass)};
  }
  /* Where direct fills a small part of its vectors or of its tiles: few
   * channels of x, small images. */
  if (named == CVC_AUTO && pass == CVC_BACKWARD_DATA && conv->groups == 1 &&
      conv->dilation[2] == 1 && cvc_volume(conv->kernel) > 1)
    options[count++] = (option){{.algorithm = CVC_IM2COL},
                                gradient_columns_cycles(conv, pass)};
  /* float64 is for checking: the definition's own sums. */
  if (named == CVC_DIRECT || (named == CVC_AUTO && conv->dtype == CVC_F64))
    return count;
  for (int i = 0; i < TILES; i++)
    if (tile_fits(conv, pass, i))
      options[count++] =
          (option){{.algorithm = CVC_WINOGRAD, .m = tiles[i].m},
                   pass == CVC_BACKWARD_WEIGHT
                       ? winograd_weight_cycles(conv, tiles[i].m)
                       : winograd_cycles(conv, pass, tiles[i].m)};
  return count;
}

cvc_status cvc_choose(const cvc_conv *conv, cvc_pass pass, cvc_choice *choice) {
  option options[CVC_MAX_CANDIDATES];
  const int count = options_of(conv, pass, options);
  if (!count) return CVC_UNSUPPORTED;
  int best = 0;
  for (int i = 1; i < count; i++)
    if (options[i].cycles < options[best].cycles) best = i;
  *choice = options[best].choice;
  return CVC_OK;
}

cvc_status cvc_conv_explain(const cvc_conv *conv, cvc_pass pass,
                            cvc_candidate candidates[CVC_MAX_CANDIDATES],
                            int *count) {
  int64_t out[3];
  CVC_TRY(cvc_conv_output_size(conv, out));
  if (!candidates || !count) return CVC_BAD_ARGUMENT;
  if (pass < CVC_FORWARD || pass > CVC_BACKWARD_WEIGHT) return CVC_BAD_ARGUMENT;
  option options[CVC_MAX_CANDIDATES];
  *count = options_of(conv, pass, options);
  if (!*count) return CVC_UNSUPPORTED;
  for (int i = 0; i < *count; i++)
    candidates[i] = (cvc_candidate){.algorithm = options[i].choice.algorithm,
                                    .planar = options[i].choice.planar,
                                    .linear = options[i].choice.linear,
                                    .tile = options[i].choice.m,
                                    .cycles = options[i].cycles};
  for (int i = 1; i < *count; i++) /* few: by insertion */
    for (int j = i; j > 0 && candidates[j].cycles < candidates[j - 1].cycles;
         j--) {
      const cvc_candidate swap = candidates[j];
      candidates[j] = candidates[j - 1];
      candidates[j - 1] = swap;
    }
  return CVC_OK;
}
