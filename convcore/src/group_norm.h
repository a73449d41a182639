/** What group norm and its gradient share: mean and deviation of groups. */
#ifndef CVC_GROUP_NORM_H
#define CVC_GROUP_NORM_H

#include "internal.h"

enum { CVC_GROUP_COLUMNS = 64 }; /* of channels-last images, about, at once */

/** Mean and 1 / deviation of a group. */
typedef struct cvc_moments {
  double mean, factor;
} cvc_moments;

/** Channels of a group. */
static inline int64_t cvc_of_group(const cvc_group_norm *norm) {
  return norm->c / norm->groups;
}

/** Whether the elements of a group are neighbours. */
static inline bool cvc_group_is_dense(const cvc_group_norm *norm) {
  return norm->layout == CVC_CHANNELS_FIRST || norm->space == 1;
}

/** Groups of a task. */
static inline int64_t cvc_groups_at_once(const cvc_group_norm *norm) {
  if (cvc_group_is_dense(norm)) return 1;
  return cvc_min(norm->groups,
                 cvc_max(1, CVC_GROUP_COLUMNS / cvc_of_group(norm)));
}

/** Of a group whose elements are neighbours, at x. */
cvc_moments cvc_dense_moments(const cvc_group_norm *norm, const void *x);

/** Of whole groups of a channels-last image, whose `columns` channels begin at
 * x; scratch: [3][columns]. */
void cvc_column_moments(const cvc_group_norm *norm, const void *x,
                        int64_t columns, double *scratch, cvc_moments *moments);

#endif /* CVC_GROUP_NORM_H */
