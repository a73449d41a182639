/**
 * The table of inner kernels: single-threaded loops that know neither tensors
 * nor threads. Every kernel is written once, in a *.inc template here, and
 * compiled once per ISA and dtype by the stubs in ../isa.
 *
 * Offsets, strides and lengths are in elements of the table's dtype.
 */
#ifndef CVC_KERNELS_H
#define CVC_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../include/convcore.h"

/* What a call would keep out of registers. */
#define CVC_INLINE static inline __attribute__((always_inline))

/** How results go to memory. */
typedef enum cvc_stores {
  CVC_STORES_PLAIN,
  CVC_STORES_REQUEST, /* ask for their cache lines before the sums */
  CVC_STORES_STREAM   /* past the caches; every row is aligned to 64 bytes. A
                         fence must follow before another thread reads them */
} cvc_stores;

/**
 * One tile of a matrix product whose reduction runs over strided "runs":
 *
 *   c[i][j] = sum over q < runs, t < length of
 *             a[a_run[q] + i*a_row + t*a_step] * b[b_run[q] + t*b_step + j]
 *
 * for i < rows <= mr, j < columns <= nr, then c = activation(c + bias[j] +
 * row_bias[i] + residual[i][j]); with `accumulate` the old c is added instead.
 * Forward convolution has one run per filter row (s and c contiguous), the
 * weight gradient one per output row (pixels strided), a plain product a single
 * one.
 *
 * b is read in whole vectors: it must have columns rounded up to the vector
 * length. a, c, bias and residual are touched only where they are defined.
 * Terms are added in order, in chunks of CVC_CHUNK terms (two-level sum).
 */
typedef struct cvc_tile {
  const void *a, *b;
  const ptrdiff_t *a_run, *b_run;
  ptrdiff_t runs, length;
  ptrdiff_t a_row, a_step, b_step;
  void *c;
  ptrdiff_t c_row;
  int rows, columns;
  const void *bias;     /* [columns] or NULL */
  const void *row_bias; /* [rows] or NULL */
  const void *residual; /* [rows][columns], row stride c_row, or NULL */
  cvc_activation activation;
  int accumulate;
  cvc_stores stores;
  /* Memory that will be read soon, or NULL: a vector per term is brought into
   * the caches, those of a run from next + next_run[q] on, or all one after the
   * other. For cvc_run_tiles: how far next moves from tile to tile, and where
   * it ends, or NULL. */
  const void *next, *next_end;
  const ptrdiff_t *next_run;
  ptrdiff_t next_tile;
} cvc_tile;

/**
 * A tile whose a has the lanes of b, of any number of rows and columns:
 *
 *   c[i][j] = sum over q < runs, t < length of
 *             a[a_run[q] + i*a_row + t*a_step + j] *
 *             b[b_run[q] + t*b_step + j]
 *
 * The rows are pixels, a run is a row of taps. From one vector of columns to
 * the next, b moves by b_vector; where columns are no multiple of the vector
 * length, the last vector is that of the last columns.
 *
 * As `gradient`, c is given and the kernel adds to b, in whole vectors, and to
 * bias, if any, which moves as b does:
 *
 *   b[b_run[q] + t*b_step + j] += sum over i < rows of
 *                                 a[a_run[q] + i*a_row + t*a_step + j] *
 * c[i][j] bias[j] += sum over i < rows of c[i][j]
 */
typedef struct cvc_depthwise {
  cvc_tile tile;
  ptrdiff_t b_vector;
  /* The stride when a_row = stride * a_step, CVC_WINDOWS has it for this
   * length, and there is at least one vector of columns: then rows and taps
   * meet in the same pixels, and the terms of the first and last of those are
   * left out where the pixels are absent. Else 0. */
  int window;
  ptrdiff_t absent_left, absent_right;
  bool gradient;
  ptrdiff_t ahead; /* request memory so many elements before its use; or 0 */
  /* Two lines of rows at once, where there is a window and 32 registers: the
   * lower one is `line` rows further in c, and takes its terms from runs
   * lower_begin.. with b's at lower_run; the upper one from those before
   * upper_end. 0: one line. */
  ptrdiff_t line, lower_begin, upper_end;
  const ptrdiff_t *lower_run;
} cvc_depthwise;

/* Lengths and strides of windows that have a loop of their own. */
#define CVC_WINDOWS(X) X(1, 1) X(2, 1) X(3, 1) X(3, 2) X(5, 1) X(5, 2) X(7, 1)
#define CVC_WINDOW(length, stride) (2 * (length) + (stride))

/* Longer chains of float32 sums err by more than 6e-7 of the largest result. */
#define CVC_CHUNK 96

/**
 * Rows of one channel, with zeros beside them: y[i][j] =
 * x[i*x_row + (j - low)*x_step] for low <= j < high, else 0, for j < width.
 * y has room for one vector more.
 */
typedef struct cvc_rows {
  ptrdiff_t rows, low, high, width;
  const void *x, *x_end; /* the end of what may be read */
  ptrdiff_t x_row, x_step;
  void *y;
} cvc_rows;

/**
 * Periods of target pixels in channels-last memory: targets are the outputs of
 * a pooling, or backward the elements of dx, and sources what they take their
 * taps from. A period is row_phases x phases targets, each with taps of its
 * own, which are the same in all rows x pixels periods.
 */
typedef struct cvc_window {
  ptrdiff_t rows, row_phases, pixels, phases, channels;
  ptrdiff_t x_row, x_step; /* sources: from a period to the next */
  ptrdiff_t y_row;         /* targets: from a row to the next; dense in a row */
  const ptrdiff_t *offset; /* of each tap's source in the first period */
  const int32_t *tap;      /* its number in the whole window */
  const ptrdiff_t *end;    /* target i has the taps end[i - 1]..end[i] - 1 */
  bool stream; /* to the targets, whole vectors of which are aligned */
} cvc_window;

/**
 * Images of rows x pixels, dense, and the same sorted by phase: pixel (i, j) is
 * in row phase (i + row_pad) % row_stride and phase (j + pad) % stride; within
 * these its place is that of the quotients.
 */
typedef struct cvc_phases {
  ptrdiff_t images, rows, pixels, channels;
  ptrdiff_t row_stride, stride, row_pad, pad;
  ptrdiff_t image_step, row_step, row_phase_step, phase_step; /* sorted */
} cvc_phases;

/**
 * Images of targets, dense, of windows that lie inside, two pixels apart in a
 * row; in a vector are the channels of at least one pixel.
 */
typedef struct cvc_pairs {
  ptrdiff_t images, rows, pixels, channels;
  ptrdiff_t x_image, x_row; /* sources: from an image or row to the next */
  ptrdiff_t x_size;         /* sources that may be read */
  int taps;
  const ptrdiff_t *offset; /* of their sources, ascending */
} cvc_pairs;

/**
 * A column, one vector wide, of the gradient of max pooling of few channels:
 * rows of periods, of a few rows of targets each. These pick lanes from vectors
 * of sources, those of each term in each row of sources of the period: lane i
 * gets the source lane[i] if the index of that is tap[i].
 */
typedef struct cvc_picks {
  ptrdiff_t images, rows, lanes; /* rows of periods; lanes of the vector */
  int phases, sources, terms;    /* rows of a period; terms of a row of them */
  ptrdiff_t x_image, x_row;      /* sources: from an image or row to the next */
  ptrdiff_t y_image, y_row, y_phase; /* targets */
  ptrdiff_t x_size;                  /* sources that may be read */
  bool stream;                       /* targets, which are whole lines */
  const ptrdiff_t *row;  /* [sources] in the first period, ascending */
  const ptrdiff_t *term; /* [terms] the first source, in its row */
  const uint8_t *lane;   /* [terms][vector length] */
  const uint8_t *tap;    /* the same, of each row of taps: the one to take is */
  const ptrdiff_t *tap_row; /* [phases][sources] so far on */
} cvc_picks;

/**
 * Winograd tiles, all channels of one tile a call. nh x nw points (1 x nw in
 * one dimension), of which one is every *_point elements; the first points_h x
 * points_w of them are used: all, or without those of the last outputs. Lines
 * of 3 taps and stride 2 are split; see winograd_lines.inc.
 */
enum { CVC_SPLIT_OUTPUTS = 5, CVC_SPLIT_POINTS = 11, CVC_SPLIT_WEIGHTS = 7 };

typedef struct cvc_winograd_input {
  int nh, nw, points_h, points_w;
  const void *const *pixels; /* [nh][nw]; in the padding to zeros */
  ptrdiff_t next; /* from a pixel to that of the tile that comes next */
  ptrdiff_t channels;
  void *v; /* v[point][channels] = B^T d B; at least a vector is written */
  ptrdiff_t v_point;
  /* Of a gradient dy: [mh][mw] pixels, zeros where outside, are transformed as
   * filters are, v = G d G^T, with one point more, their sum. A vector at
   * least is written. */
  int mh, mw;
} cvc_winograd_input;

typedef struct cvc_winograd_output {
  int nh, nw, points_h, points_w, mh, mw;
  const void *m; /* m[point][channels]; at least a vector is read */
  ptrdiff_t m_point, channels;
  int height, width; /* the part of mh x mw inside y */
  void *y;           /* y = activation(A^T m A + bias + residual) */
  ptrdiff_t y_row, y_column;
  const void *bias;     /* [channels] or NULL */
  const void *residual; /* strides of y, or NULL */
  cvc_activation activation;
} cvc_winograd_output;

typedef struct cvc_winograd_filter {
  int nh, nw, rw;
  const void *w; /* filters w[rh][rw][width], width in whole vectors */
  int width;
  int turned; /* by 180 degrees */
  void *u;    /* u[point][width] = G w G^T */
  ptrdiff_t u_point;
  cvc_stores stores;
} cvc_winograd_filter;

/**
 * Part of a batch normalisation: rows x columns elements, rows `step` apart. A
 * column is a channel; with `plane`, all the elements belong to one channel.
 * `mean` to `offset` have an element per channel.
 *
 *   normalized = (x - mean) * scale + bias
 *   dx = dy * scale + (x - mean) * slope + offset
 *
 * where ReLU's gradient makes dy 0 where y, or without y normalized, is not
 * positive, or is `most` or more; d_residual, if any, is what remains of dy.
 */
typedef struct cvc_norm {
  ptrdiff_t rows, columns, step;
  bool plane, relu;
  bool stream; /* to `to`, whole vectors of which are aligned */
  double most; /* that ReLU gives; NaN: there is no such bound */
  const void *x, *residual, *dy, *y;
  const void *mean, *scale, *bias, *slope, *offset;
  void *to; /* y or dx */
  void *d_residual;
  double *sums[2]; /* of each channel; added to */
} cvc_norm;

/**
 * Sums over rows x columns elements, rows `step` apart, whose rows or, with
 * `by_column`, columns are the channels. Of d = x - shift[channel],
 * sums[0][channel] is that of d and sums[1] that of d * d; where there is a dy,
 * sums[2] is that of dy and sums[3] that of dy * d.
 */
typedef struct cvc_sums {
  ptrdiff_t rows, columns, step;
  bool by_column;
  const void *x, *dy; /* dy or NULL */
  const double *shift;
  double *sums[4];
} cvc_sums;

/** Which elements dropout drops: those whose random word is below `dropped`. */
typedef struct cvc_draw {
  uint32_t key[2], stream, step;
  uint64_t dropped;
  double scale; /* of the others */
} cvc_draw;

/* The gradient of weights from the products of all tiles. */
typedef struct cvc_winograd_weight {
  int nh, nw, rh, rw;
  const void *m; /* m[point][row][columns], in whole vectors */
  ptrdiff_t m_point, m_row, rows;
  int columns;
  void *w; /* w[row][columns][rh][rw] */
  ptrdiff_t w_row;
} cvc_winograd_weight;

/* One line a kernel: return type, name, arguments. */
#define CVC_KERNELS(X)                                                        \
  X(void, tile, (const cvc_tile *tile))                                       \
  /* a tile of any size whose terms lie side by side in both operands:        \
   * c[i][j] = sum over t < length of a[i*a_row + t] * b[j*b_step + t];       \
   * sums: room for a vector per row and, rounded up to one, per column */    \
  X(void, dots, (const cvc_tile *tile, void *sums))                           \
  /* a tile of any number of columns, of few rows, and without a last step:   \
   * c[i][j] = sum over t < length of a[i*a_row + t*a_step] *                 \
   * b[t*b_step + j]; a short sum, on one level */                            \
  X(void, combine, (const cvc_tile *tile))                                    \
  X(void, depthwise, (const cvc_depthwise *depthwise))                        \
  X(void, rows, (const cvc_rows *rows))                                       \
  X(void, winograd_input, (const cvc_winograd_input *tile))                   \
  /* 0 when a result is infinite or NaN before bias and residual */           \
  X(int, winograd_output, (const cvc_winograd_output *tile))                  \
  X(void, winograd_filter, (const cvc_winograd_filter *tile))                 \
  X(void, winograd_gradient, (const cvc_winograd_input *tile))                \
  /* 0 when a result is infinite or NaN */                                    \
  X(int, winograd_weight, (const cvc_winograd_weight *tile))                  \
  /* index[pixel][channel]: the tap of the maximum, index_bytes 1 (uint8) or  \
   * 4 (int32), or 0: not wanted */                                           \
  X(void, max_pool,                                                           \
    (const cvc_window *window, const void *x, void *y, void *index,           \
     int index_bytes))                                                        \
  X(void, average_pool,                                                       \
    (const cvc_window *window, double divisor, const void *x, void *y))       \
  /* dx = sum of weight * dy over the taps */                                 \
  X(void, average_pool_backward,                                              \
    (const cvc_window *window, const double *weight, const void *dy,          \
     void *dx))                                                               \
  /* dx[i][j] = weight * dy[i], j < columns */                                \
  X(void, spread,                                                             \
    (ptrdiff_t rows, ptrdiff_t columns, double weight, const void *dy,        \
     void *dx))                                                               \
  /* dx = sum of dy over the taps that the index of their source names */     \
  X(void, max_pool_backward,                                                  \
    (const cvc_window *window, const uint8_t *index, const void *dy,          \
     void *dx))                                                               \
  X(void, max_pool_pick,                                                      \
    (const cvc_picks *picks, const uint8_t *index, const void *dy, void *dx)) \
  /* dx[index[i][c]][c] += dy[i][c], i < pixels; all rows `step` apart */     \
  X(void, max_pool_scatter,                                                   \
    (ptrdiff_t pixels, ptrdiff_t channels, ptrdiff_t step,                    \
     const int64_t *index, const void *dy, void *dx))                         \
  /* index: the tap of the maximum, or NULL */                                \
  X(void, max_pool_pairs,                                                     \
    (const cvc_pairs *pairs, const void *x, void *y, uint8_t *index))         \
  /* sort images by phase; the reverse for a single phase without padding */  \
  X(void, split, (const cvc_phases *phases, const void *dense, void *sorted)) \
  X(void, join, (const cvc_phases *phases, const void *sorted, void *dense))  \
  /* past the caches */                                                       \
  X(void, stream_copy, (ptrdiff_t size, const void *from, void *to))          \
  /* sums of x - mean and its square; of dy and dy * (x - mean) */            \
  X(void, norm_moments, (const cvc_norm *norm))                               \
  X(void, norm_gradient_sums, (const cvc_norm *norm))                         \
  X(void, norm_apply, (const cvc_norm *norm))                                 \
  X(void, norm_gradient, (const cvc_norm *norm))                              \
  X(void, relu_forward, (ptrdiff_t size, const void *x, void *y))             \
  X(void, relu_backward,                                                      \
    (ptrdiff_t size, const void *dy, const void *y, void *dx))                \
  X(void, add, (ptrdiff_t size, const void *a, const void *b, void *y))       \
  /* y[j*y_row + i] = x[i*x_row + j], i < a, j < b */                         \
  X(void, transpose,                                                          \
    (ptrdiff_t a, ptrdiff_t b, const void *x, ptrdiff_t x_row, void *y,       \
     ptrdiff_t y_row))                                                        \
  X(int, all_finite, (ptrdiff_t size, const void *x))                         \
  /* function: a number of functions.inc, its parameters a, b */              \
  X(void, function_forward,                                                   \
    (ptrdiff_t size, int function, double a, double b, const void *x,         \
     void *y))                                                                \
  X(void, function_backward,                                                  \
    (ptrdiff_t size, int function, double a, double b, const void *dy,        \
     const void *x, void *dx))                                                \
  /* along x[i*step + j], i < length, for each j < columns; with step 1       \
   * along rows x[j*length + i] */                                            \
  X(void, softmax,                                                            \
    (ptrdiff_t length, ptrdiff_t step, ptrdiff_t columns, int logarithm,      \
     const void *x, void *y))                                                 \
  X(void, softmax_backward,                                                   \
    (ptrdiff_t length, ptrdiff_t step, ptrdiff_t columns, int logarithm,      \
     const void *dy, const void *y, void *dx))                                \
  X(void, sums, (const cvc_sums *of))                                         \
  /* dx = dy * scale[i] + ((x - mean) * slope + offset), rows dense */        \
  X(void, group_gradient,                                                     \
    (ptrdiff_t rows, ptrdiff_t columns, double mean, double slope,            \
     double offset, const void *scale, const void *dy, const void *x,         \
     void *dx))                                                               \
  /* y = x * scale + shift, of one pair a row, or a column; y has x_row */    \
  X(void, affine,                                                             \
    (ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t x_row, int by_column,       \
     const void *scale, const void *shift, const void *x, void *y))           \
  /* y = (x - mean) * factor * weight[j] + bias[j]; these may be NULL */      \
  X(void, normalize,                                                          \
    (ptrdiff_t columns, double mean, double factor, const void *weight,       \
     const void *bias, const void *x, void *y))                               \
  /* y[i] = sum over t of weight[t][i] * x[index[t][i]], i < size */          \
  X(void, resample,                                                           \
    (ptrdiff_t size, int taps, const ptrdiff_t *index, const void *weight,    \
     const void *x, void *y))                                                 \
  /* y = sum over t of weight[t] * x[t] */                                    \
  X(void, blend,                                                              \
    (ptrdiff_t size, int taps, const double *weight, const void *const *x,    \
     void *y))                                                                \
  /* both at once: y[i][c] = sum over r, t of row_weight[r] * weight[t][i] *  \
   * row[r][index[t][i]][c], c < channels, of which there is a vector */      \
  X(void, resample_pixels,                                                    \
    (ptrdiff_t size, ptrdiff_t channels, int rows, const void *const *row,    \
     const double *row_weight, int taps, const ptrdiff_t *index,              \
     const void *weight, void *y))                                            \
  /* y[i][j] = a[i*a_row + j*a_step] operation b[i*b_row + j*b_step], of      \
   * which a step may be 0, the other is 1; operation: cvc_operation */       \
  X(void, binary,                                                             \
    (int operation, ptrdiff_t rows, ptrdiff_t size, const void *a,            \
     ptrdiff_t a_row, ptrdiff_t a_step, const void *b, ptrdiff_t b_row,       \
     ptrdiff_t b_step, void *y))                                              \
  X(void, lrn_forward,                                                        \
    (const cvc_lrn *lrn, ptrdiff_t pixels, const void *x, void *y,            \
     void *work))                                                             \
  X(void, lrn_backward,                                                       \
    (const cvc_lrn *lrn, ptrdiff_t pixels, const void *dy, const void *x,     \
     void *dx, void *work))                                                   \
  /* elements from `first`, a multiple of 64 */                               \
  X(void, dropout,                                                            \
    (const cvc_draw *draw, ptrdiff_t first, ptrdiff_t size, const void *x,    \
     void *y))                                                                \
  X(void, sgd, CVC_OPTIMIZER)                                                 \
  X(void, adam, CVC_OPTIMIZER)                                                \
  X(void, rmsprop, CVC_OPTIMIZER)

/* Gradients, parameters, and up to two arrays of state. */
#define CVC_OPTIMIZER                                                        \
  (ptrdiff_t size, const double *hyper, const void *g, void *p, void *first, \
   void *second)

/** The kernels of one ISA and dtype. */
typedef struct cvc_kernels {
  int vector_length;
  int mr, nr; /* rows and columns of the largest tile */
#define CVC_FIELD(type, name, arguments) type(*name) arguments;
  CVC_KERNELS(CVC_FIELD)
#undef CVC_FIELD
} cvc_kernels;

typedef struct cvc_isa_table {
  const char *name;
  cvc_kernels of[2]; /* indexed by CVC_F32, CVC_F64 */
} cvc_isa_table;

extern const cvc_isa_table cvc_table_generic;
extern const cvc_isa_table cvc_table_avx2;
extern const cvc_isa_table cvc_table_avx512;

#endif /* CVC_KERNELS_H */
