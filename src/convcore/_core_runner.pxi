# Part of _core.pyx: runs of one plan from an array to an array, in compiled code,
# since checking arguments and giving memory takes longer than a small network.


@cython.final
cdef class _Workspace:
    """Arena and scratch of one run."""

    cdef void *arena
    cdef void *scratch
    cdef int64_t scratch_bytes
    cdef int threads  # that the scratch is for

    def __dealloc__(self):
        free(self.arena)
        free(self.scratch)


@cython.final
cdef class Runner:
    """A plan that is run again and again: one input, one output, fixed weights.

    Any number of threads may call `run` at once.
    """

    cdef Plan plan
    cdef int64_t first, last
    cdef object parameters, state, draws  # kept alive
    cdef int64_t arena_bytes
    cdef int x_type, x_ndim, y_type, y_ndim
    cdef cnp.npy_intp x_shape[5]
    cdef cnp.npy_intp y_shape[5]
    cdef list waiting  # workspaces that nobody uses

    def __init__(
        self, Plan plan, int64_t first, int64_t last, parameters, state, x, y, draws,
    ):
        """Steps first..last-1, on arrays like x and y, dense ones."""
        cdef int i
        if not 0 <= max(x.ndim, y.ndim) <= 5:
            raise ValueError("arrays have at most 5 dimensions")
        self.plan, self.first, self.last = plan, first, last
        self.parameters, self.state, self.draws = parameters, state, draws
        self.arena_bytes = plan.space_bytes.get("arena", 0)
        self.x_type, self.x_ndim = cnp.PyArray_TYPE(x), x.ndim
        self.y_type, self.y_ndim = cnp.PyArray_TYPE(y), y.ndim
        for i in range(self.x_ndim):
            self.x_shape[i] = x.shape[i]
        for i in range(self.y_ndim):
            self.y_shape[i] = y.shape[i]
        self.waiting = []
        # What no run changes is checked once.
        plan.space(parameters, "parameters")
        plan.space(state, "state")
        for i, array in enumerate((x, y, draws)):
            block(array, f"external[{i}]", plan.external_bytes[i], i == 1, 1)

    cdef bint takes(self, object x) noexcept:
        cdef int i
        if (
            type(x) is not cnp.ndarray
            or cnp.PyArray_TYPE(x) != self.x_type
            or cnp.PyArray_NDIM(x) != self.x_ndim
            or not cnp.PyArray_CHKFLAGS(x, DENSE)
            or cnp.PyArray_ISBYTESWAPPED(x)
        ):
            return False
        for i in range(self.x_ndim):
            if cnp.PyArray_DIM(x, i) != self.x_shape[i]:
                return False
        return True

    cdef _Workspace workspace(self, int threads):
        cdef _Workspace space
        if self.waiting:
            space = self.waiting.pop()
        else:
            space = _Workspace()
            if posix_memalign(&space.arena, 64, self.arena_bytes + 64):
                raise MemoryError()
        if space.threads != threads:
            space.threads = 0
            free(space.scratch)
            space.scratch = NULL
            check(cvc_plan_scratch(
                self.plan.plan, self.first, self.last, threads, &space.scratch_bytes))
            if posix_memalign(&space.scratch, 64, space.scratch_bytes + 64):
                raise MemoryError()
            space.threads = threads
        return space

    def run(self, x, int threads):
        """The result, a new array; None where x is not what the runner takes."""
        cdef cvc_call call
        cdef cvc_memory memory
        cdef cvc_status status
        cdef int64_t failed_step = -1
        cdef void *external[3]
        cdef _Workspace space
        if not self.takes(x):
            return None
        y = cnp.PyArray_EMPTY(self.y_ndim, self.y_shape, self.y_type, 0)
        begin(&call, threads)
        space = self.workspace(call.threads)
        call.scratch, call.scratch_bytes = space.scratch, space.scratch_bytes
        memset(&memory, 0, sizeof(memory))
        memory.arena = space.arena
        if self.parameters is not None:
            memory.parameters = cnp.PyArray_DATA(<cnp.ndarray>self.parameters)
        if self.state is not None:
            memory.state = cnp.PyArray_DATA(<cnp.ndarray>self.state)
        external[0] = cnp.PyArray_DATA(<cnp.ndarray>x)
        external[1] = cnp.PyArray_DATA(<cnp.ndarray>y)
        external[2] = cnp.PyArray_DATA(<cnp.ndarray>self.draws)
        memory.external = external
        with nogil:
            status = cvc_plan_run(
                self.plan.plan, self.first, self.last, &memory, &call, NULL,
                &failed_step)
        self.waiting.append(space)
        self.plan.check_step(status, failed_step)
        return y
