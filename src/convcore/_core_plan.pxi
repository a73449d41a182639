# Part of _core.pyx: plans, lists of steps that run in one call.

# Number of each kind, place of its first written operand, type of its descriptor.
cdef dict STEP_KINDS = {
    "conv_pack": (CVC_STEP_CONV_PACK, 1, tuple),
    "conv_forward": (CVC_STEP_CONV_FORWARD, 4, Conv),
    "conv_backward_data": (CVC_STEP_CONV_BACKWARD_DATA, 2, Conv),
    "conv_backward_weight": (CVC_STEP_CONV_BACKWARD_WEIGHT, 2, Conv),
    "pool_forward": (CVC_STEP_POOL_FORWARD, 1, Pool),
    "pool_backward": (CVC_STEP_POOL_BACKWARD, 2, Pool),
    "adaptive_pool_forward": (CVC_STEP_ADAPTIVE_POOL_FORWARD, 1, AdaptivePool),
    "adaptive_pool_backward": (CVC_STEP_ADAPTIVE_POOL_BACKWARD, 1, AdaptivePool),
    "batch_norm_forward": (CVC_STEP_BATCH_NORM_FORWARD, 6, BatchNorm),
    "batch_norm_backward": (CVC_STEP_BATCH_NORM_BACKWARD, 7, BatchNorm),
    "running_statistics": (CVC_STEP_RUNNING_STATISTICS, 5, tuple),
    "lrn_forward": (CVC_STEP_LRN_FORWARD, 1, LocalResponseNorm),
    "lrn_backward": (CVC_STEP_LRN_BACKWARD, 2, LocalResponseNorm),
    "dropout": (CVC_STEP_DROPOUT, 2, Dropout),
    "relu_forward": (CVC_STEP_RELU_FORWARD, 1, None),
    "relu_backward": (CVC_STEP_RELU_BACKWARD, 2, None),
    "add": (CVC_STEP_ADD, 2, None),
    "transpose": (CVC_STEP_TRANSPOSE, 1, tuple),
    "copy": (CVC_STEP_COPY, 1, tuple),
    "cross_entropy_forward": (CVC_STEP_CROSS_ENTROPY_FORWARD, 3, CrossEntropy),
    "cross_entropy_backward": (CVC_STEP_CROSS_ENTROPY_BACKWARD, 4, CrossEntropy),
    "function_forward": (CVC_STEP_FUNCTION_FORWARD, 1, Step),
    "function_backward": (CVC_STEP_FUNCTION_BACKWARD, 2, Step),
    "binary_forward": (CVC_STEP_BINARY_FORWARD, 2, Step),
    "softmax_forward": (CVC_STEP_SOFTMAX_FORWARD, 1, Step),
    "softmax_backward": (CVC_STEP_SOFTMAX_BACKWARD, 2, Step),
    "group_norm_forward": (CVC_STEP_GROUP_NORM_FORWARD, 3, Step),
    "group_norm_backward": (CVC_STEP_GROUP_NORM_BACKWARD, 3, Step),
    "interpolate_forward": (CVC_STEP_INTERPOLATE_FORWARD, 1, Step),
    "interpolate_backward": (CVC_STEP_INTERPOLATE_BACKWARD, 1, Step),
    "sgd": (CVC_STEP_SGD, 2, None),
    "adam": (CVC_STEP_ADAM, 2, None),
    "rmsprop": (CVC_STEP_RMSPROP, 2, None),
}
cdef dict SPACES = {
    "arena": CVC_SPACE_ARENA, "parameters": CVC_SPACE_PARAMETERS,
    "gradients": CVC_SPACE_GRADIENTS, "state": CVC_SPACE_STATE,
    "external": CVC_SPACE_EXTERNAL,
}


def element_functions():
    """Names of the functions of each element: their number is their place."""
    names = []
    while cvc_function_name(len(names)) != NULL:
        names.append(cvc_function_name(len(names)).decode())
    return names


MAX_DIMENSIONS = CVC_MAX_DIMENSIONS  # of a "binary_forward"

cdef dict OPERATIONS = {
    "add": CVC_ADD, "sub": CVC_SUBTRACT, "mul": CVC_MULTIPLY, "div": CVC_DIVIDE,
}
cdef dict MODES = {
    "nearest": CVC_NEAREST, "nearest-exact": CVC_NEAREST_EXACT, "linear": CVC_LINEAR,
    "cubic": CVC_CUBIC,
}


cdef extern from *:
    """
    _Static_assert(CVC_MAX_OPERANDS == 11, "the operands of a Step below");
    """


cdef class Step:
    """One step, with its descriptor: for a plan, or to run on arrays."""

    cdef cvc_step step
    cdef cvc_operand operands[11]  # CVC_MAX_OPERANDS
    cdef int count, first_written
    cdef readonly str kind

    def __init__(self, str kind, dtype, *fields):
        self.kind = kind
        cdef cvc_dtype type = <cvc_dtype>number(DTYPES, dtype, "dtype")
        which, self.first_written, _ = STEP_KINDS[kind]
        self.step.kind = <cvc_step_kind><int>which
        operation = kind.rpartition("_")[0]
        if operation == "function":
            function, size, a, b = fields
            self.step.of.function = cvc_function(type, function, size, a, b)
        elif operation == "binary":
            self.read_binary(type, *fields)
        elif operation == "softmax":
            logarithm, outer, length, inner = fields
            self.step.of.softmax = cvc_softmax(type, logarithm, outer, length, inner)
        elif operation == "group_norm":
            layout, n, c, space, groups, eps = fields
            self.step.of.group_norm = cvc_group_norm(
                type, <cvc_layout>number(LAYOUTS, layout, "layout"), n, c, space,
                groups, eps)
        elif operation == "interpolate":
            self.read_interpolate(type, *fields)
        else:
            raise ValueError(f"{kind} has a descriptor of its own")
        check(cvc_step_operands(&self.step, self.operands, &self.count))

    def read_binary(
        self, cvc_dtype dtype, name, tuple size, tuple a_stride, tuple b_stride
    ):
        cdef cvc_binary *to = &self.step.of.binary
        cdef int i
        to.dtype, to.dimensions = dtype, len(size)
        to.operation = <cvc_operation>number(OPERATIONS, name, "operation")
        if len(size) > CVC_MAX_DIMENSIONS:
            raise ValueError(f"at most {CVC_MAX_DIMENSIONS} dimensions, not {size}")
        for i in range(len(size)):
            to.size[i], to.a_stride[i], to.b_stride[i] = (
                size[i], a_stride[i], b_stride[i])

    def read_interpolate(
        self, cvc_dtype dtype, layout, mode, bint align_corners, int64_t n, int64_t c,
        tuple size, tuple out, tuple scale,
    ):
        cdef cvc_interpolate *to = &self.step.of.interpolate
        to.dtype, to.n, to.c, to.align_corners = dtype, n, c, align_corners
        to.layout = <cvc_layout>number(LAYOUTS, layout, "layout")
        to.mode = <cvc_interpolation>number(MODES, mode, "mode")
        read_axes(size, to.size)
        read_axes(out, to.out)
        to.scale[0], to.scale[1], to.scale[2] = scale

    def run(self, *arrays, int threads=0):
        """Run on arrays, None where an operand is absent."""
        cdef cvc_call call
        cdef cvc_status status
        cdef void *pointers[6]
        cdef int i
        if len(arrays) != self.count:
            raise ValueError(f"{self.count} arrays are needed, not {len(arrays)}")
        for i in range(self.count):
            pointers[i] = optional(
                arrays[i], f"operand {i}", self.operands[i].dtype,
                self.operands[i].size, i >= self.first_written)
        begin(&call, threads)
        with nogil:
            status = cvc_step_run(&self.step, pointers, &call)
        check(status)


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
    if step.kind == CVC_STEP_RUNNING_STATISTICS:
        step.of.running.count, step.of.running.momentum = descriptor
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
    elif isinstance(descriptor, Step):
        memcpy(&step.of, &(<Step>descriptor).step.of, sizeof(step.of))
    elif isinstance(descriptor, AdaptivePool):
        step.of.adaptive_pool = (<AdaptivePool>descriptor).pool
    elif isinstance(descriptor, LocalResponseNorm):
        step.of.lrn = (<LocalResponseNorm>descriptor).lrn
    elif isinstance(descriptor, Dropout):
        step.of.dropout = (<Dropout>descriptor).dropout
    elif isinstance(descriptor, BatchNorm):
        step.of.batch_norm = (<BatchNorm>descriptor).bn
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
