/**
 * convcore: convolutional-network kernels for CPUs.
 *
 * The whole public C interface. The library knows no Python, keeps no state
 * but its kernel table, its default thread count and what each thread last
 * chose, never aborts, prints or exits, and may be called from any number of
 * threads at once.
 *
 * Conventions
 *   - Dimensions: n images, c input channels, k output channels, d h w input
 *     size, t r s filter size (depth, height, width), od oh ow output size.
 *     Every spatial quantity is an array of three (depth, height, width); 1-D
 *     and 2-D are the case of leading axes of length 1, stride 1, padding 0.
 *   - Arrays are dense. CVC_CHANNELS_FIRST is x[n][c][d][h][w],
 *     CVC_CHANNELS_LAST is x[n][d][h][w][c]. Weights are always public as
 *     w[k][c/groups][t][r][s], whatever the layout of x and y.
 *   - Sizes are in elements and int64_t. The two exceptions carry "bytes" in
 *     their name: scratch and arenas, which have no dtype.
 *   - All arguments are checked before the first write: on any status but
 *     CVC_OK and CVC_INTERRUPTED nothing has changed; after CVC_INTERRUPTED
 *     the output is undefined.
 *   - For one ISA, results are the same bit for bit for any thread count.
 */
#ifndef CVC_CONVCORE_H
#define CVC_CONVCORE_H

#include <stdint.h>

#define CVC_VERSION "0.1.0"

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------- status */

typedef enum cvc_status {
  CVC_OK = 0,
  CVC_BAD_ARGUMENT, /* null pointer, unknown enum value, negative count */
  CVC_BAD_SHAPE,    /* sizes that do not fit together or are empty */
  CVC_TOO_LARGE,    /* a product of sizes overflows int64_t */
  CVC_OVERLAP,      /* an output overlaps an input */
  CVC_UNSUPPORTED,  /* valid, but not for this algorithm, dtype or build */
  CVC_BAD_PACKING,  /* packed weights made for another shape, pass or ISA */
  CVC_BAD_ISA,      /* CONVCORE_ISA names an unknown or unsupported ISA */
  CVC_NO_MEMORY,
  CVC_INTERRUPTED /* the interrupt callback returned non-zero */
} cvc_status;

/** One lower-case English phrase without full stop; never NULL. */
const char *cvc_status_text(cvc_status status);

/* ------------------------------------------------------ machine, threads */

/**
 * Choose the kernel table: called by every function on first use. The table
 * is the best ISA that CPU and operating system support, or the one named by
 * the environment variable CONVCORE_ISA (generic, avx2, avx512).
 * Returns CVC_OK or CVC_BAD_ISA; the answer never changes afterwards.
 */
cvc_status cvc_initialize(void);

/** Name of the chosen ISA, or NULL when cvc_initialize failed. */
const char *cvc_isa(void);

/** Name of ISA i that this machine can run, best first; NULL past the end. */
const char *cvc_isa_available(int i);

/** 1 when built with OpenMP; 0: every call runs on the calling thread. */
int cvc_has_openmp(void);

/**
 * Default thread count of calls that name none. It starts as OMP_NUM_THREADS
 * or else the CPUs this process may use (affinity and cgroup quota).
 */
int cvc_get_num_threads(void);
cvc_status cvc_set_num_threads(int threads);

/** How one call runs. NULL in its place means all defaults. */
typedef struct cvc_call {
  int threads; /* 0: cvc_get_num_threads() */
  /* Polled by the calling thread between blocks, at most every 10 ms;
   * non-zero ends the call with CVC_INTERRUPTED. May be NULL. */
  int (*interrupt)(void *data);
  void *interrupt_data;
  /* Working memory of at least the operation's scratch_bytes, 64-byte
   * aligned; NULL: allocated and freed by the call. */
  void *scratch;
  int64_t scratch_bytes;
} cvc_call;

/* ------------------------------------------------------------ data types */

typedef enum cvc_dtype { CVC_F32 = 0, CVC_F64, CVC_U8, CVC_I64 } cvc_dtype;

typedef enum cvc_layout {
  CVC_CHANNELS_FIRST = 0,
  CVC_CHANNELS_LAST
} cvc_layout;

/** Permitted max |error| / max |result| on N(0,1) data: 3e-6, 2e-5, 2e-2. */
typedef enum cvc_precision {
  CVC_HIGHEST = 0,
  CVC_HIGH,
  CVC_MEDIUM
} cvc_precision;

typedef enum cvc_activation {
  CVC_ACTIVATION_NONE = 0,
  CVC_ACTIVATION_RELU,
  CVC_ACTIVATION_RELU6 /* at most 6 */
} cvc_activation;

/* ----------------------------------------------------------- convolution */

typedef enum cvc_algorithm {
  CVC_AUTO = 0,
  CVC_DIRECT,
  CVC_IM2COL,
  CVC_WINOGRAD
} cvc_algorithm;

typedef enum cvc_pass {
  CVC_FORWARD = 0,
  CVC_BACKWARD_DATA,
  CVC_BACKWARD_WEIGHT
} cvc_pass;

/** What a weight argument points to. */
typedef enum cvc_weights {
  CVC_WEIGHTS_PLAIN = 0, /* w[k][c/groups][t][r][s] */
  CVC_WEIGHTS_PACKED     /* made by cvc_conv_pack for the same descriptor */
} cvc_weights;

/**
 * A convolution (cross-correlation, zero padding) of n images.
 *
 *   y[n][k][o] = bias[k] + sum over c, taps of
 *                x[n][c][o*stride - pad_before + tap*dilation] w[k][c][tap]
 *
 * The terms whose input lies in the padding are left out of the sum.
 */
typedef struct cvc_conv {
  cvc_dtype dtype; /* CVC_F32 or CVC_F64 */
  cvc_layout layout;
  cvc_algorithm algorithm;
  cvc_precision precision;
  cvc_activation activation; /* applied by the forward pass */
  cvc_weights weights;
  int64_t n, c, k, groups;
  int64_t size[3], kernel[3];
  int64_t stride[3], pad_before[3], pad_after[3], dilation[3];
  /* Channels last, forward, not depthwise, without a residual: elements from a
   * pixel of y to the next, where y is some channels of a larger array; 0: k */
  int64_t y_stride;
} cvc_conv;

/** Output size per axis; also the full check of the descriptor. */
cvc_status cvc_conv_output_size(const cvc_conv *conv, int64_t out[3]);

/**
 * The algorithm that a pass will run: CVC_AUTO resolved. A pure function of
 * the descriptor and the ISA. CVC_UNSUPPORTED when the one named cannot do
 * this shape.
 */
cvc_status cvc_conv_choose(const cvc_conv *conv, cvc_pass pass,
                           cvc_algorithm *chosen);

/** One way to run a pass, with the cost that the choice assumes for it. */
typedef struct cvc_candidate {
  cvc_algorithm algorithm;
  int32_t planar; /* direct: vectors along pixels instead of channels */
  int32_t linear; /* direct: a product with the weights as they are */
  int32_t tile;   /* Winograd's F(tile, r): outputs of a tile; 0 elsewhere */
  double cycles;  /* predicted, of one thread */
} cvc_candidate;

#define CVC_MAX_CANDIDATES 8

/**
 * What the choice for a pass weighs: every way to run it that the
 * descriptor's algorithm allows, the chosen one first, then by predicted cost.
 */
cvc_status cvc_conv_explain(const cvc_conv *conv, cvc_pass pass,
                            cvc_candidate candidates[CVC_MAX_CANDIDATES],
                            int *count);

/**
 * Pack weights once for many calls. The packed form is opaque and begins with
 * a format id; it serves the pass and descriptor it was made for. (Another n
 * may choose another algorithm and then gives CVC_BAD_PACKING.)
 * `packed` is 64-byte aligned and has packed_size elements of the dtype.
 * Passes: CVC_FORWARD and CVC_BACKWARD_DATA.
 */
cvc_status cvc_conv_packed_size(const cvc_conv *conv, cvc_pass pass,
                                int64_t *packed_size);
cvc_status cvc_conv_pack(const cvc_conv *conv, cvc_pass pass, const void *w,
                         void *packed, const cvc_call *call);

/** The weights that were packed for CVC_FORWARD, bit for bit. */
cvc_status cvc_conv_unpack(const cvc_conv *conv, const void *packed, void *w);

cvc_status cvc_conv_scratch(const cvc_conv *conv, cvc_pass pass, int threads,
                            int64_t *scratch_bytes);

/**
 * y = activation(conv(x, w) + bias + residual).
 * bias[k] and residual (shape and layout of y) may be NULL.
 */
cvc_status cvc_conv_forward(const cvc_conv *conv, const void *x, const void *w,
                            const void *bias, const void *residual, void *y,
                            const cvc_call *call);

/** dx = gradient of the convolution with respect to x. */
cvc_status cvc_conv_backward_data(const cvc_conv *conv, const void *dy,
                                  const void *w, void *dx,
                                  const cvc_call *call);

/**
 * dw[k][c/groups][t][r][s] and db[k] = gradients with respect to weights and
 * bias; either may be NULL. Sums over the batch are formed within granules
 * of samples, then in a binary tree by sample index; Winograd's in the order
 * of the tiles.
 */
cvc_status cvc_conv_backward_weight(const cvc_conv *conv, const void *dy,
                                    const void *x, void *dw, void *db,
                                    const cvc_call *call);

/* --------------------------------------------------------------- pooling */

typedef enum cvc_pool_kind { CVC_POOL_MAX = 0, CVC_POOL_AVERAGE } cvc_pool_kind;

/**
 * Max pooling ignores padding and propagates NaN. The index of a maximum is
 * either its tap (CVC_U8, t*r*s <= 256: one byte, what a plan keeps) or its
 * position d*h*w in the plane (CVC_I64).
 *
 * Average pooling divides by `divisor` when that is not 0, else by the
 * number of taps inside the input, or, with count_include_pad, inside the
 * padded input. `out` is given, since a window may begin inside the padded
 * input and end beyond it (ceil mode).
 */
typedef struct cvc_pool {
  cvc_dtype dtype;
  cvc_layout layout;
  cvc_pool_kind kind;
  cvc_dtype index_dtype; /* CVC_U8 or CVC_I64; max pooling only */
  int32_t count_include_pad;
  int64_t divisor;
  int64_t n, c;
  int64_t size[3], out[3], kernel[3];
  int64_t stride[3], pad_before[3], pad_after[3], dilation[3];
} cvc_pool;

cvc_status cvc_pool_check(const cvc_pool *pool);
cvc_status cvc_pool_scratch(const cvc_pool *pool, int threads,
                            int64_t *scratch_bytes);

/** indices (shape and layout of y) may be NULL; ignored by averages. */
cvc_status cvc_pool_forward(const cvc_pool *pool, const void *x, void *y,
                            void *indices, const cvc_call *call);

/** indices: those of the forward call; ignored by averages. */
cvc_status cvc_pool_backward(const cvc_pool *pool, const void *dy,
                             const void *indices, void *dx,
                             const cvc_call *call);

/**
 * Adaptive average pooling: output o of an axis is the mean of the elements
 * from o*size/out, rounded down, to (o + 1)*size/out, rounded up.
 */
typedef struct cvc_adaptive_pool {
  cvc_dtype dtype;
  cvc_layout layout;
  int64_t n, c;
  int64_t size[3], out[3];
} cvc_adaptive_pool;

cvc_status cvc_adaptive_pool_scratch(const cvc_adaptive_pool *pool, int threads,
                                     int64_t *scratch_bytes);
cvc_status cvc_adaptive_pool_forward(const cvc_adaptive_pool *pool,
                                     const void *x, void *y,
                                     const cvc_call *call);
cvc_status cvc_adaptive_pool_backward(const cvc_adaptive_pool *pool,
                                      const void *dy, void *dx,
                                      const cvc_call *call);

/* ---------------------------------------------------- batch normalisation */

/**
 * Batch normalisation of n images with c channels of `pixels` elements:
 *
 *   y = activation((x - mean) / sqrt(var + eps) * weight + bias + residual)
 *
 * where mean and (biased) variance are those of each channel over the batch
 * when `training`, else given. weight[c], bias[c] and residual (shape and
 * layout of x) may be NULL. Sums over the batch are formed within granules of
 * samples, then in a binary tree.
 */
typedef struct cvc_batch_norm {
  cvc_dtype dtype; /* CVC_F32 or CVC_F64 */
  cvc_layout layout;
  cvc_activation activation;
  int32_t training;
  int64_t n, c, pixels;
  double eps;
} cvc_batch_norm;

cvc_status cvc_batch_norm_scratch(const cvc_batch_norm *bn, int threads,
                                  int64_t *scratch_bytes);

/**
 * given_mean[c] and given_var[c] are read when not training; mean[c] and
 * var[c] receive those of the batch when training, and may be NULL. y may be
 * the residual.
 */
cvc_status cvc_batch_norm_forward(const cvc_batch_norm *bn, const void *x,
                                  const void *weight, const void *bias,
                                  const void *given_mean, const void *given_var,
                                  const void *residual, void *y, void *mean,
                                  void *var, const cvc_call *call);

/**
 * mean, var: those that the forward pass computed or was given. y: its result,
 * needed after a sum with a residual and ReLU; NULL otherwise. Each gradient
 * may be NULL. The first of dresidual and dx that is there may be dy.
 */
cvc_status cvc_batch_norm_backward(const cvc_batch_norm *bn, const void *dy,
                                   const void *x, const void *y,
                                   const void *weight, const void *bias,
                                   const void *mean, const void *var, void *dx,
                                   void *dweight, void *dbias, void *dresidual,
                                   const cvc_call *call);

/**
 * Move running statistics towards those of a batch of `count` elements per
 * channel, its variance made unbiased:
 *
 *   new = (1 - momentum) running + momentum batch
 *
 * batches (may be NULL) counts; new_batches = batches + 1, whose inverse takes
 * the place of a momentum that is NaN. Old and new may be the same memory.
 */
cvc_status cvc_running_statistics(cvc_dtype dtype, int64_t c, int64_t count,
                                  double momentum, const void *mean,
                                  const void *var, const void *running_mean,
                                  const void *running_var,
                                  const int64_t *batches, void *new_mean,
                                  void *new_var, int64_t *new_batches);

/* ------------------------------------ local response normalisation, dropout */

/**
 * Local response normalisation (Krizhevsky, Sutskever, Hinton, 2012) of
 * channels-last pixels x[pixels][c]:
 *
 *   y[i] = x[i] (k + alpha / size  sum of x[j]^2)^-beta,
 *   i - size/2 <= j <= i + (size - 1)/2, 0 <= j < c
 */
typedef struct cvc_lrn {
  cvc_dtype dtype;
  int64_t pixels, c, size;
  double alpha, beta, k;
} cvc_lrn;

cvc_status cvc_lrn_scratch(const cvc_lrn *lrn, int threads,
                           int64_t *scratch_bytes);
cvc_status cvc_lrn_forward(const cvc_lrn *lrn, const void *x, void *y,
                           const cvc_call *call);
cvc_status cvc_lrn_backward(const cvc_lrn *lrn, const void *dy, const void *x,
                            void *dx, const cvc_call *call);

/**
 * y[i] = 0 with probability p, else x[i] / (1 - p). What is dropped is a
 * function of the seed draws[0], the step draws[1] (modulo 2^32), the stream
 * and i: the gradient is the same function of dy. y may be x.
 */
typedef struct cvc_dropout {
  cvc_dtype dtype;
  int64_t size, stream; /* stream: which dropout of a network, modulo 2^32 */
  double p;
} cvc_dropout;

cvc_status cvc_dropout_apply(const cvc_dropout *dropout, const int64_t draws[2],
                             const void *x, void *y, const cvc_call *call);

/* ------------------------------------------------- elementwise, movement */

/** y = max(x, 0); NaN stays NaN. y may be x. */
cvc_status cvc_relu_forward(cvc_dtype dtype, int64_t size, const void *x,
                            void *y, const cvc_call *call);

/** dx = dy where y > 0, else 0; y is the result of the forward call. dx may be
 * dy. */
cvc_status cvc_relu_backward(cvc_dtype dtype, int64_t size, const void *dy,
                             const void *y, void *dx, const cvc_call *call);

/** y = a + b; y may be a or b. */
cvc_status cvc_add(cvc_dtype dtype, int64_t size, const void *a, const void *b,
                   void *y, const cvc_call *call);

/** y[batch][b][a] = x[batch][a][b]: layout conversion, channels to or fro. */
cvc_status cvc_transpose(cvc_dtype dtype, int64_t batch, int64_t a, int64_t b,
                         const void *x, void *y, const cvc_call *call);

/** y[i*y_stride + j] = x[i*x_stride + j], i < rows, j < columns. */
cvc_status cvc_copy(cvc_dtype dtype, int64_t rows, int64_t columns,
                    const void *x, int64_t x_stride, void *y, int64_t y_stride,
                    const cvc_call *call);

/* ---------------------------------------------- functions of each element */

/**
 * Name of function `number`, as "gelu"; NULL past the last. What functions
 * there are, and their parameters, stands in kernels/functions.inc.
 */
const char *cvc_function_name(int number);

/** y[i] = function(x[i]), as PyTorch defines the function of this name. */
typedef struct cvc_function {
  cvc_dtype dtype;
  int32_t number;
  int64_t size;
  double a, b; /* parameters; ignored where there are none */
} cvc_function;

/** y may be x. */
cvc_status cvc_function_forward(const cvc_function *function, const void *x,
                                void *y, const cvc_call *call);

/** dx = dy * derivative at x; dx may be dy. */
cvc_status cvc_function_backward(const cvc_function *function, const void *dy,
                                 const void *x, void *dx, const cvc_call *call);

/* --------------------------------------------------------- two operands */

typedef enum cvc_operation {
  CVC_ADD = 0,
  CVC_SUBTRACT,
  CVC_MULTIPLY,
  CVC_DIVIDE
} cvc_operation;

#define CVC_MAX_DIMENSIONS 6

/**
 * y = a operation b, of arrays with `dimensions` of these sizes and strides; a
 * stride of 0 repeats an element. y is dense, apart from a and b.
 */
typedef struct cvc_binary {
  cvc_dtype dtype;
  cvc_operation operation;
  int32_t dimensions;
  int64_t size[CVC_MAX_DIMENSIONS];
  int64_t a_stride[CVC_MAX_DIMENSIONS], b_stride[CVC_MAX_DIMENSIONS];
} cvc_binary;

cvc_status cvc_binary_forward(const cvc_binary *binary, const void *a,
                              const void *b, void *y, const cvc_call *call);

/* ---------------------------------------------------------------- softmax */

/** Along dimension `length` of x[outer][length][inner]; or its logarithm. */
typedef struct cvc_softmax {
  cvc_dtype dtype;
  int32_t logarithm;
  int64_t outer, length, inner;
} cvc_softmax;

cvc_status cvc_softmax_forward(const cvc_softmax *softmax, const void *x,
                               void *y, const cvc_call *call);

/** y: result of the forward call. */
cvc_status cvc_softmax_backward(const cvc_softmax *softmax, const void *dy,
                                const void *y, void *dx, const cvc_call *call);

/* ------------------------------------------------------------- group norm */

/**
 * y = (x - mean) / sqrt(variance + eps) * weight[c] + bias[c] with mean and
 * variance of each image's group of channels: c / groups * space elements.
 */
typedef struct cvc_group_norm {
  cvc_dtype dtype;
  cvc_layout layout;
  int64_t n, c, space, groups;
  double eps;
} cvc_group_norm;

/** weight and bias may be NULL. */
cvc_status cvc_group_norm_forward(const cvc_group_norm *norm, const void *x,
                                  const void *weight, const void *bias, void *y,
                                  const cvc_call *call);

/** dweight and dbias, and the weight, may be NULL. */
cvc_status cvc_group_norm_backward(const cvc_group_norm *norm, const void *dy,
                                   const void *x, const void *weight, void *dx,
                                   void *dweight, void *dbias,
                                   const cvc_call *call);

/* --------------------------------------------------------- interpolation */

typedef enum cvc_interpolation {
  CVC_NEAREST = 0,
  CVC_NEAREST_EXACT,
  CVC_LINEAR, /* along every axis */
  CVC_CUBIC
} cvc_interpolation;

/**
 * Resample n images of c channels to another size, axis by axis: an output is
 * a weighted sum of one, two or four inputs along each axis. scale: inputs per
 * output.
 */
typedef struct cvc_interpolate {
  cvc_dtype dtype;
  cvc_layout layout;
  cvc_interpolation mode;
  int32_t align_corners;
  int64_t n, c;
  int64_t size[3], out[3];
  double scale[3];
} cvc_interpolate;

cvc_status cvc_interpolate_forward(const cvc_interpolate *interpolate,
                                   const void *x, void *y,
                                   const cvc_call *call);
cvc_status cvc_interpolate_backward(const cvc_interpolate *interpolate,
                                    const void *dy, void *dx,
                                    const cvc_call *call);

/* ------------------------------------------------------ loss, optimizers */

typedef enum cvc_reduction {
  CVC_REDUCTION_NONE = 0,
  CVC_REDUCTION_MEAN,
  CVC_REDUCTION_SUM
} cvc_reduction;

/**
 * Softmax cross-entropy of logits[n][classes] and int64 target[n].
 * With class weights u, smoothing a: a row's loss is
 *   (1 - a) u[t] (-log p[t])  +  a / classes  sum over j of u[j] (-log p[j]),
 * and the mean divides by the sum of u[t]; rows with target == ignore_index
 * count nothing. A target outside 0..classes-1 is CVC_BAD_ARGUMENT.
 */
typedef struct cvc_cross_entropy {
  cvc_dtype dtype;
  cvc_reduction reduction;
  int64_t n, classes;
  int64_t ignore_index;
  double label_smoothing;
} cvc_cross_entropy;

/** loss: one element, or n with CVC_REDUCTION_NONE. weight may be NULL. */
cvc_status cvc_cross_entropy_forward(const cvc_cross_entropy *ce,
                                     const void *logits, const int64_t *target,
                                     const void *weight, void *loss,
                                     const cvc_call *call);

/** dloss: gradient of the loss, shaped like it; dlogits[n][classes]. */
cvc_status cvc_cross_entropy_backward(const cvc_cross_entropy *ce,
                                      const void *dloss, const void *logits,
                                      const int64_t *target, const void *weight,
                                      void *dlogits, const cvc_call *call);

/**
 * Stochastic gradient descent as in Sutskever et al., 2013, with PyTorch's
 * placement of the learning rate:
 *   g += weight_decay p;  m = momentum m + (1 - dampening) g, or m = g on the
 *   first step;  p -= lr (nesterov ? g + momentum m : m)
 */
typedef struct cvc_sgd {
  double lr, momentum, dampening, weight_decay;
  double gradient_scale;  /* what every g is multiplied by first */
  int64_t nesterov, step; /* step counts from 0 */
} cvc_sgd;

/** p, m (may be NULL when momentum is 0) are updated in place. */
cvc_status cvc_sgd_step(cvc_dtype dtype, int64_t size, const cvc_sgd *sgd,
                        const void *g, void *p, void *m, const cvc_call *call);

/**
 * Adam (Kingma, Ba, 2015): g += weight_decay p, or, decoupled (AdamW:
 * Loshchilov, Hutter, 2019), p *= 1 - lr weight_decay; with t = step + 1
 *   m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2
 *   p -= lr m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)
 */
typedef struct cvc_adam {
  double lr, beta1, beta2, eps, weight_decay, gradient_scale;
  int64_t decoupled, step;
} cvc_adam;

cvc_status cvc_adam_step(cvc_dtype dtype, int64_t size, const cvc_adam *adam,
                         const void *g, void *p, void *m, void *v,
                         const cvc_call *call);

/**
 * RMSprop (Tieleman, Hinton, 2012), as in PyTorch: g += weight_decay p;
 *   v = alpha v + (1 - alpha) g^2;  m = momentum m + g / (sqrt(v) + eps)
 *   p -= lr m
 */
typedef struct cvc_rmsprop {
  double lr, alpha, eps, weight_decay, momentum, gradient_scale;
} cvc_rmsprop;

/** m may be NULL when momentum is 0. */
cvc_status cvc_rmsprop_step(cvc_dtype dtype, int64_t size,
                            const cvc_rmsprop *rmsprop, const void *g, void *p,
                            void *v, void *m, const cvc_call *call);

/** The sum of the squares of x, in double: to clip gradients by their norm. */
cvc_status cvc_sum_of_squares(cvc_dtype dtype, int64_t size, const void *x,
                              double *sum, const cvc_call *call);

/* ------------------------------------------------------------------ plan */

/**
 * A plan is an immutable list of steps on operands that are offsets into
 * spaces; the memory is named only when it runs. One plan serves many
 * threads at once, each run with an arena of its own.
 */
typedef enum cvc_space {
  CVC_SPACE_NONE = 0, /* an absent optional operand */
  CVC_SPACE_ARENA,
  CVC_SPACE_PARAMETERS,
  CVC_SPACE_GRADIENTS,
  CVC_SPACE_STATE,   /* the optimizer's */
  CVC_SPACE_EXTERNAL /* inputs and outputs; offset counts from array `index` */
} cvc_space;

typedef struct cvc_operand {
  cvc_space space;
  int32_t index; /* which external array; 0 elsewhere */
  cvc_dtype dtype;
  int64_t offset; /* elements of dtype from the start of the space */
  int64_t size;   /* elements */
} cvc_operand;

typedef enum cvc_step_kind {
  /*                          operands, in this order ([] may be NONE) */
  CVC_STEP_CONV_PACK = 0,          /* w -> packed */
  CVC_STEP_CONV_FORWARD,           /* x, w, [bias], [residual] -> y */
  CVC_STEP_CONV_BACKWARD_DATA,     /* dy, w -> dx */
  CVC_STEP_CONV_BACKWARD_WEIGHT,   /* dy, x -> [dw], [db] */
  CVC_STEP_POOL_FORWARD,           /* x -> y, [indices] */
  CVC_STEP_POOL_BACKWARD,          /* dy, [indices] -> dx */
  CVC_STEP_ADAPTIVE_POOL_FORWARD,  /* x -> y */
  CVC_STEP_ADAPTIVE_POOL_BACKWARD, /* dy -> dx */
  CVC_STEP_BATCH_NORM_FORWARD,     /* x, [weight], [bias], [given_mean],
                                      [given_var], [residual]
                                      -> y, [mean], [var] */
  CVC_STEP_BATCH_NORM_BACKWARD,    /* dy, x, [y], [weight], [bias], mean, var
                                      -> [dx], [dweight], [dbias],
                                      [dresidual] */
  CVC_STEP_RUNNING_STATISTICS,     /* mean, var, running_mean, running_var,
                                      [batches] -> the three */
  CVC_STEP_LRN_FORWARD,            /* x -> y */
  CVC_STEP_LRN_BACKWARD,           /* dy, x -> dx */
  CVC_STEP_DROPOUT,                /* draws, x -> y */
  CVC_STEP_RELU_FORWARD,           /* x -> y */
  CVC_STEP_RELU_BACKWARD,          /* dy, y -> dx */
  CVC_STEP_ADD,                    /* a, b -> y */
  CVC_STEP_TRANSPOSE,              /* x -> y */
  CVC_STEP_COPY,                   /* x -> y */
  CVC_STEP_CROSS_ENTROPY_FORWARD,  /* logits, target, [weight] -> loss */
  CVC_STEP_CROSS_ENTROPY_BACKWARD, /* dloss, logits, target, [weight]
                                      -> dlogits */
  CVC_STEP_FUNCTION_FORWARD,       /* x -> y */
  CVC_STEP_FUNCTION_BACKWARD,      /* dy, x -> dx */
  CVC_STEP_BINARY_FORWARD,         /* a, b -> y */
  CVC_STEP_SOFTMAX_FORWARD,        /* x -> y */
  CVC_STEP_SOFTMAX_BACKWARD,       /* dy, y -> dx */
  CVC_STEP_GROUP_NORM_FORWARD,     /* x, [weight], [bias] -> y */
  CVC_STEP_GROUP_NORM_BACKWARD,    /* dy, x, [weight] -> dx, [dweight],
                                      [dbias] */
  CVC_STEP_INTERPOLATE_FORWARD,    /* x -> y */
  CVC_STEP_INTERPOLATE_BACKWARD,   /* dy -> dx */
  /* hyper: the members of cvc_sgd, cvc_adam, cvc_rmsprop as CVC_F64 */
  CVC_STEP_SGD,     /* hyper, g -> p, [m] */
  CVC_STEP_ADAM,    /* hyper, g -> p, m, v */
  CVC_STEP_RMSPROP, /* hyper, g -> p, v, [m] */
  CVC_STEP_KINDS
} cvc_step_kind;

#define CVC_MAX_OPERANDS 11

typedef struct cvc_step {
  cvc_step_kind kind;
  cvc_pass pass; /* CVC_STEP_CONV_PACK only: the pass to pack for */
  cvc_operand operands[CVC_MAX_OPERANDS];
  union {
    cvc_conv conv;
    cvc_pool pool;
    cvc_adaptive_pool adaptive_pool;
    cvc_batch_norm batch_norm;
    cvc_lrn lrn;
    cvc_dropout dropout;
    struct {
      double momentum;
      int64_t count;
    } running;
    cvc_cross_entropy cross_entropy;
    cvc_function function;
    cvc_binary binary;
    cvc_softmax softmax;
    cvc_group_norm group_norm;
    cvc_interpolate interpolate;
    struct {
      int64_t batch, a, b;
    } transpose;
    struct {
      int64_t rows, columns, x_stride, y_stride;
    } copy;
  } of;
} cvc_step;

/**
 * Check a step's descriptor and say what its operands have to be: dtype and
 * size of each, of those that are absent too. For the kinds whose descriptor
 * has a dtype.
 */
cvc_status cvc_step_operands(const cvc_step *step,
                             cvc_operand operands[CVC_MAX_OPERANDS],
                             int *count);

/** Run one step on these arrays, NULL where an operand is absent. */
cvc_status cvc_step_run(const cvc_step *step, void *const *arrays,
                        const cvc_call *call);

typedef struct cvc_plan cvc_plan;

/**
 * Copy and check the steps: descriptors, operand sizes, and that every
 * operand lies inside its space. space_bytes: the bytes of each space
 * in the order of cvc_space (NONE and EXTERNAL ignored), external_bytes one
 * per external array. bad_step, when not NULL, receives the failing step.
 */
cvc_status cvc_plan_create(const cvc_step *steps, int64_t n_steps,
                           const int64_t space_bytes[CVC_SPACE_EXTERNAL + 1],
                           const int64_t *external_bytes, int64_t n_external,
                           cvc_plan **plan, int64_t *bad_step);
void cvc_plan_destroy(cvc_plan *plan);

/** Working memory of a run of steps first..last-1 with that many threads. */
cvc_status cvc_plan_scratch(const cvc_plan *plan, int64_t first, int64_t last,
                            int threads, int64_t *scratch_bytes);

/** The memory of one run; every pointer 64-byte aligned but the externals,
 * which have the alignment of their dtype. */
typedef struct cvc_memory {
  void *arena, *parameters, *gradients, *state;
  void *const *external;
} cvc_memory;

/**
 * Run steps first..last-1. With seconds not NULL, seconds[i] receives the
 * time of step first + i. failed_step, when not NULL, receives the step that
 * gave a status other than CVC_OK.
 */
cvc_status cvc_plan_run(const cvc_plan *plan, int64_t first, int64_t last,
                        const cvc_memory *memory, const cvc_call *call,
                        double *seconds, int64_t *failed_step);

#ifdef __cplusplus
}
#endif

#endif /* CVC_CONVCORE_H */
