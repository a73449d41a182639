"""Rectified linear unit whose slope is learned."""

from __future__ import annotations

import numpy as np

from .base import (
    Operator,
    apply,
    as_array,
    check_same_dtype,
    check_same_shape,
    register,
)

__all__ = ["prelu"]


class Prelu(Operator):
    """``y = x`` where positive, else ``weight[c] * x``, or ``weight[0] * x``."""

    name = "prelu"

    def infer(self, x, weight):
        check_same_dtype(x=x, weight=weight)
        channels = x.shape[1] if x.ndim > 1 else 1
        if weight.shape not in ((), (1,), (channels,)):
            raise ValueError(
                f"weight must have shape (1,) or ({channels},) for x of shape "
                f"{x.shape}, not {weight.shape}"
            )
        return x

    def reference(self, x, weight):
        return np.where(x > 0, x, _by_channel(weight, x) * x)

    def backward(self, node, dy):
        return apply(PRELU_BACKWARD, dy, *node.inputs)


class PreluBackward(Operator):
    """``(dx, dweight)``."""

    name = "prelu_backward"

    def infer(self, dy, x, weight):
        check_same_shape(dy=dy, x=x)
        return x, weight

    def reference(self, dy, x, weight):
        dx = np.where(x > 0, dy, _by_channel(weight, x) * dy)
        terms = np.where(x > 0, 0, dy * x)
        if weight.size == 1:
            return dx, terms.sum().reshape(weight.shape)
        return dx, terms.sum((0, *range(2, x.ndim)))


PRELU = register(Prelu())
PRELU_BACKWARD = register(PreluBackward())


def prelu(x, weight, *, out=None):
    """Rectified linear unit with a learned slope (He et al., 2015).

    Parameters
    ----------
    x : array (N, C, ...)
    weight : array (C,) or (1,)
        What negative elements are multiplied by.
    out : array, optional
        Where the result is written.

    Returns
    -------
    array like x
    """
    return apply(PRELU, as_array(x, "x"), as_array(weight, "weight"), out=out)


def _by_channel(weight, x):
    if weight.size == 1:
        return weight.reshape(())
    return weight.reshape(-1, *(1,) * (x.ndim - 2))
