# Part of _core.pyx: updates of parameters; hyper holds the members of a C struct.


def sgd_step(hyper, g, p, m, int threads=0):
    """Update p and m (None without momentum); hyper: the members of cvc_sgd."""
    cdef cvc_call call
    cdef cvc_status status
    cdef cvc_dtype dtype = real_dtype_of(p, "p")
    cdef int64_t size = cnp.PyArray_SIZE(p)
    cdef const double *h = <const double *>data(hyper, "hyper", CVC_F64, 7)
    cdef const void *g_data = data(g, "g", dtype, size)
    cdef void *p_data = data(p, "p", dtype, size, True)
    cdef void *m_data = optional(m, "m", dtype, size, True)
    cdef cvc_sgd sgd
    sgd.lr, sgd.momentum, sgd.dampening, sgd.weight_decay = h[0], h[1], h[2], h[3]
    sgd.gradient_scale, sgd.nesterov, sgd.step = h[4], <int64_t>h[5], <int64_t>h[6]
    begin(&call, threads)
    with nogil:
        status = cvc_sgd_step(dtype, size, &sgd, g_data, p_data, m_data, &call)
    check(status)


def adam_step(hyper, g, p, m, v, int threads=0):
    """Update p, m and v; hyper: the members of cvc_adam."""
    cdef cvc_call call
    cdef cvc_status status
    cdef cvc_dtype dtype = real_dtype_of(p, "p")
    cdef int64_t size = cnp.PyArray_SIZE(p)
    cdef const double *h = <const double *>data(hyper, "hyper", CVC_F64, 8)
    cdef const void *g_data = data(g, "g", dtype, size)
    cdef void *p_data = data(p, "p", dtype, size, True)
    cdef void *m_data = data(m, "m", dtype, size, True)
    cdef void *v_data = data(v, "v", dtype, size, True)
    cdef cvc_adam adam
    adam.lr, adam.beta1, adam.beta2, adam.eps = h[0], h[1], h[2], h[3]
    adam.weight_decay, adam.gradient_scale = h[4], h[5]
    adam.decoupled, adam.step = <int64_t>h[6], <int64_t>h[7]
    begin(&call, threads)
    with nogil:
        status = cvc_adam_step(
            dtype, size, &adam, g_data, p_data, m_data, v_data, &call)
    check(status)


def rmsprop_step(hyper, g, p, v, m, int threads=0):
    """Update p, v and m (None without momentum); hyper: those of cvc_rmsprop."""
    cdef cvc_call call
    cdef cvc_status status
    cdef cvc_dtype dtype = real_dtype_of(p, "p")
    cdef int64_t size = cnp.PyArray_SIZE(p)
    cdef const double *h = <const double *>data(hyper, "hyper", CVC_F64, 6)
    cdef const void *g_data = data(g, "g", dtype, size)
    cdef void *p_data = data(p, "p", dtype, size, True)
    cdef void *v_data = data(v, "v", dtype, size, True)
    cdef void *m_data = optional(m, "m", dtype, size, True)
    cdef cvc_rmsprop rmsprop
    rmsprop.lr, rmsprop.alpha, rmsprop.eps, rmsprop.weight_decay = h[0], h[1], h[2], h[3]
    rmsprop.momentum, rmsprop.gradient_scale = h[4], h[5]
    begin(&call, threads)
    with nogil:
        status = cvc_rmsprop_step(
            dtype, size, &rmsprop, g_data, p_data, v_data, m_data, &call)
    check(status)


def sum_of_squares(x, int threads=0):
    """The sum of the squares of x, added up in double."""
    cdef cvc_call call
    cdef cvc_status status
    cdef double total = 0
    cdef cvc_dtype dtype = real_dtype_of(x, "x")
    cdef int64_t size = cnp.PyArray_SIZE(x)
    cdef const void *x_data = data(x, "x", dtype, size)
    begin(&call, threads)
    with nogil:
        status = cvc_sum_of_squares(dtype, size, x_data, &total, &call)
    check(status)
    return total
