/** Max and average pooling, against their definition. */
#include "check.h"

typedef struct pool_case {
  int64_t n, c, size[3], kernel[3], stride[3], before[3], after[3];
  int64_t dilation[3];
  bool ceil_mode, average_only;
} pool_case;

/* clang-format off */
static const pool_case cases[] = {
    /* n, c, size, kernel, stride, before, after, dilation, ceil mode */
    /* 1-D, 2-D, 3-D; few and many channels; odd sizes */
    {1, 1, {1,1,1}, {1,1,1}, {1,1,1}, {0,0,0}, {0,0,0}, {1,1,1}, false},
    {2, 3, {1,1,20}, {1,1,3}, {1,1,2}, {0,0,1}, {0,0,1}, {1,1,1}, false},
    {2, 6, {1,8,8}, {1,2,2}, {1,2,2}, {0,0,0}, {0,0,0}, {1,1,1}, false},
    {3, 6, {1,9,7}, {1,2,2}, {1,2,2}, {0,0,0}, {0,0,0}, {1,1,1}, true},
    {1, 16, {1,7,11}, {1,3,3}, {1,2,2}, {0,1,1}, {0,1,1}, {1,1,1}, false},
    {1, 17, {1,7,11}, {1,3,3}, {1,1,1}, {0,1,1}, {0,1,1}, {1,1,1}, false},
    {2, 33, {1,6,5}, {1,3,2}, {1,2,3}, {0,1,0}, {0,0,1}, {1,1,1}, true},
    {1, 130, {1,5,5}, {1,5,5}, {1,1,1}, {0,0,0}, {0,0,0}, {1,1,1}, false},
    {2, 5, {4,5,6}, {2,3,2}, {2,1,2}, {1,1,0}, {0,1,1}, {1,1,2}, false},
    {1, 4, {1,9,9}, {1,3,3}, {1,1,2}, {0,2,2}, {0,2,2}, {1,2,2}, false},
    {1, 2, {1,2,30}, {1,2,20}, {1,1,3}, {0,0,9}, {0,0,9}, {1,1,1}, true},
    /* rows of few channels in which vectors repeat; as many windows as pixels,
     * in rows of all images; rows of images that are tasks of their own */
    {2, 3, {1,5,90}, {1,3,3}, {1,2,3}, {0,1,1}, {0,1,1}, {1,1,1}, true},
    {3, 1, {1,7,131}, {1,2,5}, {1,2,2}, {0,0,2}, {0,0,2}, {1,1,2}, false},
    {3, 5, {3,7,7}, {3,3,3}, {1,1,1}, {1,1,1}, {1,1,1}, {1,1,1}, false},
    {2, 3, {1,9,8}, {1,4,3}, {1,1,1}, {0,0,1}, {0,3,1}, {1,1,1}, false},
    {1, 1, {2,150,140}, {2,3,3}, {1,2,2}, {0,1,1}, {0,1,1}, {1,1,1}, false},
    /* windows inside, two pixels of few channels apart */
    {2, 2, {1,6,75}, {1,2,2}, {1,2,2}, {0,0,0}, {0,0,0}, {1,1,1}, false},
    {2, 3, {5,7,40}, {2,3,5}, {2,1,2}, {0,0,0}, {0,0,0}, {2,1,3}, false},
    {3, 7, {1,9,8}, {1,1,3}, {1,3,2}, {0,0,0}, {0,0,0}, {1,1,1}, true},
    /* size < dilation: windows over the gaps */
    {1, 3, {1,1,2}, {1,1,3}, {1,1,3}, {0,0,3}, {0,0,3}, {1,1,3}, false},
    /* more taps than a byte or a chunk of the sum */
    {1, 3, {1,20,21}, {1,18,19}, {1,1,1}, {0,0,0}, {0,0,0}, {1,1,1}, false},
    /* more planes than one task takes */
    {3, 21, {1,4,4}, {1,2,2}, {1,1,1}, {0,0,0}, {0,0,0}, {1,1,1}, false},
    /* two windows with the same valid taps, one reaching beyond the padding */
    {1, 3, {1,1,7}, {1,1,2}, {1,1,2}, {0,0,0}, {0,0,3}, {1,1,4}, true},
    /* windows of padding alone: no maximum, an average of 0 */
    {1, 3, {1,2,3}, {1,2,2}, {1,1,1}, {0,4,3}, {0,3,4}, {1,1,1}, false, true},
    /* one window: with all elements, with padding, without some */
    {3, 70, {1,7,7}, {1,7,7}, {1,1,1}, {0,0,0}, {0,0,0}, {1,1,1}, false},
    {2, 5, {2,5,6}, {2,7,8}, {1,1,1}, {0,1,1}, {0,1,1}, {1,1,1}, false},
    {2, 20, {1,6,7}, {1,5,5}, {1,3,3}, {0,0,0}, {0,0,0}, {1,1,1}, false},
    /* stride beyond the window and beyond the input, blocks of channels */
    {2, 131, {1,8,9}, {1,2,1}, {1,5,3}, {0,1,0}, {0,1,0}, {1,1,1}, false},
    {2, 3, {1,3,4}, {1,4,3}, {1,4,5}, {0,2,1}, {0,2,1}, {1,1,1}, false},
    {0, 4, {1,4,4}, {1,2,2}, {1,2,2}, {0,0,0}, {0,0,0}, {1,1,1}, false},
};
/* clang-format on */
enum { CASES = sizeof cases / sizeof cases[0] };

static cvc_pool pool_of(const pool_case *c, cvc_dtype dtype,
                        cvc_layout layout) {
  cvc_pool pool = {.dtype = dtype,
                   .layout = layout,
                   .index_dtype = CVC_I64,
                   .n = c->n,
                   .c = c->c};
  for (int i = 0; i < 3; i++) {
    pool.size[i] = c->size[i];
    pool.kernel[i] = c->kernel[i];
    pool.stride[i] = c->stride[i];
    pool.pad_before[i] = c->before[i];
    pool.pad_after[i] = c->after[i];
    pool.dilation[i] = c->dilation[i];
    const int64_t room = c->size[i] + c->before[i] + c->after[i] -
                         c->dilation[i] * (c->kernel[i] - 1) - 1;
    pool.out[i] = room / c->stride[i] + 1;
    /* A last window begins in the input or the padding before it. */
    if (c->ceil_mode && room % c->stride[i] &&
        pool.out[i] * c->stride[i] < c->size[i] + c->before[i])
      pool.out[i]++;
  }
  return pool;
}

/** One window: its taps, valid or not. */
typedef struct window {
  int64_t taps, padded;  /* all; inside the padded input */
  int64_t position[512]; /* of each tap in the plane, -1: outside */
} window;

static window window_of(const cvc_pool *p, int64_t out) {
  window w = {0};
  const int64_t at[3] = {out / (p->out[1] * p->out[2]),
                         out / p->out[2] % p->out[1], out % p->out[2]};
  for (int64_t t = 0; t < volume(p->kernel); t++) {
    const int64_t tap[3] = {t / (p->kernel[1] * p->kernel[2]),
                            t / p->kernel[2] % p->kernel[1], t % p->kernel[2]};
    int64_t position = 0;
    bool inside = true, padded = true;
    for (int i = 0; i < 3; i++) {
      const int64_t x =
          at[i] * p->stride[i] - p->pad_before[i] + tap[i] * p->dilation[i];
      inside &= x >= 0 && x < p->size[i];
      padded &= x < p->size[i] + p->pad_after[i];
      position = position * p->size[i] + x;
    }
    w.padded += padded;
    w.position[w.taps++] = inside ? position : -1;
  }
  return w;
}

/** Results of one plane by the definition. */
typedef struct plane {
  double *y, *dx;
  int64_t *tap, *position;
} plane;

static void max_plane(const cvc_pool *p, const double *x, const double *dy,
                      plane *r) {
  for (int64_t o = 0; o < volume(p->out); o++) {
    const window w = window_of(p, o);
    r->tap[o] = -1;
    for (int64_t t = 0; t < w.taps; t++) {
      if (w.position[t] < 0) continue;
      const double v = x[w.position[t]];
      if (r->tap[o] >= 0 && !(v > r->y[o] || isnan(v))) continue;
      r->tap[o] = t;
      r->position[o] = w.position[t];
      r->y[o] = v;
    }
    r->dx[r->position[o]] += dy[o];
  }
}

static void average_plane(const cvc_pool *p, const double *x, const double *dy,
                          plane *r) {
  for (int64_t o = 0; o < volume(p->out); o++) {
    const window w = window_of(p, o);
    int64_t valid = 0;
    double sum = 0;
    for (int64_t t = 0; t < w.taps; t++)
      if (w.position[t] >= 0) sum += x[w.position[t]], valid++;
    double divisor = (double)(p->divisor             ? p->divisor
                              : p->count_include_pad ? w.padded
                                                     : valid);
    if (divisor == 0) divisor = 1;
    r->y[o] = sum / divisor;
    for (int64_t t = 0; t < w.taps; t++)
      if (w.position[t] >= 0) r->dx[w.position[t]] += dy[o] / divisor;
  }
}

typedef struct data {
  void *x, *y, *dy, *dx, *indices;
} data;

static void check_plane(const cvc_pool *p, const data *d, int64_t n,
                        int64_t c) {
  const int64_t pixels = volume(p->size), outs = volume(p->out);
  const double tolerance = p->dtype == CVC_F32 ? 5e-6 : 1e-14;
  double *x = calloc((size_t)(2 * (pixels + outs)), sizeof *x);
  double *dy = x + pixels;
  int64_t *indices = calloc((size_t)(2 * outs), sizeof *indices);
  plane r = {dy + outs, dy + 2 * outs, indices, indices + outs};
  for (int64_t i = 0; i < pixels; i++)
    x[i] = get(p->dtype, d->x, offset_of(p->layout, p->c, pixels, n, c, i));
  for (int64_t o = 0; o < outs; o++)
    dy[o] = get(p->dtype, d->dy, offset_of(p->layout, p->c, outs, n, c, o));
  if (p->kind == CVC_POOL_MAX)
    max_plane(p, x, dy, &r);
  else
    average_plane(p, x, dy, &r);

  bool right = true;
  for (int64_t o = 0; o < outs; o++) {
    const int64_t at = offset_of(p->layout, p->c, outs, n, c, o);
    const double y = get(p->dtype, d->y, at);
    if (p->kind == CVC_POOL_MAX)
      right &= (isnan(r.y[o]) ? isnan(y) : y == r.y[o]) &&
               (int64_t)get(p->index_dtype, d->indices, at) ==
                   (p->index_dtype == CVC_U8 ? r.tap[o] : r.position[o]);
    else
      right &= fabs(y - r.y[o]) <= tolerance * (1 + fabs(r.y[o]));
  }
  CHECK(right);
  for (int64_t i = 0; i < pixels; i++) {
    const double dx =
        get(p->dtype, d->dx, offset_of(p->layout, p->c, pixels, n, c, i));
    right &= fabs(dx - r.dx[i]) <= tolerance * (1 + fabs(r.dx[i]));
  }
  CHECK(right);
  free(x);
  free(indices);
}

/** Forward and backward of one descriptor, every plane checked. */
static void test_pool(const cvc_pool *p) {
  const int64_t images = p->n * p->c;
  const int64_t x_size = images * volume(p->size);
  const int64_t y_size = images * volume(p->out);
  const bool max = p->kind == CVC_POOL_MAX;
  data d = {.x = random_array(p->dtype, x_size),
            .y = new_array(p->dtype, y_size),
            .dy = random_array(p->dtype, y_size),
            .dx = new_array(p->dtype, x_size)};
  if (max) {
    d.indices = new_array(p->index_dtype, y_size);
    /* Ties, infinities, NaN. */
    for (int64_t i = 0; i < x_size; i++)
      if (i % 5 == 0) set(p->dtype, d.x, i, i % 3 ? 0.5 : -INFINITY);
    if (x_size > 60) set(p->dtype, d.x, 17, NAN);
    if (x_size > 60) set(p->dtype, d.x, 18, NAN);
  }
  int64_t bytes;
  CHECK_OK(cvc_pool_scratch(p, 1, &bytes));
  const cvc_call call = {.threads = 1,
                         .scratch = guarded((size_t)bytes, 64),
                         .scratch_bytes = bytes};
  CHECK_OK(cvc_pool_forward(p, d.x, d.y, d.indices, &call));
  CHECK_OK(cvc_pool_backward(p, d.dy, d.indices, d.dx, &call));
  for (int64_t n = 0; n < p->n; n++)
    for (int64_t c = 0; c < p->c; c++) check_plane(p, &d, n, c);
  if (max) {
    void *y = new_array(p->dtype, y_size);
    CHECK_OK(cvc_pool_forward(p, d.x, y, NULL, NULL));
    CHECK(same_bytes(p->dtype, y, d.y, y_size));
  }
  release_arrays();
}

static void test_case(const pool_case *c, cvc_dtype dtype, cvc_layout layout) {
  cvc_pool p = pool_of(c, dtype, layout);
  for (int byte = 0; byte < 2; byte++) {
    p.index_dtype = byte ? CVC_U8 : CVC_I64;
    const cvc_status wanted = c->average_only                  ? CVC_BAD_SHAPE
                              : byte && volume(p.kernel) > 256 ? CVC_UNSUPPORTED
                                                               : CVC_OK;
    CHECK_STATUS(cvc_pool_check(&p), wanted);
    if (wanted == CVC_OK) test_pool(&p);
  }
  p.kind = CVC_POOL_AVERAGE;
  for (p.count_include_pad = 0; p.count_include_pad < 2; p.count_include_pad++)
    test_pool(&p);
  p.divisor = -3;
  test_pool(&p);
}

/** Whatever bytes are passed as taps, nothing outside dx is touched: the
 * guard pages and the sanitizers watch. */
static void test_wrong_taps(void) {
  for (int i = 0; i < CASES; i++)
    for (int layout = 0; layout < 2; layout++) {
      cvc_pool p = pool_of(&cases[i], CVC_F32, (cvc_layout)layout);
      p.index_dtype = CVC_U8;
      if (cvc_pool_check(&p) != CVC_OK) continue;
      const int64_t y_size = p.n * p.c * volume(p.out);
      uint8_t *taps = new_array(CVC_U8, y_size);
      for (int64_t j = 0; j < y_size; j++) taps[j] = (uint8_t)(j * 37);
      CHECK_OK(cvc_pool_backward(&p, random_array(CVC_F32, y_size), taps,
                                 new_array(CVC_F32, p.n * p.c * volume(p.size)),
                                 NULL));
      release_arrays();
    }
}

static void test_threads(void) {
  const pool_case large = {9,         70,        {1, 30, 31},
                           {1, 3, 3}, {1, 2, 2}, {0, 1, 1},
                           {0, 1, 1}, {1, 1, 1}, false};
  for (int i = 0; i < 4; i++) {
    snprintf(context, sizeof context, "threads, %d", i);
    cvc_pool p = pool_of(&large, CVC_F32, (cvc_layout)(i & 1));
    p.kind = (cvc_pool_kind)(i / 2);
    const int64_t x_size = p.n * p.c * volume(p.size);
    const int64_t y_size = p.n * p.c * volume(p.out);
    void *x = random_array(CVC_F32, x_size), *first_y = NULL, *first_dx = NULL;
    for (int threads = 1; threads <= 3; threads++) {
      const cvc_call call = {.threads = threads};
      void *y = new_array(CVC_F32, y_size), *dx = new_array(CVC_F32, x_size);
      void *indices = new_array(CVC_I64, y_size);
      CHECK_OK(cvc_pool_forward(&p, x, y, indices, &call));
      CHECK_OK(cvc_pool_backward(&p, y, indices, dx, &call));
      if (!first_y) first_y = y, first_dx = dx;
      CHECK(same_bytes(CVC_F32, y, first_y, y_size));
      CHECK(same_bytes(CVC_F32, dx, first_dx, x_size));
    }
    release_arrays();
  }
}

static void test_bad_calls(void) {
  snprintf(context, sizeof context, "bad calls");
  const pool_case c = {2,   3,   {1, 4, 4}, {1, 2, 2}, {1, 2, 2},
                       {0}, {0}, {1, 1, 1}, false};
  const cvc_pool good = pool_of(&c, CVC_F32, CVC_CHANNELS_LAST);
  const int64_t huge = INT64_MAX / 2;
  float x[96] = {0}, y[24];
  int64_t indices[24];
  memset(y, 0xA5, sizeof y);
  memset(indices, 0xA5, sizeof indices);
  cvc_pool p;
#define BAD(field, value, status)                                     \
  do {                                                                \
    p = good;                                                         \
    p.field = value;                                                  \
    CHECK_STATUS(cvc_pool_check(&p), status);                         \
    CHECK_STATUS(cvc_pool_forward(&p, x, y, indices, NULL), status);  \
    CHECK_STATUS(cvc_pool_backward(&p, y, indices, x, NULL), status); \
  } while (0)
  BAD(dtype, CVC_U8, CVC_UNSUPPORTED);
  BAD(layout, (cvc_layout)5, CVC_BAD_ARGUMENT);
  BAD(kind, (cvc_pool_kind)2, CVC_BAD_ARGUMENT);
  BAD(index_dtype, CVC_F32, CVC_BAD_ARGUMENT);
  BAD(n, -1, CVC_BAD_ARGUMENT);
  BAD(c, 0, CVC_BAD_SHAPE);
  BAD(size[1], 0, CVC_BAD_SHAPE);
  BAD(out[1], 0, CVC_BAD_SHAPE);
  BAD(out[1], 3, CVC_BAD_SHAPE);
  BAD(kernel[2], 0, CVC_BAD_SHAPE);
  BAD(stride[2], 0, CVC_BAD_SHAPE);
  BAD(stride[2], -1, CVC_BAD_SHAPE);
  BAD(dilation[2], 0, CVC_BAD_SHAPE);
  BAD(pad_before[2], -1, CVC_BAD_SHAPE);
  BAD(pad_before[2], 2, CVC_BAD_SHAPE); /* a window of padding alone */
  BAD(n, huge, CVC_TOO_LARGE);
  BAD(c, huge, CVC_TOO_LARGE);
  BAD(size[2], huge, CVC_TOO_LARGE);
  BAD(kernel[2], huge, CVC_TOO_LARGE);
  BAD(pad_after[2], huge, CVC_TOO_LARGE);
  BAD(stride[2], INT64_MAX, CVC_TOO_LARGE);
#undef BAD
  p = good;
  p.size[2] = p.dilation[2] = 1;
  p.dilation[2] = 2;
  p.pad_before[2] = p.pad_after[2] = 1; /* taps on both sides of the input */
  p.out[2] = 1;
  CHECK_STATUS(cvc_pool_check(&p), CVC_BAD_SHAPE);

  p = good;
  int64_t bytes;
  CHECK_STATUS(cvc_pool_check(NULL), CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_pool_scratch(&p, 1, NULL), CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_pool_scratch(&p, -1, &bytes), CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_pool_forward(&p, NULL, y, indices, NULL), CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_pool_forward(&p, x, NULL, indices, NULL), CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_pool_forward(&p, x, (char *)y + 2, NULL, NULL),
               CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_pool_forward(&p, x, x + 90, indices, NULL), CVC_OVERLAP);
  CHECK_STATUS(cvc_pool_forward(&p, x, y, y, NULL), CVC_OVERLAP);
  CHECK_STATUS(cvc_pool_backward(&p, y, NULL, x, NULL), CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_pool_backward(&p, x, indices, x, NULL), CVC_OVERLAP);
  /* 0xA5... is no position of the plane. */
  CHECK_STATUS(cvc_pool_backward(&p, y, indices, x, NULL), CVC_BAD_ARGUMENT);
  CHECK_OK(cvc_pool_scratch(&p, 1, &bytes));
  void *scratch = guarded((size_t)bytes, 64);
  cvc_call call = {.scratch = scratch, .scratch_bytes = 1};
  CHECK_STATUS(cvc_pool_forward(&p, x, y, indices, &call), CVC_BAD_ARGUMENT);
  CHECK(untouched(CVC_F32, y, 24) && untouched(CVC_I64, indices, 24));
  p.n = 0;
  CHECK_OK(cvc_pool_forward(&p, NULL, NULL, NULL, NULL));
  CHECK_OK(cvc_pool_backward(&p, NULL, NULL, NULL, NULL));
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
    test_wrong_taps();
  }
  test_threads();
  test_bad_calls();
  return report("pool");
}
