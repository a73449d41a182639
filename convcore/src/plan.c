/**
 * Plans: lists of steps whose operands are offsets into spaces.
 */
#include <stdlib.h>
#include <string.h>

#include "step.h"

#define POLL_SECONDS 0.01

struct cvc_plan {
  int64_t n_steps;
  double *work; /* operations before each step, and of all; behind the steps */
  cvc_step steps[];
};

/* ----------------------------------------------------------------- create */

/** The spaces as the caller declares them. */
typedef struct spaces {
  const int64_t *bytes, *external_bytes;
  int64_t n_external;
} spaces;

static cvc_status check_operand(const cvc_operand *operand,
                                const cvc_expected *expected,
                                const spaces *declared) {
  if (operand->space < CVC_SPACE_ARENA || operand->space > CVC_SPACE_EXTERNAL)
    return CVC_BAD_ARGUMENT;
  const bool external = operand->space == CVC_SPACE_EXTERNAL;
  if (operand->index < 0 ||
      operand->index >= (external ? declared->n_external : 1))
    return CVC_BAD_ARGUMENT;
  const int64_t bytes = cvc_dtype_bytes(operand->dtype);
  if (!bytes) return CVC_BAD_ARGUMENT;
  if (operand->dtype != expected->dtype) return CVC_UNSUPPORTED;
  if (operand->size < 0 || operand->offset < 0) return CVC_BAD_ARGUMENT;
  if (operand->size != expected->size) return CVC_BAD_SHAPE;
  const int64_t room = external ? declared->external_bytes[operand->index]
                                : declared->bytes[operand->space];
  if (operand->offset > room / bytes - operand->size) return CVC_BAD_SHAPE;
  return CVC_OK;
}

static cvc_status check_step(const cvc_step *step, const spaces *declared) {
  if (step->kind < 0 || step->kind >= CVC_STEP_KINDS) return CVC_BAD_ARGUMENT;
  const cvc_kind *k = &cvc_kinds[step->kind];
  cvc_expected expected[CVC_MAX_OPERANDS];
  CVC_TRY(k->expect(step, expected));
  for (int i = 0; i < CVC_MAX_OPERANDS; i++) {
    const cvc_operand *operand = &step->operands[i];
    const bool absent = operand->space == CVC_SPACE_NONE;
    if (i >= k->operands && !absent) return CVC_BAD_ARGUMENT;
    if (i < k->operands && absent && !(k->optional & CVC_OPTIONAL(i)))
      return CVC_BAD_ARGUMENT;
    if (!absent) CVC_TRY(check_operand(operand, &expected[i], declared));
  }
  return CVC_OK;
}

static cvc_status check_spaces(const spaces *declared) {
  if (declared->n_external < 0 ||
      (declared->n_external && !declared->external_bytes))
    return CVC_BAD_ARGUMENT;
  for (int i = CVC_SPACE_ARENA; i < CVC_SPACE_EXTERNAL; i++)
    if (declared->bytes[i] < 0) return CVC_BAD_ARGUMENT;
  for (int64_t i = 0; i < declared->n_external; i++)
    if (declared->external_bytes[i] < 0) return CVC_BAD_ARGUMENT;
  return CVC_OK;
}

cvc_status cvc_plan_create(const cvc_step *steps, int64_t n_steps,
                           const int64_t space_bytes[CVC_SPACE_EXTERNAL + 1],
                           const int64_t *external_bytes, int64_t n_external,
                           cvc_plan **plan, int64_t *bad_step) {
  if (bad_step) *bad_step = -1;
  if (!plan || n_steps < 0 || (n_steps && !steps) || !space_bytes)
    return CVC_BAD_ARGUMENT;
  const spaces declared = {space_bytes, external_bytes, n_external};
  CVC_TRY(check_spaces(&declared));
  for (int64_t i = 0; i < n_steps; i++) {
    if (bad_step) *bad_step = i;
    CVC_TRY(check_step(&steps[i], &declared));
  }
  if (bad_step) *bad_step = -1;
  int64_t bytes = sizeof(cvc_step) + sizeof(double);
  CVC_TRY(cvc_multiply(&bytes, n_steps));
  cvc_plan *made = malloc(sizeof *made + sizeof(double) + (size_t)bytes);
  if (!made) return CVC_NO_MEMORY;
  made->n_steps = n_steps;
  if (n_steps) memcpy(made->steps, steps, (size_t)n_steps * sizeof *steps);
  made->work = (double *)(void *)(made->steps + n_steps);
  made->work[0] = 0;
  for (int64_t i = 0; i < n_steps; i++)
    made->work[i + 1] = made->work[i] + cvc_step_work(&steps[i]);
  *plan = made;
  return CVC_OK;
}

void cvc_plan_destroy(cvc_plan *plan) { free(plan); }

/* -------------------------------------------------------------------- run */

static cvc_status check_range(const cvc_plan *plan, int64_t first,
                              int64_t last) {
  return plan && first >= 0 && first <= last && last <= plan->n_steps
             ? CVC_OK
             : CVC_BAD_ARGUMENT;
}

cvc_status cvc_plan_scratch(const cvc_plan *plan, int64_t first, int64_t last,
                            int threads, int64_t *scratch_bytes) {
  CVC_TRY(check_range(plan, first, last));
  if (threads < 0 || !scratch_bytes) return CVC_BAD_ARGUMENT;
  int64_t most = 0;
  for (int64_t i = first; i < last; i++) {
    const cvc_step *step = &plan->steps[i];
    int64_t bytes = 0;
    if (cvc_kinds[step->kind].scratch)
      CVC_TRY(cvc_kinds[step->kind].scratch(step, threads, &bytes));
    most = cvc_max(most, bytes);
  }
  *scratch_bytes = most;
  return CVC_OK;
}

/** Start of an operand's space; NULL where there is none. */
static void *space_of(const cvc_memory *memory, const cvc_operand *operand) {
  switch (operand->space) {
    case CVC_SPACE_NONE: return NULL;
    case CVC_SPACE_ARENA: return memory->arena;
    case CVC_SPACE_PARAMETERS: return memory->parameters;
    case CVC_SPACE_GRADIENTS: return memory->gradients;
    case CVC_SPACE_STATE: return memory->state;
    case CVC_SPACE_EXTERNAL:
      return memory->external ? memory->external[operand->index] : NULL;
  }
  return NULL;
}

static void *resolve(const cvc_memory *memory, const cvc_operand *operand) {
  void *space = space_of(memory, operand);
  return space ? cvc_at(space, operand->offset, cvc_dtype_bytes(operand->dtype))
               : NULL;
}

/** Every space that the steps use is there and aligned. */
static cvc_status check_memory(const cvc_plan *plan, int64_t first,
                               int64_t last, const cvc_memory *memory) {
  for (int64_t i = first; i < last; i++)
    for (int j = 0; j < cvc_kinds[plan->steps[i].kind].operands; j++) {
      const cvc_operand *operand = &plan->steps[i].operands[j];
      if (operand->space == CVC_SPACE_NONE || operand->size == 0) continue;
      const void *space = space_of(memory, operand);
      const int64_t alignment = operand->space == CVC_SPACE_EXTERNAL
                                    ? cvc_dtype_bytes(operand->dtype)
                                    : 64;
      if (!space || (uintptr_t)space % (uintptr_t)alignment)
        return CVC_BAD_ARGUMENT;
    }
  return CVC_OK;
}

static cvc_status run_step(const cvc_step *step, const cvc_memory *memory,
                           const cvc_call *call) {
  void *p[CVC_MAX_OPERANDS] = {NULL};
  for (int i = 0; i < cvc_kinds[step->kind].operands; i++)
    p[i] = resolve(memory, &step->operands[i]);
  return cvc_kinds[step->kind].run(step, p, call);
}

/** A run of some steps. */
typedef struct run {
  const cvc_plan *plan;
  int64_t first, last, at;
  const cvc_memory *memory;
  cvc_call call;
  double *seconds;
} run;

/**
 * Steps are short: each would end before it first polls, so the interrupt is
 * also polled between them. Not once an update has begun: parameters change
 * in one piece.
 */
static cvc_status run_steps(void *context) {
  run *r = context;
  cvc_call *call = &r->call;
  double (*const now)(void) = r->seconds ? cvc_now : cvc_about_now;
  double polled = now(), begin = polled;
  for (r->at = r->first; r->at < r->last; r->at++) {
    const cvc_step *step = &r->plan->steps[r->at];
    if (cvc_kinds[step->kind].updates) call->interrupt = NULL;
    if (call->interrupt && begin - polled >= POLL_SECONDS) {
      if (call->interrupt(call->interrupt_data)) return CVC_INTERRUPTED;
      polled = begin;
    }
    CVC_TRY(run_step(step, r->memory, call));
    const double end = now();
    if (r->seconds) r->seconds[r->at - r->first] = end - begin;
    begin = end;
  }
  return CVC_OK;
}

cvc_status cvc_plan_run(const cvc_plan *plan, int64_t first, int64_t last,
                        const cvc_memory *memory, const cvc_call *call,
                        double *seconds, int64_t *failed_step) {
  if (failed_step) *failed_step = -1;
  CVC_TRY(check_range(plan, first, last));
  if (!memory) return CVC_BAD_ARGUMENT;
  CVC_TRY(check_memory(plan, first, last, memory));
  /* One thread count and one block of scratch for all steps. */
  run r = {.plan = plan,
           .first = first,
           .last = last,
           .memory = memory,
           .call = call ? *call : (cvc_call){0},
           .seconds = seconds};
  if (r.call.threads <= 0) r.call.threads = cvc_get_num_threads();
  /* That of the caller is checked by the steps that need it. */
  int64_t bytes = r.call.scratch_bytes;
  if (!r.call.scratch)
    CVC_TRY(cvc_plan_scratch(plan, first, last, r.call.threads, &bytes));
  cvc_scratch scratch;
  CVC_TRY(cvc_scratch_begin(&scratch, call, bytes));
  r.call.scratch = scratch.memory;
  r.call.scratch_bytes = bytes;
  const int threads = cvc_plan_threads(&r.call, INT64_MAX,
                                       plan->work[last] - plan->work[first]);
  const cvc_status status = cvc_with_team(threads, run_steps, &r);
  cvc_scratch_end(&scratch);
  if (failed_step && status != CVC_OK) *failed_step = r.at;
  return status;
}
