"""Plans: a graph of one batch size, lowered, laid out in memory, ready to run."""

from contextlib import contextmanager
from functools import lru_cache
from itertools import accumulate, islice
from math import prod
from threading import Lock
from time import perf_counter

import numpy as np

from . import _core
from ._config import get_num_threads
from .autodiff import add_gradients
from .lowering import SEGMENTS, Buffer, Lowering
from .ops.memory import dense, empty
from .passes import (
    drop_dead,
    fuse_add,
    fuse_relu,
    lay_out,
    mask_pooled,
    round_up,
    updates_last,
)
from .recompute import choices, recompute


class Layout:
    """Where the parameters of a graph stand in one contiguous range.

    In state_dict order, each aligned. Gradients, and every slot of an
    optimizer's state, have the same offsets.

    Attributes
    ----------
    offsets : dict of Value -> int
        In bytes.
    nbytes : int
    """

    def __init__(self, graph):
        values = list(dict.fromkeys(graph.parameters.values()))
        sizes = (round_up(prod(x.shape) * x.dtype.itemsize) for x in values)
        *starts, self.nbytes = accumulate(sizes, initial=0)
        self.offsets = dict(zip(values, starts, strict=True))

    def buffer(self, value, space, slot=0):
        """The buffer of a parameter, of its gradient or of optimizer state."""
        start = slot * self.nbytes + self.offsets[value]
        offset = start // value.dtype.itemsize
        size, dtype = prod(value.shape), value.dtype
        return Buffer(size, dtype, space, offset=offset, row_major=True)

    def view(self, array, value, slot=0):
        """The same as a view of a uint8 array that is the whole space."""
        start = slot * self.nbytes + self.offsets[value]
        end = start + prod(value.shape) * value.dtype.itemsize
        return array[start:end].view(value.dtype).reshape(value.shape)


def allocate(nbytes):
    """A space of a plan, zeroed; None when it is empty."""
    if nbytes == 0:
        return None
    space = _core.empty_aligned(nbytes)
    space[:] = 0
    return space


class Memory:
    """The memory of one run of a plan.

    Attributes
    ----------
    outputs : list of ndarray
        What the run gave. Shapes are logical, memory is channels-last.
    gradients : uint8 ndarray
        The range of gradients, see `Layout`.
    """

    def __init__(self, arena_bytes, gradient_bytes):
        self.arena = allocate(arena_bytes)
        self.gradients = allocate(gradient_bytes)
        self.scratch = None
        self.external = []
        self.outputs = []


class Plan:
    """The steps of a network for one batch size.

    A plan does not change; any number of threads may run it at once, each
    with a `Memory` of its own. Its segments are "prepare" (packing of weights,
    run by `packed`), "forward" (with the loss), "backward" and "update".

    Parameters
    ----------
    graph : Graph
        Of this batch size, changed and kept by the plan.
    outputs : sequence of Value
        What a run gives.
    loss : Value, optional
        What to differentiate.
    wrt : sequence of Value
        Parameters and inputs to differentiate the loss by. Gradients of
        inputs are further outputs.
    optimizer : optional
        Add the update of these parameters, and of buffers, as a segment.
    precision : str
        Of float32 convolutions: "highest", "high" or "medium".
    channels_first : sequence of bool
        Of each input of the graph: whether its memory is channels-first. Default:
        all are channels-last.
    thrift : int
        0: keep all that backward reads; t: keep the t-th set of
        `recompute.choices`, compute the other values again.

    Raises
    ------
    StopIteration
        When there are fewer choices.

    Attributes
    ----------
    gradients : dict of Value -> Value
        For those of `wrt` that the loss depends on.
    outputs : list of Value
    steps : list of Step
    segments : dict of str -> (int, int)
        First step and end of each segment.
    arena_bytes : int
        What a run needs beside inputs, outputs, parameters and gradients.
    recomputed : int
        Number of nodes that compute values of the forward pass again.
    """

    def __init__(
        self,
        graph,
        outputs,
        *,
        loss=None,
        wrt=(),
        optimizer=None,
        precision="highest",
        channels_first=(),
        thrift=0,
    ):
        self.graph = graph
        self.layout = Layout(graph)
        updates_last(graph)
        fuse_add(graph, outputs)
        fuse_relu(graph, outputs)
        forward, inputs = frozenset(graph.nodes), frozenset(graph.inputs)
        self.gradients = add_gradients(loss, wrt) if wrt else {}
        self.outputs = [*outputs]
        self.outputs += [g for x, g in self.gradients.items() if x in inputs]
        self.updates = {} if optimizer is None else graph.updates
        found = [*self.gradients.values(), *self.updates.values()]
        mask_pooled(graph, [*self.outputs, *found])
        drop_dead(graph, [*self.outputs, *found])
        self.recomputed = 0
        if thrift:
            kept = next(islice(choices(graph, forward), thrift - 1, None))
            kept = kept.union(self.outputs, found)
            self.recomputed = recompute(graph, forward, kept)
            drop_dead(graph, [*self.outputs, *found])

        self._seeds = [
            np.ones(x.shape, x.dtype) for x in graph.inputs if x not in inputs
        ]
        self._last = [x.ndim > 2 for x in graph.inputs]
        for i, is_first in enumerate(channels_first):
            self._last[i] &= not is_first
        externals = [
            Buffer(prod(x.shape), x.dtype, "external", i, row_major=not last)
            for i, (x, last) in enumerate(zip(graph.inputs, self._last, strict=True))
        ]
        for y in self.outputs:
            externals.append(Buffer(prod(y.shape), y.dtype, "external", len(externals)))
        draws = Buffer(2, np.int64, "external", len(externals))
        lowering = Lowering(
            graph,
            self._bound(externals),
            pack_weights=not wrt and optimizer is None,
            precision=precision,
            draws=draws,
        )
        externals.append(draws)
        lowering.lower(forward)
        if optimizer is not None:
            size = optimizer.hyper().size
            externals.append(Buffer(size, np.float64, "external", len(externals)))
            self._update(lowering, optimizer, externals[-1])
        self._finish(lowering, externals, optimizer)

        self._scratch_bytes = lru_cache(self._core.scratch_bytes)
        self._pool = []
        self._packed = (None, None)  # version of the parameters, packed weights
        self._packing = Lock()

    # ------------------------------------------------------------- building

    def _bound(self, externals):
        """The values whose place is given: a list of (value, buffer)."""
        layout = self.layout
        bound = [(x, layout.buffer(x, "parameters")) for x in layout.offsets]
        bound += zip([*self.graph.inputs, *self.outputs], externals, strict=True)
        for x, gradient in self.gradients.items():
            if x in layout.offsets:
                bound.append((gradient, layout.buffer(x, "gradients")))
        # In place: what makes them stands in the update segment.
        for x, new in self.updates.items():
            bound.append((new, layout.buffer(x, "parameters")))
        return bound

    def _update(self, lowering, optimizer, hyper):
        """Emit the optimizer's steps, one parameter after the other."""
        buffer = self.layout.buffer
        lowering.segment = "update"
        for x in self.layout.offsets:
            if x in self.gradients:
                gradient, parameter = buffer(x, "gradients"), buffer(x, "parameters")
                state = [buffer(x, "state", i) for i in range(len(optimizer.slots))]
                optimizer.lower(lowering, hyper, gradient, parameter, state)

    def _finish(self, lowering, externals, optimizer):
        """Lay out the arena and make the C plan."""
        self.steps, self.segments = [], {}
        for segment in SEGMENTS:
            first = len(self.steps)
            self.steps += lowering.steps[segment]
            self.segments[segment] = (first, len(self.steps))
        self._packings = _packings(lowering)
        offsets, self.arena_bytes = lay_out(self.steps)
        slots = 0 if optimizer is None else len(optimizer.slots)
        self._bytes = {
            "arena": self.arena_bytes,
            "parameters": self.layout.nbytes,
            "gradients": self.layout.nbytes if self.gradients else 0,
            "state": lowering.packed_bytes + slots * self.layout.nbytes,
        }
        placed = [
            (kind, tuple(_place(x, offsets) for x in operands), descriptor)
            for kind, operands, descriptor, _ in self.steps
        ]
        self._external_bytes = [buffer.nbytes for buffer in externals]
        compiled = [step for step in placed if step[0] != "numpy"]
        self._core = _core.Plan(compiled, self._bytes, self._external_bytes)
        # Steps of Python by number, and of the compiled ones before each step.
        self._numpy = {i: s for i, s in enumerate(placed) if s[0] == "numpy"}
        self._compiled = [*accumulate((s[0] != "numpy" for s in placed), initial=0)]

    def memory_bytes(self, threads):
        """Bytes that a run needs, by what they are for; see `MemoryPlan`."""
        steps = len(self._compiled) - 1
        return {
            "parameters": self._bytes["parameters"],
            "gradients": self._bytes["gradients"],
            "state": self._bytes["state"],
            "activations": self._bytes["arena"],
            "scratch": self._core.scratch_bytes(0, self._compiled[steps], threads),
            "arrays": sum(self._external_bytes),
        }

    # -------------------------------------------------------------- running

    @contextmanager
    def memory(self, inputs, draws=(0, 0), hyper=None):
        """A `Memory` that nobody else uses inside the ``with`` block.

        Parameters
        ----------
        inputs : list of ndarray
            Of the shape and dtype of the graph's inputs; made dense in the memory
            order that the plan was made for, by a copy where they are not.
        draws : (int, int)
            Seed and step, from which random numbers are drawn.
        hyper : ndarray, optional
            What the optimizer's steps read.
        """
        try:
            memory = self._pool.pop()
        except IndexError:
            memory = Memory(self._bytes["arena"], self._bytes["gradients"])
        memory.outputs = [empty(y.shape, y.dtype, y.ndim > 2) for y in self.outputs]
        memory.external = [
            *(dense(x, last) for x, last in zip(inputs, self._last, strict=False)),
            *self._seeds,
            *(dense(y, y.ndim > 2) for y in memory.outputs),
            np.array(draws, np.int64),
            *([] if hyper is None else [hyper]),
        ]
        try:
            yield memory
        finally:
            memory.external, memory.outputs = [], []
            self._pool.append(memory)

    def run(
        self,
        memory,
        parameters,
        state,
        first="forward",
        last="backward",
        seconds=None,
    ):
        """Run the segments from `first` to `last` in one call.

        Parameters
        ----------
        memory : Memory
        parameters : uint8 ndarray
            The range of parameters, see `Layout`.
        state : uint8 ndarray or None
            The optimizer's, or what `packed` gave.
        seconds : float64 ndarray, optional
            With an entry for each of `steps`: receives the times of those that run.
        """
        begin, end = self.segments[first][0], self.segments[last][1]
        spaces = parameters, state, seconds
        for number, step in self._numpy.items():
            if begin <= number < end:
                self._run_compiled(memory, *spaces, begin, number)
                start = perf_counter()
                self._run_numpy(memory, parameters, state, step)
                if seconds is not None:
                    seconds[number] = perf_counter() - start
                begin = number + 1
        self._run_compiled(memory, *spaces, begin, end)

    def runner(self, memory, parameters, state):
        """The forward segment as a `_core.Runner`; None where it cannot be one."""
        if self._numpy or len(memory.external) != 3:
            return None
        if self._last[0] or self.outputs[0].ndim > 2:  # only rows: plain arrays
            return None
        begin, end = (self._compiled[i] for i in self.segments["forward"])
        return _core.Runner(self._core, begin, end, parameters, state, *memory.external)

    def _run_compiled(self, memory, parameters, state, seconds, begin, end):
        """Run compiled steps, in one call."""
        if begin == end:
            return
        times = None if seconds is None else seconds[begin:end]
        begin, end = self._compiled[begin], self._compiled[end]
        threads = get_num_threads()
        nbytes = self._scratch_bytes(begin, end, threads)
        if nbytes and (memory.scratch is None or memory.scratch.nbytes < nbytes):
            memory.scratch = allocate(nbytes)
        self._core.run(
            begin,
            end,
            memory.arena,
            parameters,
            memory.gradients,
            state,
            memory.external,
            threads,
            memory.scratch,
            times,
        )

    @staticmethod
    def _run_numpy(memory, parameters, state, step):
        """Run a step of Python."""
        spaces = {
            "arena": memory.arena,
            "parameters": parameters,
            "gradients": memory.gradients,
            "state": state,
        }
        _, operands, descriptor = step
        arrays = []
        for operand in operands:
            if operand is None:
                arrays.append(None)
                continue
            space, index, dtype, offset, size = operand
            if space == "external":
                flat = memory.external[index].reshape(-1)
            elif size:
                flat = spaces[space].view(dtype)
            else:
                flat = np.empty(0, dtype)
            arrays.append(flat[offset : offset + size])
        descriptor.run(arrays)

    def is_packed(self, version):
        """Whether there are packed weights of this version of the parameters."""
        return self._packed[0] == version

    def packed(self, memory, parameters, version, spare=None):
        """The packed weights of this version of the parameters.

        They are packed anew, into another array, when the version has
        changed: runs that have begun go on with what they have.

        Parameters
        ----------
        spare : function, optional
            Called with name, `_core.Conv` and packed array of each parameter that
            is packed now and that no run reads as it was.
        """
        with self._packing:
            if not self.is_packed(version):
                nbytes = self._bytes["state"]
                state = _core.empty_aligned(nbytes) if nbytes else None
                spaces = memory, parameters, state, None
                for i, packing in enumerate(self._packings):
                    self._run_compiled(*spaces, i, i + 1)
                    if spare is not None and packing is not None:
                        name, conv, dtype, part = packing
                        spare(name, conv, state.view(dtype)[part])
                self._packed = (version, state)
            return self._packed[1]


def _packings(lowering):
    """Of each step that packs: name, descriptor, dtype and place of what it packs
    last, and which is read nowhere else; None of the others."""
    kept = {
        operand.buffer.offset
        for segment in ("forward", "backward", "update")
        for step in lowering.steps[segment]
        for operand in step.operands
        if operand is not None and operand.buffer.space == "parameters"
    }
    found = []
    for step, (value, conv, packed) in zip(
        reversed(lowering.steps["prepare"]), reversed(lowering.packings), strict=True
    ):
        place = step.operands[0].buffer.offset
        part = slice(packed.offset, packed.offset + packed.size)
        found.append(None if place in kept else (value.name, conv, packed.dtype, part))
        kept.add(place)
    return found[::-1]


def _place(operand, offsets):
    """An operand as _core.Plan takes it."""
    if operand is None:
        return None
    buffer, offset, size = operand
    if buffer.space is None:
        start = offsets[buffer] // buffer.dtype.itemsize
        return ("arena", 0, buffer.dtype.name, start + offset, size)
    return (buffer.space, buffer.index, buffer.dtype.name, buffer.offset + offset, size)
