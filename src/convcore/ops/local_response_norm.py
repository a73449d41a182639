"""Local response normalisation, and its gradient."""

from __future__ import annotations

from math import prod

import numpy as np

from .. import _core
from .._config import call_threads
from .base import (
    Operator,
    apply,
    as_array,
    call,
    check_same_shape,
    prepared,
    register,
)
from .memory import dense, empty, finish
from .window import integer

__all__ = ["local_response_norm", "local_response_norm_backward"]


class LocalResponseNorm(Operator):
    """``y = x (k + alpha / size * sum of the neighbours' squares)**-beta``."""

    name = "local_response_norm"

    def infer(self, x, *, size, alpha, beta, k):
        if x.ndim < 3:
            raise ValueError(
                f"x must have at least 3 dimensions (N, C, space), not {x.shape}"
            )
        return x

    def describe(self, x, *, last, precision, **attrs):
        return _descriptor(x, **attrs)

    def compute(self, inputs, attrs, out=None):
        (x,) = inputs
        norm, spec = prepared(self, True, inputs, attrs)
        y = empty(*spec, True)  # channels-last is what the C library computes
        norm.forward(dense(x, True), dense(y, True), call_threads())
        return _like(x, y) if out is None else finish(out, y)

    def reference(self, x, *, size, alpha, beta, k):
        divisor = k + alpha / size * _window_sum(x * x, size // 2, (size - 1) // 2)
        return (x * divisor**-beta).astype(x.dtype, copy=False)

    def backward(self, node, dy):
        return (apply(LOCAL_RESPONSE_NORM_BACKWARD, dy, *node.inputs, **node.attrs),)

    def lower(self, lowering, node):
        lowering.node(node, "lrn_forward", lowering.describe(node))


class LocalResponseNormBackward(Operator):
    """``dx`` from ``dy`` and ``x``."""

    name = "local_response_norm_backward"

    def infer(self, dy, x, *, size, alpha, beta, k):
        check_same_shape(dy=dy, x=x)
        return x

    def describe(self, dy, x, *, last, precision, **attrs):
        return _descriptor(x, **attrs)

    def compute(self, inputs, attrs, out=None):
        dy, x = inputs
        norm, spec = prepared(self, True, inputs, attrs)
        dx = empty(*spec, True)
        norm.backward(dense(dy, True), dense(x, True), dense(dx, True), call_threads())
        return _like(x, dx) if out is None else finish(out, dx)

    def reference(self, dy, x, *, size, alpha, beta, k):
        before, after = size // 2, (size - 1) // 2
        divisor = k + alpha / size * _window_sum(x * x, before, after)
        terms = _window_sum(dy * x * divisor ** (-beta - 1), after, before)
        dx = dy * divisor**-beta - 2 * alpha * beta / size * x * terms
        return dx.astype(x.dtype, copy=False)

    def lower(self, lowering, node):
        lowering.node(node, "lrn_backward", lowering.describe(node))


LOCAL_RESPONSE_NORM = register(LocalResponseNorm())
LOCAL_RESPONSE_NORM_BACKWARD = register(LocalResponseNormBackward())


def local_response_norm(x, size, alpha=1e-4, beta=0.75, k=1.0, *, out=None):
    """Divide each element by what its neighbours along the channels say.

    ``x * (k + alpha / size * s)**-beta``, where s is the sum of the squares of
    the `size` channels around the element's.

    Parameters
    ----------
    x : array (N, C, space)
    size : int
        Of an even number one more lies before than after.
    alpha, beta, k : float
    out : array, optional
        Where the result is written.

    Returns
    -------
    array like x

    References
    ----------
    A. Krizhevsky, I. Sutskever, G. Hinton, "ImageNet classification with deep
    convolutional neural networks", NIPS 2012.
    """
    return call(
        LOCAL_RESPONSE_NORM, (as_array(x, "x"),), _attributes(size, alpha, beta, k), out
    )


def local_response_norm_backward(dy, x, size, alpha=1e-4, beta=0.75, k=1.0):
    """Gradient of local response normalisation.

    Parameters
    ----------
    dy : array like x
        Gradient of the result.
    x, size, alpha, beta, k
        As in the forward call.

    Returns
    -------
    array like x
    """
    attrs = _attributes(size, alpha, beta, k)
    inputs = as_array(dy, "dy"), as_array(x, "x")
    return apply(LOCAL_RESPONSE_NORM_BACKWARD, *inputs, **attrs)


def _attributes(size, alpha, beta, k):
    return {
        "size": integer(size, "size", 1),
        "alpha": float(alpha),
        "beta": float(beta),
        "k": float(k),
    }


def _descriptor(x, *, size, alpha, beta, k):
    n, c, *space = x.shape
    dtype = x.dtype.name
    return _core.LocalResponseNorm(dtype, n * prod(space), c, size, alpha, beta, k)


def _like(x, y):
    """y in the memory order of x, where that is channels first."""
    return np.ascontiguousarray(y) if x.flags.c_contiguous else y


def _window_sum(x, before, after):
    """Sum over the channels from `before` before to `after` after each."""
    channels = x.shape[1]
    space = ((0, 0),) * (x.ndim - 2)
    padded = np.pad(x, ((0, 0), (before, after), *space))
    return sum(padded[:, t : t + channels] for t in range(before + after + 1))
