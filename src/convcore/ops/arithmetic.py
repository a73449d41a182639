"""Sums, differences, products and quotients, with broadcasting."""

from __future__ import annotations

import operator
from math import prod

import numpy as np

from .. import _core
from .._config import call_threads
from .base import (
    Operator,
    Spec,
    apply,
    as_array,
    check_same_dtype,
    prepared,
    register,
)
from .compiled import FUNCTION_NUMBERS
from .flatten import RESHAPE
from .memory import (
    dense,
    finish,
    is_channels_last,
    memory_axis,
    memory_shape,
    target,
)
from .reduce import REDUCE

__all__ = ["add", "div", "mul", "sub"]


class Binary(Operator):
    """``y = function(a, b)``, where an operand that is None is `scalar`.

    Compiled are arrays whose memory order is the same, or does not matter.

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

    def describe(self, a, b, *, last, precision, scalar=None):
        if a is None or b is None:
            return self._describe_scalar(a, b, scalar)
        if _are_alike(a, b) and self.name == "add":
            return _ADD
        shape = self.infer(a, b).shape
        if 0 in shape:
            return None
        strides = [_strides(x.shape, len(shape), last) for x in (a, b)]
        dims = _collapsed(shape, *strides, last)
        if dims is None:
            return None
        return _core.Step("binary_forward", a.dtype.name, self.name, *dims)

    def _describe_scalar(self, a, b, scalar):
        x = b if a is None else a
        name = f"{self.name}_scalar"
        if self.name == "sub" and a is not None:
            name, scalar = "add_scalar", -scalar
        elif a is None and self.name in ("sub", "div"):
            name = f"scalar_{self.name}"
        number = FUNCTION_NUMBERS[name]
        size = prod(x.shape)
        return _core.Step("function_forward", x.dtype.name, number, size, scalar, 0.0)

    def compute(self, inputs, attrs, out=None):
        given = [x for x in inputs if x is not None]
        last = any(map(is_channels_last, given))
        step, spec = prepared(self, last, inputs, attrs)
        y = target(out, spec, last and len(spec.shape) > 2, inputs)
        if step is None:
            y[...] = self.reference(*inputs, **attrs)
            return finish(out, y)
        arrays = [dense(x, last and x.ndim > 2) for x in given]
        arrays.append(dense(y, last and y.ndim > 2))
        if step is _ADD:
            _core.add(*arrays, call_threads())
        else:
            step.run(*arrays, threads=call_threads())
        return finish(out, y)

    def lower(self, lowering, node):
        step = lowering.describe(node)
        if step is _ADD:
            lowering.node(node, "add")
        elif step is None or (
            lowering.is_row_major(node.outputs[0]) and step.kind == "binary_forward"
        ):
            lowering.numpy(node)
        else:
            inputs = [x for x in lowering.operands(node) if x is not None]
            lowering.emit(step.kind, (*inputs, lowering.result(node.outputs[0])), step)

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


def _are_alike(a, b):
    return a is not None and b is not None and a.shape == b.shape


# Stands for the compiled sum of equal shapes, which has no descriptor.
_ADD = object()


def _strides(shape, ndim, last):
    """Elements from one to the next along the last `ndim` dimensions.

    0 where there is only one.
    """
    memory = memory_shape(shape) if last else shape
    in_memory = [prod(memory[i + 1 :]) for i in range(len(memory))]
    axes = range(len(shape))
    if last:
        axes = [memory_axis(i, len(shape)) for i in axes]
    own = [0 if n == 1 else in_memory[i] for n, i in zip(shape, axes, strict=True)]
    return [0] * (ndim - len(shape)) + own


def _collapsed(shape, a_stride, b_stride, last):
    """Sizes and strides in the order of memory, with as few dimensions as can be.

    None where an operand's innermost elements are apart from each other.
    """
    ndim = len(shape)
    axes = range(ndim)
    if last:
        axes = sorted(axes, key=lambda i: memory_axis(i, ndim))
    dims = []
    for n, a, b in ((shape[i], a_stride[i], b_stride[i]) for i in axes):
        if n == 1:
            continue
        if dims and dims[-1][1:] == (a * n, b * n):
            dims[-1] = (dims[-1][0] * n, a, b)
        else:
            dims.append((n, a, b))
    if len(dims) > _core.MAX_DIMENSIONS or (dims and max(dims[-1][1:]) > 1):
        return None
    dims = [(1, 0, 0)] * (2 - len(dims)) + dims
    return tuple(zip(*dims, strict=True))


def _passed(a, b, y, dy):
    return dy


ADD = register(Binary("add", operator.add, _passed, _passed))
SUB = register(Binary("sub", operator.sub, _passed, lambda a, b, y, dy: mul(dy, -1.0)))
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
