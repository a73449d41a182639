"""An ONNX graph that is being written, and the table of what writes its nodes."""

import numpy as np
from onnx import helper, numpy_helper

# The first that has every operator used here; onnx 1.16 has it.
OPSET = 21

# By the name of an operator: a function (writer, node) that adds ONNX nodes.
EXPORTERS = {}


def exports(*names):
    """Enter a function in `EXPORTERS` for operators of these names."""

    def enter(function):
        EXPORTERS.update(dict.fromkeys(names, function))
        return function

    return enter


def window(kernel=None, stride=None, padding=None, dilation=None):
    """Attributes of a sliding window in ONNX."""
    befores, afters = zip(*padding, strict=True)
    return {
        "kernel_shape": kernel,
        "strides": stride,
        "pads": (*befores, *afters),
        "dilations": dilation,
    }


class Writer:
    """Collects the nodes and constants of an ONNX graph.

    Parameters
    ----------
    graph : Graph

    Attributes
    ----------
    nodes, constants : list of protobuf messages
    keys : dict of Value -> str
        Of each parameter its first state_dict key.
    """

    def __init__(self, graph):
        self.nodes, self.constants = [], []
        self.keys = {}
        for key, x in graph.parameters.items():
            self.keys.setdefault(x, key)
        self._names = {x: x.name for x in graph.inputs} | dict(self.keys)
        self._taken = {*self._names.values(), *graph.outputs}
        for name, y in graph.outputs.items():
            self._names.setdefault(y, name)
        self._placed = {}

    def name(self, value):
        """The name of a value; "" for None, as ONNX leaves inputs out."""
        if value is None:
            return ""
        if value not in self._names:
            self._names[value] = self._new(value.name or "value")
        return self._names[value]

    def names(self, values):
        """The names of several values."""
        return [self.name(x) for x in values]

    def add(self, kind, inputs, outputs=None, **attributes):
        """Add a node.

        Parameters
        ----------
        kind : str
            The ONNX operator.
        inputs : list of str
        outputs : str, Value or list of str, optional
            Default: a new name.

        Returns
        -------
        str : the name of the (first) output
        """
        if outputs is None:
            outputs = self._new(kind)
        elif not isinstance(outputs, str | list):
            outputs = self.name(outputs)
        outputs = [outputs] if isinstance(outputs, str) else outputs
        inputs = list(inputs)
        while inputs and not inputs[-1]:
            inputs.pop()
        given = {k: v for k, v in attributes.items() if v is not None}
        node = helper.make_node(kind, inputs, outputs, self._new(kind), **given)
        self.nodes.append(node)
        return outputs[0]

    def chain(self, steps, y):
        """Add nodes one after the other, the last of which gives the value y.

        Parameters
        ----------
        steps : list of (kind, inputs, attributes)
            As for `add`; None among the inputs is what the one before gives.
        """
        name = None
        for i, (kind, inputs, attributes) in enumerate(steps):
            inputs = [name if x is None else x for x in inputs]
            outputs = y if i == len(steps) - 1 else None
            name = self.add(kind, inputs, outputs, **attributes)

    def constant(self, value, dtype):
        """The name of a constant; equal ones are one."""
        array = np.asarray(value, dtype)
        key = (array.dtype, array.shape, array.tobytes())
        if key not in self._placed:
            self._placed[key] = self._new("constant")
            self.constants.append(numpy_helper.from_array(array, self._placed[key]))
        return self._placed[key]

    def ints(self, *values):
        """The name of a constant list of int64, such as a shape."""
        return self.constant(values, np.int64)

    def output(self, name, value):
        """Let a value be an output of the graph under this name."""
        if self.name(value) != name:
            self.add("Identity", [self.name(value)], name)

    def _new(self, stem):
        name, count = stem, 0
        while name in self._taken:
            count += 1
            name = f"{stem}_{count}"
        self._taken.add(name)
        return name
