/** Plans: a training step whole, in segments and by single calls; what
 * cvc_plan_create refuses; interrupts. */
#include "check.h"

/* A network: conv 3x3 (packed weights), ReLU, max pooling, linear, loss. */
enum { N = 48, C = 2, K = 5, SIZE = 16, HALF = SIZE / 2, CLASSES = 4 };
enum {
  X = N * SIZE * SIZE * C,
  A = N * SIZE * SIZE * K,
  P = N * HALF * HALF * K,
  LOGITS = N * CLASSES,
  W1 = K * C * 9,
  W2 = CLASSES * K * HALF * HALF,
  W2_AT = 96,
  B1_AT = W2_AT + 1280,
  PARAMETERS = B1_AT + 16
};
enum {
  EXTERNAL_X,
  EXTERNAL_TARGET,
  EXTERNAL_LOSS,
  EXTERNAL_ONE,
  EXTERNAL_HYPER,
  EXTERNALS
};
enum {
  PACK,
  CONV,
  RELU,
  POOL,
  LINEAR,
  LOSS,
  DLOSS,
  LINEAR_DW,
  LINEAR_DX,
  POOL_DX,
  RELU_DX,
  CONV_DW,
  UPDATE,
  STEPS
};

static cvc_operand operand(cvc_space space, int64_t offset, int64_t size) {
  return (cvc_operand){
      .space = space, .dtype = CVC_F32, .offset = offset, .size = size};
}

static cvc_operand arena(int64_t offset, int64_t size) {
  return operand(CVC_SPACE_ARENA, offset, size);
}

static cvc_operand external(int index, cvc_dtype dtype, int64_t size) {
  return (cvc_operand){.space = CVC_SPACE_EXTERNAL,
                       .index = index,
                       .dtype = dtype,
                       .size = size};
}

/* Places in the arena, in float32 elements. */
enum {
  A1 = 0,
  A2 = A1 + A,
  A3 = A2 + A,
  INDICES = A3 + P,
  LOGITS_AT = INDICES + P,
  DLOGITS = LOGITS_AT + LOGITS,
  DA3 = DLOGITS + LOGITS,
  DA2 = DA3 + P,
  DA1 = DA2 + A,
  ARENA = DA1 + A
};

static cvc_conv conv_descriptor(void) {
  return (cvc_conv){.dtype = CVC_F32,
                    .layout = CVC_CHANNELS_LAST,
                    .weights = CVC_WEIGHTS_PACKED,
                    .n = N,
                    .c = C,
                    .k = K,
                    .groups = 1,
                    .size = {1, SIZE, SIZE},
                    .kernel = {1, 3, 3},
                    .stride = {1, 1, 1},
                    .pad_before = {0, 1, 1},
                    .pad_after = {0, 1, 1},
                    .dilation = {1, 1, 1}};
}

static cvc_conv linear_descriptor(void) {
  return (cvc_conv){.dtype = CVC_F32,
                    .layout = CVC_CHANNELS_LAST,
                    .n = N,
                    .c = K * HALF * HALF,
                    .k = CLASSES,
                    .groups = 1,
                    .size = {1, 1, 1},
                    .kernel = {1, 1, 1},
                    .stride = {1, 1, 1},
                    .dilation = {1, 1, 1}};
}

static cvc_pool pool_descriptor(void) {
  return (cvc_pool){.dtype = CVC_F32,
                    .layout = CVC_CHANNELS_LAST,
                    .kind = CVC_POOL_MAX,
                    .index_dtype = CVC_U8,
                    .n = N,
                    .c = K,
                    .size = {1, SIZE, SIZE},
                    .out = {1, HALF, HALF},
                    .kernel = {1, 2, 2},
                    .stride = {1, 2, 2},
                    .dilation = {1, 1, 1}};
}

static const cvc_cross_entropy loss_descriptor = {
    .dtype = CVC_F32,
    .reduction = CVC_REDUCTION_MEAN,
    .n = N,
    .classes = CLASSES,
    .ignore_index = -100};

static int64_t packed_size(void) {
  const cvc_conv conv = conv_descriptor();
  int64_t size = 0;
  CHECK_OK(cvc_conv_packed_size(&conv, CVC_FORWARD, &size));
  return size;
}

/* The optimizer's state, after the packed weights. */
static int64_t state_offset(void) { return (packed_size() + 15) / 16 * 16; }

static void make_steps(cvc_step steps[STEPS]) {
  const cvc_operand x = external(EXTERNAL_X, CVC_F32, X);
  const cvc_operand target = external(EXTERNAL_TARGET, CVC_I64, N);
  const cvc_operand w1 = operand(CVC_SPACE_PARAMETERS, 0, W1);
  const cvc_operand w2 = operand(CVC_SPACE_PARAMETERS, W2_AT, W2);
  const cvc_operand b1 = operand(CVC_SPACE_PARAMETERS, B1_AT, K);
  const cvc_operand packed = operand(CVC_SPACE_STATE, 0, packed_size());
  const cvc_operand a1 = arena(A1, A), a2 = arena(A2, A), a3 = arena(A3, P);
  const cvc_operand indices = {.space = CVC_SPACE_ARENA,
                               .dtype = CVC_U8,
                               .offset = (int64_t)INDICES * 4,
                               .size = P};
  const cvc_operand logits = arena(LOGITS_AT, LOGITS);
  const cvc_operand dlogits = arena(DLOGITS, LOGITS), da3 = arena(DA3, P);
  const cvc_operand da2 = arena(DA2, A), da1 = arena(DA1, A);
  const cvc_operand none = {0};
  memset(steps, 0, STEPS * sizeof *steps);
#define STEP(at, kind_, ...) \
  steps[at] = (cvc_step) { .kind = CVC_STEP_##kind_, .operands = {__VA_ARGS__} }
  STEP(PACK, CONV_PACK, w1, packed);
  STEP(CONV, CONV_FORWARD, x, packed, b1, none, a1);
  STEP(RELU, RELU_FORWARD, a1, a2);
  STEP(POOL, POOL_FORWARD, a2, a3, indices);
  STEP(LINEAR, CONV_FORWARD, a3, w2, none, none, logits);
  STEP(LOSS, CROSS_ENTROPY_FORWARD, logits, target, none,
       external(EXTERNAL_LOSS, CVC_F32, 1));
  STEP(DLOSS, CROSS_ENTROPY_BACKWARD, external(EXTERNAL_ONE, CVC_F32, 1),
       logits, target, none, dlogits);
  STEP(LINEAR_DW, CONV_BACKWARD_WEIGHT, dlogits, a3,
       operand(CVC_SPACE_GRADIENTS, W2_AT, W2), none);
  STEP(LINEAR_DX, CONV_BACKWARD_DATA, dlogits, w2, da3);
  STEP(POOL_DX, POOL_BACKWARD, da3, indices, da2);
  STEP(RELU_DX, RELU_BACKWARD, da2, a2, da1);
  STEP(CONV_DW, CONV_BACKWARD_WEIGHT, da1, x,
       operand(CVC_SPACE_GRADIENTS, 0, W1),
       operand(CVC_SPACE_GRADIENTS, B1_AT, K));
  STEP(UPDATE, SGD, external(EXTERNAL_HYPER, CVC_F64, 7),
       operand(CVC_SPACE_GRADIENTS, 0, PARAMETERS),
       operand(CVC_SPACE_PARAMETERS, 0, PARAMETERS),
       operand(CVC_SPACE_STATE, state_offset(), PARAMETERS));
#undef STEP
  steps[PACK].of.conv = steps[CONV].of.conv = conv_descriptor();
  steps[CONV_DW].of.conv = conv_descriptor();
  steps[LINEAR].of.conv = linear_descriptor();
  steps[LINEAR_DW].of.conv = steps[LINEAR_DX].of.conv = linear_descriptor();
  steps[POOL].of.pool = steps[POOL_DX].of.pool = pool_descriptor();
  steps[LOSS].of.cross_entropy = steps[DLOSS].of.cross_entropy =
      loss_descriptor;
}

static const int64_t external_bytes[EXTERNALS] = {X * 4, N * 8, 4, 4, 56};

static void space_bytes(int64_t bytes[CVC_SPACE_EXTERNAL + 1]) {
  bytes[CVC_SPACE_ARENA] = (int64_t)ARENA * 4;
  bytes[CVC_SPACE_PARAMETERS] = bytes[CVC_SPACE_GRADIENTS] = PARAMETERS * 4;
  bytes[CVC_SPACE_STATE] = (state_offset() + PARAMETERS) * 4;
}

static cvc_plan *make_plan(void) {
  cvc_step steps[STEPS];
  int64_t bytes[CVC_SPACE_EXTERNAL + 1] = {0}, bad_step = 99;
  cvc_plan *plan = NULL;
  make_steps(steps);
  space_bytes(bytes);
  CHECK_OK(cvc_plan_create(steps, STEPS, bytes, external_bytes, EXTERNALS,
                           &plan, &bad_step));
  CHECK(plan && bad_step == -1);
  return plan;
}

/** Memory of one run; the same contents every time. */
typedef struct run {
  cvc_memory memory;
  void *external[EXTERNALS];
} run;

static void *filled(size_t bytes, double scale) {
  float *array = guarded(bytes, 64);
  for (size_t i = 0; i < bytes / 4; i++) array[i] = (float)(scale * uniform());
  return array;
}

static void make_run(run *r) {
  int64_t bytes[CVC_SPACE_EXTERNAL + 1] = {0};
  space_bytes(bytes);
  random_state = 7;
  r->memory = (cvc_memory){
      .arena = filled((size_t)bytes[CVC_SPACE_ARENA], 1),
      .parameters = filled((size_t)bytes[CVC_SPACE_PARAMETERS], 0.2),
      .gradients = filled((size_t)bytes[CVC_SPACE_GRADIENTS], 0),
      .state = filled((size_t)bytes[CVC_SPACE_STATE], 0),
      .external = r->external};
  for (int i = 0; i < EXTERNALS; i++)
    r->external[i] = filled((size_t)external_bytes[i], 1);
  for (int64_t i = 0; i < N; i++)
    ((int64_t *)r->external[EXTERNAL_TARGET])[i] = i % CLASSES;
  *(float *)r->external[EXTERNAL_ONE] = 1;
  const double hyper[7] = {0.1, 0.9, 0, 1e-3, 1, 0, 0};
  memcpy(r->external[EXTERNAL_HYPER], hyper, sizeof hyper);
}

static bool same_run(const run *a, const run *b) {
  return same_bytes(CVC_F32, a->memory.parameters, b->memory.parameters,
                    PARAMETERS) &&
         same_bytes(CVC_F32, a->memory.gradients, b->memory.gradients,
                    PARAMETERS) &&
         same_bytes(CVC_F32, a->external[EXTERNAL_LOSS],
                    b->external[EXTERNAL_LOSS], 1);
}

/** The same training step by calls of the operations. */
static void run_by_calls(run *r) {
  const cvc_conv conv = conv_descriptor(), linear = linear_descriptor();
  const cvc_pool pool = pool_descriptor();
  float *at = r->memory.arena, *w = r->memory.parameters;
  float *g = r->memory.gradients, *state = r->memory.state;
  const float *x = r->external[EXTERNAL_X];
  const int64_t *target = r->external[EXTERNAL_TARGET];
  const double *h = r->external[EXTERNAL_HYPER];
  const cvc_sgd sgd = {h[0], h[1],          h[2],         h[3],
                       h[4], (int64_t)h[5], (int64_t)h[6]};
  CHECK_OK(cvc_conv_pack(&conv, CVC_FORWARD, w, state, NULL));
  CHECK_OK(cvc_conv_forward(&conv, x, state, w + B1_AT, NULL, at + A1, NULL));
  CHECK_OK(cvc_relu_forward(CVC_F32, A, at + A1, at + A2, NULL));
  CHECK_OK(cvc_pool_forward(&pool, at + A2, at + A3, at + INDICES, NULL));
  CHECK_OK(cvc_conv_forward(&linear, at + A3, w + W2_AT, NULL, NULL,
                            at + LOGITS_AT, NULL));
  CHECK_OK(cvc_cross_entropy_forward(&loss_descriptor, at + LOGITS_AT, target,
                                     NULL, r->external[EXTERNAL_LOSS], NULL));
  CHECK_OK(cvc_cross_entropy_backward(&loss_descriptor,
                                      r->external[EXTERNAL_ONE], at + LOGITS_AT,
                                      target, NULL, at + DLOGITS, NULL));
  CHECK_OK(cvc_conv_backward_weight(&linear, at + DLOGITS, at + A3, g + W2_AT,
                                    NULL, NULL));
  CHECK_OK(
      cvc_conv_backward_data(&linear, at + DLOGITS, w + W2_AT, at + DA3, NULL));
  CHECK_OK(cvc_pool_backward(&pool, at + DA3, at + INDICES, at + DA2, NULL));
  CHECK_OK(cvc_relu_backward(CVC_F32, A, at + DA2, at + A2, at + DA1, NULL));
  CHECK_OK(cvc_conv_backward_weight(&conv, at + DA1, x, g, g + B1_AT, NULL));
  CHECK_OK(cvc_sgd_step(CVC_F32, PARAMETERS, &sgd, g, w, state + state_offset(),
                        NULL));
}

static void test_training(void) {
  snprintf(context, sizeof context, "training");
  cvc_plan *plan = make_plan();
  run wanted, r;
  make_run(&wanted);
  float losses[5];
  for (int step = 0; step < 5; step++) {
    ((double *)wanted.external[EXTERNAL_HYPER])[6] = step;
    run_by_calls(&wanted);
    losses[step] = *(float *)wanted.external[EXTERNAL_LOSS];
  }
  CHECK(losses[4] < losses[0]);

  static const int64_t whole[] = {0, STEPS};
  static const int64_t segments[] = {0, CONV, DLOSS, UPDATE, UPDATE, STEPS};
  for (int threads = 1; threads <= 3; threads++)
    for (int split = 0; split < 2; split++) {
      const int64_t *at = split ? segments : whole;
      const int parts = split ? 5 : 1;
      make_run(&r);
      cvc_call call = {.threads = threads};
      CHECK_OK(cvc_plan_scratch(plan, 0, STEPS, threads, &call.scratch_bytes));
      if (split) call.scratch = guarded((size_t)call.scratch_bytes, 64);
      for (int step = 0; step < 5; step++) {
        ((double *)r.external[EXTERNAL_HYPER])[6] = step;
        for (int i = 0; i < parts; i++) {
          double seconds[STEPS + 1];
          int64_t failed = 99;
          seconds[at[i + 1] - at[i]] = -1; /* beyond the last */
          CHECK_OK(cvc_plan_run(plan, at[i], at[i + 1], &r.memory, &call,
                                seconds, &failed));
          CHECK(failed == -1 && seconds[at[i + 1] - at[i]] == -1);
          for (int64_t s = 0; s < at[i + 1] - at[i]; s++)
            CHECK(seconds[s] >= 0 && seconds[s] < 60);
        }
        CHECK(*(float *)r.external[EXTERNAL_LOSS] == losses[step]);
      }
      CHECK(same_run(&r, &wanted));
    }
  cvc_plan_destroy(plan);
  release_arrays();
}

/** The kinds that the network does not use. */
static void test_movement(void) {
  snprintf(context, sizeof context, "movement");
  cvc_step steps[3] = {
      {.kind = CVC_STEP_TRANSPOSE, .operands = {arena(0, 24), arena(32, 24)}},
      {.kind = CVC_STEP_COPY, .operands = {arena(32, 23), arena(64, 17)}},
      {.kind = CVC_STEP_ADD,
       .operands = {arena(64, 17), arena(0, 17), arena(64, 17)}}};
  steps[0].of.transpose.batch = 2;
  steps[0].of.transpose.a = 3;
  steps[0].of.transpose.b = 4;
  steps[1].of.copy.rows = 3;
  steps[1].of.copy.columns = 5;
  steps[1].of.copy.x_stride = 9;
  steps[1].of.copy.y_stride = 6;
  int64_t bytes[CVC_SPACE_EXTERNAL + 1] = {0};
  bytes[CVC_SPACE_ARENA] = 81 * 4;
  cvc_plan *plan = NULL;
  CHECK_OK(cvc_plan_create(steps, 3, bytes, NULL, 0, &plan, NULL));
  float *at = filled(81 * 4, 1), wanted[96];
  memcpy(wanted, at, 81 * 4);
  for (int n = 0; n < 2; n++)
    for (int i = 0; i < 12; i++)
      wanted[32 + n * 12 + i % 4 * 3 + i / 4] = wanted[n * 12 + i];
  for (int i = 0; i < 15; i++)
    wanted[64 + i / 5 * 6 + i % 5] = wanted[32 + i / 5 * 9 + i % 5];
  for (int i = 0; i < 17; i++) wanted[64 + i] += wanted[i];
  const cvc_memory memory = {.arena = at};
  CHECK_OK(cvc_plan_run(plan, 0, 3, &memory, NULL, NULL, NULL));
  CHECK(memcmp(at, wanted, 81 * 4) == 0);
  cvc_plan_destroy(plan);
  release_arrays();
}

/** Change one thing about the network's steps: the plan is refused, with the
 * number of the step. */
static void test_bad_plans(void) {
  cvc_step steps[STEPS];
  int64_t bytes[CVC_SPACE_EXTERNAL + 1] = {0}, bad_step;
  cvc_plan *plan = NULL;
  space_bytes(bytes);
#define CREATE(n_steps, bytes, externals, n_externals)                  \
  cvc_plan_create(steps, n_steps, bytes, externals, n_externals, &plan, \
                  &bad_step)
#define BAD(step, field, value, status)                                    \
  do {                                                                     \
    snprintf(context, sizeof context, "step %d, " #field, step);           \
    make_steps(steps);                                                     \
    steps[step].field = value;                                             \
    bad_step = 99;                                                         \
    CHECK_STATUS(CREATE(STEPS, bytes, external_bytes, EXTERNALS), status); \
    CHECK(plan == NULL && bad_step == (step));                             \
  } while (0)
  BAD(CONV, kind, (cvc_step_kind)-1, CVC_BAD_ARGUMENT);
  BAD(CONV, kind, CVC_STEP_KINDS, CVC_BAD_ARGUMENT);
  BAD(CONV, operands[0].space, (cvc_space)9, CVC_BAD_ARGUMENT);
  BAD(CONV, operands[0].space, CVC_SPACE_NONE, CVC_BAD_ARGUMENT);
  BAD(CONV, operands[0].index, 5, CVC_BAD_ARGUMENT);
  BAD(CONV, operands[0].index, -1, CVC_BAD_ARGUMENT);
  BAD(CONV, operands[4].index, 1, CVC_BAD_ARGUMENT);
  BAD(CONV, operands[0].dtype, CVC_F64, CVC_UNSUPPORTED);
  BAD(CONV, operands[0].dtype, (cvc_dtype)9, CVC_BAD_ARGUMENT);
  BAD(CONV, operands[0].size, X - 1, CVC_BAD_SHAPE);
  BAD(CONV, operands[0].size, -1, CVC_BAD_ARGUMENT);
  BAD(CONV, operands[0].offset, 1, CVC_BAD_SHAPE);
  BAD(CONV, operands[0].offset, -1, CVC_BAD_ARGUMENT);
  BAD(CONV, operands[0].offset, INT64_MAX, CVC_BAD_SHAPE);
  BAD(CONV, operands[5], arena(0, 1), CVC_BAD_ARGUMENT);
  BAD(CONV, of.conv.groups, 0, CVC_BAD_SHAPE);
  BAD(CONV, of.conv.weights, CVC_WEIGHTS_PLAIN, CVC_BAD_SHAPE);
  BAD(PACK, operands[1].offset, 1, CVC_BAD_ARGUMENT);
  BAD(PACK, pass, CVC_BACKWARD_WEIGHT, CVC_BAD_ARGUMENT);
  BAD(RELU, operands[1].size, A + 1, CVC_BAD_SHAPE);
  BAD(RELU, operands[0].size, -1, CVC_BAD_ARGUMENT);
  BAD(RELU, operands[0].dtype, CVC_U8, CVC_UNSUPPORTED);
  BAD(POOL, of.pool.stride[1], 0, CVC_BAD_SHAPE);
  BAD(POOL, of.pool.index_dtype, CVC_I64, CVC_UNSUPPORTED);
  BAD(POOL_DX, operands[1].space, CVC_SPACE_NONE, CVC_BAD_ARGUMENT);
  BAD(LOSS, of.cross_entropy.classes, 0, CVC_BAD_SHAPE);
  BAD(LOSS, operands[1].dtype, CVC_F32, CVC_UNSUPPORTED);
  BAD(UPDATE, operands[0].dtype, CVC_F32, CVC_UNSUPPORTED);
  BAD(UPDATE, operands[2].size, PARAMETERS + 1, CVC_BAD_SHAPE);
#undef BAD
  snprintf(context, sizeof context, "bad plans");
  make_steps(steps);
  CHECK_STATUS(cvc_plan_create(steps, STEPS, bytes, external_bytes, EXTERNALS,
                               NULL, NULL),
               CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_plan_create(NULL, 1, bytes, NULL, 0, &plan, &bad_step),
               CVC_BAD_ARGUMENT);
  CHECK_STATUS(CREATE(-1, bytes, external_bytes, EXTERNALS), CVC_BAD_ARGUMENT);
  CHECK_STATUS(CREATE(STEPS, NULL, external_bytes, EXTERNALS),
               CVC_BAD_ARGUMENT);
  CHECK_STATUS(CREATE(STEPS, bytes, NULL, EXTERNALS), CVC_BAD_ARGUMENT);
  CHECK_STATUS(CREATE(STEPS, bytes, external_bytes, -1), CVC_BAD_ARGUMENT);
  CHECK_STATUS(CREATE(STEPS, bytes, external_bytes, EXTERNALS - 1),
               CVC_BAD_ARGUMENT);
  bytes[CVC_SPACE_ARENA]--;
  CHECK_STATUS(CREATE(STEPS, bytes, external_bytes, EXTERNALS), CVC_BAD_SHAPE);
  CHECK(bad_step == RELU_DX);
  bytes[CVC_SPACE_ARENA] = -1;
  CHECK_STATUS(CREATE(STEPS, bytes, external_bytes, EXTERNALS),
               CVC_BAD_ARGUMENT);
  CHECK(plan == NULL);
#undef CREATE
  cvc_plan_destroy(NULL);
}

static void test_bad_runs(void) {
  snprintf(context, sizeof context, "bad runs");
  cvc_plan *plan = make_plan();
  run before, r;
  int64_t bytes, failed = 99;
  make_run(&before);
  make_run(&r);
#define RUN(first, last, call) \
  cvc_plan_run(plan, first, last, &r.memory, call, NULL, &failed)
  CHECK_STATUS(RUN(-1, 2, NULL), CVC_BAD_ARGUMENT);
  CHECK_STATUS(RUN(3, 2, NULL), CVC_BAD_ARGUMENT);
  CHECK_STATUS(RUN(0, STEPS + 1, NULL), CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_plan_run(NULL, 0, 0, &r.memory, NULL, NULL, NULL),
               CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_plan_run(plan, 0, 1, NULL, NULL, NULL, NULL),
               CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_plan_scratch(plan, 0, STEPS + 1, 1, &bytes),
               CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_plan_scratch(plan, 0, 1, -1, &bytes), CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_plan_scratch(plan, 0, 1, 1, NULL), CVC_BAD_ARGUMENT);
  const cvc_memory memory = r.memory;
  r.memory.arena = NULL;
  CHECK_STATUS(RUN(0, STEPS, NULL), CVC_BAD_ARGUMENT);
  CHECK_OK(RUN(0, 0, NULL));
  r.memory.arena = (char *)memory.arena + 4;
  CHECK_STATUS(RUN(0, STEPS, NULL), CVC_BAD_ARGUMENT);
  r.memory.arena = memory.arena;
  r.external[EXTERNAL_LOSS] = NULL;
  CHECK_STATUS(RUN(0, STEPS, NULL), CVC_BAD_ARGUMENT);
  r.memory.external = NULL;
  CHECK_STATUS(RUN(0, STEPS, NULL), CVC_BAD_ARGUMENT);
  r.memory.external = r.external;
  CHECK(failed == -1);
  CHECK_OK(cvc_plan_scratch(plan, 0, STEPS, 1, &bytes));
  const cvc_call call = {.threads = 1,
                         .scratch = guarded((size_t)bytes, 64),
                         .scratch_bytes = bytes - 1};
  r.external[EXTERNAL_LOSS] = before.external[EXTERNAL_LOSS];
  CHECK_STATUS(RUN(0, STEPS, &call), CVC_BAD_ARGUMENT);
  CHECK(same_run(&before, &r));
  /* A step that fails is named, and none after it runs. */
  ((int64_t *)r.external[EXTERNAL_TARGET])[3] = CLASSES;
  CHECK_STATUS(RUN(0, STEPS, NULL), CVC_BAD_ARGUMENT);
  CHECK(failed == LOSS);
  ((int64_t *)r.external[EXTERNAL_TARGET])[3] = 0;
  ((double *)r.external[EXTERNAL_HYPER])[6] = NAN;
  CHECK_STATUS(RUN(UPDATE, STEPS, NULL), CVC_BAD_ARGUMENT);
  CHECK(failed == UPDATE && same_run(&before, &r));
#undef RUN
  cvc_plan_destroy(plan);
  release_arrays();
}

static int polls;
static int interrupt(void *data) {
  (void)data;
  polls++;
  return 1;
}

/** Short steps are interrupted between them, updates are not. */
static void test_interrupt(void) {
  snprintf(context, sizeof context, "interrupt");
  enum { REPEATS = 1000, ELEMENTS = 400000 };
  cvc_step *steps = calloc(REPEATS, sizeof *steps);
  int64_t bytes[CVC_SPACE_EXTERNAL + 1] = {0}, failed = -1;
  const int64_t external_hyper = 56;
  bytes[CVC_SPACE_ARENA] = 2 * ELEMENTS * 4;
  double hyper[7] = {0};
  void *external_array[] = {hyper};
  const cvc_memory memory = {.arena = filled((size_t)bytes[1], 1),
                             .external = external_array};
  const cvc_call call = {.threads = 1, .interrupt = interrupt};
  cvc_plan *plan = NULL;
  for (int i = 0; i < REPEATS; i++)
    steps[i] =
        (cvc_step){.kind = CVC_STEP_RELU_FORWARD,
                   .operands = {arena(0, ELEMENTS), arena(ELEMENTS, ELEMENTS)}};
  CHECK_OK(cvc_plan_create(steps, REPEATS, bytes, NULL, 0, &plan, NULL));
  CHECK_STATUS(cvc_plan_run(plan, 0, REPEATS, &memory, &call, NULL, &failed),
               CVC_INTERRUPTED);
  CHECK(polls == 1 && failed > 0 && failed < REPEATS);
  cvc_plan_destroy(plan);

  for (int i = 0; i < REPEATS; i++)
    steps[i] =
        (cvc_step){.kind = CVC_STEP_SGD,
                   .operands = {external(0, CVC_F64, 7), arena(0, ELEMENTS),
                                arena(ELEMENTS, ELEMENTS)}};
  CHECK_OK(
      cvc_plan_create(steps, REPEATS, bytes, &external_hyper, 1, &plan, NULL));
  CHECK_OK(cvc_plan_run(plan, 0, REPEATS, &memory, &call, NULL, &failed));
  CHECK(polls == 1 && failed == -1);
  cvc_plan_destroy(plan);
  free(steps);
  release_arrays();
}

int main(void) {
  for (int side = 0; side < 2; side++) {
    guard_before = side;
    test_training();
    test_movement();
    test_bad_runs();
  }
  test_bad_plans();
  test_interrupt();
  return report("plan");
}
