# Part of _core.pyx: forward calls from arguments to result, in compiled code,
# since checking and describing a call takes longer than a small convolution.

cdef enum:
    CALL_BITS = 8  # of the number of calls that are kept
    DIMS = 5
    SIZES = 2 * DIMS + 2


cpdef bint is_channels_last(cnp.ndarray x):
    """Whether memory is channels-last, and not also channels-first."""
    cdef int i, axis, ndim = cnp.PyArray_NDIM(x)
    cdef cnp.npy_intp step = cnp.PyArray_ITEMSIZE(x)
    if ndim < 3 or cnp.PyArray_CHKFLAGS(x, cnp.NPY_ARRAY_C_CONTIGUOUS):
        return False
    for i in range(ndim):  # in memory: N, space, C
        axis = 1 if i == 0 else 0 if i == ndim - 1 else ndim - i
        if cnp.PyArray_DIM(x, axis) != 1:
            if cnp.PyArray_STRIDE(x, axis) != step:
                return False
            step *= cnp.PyArray_DIM(x, axis)
    return True


cdef bint serves(object array, int ndim, int dtype, bint last) noexcept:
    """Whether compiled code can take an array as it is, dense in this order."""
    if (
        type(array) is not cnp.ndarray
        or cnp.PyArray_NDIM(array) != ndim
        or cnp.PyArray_TYPE(array) != dtype
        or not cnp.PyArray_CHKFLAGS(array, cnp.NPY_ARRAY_ALIGNED)
        or cnp.PyArray_ISBYTESWAPPED(array)
    ):
        return False
    if last:
        return is_channels_last(array)
    return cnp.PyArray_CHKFLAGS(array, cnp.NPY_ARRAY_C_CONTIGUOUS)


cdef bint is_apart(object a, object b) noexcept:
    """Whether dense arrays share no memory."""
    cdef char *x = cnp.PyArray_BYTES(a)
    cdef char *y = cnp.PyArray_BYTES(b)
    return x + cnp.PyArray_NBYTES(a) <= y or y + cnp.PyArray_NBYTES(b) <= x


cdef bint is_same(object a, object b) except -1:
    """Whether two options are the same; 1 and 1.0 are not."""
    cdef Py_ssize_t i
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if type(a) is not tuple:
        return (type(a) is int or type(a) is str) and a == b
    if len(<tuple>a) != len(<tuple>b):
        return False
    for i in range(len(<tuple>a)):
        if not is_same((<tuple>a)[i], (<tuple>b)[i]):
            return False
    return True


@cython.final
cdef class _Call:
    """A call that has been checked: what distinguishes it, and its descriptor."""

    cdef int64_t[SIZES] sizes
    cdef tuple options
    cdef Conv conv

    cdef bint is_for(self, const int64_t *sizes, tuple options) except -1:
        return (
            memcmp(self.sizes, sizes, sizeof(self.sizes)) == 0
            and is_same(self.options, options)
        )


@cython.final
cdef class Calls:
    """The forward calls of `axes` axes; checks those that are new.

    `describe` takes x, weight, bias and the options, checks them and gives a Conv;
    the ContextVars have the threads of a call (0: the default), and whether
    definitions in NumPy take the place of compiled code.
    """

    cdef int axes
    cdef object describe, threads, use_reference
    cdef list calls

    def __init__(self, int axes, describe, threads, use_reference):
        self.axes = axes
        self.describe = describe
        self.threads, self.use_reference = threads, use_reference
        self.calls = [None] * (1 << CALL_BITS)

    cdef Conv conv_of(self, x, weight, bias, bint last, tuple options):
        cdef int64_t sizes[SIZES]
        cdef int i, ndim = self.axes + 2
        cdef uint64_t slot = 0
        cdef _Call call
        memset(sizes, 0, sizeof(sizes))
        sizes[0] = (cnp.PyArray_TYPE(x) * 2 + last) * 4 + <int>precision
        sizes[1] = 0 if bias is None else cnp.PyArray_DIM(bias, 0) + 1
        for i in range(ndim):
            sizes[2 + i] = cnp.PyArray_DIM(x, i)
            sizes[2 + DIMS + i] = cnp.PyArray_DIM(weight, i)
        for i in range(SIZES):
            slot = (slot ^ <uint64_t>sizes[i]) * <uint64_t>0x1E3779B97F4A7C15  # mix
        slot >>= 64 - CALL_BITS
        found = self.calls[slot]
        if found is not None and (<_Call>found).is_for(sizes, options):
            return (<_Call>found).conv
        call = _Call()
        call.conv = self.describe(x, weight, bias, options)
        call.options = options
        memcpy(call.sizes, sizes, sizeof(sizes))
        self.calls[slot] = call
        return call.conv

    def run(self, x, weight, bias, tuple options, out):
        """The result; None where compiled code cannot take the arrays as they are."""
        cdef int ndim = self.axes + 2, dtype
        cdef bint last
        cdef Conv conv
        if type(x) is not cnp.ndarray or get_value(self.use_reference):
            return None
        dtype = cnp.PyArray_TYPE(x)
        last = is_channels_last(x)
        if (
            (dtype != cnp.NPY_FLOAT32 and dtype != cnp.NPY_FLOAT64)
            or not serves(x, ndim, dtype, last)
            or not serves(weight, ndim, dtype, False)
            or not (bias is None or serves(bias, 1, dtype, False))
        ):
            return None
        conv = self.conv_of(x, weight, bias, last, options)
        if out is None:
            out = conv.empty(self.axes)
        elif not (
            serves(out, ndim, dtype, last)
            and cnp.PyArray_CHKFLAGS(out, cnp.NPY_ARRAY_WRITEABLE)
            and conv.gives(out)
            and is_apart(out, x) and is_apart(out, weight)
            and (bias is None or is_apart(out, bias))
        ):
            return None
        conv.run_forward(
            cnp.PyArray_DATA(x), cnp.PyArray_DATA(weight),
            NULL if bias is None else cnp.PyArray_DATA(bias), NULL,
            cnp.PyArray_DATA(out), get_value(self.threads),
        )
        return out
