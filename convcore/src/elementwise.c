/** Elementwise operations and movement of data: ReLU, sum, transposition,
 * copy. */
#include <string.h>

#include "internal.h"

enum { TASK_ELEMENTS = 1 << 14 };

static int threads_of(const cvc_call *call, int64_t tasks, int64_t elements) {
  return cvc_plan_threads(call, tasks, CVC_ELEMENT_WORK * (double)elements);
}

/* ------------------------------------------------------------ elementwise */

/** y = function(a, b) or function(a) in blocks. */
typedef struct elementwise {
  void (*unary)(ptrdiff_t size, const void *a, void *y);
  void (*binary)(ptrdiff_t size, const void *a, const void *b, void *y);
  int64_t size, bytes;
  const void *a, *b;
  void *y;
} elementwise;

static void elementwise_task(void *context, int64_t task, int thread) {
  (void)thread;
  const elementwise *e = context;
  const int64_t first = task * TASK_ELEMENTS;
  const int64_t size = cvc_min(TASK_ELEMENTS, e->size - first);
  const void *a = cvc_at_const(e->a, first, e->bytes);
  void *y = cvc_at(e->y, first, e->bytes);
  if (e->unary)
    e->unary(size, a, y);
  else
    e->binary(size, a, cvc_at_const(e->b, first, e->bytes), y);
}

/** Checks common to all: sizes, null, alignment. */
static cvc_status check_arrays(cvc_dtype dtype, int64_t size, const void *a,
                               const void *b, const void *y) {
  int64_t elements;
  CVC_TRY(cvc_initialize());
  CVC_TRY(cvc_elements(dtype, 1, &size, &elements));
  if (!cvc_is_real(dtype)) return CVC_UNSUPPORTED;
  if (size > 0 && (!a || !b || !y)) return CVC_BAD_ARGUMENT;
  if (!cvc_is_aligned(a, dtype) || !cvc_is_aligned(b, dtype) ||
      !cvc_is_aligned(y, dtype))
    return CVC_BAD_ARGUMENT;
  return CVC_OK;
}

/** CVC_OVERLAP unless y is x or lies apart from it. */
static cvc_status check_in_place(cvc_dtype dtype, int64_t size, const void *x,
                                 const void *y) {
  const int64_t bytes = size * cvc_dtype_bytes(dtype);
  return x == y ? CVC_OK : cvc_check_disjoint(x, bytes, y, bytes);
}

static cvc_status run(elementwise *e, const cvc_call *call) {
  const int64_t tasks = cvc_ceil_div(e->size, TASK_ELEMENTS);
  return cvc_parallel(call, threads_of(call, tasks, e->size), tasks,
                      elementwise_task, e);
}

cvc_status cvc_relu_forward(cvc_dtype dtype, int64_t size, const void *x,
                            void *y, const cvc_call *call) {
  CVC_TRY(check_arrays(dtype, size, x, x, y));
  CVC_TRY(check_in_place(dtype, size, x, y));
  elementwise e = {.unary = cvc_kernels_of(dtype)->relu_forward,
                   .size = size,
                   .bytes = cvc_dtype_bytes(dtype),
                   .a = x,
                   .y = y};
  return run(&e, call);
}

cvc_status cvc_relu_backward(cvc_dtype dtype, int64_t size, const void *dy,
                             const void *y, void *dx, const cvc_call *call) {
  CVC_TRY(check_arrays(dtype, size, dy, y, dx));
  const int64_t bytes = size * cvc_dtype_bytes(dtype);
  CVC_TRY(check_in_place(dtype, size, dy, dx));
  CVC_TRY(cvc_check_disjoint(y, bytes, dx, bytes));
  elementwise e = {.binary = cvc_kernels_of(dtype)->relu_backward,
                   .size = size,
                   .bytes = cvc_dtype_bytes(dtype),
                   .a = dy,
                   .b = y,
                   .y = dx};
  return run(&e, call);
}

cvc_status cvc_add(cvc_dtype dtype, int64_t size, const void *a, const void *b,
                   void *y, const cvc_call *call) {
  CVC_TRY(check_arrays(dtype, size, a, b, y));
  CVC_TRY(check_in_place(dtype, size, a, y));
  CVC_TRY(check_in_place(dtype, size, b, y));
  elementwise e = {.binary = cvc_kernels_of(dtype)->add,
                   .size = size,
                   .bytes = cvc_dtype_bytes(dtype),
                   .a = a,
                   .b = b,
                   .y = y};
  return run(&e, call);
}

/* ---------------------------------------------------------- transposition */

enum { EDGE = 16 }; /* strips are multiples of this: whole vectors */

static void transpose_bytes(int64_t a, int64_t b, const uint8_t *x,
                            int64_t x_row, uint8_t *y) {
  for (int64_t j = 0; j < b; j++)
    for (int64_t i = 0; i < a; i++) y[j * a + i] = x[i * x_row + j];
}

/** x is part of a matrix whose rows are x_row long. Elements are moved as they
 * are, so that the kernels of a real type serve any one of its length. */
static void transpose_strip(int64_t bytes, int64_t a, int64_t b, const void *x,
                            int64_t x_row, void *y) {
  if (bytes == 1)
    transpose_bytes(a, b, x, x_row, y);
  else
    cvc_kernels_of(bytes == 4 ? CVC_F32 : CVC_F64)
        ->transpose(a, b, x, x_row, y, a);
}

void cvc_transpose_matrix(int64_t bytes, int64_t a, int64_t b, const void *x,
                          void *y) {
  transpose_strip(bytes, a, b, x, b, y);
}

typedef struct transposition {
  int64_t bytes, a, b;
  int64_t strip, strips; /* rows of y in a task; tasks of a matrix */
  const void *x;
  void *y;
} transposition;

static void transpose_task(void *context, int64_t task, int thread) {
  (void)thread;
  const transposition *t = context;
  const int64_t matrix = task / t->strips * t->a * t->b;
  const int64_t first = task % t->strips * t->strip;
  transpose_strip(t->bytes, t->a, cvc_min(t->strip, t->b - first),
                  cvc_at_const(t->x, matrix + first, t->bytes), t->b,
                  cvc_at(t->y, matrix + first * t->a, t->bytes));
}

cvc_status cvc_transpose(cvc_dtype dtype, int64_t batch, int64_t a, int64_t b,
                         const void *x, void *y, const cvc_call *call) {
  const int64_t sizes[] = {batch, a, b};
  int64_t elements;
  CVC_TRY(cvc_initialize());
  CVC_TRY(cvc_elements(dtype, 3, sizes, &elements));
  if (elements == 0) return CVC_OK;
  if (!x || !y || !cvc_is_aligned(x, dtype) || !cvc_is_aligned(y, dtype))
    return CVC_BAD_ARGUMENT;
  transposition t = {
      .bytes = cvc_dtype_bytes(dtype), .a = a, .b = b, .x = x, .y = y};
  CVC_TRY(cvc_check_disjoint(x, elements * t.bytes, y, elements * t.bytes));
  t.strip = cvc_round_up(cvc_ceil_div(TASK_ELEMENTS, a), EDGE);
  t.strips = cvc_ceil_div(b, t.strip);
  const int64_t tasks = batch * t.strips;
  return cvc_parallel(call, threads_of(call, tasks, elements), tasks,
                      transpose_task, &t);
}

/* ------------------------------------------------------------------- copy */

typedef struct copy {
  int64_t bytes, rows, columns, x_stride, y_stride;
  int64_t block, blocks; /* rows of a task; blocks of the columns */
  const void *x;
  void *y;
} copy;

static void copy_task(void *context, int64_t task, int thread) {
  (void)thread;
  const copy *c = context;
  const int64_t column = task % c->blocks * TASK_ELEMENTS;
  const int64_t columns = cvc_min(TASK_ELEMENTS, c->columns - column);
  const int64_t first = task / c->blocks * c->block;
  const int64_t last = cvc_min(first + c->block, c->rows);
  for (int64_t i = first; i < last; i++)
    memcpy(cvc_at(c->y, i * c->y_stride + column, c->bytes),
           cvc_at_const(c->x, i * c->x_stride + column, c->bytes),
           (size_t)(columns * c->bytes));
}

cvc_status cvc_copy_span(cvc_dtype dtype, int64_t rows, int64_t columns,
                         int64_t stride, int64_t *elements) {
  const int64_t sizes[] = {rows, cvc_max(columns, stride)};
  if (columns < 0 || stride < 0) return CVC_BAD_ARGUMENT;
  CVC_TRY(cvc_elements(dtype, 2, sizes, elements));
  *elements = rows && columns ? (rows - 1) * stride + columns : 0;
  return CVC_OK;
}

cvc_status cvc_copy(cvc_dtype dtype, int64_t rows, int64_t columns,
                    const void *x, int64_t x_stride, void *y, int64_t y_stride,
                    const cvc_call *call) {
  int64_t x_span, y_span;
  CVC_TRY(cvc_initialize());
  CVC_TRY(cvc_copy_span(dtype, rows, columns, x_stride, &x_span));
  CVC_TRY(cvc_copy_span(dtype, rows, columns, y_stride, &y_span));
  if (rows > 1 && y_stride < columns) return CVC_BAD_SHAPE;
  if (x_span == 0) return CVC_OK;
  if (!x || !y || !cvc_is_aligned(x, dtype) || !cvc_is_aligned(y, dtype))
    return CVC_BAD_ARGUMENT;
  copy c = {.bytes = cvc_dtype_bytes(dtype),
            .rows = rows,
            .columns = columns,
            .x_stride = x_stride,
            .y_stride = y_stride,
            .block = cvc_ceil_div(TASK_ELEMENTS, columns),
            .blocks = cvc_ceil_div(columns, TASK_ELEMENTS),
            .x = x,
            .y = y};
  CVC_TRY(cvc_check_disjoint(x, x_span * c.bytes, y, y_span * c.bytes));
  const int64_t tasks = cvc_ceil_div(rows, c.block) * c.blocks;
  return cvc_parallel(call, threads_of(call, tasks, rows * columns), tasks,
                      copy_task, &c);
}
