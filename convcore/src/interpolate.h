/** What interpolation and its gradient share: the inputs of every output. */
#ifndef CVC_INTERPOLATE_H
#define CVC_INTERPOLATE_H

#include "internal.h"

/** Taps along an axis: one, two or four. */
int cvc_interpolation_taps(cvc_interpolation mode);

/** Inputs and weights of every output along axis `a`: index[tap][out],
 * weight[tap][out]. */
void cvc_interpolation_axis(const cvc_interpolate *of, int a, ptrdiff_t *index,
                            double *weight);

#endif /* CVC_INTERPOLATE_H */
