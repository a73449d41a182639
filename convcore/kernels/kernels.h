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

/**
 * One tile of a matrix product whose reduction runs over strided "runs":
 *
 *   c[i][j] = sum over q < runs, t < length of
 *             a[a_run[q] + i*a_row + t*a_step] * b[b_run[q] + t*b_step + j]
 *
 * for i < rows <= mr, j < columns <= nr, then c = activation(c + bias[j] +
 * residual[i][j]); with `accumulate` the old c is added instead. Forward
 * convolution has one run per filter row (s and c contiguous), the weight
 * gradient one per output row (pixels strided), a plain product a single one.
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
  const void *residual; /* [rows][columns], row stride c_row, or NULL */
  int relu, accumulate;
} cvc_tile;

#define CVC_CHUNK 256

/** Taps of one output pixel of a channels-last pooling window. */
typedef struct cvc_window {
  const ptrdiff_t *offset; /* of each valid tap, from x */
  const uint8_t *tap;      /* its number in the window; for max indices */
  ptrdiff_t taps;
} cvc_window;

/* One line a kernel: return type, name, arguments. */
#define CVC_KERNELS(X)                                                        \
  X(void, tile, (const cvc_tile *tile))                                       \
  X(void, max_pool,                                                           \
    (ptrdiff_t channels, const cvc_window *window, const void *x, void *y,    \
     uint8_t *index))                                                         \
  X(void, sum_pool,                                                           \
    (ptrdiff_t channels, const cvc_window *window, double scale,              \
     const void *x, void *y))                                                 \
  X(void, relu_forward, (ptrdiff_t size, const void *x, void *y))             \
  X(void, relu_backward,                                                      \
    (ptrdiff_t size, const void *dy, const void *y, void *dx))                \
  X(void, add, (ptrdiff_t size, const void *a, const void *b, void *y))       \
  X(void, sgd,                                                                \
    (ptrdiff_t size, const double hyper[6], const void *g, void *p, void *m))

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
