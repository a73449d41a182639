"""Elements of planes by position: unpooling, and the gradients of max pooling."""

from __future__ import annotations

from math import prod

import numpy as np

from .base import (
    INT64,
    Operator,
    Spec,
    add_batch,
    apply,
    as_array,
    as_index_array,
    named,
    register,
)
from .window import per_axis, sizes

__all__ = ["max_unpool1d", "max_unpool2d", "max_unpool3d"]


class Gather(Operator):
    """The elements of x[n][c][plane] at `indices`, positions in the plane."""

    name = "gather"

    def infer(self, x, indices):
        return Spec(indices.shape, x.dtype)

    def reference(self, x, indices):
        n, c, *space = indices.shape
        flat = x.reshape(n, c, prod(x.shape[2:]))
        taken = np.take_along_axis(flat, indices.reshape(n, c, prod(space)), 2)
        return taken.reshape(indices.shape)

    def backward(self, node, dy):
        x, indices = node.inputs
        return apply(SCATTER_ADD, dy, indices, size=x.shape[2:]), None


class Scatter(Operator):
    """Planes of zeros, of `size`, but x at `indices`: the last of several."""

    name = "scatter"

    def infer(self, x, indices, *, size):
        if indices.dtype != INT64:
            raise TypeError(f"indices has dtype {indices.dtype}, expected int64")
        if indices.shape != x.shape:
            raise ValueError(
                f"indices must have the shape of x, {x.shape}, not {indices.shape}"
            )
        return Spec((*x.shape[:2], *size), x.dtype)

    def reference(self, x, indices, *, size):
        y, where, values = _planes(x, indices, size)
        y[where] = values
        return y.reshape(*x.shape[:2], *size)

    def backward(self, node, dy):
        return apply(GATHER, dy, node.inputs[1]), None


class ScatterAdd(Scatter):
    """Planes of zeros, of `size`, to which x is added at `indices`."""

    name = "scatter_add"

    def reference(self, x, indices, *, size):
        y, where, values = _planes(x, indices, size)
        np.add.at(y, where, values)
        return y.reshape(*x.shape[:2], *size)

    def backward(self, node, dy):
        return apply(GATHER, dy, node.inputs[1]), None


GATHER = register(Gather())
SCATTER = register(Scatter())
SCATTER_ADD = register(ScatterAdd())


def _planes(x, indices, size):
    """Zeros [n][c][plane], where in them x goes, and x as [n][c][position]."""
    n, c, *space = x.shape
    outside = (indices < 0) | (indices >= prod(size))
    if outside.any():
        raise ValueError(
            f"indices holds {indices[outside][0]}, expected 0 to {prod(size) - 1} for "
            f"a plane of size {tuple(size)}"
        )
    image, channel, _ = np.ogrid[:n, :c, :1]
    where = image, channel, indices.reshape(n, c, prod(space))
    return np.zeros((n, c, prod(size)), x.dtype), where, x.reshape(where[2].shape)


def _make_max_unpool(axes: int):
    def max_unpool(x, indices, kernel_size, stride=None, padding=0, output_size=None):
        """Put maxima back where max pooling found them, with zeros elsewhere.

        Parameters
        ----------
        x : array (N, C, {out}) or (C, {out})
            The maxima.
        indices : int64 array like x
            Their positions in the plane {space}, as max pooling gives them.
        kernel_size, stride, padding
            Those of the pooling.
        output_size : tuple, optional
            Shape of the result, or its space; needed where the pooling has left
            elements out.

        Returns
        -------
        array (N, C, {space}) or (C, {space})
        """
        x, one = add_batch(as_array(x, "x"), axes)
        indices, _ = add_batch(as_index_array(indices, "indices"), axes, "indices")
        kernel = per_axis(kernel_size, axes, "kernel_size", 1)
        stride = kernel if stride is None else per_axis(stride, axes, "stride", 1)
        padding = per_axis(padding, axes, "padding", 0)
        if 0 in x.shape[1:]:
            raise ValueError(f"x of shape {x.shape} may be empty in N only")
        smallest = [
            (n - 1) * s - 2 * p + k
            for n, s, p, k in zip(x.shape[2:], stride, padding, kernel, strict=True)
        ]
        size = _size(output_size, smallest, stride)
        y = apply(SCATTER, x, indices, size=size)
        return y[0] if one else y

    return named(max_unpool, f"max_unpool{axes}d", axes)


max_unpool1d, max_unpool2d, max_unpool3d = map(_make_max_unpool, (1, 2, 3))


def _size(output_size, default, stride):
    """Space of the result, which is less than a stride from the default."""
    if output_size is None:
        return tuple(default)
    given = sizes(output_size, "output_size", 1)
    size = given[-len(default) :]
    if len(given) not in (len(default), len(default) + 1, len(default) + 2) or any(
        abs(n - d) >= s for n, d, s in zip(size, default, stride, strict=True)
    ):
        raise ValueError(
            f"output_size {given} must be less than stride {stride} from "
            f"{tuple(default)}"
        )
    return size
