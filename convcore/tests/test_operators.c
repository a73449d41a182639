/** Functions of each element, arithmetic, softmax, group norm, interpolation,
 * by their definitions in double. */
#include "check.h"

static const cvc_dtype reals[] = {CVC_F32, CVC_F64};
static const cvc_layout layouts[] = {CVC_CHANNELS_FIRST, CVC_CHANNELS_LAST};

static double limit_of(cvc_dtype dtype) {
  return dtype == CVC_F32 ? 3e-6 : 1e-13;
}

static double *doubles(int64_t size) {
  return calloc((size_t)size + 1, sizeof(double));
}

/** The threads of the second of two runs whose results must be the same. */
static const cvc_call one = {.threads = 1}, three = {.threads = 3};

/* ------------------------------------------------------------- functions */

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

static double function(const char *name, double x) {
  const double a = 0.5, b = 2;
#define IS(other) (strcmp(name, other) == 0)
  if (IS("leaky_relu")) return x > 0 ? x : a * x;
  if (IS("elu")) return x > 0 ? x : a * expm1(x);
  if (IS("selu"))
    return 1.0507009873554805 * (x > 0 ? x : 1.6732632423543772 * expm1(x));
  if (IS("celu")) return x > 0 ? x : a * expm1(x / a);
  if (IS("gelu")) return x * 0.5 * erfc(-x * sqrt(0.5));
  if (IS("gelu_tanh"))
    return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  if (IS("silu")) return x * sigmoid(x);
  if (IS("mish")) return x * tanh(log1p(exp(x)));
  if (IS("sigmoid")) return sigmoid(x);
  if (IS("logsigmoid")) return -log1p(exp(-x));
  if (IS("tanh")) return tanh(x);
  if (IS("softplus")) return a * x > b ? x : log1p(exp(a * x)) / a;
  if (IS("hardtanh")) return fmin(fmax(x, a), b);
  if (IS("relu6")) return fmin(fmax(x, 0), 6);
  if (IS("hardsigmoid")) return fmin(fmax(x + 3, 0), 6) / 6;
  if (IS("hardswish")) return x * fmin(fmax(x + 3, 0), 6) / 6;
  if (IS("add_scalar")) return x + a;
  if (IS("mul_scalar")) return x * a;
  if (IS("div_scalar")) return x / a;
  if (IS("scalar_sub")) return a - x;
  if (IS("scalar_div")) return a / x;
  return NAN;
}

static void test_functions(void) {
  const int64_t sizes[] = {0, 1, 7, 33, 9000};
  for (int d = 0; d < 2; d++)
    for (int s = 0; s < 5; s++)
      for (int number = 0; cvc_function_name(number); number++) {
        const char *name = cvc_function_name(number);
        const cvc_function f = {reals[d], number, sizes[s], 0.5, 2};
        snprintf(context, sizeof context, "%s %d %d", name, d, s);
        void *x = random_array(f.dtype, f.size);
        void *dy = random_array(f.dtype, f.size);
        void *y = new_array(f.dtype, f.size), *dx = new_array(f.dtype, f.size);
        double *wanted = doubles(f.size), *slope = doubles(f.size);
        for (int64_t i = 0; i < f.size; i++) {
          const double at = get(f.dtype, x, i) * 5 + 0.01, step = 1e-7;
          set(f.dtype, x, i, at);
          const double here = get(f.dtype, x, i);
          wanted[i] = function(name, here);
          slope[i] =
              (function(name, here + step) - function(name, here - step)) /
              (2 * step) * get(f.dtype, dy, i);
        }
        CHECK_OK(cvc_function_forward(&f, x, y, &one));
        /* Of terms of about 1, which may cancel. */
        CHECK(error_beside(f.dtype, y, wanted, f.size, 1) < limit_of(f.dtype));
        CHECK_OK(cvc_function_backward(&f, dy, x, dx, &one));
        /* Kinks within a step are another slope; this finds wrong ones. */
        CHECK(error_beside(f.dtype, dx, slope, f.size, 1) < 1e-3);
        void *again = new_array(f.dtype, f.size);
        CHECK_OK(cvc_function_forward(&f, x, again, &three));
        CHECK(same_bytes(f.dtype, y, again, f.size));
        CHECK_OK(cvc_function_forward(&f, x, x, &three)); /* in place */
        CHECK(same_bytes(f.dtype, y, x, f.size));
        free(wanted), free(slope);
        release_arrays();
      }
  cvc_function f = {CVC_F32, 0, 4, 1, 0};
  float x[4] = {0};
  CHECK_STATUS(cvc_function_forward(&f, NULL, x, NULL), CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_function_forward(&f, x, x + 1, NULL), CVC_OVERLAP);
  f.number = 1000;
  CHECK_STATUS(cvc_function_forward(&f, x, x, NULL), CVC_BAD_ARGUMENT);
  CHECK(!cvc_function_name(-1) && !cvc_function_name(1000));
}

/* ------------------------------------------------------------- arithmetic */

static double combine(cvc_operation operation, double a, double b) {
  switch (operation) {
    case CVC_ADD: return a + b;
    case CVC_SUBTRACT: return a - b;
    case CVC_MULTIPLY: return a * b;
    case CVC_DIVIDE: return a / b;
  }
  return NAN;
}

static void test_binary(void) {
  const cvc_binary cases[] = {
      {.dimensions = 2,
       .size = {3, 50},
       .a_stride = {50, 1},
       .b_stride = {0, 1}},
      {.dimensions = 2,
       .size = {40, 9},
       .a_stride = {9, 1},
       .b_stride = {1, 0}},
      {.dimensions = 2,
       .size = {40, 9},
       .a_stride = {1, 0},
       .b_stride = {9, 1}},
      {.dimensions = 2, .size = {1, 1}, .a_stride = {0, 0}, .b_stride = {0, 0}},
      {.dimensions = 3,
       .size = {2, 300, 70},
       .a_stride = {21000, 70, 1},
       .b_stride = {70, 0, 1}},
      {.dimensions = 4,
       .size = {2, 3, 4, 5},
       .a_stride = {60, 20, 5, 1},
       .b_stride = {3, 1, 0, 0}},
      {.dimensions = 2, .size = {0, 5}, .a_stride = {5, 1}, .b_stride = {0, 1}},
  };
  for (int d = 0; d < 2; d++)
    for (int s = 0; s < (int)(sizeof cases / sizeof *cases); s++)
      for (int operation = CVC_ADD; operation <= CVC_DIVIDE; operation++) {
        cvc_binary o = cases[s];
        o.dtype = reals[d];
        o.operation = (cvc_operation)operation;
        snprintf(context, sizeof context, "binary %d %d %d", d, s, operation);
        int64_t size = 1, a_size = 1, b_size = 1;
        for (int i = 0; i < o.dimensions; i++) {
          size *= o.size[i];
          a_size += (o.size[i] - 1) * o.a_stride[i];
          b_size += (o.size[i] - 1) * o.b_stride[i];
        }
        if (size == 0) a_size = b_size = 0;
        void *a = random_array(o.dtype, a_size),
             *b = random_array(o.dtype, b_size);
        void *y = new_array(o.dtype, size), *again = new_array(o.dtype, size);
        double *wanted = doubles(size);
        for (int64_t i = 0; i < b_size; i++)
          set(o.dtype, b, i, get(o.dtype, b, i) + 2);
        for (int64_t i = 0; i < size; i++) {
          int64_t rest = i, at_a = 0, at_b = 0;
          for (int k = o.dimensions - 1; k >= 0; k--) {
            at_a += rest % o.size[k] * o.a_stride[k];
            at_b += rest % o.size[k] * o.b_stride[k];
            rest /= o.size[k];
          }
          wanted[i] = combine(o.operation, get(o.dtype, a, at_a),
                              get(o.dtype, b, at_b));
        }
        CHECK_OK(cvc_binary_forward(&o, a, b, y, &one));
        CHECK(error_of(o.dtype, y, wanted, size) < limit_of(o.dtype));
        CHECK_OK(cvc_binary_forward(&o, a, b, again, &three));
        CHECK(same_bytes(o.dtype, y, again, size));
        free(wanted);
        release_arrays();
      }
  cvc_binary o = cases[0];
  float x[150];
  CHECK_STATUS(cvc_binary_forward(&o, x, x, x, NULL), CVC_OVERLAP);
  o.a_stride[1] = 2;
  CHECK_STATUS(cvc_binary_forward(&o, x, x, x, NULL), CVC_UNSUPPORTED);
  o.a_stride[1] = -1;
  CHECK_STATUS(cvc_binary_forward(&o, x, x, x, NULL), CVC_BAD_ARGUMENT);
  o.dimensions = 1;
  CHECK_STATUS(cvc_binary_forward(&o, x, x, x, NULL), CVC_BAD_ARGUMENT);
}

/* ---------------------------------------------------------------- softmax */

static void define_softmax(const cvc_softmax *s, const void *x, const void *dy,
                           double *y, double *dx) {
  for (int64_t o = 0; o < s->outer; o++)
    for (int64_t i = 0; i < s->inner; i++) {
#define AT(l) ((o * s->length + (l)) * s->inner + i)
      double sum = 0, product = 0;
      for (int64_t l = 0; l < s->length; l++)
        sum += exp(get(s->dtype, x, AT(l)));
      for (int64_t l = 0; l < s->length; l++) {
        const double p = exp(get(s->dtype, x, AT(l))) / sum;
        y[AT(l)] = s->logarithm ? log(p) : p;
        product += (s->logarithm ? 1 : p) * get(s->dtype, dy, AT(l));
      }
      for (int64_t l = 0; l < s->length; l++) {
        const double p = exp(get(s->dtype, x, AT(l))) / sum;
        const double g = get(s->dtype, dy, AT(l));
        dx[AT(l)] = s->logarithm ? g - p * product : p * (g - product);
      }
    }
}

static void test_softmax(void) {
  const int64_t shapes[][3] = {{1, 1, 1},   {3, 5, 1},   {70, 21, 1},
                               {9, 64, 1},  {5, 300, 1}, {2, 7, 5},
                               {1, 21, 70}, {3, 2, 600}, {0, 3, 1}};
  for (int d = 0; d < 2; d++)
    for (int s = 0; s < (int)(sizeof shapes / sizeof *shapes); s++)
      for (int logarithm = 0; logarithm < 2; logarithm++) {
        const cvc_softmax softmax = {reals[d], logarithm, shapes[s][0],
                                     shapes[s][1], shapes[s][2]};
        snprintf(context, sizeof context, "softmax %d %d %d", d, s, logarithm);
        const int64_t size = shapes[s][0] * shapes[s][1] * shapes[s][2];
        void *x = random_array(reals[d], size),
             *dy = random_array(reals[d], size);
        void *y = new_array(reals[d], size), *dx = new_array(reals[d], size);
        void *again = new_array(reals[d], size);
        double *wanted = doubles(size), *gradient = doubles(size);
        define_softmax(&softmax, x, dy, wanted, gradient);
        CHECK_OK(cvc_softmax_forward(&softmax, x, y, &one));
        CHECK(error_of(reals[d], y, wanted, size) < limit_of(reals[d]));
        CHECK_OK(cvc_softmax_backward(&softmax, dy, y, dx, &one));
        CHECK(error_of(reals[d], dx, gradient, size) < limit_of(reals[d]));
        CHECK_OK(cvc_softmax_forward(&softmax, x, again, &three));
        CHECK(same_bytes(reals[d], y, again, size));
        free(wanted), free(gradient);
        release_arrays();
      }
  const float large[4] = {1000, -1000, INFINITY, NAN};
  float y[2];
  const cvc_softmax pair = {CVC_F32, 0, 1, 2, 1};
  CHECK_OK(cvc_softmax_forward(&pair, large, y, NULL));
  CHECK(y[0] == 1 && y[1] == 0);
  CHECK_OK(cvc_softmax_forward(&pair, large + 2, y, NULL));
  CHECK(isnan(y[0]) && isnan(y[1]));
  CHECK_STATUS(cvc_softmax_forward(&pair, y, y, NULL), CVC_OVERLAP);
}

/* ------------------------------------------------------------- group norm */

static void define_group_norm(const cvc_group_norm *norm, const void *x,
                              const void *weight, const void *bias, double *y) {
  const int64_t of_group = norm->c / norm->groups;
#define HERE offset_of(norm->layout, norm->c, norm->space, n, c, s)
#define EACH                                                  \
  for (int64_t c = g * of_group; c < (g + 1) * of_group; c++) \
    for (int64_t s = 0; s < norm->space; s++)
  for (int64_t n = 0; n < norm->n; n++)
    for (int64_t g = 0; g < norm->groups; g++) {
      const double count = (double)(of_group * norm->space);
      double mean = 0, variance = 0;
      EACH mean += get(norm->dtype, x, HERE) / count;
      EACH variance += pow(get(norm->dtype, x, HERE) - mean, 2) / count;
      EACH {
        double v =
            (get(norm->dtype, x, HERE) - mean) / sqrt(variance + norm->eps);
        if (weight) v *= get(norm->dtype, weight, c);
        if (bias) v += get(norm->dtype, bias, c);
        y[HERE] = v;
      }
    }
}

static void define_group_norm_backward(const cvc_group_norm *norm,
                                       const void *dy, const void *x,
                                       const void *weight, double *dx,
                                       double *dweight, double *dbias) {
  const int64_t of_group = norm->c / norm->groups;
  for (int64_t n = 0; n < norm->n; n++)
    for (int64_t g = 0; g < norm->groups; g++) {
      const double count = (double)(of_group * norm->space);
      double mean = 0, variance = 0, sum = 0, product = 0;
      EACH mean += get(norm->dtype, x, HERE) / count;
      EACH variance += pow(get(norm->dtype, x, HERE) - mean, 2) / count;
      const double deviation = sqrt(variance + norm->eps);
      for (int pass = 0; pass < 2; pass++) EACH {
          const double y = (get(norm->dtype, x, HERE) - mean) / deviation;
          const double of_y = get(norm->dtype, dy, HERE);
          const double of_normalized =
              of_y * (weight ? get(norm->dtype, weight, c) : 1);
          if (pass == 0) {
            dweight[c] += of_y * y;
            dbias[c] += of_y;
            sum += of_normalized / count;
            product += of_normalized * y / count;
          } else {
            dx[HERE] = (of_normalized - sum - y * product) / deviation;
          }
        }
    }
}

static void test_group_norm_backward(const cvc_group_norm *norm, const void *x,
                                     const void *weight) {
  const cvc_dtype dtype = norm->dtype;
  const int64_t size = norm->n * norm->c * norm->space, c = norm->c;
  void *dy = random_array(dtype, size), *arrays[2][3];
  double *wanted[3] = {doubles(size), doubles(c), doubles(c)};
  define_group_norm_backward(norm, dy, x, weight, wanted[0], wanted[1],
                             wanted[2]);
  for (int t = 0; t < 2; t++) {
    for (int i = 0; i < 3; i++) arrays[t][i] = new_array(dtype, i ? c : size);
    CHECK_OK(cvc_group_norm_backward(norm, dy, x, weight, arrays[t][0],
                                     arrays[t][1], arrays[t][2],
                                     t ? &three : &one));
  }
  for (int i = 0; i < 3; i++) {
    CHECK(error_beside(dtype, arrays[0][i], wanted[i], i ? c : size, 1) <
          limit_of(dtype));
    CHECK(same_bytes(dtype, arrays[0][i], arrays[1][i], i ? c : size));
    free(wanted[i]);
  }
  CHECK_OK(cvc_group_norm_backward(norm, dy, x, weight, arrays[0][0], NULL,
                                   NULL, &one));
}

static void test_group_norm(void) {
  const int64_t shapes[][4] = {{2, 6, 5, 3},    {1, 3, 1, 1},    {3, 100, 1, 2},
                               {2, 64, 49, 32}, {1, 70, 300, 1}, {2, 66, 33, 3},
                               {0, 4, 3, 2}};
  for (int d = 0; d < 2; d++)
    for (int s = 0; s < (int)(sizeof shapes / sizeof *shapes); s++)
      for (int way = 0; way < 4; way++) {
        const int64_t *shape = shapes[s];
        const cvc_group_norm norm = {reals[d], layouts[way % 2], shape[0],
                                     shape[1], shape[2],         shape[3],
                                     1e-5};
        snprintf(context, sizeof context, "group norm %d %d %d", d, s, way);
        const int64_t size = norm.n * norm.c * norm.space;
        void *x = random_array(reals[d], size);
        void *weight = way < 2 ? random_array(reals[d], norm.c) : NULL;
        void *bias = way < 2 ? random_array(reals[d], norm.c) : NULL;
        void *y = new_array(reals[d], size), *again = new_array(reals[d], size);
        double *wanted = doubles(size);
        /* The element that the sums are taken around lies far off. */
        if (size) set(reals[d], x, 0, 100), set(reals[d], x, size / 2, -100);
        define_group_norm(&norm, x, weight, bias, wanted);
        CHECK_OK(cvc_group_norm_forward(&norm, x, weight, bias, y, &one));
        CHECK(error_of(reals[d], y, wanted, size) < limit_of(reals[d]));
        CHECK_OK(cvc_group_norm_forward(&norm, x, weight, bias, again, &three));
        CHECK(same_bytes(reals[d], y, again, size));
        test_group_norm_backward(&norm, x, weight);
        free(wanted);
        release_arrays();
      }
  cvc_group_norm norm = {CVC_F32, CVC_CHANNELS_FIRST, 1, 3, 2, 2, 0};
  float x[6] = {0}, y[6];
  CHECK_STATUS(cvc_group_norm_forward(&norm, x, NULL, NULL, y, NULL),
               CVC_BAD_SHAPE);
  norm.groups = 3;
  CHECK_STATUS(cvc_group_norm_forward(&norm, x, NULL, NULL, x, NULL),
               CVC_OVERLAP);
}

/* ---------------------------------------------------------- interpolation */

/** Weight of input `i` for output `o` along an axis. */
static double weight_of(const cvc_interpolate *of, int a, int64_t o,
                        int64_t i) {
  const int64_t n = of->size[a];
  const double scale = of->scale[a];
  if (of->mode == CVC_NEAREST || of->mode == CVC_NEAREST_EXACT) {
    const double half = of->mode == CVC_NEAREST ? 0 : 0.5;
    const int64_t at = (int64_t)floor(((double)o + half) * scale);
    return (at < n ? at : n - 1) == i;
  }
  double at =
      of->align_corners ? (double)o * scale : ((double)o + 0.5) * scale - 0.5;
  if (of->mode == CVC_LINEAR) {
    at = fmin(fmax(at, 0), (double)(n - 1));
    return fmax(0, 1 - fabs(at - (double)i));
  }
  double sum = 0;
  for (int t = -1; t < 3; t++) {
    const double tap = floor(at) + t, d = fabs(at - tap), k = -0.75;
    if (fmin(fmax(tap, 0), (double)(n - 1)) != (double)i) continue;
    sum += d <= 1 ? ((k + 2) * d - (k + 3)) * d * d + 1
                  : ((k * d - 5 * k) * d + 8 * k) * d - 4 * k;
  }
  return sum;
}

/** y from x, and dx from dy. */
static void define_interpolate(const cvc_interpolate *of, const void *x,
                               const void *dy, double *y, double *dx) {
  const int64_t in = volume(of->size), out = volume(of->out);
  for (int64_t o = 0; o < out; o++)
    for (int64_t i = 0; i < in; i++) {
      double w = 1;
      int64_t rest_o = o, rest_i = i;
      for (int a = 2; a >= 0; a--) {
        w *= weight_of(of, a, rest_o % of->out[a], rest_i % of->size[a]);
        rest_o /= of->out[a], rest_i /= of->size[a];
      }
      if (w == 0) continue;
      for (int64_t n = 0; n < of->n; n++)
        for (int64_t c = 0; c < of->c; c++) {
          const int64_t to = offset_of(of->layout, of->c, out, n, c, o);
          const int64_t from = offset_of(of->layout, of->c, in, n, c, i);
          y[to] += w * get(of->dtype, x, from);
          dx[from] += w * get(of->dtype, dy, to);
        }
    }
}

static void test_interpolate(void) {
  const struct {
    int64_t n, c, size[3], out[3];
  } shapes[] = {{2, 3, {1, 1, 7}, {1, 1, 14}},   {1, 17, {1, 4, 6}, {1, 8, 3}},
                {2, 20, {1, 8, 8}, {1, 16, 16}}, {1, 2, {1, 16, 8}, {1, 8, 24}},
                {1, 5, {2, 4, 4}, {4, 8, 2}},    {1, 18, {4, 2, 3}, {2, 4, 6}},
                {1, 1, {1, 1, 1}, {1, 3, 2}},    {0, 2, {1, 2, 2}, {1, 4, 4}}};
  for (int d = 0; d < 2; d++)
    for (int s = 0; s < (int)(sizeof shapes / sizeof *shapes); s++)
      for (int mode = CVC_NEAREST; mode <= CVC_CUBIC; mode++)
        for (int way = 0; way < 4; way++) {
          cvc_interpolate of = {.dtype = reals[d],
                                .layout = layouts[way % 2],
                                .mode = (cvc_interpolation)mode,
                                .align_corners = way / 2,
                                .n = shapes[s].n,
                                .c = shapes[s].c};
          snprintf(context, sizeof context, "interpolate %d %d %d %d", d, s,
                   mode, way);
          for (int a = 0; a < 3; a++) {
            of.size[a] = shapes[s].size[a];
            of.out[a] = shapes[s].out[a];
            of.scale[a] = (double)of.size[a] / (double)of.out[a];
            if (of.align_corners && mode >= CVC_LINEAR)
              of.scale[a] = of.out[a] > 1 ? (double)(of.size[a] - 1) /
                                                (double)(of.out[a] - 1)
                                          : 0;
          }
          const int64_t x_size = of.n * of.c * volume(of.size);
          const int64_t y_size = of.n * of.c * volume(of.out);
          void *x = random_array(of.dtype, x_size);
          void *y = new_array(of.dtype, y_size);
          void *again = new_array(of.dtype, y_size);
          void *dy = random_array(of.dtype, y_size);
          void *dx = new_array(of.dtype, x_size);
          void *dx_again = new_array(of.dtype, x_size);
          double *wanted = doubles(y_size), *gradient = doubles(x_size);
          define_interpolate(&of, x, dy, wanted, gradient);
          CHECK_OK(cvc_interpolate_forward(&of, x, y, &one));
          CHECK(error_of(of.dtype, y, wanted, y_size) < limit_of(of.dtype));
          CHECK_OK(cvc_interpolate_forward(&of, x, again, &three));
          CHECK(same_bytes(of.dtype, y, again, y_size));
          CHECK_OK(cvc_interpolate_backward(&of, dy, dx, &one));
          CHECK(error_of(of.dtype, dx, gradient, x_size) < limit_of(of.dtype));
          CHECK_OK(cvc_interpolate_backward(&of, dy, dx_again, &three));
          CHECK(same_bytes(of.dtype, dx, dx_again, x_size));
          free(wanted), free(gradient);
          release_arrays();
        }
  cvc_interpolate of = {.n = 1, .c = 1, .size = {1, 1, 2}, .out = {1, 1, 0}};
  float x[2] = {0}, y[2];
  CHECK_STATUS(cvc_interpolate_forward(&of, x, y, NULL), CVC_BAD_SHAPE);
  of.out[2] = 2;
  CHECK_STATUS(cvc_interpolate_forward(&of, x, x, NULL), CVC_OVERLAP);
  of.scale[2] = NAN;
  CHECK_STATUS(cvc_interpolate_forward(&of, x, y, NULL), CVC_BAD_ARGUMENT);
}

/* ------------------------------------------------------------ single steps */

static void test_steps(void) {
  cvc_step step = {
      .kind = CVC_STEP_GROUP_NORM_FORWARD,
      .of.group_norm = {CVC_F32, CVC_CHANNELS_FIRST, 1, 2, 3, 1, 0}};
  cvc_operand operands[CVC_MAX_OPERANDS];
  int count;
  CHECK_OK(cvc_step_operands(&step, operands, &count));
  CHECK(count == 4 && operands[0].size == 6 && operands[1].size == 2);
  const float x[6] = {1, 2, 3, 4, 5, 6};
  float y[6], wanted[6];
  void *arrays[] = {(void *)(uintptr_t)x, NULL, NULL, y};
  CHECK_OK(cvc_step_run(&step, arrays, NULL));
  CHECK_OK(
      cvc_group_norm_forward(&step.of.group_norm, x, NULL, NULL, wanted, NULL));
  CHECK(same_bytes(CVC_F32, y, wanted, 6));
  CHECK_STATUS(cvc_step_operands(&step, NULL, &count), CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_step_run(NULL, arrays, NULL), CVC_BAD_ARGUMENT);
  step.kind = CVC_STEP_KINDS;
  CHECK_STATUS(cvc_step_operands(&step, operands, &count), CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_step_run(&step, arrays, NULL), CVC_BAD_ARGUMENT);
}

int main(void) {
  for (int side = 0; side < 2; side++) {
    guard_before = side;
    test_functions();
    test_binary();
    test_softmax();
    test_group_norm();
    test_interpolate();
    test_steps();
  }
  return report("operators");
}
