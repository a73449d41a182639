/** All templates for one element type; included by instantiate.h twice. */
#include "tile.inc" /* first: the others load and store as it does */

#include "depthwise.inc"
#include "elementwise.inc"
#include "pool.inc"
#include "winograd.inc"

#undef REAL
#undef VL
#undef VECTOR
#undef VECTOR_U
#undef INTV
#undef NAME
