"""Tracing: an ONNX program run on values, which gives a graph."""

import numpy as np

from ..graph import Graph, Value
from ..ops.base import FLOAT32, FLOAT64, call
from ..passes import drop_dead
from .generic import ONNX_NODE
from .program import dtype_of
from .registry import TABLE, Untraceable
from .values import constant, varies


class TracedGraph(Graph):
    """A graph that takes arrays as parameters, and knows which values are constant.

    Attributes
    ----------
    arrays : dict of Value -> ndarray
        The elements of the parameters.
    """

    def __init__(self):
        super().__init__()
        self.arrays = {}
        self._known = {}  # by id: names of arrays, and these, lest the id be reused
        self._lifted = {}  # by id: the buffers of arrays
        self._varying = set()

    def learned(self, name, array):
        """A parameter with these elements."""
        value = self.parameter(array.shape, array.dtype, name)
        self.arrays[value] = array
        return value

    def know(self, name, array):
        """Remember the name of an array that may become a buffer."""
        self._known[id(array)] = name, array

    def input(self, shape, dtype, name):
        value = super().input(shape, dtype, name)
        self._varying.add(value)
        return value

    def add(self, op, inputs, attrs):
        inputs = [self._buffer(x) if isinstance(x, np.ndarray) else x for x in inputs]
        result = super().add(op, inputs, attrs)
        if self._varying.intersection(self.nodes[-1].inputs):
            self._varying.update(self.nodes[-1].outputs)
        return result

    def _buffer(self, array):
        """A buffer with the elements of an array, the same for the same array."""
        if id(array) not in self._lifted:
            name, _ = self._known.get(id(array), ("constant", array))
            unique, count = name, 0
            while unique in self.parameters:
                count += 1
                unique = f"{name}.{count}"
            self._lifted[id(array)] = self.learned(unique, array)
            self.buffers.add(self._lifted[id(array)])
        return self._lifted[id(array)]

    def varies(self, value):
        """Whether a value depends on the inputs."""
        return value in self._varying

    def evaluate(self, value):
        """The elements of a value that depends on parameters alone."""
        if value not in self.arrays:
            node = value.node
            inputs = tuple(x if x is None else self.evaluate(x) for x in node.inputs)
            results = call(node.op, inputs, node.attrs)
            results = results if isinstance(results, tuple) else (results,)
            self.arrays.update(zip(node.outputs, results, strict=True))
        return self.arrays[value]

    def update(self, tensor, new):
        """Let a parameter be a buffer that has a new value after a training step.

        What is computed of parameters stays what it is.
        """
        tensor = self._buffer(tensor) if isinstance(tensor, np.ndarray) else tensor
        if tensor in self.arrays:
            self.buffers.add(tensor)
            self.updates[tensor] = new


class Tracing:
    """Runs nodes on traced values and arrays.

    Parameters
    ----------
    training : bool
        Whether the network is traced for training.
    """

    def __init__(self, training):
        self.graph = TracedGraph()
        self._training = training

    def give(self, name, value):
        if isinstance(value, Value):
            self.graph.name(value, name)
        elif isinstance(value, np.ndarray):
            self.graph.know(name, value)
        return value

    def call(self, node, inputs, run, context):
        entry = TABLE[node.operator]
        if entry.form == "traced":
            tracing = {"run": run, "training": self._training}
            try:
                return entry.call(inputs, node.attributes, **context, **tracing)
            except Untraceable:
                pass
        if not any(map(varies, inputs)):
            return entry.call([constant(x) for x in inputs], node.attributes, **context)
        if entry.form == "folded":
            raise ValueError("the shape of its result depends on the input's data")
        return self._generic(node, inputs, context)

    def _generic(self, node, inputs, context):
        """A node that calls the function on arrays."""
        traced, constants = [], []
        for place, x in enumerate(inputs):
            # Indices, sizes and scales may decide shapes.
            if x is None or varies(x) or (x.ndim > 1 and x.dtype.kind == "f"):
                traced.append(x)
            else:
                array = constant(x)
                elements = tuple(array.reshape(-1).tolist())
                constants.append((place, array.dtype.name, array.shape, elements))
        attrs = {
            "op_type": node.operator,
            "opset": context["opset"],
            "outputs": context["declared"],
            "attributes": tuple(node.attributes.items()),
            "constants": tuple(constants),
        }
        result = self.graph.add(ONNX_NODE, traced, attrs)
        return result if isinstance(result, tuple) else (result,)


def trace(program, shapes, training=False):
    """Trace a program for inputs of these shapes, the batch included.

    Returns
    -------
    (graph, arrays) : Graph, and the elements of its parameters by name
    """
    tracing = Tracing(training)
    graph, inputs = tracing.graph, {}
    for x, shape in zip(program.inputs, shapes, strict=True):
        inputs[x.name] = graph.input(shape, dtype_of(x), x.name)
    for name, array in program.arrays.items():
        if array.dtype in (FLOAT32, FLOAT64):
            inputs[name] = graph.learned(name, array)
    results = program.run(inputs, tracing)
    for name, value in zip(program.outputs, results, strict=True):
        if not varies(value):
            raise ValueError(f"output {name!r} does not depend on the inputs")
        graph.outputs[name] = value
    drop_dead(graph, [*graph.outputs.values(), *graph.updates.values()])
    made = {*graph.inputs, *(y for node in graph.nodes for y in node.outputs)}
    graph.names = {name: x for name, x in graph.names.items() if x in made}
    arrays = {key: graph.arrays[x] for key, x in graph.parameters.items()}
    return graph.copy(), arrays
