# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True
"""The C library for Python: descriptors, plans, and arrays as pointers.

Arrays must be dense (C-contiguous, aligned) and of the descriptor's dtype and
size; they are checked, never copied. Calls release the GIL, and on the main
thread answer Ctrl-C.
"""

cimport cython
from cpython.contextvars cimport get_value
from cpython.exc cimport PyErr_Occurred
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int64_t, uint64_t, uintptr_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy, memmove, memset
from posix.stdlib cimport posix_memalign

cimport numpy as cnp

from convcore.capi cimport *

import os
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
    if status == CVC_BAD_ISA:
        name = os.environ.get("CONVCORE_ISA")
        raise ValueError(f"{cvc_status_text(status).decode()}: {name!r}")
    raise ValueError(cvc_status_text(status).decode())


# --------------------------------------------------------------- precision

cdef cvc_precision precision = CVC_HIGHEST


def get_precision():
    """Error class of float32 results."""
    return PRECISION_NAMES[precision]


def set_precision(str name):
    """Set it, for the whole process."""
    global precision
    precision = <cvc_precision>PRECISIONS[name]


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


include "_core_operations.pxi"
include "_core_layers.pxi"
include "_core_optimizer.pxi"
include "_core_calls.pxi"
include "_core_plan.pxi"
include "_core_runner.pxi"
