/** All templates for one element type; included by instantiate.h twice. */
#include "tile.inc" /* first: the others load and store as it does */

#include "depthwise.inc"
#include "dropout.inc"
#include "elementwise.inc"
#include "norm.inc"
#include "optimizer.inc" /* before lrn.inc, which takes its square root */

#include "lrn.inc"
#include "pool.inc"
#include "rows.inc"
#include "winograd.inc"
#include "winograd_weight.inc" /* behind its transforms */

#undef REAL
#undef VL
#undef VECTOR
#undef VECTOR_U
#undef INTV
#undef NAME
