"""Sum, mean and largest element along dimensions."""

from __future__ import annotations

from math import prod

import numpy as np

from .base import (
    Operator,
    Spec,
    apply,
    as_array,
    check_dim,
    check_gradient,
    register,
)
from .flatten import RESHAPE

__all__ = ["amax", "mean", "sum"]


class Reduce(Operator):
    """One element for all those along the dimensions `dim`."""

    def __init__(self, name, function):
        self.name = name
        self._function = function

    def infer(self, x, *, dim, keepdim):
        if self.name == "amax" and any(x.shape[i] == 0 for i in dim):
            raise ValueError(f"x of shape {x.shape} has no element along dim={dim}")
        return Spec(_reduced(x.shape, dim, keepdim), x.dtype)

    def reference(self, x, *, dim, keepdim):
        with np.errstate(invalid="ignore", divide="ignore"):
            result = self._function(x, axis=dim, keepdims=keepdim)
        return np.array(result) if result is x else np.asarray(result)

    def backward(self, node, dy):
        (x,), dim = node.inputs, node.attrs["dim"]
        kept = _reduced(x.shape, dim, True)
        dy = apply(RESHAPE, dy, shape=kept)
        if self.name == "amax":
            y = apply(RESHAPE, node.outputs[0], shape=kept)
            return (apply(AMAX_BACKWARD, dy, x, y, dim=dim),)
        count = prod(x.shape[i] for i in dim) if self.name == "mean" else 1
        return (apply(EXPAND, dy, shape=x.shape, divisor=count),)


class Expand(Operator):
    """Repeat along the dimensions of length 1, and divide."""

    name = "expand"

    def infer(self, x, *, shape, divisor):
        return Spec(shape, x.dtype)

    def reference(self, x, *, shape, divisor):
        return np.broadcast_to(x / x.dtype.type(divisor or 1), shape).copy()

    def backward(self, node, dy):
        (x,), divisor = node.inputs, node.attrs["divisor"]
        dims = [i for i, n in enumerate(x.shape) if n != dy.shape[i]]
        dx = apply(REDUCE["sum"], dy, dim=tuple(dims), keepdim=True)
        return (apply(EXPAND, dx, shape=x.shape, divisor=divisor),)


class AmaxBackward(Operator):
    """``dx``: dy shared equally by the elements that are the largest."""

    name = "amax_backward"

    def infer(self, dy, x, y, *, dim):
        check_gradient(dy, y.shape)
        return x

    def reference(self, dy, x, y, *, dim):
        largest = x == y
        return largest * (dy / largest.sum(dim, keepdims=True).astype(dy.dtype))


REDUCE = {
    name: register(Reduce(name, function))
    for name, function in (("sum", np.sum), ("mean", np.mean), ("amax", np.max))
}
EXPAND = register(Expand())
AMAX_BACKWARD = register(AmaxBackward())


def _make(name, what):
    def reduce(x, dim=None, keepdim=False, *, out=None):
        x = as_array(x, "x")
        attrs = {"dim": _dims(dim, x.ndim), "keepdim": bool(keepdim)}
        return apply(REDUCE[name], x, out=out, **attrs)

    reduce.__name__ = reduce.__qualname__ = name
    reduce.__doc__ = f"""{what} along dimensions.

        Parameters
        ----------
        x : array
        dim : int or tuple of int, optional
            All dimensions when not given; negative values count from the end.
        keepdim : bool
            Keep the dimensions, with length 1.
        out : array, optional
            Where the result is written.

        Returns
        -------
        array
        """
    return reduce


sum = _make("sum", "Sum of the elements")
mean = _make("mean", "Mean of the elements")
amax = _make("amax", "Largest of the elements, NaN if there is one,")


def _dims(dim, ndim):
    """Dimensions as sorted indices >= 0."""
    if dim is None:
        return tuple(range(ndim))
    given = tuple(dim) if hasattr(dim, "__iter__") else (dim,)
    dims = [check_dim(d, ndim, "dim") for d in given]
    if len(set(dims)) < len(dims):
        raise ValueError(f"dim={dim} names a dimension twice")
    return tuple(sorted(dims)) if dims else tuple(range(ndim))


def _reduced(shape, dim, keepdim):
    return tuple(
        1 if i in dim else n for i, n in enumerate(shape) if keepdim or i not in dim
    )
