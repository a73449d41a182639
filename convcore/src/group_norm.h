/** What group norm and its gradient share: mean and deviation of groups. */
#ifndef CVC_GROUP_NORM_H
#define CVC_GROUP_NORM_H

#include "internal.h"

/* Of a task, about: channels, and elements of dense groups. */
enum { CVC_GROUP_COLUMNS = 64, CVC_GROUP_ELEMENTS = 1 << 14 };

/** Mean and 1 / deviation of a group; mean - shift of its sums. */
typedef struct cvc_moments {
  double mean, factor, off;
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
  const int64_t of_group = cvc_of_group(norm);
  int64_t most = CVC_GROUP_COLUMNS / of_group;
  if (cvc_group_is_dense(norm))
    most =
        cvc_min(most, CVC_GROUP_ELEMENTS / cvc_max(1, of_group * norm->space));
  return cvc_min(norm->groups, cvc_max(1, most));
}

/** The channels of whole groups of an image, `of_group` each, and room for
 * four sums and a shift of every channel: [5][channels]. */
typedef struct cvc_group_sums {
  cvc_sums of;
  int64_t channels, of_group;
  double *room;
} cvc_group_sums;

/** The moments of the groups, after the sums around shifts that are found. */
void cvc_group_moments(const cvc_group_norm *norm, cvc_group_sums *groups,
                       cvc_moments *moments);

#endif /* CVC_GROUP_NORM_H */
