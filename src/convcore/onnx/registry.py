"""The table of ONNX operators: each is one Python function.

Inputs are positional, attributes are keyword arguments. What was an attribute in
an older opset and is an input now has one name, so that one function serves all
opsets. The same function computes with arrays and traces a network: it gets
arrays where they are known and traced values where they are not.
"""

import inspect

import numpy as np

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
    form : str
        What it is in a network: "traced", a function that takes traced values;
        "NumPy", a function of arrays that a node of the network calls; "folded",
        a function of arrays that must be known when the file is read, because
        the shape of its result depends on them.
    inputs : list of str
    context : list of str
        What of `CONTEXT` it asks for.
    """

    def __init__(self, function, form):
        self.form = form
        self._function = function
        parameters = inspect.signature(function).parameters.values()
        names = [p.name for p in parameters]
        self.context = [name for name in CONTEXT if name in names]
        self._attributes = {*names} - {*CONTEXT}
        self.inputs = [p.name for p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD]
        # To another function, which knows its attributes.
        self._passes = any(p.kind == p.VAR_KEYWORD for p in parameters)
        self._variadic = any(p.kind == p.VAR_POSITIONAL for p in parameters)

    def call(self, inputs, attributes, **context):
        """The outputs, as a list, of inputs (None where left out)."""
        unknown = attributes.keys() - self._attributes
        if unknown and not self._passes:
            raise ValueError(f"attributes {sorted(unknown)} are not supported")
        given = {name: context[name] for name in self.context if name in context}
        if self._variadic:
            result = self._function(*inputs, **attributes, **given)
        else:
            if len(inputs) > len(self.inputs):
                raise ValueError(f"more inputs than {', '.join(self.inputs)}")
            named = zip(self.inputs, inputs, strict=False)
            given.update((name, x) for name, x in named if x is not None)
            result = self._function(**given, **attributes)
        results = result if isinstance(result, tuple) else (result,)
        return [np.asarray(y) if isinstance(y, np.generic) else y for y in results]


TABLE = {}


def operator(*names, form="traced"):
    """Enter a function in the table, under one or several names of operators.

    Those of other domains than ONNX's own are "domain.name".
    """

    def enter(function):
        TABLE.update(dict.fromkeys(names, Entry(function, form)))
        return function

    return enter


def numpy_operator(*names):
    """Enter a function of arrays alone."""
    return operator(*names, form="NumPy")


def folded_operator(*names):
    """Enter a function of arrays that decide the shape of its result."""
    return operator(*names, form="folded")
