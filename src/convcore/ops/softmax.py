"""Softmax and its logarithm along a dimension, and their gradients."""

from __future__ import annotations

from math import prod

import numpy as np

from .. import _core
from .base import apply, as_array, check_dim, check_same_shape, register
from .compiled import Compiled
from .memory import memory_axis, memory_shape

__all__ = ["log_softmax", "log_softmax_backward", "softmax", "softmax_backward"]


class Softmax(Compiled):
    """``y = exp(x) / sum(exp(x))`` along `dim`."""

    name = "softmax"

    def infer(self, x, *, dim):
        return x

    def describe(self, x, *, last, precision, dim):
        return _describe("softmax_forward", self.name, x, last, dim)

    def reference(self, x, *, dim):
        if x.size == 0:
            return x.copy()
        axis = dim if x.ndim else None
        e = np.exp(x - x.max(axis, keepdims=True))
        return e / e.sum(axis, keepdims=True)

    def backward(self, node, dy):
        (y,) = node.outputs
        return (apply(SOFTMAX_BACKWARD, dy, y, **node.attrs),)


class LogSoftmax(Softmax):
    """``y = x - log(sum(exp(x)))`` along `dim`."""

    name = "log_softmax"

    def reference(self, x, *, dim):
        if x.size == 0:
            return x.copy()
        axis = dim if x.ndim else None
        shifted = x - x.max(axis, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))

    def backward(self, node, dy):
        (y,) = node.outputs
        return (apply(LOG_SOFTMAX_BACKWARD, dy, y, **node.attrs),)


class SoftmaxBackward(Compiled):
    """``dx = y (dy - sum(y dy))``; y is the result of the forward call."""

    name = "softmax_backward"

    def infer(self, dy, y, *, dim):
        check_same_shape(dy=dy, y=y)
        return dy

    def describe(self, dy, y, *, last, precision, dim):
        return _describe("softmax_backward", self.name, dy, last, dim)

    def reference(self, dy, y, *, dim):
        axis = dim if dy.ndim else None
        return y * (dy - (y * dy).sum(axis, keepdims=True))


class LogSoftmaxBackward(SoftmaxBackward):
    """``dx = dy - exp(y) sum(dy)``; y is the result of the forward call."""

    name = "log_softmax_backward"

    def reference(self, dy, y, *, dim):
        axis = dim if dy.ndim else None
        return dy - np.exp(y) * dy.sum(axis, keepdims=True)


def _describe(kind, name, x, last, dim):
    """Softmax along the middle one of three dimensions of the memory."""
    shape = memory_shape(x.shape) if last else x.shape
    axis = memory_axis(dim, x.ndim) if last else dim
    length = shape[axis] if shape else 1
    outer, inner = prod(shape[:axis]), prod(shape[axis + 1 :])
    logarithm = name.startswith("log")
    return _core.Step(kind, x.dtype.name, logarithm, outer, length, inner)


SOFTMAX = register(Softmax())
LOG_SOFTMAX = register(LogSoftmax())
SOFTMAX_BACKWARD = register(SoftmaxBackward())
LOG_SOFTMAX_BACKWARD = register(LogSoftmaxBackward())


def softmax(x, dim, *, out=None):
    """``exp(x) / sum(exp(x))`` along a dimension.

    Parameters
    ----------
    x : array
    dim : int
        Negative values count from the end.
    out : array, optional
        Where the result is written.

    Returns
    -------
    array like x
    """
    x = as_array(x, "x")
    return apply(SOFTMAX, x, out=out, dim=_dim(x, dim))


def log_softmax(x, dim, *, out=None):
    """``x - log(sum(exp(x)))`` along a dimension: the logarithm of `softmax`.

    Parameters
    ----------
    x : array
    dim : int
        Negative values count from the end.
    out : array, optional
        Where the result is written.

    Returns
    -------
    array like x
    """
    x = as_array(x, "x")
    return apply(LOG_SOFTMAX, x, out=out, dim=_dim(x, dim))


def softmax_backward(dy, x, dim):
    """Gradient of `softmax`.

    Parameters
    ----------
    dy : array like x
        Gradient of the result.
    x, dim
        As in the forward call.

    Returns
    -------
    array like x
    """
    dy, x = as_array(dy, "dy"), as_array(x, "x")
    dim = _dim(x, dim)
    return apply(SOFTMAX_BACKWARD, dy, apply(SOFTMAX, x, dim=dim), dim=dim)


def log_softmax_backward(dy, x, dim):
    """Gradient of `log_softmax`.

    Parameters
    ----------
    dy : array like x
        Gradient of the result.
    x, dim
        As in the forward call.

    Returns
    -------
    array like x
    """
    dy, x = as_array(dy, "dy"), as_array(x, "x")
    dim = _dim(x, dim)
    return apply(LOG_SOFTMAX_BACKWARD, dy, apply(LOG_SOFTMAX, x, dim=dim), dim=dim)


def _dim(x, dim):
    """The dimension >= 0; a scalar has a dimension 0 too, as in torch."""
    return check_dim(dim, max(x.ndim, 1), "dim")
