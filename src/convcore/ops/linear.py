"""Fully connected layer, and its gradients.

To the C library it is a convolution of images of one pixel.
"""

from __future__ import annotations

from math import prod

from .. import _core
from .._config import call_threads
from .base import (
    Operator,
    Spec,
    Traced,
    apply,
    as_array,
    as_optional,
    check_gradient,
    check_mask,
    check_same_dtype,
    prepared,
    register,
    spec_of,
)
from .flatten import RESHAPE
from .memory import aligned, dense, finish, optional_dense, target
from .relu import activated, undo_activation

__all__ = ["linear", "linear_backward"]


class Linear(Operator):
    """``y = activation(x @ weight.T + bias)``."""

    name = "linear"

    def infer(self, x, weight, bias=None, *, activation):
        check_same_dtype(x=x, weight=weight, bias=bias)
        if weight.ndim != 2:
            raise ValueError(
                f"weight must have 2 dimensions (out, in), not shape {weight.shape}"
            )
        if 0 in weight.shape:
            raise ValueError(f"weight must not be empty, shape {weight.shape}")
        outputs, inputs = weight.shape
        if x.shape[-1:] != (inputs,):
            raise ValueError(
                f"x must have shape (..., {inputs}) for weight of shape "
                f"{weight.shape}, not {x.shape}"
            )
        if bias is not None and bias.shape != (outputs,):
            raise ValueError(
                f"bias must have shape ({outputs},) for weight of shape "
                f"{weight.shape}, not {bias.shape}"
            )
        return Spec((*x.shape[:-1], outputs), x.dtype)

    def describe(
        self, x, weight, bias=None, *, last, precision, activation, packed=False
    ):
        return _descriptor(x, weight.shape, precision, activation, packed)

    def compute(self, inputs, attrs, out=None):
        x, weight, bias = inputs
        linear, spec = prepared(self, False, inputs, attrs)
        y = target(out, spec, False, inputs)
        linear.forward(
            dense(x), dense(weight), optional_dense(bias), None, y, call_threads()
        )
        return finish(out, y)

    def reference(self, x, weight, bias=None, *, activation):
        y = x @ weight.T
        if bias is not None:
            y = y + bias
        return activated(y, activation)

    def backward(self, node, dy):
        x, weight, bias = node.inputs
        dy = undo_activation(node, dy)
        mask = (True, bias is not None)
        return (
            apply(LINEAR_BACKWARD_DATA, dy, weight),
            *apply(LINEAR_BACKWARD_WEIGHT, dy, x, mask=mask),
        )

    def lower(self, lowering, node):
        lowering.conv_forward(node)


class LinearBackwardData(Operator):
    """``dx = dy @ weight``."""

    name = "linear_backward_data"

    def infer(self, dy, weight):
        check_same_dtype(dy=dy, weight=weight)
        if weight.ndim != 2 or dy.shape[-1:] != weight.shape[:1]:
            raise ValueError(
                f"dy of shape {dy.shape} does not fit weight of shape {weight.shape}"
            )
        return Spec((*dy.shape[:-1], weight.shape[1]), dy.dtype)

    def describe(self, dy, weight, *, last, precision):
        return _descriptor(dy, weight.shape, precision)

    def compute(self, inputs, attrs, out=None):
        dy, weight = inputs
        linear, spec = prepared(self, False, inputs, attrs)
        dx = target(out, spec, False, inputs)
        linear.backward_data(dense(dy), dense(weight), dx, call_threads())
        return finish(out, dx)

    def reference(self, dy, weight):
        return dy @ weight

    def lower(self, lowering, node):
        lowering.node(node, "conv_backward_data", lowering.describe(node))


class LinearBackwardWeight(Operator):
    """``dw = dy.T @ x`` and ``db = sum(dy)``; `mask` says which are wanted."""

    name = "linear_backward_weight"

    def infer(self, dy, x, *, mask):
        check_same_dtype(dy=dy, x=x)
        if not x.shape or not dy.shape or dy.shape[:-1] != x.shape[:-1]:
            raise ValueError(
                f"dy of shape {dy.shape} does not fit x of shape {x.shape}"
            )
        shape = (dy.shape[-1], x.shape[-1])
        return (
            Spec(shape, dy.dtype) if mask[0] else None,
            Spec(shape[:1], dy.dtype) if mask[1] else None,
        )

    def describe(self, dy, x, *, last, precision, mask):
        return _descriptor(dy, (dy.shape[-1], x.shape[-1]), precision)

    def compute(self, inputs, attrs, out=None):
        dy, x = inputs
        linear, specs = prepared(self, False, inputs, attrs)
        dw, db = (spec and aligned(*spec) for spec in specs)
        linear.backward_weight(dense(dy), dense(x), dw, db, call_threads())
        return dw, db

    def reference(self, dy, x, *, mask):
        rows = dy.reshape(prod(dy.shape[:-1]), dy.shape[-1])
        inputs = x.reshape(len(rows), x.shape[-1])
        return (
            rows.T @ inputs if mask[0] else None,
            rows.sum(0) if mask[1] else None,
        )

    def lower(self, lowering, node):
        lowering.node(node, "conv_backward_weight", lowering.describe(node))


LINEAR = register(Linear())
LINEAR_BACKWARD_DATA = register(LinearBackwardData())
LINEAR_BACKWARD_WEIGHT = register(LinearBackwardWeight())


def linear(x, weight, bias=None, *, out=None):
    """Fully connected layer: ``x @ weight.T + bias``.

    Parameters
    ----------
    x : array (..., in)
    weight : array (out, in)
    bias : array (out,), optional
    out : array, optional
        Where the result is written.

    Returns
    -------
    array (..., out)

    Raises
    ------
    ValueError
        For sizes that do not fit together.
    """
    x, weight = as_array(x, "x"), as_array(weight, "weight")
    bias = as_optional(bias, "bias")
    if isinstance(x, Traced) and x.ndim > 2:
        # In the channels-last memory of a plan x is not a matrix of rows.
        rows = apply(RESHAPE, x, shape=(-1, x.shape[-1]))
        y = linear(rows, weight, bias)
        return apply(RESHAPE, y, out=out, shape=(-1, *x.shape[1:-1], y.shape[-1]))
    return apply(LINEAR, x, weight, bias, out=out, activation=None)


def linear_backward(dy, x, weight, *, output_mask=(True, True, True)):
    """Gradients of a fully connected layer.

    Parameters
    ----------
    dy : array (..., out)
        Gradient of the result.
    x, weight
        As in the forward call.
    output_mask : three bools
        Which of the gradients to compute.

    Returns
    -------
    dx, dw, db : arrays like x, weight and bias, or None where not wanted
    """
    dy, x, weight = as_array(dy, "dy"), as_array(x, "x"), as_array(weight, "weight")
    y = LINEAR.infer(spec_of(x), spec_of(weight), activation=None)
    check_gradient(dy, y.shape)
    want_dx, *mask = check_mask(output_mask)
    dx = apply(LINEAR_BACKWARD_DATA, dy, weight) if want_dx else None
    dw = db = None
    if any(mask):
        dw, db = apply(LINEAR_BACKWARD_WEIGHT, dy, x, mask=tuple(mask))
    return dx, dw, db


def _descriptor(x, weight, precision, activation=None, packed=False):
    outputs, inputs = weight
    one, zero = (1, 1, 1), (0, 0, 0)
    return _core.Conv(
        x.dtype.name,
        "last",
        prod(x.shape[:-1]),
        inputs,
        outputs,
        1,
        one,
        one,
        one,
        zero,
        zero,
        one,
        precision=precision,
        activation=activation,
        packed=packed,
    )
