"""Gradients of single calls: a function traced with the shapes of its arguments."""

from __future__ import annotations

import numpy as np

from .autodiff import backpropagate
from .graph import Graph, Value
from .ops.base import (
    FLOAT32,
    FLOAT64,
    as_array,
    as_numpy,
    call,
    check_gradient,
    check_same_dtype,
)
from .passes import drop_dead


def vjp(f, dy, *args, **kwargs):
    """Gradient of a function of arrays: the product of `dy` with its Jacobian.

    Parameters
    ----------
    f : function
        Of `convcore.functional`, or made of these.
    dy : array, or tuple of arrays where f gives several
        Gradient of ``f(*args, **kwargs)``; None for a result without one.
    *args, **kwargs
        As in the call of f. Arrays among the keyword arguments are constants.

    Returns
    -------
    array or tuple of arrays
        The gradient of the positional argument that is a float array (a list of
        gradients, where it is a list of arrays), or a tuple of them, in order,
        where there are several. Zeros where f does not depend on an argument.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore as cc
    >>> x = np.array([-1.0, 2.0])
    >>> cc.vjp(cc.leaky_relu, np.ones(2), x, negative_slope=0.5)
    array([0.5, 1. ])
    """
    graph, arrays, positional, results = _traced(f, args, kwargs)
    wrt = [x for x in _values(positional) if x.dtype in (FLOAT32, FLOAT64)]
    gradients = _gradients(graph, arrays, results, dy, wrt)
    found = [
        _like(x, gradients) for x in positional if any(v in wrt for v in _values(x))
    ]
    return found[0] if len(found) == 1 else tuple(found)


def evaluate(f, *args, **kwargs):
    """``f(*args, **kwargs)`` where f uses operators and methods of traced values.

    Returns
    -------
    array, or tuple of arrays where f gives several
    """
    graph, arrays, _, results = _traced(f, args, kwargs)
    run_nodes(graph, arrays)
    return _like(results, arrays)


def _traced(f, args, kwargs):
    """The graph of a call, its arrays by value, and its arguments and results."""
    graph, arrays = Graph(batched=False), {}

    def trace(x):
        if isinstance(x, list | tuple):
            return type(x)(map(trace, x))
        if not (hasattr(x, "__array__") or hasattr(x, "__dlpack__")):
            return x
        x = as_numpy(x)
        value = graph.input(x.shape, x.dtype, None)
        arrays[value] = x
        return value

    positional = [trace(x) for x in args]
    results = f(*positional, **{name: trace(x) for name, x in kwargs.items()})
    return graph, arrays, positional, results


def run_nodes(graph, arrays):
    """Compute the nodes of a graph: adds the arrays of their outputs."""
    for node in graph.nodes:
        inputs = tuple(None if x is None else arrays[x] for x in node.inputs)
        results = call(node.op, inputs, node.attrs)
        results = results if isinstance(results, tuple) else (results,)
        arrays.update(zip(node.outputs, results, strict=True))


def _values(x):
    """The values in an argument, those of lists included."""
    if isinstance(x, list | tuple):
        return [value for part in x for value in _values(part)]
    return [x] if isinstance(x, Value) else []


def _like(x, gradients):
    if isinstance(x, list | tuple):
        return [_like(part, gradients) for part in x]
    return gradients.get(x)


def _gradients(graph, arrays, results, dy, wrt):
    """Gradient of each value of `wrt`, as an array."""
    arrays, seeds = dict(arrays), {}
    several = isinstance(results, tuple | list)
    for y, given in zip(results, dy, strict=True) if several else [(results, dy)]:
        if given is None:
            continue
        given = as_array(given, "dy")
        check_gradient(given, y.shape)
        check_same_dtype(dy=given, result=y)
        seeds[y] = graph.input(y.shape, y.dtype, "dy")
        arrays[seeds[y]] = given
    gradients = backpropagate(graph, seeds, wrt)
    drop_dead(graph, gradients.values())
    run_nodes(graph, arrays)
    return {
        x: arrays[gradients[x]].copy("K")
        if x in gradients
        else np.zeros_like(arrays[x])
        for x in wrt
    }
