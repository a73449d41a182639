"""The C interface for Cython: ``from convcore cimport capi``.

Declares all of convcore.h; the header documents it. An extension that uses it
compiles with ``-I`` of `convcore.get_include` and links ``libconvcore.a`` from
`convcore.get_library_dir`.
"""

from libc.stdint cimport int32_t, int64_t


cdef extern from "convcore.h" nogil:
    const char *CVC_VERSION

    # Status

    ctypedef enum cvc_status:
        CVC_OK
        CVC_BAD_ARGUMENT
        CVC_BAD_SHAPE
        CVC_TOO_LARGE
        CVC_OVERLAP
        CVC_UNSUPPORTED
        CVC_BAD_PACKING
        CVC_BAD_ISA
        CVC_NO_MEMORY
        CVC_INTERRUPTED

    const char *cvc_status_text(cvc_status status)

    # Machine, threads

    cvc_status cvc_initialize()
    const char *cvc_isa()
    const char *cvc_isa_available(int i)
    int cvc_has_openmp()
    int cvc_get_num_threads()
    cvc_status cvc_set_num_threads(int threads)

    ctypedef struct cvc_call:
        int threads
        int (*interrupt)(void *data) noexcept nogil
        void *interrupt_data
        void *scratch
        int64_t scratch_bytes

    # Data types

    ctypedef enum cvc_dtype:
        CVC_F32
        CVC_F64
        CVC_U8
        CVC_I64

    ctypedef enum cvc_layout:
        CVC_CHANNELS_FIRST
        CVC_CHANNELS_LAST

    ctypedef enum cvc_precision:
        CVC_HIGHEST
        CVC_HIGH
        CVC_MEDIUM

    ctypedef enum cvc_activation:
        CVC_ACTIVATION_NONE
        CVC_ACTIVATION_RELU
        CVC_ACTIVATION_RELU6

    # Convolution

    ctypedef enum cvc_algorithm:
        CVC_AUTO
        CVC_DIRECT
        CVC_IM2COL
        CVC_WINOGRAD

    ctypedef enum cvc_pass:
        CVC_FORWARD
        CVC_BACKWARD_DATA
        CVC_BACKWARD_WEIGHT

    ctypedef enum cvc_weights:
        CVC_WEIGHTS_PLAIN
        CVC_WEIGHTS_PACKED

    ctypedef struct cvc_conv:
        cvc_dtype dtype
        cvc_layout layout
        cvc_algorithm algorithm
        cvc_precision precision
        cvc_activation activation
        cvc_weights weights
        int64_t n, c, k, groups
        int64_t size[3]
        int64_t kernel[3]
        int64_t stride[3]
        int64_t pad_before[3]
        int64_t pad_after[3]
        int64_t dilation[3]
        int64_t y_stride

    cvc_status cvc_conv_output_size(const cvc_conv *conv, int64_t out[3])
    cvc_status cvc_conv_choose(
        const cvc_conv *conv, cvc_pass pass_, cvc_algorithm *chosen)

    ctypedef struct cvc_candidate:
        cvc_algorithm algorithm
        int32_t planar
        int32_t linear
        int32_t tile
        double cycles

    enum:
        CVC_MAX_CANDIDATES

    cvc_status cvc_conv_explain(
        const cvc_conv *conv, cvc_pass pass_, cvc_candidate *candidates, int *count)
    cvc_status cvc_conv_packed_size(
        const cvc_conv *conv, cvc_pass pass_, int64_t *packed_size)
    cvc_status cvc_conv_pack(
        const cvc_conv *conv, cvc_pass pass_, const void *w, void *packed,
        const cvc_call *call)
    cvc_status cvc_conv_unpack(const cvc_conv *conv, const void *packed, void *w) nogil
    cvc_status cvc_conv_scratch(
        const cvc_conv *conv, cvc_pass pass_, int threads, int64_t *scratch_bytes)
    cvc_status cvc_conv_forward(
        const cvc_conv *conv, const void *x, const void *w, const void *bias,
        const void *residual, void *y, const cvc_call *call)
    cvc_status cvc_conv_backward_data(
        const cvc_conv *conv, const void *dy, const void *w, void *dx,
        const cvc_call *call)
    cvc_status cvc_conv_backward_weight(
        const cvc_conv *conv, const void *dy, const void *x, void *dw, void *db,
        const cvc_call *call)

    # Pooling

    ctypedef enum cvc_pool_kind:
        CVC_POOL_MAX
        CVC_POOL_AVERAGE

    ctypedef struct cvc_pool:
        cvc_dtype dtype
        cvc_layout layout
        cvc_pool_kind kind
        cvc_dtype index_dtype
        int32_t count_include_pad
        int64_t divisor
        int64_t n, c
        int64_t size[3]
        int64_t out[3]
        int64_t kernel[3]
        int64_t stride[3]
        int64_t pad_before[3]
        int64_t pad_after[3]
        int64_t dilation[3]

    cvc_status cvc_pool_check(const cvc_pool *pool)
    cvc_status cvc_pool_scratch(
        const cvc_pool *pool, int threads, int64_t *scratch_bytes)
    cvc_status cvc_pool_forward(
        const cvc_pool *pool, const void *x, void *y, void *indices,
        const cvc_call *call)
    cvc_status cvc_pool_backward(
        const cvc_pool *pool, const void *dy, const void *indices, void *dx,
        const cvc_call *call)

    ctypedef struct cvc_adaptive_pool:
        cvc_dtype dtype
        cvc_layout layout
        int64_t n, c
        int64_t size[3]
        int64_t out[3]

    cvc_status cvc_adaptive_pool_scratch(
        const cvc_adaptive_pool *pool, int threads, int64_t *scratch_bytes)
    cvc_status cvc_adaptive_pool_forward(
        const cvc_adaptive_pool *pool, const void *x, void *y, const cvc_call *call)
    cvc_status cvc_adaptive_pool_backward(
        const cvc_adaptive_pool *pool, const void *dy, void *dx, const cvc_call *call)

    # Batch normalisation

    ctypedef struct cvc_batch_norm:
        cvc_dtype dtype
        cvc_layout layout
        cvc_activation activation
        int32_t training
        int64_t n, c, pixels
        double eps

    cvc_status cvc_batch_norm_scratch(
        const cvc_batch_norm *bn, int threads, int64_t *scratch_bytes)
    cvc_status cvc_batch_norm_forward(
        const cvc_batch_norm *bn, const void *x, const void *weight, const void *bias,
        const void *given_mean, const void *given_var, const void *residual, void *y,
        void *mean, void *var, const cvc_call *call)
    cvc_status cvc_batch_norm_backward(
        const cvc_batch_norm *bn, const void *dy, const void *x, const void *y,
        const void *weight, const void *bias, const void *mean, const void *var,
        void *dx, void *dweight, void *dbias, void *dresidual, const cvc_call *call)
    cvc_status cvc_running_statistics(
        cvc_dtype dtype, int64_t c, int64_t count, double momentum, const void *mean,
        const void *var, const void *running_mean, const void *running_var,
        const int64_t *batches, void *new_mean, void *new_var, int64_t *new_batches)

    # Local response normalisation, dropout

    ctypedef struct cvc_lrn:
        cvc_dtype dtype
        int64_t pixels, c, size
        double alpha, beta, k

    cvc_status cvc_lrn_scratch(
        const cvc_lrn *lrn, int threads, int64_t *scratch_bytes)
    cvc_status cvc_lrn_forward(
        const cvc_lrn *lrn, const void *x, void *y, const cvc_call *call)
    cvc_status cvc_lrn_backward(
        const cvc_lrn *lrn, const void *dy, const void *x, void *dx,
        const cvc_call *call)

    ctypedef struct cvc_dropout:
        cvc_dtype dtype
        int64_t size, stream
        double p

    cvc_status cvc_dropout_apply(
        const cvc_dropout *dropout, const int64_t draws[2], const void *x, void *y,
        const cvc_call *call)

    # Elementwise, movement

    cvc_status cvc_relu_forward(
        cvc_dtype dtype, int64_t size, const void *x, void *y, const cvc_call *call)
    cvc_status cvc_relu_backward(
        cvc_dtype dtype, int64_t size, const void *dy, const void *y, void *dx,
        const cvc_call *call)
    cvc_status cvc_add(
        cvc_dtype dtype, int64_t size, const void *a, const void *b, void *y,
        const cvc_call *call)
    cvc_status cvc_transpose(
        cvc_dtype dtype, int64_t batch, int64_t a, int64_t b, const void *x, void *y,
        const cvc_call *call)
    cvc_status cvc_copy(
        cvc_dtype dtype, int64_t rows, int64_t columns, const void *x,
        int64_t x_stride, void *y, int64_t y_stride, const cvc_call *call)

    # Functions, arithmetic, softmax, group norm, interpolation

    enum:
        CVC_MAX_DIMENSIONS

    const char *cvc_function_name(int number)

    ctypedef struct cvc_function:
        cvc_dtype dtype
        int32_t number
        int64_t size
        double a, b

    cvc_status cvc_function_forward(
        const cvc_function *function, const void *x, void *y, const cvc_call *call)
    cvc_status cvc_function_backward(
        const cvc_function *function, const void *dy, const void *x, void *dx,
        const cvc_call *call)

    ctypedef enum cvc_operation:
        CVC_ADD
        CVC_SUBTRACT
        CVC_MULTIPLY
        CVC_DIVIDE

    ctypedef struct cvc_binary:
        cvc_dtype dtype
        cvc_operation operation
        int32_t dimensions
        int64_t size[6]  # CVC_MAX_DIMENSIONS
        int64_t a_stride[6]
        int64_t b_stride[6]

    cvc_status cvc_binary_forward(
        const cvc_binary *binary, const void *a, const void *b, void *y,
        const cvc_call *call)

    ctypedef struct cvc_softmax:
        cvc_dtype dtype
        int32_t logarithm
        int64_t outer, length, inner

    cvc_status cvc_softmax_forward(
        const cvc_softmax *softmax, const void *x, void *y, const cvc_call *call)
    cvc_status cvc_softmax_backward(
        const cvc_softmax *softmax, const void *dy, const void *y, void *dx,
        const cvc_call *call)

    ctypedef struct cvc_group_norm:
        cvc_dtype dtype
        cvc_layout layout
        int64_t n, c, space, groups
        double eps

    cvc_status cvc_group_norm_forward(
        const cvc_group_norm *norm, const void *x, const void *weight,
        const void *bias, void *y, const cvc_call *call)
    cvc_status cvc_group_norm_backward(
        const cvc_group_norm *norm, const void *dy, const void *x,
        const void *weight, void *dx, void *dweight, void *dbias,
        const cvc_call *call)

    ctypedef enum cvc_interpolation:
        CVC_NEAREST
        CVC_NEAREST_EXACT
        CVC_LINEAR
        CVC_CUBIC

    ctypedef struct cvc_interpolate:
        cvc_dtype dtype
        cvc_layout layout
        cvc_interpolation mode
        int32_t align_corners
        int64_t n, c
        int64_t size[3]
        int64_t out[3]
        double scale[3]

    cvc_status cvc_interpolate_forward(
        const cvc_interpolate *interpolate, const void *x, void *y,
        const cvc_call *call)
    cvc_status cvc_interpolate_backward(
        const cvc_interpolate *interpolate, const void *dy, void *dx,
        const cvc_call *call)

    # Loss, optimizers

    ctypedef enum cvc_reduction:
        CVC_REDUCTION_NONE
        CVC_REDUCTION_MEAN
        CVC_REDUCTION_SUM

    ctypedef struct cvc_cross_entropy:
        cvc_dtype dtype
        cvc_reduction reduction
        int64_t n, classes
        int64_t ignore_index
        double label_smoothing

    cvc_status cvc_cross_entropy_forward(
        const cvc_cross_entropy *ce, const void *logits, const int64_t *target,
        const void *weight, void *loss, const cvc_call *call)
    cvc_status cvc_cross_entropy_backward(
        const cvc_cross_entropy *ce, const void *dloss, const void *logits,
        const int64_t *target, const void *weight, void *dlogits,
        const cvc_call *call)

    ctypedef struct cvc_sgd:
        double lr, momentum, dampening, weight_decay
        double gradient_scale
        int64_t nesterov, step

    cvc_status cvc_sgd_step(
        cvc_dtype dtype, int64_t size, const cvc_sgd *sgd, const void *g, void *p,
        void *m, const cvc_call *call)

    ctypedef struct cvc_adam:
        double lr, beta1, beta2, eps, weight_decay, gradient_scale
        int64_t decoupled, step

    cvc_status cvc_adam_step(
        cvc_dtype dtype, int64_t size, const cvc_adam *adam, const void *g, void *p,
        void *m, void *v, const cvc_call *call)

    ctypedef struct cvc_rmsprop:
        double lr, alpha, eps, weight_decay, momentum, gradient_scale

    cvc_status cvc_rmsprop_step(
        cvc_dtype dtype, int64_t size, const cvc_rmsprop *rmsprop, const void *g,
        void *p, void *v, void *m, const cvc_call *call)
    cvc_status cvc_sum_of_squares(
        cvc_dtype dtype, int64_t size, const void *x, double *sum,
        const cvc_call *call)

    # Plan

    ctypedef enum cvc_space:
        CVC_SPACE_NONE
        CVC_SPACE_ARENA
        CVC_SPACE_PARAMETERS
        CVC_SPACE_GRADIENTS
        CVC_SPACE_STATE
        CVC_SPACE_EXTERNAL

    ctypedef struct cvc_operand:
        cvc_space space
        int32_t index
        cvc_dtype dtype
        int64_t offset
        int64_t size

    ctypedef enum cvc_step_kind:
        CVC_STEP_CONV_PACK
        CVC_STEP_CONV_FORWARD
        CVC_STEP_CONV_BACKWARD_DATA
        CVC_STEP_CONV_BACKWARD_WEIGHT
        CVC_STEP_POOL_FORWARD
        CVC_STEP_POOL_BACKWARD
        CVC_STEP_ADAPTIVE_POOL_FORWARD
        CVC_STEP_ADAPTIVE_POOL_BACKWARD
        CVC_STEP_BATCH_NORM_FORWARD
        CVC_STEP_BATCH_NORM_BACKWARD
        CVC_STEP_RUNNING_STATISTICS
        CVC_STEP_LRN_FORWARD
        CVC_STEP_LRN_BACKWARD
        CVC_STEP_DROPOUT
        CVC_STEP_RELU_FORWARD
        CVC_STEP_RELU_BACKWARD
        CVC_STEP_ADD
        CVC_STEP_TRANSPOSE
        CVC_STEP_COPY
        CVC_STEP_CROSS_ENTROPY_FORWARD
        CVC_STEP_CROSS_ENTROPY_BACKWARD
        CVC_STEP_FUNCTION_FORWARD
        CVC_STEP_FUNCTION_BACKWARD
        CVC_STEP_BINARY_FORWARD
        CVC_STEP_SOFTMAX_FORWARD
        CVC_STEP_SOFTMAX_BACKWARD
        CVC_STEP_GROUP_NORM_FORWARD
        CVC_STEP_GROUP_NORM_BACKWARD
        CVC_STEP_INTERPOLATE_FORWARD
        CVC_STEP_INTERPOLATE_BACKWARD
        CVC_STEP_SGD
        CVC_STEP_ADAM
        CVC_STEP_RMSPROP
        CVC_STEP_KINDS

    enum:
        CVC_MAX_OPERANDS

    # In C these four types have no name: use them only as members of cvc_step.
    ctypedef struct cvc_step_transpose:
        int64_t batch, a, b

    ctypedef struct cvc_step_running:
        double momentum
        int64_t count

    ctypedef struct cvc_step_copy:
        int64_t rows, columns, x_stride, y_stride

    ctypedef union cvc_step_of:
        cvc_conv conv
        cvc_pool pool
        cvc_adaptive_pool adaptive_pool
        cvc_batch_norm batch_norm
        cvc_lrn lrn
        cvc_dropout dropout
        cvc_step_running running
        cvc_cross_entropy cross_entropy
        cvc_function function
        cvc_binary binary
        cvc_softmax softmax
        cvc_group_norm group_norm
        cvc_interpolate interpolate
        cvc_step_transpose transpose
        cvc_step_copy copy

    ctypedef struct cvc_step:
        cvc_step_kind kind
        cvc_pass pass_ "pass"
        cvc_operand operands[11]  # CVC_MAX_OPERANDS
        cvc_step_of of

    cvc_status cvc_step_operands(
        const cvc_step *step, cvc_operand operands[11], int *count)
    cvc_status cvc_step_run(
        const cvc_step *step, void *const *arrays, const cvc_call *call)

    ctypedef struct cvc_plan

    cvc_status cvc_plan_create(
        const cvc_step *steps, int64_t n_steps, const int64_t space_bytes[6],
        const int64_t *external_bytes, int64_t n_external, cvc_plan **plan,
        int64_t *bad_step)
    void cvc_plan_destroy(cvc_plan *plan)
    cvc_status cvc_plan_scratch(
        const cvc_plan *plan, int64_t first, int64_t last, int threads,
        int64_t *scratch_bytes)

    ctypedef struct cvc_memory:
        void *arena
        void *parameters
        void *gradients
        void *state
        void *const *external

    cvc_status cvc_plan_run(
        const cvc_plan *plan, int64_t first, int64_t last, const cvc_memory *memory,
        const cvc_call *call, double *seconds, int64_t *failed_step)
