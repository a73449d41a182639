# Part of _core.pyx: one call of the C library per operation.

cdef dict LAYOUTS = {"first": CVC_CHANNELS_FIRST, "last": CVC_CHANNELS_LAST}
cdef dict PRECISIONS = {
    "highest": CVC_HIGHEST, "high": CVC_HIGH, "medium": CVC_MEDIUM,
}
cdef dict PRECISION_NAMES = {number: name for name, number in PRECISIONS.items()}
cdef dict ACTIVATIONS = {
    None: CVC_ACTIVATION_NONE, "relu": CVC_ACTIVATION_RELU,
    "relu6": CVC_ACTIVATION_RELU6,
}
cdef dict ALGORITHMS = {
    "auto": CVC_AUTO, "direct": CVC_DIRECT, "im2col": CVC_IM2COL,
    "winograd": CVC_WINOGRAD,
}
cdef dict ALGORITHM_NAMES = {number: name for name, number in ALGORITHMS.items()}
cdef dict PASSES = {
    "forward": CVC_FORWARD, "backward_data": CVC_BACKWARD_DATA,
    "backward_weight": CVC_BACKWARD_WEIGHT,
}
cdef dict POOL_KINDS = {"max": CVC_POOL_MAX, "average": CVC_POOL_AVERAGE}
cdef dict REDUCTIONS = {
    "none": CVC_REDUCTION_NONE, "mean": CVC_REDUCTION_MEAN, "sum": CVC_REDUCTION_SUM,
}


cdef int number(dict names, object name, str argument) except -1:
    if name not in names:
        raise ValueError(f"{argument} must be one of {tuple(names)}, not {name!r}")
    return names[name]


cdef int read_axes(tuple values, int64_t *axes) except -1:
    axes[0], axes[1], axes[2] = values
    return 0


cdef inline int64_t volume(const int64_t *size) noexcept:
    return size[0] * size[1] * size[2]


cdef class Conv:
    """A convolution: `cvc_conv`."""

    cdef cvc_conv conv
    cdef int64_t out[3]
    cdef int64_t x_size, y_size
    cdef int64_t w_size[2]  # as passed to forward and backward_data
    cdef int scratch_threads[3]  # of each pass: threads of the last call,
    cdef int64_t scratch_bytes[3]  # and the scratch that it needed
    cdef readonly tuple output_size

    def __init__(
        self, dtype, layout, int64_t n, int64_t c, int64_t k, int64_t groups,
        tuple size, tuple kernel, tuple stride, tuple pad_before, tuple pad_after,
        tuple dilation, *, algorithm="auto", precision="highest", activation=None,
        bint packed=False, int64_t y_stride=0,
    ):
        cdef cvc_conv *conv = &self.conv
        conv.dtype = <cvc_dtype>number(DTYPES, dtype, "dtype")
        conv.layout = <cvc_layout>number(LAYOUTS, layout, "layout")
        conv.algorithm = <cvc_algorithm>number(ALGORITHMS, algorithm, "algorithm")
        conv.precision = <cvc_precision>number(PRECISIONS, precision, "precision")
        conv.activation = <cvc_activation>number(ACTIVATIONS, activation, "activation")
        conv.weights = CVC_WEIGHTS_PACKED if packed else CVC_WEIGHTS_PLAIN
        conv.n, conv.c, conv.k, conv.groups = n, c, k, groups
        read_axes(size, conv.size)
        read_axes(kernel, conv.kernel)
        read_axes(stride, conv.stride)
        read_axes(pad_before, conv.pad_before)
        read_axes(pad_after, conv.pad_after)
        read_axes(dilation, conv.dilation)
        conv.y_stride = y_stride

        check(cvc_conv_output_size(conv, self.out))
        self.output_size = (self.out[0], self.out[1], self.out[2])
        self.x_size = n * c * volume(conv.size)
        self.y_size = n * volume(self.out)  # pixels, first
        if self.y_size:
            self.y_size = (self.y_size - 1) * (y_stride or k) + k
        self.w_size[0] = self.w_size[1] = self.plain_size()
        if packed:
            check(cvc_conv_packed_size(conv, CVC_FORWARD, &self.w_size[0]))
            check(cvc_conv_packed_size(conv, CVC_BACKWARD_DATA, &self.w_size[1]))

    cdef int64_t plain_size(self) noexcept:
        cdef cvc_conv *conv = &self.conv
        return conv.k * (conv.c // conv.groups) * volume(conv.kernel)

    cdef int begin(self, cvc_call *call, int threads, cvc_pass which) except -1:
        begin(call, threads)
        if self.scratch_threads[<int>which] != call.threads:
            check(cvc_conv_scratch(
                &self.conv, which, call.threads, &self.scratch_bytes[<int>which]))
            self.scratch_threads[<int>which] = call.threads
        return lend_scratch(call, self.scratch_bytes[<int>which])

    def choose(self, pass_):
        """Name of the algorithm that a pass runs."""
        cdef cvc_algorithm algorithm
        cdef cvc_pass which = <cvc_pass>number(PASSES, pass_, "pass_")
        check(cvc_conv_choose(&self.conv, which, &algorithm))
        return ALGORITHM_NAMES[algorithm]

    def explain(self, pass_):
        """What the choice weighs, best first.

        As (algorithm, planar, linear, tile, cycles).
        """
        cdef int i, count
        cdef cvc_candidate candidates[CVC_MAX_CANDIDATES]
        cdef cvc_pass which = <cvc_pass>number(PASSES, pass_, "pass_")
        check(cvc_conv_explain(&self.conv, which, candidates, &count))
        return [
            (
                ALGORITHM_NAMES[candidates[i].algorithm], bool(candidates[i].planar),
                bool(candidates[i].linear), candidates[i].tile, candidates[i].cycles,
            )
            for i in range(count)
        ]

    def packed_size(self, pass_):
        """Elements of weights packed for a pass."""
        cdef int64_t size
        cdef cvc_pass which = <cvc_pass>number(PASSES, pass_, "pass_")
        check(cvc_conv_packed_size(&self.conv, which, &size))
        return size

    def pack(self, pass_, w, packed, int threads=0):
        """Pack weights for a pass; `packed` is 64-byte aligned."""
        cdef cvc_call call
        cdef cvc_status status
        cdef cvc_pass which = <cvc_pass>number(PASSES, pass_, "pass_")
        cdef int64_t size = self.packed_size(pass_)
        cdef const void *w_data = data(w, "w", self.conv.dtype, self.plain_size())
        cdef void *packed_data = data(packed, "packed", self.conv.dtype, size, True)
        begin(&call, threads)
        with nogil:
            status = cvc_conv_pack(&self.conv, which, w_data, packed_data, &call)
        check(status)

    def unpack(self, packed, w):
        """Give w the weights that were packed for the forward pass."""
        cdef cvc_status status
        cdef int64_t size = self.packed_size("forward")
        cdef const void *packed_data = data(packed, "packed", self.conv.dtype, size)
        cdef void *w_data = data(w, "w", self.conv.dtype, self.plain_size(), True)
        with nogil:
            status = cvc_conv_unpack(&self.conv, packed_data, w_data)
        check(status)

    cdef int run_forward(
        self, const void *x, const void *w, const void *bias, const void *residual,
        void *y, int threads,
    ) except -1:
        cdef cvc_call call
        cdef cvc_status status
        self.begin(&call, threads, CVC_FORWARD)
        with nogil:
            status = cvc_conv_forward(&self.conv, x, w, bias, residual, y, &call)
        return finish(&call, status)

    def forward(self, x, w, bias, residual, y, int threads=0):
        """y = activation(conv(x, w) + bias + residual)."""
        cdef cvc_dtype dtype = self.conv.dtype
        cdef const void *x_data = data(x, "x", dtype, self.x_size)
        cdef const void *w_data = data(w, "w", dtype, self.w_size[0])
        cdef const void *bias_data = optional(bias, "bias", dtype, self.conv.k)
        cdef const void *residual_data = optional(
            residual, "residual", dtype, self.y_size)
        cdef void *y_data = data(y, "y", dtype, self.y_size, True)
        self.run_forward(x_data, w_data, bias_data, residual_data, y_data, threads)

    cdef int result_shape(self, int axes, cnp.npy_intp *shape) noexcept:
        """Logical shape of y in so many axes; its rank."""
        cdef int i
        shape[0], shape[1] = self.conv.n, self.conv.k
        for i in range(axes):
            shape[2 + i] = self.out[3 - axes + i]
        return axes + 2

    cdef bint gives(self, object array) noexcept:
        """Whether y has the shape of the array."""
        cdef cnp.npy_intp shape[5]
        cdef int i, ndim = self.result_shape(cnp.PyArray_NDIM(array) - 2, shape)
        for i in range(ndim):
            if cnp.PyArray_DIM(array, i) != shape[i]:
                return False
        return True

    cdef cnp.ndarray empty(self, int axes):
        """A new y in the memory order of the descriptor."""
        cdef cnp.npy_intp shape[5], strides[5], step
        cdef int i, axis, dtype = TYPE_NUMBERS[<int>self.conv.dtype]
        cdef int ndim = self.result_shape(axes, shape)
        if self.conv.layout == CVC_CHANNELS_FIRST:
            return cnp.PyArray_EMPTY(ndim, shape, dtype, 0)
        step = 4 if self.conv.dtype == CVC_F32 else 8
        for i in range(ndim):  # in memory: N, space, C
            axis = 1 if i == 0 else 0 if i == ndim - 1 else ndim - i
            strides[axis] = step
            step *= shape[axis]
        return cnp.PyArray_New(
            cnp.ndarray, ndim, shape, dtype, strides, NULL, 0, 0, None)

    def backward_data(self, dy, w, dx, int threads=0):
        """dx = gradient with respect to x."""
        cdef cvc_call call
        cdef cvc_status status
        cdef cvc_dtype dtype = self.conv.dtype
        cdef const void *dy_data = data(dy, "dy", dtype, self.y_size)
        cdef const void *w_data = data(w, "w", dtype, self.w_size[1])
        cdef void *dx_data = data(dx, "dx", dtype, self.x_size, True)
        self.begin(&call, threads, CVC_BACKWARD_DATA)
        with nogil:
            status = cvc_conv_backward_data(
                &self.conv, dy_data, w_data, dx_data, &call)
        finish(&call, status)

    def backward_weight(self, dy, x, dw, db, int threads=0):
        """dw and db, either of which may be None."""
        cdef cvc_call call
        cdef cvc_status status
        cdef cvc_dtype dtype = self.conv.dtype
        cdef const void *dy_data = data(dy, "dy", dtype, self.y_size)
        cdef const void *x_data = data(x, "x", dtype, self.x_size)
        cdef void *dw_data = optional(dw, "dw", dtype, self.plain_size(), True)
        cdef void *db_data = optional(db, "db", dtype, self.conv.k, True)
        self.begin(&call, threads, CVC_BACKWARD_WEIGHT)
        with nogil:
            status = cvc_conv_backward_weight(
                &self.conv, dy_data, x_data, dw_data, db_data, &call)
        finish(&call, status)


cdef class Pool:
    """A pooling: `cvc_pool`."""

    cdef cvc_pool pool
    cdef int64_t x_size, y_size
    cdef int scratch_threads  # of the last call,
    cdef int64_t scratch_bytes  # and what it needed

    def __init__(
        self, dtype, layout, kind, int64_t n, int64_t c, tuple size, tuple out,
        tuple kernel, tuple stride, tuple pad_before, tuple pad_after, tuple dilation,
        *, bint count_include_pad=True, int64_t divisor=0, index_dtype="int64",
    ):
        cdef cvc_pool *pool = &self.pool
        pool.dtype = <cvc_dtype>number(DTYPES, dtype, "dtype")
        pool.layout = <cvc_layout>number(LAYOUTS, layout, "layout")
        pool.kind = <cvc_pool_kind>number(POOL_KINDS, kind, "kind")
        pool.index_dtype = <cvc_dtype>number(DTYPES, index_dtype, "index_dtype")
        pool.count_include_pad, pool.divisor = count_include_pad, divisor
        pool.n, pool.c = n, c
        read_axes(size, pool.size)
        read_axes(out, pool.out)
        read_axes(kernel, pool.kernel)
        read_axes(stride, pool.stride)
        read_axes(pad_before, pool.pad_before)
        read_axes(pad_after, pool.pad_after)
        read_axes(dilation, pool.dilation)
        check(cvc_pool_check(pool))
        self.x_size = n * c * volume(pool.size)
        self.y_size = n * c * volume(pool.out)

    cdef int begin(self, cvc_call *call, int threads) except -1:
        begin(call, threads)
        if self.scratch_threads != call.threads:
            check(cvc_pool_scratch(&self.pool, call.threads, &self.scratch_bytes))
            self.scratch_threads = call.threads
        return lend_scratch(call, self.scratch_bytes)

    def forward(self, x, y, indices, int threads=0):
        """y and, if not None, the indices of the maxima."""
        cdef cvc_call call
        cdef cvc_status status
        cdef cvc_dtype dtype = self.pool.dtype
        cdef const void *x_data = data(x, "x", dtype, self.x_size)
        cdef void *y_data = data(y, "y", dtype, self.y_size, True)
        cdef void *index_data = optional(
            indices, "indices", self.pool.index_dtype, self.y_size, True)
        self.begin(&call, threads)
        with nogil:
            status = cvc_pool_forward(&self.pool, x_data, y_data, index_data, &call)
        finish(&call, status)

    def backward(self, dy, indices, dx, int threads=0):
        """dx = gradient with respect to x; averages need no indices."""
        cdef cvc_call call
        cdef cvc_status status
        cdef cvc_dtype dtype = self.pool.dtype
        cdef const void *dy_data = data(dy, "dy", dtype, self.y_size)
        cdef const void *index_data = optional(
            indices, "indices", self.pool.index_dtype, self.y_size)
        cdef void *dx_data = data(dx, "dx", dtype, self.x_size, True)
        self.begin(&call, threads)
        with nogil:
            status = cvc_pool_backward(
                &self.pool, dy_data, index_data, dx_data, &call)
        finish(&call, status)


cdef class CrossEntropy:
    """A softmax cross-entropy: `cvc_cross_entropy`."""

    cdef cvc_cross_entropy ce
    cdef int64_t logits_size, loss_size

    def __init__(
        self, dtype, int64_t n, int64_t classes, *, reduction="mean",
        int64_t ignore_index=-100, double label_smoothing=0.0,
    ):
        cdef cvc_cross_entropy *ce = &self.ce
        ce.dtype = <cvc_dtype>number(DTYPES, dtype, "dtype")
        ce.reduction = <cvc_reduction>number(REDUCTIONS, reduction, "reduction")
        ce.n, ce.classes = n, classes
        ce.ignore_index, ce.label_smoothing = ignore_index, label_smoothing
        self.logits_size = n * classes
        self.loss_size = n if ce.reduction == CVC_REDUCTION_NONE else 1

    def forward(self, logits, target, weight, loss, int threads=0):
        """loss: one element, or one per row without reduction."""
        cdef cvc_call call
        cdef cvc_status status
        cdef cvc_cross_entropy *ce = &self.ce
        cdef const void *logits_data = data(
            logits, "logits", ce.dtype, self.logits_size)
        cdef const int64_t *target_data = <int64_t *>data(
            target, "target", CVC_I64, ce.n)
        cdef const void *weight_data = optional(
            weight, "weight", ce.dtype, ce.classes)
        cdef void *loss_data = data(loss, "loss", ce.dtype, self.loss_size, True)
        begin(&call, threads)
        with nogil:
            status = cvc_cross_entropy_forward(
                ce, logits_data, target_data, weight_data, loss_data, &call)
        check(status)

    def backward(self, dloss, logits, target, weight, dlogits, int threads=0):
        """dlogits = gradient with respect to the logits."""
        cdef cvc_call call
        cdef cvc_status status
        cdef cvc_cross_entropy *ce = &self.ce
        cdef const void *dloss_data = data(dloss, "dloss", ce.dtype, self.loss_size)
        cdef const void *logits_data = data(
            logits, "logits", ce.dtype, self.logits_size)
        cdef const int64_t *target_data = <int64_t *>data(
            target, "target", CVC_I64, ce.n)
        cdef const void *weight_data = optional(
            weight, "weight", ce.dtype, ce.classes)
        cdef void *dlogits_data = data(
            dlogits, "dlogits", ce.dtype, self.logits_size, True)
        begin(&call, threads)
        with nogil:
            status = cvc_cross_entropy_backward(
                ce, dloss_data, logits_data, target_data, weight_data, dlogits_data,
                &call)
        check(status)


# ------------------------------------------- elementwise, movement


def relu_forward(x, y, int threads=0):
    """y = max(x, 0); y may be x."""
    cdef cvc_call call
    cdef cvc_status status
    cdef cvc_dtype dtype = real_dtype_of(x, "x")
    cdef int64_t size = cnp.PyArray_SIZE(x)
    cdef const void *x_data = data(x, "x", dtype, size)
    cdef void *y_data = data(y, "y", dtype, size, True)
    begin(&call, threads)
    with nogil:
        status = cvc_relu_forward(dtype, size, x_data, y_data, &call)
    check(status)


ctypedef cvc_status (*binary_function)(
    cvc_dtype, int64_t, const void *, const void *, void *, const cvc_call *
) noexcept nogil


cdef int combine(
    binary_function function, a, b, y, tuple names, int threads
) except -1:
    cdef cvc_call call
    cdef cvc_status status
    cdef cvc_dtype dtype = real_dtype_of(a, names[0])
    cdef int64_t size = cnp.PyArray_SIZE(a)
    cdef const void *a_data = data(a, names[0], dtype, size)
    cdef const void *b_data = data(b, names[1], dtype, size)
    cdef void *y_data = data(y, names[2], dtype, size, True)
    begin(&call, threads)
    with nogil:
        status = function(dtype, size, a_data, b_data, y_data, &call)
    return check(status)


def relu_backward(dy, y, dx, int threads=0):
    """dx = dy where y > 0, else 0."""
    combine(cvc_relu_backward, dy, y, dx, ("dy", "y", "dx"), threads)


def add(a, b, y, int threads=0):
    """y = a + b; y may be a or b."""
    combine(cvc_add, a, b, y, ("a", "b", "y"), threads)


def transpose(int64_t batch, int64_t a, int64_t b, x, y, int threads=0):
    """y[batch][b][a] = x[batch][a][b]."""
    cdef cvc_call call
    cdef cvc_status status
    cdef cvc_dtype dtype = real_dtype_of(x, "x")
    cdef const void *x_data = data(x, "x", dtype, batch * a * b)
    cdef void *y_data = data(y, "y", dtype, batch * a * b, True)
    begin(&call, threads)
    with nogil:
        status = cvc_transpose(dtype, batch, a, b, x_data, y_data, &call)
    check(status)


def copy(
    int64_t rows, int64_t columns, x, int64_t x_stride, y, int64_t y_stride,
    int threads=0,
):
    """y[i*y_stride + j] = x[i*x_stride + j], i < rows, j < columns."""
    cdef cvc_call call
    cdef cvc_status status
    cdef cvc_dtype dtype = real_dtype_of(x, "x")
    cdef int64_t x_size = cnp.PyArray_SIZE(x), y_size = cnp.PyArray_SIZE(y)
    cdef const void *x_data = data(x, "x", dtype, x_size)
    cdef void *y_data = data(y, "y", dtype, y_size, True)
    if rows < 0 or columns < 0 or columns > x_stride or columns > y_stride or rows and (
        (x_size - columns) // x_stride < rows - 1
        or (y_size - columns) // y_stride < rows - 1
    ):
        raise ValueError(
            f"{rows} rows of {columns} with strides {x_stride} and {y_stride} exceed "
            f"arrays of {x_size} and {y_size} elements"
        )
    begin(&call, threads)
    with nogil:
        status = cvc_copy(
            dtype, rows, columns, x_data, x_stride, y_data, y_stride, &call)
    check(status)
