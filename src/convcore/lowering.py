"""Lowering: the nodes of a graph as steps on buffers.

A value of rank >= 3 is channels-last in memory, its shape is logical. In the
order of their shape ("row-major") are parameters, gradients of weights, what is
computed of these alone, element by element, and inputs that are given so.
"""

from math import prod
from typing import Any, NamedTuple

import numpy as np

from .ops.base import Operator, Spec, spec_of
from .ops.cat import CAT, starts
from .ops.memory import is_row_major, memory_shape
from .passes import round_up

SEGMENTS = ("prepare", "forward", "backward", "update")


class Buffer:
    """Memory that steps work on.

    Attributes
    ----------
    size : int
        In elements.
    dtype : numpy.dtype
    space : str or None
        "parameters", "gradients", "state" or "external"; None is the arena,
        where `passes.lay_out` finds the place.
    index : int
        Number of the external array; 0 elsewhere.
    offset : int
        In elements, from the start of the space.
    row_major : bool
        Of a given buffer: whether what it holds has the order of its shape.
    """

    def __init__(self, size, dtype, space=None, index=0, offset=0, *, row_major=False):
        self.size = size
        self.dtype = np.dtype(dtype)
        self.space = space
        self.index = index
        self.offset = offset
        self.row_major = row_major

    @property
    def nbytes(self):
        return self.size * self.dtype.itemsize


class Operand(NamedTuple):
    """Part of a buffer."""

    buffer: Buffer
    offset: int
    size: int

    @property
    def is_whole(self):
        return self.offset == 0 and self.size == self.buffer.size


class View(NamedTuple):
    """How a step of Python sees an operand: as an array of logical shape."""

    spec: Spec
    row_major: bool

    def of(self, array):
        """The view of a flat array."""
        shape = self.spec.shape
        if self.row_major or len(shape) < 3:
            return array.reshape(shape)
        return np.moveaxis(array.reshape(memory_shape(shape)), -1, 1)


class NumpyStep(NamedTuple):
    """Descriptor of a step that Python computes."""

    operator: Operator
    attrs: dict[str, Any]
    inputs: tuple[View | None, ...]
    outputs: tuple[View | None, ...]

    def run(self, arrays):
        """Compute with flat arrays in the order of the operands."""
        views = [*self.inputs, *self.outputs]
        seen = [
            None if array is None else view.of(array)
            for view, array in zip(views, arrays, strict=True)
        ]
        inputs, outputs = seen[: len(self.inputs)], seen[len(self.inputs) :]
        if len(outputs) == 1:
            self.operator.compute(tuple(inputs), self.attrs, outputs[0])
            return
        results = self.operator.compute(tuple(inputs), self.attrs)
        for y, result in zip(outputs, results, strict=True):
            if y is not None:
                y[...] = result


class Step(NamedTuple):
    """One call of the C library; kinds and descriptors are those of _core.Plan.

    The kind "numpy" is a call of Python's, its descriptor a `NumpyStep`. The node
    is what it computes, None for what optimizers do.
    """

    kind: str
    operands: tuple[Operand | None, ...]
    descriptor: Any
    node: Any = None


class Lowering:
    """What operators emit their steps into.

    Parameters
    ----------
    graph : Graph
    bound : list of (Value, Buffer)
        Values whose place is given: inputs, parameters, gradients, outputs. A
        value with several places is made in the first and copied.
    pack_weights : bool
        Parameters are packed in the prepare segment, not in every run.
    precision : str
        Of float32 convolutions.
    draws : Buffer
        What random numbers are drawn from: seed and step, int64.

    Attributes
    ----------
    steps : dict of str -> list of Step
        By segment.
    packings : list of (Value, Conv, Buffer)
        Of each step of the prepare segment: what it packs, for what, and where.
    """

    def __init__(self, graph, bound, *, pack_weights, precision, draws):
        self.graph = graph
        self.draws = draws
        self.steps = {segment: [] for segment in SEGMENTS}
        self.segment = "forward"
        self.packed_bytes = 0
        self.packings = []
        self._node = None
        self._users = graph.users()
        self._parts = _parts(graph, self._users, {value for value, _ in bound})
        self._pack_weights = pack_weights
        self._precision = precision
        self._given, self._copies = {}, []
        self._row_major, self._turned = _row_major(graph), {}
        self._row_major.update(x for x, b in bound if b.row_major and x.node is None)
        for value, buffer in bound:
            ordered = self._in_order(value, buffer.row_major)
            if not ordered or self._given.setdefault(value, buffer) is not buffer:
                self._copies.append((value, buffer))
        # Results get theirs as their nodes are lowered.
        self._buffers = {x: b for x, b in self._given.items() if x.node is None}

    def lower(self, forward):
        """Emit the steps of all nodes; `forward`: those of the forward segment."""
        for node in self.graph.nodes:
            self.segment = "forward" if node in forward else "backward"
            self._node = node
            node.op.lower(self, node)
        self._node = None
        for value, buffer in self._copies:
            self._copy(self.operand(value, row_major=buffer.row_major), buffer)

    # --------------------------------------------------------------- buffers

    def operand(self, value, *, row_major=False):
        """A buffer that holds a value in this order; None for None."""
        if value is None:
            return None
        if self._in_order(value, row_major):
            return self._buffers[value]
        if value not in self._turned:
            n, c, space = value.shape[0], value.shape[1], prod(value.shape[2:])
            move = (n, space, c) if row_major else (n, c, space)
            self._turned[value] = Buffer(prod(value.shape), value.dtype)
            self.emit("transpose", (self._buffers[value], self._turned[value]), move)
        return self._turned[value]

    def is_row_major(self, value):
        """Whether a value's memory has the order of its shape, and not another."""
        return value in self._row_major and not is_row_major(value.shape)

    def _in_order(self, value, row_major):
        if is_row_major(value.shape):
            return True
        return (value in self._row_major) == row_major

    def result(self, value):
        """A buffer for a node's output; None when nobody reads it."""
        if value in self._given:
            self._buffers[value] = self._given[value]
        elif value in self._users or any(value is x for x, _ in self._copies):
            self._buffers[value] = Buffer(prod(value.shape), value.dtype)
        return self._buffers.get(value)

    def whole(self, value):
        """A buffer for a result of which several nodes write parts."""
        return self._buffers.get(value) or self.result(value)

    def is_part(self, value):
        """Whether a value is written where it is joined with others."""
        return value in self._parts

    def alias(self, value, buffer):
        """Let a node's output be memory that holds the same elements already."""
        if value in self._given:
            self._copy(buffer, self._given[value])
            buffer = self._given[value]
        self._buffers[value] = buffer

    def part(self, buffer, offset, size):
        """Part of a buffer, as an operand."""
        return Operand(buffer, offset, size)

    # ----------------------------------------------------------------- steps

    def emit(self, kind, operands, descriptor=None, segment=None):
        """Append a step; operands are Buffers, parts of them or None.

        Default: to the segment that is being lowered.
        """
        self._append(segment or self.segment, kind, operands, descriptor)

    def node(self, node, kind, descriptor=None):
        """Emit the step whose operands are the node's inputs and outputs."""
        inputs = self.operands(node)
        self.emit(kind, (*inputs, *map(self.result, node.outputs)), descriptor)

    def operands(self, node):
        """Buffers of a node's inputs, in the order that its operator reads."""
        if node.op.keeps_order:
            rows = [node.outputs[0] in self._row_major] * len(node.inputs)
        else:
            rows = [i in node.op.row_inputs for i in range(len(node.inputs))]
        return [
            self.operand(x, row_major=row)
            for x, row in zip(node.inputs, rows, strict=True)
        ]

    def numpy(self, node):
        """Emit the node as a step of Python, which sees arrays of logical shape."""
        inputs = [None if x is None else self._buffers[x] for x in node.inputs]
        results = [None if y is None else self.result(y) for y in node.outputs]
        views = [
            tuple(
                None if x is None else View(x.spec, x in self._row_major)
                for x in values
            )
            for values in (node.inputs, node.outputs)
        ]
        step = NumpyStep(node.op, node.attrs, *views)
        self.emit("numpy", (*inputs, *results), step)

    def describe(self, node, **attrs):
        """The descriptor of a node."""
        return node.op.describe(
            *map(spec_of, node.inputs),
            last=True,
            precision=self._precision,
            **node.attrs,
            **attrs,
        )

    def conv_forward(self, node):
        """Emit a forward convolution, or a linear layer.

        Its inputs are (x, weight, bias), and maybe what is added to the result.
        """
        x, weight, bias, *residual = self.operands(node)
        packed = self._pack_weights and weight.space == "parameters"
        y, where = self._channels(node.outputs[0])
        conv = self.describe(node, packed=packed, **where)
        if packed:
            weight = self._packed(conv, weight)
            self.packings.append((node.inputs[1], conv, weight))
        added = residual[0] if residual else None
        self.emit("conv_forward", (x, weight, bias, added, y), conv)

    def _channels(self, value):
        """Where a convolution writes its result, and how it is told so."""
        if value not in self._parts:
            return self.result(value), {}
        whole, start = self._parts[value]
        channels, stride = value.shape[1], whole.shape[1]
        size = (prod(value.shape) // channels - 1) * stride + channels
        return self.part(self.whole(whole), start, size), {"y_stride": stride}

    def transpose(self, x, y, moves):
        """Make y of x, with the same elements, by transposing x[batch][a][b].

        moves has a (batch, a, b) for each transposition; without any, y is x.
        """
        buffer = self.operand(x)
        if not moves:
            self.alias(y, buffer)
        for i, move in enumerate(moves):
            last = i == len(moves) - 1
            moved = self.result(y) if last else Buffer(buffer.size, buffer.dtype)
            self.emit("transpose", (buffer, moved), move)
            buffer = moved

    def _packed(self, conv, weight):
        """A buffer of the weights packed for the forward pass, kept between runs."""
        offset = self.packed_bytes // weight.dtype.itemsize
        size = conv.packed_size("forward")
        packed = Buffer(size, weight.dtype, "state", offset=offset)
        self.packed_bytes += round_up(packed.nbytes)
        self._append("prepare", "conv_pack", (weight, packed), (conv, "forward"))
        return packed

    def _copy(self, x, y):
        self.emit("copy", (x, y), (1, x.size, x.size, x.size))

    def _append(self, segment, kind, operands, descriptor):
        operands = tuple(
            Operand(x, 0, x.size) if isinstance(x, Buffer) else x for x in operands
        )
        self.steps[segment].append(Step(kind, operands, descriptor, self._node))


def _parts(graph, users, given):
    """Results that their nodes can write into the channels of what they are joined
    to: of each the joined value and its first channel there."""
    found = {}
    for node in graph.nodes:
        if node.op is not CAT or node.attrs["dim"] != 1 or node.outputs[0].ndim < 3:
            continue
        for x, start in zip(node.inputs, starts(node), strict=True):
            alone = len(users[x]) == 1 and x not in given and x.node is not None
            if alone and x.index == 0 and x.node.op.writes_channels(x.node):
                found[x] = node.outputs[0], start
    return found


def _row_major(graph):
    """The values of rank >= 3 whose memory has the order of their shape."""
    found = {x for x in graph.parameters.values() if x.ndim > 2}
    for node in graph.nodes:
        found.update(node.outputs[i] for i in node.op.row_outputs)
        if node.op.keeps_order and all(x is None or x in found for x in node.inputs):
            found.update(node.outputs)
    return found
