/**
 * Compiles every kernel template for one ISA and both real types, and makes
 * its table. A stub in ../isa defines, after its target pragma:
 *
 *   CVC_ISA            the ISA's name, e.g. avx2
 *   CVC_VECTOR_BYTES   length of its vectors
 *   CVC_TILE_ROWS      rows of the largest tile (its columns: two vectors)
 *   CVC_PARTIAL        it has NAME(load_lanes), NAME(store_lanes): a part of a
 *                      vector; NAME(square_root); NAME(stream): a store past
 *                      the caches; NAME(above), NAME(below): the larger and the
 *                      smaller of a and b, b where one of them is NaN
 *   CVC_HALVES         half vectors take half the time; it has NAME(widened):
 *                      one with zeros behind it; NAME(lower): the lower half
 *   CVC_MASKS          comparisons give masks; it has NAME(add_taps): sum and
 *                      the lanes of dy whose index is the tap; and
 *                      what picks.inc has in its place
 *
 * A template sees: REAL the element type, VL the lanes of a vector, VECTOR an
 * aligned vector, VECTOR_U one at any element's address (to load and store
 * through pointers), HALF and HALF_U those of half the lanes, INTV the signed
 * integers of the same lanes, and NAME(x), the name of kernel x:
 * <dtype>_x__<isa>.
 */
#include <math.h>
#include <string.h>

#include "kernels.h"

#define CVC_PASTE_(a, b, c) a##_##b##__##c
#define CVC_PASTE(a, b, c) CVC_PASTE_(a, b, c)
#define CVC_TABLE_(isa) cvc_table_##isa
#define CVC_TABLE(isa) CVC_TABLE_(isa)
#define CVC_STRING_(isa) #isa
#define CVC_STRING(isa) CVC_STRING_(isa)

/* One register allocation for a whole function: by loops, gcc 12 spills the
 * operands of tiles of 6 and 7 rows although half the registers are free. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("ira-region=one")
#endif

/* Square roots become instructions when errno need not be set. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-math-errno")
#endif

/* -------------------------------------------------------------- float32 */

typedef float f32_vector __attribute__((vector_size(CVC_VECTOR_BYTES)));
typedef float f32_vector_u
    __attribute__((vector_size(CVC_VECTOR_BYTES), aligned(4), may_alias));
typedef float f32_half __attribute__((vector_size(CVC_VECTOR_BYTES / 2)));
typedef float f32_half_u
    __attribute__((vector_size(CVC_VECTOR_BYTES / 2), aligned(4), may_alias));
typedef int32_t f32_integers __attribute__((vector_size(CVC_VECTOR_BYTES)));

#define REAL float
#define VL (CVC_VECTOR_BYTES / 4)
#define VECTOR f32_vector
#define VECTOR_U f32_vector_u
#define HALF f32_half
#define HALF_U f32_half_u
#define INTV f32_integers
#define NAME(x) CVC_PASTE(f32, x, CVC_ISA)
#include "templates.h"

/* -------------------------------------------------------------- float64 */

typedef double f64_vector __attribute__((vector_size(CVC_VECTOR_BYTES)));
typedef double f64_vector_u
    __attribute__((vector_size(CVC_VECTOR_BYTES), aligned(8), may_alias));
typedef double f64_half __attribute__((vector_size(CVC_VECTOR_BYTES / 2)));
typedef double f64_half_u
    __attribute__((vector_size(CVC_VECTOR_BYTES / 2), aligned(8), may_alias));
typedef int64_t f64_integers __attribute__((vector_size(CVC_VECTOR_BYTES)));

#define REAL double
#define VL (CVC_VECTOR_BYTES / 8)
#define VECTOR f64_vector
#define VECTOR_U f64_vector_u
#define HALF f64_half
#define HALF_U f64_half_u
#define INTV f64_integers
#define NAME(x) CVC_PASTE(f64, x, CVC_ISA)
#include "templates.h"

/* ----------------------------------------------------------- the table */

#define CVC_ROW_f32(type, kernel, arguments) \
  .kernel = CVC_PASTE(f32, kernel, CVC_ISA),
#define CVC_ROW_f64(type, kernel, arguments) \
  .kernel = CVC_PASTE(f64, kernel, CVC_ISA),

const cvc_isa_table CVC_TABLE(CVC_ISA) = {
    .name = CVC_STRING(CVC_ISA),
    .of = {{.vector_length = CVC_VECTOR_BYTES / 4,
            .mr = CVC_TILE_ROWS,
            .nr = 2 * CVC_VECTOR_BYTES / 4,
            CVC_KERNELS(CVC_ROW_f32)},
           {.vector_length = CVC_VECTOR_BYTES / 8,
            .mr = CVC_TILE_ROWS,
            .nr = 2 * CVC_VECTOR_BYTES / 8,
            CVC_KERNELS(CVC_ROW_f64)}},
};
