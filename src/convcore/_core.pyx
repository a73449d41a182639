# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True
"""The C library for Python: descriptors, plans, and arrays as pointers.

Arrays must be dense (C-contiguous, aligned) and of the descriptor's dtype and
size; they are checked, never copied. Calls release the GIL, and on the main
thread answer Ctrl-C.
"""

from cpython.exc cimport PyErr_Occurred
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int64_t, uintptr_t
from libc.stdlib cimport free
from libc.string cimport memmove, memset
from posix.stdlib cimport posix_memalign

cimport numpy as cnp

from convcore.capi cimport *

import threading

import numpy as np

cnp.import_array()


cdef extern from "Python.h" nogil:
    unsigned long PyThread_get_thread_ident()
    # Without an exception clause: the exception stays set until `check`.
    int PyErr_CheckSignals()

cdef extern from *:
    """
    #ifndef CVC_BUILD_FLAGS /* given by setup.py */
    #define CVC_BUILD_FLAGS "unknown"
    #endif
    """
    const char *CVC_BUILD_FLAGS
    const char *COMPILER "__VERSION__"


# ------------------------------------------------------------------- calls

cdef unsigned long main_thread = threading.main_thread().ident


cdef int answer_signals(void *data) noexcept with gil:
    return PyErr_CheckSignals()


cdef inline void begin(cvc_call *call, int threads) noexcept:
    memset(call, 0, sizeof(cvc_call))
    call.threads = threads if threads > 0 else cvc_get_num_threads()
    if PyThread_get_thread_ident() == main_thread:
        call.interrupt = <int (*)(void *) noexcept nogil>answer_signals


cdef int check(cvc_status status) except -1:
    """Raise what a status means."""
    if status == CVC_OK:
        return 0
    if status == CVC_INTERRUPTED and PyErr_Occurred():
        return -1  # what answer_signals raised
    if status == CVC_NO_MEMORY:
        raise MemoryError()
    raise ValueError(cvc_status_text(status).decode())


# ----------------------------------------------------------------- scratch

# Scratch outlives the call: faulting in fresh pages can take a third of one.
# The GIL guards the list; a block in use is not in it.

cdef enum:
    KEPT_BLOCKS = 4
    KEPT_BYTES = 64 << 20  # all of them

cdef struct Block:
    void *memory
    int64_t nbytes

cdef Block[KEPT_BLOCKS] kept  # smallest first
cdef int kept_blocks = 0


cdef int lend_scratch(cvc_call *call, int64_t nbytes) except -1:
    """Give a call the smallest kept block that is large enough.

    Without one, a new block takes the place of the largest: so there are
    never more of them than calls at once.
    """
    global kept_blocks
    cdef int i = 0
    cdef Block block
    if nbytes == 0:
        return 0
    memset(&block, 0, sizeof(Block))
    if kept_blocks:
        while i < kept_blocks - 1 and kept[i].nbytes < nbytes:
            i += 1
        block = kept[i]
        kept_blocks -= 1
        memmove(&kept[i], &kept[i + 1], (kept_blocks - i) * sizeof(Block))
    if block.nbytes < nbytes:
        free(block.memory)
        if posix_memalign(&block.memory, 64, nbytes):
            raise MemoryError()
        block.nbytes = nbytes
    call.scratch, call.scratch_bytes = block.memory, block.nbytes
    return 0


cdef void take_back_scratch(cvc_call *call) noexcept:
    global kept_blocks
    cdef int i
    cdef int64_t nbytes = call.scratch_bytes
    for i in range(kept_blocks):
        nbytes += kept[i].nbytes
    if kept_blocks == KEPT_BLOCKS or nbytes > KEPT_BYTES:
        free(call.scratch)
        return
    i = kept_blocks
    while i > 0 and kept[i - 1].nbytes > call.scratch_bytes:
        kept[i] = kept[i - 1]
        i -= 1
    kept[i].memory, kept[i].nbytes = call.scratch, call.scratch_bytes
    kept_blocks += 1


cdef inline int finish(cvc_call *call, cvc_status status) except -1:
    """End a call that may have scratch."""
    if call.scratch != NULL:
        take_back_scratch(call)
    return check(status)


# ------------------------------------------------------------------ arrays

cdef int[4] TYPE_NUMBERS
TYPE_NUMBERS[<int>CVC_F32] = cnp.NPY_FLOAT32
TYPE_NUMBERS[<int>CVC_F64] = cnp.NPY_FLOAT64
TYPE_NUMBERS[<int>CVC_U8] = cnp.NPY_UINT8
TYPE_NUMBERS[<int>CVC_I64] = cnp.NPY_INT64

cdef int DENSE = cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED

cdef dict DTYPES = {
    "float32": CVC_F32, "float64": CVC_F64, "uint8": CVC_U8, "int64": CVC_I64,
}


cdef void *data(
    object array, str name, cvc_dtype dtype, int64_t size, bint written=False,
) except? NULL:
    """Pointer to a checked array."""
    cdef int flags = DENSE | (cnp.NPY_ARRAY_WRITEABLE if written else 0)
    cdef int number = TYPE_NUMBERS[<int>dtype]
    if not cnp.PyArray_Check(array):
        raise TypeError(f"{name} must be a NumPy array, not {type(array).__name__}")
    if (
        (cnp.PyArray_TYPE(array) != number
         and not cnp.PyArray_EquivTypenums(cnp.PyArray_TYPE(array), number))
        or cnp.PyArray_SIZE(array) != size
        or not cnp.PyArray_CHKFLAGS(array, flags)
        or cnp.PyArray_ISBYTESWAPPED(array)
    ):
        dtypes = {number: name for name, number in DTYPES.items()}
        raise ValueError(
            f"{name} must be a dense {'writable ' if written else ''}array of {size} "
            f"{dtypes[dtype]} elements, not {array.dtype} {array.shape}"
        )
    return cnp.PyArray_DATA(<cnp.ndarray>array)


cdef inline void *optional(
    object array, str name, cvc_dtype dtype, int64_t size, bint written=False,
) except? NULL:
    return NULL if array is None else data(array, name, dtype, size, written)


cdef cvc_dtype real_dtype_of(object array, str name) except *:
    if cnp.PyArray_Check(array):
        if cnp.PyArray_TYPE(array) == cnp.NPY_FLOAT32:
            return CVC_F32
        if cnp.PyArray_TYPE(array) == cnp.NPY_FLOAT64:
            return CVC_F64
    raise TypeError(f"{name} must be a float32 or float64 array")


def empty_aligned(int64_t nbytes):
    """Uninitialised uint8 array whose first byte is 64-byte aligned."""
    block = np.empty(nbytes + 64, np.uint8)
    cdef uintptr_t address = <uintptr_t>cnp.PyArray_DATA(<cnp.ndarray>block)
    cdef int64_t start = -address % 64
    return block[start:][:nbytes]  # in two steps, so that an empty one is aligned


# ----------------------------------------------------------------- machine


def version():
    """Version of the C library."""
    return CVC_VERSION.decode()


def compiler():
    """The C compiler that built the library."""
    return COMPILER.decode()


def build_flags():
    """The flags that it was built with."""
    return CVC_BUILD_FLAGS.decode()


def isa():
    """Name of the chosen instruction set."""
    check(cvc_initialize())
    return cvc_isa().decode()


def isas_available():
    """Names of the instruction sets that this machine can run, best first."""
    names = []
    while cvc_isa_available(len(names)) != NULL:
        names.append(cvc_isa_available(len(names)).decode())
    return names


def has_openmp():
    """Whether calls can use several threads."""
    return bool(cvc_has_openmp())


def default_threads():
    """Threads of a call that names none."""
    return cvc_get_num_threads()


def set_default_threads(int n):
    """Set the threads of a call that names none."""
    check(cvc_set_num_threads(n))


# ------------------------------------------------------------- descriptors

cdef dict LAYOUTS = {"first": CVC_CHANNELS_FIRST, "last": CVC_CHANNELS_LAST}
cdef dict PRECISIONS = {
    "highest": CVC_HIGHEST, "high": CVC_HIGH, "medium": CVC_MEDIUM,
}
cdef dict ACTIVATIONS = {None: CVC_ACTIVATION_NONE, "relu": CVC_ACTIVATION_RELU}
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
    cdef int64_t x_size, y_size
    cdef int64_t w_size[2]  # as passed to forward and backward_data
    cdef int scratch_threads[3]  # of each pass: threads of the last call,
    cdef int64_t scratch_bytes[3]  # and the scratch that it needed
    cdef readonly tuple output_size

    def __init__(
        self, dtype, layout, int64_t n, int64_t c, int64_t k, int64_t groups,
        tuple size, tuple kernel, tuple stride, tuple pad_before, tuple pad_after,
        tuple dilation, *, algorithm="auto", precision="highest", activation=None,
        bint packed=False,
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

        cdef int64_t out[3]
        check(cvc_conv_output_size(conv, out))
        self.output_size = (out[0], out[1], out[2])
        self.x_size = n * c * volume(conv.size)
        self.y_size = n * k * volume(out)
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
        """What the choice weighs: (algorithm, planar, tile, cycles), best first."""
        cdef int i, count
        cdef cvc_candidate candidates[CVC_MAX_CANDIDATES]
        cdef cvc_pass which = <cvc_pass>number(PASSES, pass_, "pass_")
        check(cvc_conv_explain(&self.conv, which, candidates, &count))
        return [
            (
                ALGORITHM_NAMES[candidates[i].algorithm], bool(candidates[i].planar),
                candidates[i].tile, candidates[i].cycles,
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

    def forward(self, x, w, bias, residual, y, int threads=0):
        """y = activation(conv(x, w) + bias + residual)."""
        cdef cvc_call call
        cdef cvc_status status
        cdef cvc_dtype dtype = self.conv.dtype
        cdef const void *x_data = data(x, "x", dtype, self.x_size)
        cdef const void *w_data = data(w, "w", dtype, self.w_size[0])
        cdef const void *bias_data = optional(bias, "bias", dtype, self.conv.k)
        cdef const void *residual_data = optional(
            residual, "residual", dtype, self.y_size)
        cdef void *y_data = data(y, "y", dtype, self.y_size, True)
        self.begin(&call, threads, CVC_FORWARD)
        with nogil:
            status = cvc_conv_forward(
                &self.conv, x_data, w_data, bias_data, residual_data, y_data, &call)
        finish(&call, status)

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


# ------------------------------------------- elementwise, movement, optimizer


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


def relu_backward(dy, y, dx, int threads=0):
    """dx = dy where y > 0, else 0."""
    cdef cvc_call call
    cdef cvc_status status
    cdef cvc_dtype dtype = real_dtype_of(dy, "dy")
    cdef int64_t size = cnp.PyArray_SIZE(dy)
    cdef const void *dy_data = data(dy, "dy", dtype, size)
    cdef const void *y_data = data(y, "y", dtype, size)
    cdef void *dx_data = data(dx, "dx", dtype, size, True)
    begin(&call, threads)
    with nogil:
        status = cvc_relu_backward(dtype, size, dy_data, y_data, dx_data, &call)
    check(status)


def add(a, b, y, int threads=0):
    """y = a + b; y may be a or b."""
    cdef cvc_call call
    cdef cvc_status status
    cdef cvc_dtype dtype = real_dtype_of(a, "a")
    cdef int64_t size = cnp.PyArray_SIZE(a)
    cdef const void *a_data = data(a, "a", dtype, size)
    cdef const void *b_data = data(b, "b", dtype, size)
    cdef void *y_data = data(y, "y", dtype, size, True)
    begin(&call, threads)
    with nogil:
        status = cvc_add(dtype, size, a_data, b_data, y_data, &call)
    check(status)


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


def sgd_step(hyper, g, p, m, int threads=0):
    """Update p and m (None without momentum); hyper: the members of cvc_sgd."""
    cdef cvc_call call
    cdef cvc_status status
    cdef cvc_dtype dtype = real_dtype_of(p, "p")
    cdef int64_t size = cnp.PyArray_SIZE(p)
    cdef const double *h = <const double *>data(hyper, "hyper", CVC_F64, 6)
    cdef const void *g_data = data(g, "g", dtype, size)
    cdef void *p_data = data(p, "p", dtype, size, True)
    cdef void *m_data = optional(m, "m", dtype, size, True)
    cdef cvc_sgd sgd
    sgd.lr, sgd.momentum, sgd.dampening, sgd.weight_decay = h[0], h[1], h[2], h[3]
    sgd.nesterov, sgd.step = <int64_t>h[4], <int64_t>h[5]
    begin(&call, threads)
    with nogil:
        status = cvc_sgd_step(dtype, size, &sgd, g_data, p_data, m_data, &call)
    check(status)


# -------------------------------------------------------------------- plan

# Number of each kind, place of its first written operand, type of its descriptor.
cdef dict STEP_KINDS = {
    "conv_pack": (CVC_STEP_CONV_PACK, 1, tuple),
    "conv_forward": (CVC_STEP_CONV_FORWARD, 4, Conv),
    "conv_backward_data": (CVC_STEP_CONV_BACKWARD_DATA, 2, Conv),
    "conv_backward_weight": (CVC_STEP_CONV_BACKWARD_WEIGHT, 2, Conv),
    "pool_forward": (CVC_STEP_POOL_FORWARD, 1, Pool),
    "pool_backward": (CVC_STEP_POOL_BACKWARD, 2, Pool),
    "relu_forward": (CVC_STEP_RELU_FORWARD, 1, None),
    "relu_backward": (CVC_STEP_RELU_BACKWARD, 2, None),
    "add": (CVC_STEP_ADD, 2, None),
    "transpose": (CVC_STEP_TRANSPOSE, 1, tuple),
    "copy": (CVC_STEP_COPY, 1, tuple),
    "cross_entropy_forward": (CVC_STEP_CROSS_ENTROPY_FORWARD, 3, CrossEntropy),
    "cross_entropy_backward": (CVC_STEP_CROSS_ENTROPY_BACKWARD, 4, CrossEntropy),
    "sgd": (CVC_STEP_SGD, 2, None),
}
cdef dict SPACES = {
    "arena": CVC_SPACE_ARENA, "parameters": CVC_SPACE_PARAMETERS,
    "gradients": CVC_SPACE_GRADIENTS, "state": CVC_SPACE_STATE,
    "external": CVC_SPACE_EXTERNAL,
}


cdef int read_operands(tuple operands, cvc_operand *to) except -1:
    cdef int i
    if len(operands) > CVC_MAX_OPERANDS:
        raise ValueError(f"a step has at most {CVC_MAX_OPERANDS} operands")
    for i, operand in enumerate(operands):
        if operand is None:
            continue
        space, to[i].index, dtype, to[i].offset, to[i].size = operand
        to[i].space = <cvc_space>number(SPACES, space, "space")
        to[i].dtype = <cvc_dtype>number(DTYPES, dtype, "dtype")
    return 0


cdef int read_descriptor(object descriptor, cvc_step *step) except -1:
    if step.kind == CVC_STEP_TRANSPOSE:
        step.of.transpose.batch, step.of.transpose.a, step.of.transpose.b = descriptor
        return 0
    if step.kind == CVC_STEP_COPY:
        (
            step.of.copy.rows, step.of.copy.columns,
            step.of.copy.x_stride, step.of.copy.y_stride,
        ) = descriptor
        return 0
    if step.kind == CVC_STEP_CONV_PACK:
        descriptor, pass_ = descriptor
        step.pass_ = <cvc_pass>number(PASSES, pass_, "pass_")
    if isinstance(descriptor, Conv):
        step.of.conv = (<Conv>descriptor).conv
    elif isinstance(descriptor, Pool):
        step.of.pool = (<Pool>descriptor).pool
    elif isinstance(descriptor, CrossEntropy):
        step.of.cross_entropy = (<CrossEntropy>descriptor).ce
    return 0


cdef int read_step(object step, cvc_step *to) except -1:
    kind, operands, descriptor = step
    if kind not in STEP_KINDS:
        raise ValueError(f"unknown kind of step: {kind!r}")
    which, _, descriptor_type = STEP_KINDS[kind]
    if descriptor_type is not None and not isinstance(descriptor, descriptor_type):
        raise TypeError(
            f"{kind} needs a {descriptor_type.__name__}, not {descriptor!r}"
        )
    to.kind = <cvc_step_kind><int>which
    read_operands(operands, to.operands)
    return read_descriptor(descriptor, to)


cdef class Plan:
    """A list of steps in the C library: `cvc_plan`. It does not change."""

    cdef cvc_plan *plan
    cdef list kinds
    cdef dict space_bytes
    cdef list external_bytes
    cdef set written  # (space, index)

    def __init__(self, list steps, dict space_bytes, list external_bytes):
        cdef int64_t i, bad_step = -1
        cdef int64_t spaces[CVC_SPACE_EXTERNAL + 1]
        cdef int64_t *externals = NULL
        cdef cvc_step *c_steps = NULL
        cdef cvc_status status
        if self.plan != NULL:
            raise TypeError("a Plan is made once")
        self.kinds = [kind for kind, _, _ in steps]
        self.space_bytes, self.external_bytes = space_bytes, external_bytes
        self.written = {
            operand[:2]
            for kind, operands, _ in steps
            if kind in STEP_KINDS
            for operand in operands[STEP_KINDS[kind][1]:]
            if operand is not None
        }
        memset(spaces, 0, sizeof(spaces))
        for space, nbytes in space_bytes.items():
            spaces[number(SPACES, space, "space")] = nbytes
        try:
            c_steps = <cvc_step *>allocate(len(steps), sizeof(cvc_step))
            externals = <int64_t *>allocate(len(external_bytes), sizeof(int64_t))
            for i in range(len(external_bytes)):
                externals[i] = external_bytes[i]
            for i in range(len(steps)):
                read_step(steps[i], &c_steps[i])
            status = cvc_plan_create(
                c_steps, len(steps), spaces, externals, len(external_bytes),
                &self.plan, &bad_step)
        finally:
            PyMem_Free(c_steps)
            PyMem_Free(externals)
        self.check_step(status, bad_step)

    def __dealloc__(self):
        cvc_plan_destroy(self.plan)

    cdef int check_step(self, cvc_status status, int64_t step) except -1:
        """Raise what a status means, with the step that gave it."""
        try:
            return check(status)
        except ValueError as error:
            if not 0 <= step < len(self.kinds):
                raise
            raise ValueError(f"step {step}, {self.kinds[step]}: {error}") from None

    def scratch_bytes(self, int64_t first, int64_t last, int threads):
        """Working memory of a run of steps first..last-1."""
        cdef int64_t nbytes
        check(cvc_plan_scratch(self.plan, first, last, threads, &nbytes))
        return nbytes

    def run(
        self, int64_t first, int64_t last, arena, parameters, gradients, state,
        external, int threads=0, scratch=None, seconds=None,
    ):
        """Run steps first..last-1 on this memory."""
        cdef cvc_call call
        cdef cvc_memory memory
        cdef cvc_status status
        cdef int64_t failed_step = -1
        cdef double *times = <double *>optional(
            seconds, "seconds", CVC_F64, last - first, True)
        if len(external) != len(self.external_bytes):
            raise ValueError(
                f"{len(self.external_bytes)} external arrays are needed, not "
                f"{len(external)}"
            )
        memory.arena = self.space(arena, "arena")
        memory.parameters = self.space(parameters, "parameters")
        memory.gradients = self.space(gradients, "gradients")
        memory.state = self.space(state, "state")
        begin(&call, threads)
        if scratch is not None:
            call.scratch = block(scratch, "scratch", 0, True, 64)
            call.scratch_bytes = scratch.nbytes
        cdef void **externals = <void **>allocate(len(external), sizeof(void *))
        try:
            for i, array in enumerate(external):
                externals[i] = block(
                    array, f"external[{i}]", self.external_bytes[i],
                    ("external", i) in self.written, 1)
            memory.external = externals
            with nogil:
                status = cvc_plan_run(
                    self.plan, first, last, &memory, &call, times, &failed_step)
        finally:
            PyMem_Free(externals)
        self.check_step(status, failed_step)

    cdef void *space(self, object array, str name) except? NULL:
        cdef int64_t nbytes = self.space_bytes.get(name, 0)
        if array is None and nbytes == 0:
            return NULL
        return block(array, name, nbytes, (name, 0) in self.written, 64)


cdef void *allocate(size_t count, size_t bytes) except NULL:
    cdef void *memory = PyMem_Calloc(count + 1, bytes)
    if memory == NULL:
        raise MemoryError()
    return memory


cdef void *block(
    object array, str name, int64_t nbytes, bint written, int alignment
) except? NULL:
    """Pointer to an array of at least `nbytes`, of any dtype."""
    cdef int flags = DENSE | (cnp.NPY_ARRAY_WRITEABLE if written else 0)
    if not cnp.PyArray_Check(array):
        raise TypeError(f"{name} must be a NumPy array, not {type(array).__name__}")
    if not cnp.PyArray_CHKFLAGS(array, flags) or cnp.PyArray_NBYTES(array) < nbytes:
        raise ValueError(
            f"{name} must be a dense {'writable ' if written else ''}array of "
            f"{nbytes} bytes, not {array.dtype} {array.shape}"
        )
    cdef void *memory = cnp.PyArray_DATA(<cnp.ndarray>array)
    if <uintptr_t>memory % alignment:
        raise ValueError(f"{name} must be {alignment}-byte aligned")
    return memory
