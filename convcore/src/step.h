/**
 * What a step of a plan needs and does, by its kind.
 */
#ifndef CVC_STEP_H
#define CVC_STEP_H

#include "internal.h"

/** What an operand has to be. */
typedef struct cvc_expected {
  cvc_dtype dtype;
  int64_t size;
} cvc_expected;

#define CVC_OPTIONAL(i) (1U << (i))

typedef struct cvc_kind {
  int operands;
  unsigned optional; /* bit i: operand i may be absent */
  /* Check the descriptor and say what the operands have to be. */
  cvc_status (*expect)(const cvc_step *step, cvc_expected *operands);
  cvc_status (*run)(const cvc_step *step, void *const *p, const cvc_call *call);
  cvc_status (*scratch)(const cvc_step *step, int threads, int64_t *bytes);
  bool updates; /* parameters: they change all or not at all */
} cvc_kind;

extern const cvc_kind cvc_kinds[CVC_STEP_KINDS];

/** Operations of a step whose operands are as expected, about. */
double cvc_step_work(const cvc_step *step);

#endif /* CVC_STEP_H */
