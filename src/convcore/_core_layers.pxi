# Part of _core.pyx: adaptive pooling, normalisation, dropout.


cdef class BatchNorm:
    """A batch normalisation: `cvc_batch_norm`."""

    cdef cvc_batch_norm bn
    cdef int64_t size
    cdef int64_t scratch_bytes

    def __init__(
        self, dtype, layout, int64_t n, int64_t c, int64_t pixels, *, bint training,
        double eps, activation=None,
    ):
        cdef cvc_batch_norm *bn = &self.bn
        bn.dtype = <cvc_dtype>number(DTYPES, dtype, "dtype")
        bn.layout = <cvc_layout>number(LAYOUTS, layout, "layout")
        bn.activation = <cvc_activation>number(ACTIVATIONS, activation, "activation")
        bn.training, bn.n, bn.c, bn.pixels, bn.eps = training, n, c, pixels, eps
        check(cvc_batch_norm_scratch(bn, 1, &self.scratch_bytes))
        self.size = n * c * pixels

    def forward(
        self, x, weight, bias, given_mean, given_var, residual, y, mean, var,
        int threads=0,
    ):
        """y, and in training the mean and variance of the batch, if not None."""
        cdef cvc_call call
        cdef cvc_status status
        cdef cvc_dtype dtype = self.bn.dtype
        cdef int64_t c = self.bn.c
        cdef const void *x_data = data(x, "x", dtype, self.size)
        cdef const void *weight_data = optional(weight, "weight", dtype, c)
        cdef const void *bias_data = optional(bias, "bias", dtype, c)
        cdef const void *given_mean_data = optional(given_mean, "given_mean", dtype, c)
        cdef const void *given_var_data = optional(given_var, "given_var", dtype, c)
        cdef const void *residual_data = optional(
            residual, "residual", dtype, self.size)
        cdef void *y_data = data(y, "y", dtype, self.size, True)
        cdef void *mean_data = optional(mean, "mean", dtype, c, True)
        cdef void *var_data = optional(var, "var", dtype, c, True)
        begin(&call, threads)
        lend_scratch(&call, self.scratch_bytes)
        with nogil:
            status = cvc_batch_norm_forward(
                &self.bn, x_data, weight_data, bias_data, given_mean_data,
                given_var_data, residual_data, y_data, mean_data, var_data, &call)
        finish(&call, status)

    def backward(
        self, dy, x, y, weight, bias, mean, var, dx, dweight, dbias, dresidual,
        int threads=0,
    ):
        """The gradients that are not None; y is read after residual and ReLU."""
        cdef cvc_call call
        cdef cvc_status status
        cdef cvc_dtype dtype = self.bn.dtype
        cdef int64_t c = self.bn.c
        cdef const void *dy_data = data(dy, "dy", dtype, self.size)
        cdef const void *x_data = data(x, "x", dtype, self.size)
        cdef const void *y_data = optional(y, "y", dtype, self.size)
        cdef const void *weight_data = optional(weight, "weight", dtype, c)
        cdef const void *bias_data = optional(bias, "bias", dtype, c)
        cdef const void *mean_data = data(mean, "mean", dtype, c)
        cdef const void *var_data = data(var, "var", dtype, c)
        cdef void *dx_data = optional(dx, "dx", dtype, self.size, True)
        cdef void *dweight_data = optional(dweight, "dweight", dtype, c, True)
        cdef void *dbias_data = optional(dbias, "dbias", dtype, c, True)
        cdef void *dresidual_data = optional(
            dresidual, "dresidual", dtype, self.size, True)
        begin(&call, threads)
        lend_scratch(&call, self.scratch_bytes)
        with nogil:
            status = cvc_batch_norm_backward(
                &self.bn, dy_data, x_data, y_data, weight_data, bias_data, mean_data,
                var_data, dx_data, dweight_data, dbias_data, dresidual_data, &call)
        finish(&call, status)


def running_statistics(
    int64_t count, double momentum, mean, var, running_mean, running_var, batches,
    new_mean, new_var, new_batches,
):
    """Move running statistics towards a batch's; NaN: by 1 / batches."""
    cdef cvc_dtype dtype = real_dtype_of(mean, "mean")
    cdef int64_t c = cnp.PyArray_SIZE(mean)
    check(cvc_running_statistics(
        dtype, c, count, momentum, data(mean, "mean", dtype, c),
        data(var, "var", dtype, c), data(running_mean, "running_mean", dtype, c),
        data(running_var, "running_var", dtype, c),
        <int64_t *>optional(batches, "batches", CVC_I64, 1),
        data(new_mean, "new_mean", dtype, c, True),
        data(new_var, "new_var", dtype, c, True),
        <int64_t *>optional(new_batches, "new_batches", CVC_I64, 1, True)))


cdef class AdaptivePool:
    """An adaptive average pooling: `cvc_adaptive_pool`."""

    cdef cvc_adaptive_pool pool
    cdef int64_t x_size, y_size

    def __init__(
        self, dtype, layout, int64_t n, int64_t c, tuple size, tuple out
    ):
        cdef cvc_adaptive_pool *pool = &self.pool
        cdef int64_t scratch_bytes
        pool.dtype = <cvc_dtype>number(DTYPES, dtype, "dtype")
        pool.layout = <cvc_layout>number(LAYOUTS, layout, "layout")
        pool.n, pool.c = n, c
        read_axes(size, pool.size)
        read_axes(out, pool.out)
        check(cvc_adaptive_pool_scratch(pool, 1, &scratch_bytes))
        self.x_size = n * c * volume(pool.size)
        self.y_size = n * c * volume(pool.out)

    def forward(self, x, y, int threads=0):
        """y = the mean of each window."""
        cdef cvc_call call
        cdef cvc_status status
        cdef const void *x_data = data(x, "x", self.pool.dtype, self.x_size)
        cdef void *y_data = data(y, "y", self.pool.dtype, self.y_size, True)
        begin(&call, threads)
        with nogil:
            status = cvc_adaptive_pool_forward(&self.pool, x_data, y_data, &call)
        check(status)

    def backward(self, dy, dx, int threads=0):
        """dx = gradient with respect to x."""
        cdef cvc_call call
        cdef cvc_status status
        cdef const void *dy_data = data(dy, "dy", self.pool.dtype, self.y_size)
        cdef void *dx_data = data(dx, "dx", self.pool.dtype, self.x_size, True)
        begin(&call, threads)
        with nogil:
            status = cvc_adaptive_pool_backward(&self.pool, dy_data, dx_data, &call)
        check(status)


cdef class LocalResponseNorm:
    """A local response normalisation: `cvc_lrn`."""

    cdef cvc_lrn lrn
    cdef int64_t size

    def __init__(
        self, dtype, int64_t pixels, int64_t c, int64_t size, double alpha,
        double beta, double k,
    ):
        cdef cvc_lrn *lrn = &self.lrn
        cdef int64_t scratch_bytes
        lrn.dtype = <cvc_dtype>number(DTYPES, dtype, "dtype")
        lrn.pixels, lrn.c, lrn.size = pixels, c, size
        lrn.alpha, lrn.beta, lrn.k = alpha, beta, k
        check(cvc_lrn_scratch(lrn, 1, &scratch_bytes))
        self.size = pixels * c

    def forward(self, x, y, int threads=0):
        """y = x divided by what its neighbours say."""
        cdef cvc_call call
        cdef cvc_status status
        cdef const void *x_data = data(x, "x", self.lrn.dtype, self.size)
        cdef void *y_data = data(y, "y", self.lrn.dtype, self.size, True)
        begin(&call, threads)
        with nogil:
            status = cvc_lrn_forward(&self.lrn, x_data, y_data, &call)
        check(status)

    def backward(self, dy, x, dx, int threads=0):
        """dx = gradient with respect to x."""
        cdef cvc_call call
        cdef cvc_status status
        cdef const void *dy_data = data(dy, "dy", self.lrn.dtype, self.size)
        cdef const void *x_data = data(x, "x", self.lrn.dtype, self.size)
        cdef void *dx_data = data(dx, "dx", self.lrn.dtype, self.size, True)
        begin(&call, threads)
        with nogil:
            status = cvc_lrn_backward(&self.lrn, dy_data, x_data, dx_data, &call)
        check(status)


cdef class Dropout:
    """A dropout: `cvc_dropout`."""

    cdef cvc_dropout dropout

    def __init__(self, dtype, int64_t size, double p, int64_t stream):
        cdef cvc_dropout *dropout = &self.dropout
        dropout.dtype = <cvc_dtype>number(DTYPES, dtype, "dtype")
        dropout.size, dropout.p, dropout.stream = size, p, stream

    def apply(self, draws, x, y, int threads=0):
        """y = x / (1 - p), or 0 where (seed, step), the draws, say so."""
        cdef cvc_call call
        cdef cvc_status status
        cdef cvc_dropout *dropout = &self.dropout
        cdef const int64_t *draws_data = <int64_t *>data(draws, "draws", CVC_I64, 2)
        cdef const void *x_data = data(x, "x", dropout.dtype, dropout.size)
        cdef void *y_data = data(y, "y", dropout.dtype, dropout.size, True)
        begin(&call, threads)
        with nogil:
            status = cvc_dropout_apply(dropout, draws_data, x_data, y_data, &call)
        check(status)
