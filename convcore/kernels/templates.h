/** All templates for one element type; included by instantiate.h twice. */
#include "elementwise.inc"
#include "pool.inc"
#include "tile.inc"
#include "winograd.inc"

#undef REAL
#undef VL
#undef VECTOR
#undef VECTOR_U
#undef INTV
#undef NAME
