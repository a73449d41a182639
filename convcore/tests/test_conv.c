/** Convolution and its gradients, against their definition in double. */
#include "check.h"

typedef struct conv_case {
  int64_t n, c, k, groups, size[3], kernel[3], stride[3], before[3], after[3];
  int64_t dilation[3];
} conv_case;

/* clang-format off */
static const conv_case cases[] = {
    /* n, c, k, groups, size, kernel, stride, before, after, dilation */
    {1, 1, 1, 1, {1,1,1}, {1,1,1}, {1,1,1}, {0,0,0}, {0,0,0}, {1,1,1}},
    {2, 3, 5, 1, {1,1,17}, {1,1,4}, {1,1,2}, {0,0,2}, {0,0,1}, {1,1,1}},
    {2, 4, 6, 1, {1,7,9}, {1,3,3}, {1,1,1}, {0,1,1}, {0,1,1}, {1,1,1}},
    {1, 3, 8, 1, {1,12,11}, {1,7,7}, {1,2,2}, {0,3,3}, {0,3,3}, {1,1,1}},
    {1, 17, 33, 1, {1,10,9}, {1,3,3}, {1,1,1}, {0,1,0}, {0,0,2}, {1,1,1}},
    {1, 5, 7, 1, {1,12,13}, {1,5,5}, {1,1,1}, {0,2,2}, {0,2,2}, {1,1,1}},
    {2, 6, 9, 3, {1,8,7}, {1,3,2}, {1,2,1}, {0,1,1}, {0,1,0}, {1,1,2}},
    {1, 6, 6, 6, {1,9,8}, {1,3,3}, {1,1,1}, {0,1,1}, {0,1,1}, {1,1,1}},
    {2, 20, 12, 1, {1,6,5}, {1,1,1}, {1,1,1}, {0,0,0}, {0,0,0}, {1,1,1}},
    {1, 20, 40, 1, {1,6,5}, {1,1,1}, {1,2,3}, {0,0,0}, {0,0,0}, {1,1,1}},
    {3, 130, 10, 1, {1,1,1}, {1,1,1}, {1,1,1}, {0,0,0}, {0,0,0}, {1,1,1}},
    {1, 2, 3, 1, {5,6,7}, {2,3,2}, {2,1,3}, {1,0,1}, {0,2,1}, {1,2,1}},
    {1, 3, 4, 1, {1,11,10}, {1,3,3}, {1,3,2}, {0,2,3}, {0,2,3}, {1,2,3}},
    /* LeNet's; depthwise; a width beyond every vector */
    {2, 1, 6, 1, {1,28,28}, {1,5,5}, {1,1,1}, {0,2,2}, {0,2,2}, {1,1,1}},
    {1, 6, 16, 1, {1,14,14}, {1,5,5}, {1,1,1}, {0,0,0}, {0,0,0}, {1,1,1}},
    {1, 37, 37, 37, {1,9,10}, {1,3,3}, {1,2,2}, {0,1,1}, {0,1,1}, {1,1,1}},
    {1, 2, 3, 1, {1,3,101}, {1,3,3}, {1,1,1}, {0,1,1}, {0,1,1}, {1,1,1}},
    /* Winograd in one dimension; a single tile of 2x2 */
    {2, 17, 33, 1, {1,1,23}, {1,1,3}, {1,1,1}, {0,0,1}, {0,0,1}, {1,1,1}},
    {1, 9, 20, 1, {1,1,19}, {1,1,5}, {1,1,1}, {0,0,2}, {0,0,2}, {1,1,1}},
    {1, 33, 17, 1, {1,2,2}, {1,3,3}, {1,1,1}, {0,1,1}, {0,1,1}, {1,1,1}},
    /* more padding than kernel: outputs of bias alone */
    {1, 2, 3, 1, {1,2,3}, {1,2,2}, {1,1,1}, {0,4,3}, {0,3,4}, {1,1,1}},
    /* kernel as large as the input; long reductions; every granule */
    {11, 40, 5, 1, {1,4,4}, {1,4,4}, {1,1,1}, {0,0,0}, {0,0,0}, {1,1,1}},
    /* linear layers: few rows, blocks of them, of terms and of columns */
    {9, 1030, 35, 1, {1,1,1}, {1,1,1}, {1,1,1}, {0,0,0}, {0,0,0}, {1,1,1}},
    {101, 40, 130, 1, {1,1,1}, {1,1,1}, {1,1,1}, {0,0,0}, {0,0,0}, {1,1,1}},
    {0, 3, 4, 1, {1,5,5}, {1,3,3}, {1,1,1}, {0,0,0}, {0,0,0}, {1,1,1}},
};
/* clang-format on */
enum { CASES = sizeof cases / sizeof cases[0] };

static cvc_conv conv_of(const conv_case *c, cvc_dtype dtype, cvc_layout layout,
                        cvc_algorithm algorithm) {
  cvc_conv conv = {.dtype = dtype,
                   .layout = layout,
                   .algorithm = algorithm,
                   .n = c->n,
                   .c = c->c,
                   .k = c->k,
                   .groups = c->groups};
  memcpy(conv.size, c->size, sizeof conv.size);
  memcpy(conv.kernel, c->kernel, sizeof conv.kernel);
  memcpy(conv.stride, c->stride, sizeof conv.stride);
  memcpy(conv.pad_before, c->before, sizeof conv.pad_before);
  memcpy(conv.pad_after, c->after, sizeof conv.pad_after);
  memcpy(conv.dilation, c->dilation, sizeof conv.dilation);
  return conv;
}

/** Arrays of one case, and what their contents should be. */
typedef struct data {
  int64_t out[3], x_size, y_size, w_size;
  void *x, *w, *bias, *residual, *dy; /* inputs */
  double *y, *relu_y, *dx, *dw, *db;  /* wanted */
} data;

/** Every way to run a pass, and whether a case has taken it. */
static struct way {
  cvc_candidate of; /* without its cycles */
  int64_t kernel[2];
  bool taken[3]; /* by pass; the gradient of weights has a planar one for long
                    vectors only */
} ways[] = {
    {{CVC_DIRECT}, {0}},
    {{CVC_DIRECT, .planar = true}, {0}},
    {{CVC_DIRECT, .linear = true}, {0}},
    {{CVC_IM2COL}, {0}},
    {{CVC_WINOGRAD, .tile = 2}, {3, 3}},
    {{CVC_WINOGRAD, .tile = 4}, {3, 3}},
    {{CVC_WINOGRAD, .tile = 4}, {1, 3}},
    {{CVC_WINOGRAD, .tile = 2}, {5, 5}},
    {{CVC_WINOGRAD, .tile = 2}, {1, 5}},
    {{CVC_WINOGRAD, .tile = 4}, {5, 5}},
};
enum { WAYS = sizeof ways / sizeof ways[0] };

static void take_way(const cvc_conv *conv, cvc_pass pass) {
  cvc_candidate candidates[CVC_MAX_CANDIDATES], *best = candidates;
  int count;
  CHECK_OK(cvc_conv_explain(conv, pass, candidates, &count));
  for (int i = 0; i < WAYS; i++)
    if (best->algorithm == ways[i].of.algorithm &&
        best->planar == ways[i].of.planar &&
        best->linear == ways[i].of.linear && best->tile == ways[i].of.tile &&
        (!best->tile || !memcmp(&conv->kernel[1], ways[i].kernel, 16)))
      ways[i].taken[pass] = true;
}

static double *zeros(int64_t size) {
  return calloc((size_t)size + 1, sizeof(double));
}

/** One product of the definition, in all three passes. */
static void add_product(const cvc_conv *conv, data *d, int64_t y, int64_t x,
                        int64_t w) {
  const cvc_dtype dtype = conv->dtype;
  d->y[y] += get(dtype, d->x, x) * get(dtype, d->w, w);
  d->dx[x] += get(dtype, d->dy, y) * get(dtype, d->w, w);
  d->dw[w] += get(dtype, d->dy, y) * get(dtype, d->x, x);
}

/** All products of output `o` of channel k of image n. */
static void add_output(const cvc_conv *conv, data *d, int64_t n, int64_t k,
                       int64_t o) {
  const int64_t c_group = conv->c / conv->groups;
  const int64_t first_c = k / (conv->k / conv->groups) * c_group;
  const int64_t taps = volume(conv->kernel);
  const int64_t y = offset_of(conv->layout, conv->k, volume(d->out), n, k, o);
  const int64_t at[3] = {o / (d->out[1] * d->out[2]), o / d->out[2] % d->out[1],
                         o % d->out[2]};
  for (int64_t t = 0; t < taps; t++) {
    const int64_t tap[3] = {t / (conv->kernel[1] * conv->kernel[2]),
                            t / conv->kernel[2] % conv->kernel[1],
                            t % conv->kernel[2]};
    int64_t pixel = 0;
    bool inside = true;
    for (int i = 0; i < 3; i++) {
      const int64_t x = at[i] * conv->stride[i] - conv->pad_before[i] +
                        tap[i] * conv->dilation[i];
      inside &= x >= 0 && x < conv->size[i];
      pixel = pixel * conv->size[i] + x;
    }
    for (int64_t c = 0; inside && c < c_group; c++)
      add_product(conv, d, y,
                  offset_of(conv->layout, conv->c, volume(conv->size), n,
                            first_c + c, pixel),
                  (k * c_group + c) * taps + t);
  }
  d->db[k] += get(conv->dtype, d->dy, y);
  d->y[y] += get(conv->dtype, d->bias, k) + get(conv->dtype, d->residual, y);
  d->relu_y[y] = d->y[y] > 0 ? d->y[y] : 0;
}

static data data_of(const cvc_conv *conv) {
  data d = {0};
  CHECK_OK(cvc_conv_output_size(conv, d.out));
  d.x_size = conv->n * conv->c * volume(conv->size);
  d.y_size = conv->n * conv->k * volume(d.out);
  d.w_size = conv->k * (conv->c / conv->groups) * volume(conv->kernel);
  d.x = random_array(conv->dtype, d.x_size);
  d.w = random_array(conv->dtype, d.w_size);
  d.bias = random_array(conv->dtype, conv->k);
  d.residual = random_array(conv->dtype, d.y_size);
  d.dy = random_array(conv->dtype, d.y_size);
  d.y = zeros(d.y_size);
  d.relu_y = zeros(d.y_size);
  d.dx = zeros(d.x_size);
  d.dw = zeros(d.w_size);
  d.db = zeros(conv->k);
  for (int64_t n = 0; n < conv->n; n++)
    for (int64_t k = 0; k < conv->k; k++)
      for (int64_t o = 0; o < volume(d.out); o++) add_output(conv, &d, n, k, o);
  protect_arrays();
  return d;
}

static void free_data(data *d) {
  free(d->y);
  free(d->relu_y);
  free(d->dx);
  free(d->dw);
  free(d->db);
}

/** The weights packed for a pass when conv says so, else plain. */
static const void *weights_of(const cvc_conv *conv, cvc_pass pass,
                              const data *d) {
  if (conv->weights == CVC_WEIGHTS_PLAIN) return d->w;
  int64_t size;
  CHECK_OK(cvc_conv_packed_size(conv, pass, &size));
  void *packed = guarded((size_t)size * bytes_of(conv->dtype), 64);
  CHECK_OK(cvc_conv_pack(conv, pass, d->w, packed, NULL));
  protect_arrays();
  return packed;
}

/** A call with just the scratch that the pass asks for. */
static cvc_call exact_call(const cvc_conv *conv, cvc_pass pass) {
  cvc_call call = {.threads = 1};
  CHECK_OK(cvc_conv_scratch(conv, pass, 1, &call.scratch_bytes));
  if (call.scratch_bytes)
    call.scratch = guarded((size_t)call.scratch_bytes, 64);
  return call;
}

static void test_forward(cvc_conv conv, const data *d, double tolerance) {
  const cvc_dtype dtype = conv.dtype;
  for (int packed = 0; packed < 2; packed++) {
    conv.weights = (cvc_weights)packed;
    const void *w = weights_of(&conv, CVC_FORWARD, d);
    take_way(&conv, CVC_FORWARD);
    void *y = new_array(dtype, d->y_size);
    const cvc_call call = exact_call(&conv, CVC_FORWARD);
    conv.activation = CVC_ACTIVATION_NONE;
    CHECK_OK(cvc_conv_forward(&conv, d->x, w, d->bias, d->residual, y, &call));
    CHECK(error_of(dtype, y, d->y, d->y_size) <= tolerance);
    conv.activation = CVC_ACTIVATION_RELU;
    CHECK_OK(cvc_conv_forward(&conv, d->x, w, d->bias, d->residual, y, NULL));
    CHECK(error_of(dtype, y, d->relu_y, d->y_size) <= tolerance);
    /* Without bias and residual: add them here. */
    conv.activation = CVC_ACTIVATION_NONE;
    CHECK_OK(cvc_conv_forward(&conv, d->x, w, NULL, NULL, y, &call));
    const int64_t pixels = volume(d->out);
    for (int64_t i = 0; i < d->y_size; i++) {
      const int64_t k =
          conv.layout == CVC_CHANNELS_FIRST ? i / pixels % conv.k : i % conv.k;
      set(dtype, y, i,
          get(dtype, y, i) + get(dtype, d->bias, k) +
              get(dtype, d->residual, i));
    }
    CHECK(error_of(dtype, y, d->y, d->y_size) <= tolerance);
  }
}

static void test_backward(cvc_conv conv, const data *d, double tolerance) {
  const cvc_dtype dtype = conv.dtype;
  for (int packed = 0; packed < 2; packed++) {
    conv.weights = (cvc_weights)packed;
    const void *w = weights_of(&conv, CVC_BACKWARD_DATA, d);
    take_way(&conv, CVC_BACKWARD_DATA);
    void *dx = new_array(dtype, d->x_size);
    const cvc_call call = exact_call(&conv, CVC_BACKWARD_DATA);
    CHECK_OK(cvc_conv_backward_data(&conv, d->dy, w, dx, &call));
    CHECK(error_of(dtype, dx, d->dx, d->x_size) <= tolerance);
  }
  take_way(&conv, CVC_BACKWARD_WEIGHT);
  void *dw = new_array(dtype, d->w_size), *db = new_array(dtype, conv.k);
  const cvc_call call = exact_call(&conv, CVC_BACKWARD_WEIGHT);
  CHECK_OK(cvc_conv_backward_weight(&conv, d->dy, d->x, dw, db, &call));
  CHECK(error_of(dtype, dw, d->dw, d->w_size) <= tolerance);
  CHECK(error_of(dtype, db, d->db, conv.k) <= tolerance);
  /* Either alone: the same bits. */
  void *alone = new_array(dtype, d->w_size);
  CHECK_OK(cvc_conv_backward_weight(&conv, d->dy, d->x, alone, NULL, NULL));
  CHECK(same_bytes(dtype, alone, dw, d->w_size));
  alone = new_array(dtype, conv.k);
  CHECK_OK(cvc_conv_backward_weight(&conv, d->dy, d->x, NULL, alone, NULL));
  CHECK(same_bytes(dtype, alone, db, conv.k));
}

static const struct {
  cvc_algorithm algorithm;
  cvc_precision precision;
  double tolerance; /* of CVC_F32 */
} runs[] = {{CVC_AUTO, CVC_HIGHEST, 3e-6},
            {CVC_DIRECT, CVC_HIGHEST, 3e-6},
            {CVC_IM2COL, CVC_HIGHEST, 3e-6},
            {CVC_WINOGRAD, CVC_HIGHEST, 3e-6},
            {CVC_WINOGRAD, CVC_HIGH, 2e-5}};
enum { RUNS = sizeof runs / sizeof runs[0] };

static void test_case(const conv_case *c, cvc_dtype dtype, cvc_layout layout) {
  cvc_conv conv = conv_of(c, dtype, layout, CVC_AUTO);
  data d = data_of(&conv);
  for (int i = 0; i < RUNS; i++) {
    conv.algorithm = runs[i].algorithm;
    conv.precision = runs[i].precision;
    const double tolerance = dtype == CVC_F32 ? runs[i].tolerance : 1e-13;
    cvc_algorithm chosen = CVC_AUTO;
    const cvc_status status = cvc_conv_choose(&conv, CVC_FORWARD, &chosen);
    CHECK(status == CVC_OK ||
          (status == CVC_UNSUPPORTED && conv.algorithm == CVC_WINOGRAD));
    if (status != CVC_OK) continue;
    CHECK(chosen != CVC_AUTO &&
          (chosen == conv.algorithm || conv.algorithm == CVC_AUTO));
    const size_t length = strlen(context);
    snprintf(context + length, sizeof context - length, ", run %d", i);
    test_forward(conv, &d, tolerance);
    /* Strided convolutions have Winograd's algorithm forward alone. */
    if (cvc_conv_choose(&conv, CVC_BACKWARD_DATA, &chosen) == CVC_OK)
      test_backward(conv, &d, tolerance);
    else
      CHECK(conv.algorithm == CVC_WINOGRAD);
    context[length] = 0;
  }
  free_data(&d);
  release_arrays();
}

/** The candidates that the choice weighs: the chosen one first, by cost. */
static void test_explain(void) {
  snprintf(context, sizeof context, "explain");
  cvc_conv conv = conv_of(&cases[2], CVC_F32, CVC_CHANNELS_LAST, CVC_AUTO);
  cvc_candidate candidates[CVC_MAX_CANDIDATES];
  int count = 0;
  for (int pass = CVC_FORWARD; pass <= CVC_BACKWARD_WEIGHT; pass++) {
    cvc_algorithm chosen;
    CHECK_OK(cvc_conv_explain(&conv, (cvc_pass)pass, candidates, &count));
    CHECK_OK(cvc_conv_choose(&conv, (cvc_pass)pass, &chosen));
    CHECK(count >= 2 && count <= CVC_MAX_CANDIDATES);
    CHECK(candidates[0].algorithm == chosen);
    for (int i = 1; i < count; i++)
      CHECK(candidates[i - 1].cycles <= candidates[i].cycles);
  }
  conv.algorithm = CVC_WINOGRAD;
  CHECK_OK(cvc_conv_explain(&conv, CVC_FORWARD, candidates, &count));
  for (int i = 0; i < count; i++)
    CHECK(candidates[i].algorithm == CVC_WINOGRAD && candidates[i].tile > 0);
  conv.stride[1] = 2;
  CHECK_STATUS(cvc_conv_explain(&conv, CVC_FORWARD, candidates, &count),
               CVC_UNSUPPORTED);
  CHECK_STATUS(cvc_conv_explain(NULL, CVC_FORWARD, candidates, &count),
               CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_conv_explain(&conv, CVC_FORWARD, NULL, &count),
               CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_conv_explain(&conv, CVC_FORWARD, candidates, NULL),
               CVC_BAD_ARGUMENT);
}

/** The same bits with 1, 2 and 3 threads; 8 images are more than one block of
 * Winograd's tiles. */
static void test_threads(void) {
  conv_case large = {5,         16,        40,        1,         {1, 20, 21},
                     {1, 3, 3}, {1, 1, 1}, {0, 1, 1}, {0, 1, 1}, {1, 1, 1}};
  for (int i = 0; i < 16; i++) {
    snprintf(context, sizeof context, "threads, layout %d, algorithm %d, %s",
             i & 1, i / 2 % 4, i < 8 ? "5 images" : "8 images");
    large.n = i < 8 ? 5 : 8;
    cvc_conv conv = conv_of(&large, CVC_F32, (cvc_layout)(i & 1),
                            (cvc_algorithm)(i / 2 % 4));
    int64_t out[3];
    CHECK_OK(cvc_conv_output_size(&conv, out));
    const int64_t x_size = conv.n * conv.c * volume(conv.size);
    const int64_t y_size = conv.n * conv.k * volume(out);
    const int64_t w_size = conv.k * conv.c * volume(conv.kernel);
    void *x = random_array(CVC_F32, x_size), *w = random_array(CVC_F32, w_size);
    void *results[4] = {NULL};
    for (int threads = 1; threads <= 3; threads++) {
      const cvc_call call = {.threads = threads};
      void *got[] = {new_array(CVC_F32, y_size), new_array(CVC_F32, x_size),
                     new_array(CVC_F32, w_size), new_array(CVC_F32, conv.k)};
      const int64_t sizes[] = {y_size, x_size, w_size, conv.k};
      CHECK_OK(cvc_conv_forward(&conv, x, w, NULL, NULL, got[0], &call));
      CHECK_OK(cvc_conv_backward_data(&conv, got[0], w, got[1], &call));
      CHECK_OK(
          cvc_conv_backward_weight(&conv, got[0], x, got[2], got[3], &call));
      for (int j = 0; j < 4; j++) {
        if (!results[j]) results[j] = got[j];
        CHECK(same_bytes(CVC_F32, results[j], got[j], sizes[j]));
      }
    }
    release_arrays();
  }
}

/** Padding is no product with zero: infinite weights and inputs do not turn
 * outputs into NaN that the definition leaves finite. */
static void test_infinities(void) {
  const conv_case c = {1,         2,         3,         1,         {1, 5, 5},
                       {1, 3, 3}, {1, 1, 1}, {0, 1, 1}, {0, 1, 1}, {1, 1, 1}};
  for (int i = 0; i < 8; i++) {
    snprintf(context, sizeof context, "infinities, layout %d, algorithm %d",
             i & 1, i / 2);
    cvc_conv conv =
        conv_of(&c, CVC_F32, (cvc_layout)(i & 1), (cvc_algorithm)(i / 2));
    float *x = new_array(CVC_F32, 50), *w = new_array(CVC_F32, 54);
    float *y = new_array(CVC_F32, 75);
    for (int j = 0; j < 50; j++) x[j] = 1;
    for (int j = 0; j < 54; j++) w[j] = 1;
    w[0] = INFINITY; /* k 0, c 0, the tap above and left */
    CHECK_OK(cvc_conv_forward(&conv, x, w, NULL, NULL, y, NULL));
    for (int o = 0; o < 25; o++)
      for (int k = 0; k < 3; k++) {
        const float at = y[offset_of(conv.layout, 3, 25, 0, k, o)];
        CHECK(!isnan(at) && isinf(at) == (k == 0 && o / 5 > 0 && o % 5 > 0));
      }
    release_arrays();
  }
}

/** An infinite corner of dy or x meets the taps that reach it alone. */
static void test_infinite_gradients(void) {
  const conv_case c = {2,         2,         3,         1,         {1, 5, 5},
                       {1, 3, 3}, {1, 1, 1}, {0, 1, 1}, {0, 1, 1}, {1, 1, 1}};
  for (int i = 0; i < 16; i++) {
    const bool in_x = i >= 8;
    snprintf(context, sizeof context, "infinite %s, layout %d, algorithm %d",
             in_x ? "x" : "dy", i & 1, i / 2 % 4);
    cvc_conv conv =
        conv_of(&c, CVC_F32, (cvc_layout)(i & 1), (cvc_algorithm)(i / 2 % 4));
    float *x = new_array(CVC_F32, 100), *dy = new_array(CVC_F32, 150);
    float *dw = new_array(CVC_F32, 54), *db = new_array(CVC_F32, 3);
    for (int j = 0; j < 100; j++) x[j] = 1;
    for (int j = 0; j < 150; j++) dy[j] = 1;
    (in_x ? x : dy)[0] = INFINITY; /* channel 0, the first pixel */
    CHECK_OK(cvc_conv_backward_weight(&conv, dy, x, dw, db, NULL));
    for (int j = 0; j < 54; j++) {
      const int k = j / 18, channel = j / 9 % 2, h = j / 3 % 3, w = j % 3;
      const bool meets =
          in_x ? channel == 0 && h <= 1 && w <= 1 : k == 0 && h >= 1 && w >= 1;
      CHECK(!isnan(dw[j]) && isinf(dw[j]) == meets);
    }
    for (int k = 0; k < 3; k++) CHECK(isinf(db[k]) == (!in_x && k == 0));
    release_arrays();
  }
}

static int interrupt_count;
static int interrupt(void *data) {
  interrupt_count++;
  return *(int *)data;
}

static void test_interrupt(void) {
  snprintf(context, sizeof context, "interrupt");
  const conv_case large = {16,          64,        64,        1,
                           {1, 56, 56}, {1, 3, 3}, {1, 1, 1}, {0, 1, 1},
                           {0, 1, 1},   {1, 1, 1}};
  const cvc_conv conv = conv_of(&large, CVC_F64, CVC_CHANNELS_LAST, CVC_DIRECT);
  const int64_t size = 16 * 64 * 56 * 56;
  void *x = random_array(CVC_F64, size), *y = new_array(CVC_F64, size);
  void *w = random_array(CVC_F64, 64 * 64 * 9);
  int answer = 0;
  const cvc_call call = {
      .threads = 1, .interrupt = interrupt, .interrupt_data = &answer};
  CHECK_OK(cvc_conv_forward(&conv, x, w, NULL, NULL, y, &call));
  CHECK(interrupt_count > 0);
  answer = 1;
  interrupt_count = 0;
  CHECK_STATUS(cvc_conv_forward(&conv, x, w, NULL, NULL, y, &call),
               CVC_INTERRUPTED);
  CHECK(interrupt_count == 1);
  release_arrays();
}

static void test_bad_calls(void) {
  snprintf(context, sizeof context, "bad calls");
  const conv_case c = {2,         4,         6,   2,   {1, 5, 5},
                       {1, 3, 3}, {1, 1, 1}, {0}, {0}, {1, 1, 1}};
  const cvc_conv good = conv_of(&c, CVC_F32, CVC_CHANNELS_LAST, CVC_AUTO);
  const int64_t huge = INT64_MAX / 2;
  float x[200] = {0}, w[108] = {0}, y[108], db[6];
  int64_t out[3], size;
  memset(y, 0xA5, sizeof y);
  memset(db, 0xA5, sizeof db);
  cvc_conv conv;
#define BAD(field, value, status)                                             \
  do {                                                                        \
    conv = good;                                                              \
    conv.field = value;                                                       \
    CHECK_STATUS(cvc_conv_output_size(&conv, out), status);                   \
    CHECK_STATUS(cvc_conv_forward(&conv, x, w, NULL, NULL, y, NULL), status); \
    CHECK_STATUS(cvc_conv_backward_data(&conv, x, w, y, NULL), status);       \
    CHECK_STATUS(cvc_conv_backward_weight(&conv, w, x, y, db, NULL), status); \
    CHECK_STATUS(cvc_conv_packed_size(&conv, CVC_FORWARD, &size), status);    \
    CHECK_STATUS(cvc_conv_scratch(&conv, CVC_FORWARD, 1, &size), status);     \
  } while (0)
  BAD(dtype, CVC_I64, CVC_UNSUPPORTED);
  BAD(layout, (cvc_layout)2, CVC_BAD_ARGUMENT);
  BAD(algorithm, (cvc_algorithm)9, CVC_BAD_ARGUMENT);
  BAD(precision, (cvc_precision)9, CVC_BAD_ARGUMENT);
  BAD(activation, (cvc_activation)9, CVC_BAD_ARGUMENT);
  BAD(weights, (cvc_weights)9, CVC_BAD_ARGUMENT);
  BAD(n, -1, CVC_BAD_SHAPE);
  BAD(c, 0, CVC_BAD_SHAPE);
  BAD(c, 5, CVC_BAD_SHAPE);
  BAD(k, 0, CVC_BAD_SHAPE);
  BAD(k, 7, CVC_BAD_SHAPE);
  BAD(groups, 0, CVC_BAD_SHAPE);
  BAD(groups, 3, CVC_BAD_SHAPE);
  BAD(size[1], 0, CVC_BAD_SHAPE);
  BAD(size[1], 2, CVC_BAD_SHAPE);
  BAD(kernel[1], 0, CVC_BAD_SHAPE);
  BAD(kernel[1], 6, CVC_BAD_SHAPE);
  BAD(stride[1], 0, CVC_BAD_SHAPE);
  BAD(dilation[1], 0, CVC_BAD_SHAPE);
  BAD(dilation[1], 3, CVC_BAD_SHAPE);
  BAD(pad_before[1], -1, CVC_BAD_SHAPE);
  BAD(n, huge, CVC_TOO_LARGE);
  BAD(c, huge / 2 * 2, CVC_TOO_LARGE);
  BAD(size[2], huge, CVC_TOO_LARGE);
  BAD(pad_after[2], huge, CVC_TOO_LARGE);
  BAD(dilation[2], INT64_MAX, CVC_TOO_LARGE);
#undef BAD
  conv = good;
#define FORWARD(x, w, bias, residual, y) \
  cvc_conv_forward(&conv, x, w, bias, residual, y, NULL)
  CHECK_STATUS(cvc_conv_output_size(NULL, out), CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_conv_output_size(&conv, NULL), CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_conv_choose(&conv, (cvc_pass)3, NULL), CVC_BAD_ARGUMENT);
  CHECK_STATUS(FORWARD(NULL, w, NULL, NULL, y), CVC_BAD_ARGUMENT);
  CHECK_STATUS(FORWARD(x, NULL, NULL, NULL, y), CVC_BAD_ARGUMENT);
  CHECK_STATUS(FORWARD(x, w, NULL, NULL, NULL), CVC_BAD_ARGUMENT);
  CHECK_STATUS(FORWARD(x, (char *)w + 1, NULL, NULL, y), CVC_BAD_ARGUMENT);
  CHECK_STATUS(FORWARD(x, w, NULL, NULL, x + 100), CVC_OVERLAP);
  CHECK_STATUS(FORWARD(x, y + 5, NULL, NULL, y), CVC_OVERLAP);
  CHECK_STATUS(FORWARD(x, w, y + 107, NULL, y), CVC_OVERLAP);
  CHECK_STATUS(FORWARD(x, w, NULL, y, y), CVC_OVERLAP);
  CHECK_STATUS(cvc_conv_backward_data(&conv, x, w, NULL, NULL),
               CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_conv_backward_data(&conv, x, w, x, NULL), CVC_OVERLAP);
  CHECK_STATUS(cvc_conv_backward_weight(&conv, NULL, x, y, db, NULL),
               CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_conv_backward_weight(&conv, w, x, y, y, NULL), CVC_OVERLAP);
  CHECK_STATUS(cvc_conv_packed_size(&conv, CVC_BACKWARD_WEIGHT, &size),
               CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_conv_packed_size(&conv, CVC_FORWARD, NULL),
               CVC_BAD_ARGUMENT);
  /* No Winograd for filters of 2 taps, every second one of 3. */
  conv.algorithm = CVC_WINOGRAD;
  conv.stride[1] = 2;
  CHECK_STATUS(FORWARD(x, w, NULL, NULL, y), CVC_UNSUPPORTED);
  conv = good;
  int64_t bytes;
  CHECK_OK(cvc_conv_scratch(&conv, CVC_FORWARD, 1, &bytes));
  if (bytes) {
    const cvc_call call = {.threads = 1,
                           .scratch = guarded((size_t)bytes, 64),
                           .scratch_bytes = 1};
    CHECK_STATUS(cvc_conv_forward(&conv, x, w, NULL, NULL, y, &call),
                 CVC_BAD_ARGUMENT);
  }
  CHECK(untouched(CVC_F32, y, 108) && untouched(CVC_F32, db, 6));
  conv.n = 0;
  CHECK_OK(FORWARD(NULL, w, NULL, NULL, NULL));
#undef FORWARD
  release_arrays();
}

/** Packed weights serve one pass and one shape. */
static void test_bad_packing(void) {
  snprintf(context, sizeof context, "bad packing");
  const conv_case c = {1,         8,         8,         1,         {1, 5, 5},
                       {1, 3, 3}, {1, 1, 1}, {0, 1, 1}, {0, 1, 1}, {1, 1, 1}};
  cvc_conv conv = conv_of(&c, CVC_F32, CVC_CHANNELS_LAST, CVC_DIRECT);
  float *x = random_array(CVC_F32, 200), *w = random_array(CVC_F32, 576);
  float *y = new_array(CVC_F32, 200);
  int64_t size;
  CHECK_OK(cvc_conv_packed_size(&conv, CVC_FORWARD, &size));
  float *packed = guarded((size_t)size * 4, 64);
  CHECK_STATUS(cvc_conv_pack(&conv, CVC_FORWARD, NULL, packed, NULL),
               CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_conv_pack(&conv, CVC_FORWARD, w, NULL, NULL),
               CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_conv_pack(&conv, CVC_FORWARD, w, packed + 1, NULL),
               CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_conv_pack(&conv, CVC_BACKWARD_WEIGHT, w, packed, NULL),
               CVC_BAD_ARGUMENT);
  CHECK(untouched(CVC_F32, packed, size));
  CHECK_OK(cvc_conv_pack(&conv, CVC_FORWARD, w, packed, NULL));
  conv.weights = CVC_WEIGHTS_PACKED;
  CHECK_STATUS(cvc_conv_backward_data(&conv, x, packed, y, NULL),
               CVC_BAD_PACKING);
  conv.kernel[1] = 2;
  CHECK_STATUS(cvc_conv_forward(&conv, x, packed, NULL, NULL, y, NULL),
               CVC_BAD_PACKING);
  conv.kernel[1] = 3;
  CHECK(untouched(CVC_F32, y, 200));
  void *copy = memcpy(guarded((size_t)size * 4, 64), packed, (size_t)size * 4);
  CHECK_OK(cvc_conv_forward(&conv, x, copy, NULL, NULL, y, NULL));
  memset(packed, 0, (size_t)size * 4);
  CHECK_STATUS(cvc_conv_forward(&conv, x, packed, NULL, NULL, y, NULL),
               CVC_BAD_PACKING);
  release_arrays();
}

int main(void) {
  for (int side = 0; side < 2; side++) {
    guard_before = side;
    for (int i = 0; i < CASES; i++)
      for (int t = 0; t < 4; t++) {
        snprintf(context, sizeof context, "case %d, dtype %d, layout %d", i,
                 t & 1, t / 2);
        test_case(&cases[i], t & 1 ? CVC_F64 : CVC_F32, (cvc_layout)(t / 2));
      }
  }
  for (int i = 0; i < WAYS; i++) {
    snprintf(context, sizeof context, "way %d", i);
    CHECK(ways[i].taken[CVC_FORWARD] && ways[i].taken[CVC_BACKWARD_DATA] &&
          (ways[i].taken[CVC_BACKWARD_WEIGHT] || ways[i].of.planar));
  }
  test_explain();
  test_threads();
  test_infinities();
  test_infinite_gradients();
  test_interrupt();
  test_bad_calls();
  test_bad_packing();
  return report("conv");
}
