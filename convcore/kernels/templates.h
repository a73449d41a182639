/** All templates for one element type; included by instantiate.h twice. */
#include "tile.inc"

#include "elementwise.inc"

#include "pool.inc"

#undef REAL
#undef VL
#undef VECTOR
#undef VECTOR_U
#undef INTV
#undef NAME
