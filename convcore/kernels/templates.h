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
#include "transpose.inc"

#include "winograd_lines.inc" /* what the two others are made of */

#include "winograd.inc"
#include "winograd_weight.inc" /* behind its transforms */

#include "math.inc" /* what the following compute with */

#include "binary.inc"
#include "combine.inc"
#include "dots.inc"
#include "functions.inc"
#include "group_norm.inc"
#include "phases.inc"
#include "picks.inc"
#include "resample.inc"
#include "softmax.inc"

#undef REAL
#undef VL
#undef VECTOR
#undef VECTOR_U
#undef HALF
#undef HALF_U
#undef INTV
#undef NAME
