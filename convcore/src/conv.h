/**
 * What the convolution files share: the geometry of one correlation, packed
 * weights and the algorithms. All of them work on channels-last arrays;
 * conv.c converts.
 */
#ifndef CVC_CONV_H
#define CVC_CONV_H

#include "internal.h"

/**
 * One axis of a correlation. Its output i, i < count, lies at
 * first + i*step of the target and takes tap j, j < taps, from
 *   source index   i*source_step + offset + j*offset_step, if inside,
 *   filter index   tap + j*tap_step.
 * A forward pass is one such axis, the gradient of a strided convolution one
 * for each remainder of the target index modulo the stride.
 */
typedef struct cvc_axis {
  int64_t first, step, count;
  int64_t source_size, source_step;
  int64_t taps, offset, offset_step, tap, tap_step;
} cvc_axis;

/** Outputs first..first+count-1 of an axis, all with taps low..high-1. */
typedef struct cvc_region {
  int64_t first, count, low, high;
} cvc_region;

/** The regions of outputs begin..end-1, in order; their number. At most
 * 2*taps + 1 are written. */
int64_t cvc_axis_regions(const cvc_axis *axis, int64_t begin, int64_t end,
                         cvc_region *regions);

/** Outputs low..high-1 of axis `i` are those whose `tap` lies inside x. */
void cvc_tap_outputs(const cvc_conv *conv, int i, int64_t tap, int64_t *low,
                     int64_t *high);

/** Forward axis `i` of a convolution. */
cvc_axis cvc_axis_forward(const cvc_conv *conv, int i);

/** Axis `i` of the gradient with respect to x, for target indices that are
 * `remainder` modulo the stride. */
cvc_axis cvc_axis_backward(const cvc_conv *conv, int i, int64_t remainder);

/** The channels of one pass: reduced over and produced, per group. */
typedef struct cvc_channels {
  int64_t reduced, produced, groups;
} cvc_channels;

/** Inline, since small convolutions ask often; divisions are slow. */
static inline cvc_channels cvc_conv_channels(const cvc_conv *conv,
                                             cvc_pass pass) {
  const int64_t groups = conv->groups;
  const int64_t c = groups > 1 ? conv->c / groups : conv->c;
  const int64_t k = groups > 1 ? conv->k / groups : conv->k;
  return pass == CVC_FORWARD ? (cvc_channels){c, k, groups}
                             : (cvc_channels){k, c, groups};
}

/** Every channel is a group of its own. */
bool cvc_is_depthwise(const cvc_conv *conv);

/** Elements of x, y, w; the descriptor has been checked. */
int64_t cvc_conv_x_elements(const cvc_conv *conv);
int64_t cvc_conv_y_elements(const cvc_conv *conv);
int64_t cvc_conv_w_elements(const cvc_conv *conv);

/** Elements from a pixel of y to the next, of channels-last arrays; from the
 * first of y to behind its last. */
int64_t cvc_conv_y_stride(const cvc_conv *conv);
int64_t cvc_conv_y_extent(const cvc_conv *conv);

/** Operations of a pass, counting what memory takes. */
double cvc_conv_work(const cvc_conv *conv);

/** What a pass applies to its results. */
static inline cvc_activation cvc_conv_activation(const cvc_conv *conv,
                                                 cvc_pass pass) {
  return pass == CVC_FORWARD ? conv->activation : CVC_ACTIVATION_NONE;
}

/** Output size of a checked descriptor. */
void cvc_conv_out(const cvc_conv *conv, int64_t out[3]);

/* ----------------------------------------------------- conv_choose.c */

/** What a pass will run: an algorithm, and for Winograd its F(m, r). */
typedef struct cvc_choice {
  cvc_algorithm algorithm;
  bool depthwise; /* direct, one input channel for each output channel */
  bool planar;    /* direct, vectors along the pixels of a channel */
  bool linear;    /* direct, a product with the weights as they are */
  int m; /* outputs of a tile along an axis of more than one filter tap */
} cvc_choice;

/** CVC_AUTO resolved; CVC_UNSUPPORTED when the one named cannot do it. The
 * descriptor has been checked. */
cvc_status cvc_choose(const cvc_conv *conv, cvc_pass pass, cvc_choice *choice);

/* ------------------------------------------------------- conv_pack.c */

/** Produced channels are packed in panels of `nr`, the last one as wide as
 * it needs to be, in whole vectors. Depthwise they are packed in panels of one
 * vector, the last of which has the last channels, if there are so many. */
static inline int64_t cvc_panels(int64_t produced, const cvc_kernels *kernels) {
  return cvc_ceil_div(produced, kernels->nr);
}
static inline int64_t cvc_panel_width(int64_t produced, int64_t panel,
                                      const cvc_kernels *kernels) {
  int64_t rest = produced - panel * kernels->nr;
  return cvc_min(kernels->nr, cvc_round_up(rest, kernels->vector_length));
}

/**
 * Packed weights: this header, 64 bytes long, then
 *   panels[group][panel][tap][reduced][width]
 * and, beginning at the next multiple of 64 bytes, a second part:
 *   u[group][panel][point][reduced][width]      for Winograd,
 *   w as it was given                           for planar convolution,
 *   w[k][tap][c]                                for im2col's gradient of x,
 *                                               whose groups are the filter
 *                                               rows, their panels of [s][c].
 * Both keep the panels for results that are not finite.
 */
typedef struct cvc_packed {
  uint32_t magic;
  uint16_t format; /* a CVC_FORMAT, for Winograd plus m */
  uint16_t dtype;
  uint16_t pass;
  uint16_t nr;
  uint32_t all_finite; /* no weight is infinite or NaN */
  int64_t reduced, produced, groups, taps;
  int64_t reserved;
} cvc_packed;

enum {
  CVC_FORMAT_PANELS = 1,
  CVC_FORMAT_PLANAR,
  CVC_FORMAT_COLUMNS,
  CVC_FORMAT_WINOGRAD = 16
};

int64_t cvc_packed_elements(const cvc_conv *conv, cvc_pass pass,
                            cvc_choice choice);
cvc_status cvc_pack(const cvc_conv *conv, cvc_pass pass, cvc_choice choice,
                    const void *w, void *packed, const cvc_call *call);

enum { CVC_TERM_BYTES = 128 }; /* of a panel's columns, at most */

/** filters[c][tap][width] of `count` reduced channels from c on of a panel. */
void cvc_panel_filters(const cvc_conv *conv, cvc_pass pass, cvc_choice choice,
                       const void *w, int64_t group, int64_t panel, int64_t c,
                       int64_t count, void *filters);

/** The memory that these filters are made from: rows of bytes, `step` apart. */
typedef struct cvc_memory_rows {
  const char *at;
  int64_t rows, step, bytes;
} cvc_memory_rows;
cvc_memory_rows cvc_filter_rows(const cvc_conv *conv, cvc_pass pass,
                                cvc_choice choice, const void *w, int64_t group,
                                int64_t panel, int64_t c, int64_t count);

/** w again, from what a forward pass was packed to. */
void cvc_unpack(const cvc_conv *conv, cvc_choice choice, const void *packed,
                void *w);

/** CVC_BAD_PACKING unless `packed` was made for this descriptor and pass. */
cvc_status cvc_check_packed(const cvc_conv *conv, cvc_pass pass,
                            cvc_choice choice, const void *packed);

/** The panel [tap][reduced][width] of a group. */
const void *cvc_packed_panel(const cvc_conv *conv, cvc_pass pass,
                             cvc_choice choice, const void *packed,
                             int64_t group, int64_t panel);

/** Channels as they are packed: depthwise, all groups side by side. */
cvc_channels cvc_packed_channels(const cvc_conv *conv, cvc_pass pass,
                                 cvc_choice choice);

/** The second part, behind the panels. */
const void *cvc_packed_second(const cvc_conv *conv, cvc_pass pass,
                              cvc_choice choice, const void *packed);

/* ------------------------------------------------------- conv_tiles.c */

/** How to store rows of `row` bytes, `bytes` in all: past the caches where the
 * last one does not keep them. */
cvc_stores cvc_stores_of(const void *target, int64_t row, int64_t bytes);

/** Run a tile of `rows` rows, any number, as tiles of nearly equal height;
 * a, c, row_bias and residual are of its first row and left changed, and so is
 * next. */
void cvc_run_tiles(const cvc_kernels *kernels, cvc_tile *tile, int64_t rows,
                   int64_t bytes);

/* -------------------------------------------------------- the algorithms */

/** What an algorithm is given: channels-last arrays, checked; NULL where the
 * pass does not use them. */
typedef struct cvc_conv_job {
  const cvc_conv *conv;
  cvc_choice choice;
  const cvc_call *call;
  int threads;
  const void *x, *y, *bias, *residual; /* y: dy when backward */
  const void *packed;                  /* or plain: linear, planar, ... */
  void *target;                        /* y, dx or dw */
  void *db;
  void *scratch; /* what the algorithm's own _scratch function asked for */
} cvc_conv_job;

/* conv_direct.c: forward and backward-data; conv_weight.c: backward-weight */
int64_t cvc_direct_scratch(const cvc_conv *conv, cvc_pass pass, int threads);
cvc_status cvc_direct_run(const cvc_conv_job *job, cvc_pass pass);

/** The outputs of a rectangle of one plane (image, output depth), all
 * channels of a group, by the calling thread; scratch of one thread. */
void cvc_direct_rectangle(const cvc_conv_job *job, cvc_pass pass, void *scratch,
                          int64_t plane, int64_t group, int64_t row,
                          int64_t rows, int64_t column, int64_t columns);

int64_t cvc_weight_scratch(const cvc_conv *conv, int threads, bool im2col);
cvc_status cvc_weight_backward(const cvc_conv_job *job, bool im2col);

/* conv_weight_planes.c: one input channel, vectors along the pixels */
bool cvc_weight_planes_fits(const cvc_conv *conv);
/** Products, sums across lanes, elements that are copied. */
typedef struct cvc_planes_work {
  double products, totals, copied;
} cvc_planes_work;
cvc_planes_work cvc_weight_planes_work(const cvc_conv *conv);
int64_t cvc_weight_planes_scratch(const cvc_conv *conv, int threads);
cvc_status cvc_weight_planes_run(const cvc_conv_job *job);

/* conv_depthwise.c: all passes */
int64_t cvc_depthwise_scratch(const cvc_conv *conv, cvc_pass pass, int threads);
cvc_status cvc_depthwise_run(const cvc_conv_job *job, cvc_pass pass);

/* conv_im2col.c: forward and backward-data, and the matrix itself */
/** What im2col's gradient of x is formed by: filter rows, or single taps. */
int64_t cvc_gradient_units(const cvc_conv *conv);
int64_t cvc_im2col_scratch(const cvc_conv *conv, cvc_pass pass, int threads);
cvc_status cvc_im2col_forward(const cvc_conv_job *job);
cvc_status cvc_im2col_backward_data(const cvc_conv_job *job);

/** columns[pixel][tap][c] of outputs first..first+count-1 of one image
 * x[d][h][w][channels], `c` channels from the first at x; 0 in the padding. */
void cvc_im2col(const cvc_conv *conv, const void *x, int64_t channels,
                int64_t c, int64_t first, int64_t count, void *columns);

/* conv_planar.c: forward and backward-data; plain weights, arrays of either
 * layout */
bool cvc_planar_fits(const cvc_conv *conv, cvc_pass pass);
/** Columns computed for all images, dropped ones included, and the sum of
 * their taps; planes that are filled, and their elements; results that are
 * moved to where they belong. */
typedef struct cvc_planar_work {
  double columns, products, planes, copied, moved;
} cvc_planar_work;
cvc_planar_work cvc_planar_work_of(const cvc_conv *conv, cvc_pass pass);
int64_t cvc_planar_scratch(const cvc_conv *conv, cvc_pass pass, int threads);
cvc_status cvc_planar_run(const cvc_conv_job *job, cvc_pass pass);

/* conv_linear.c: all passes; plain weights */
bool cvc_linear_fits(const cvc_conv *conv, cvc_pass pass);
/** Rows of x and dy, and elements of one of x: an image that is one window has
 * one, of all its elements, and stays channels-first. */
int64_t cvc_linear_pixels(const cvc_conv *conv);
int64_t cvc_linear_channels(const cvc_conv *conv);
int64_t cvc_linear_scratch(const cvc_conv *conv, cvc_pass pass, int threads);
cvc_status cvc_linear_run(const cvc_conv_job *job, cvc_pass pass);

/** Request `bytes` bytes, which are used after what is done next. */
static inline void cvc_request(const void *memory, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64)
    __builtin_prefetch((const char *)memory + i);
}

/* conv_winograd_tiles.c */
/**
 * Winograd's algorithm along an axis: m outputs of r taps from n points. A
 * strided filter is one of every s-th tap that meets every s-th element, s
 * terms of a sum. One of 3 taps and stride 2 is split instead: see
 * winograd_lines.inc. Its gradient of x has `spread` times as many outputs.
 */
typedef struct cvc_winograd_line {
  bool split;
  int m, r, n, s, spread;
  int step;    /* elements of the source from an output to the next */
  int weights; /* different points of the filter */
  int last;    /* the points from here on serve the last output alone */
} cvc_winograd_line;

enum { CVC_MOST_LINE = 11, CVC_MOST_POINTS = 11 * 11 }; /* of a tile */

cvc_winograd_line cvc_winograd_line_of(const cvc_conv *conv, cvc_pass pass,
                                       int axis, int m);

/** Which point of the filter a point is multiplied with. */
int cvc_winograd_weight_at(const cvc_winograd_line *line, int point);

/** Whether it is the first one that is multiplied with that. */
bool cvc_winograd_is_first(const cvc_winograd_line *line, int point);

/** Points that a tile of so many of its outputs needs. */
int cvc_winograd_points(const cvc_winograd_line *line, int outputs);

/** The tiles of all images. Those along an axis are the whole ones of m
 * outputs, then the others of m - 1, the last of which may have fewer. They are
 * counted kind by kind, such that those that use a point follow one another:
 * high, high and wide, wide, neither; of a kind, image by image. */
typedef struct cvc_winograd_tiles {
  int m[2];
  int64_t out[2], whole[2], other[2];
  int64_t begin[5]; /* of each kind, and the end */
} cvc_winograd_tiles;

cvc_winograd_tiles cvc_winograd_tiles_of(int64_t n, const int64_t out[2],
                                         const cvc_winograd_line line[2]);

/** Where a tile lies: its image, first output and outputs. */
typedef struct cvc_winograd_place {
  int64_t image, row, column;
  int height, width;
} cvc_winograd_place;

cvc_winograd_place cvc_winograd_place_of(const cvc_winograd_tiles *tiles,
                                         int64_t tile);

/** Of tiles first..first+count-1 those that use a point, counted from `first`.
 */
typedef struct cvc_winograd_range {
  int64_t first, count;
} cvc_winograd_range;

cvc_winograd_range cvc_winograd_users(const cvc_winograd_tiles *tiles,
                                      const cvc_winograd_line line[2],
                                      int64_t point, int64_t first,
                                      int64_t count);

/** The array that tiles take pixels from: so many of it each, `step` from
 * output to output, the first one of output 0 at `origin`. */
typedef struct cvc_winograd_source {
  const void *array;
  int64_t size[2], origin[2], pixel; /* pixel: bytes */
  int64_t pixels[2], step[2];
} cvc_winograd_source;

/** Request a part of the pixels of a tile, those that the tile before it in its
 * row has not; nothing where there is no such tile. */
void cvc_winograd_request(const cvc_winograd_tiles *tiles,
                          const cvc_winograd_source *source, int64_t tile,
                          int64_t part, int64_t parts);

/* conv_winograd.c: forward, and backward-data of stride 1 or split */
typedef struct cvc_winograd_size {
  int64_t points, weights; /* of a tile; of a filter */
  int64_t tiles, blocks;   /* of all images; of tiles */
  double products;         /* of a point and a tile */
  int64_t channels, depth; /* that are transformed at a time; of a product */
} cvc_winograd_size;
cvc_winograd_size cvc_winograd_sizes(const cvc_conv *conv, cvc_pass pass,
                                     int m);
/** Plain weights are not packed, but transformed when they are needed. */
bool cvc_winograd_plain(const cvc_conv *conv, cvc_pass pass, int m);
/** Elements of all u. */
int64_t cvc_winograd_weights(const cvc_conv *conv, cvc_pass pass, int m);
/** u of reduced channels c..c+count-1 of a panel, from their filters
 * w[c][tap][width]. */
void cvc_winograd_pack(const cvc_conv *conv, cvc_pass pass, int m,
                       int64_t group, int64_t panel, int64_t c, int64_t count,
                       const void *w, void *points);
int64_t cvc_winograd_scratch(const cvc_conv *conv, cvc_pass pass, int m,
                             int threads);
cvc_status cvc_winograd_run(const cvc_conv_job *job, cvc_pass pass);

/* conv_winograd_weight.c: backward-weight, stride 1 or split */
int64_t cvc_winograd_weight_scratch(const cvc_conv *conv, int m, int threads);
cvc_status cvc_winograd_weight_run(const cvc_conv_job *job);

#endif /* CVC_CONV_H */
