"""Sums, differences, products and quotients, with broadcasting."""

from __future__ import annotations

import operator

import numpy as np

from .. import _core
from .._config import call_threads
from .base import (
    Operator,
    Spec,
    apply,
    as_array,
    check_same_dtype,
    register,
    spec_of,
)
from .flatten import RESHAPE
from .memory import dense, finish, is_channels_last, target
from .reduce import REDUCE

__all__ = ["add", "div", "mul", "sub"]


class Binary(Operator):
    """``y = function(a, b)``, where an operand that is None is `scalar`.

    gradients: of a and of b, functions of (a, b, y, dy) in the shape of y.
    """

    keeps_order = True

    def __init__(self, name, function, *gradients):
        self.name = name
        self._function = function
        self._gradients = gradients

    def infer(self, a, b, *, scalar=None):
        given = {name: x for name, x in (("a", a), ("b", b)) if x is not None}
        check_same_dtype(**given)
        try:
            shape = np.broadcast_shapes(*(x.shape for x in given.values()))
        except ValueError:
            raise ValueError(
                f"a of shape {a.shape} and b of shape {b.shape} do not broadcast"
            ) from None
        return Spec(shape, next(iter(given.values())).dtype)

    def reference(self, a, b, *, scalar=None):
        dtype = (b if a is None else a).dtype.type
        a, b = (dtype(scalar) if x is None else x for x in (a, b))
        with np.errstate(all="ignore"):
            return np.asarray(self._function(a, b))

    def backward(self, node, dy):
        scalar = node.attrs.get("scalar")
        a, b = (scalar if x is None else x for x in node.inputs)
        return tuple(
            None if x is None else _summed_to(x, of(a, b, node.outputs[0], dy))
            for x, of in zip(node.inputs, self._gradients, strict=True)
        )


class Add(Binary):
    """``y = a + b``; where nothing is broadcast, in compiled code."""

    def compute(self, inputs, attrs, out=None):
        if not _are_alike(*inputs):
            return super().compute(inputs, attrs, out)
        a, b = inputs
        last = is_channels_last(a)
        y = target(out, self.infer(*map(spec_of, inputs)), last, inputs)
        _core.add(dense(a, last), dense(b, last), dense(y, last), call_threads())
        return finish(out, y)

    def lower(self, lowering, node):
        if _are_alike(*node.inputs):
            lowering.node(node, "add")
        else:
            lowering.numpy(node)


def _are_alike(a, b):
    return a is not None and b is not None and a.shape == b.shape


ADD = register(Add("add", operator.add, lambda a, b, y, dy: dy, lambda a, b, y, dy: dy))
SUB = register(
    Binary(
        "sub", operator.sub, lambda a, b, y, dy: dy, lambda a, b, y, dy: mul(dy, -1.0)
    )
)
MUL = register(
    Binary(
        "mul",
        operator.mul,
        lambda a, b, y, dy: mul(dy, b),
        lambda a, b, y, dy: mul(dy, a),
    )
)
DIV = register(
    Binary(
        "div",
        operator.truediv,
        lambda a, b, y, dy: div(dy, b),
        lambda a, b, y, dy: mul(div(mul(dy, y), b), -1.0),
    )
)


def _make(op, formula):
    def combine(a, b, *, out=None):
        if isinstance(a, int | float):
            return apply(op, None, as_array(b, "b"), out=out, scalar=float(a))
        if isinstance(b, int | float):
            return apply(op, as_array(a, "a"), None, out=out, scalar=float(b))
        return apply(op, as_array(a, "a"), as_array(b, "b"), out=out)

    combine.__name__ = combine.__qualname__ = op.name
    combine.__doc__ = f"""Compute ``{formula}``; also so written in networks.

        Parameters
        ----------
        a, b : array or number
            One of them an array; shapes are broadcast as NumPy does.
        out : array, optional
            Where the result is written.

        Returns
        -------
        array
        """
    return combine


add, sub, mul, div = map(
    _make, (ADD, SUB, MUL, DIV), ("a + b", "a - b", "a * b", "a / b")
)


def _summed_to(x, gradient):
    """Sum a gradient over the dimensions along which x was broadcast."""
    added = gradient.ndim - x.ndim
    dims = tuple(
        i
        for i, n in enumerate(gradient.shape)
        if i < added or (x.shape[i - added] == 1 and n != 1)
    )
    if not dims:
        return gradient
    summed = apply(REDUCE["sum"], gradient, dim=dims, keepdim=True)
    return apply(RESHAPE, summed, shape=x.shape) if added else summed
