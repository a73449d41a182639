"""Rectified linear unit, and its gradient."""

from __future__ import annotations

import numpy as np

from .. import _core
from .._config import call_threads
from .base import (
    OPERATORS,
    Operator,
    apply,
    as_array,
    check_same_shape,
    register,
    spec_of,
)
from .memory import dense, finish, is_channels_last, target

__all__ = ["relu"]


class Relu(Operator):
    """``y = max(x, 0)``; NaN stays NaN."""

    name = "relu"

    def infer(self, x):
        return x

    def compute(self, inputs, attrs, out=None):
        (x,) = inputs
        last = is_channels_last(x)
        y = target(out, spec_of(x), last, inputs)
        _core.relu_forward(dense(x, last), dense(y, last), call_threads())
        return finish(out, y)

    def reference(self, x):
        return np.maximum(x, 0)

    def backward(self, node, dy):
        return (apply(RELU_BACKWARD, dy, node.outputs[0]),)

    def lower(self, lowering, node):
        lowering.node(node, "relu_forward")


class ReluBackward(Operator):
    """``dx = dy`` where ``y > 0``, else 0; y is the result of the forward call."""

    name = "relu_backward"

    def infer(self, dy, y):
        check_same_shape(dy=dy, y=y)
        return dy

    def compute(self, inputs, attrs, out=None):
        dy, y = inputs
        last = is_channels_last(dy)
        dx = target(out, self.infer(*map(spec_of, inputs)), last, inputs)
        _core.relu_backward(
            dense(dy, last), dense(y, last), dense(dx, last), call_threads()
        )
        return finish(out, dx)

    def reference(self, dy, y):
        return np.where(y > 0, dy, dy.dtype.type(0))

    def lower(self, lowering, node):
        lowering.node(node, "relu_backward")


RELU = register(Relu())
RELU_BACKWARD = register(ReluBackward())


def relu(x, *, out=None):
    """Rectified linear unit: ``max(x, 0)`` of each element.

    Parameters
    ----------
    x : array
        Any shape; NaN stays NaN.
    out : array, optional
        Where the result is written.

    Returns
    -------
    array like x
    """
    return apply(RELU, as_array(x, "x"), out=out)


ACTIVATIONS = (None, "relu", "relu6")  # that other operators can apply


def activated(y, activation):
    """The definition of an activation that is part of another operator."""
    if activation is None:
        return y
    y = np.maximum(y, 0)
    return np.minimum(y, 6) if activation == "relu6" else y


def undo_activation(node, dy):
    """Gradient of what a node applied its fused activation to."""
    activation = node.attrs["activation"]
    if activation is None:
        return dy
    # Of both the gradient follows from the result.
    return apply(OPERATORS[f"{activation}_backward"], dy, node.outputs[0])
