"""The table of ONNX operators: each is one Python function.

Inputs are positional, attributes are keyword arguments. What was an attribute in
an older opset and is an input now has one name, so that one function serves all
opsets. The same function computes with arrays and traces a network: it gets
arrays where they are known and traced values where they are not.
"""

import functools
import inspect

import numpy as np

from .values import is_traced

# The operator sets whose definitions the functions follow.
OPSETS = range(6, 29)

# What a function may ask for beside inputs and attributes: the version of the
# operator set, the number of outputs of the node, and up to the last one that
# anything reads, how to run a subgraph, whether a network is traced for training.
CONTEXT = ("opset", "declared", "wanted", "run", "training")


class Untraceable(Exception):  # noqa: N818 (it is no error)
    """What a function raises that computes these inputs only as arrays."""


class UnsupportedError(ValueError):
    """A file that needs what this package has not.

    The message names node and operator.
    """


class Entry:
    """An ONNX operator.

    Attributes
    ----------
    traces : bool
        Whether the function takes traced values.
    """

    def __init__(self, function, traces):
        self.traces = traces
        self._function = function
        parameters = inspect.signature(function).parameters.values()
        names = [p.name for p in parameters]
        self._context = [name for name in CONTEXT if name in names]
        self._attributes = {*names} - {*CONTEXT}
        self._inputs = [p.name for p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD]
        # To another function, which knows its attributes.
        self._passes = any(p.kind == p.VAR_KEYWORD for p in parameters)
        self._variadic = any(p.kind == p.VAR_POSITIONAL for p in parameters)

    def call(self, inputs, attributes, **context):
        """The outputs, as a list, of inputs (None where left out)."""
        unknown = attributes.keys() - self._attributes
        if unknown and not self._passes:
            raise ValueError(f"attributes {sorted(unknown)} are not supported")
        given = {name: context[name] for name in self._context if name in context}
        if self._variadic:
            result = self._function(*inputs, **attributes, **given)
        else:
            if len(inputs) > len(self._inputs):
                raise ValueError(f"more inputs than {', '.join(self._inputs)}")
            named = zip(self._inputs, inputs, strict=False)
            given.update((name, x) for name, x in named if x is not None)
            result = self._function(**given, **attributes)
        results = result if isinstance(result, tuple) else (result,)
        return [np.asarray(y) if isinstance(y, np.generic) else y for y in results]


TABLE = {}


def operator(*names, traces=True):
    """Enter a function in the table, under one or several names of operators.

    Those of other domains than ONNX's own are "domain.name".
    """

    def enter(function):
        TABLE.update(dict.fromkeys(names, Entry(function, traces)))
        return function

    return enter


def numpy_operator(*names):
    """Enter a function of arrays alone."""
    return operator(*names, traces=False)


def shape_of_data(*names):
    """Enter a function of arrays whose elements decide the shape of its result."""

    def enter(function):
        @functools.wraps(function)
        def checked(*inputs, **given):
            if is_traced(*inputs, *given.values()):
                raise ValueError("the shape of its result depends on the input's data")
            return function(*inputs, **given)

        return operator(*names)(checked)

    return enter
