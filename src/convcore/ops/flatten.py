"""Changes of shape that keep the order of the elements."""

from __future__ import annotations

from math import prod

import numpy as np

from .base import (
    Operator,
    Spec,
    Traced,
    apply,
    as_array,
    check_dim,
    register,
    spec_of,
)
from .memory import finish, is_row_major, target
from .window import sizes

__all__ = ["flatten", "reshape"]


class Reshape(Operator):
    """Elements in row-major order of the logical shape; `shape` may hold one -1."""

    name = "reshape"

    def infer(self, x, *, shape):
        known = prod(n for n in shape if n != -1)
        size = prod(x.shape)
        if shape.count(-1) > 1:
            raise ValueError(f"shape may hold -1 once, not as in {shape}")
        if -1 in shape:
            if known == 0:
                raise ValueError(f"-1 in shape {shape} could be anything")
            shape = tuple(size // known if n == -1 else n for n in shape)
        if prod(shape) != size:
            raise ValueError(f"x of shape {x.shape} cannot have the shape {shape}")
        return Spec(shape, x.dtype)

    def compute(self, inputs, attrs, out=None):
        (x,) = inputs
        spec = self.infer(spec_of(x), **attrs)
        y = target(out, spec, False, inputs)
        np.copyto(y.reshape(x.shape), x)
        return finish(out, y)

    def reference(self, x, *, shape):
        return x.reshape(shape).copy()

    def backward(self, node, dy):
        (x,) = node.inputs
        return (apply(self, dy, shape=x.shape),)

    def lower(self, lowering, node):
        (x,), (y,) = node.inputs, node.outputs
        moves = []  # through row-major order
        if not is_row_major(x.shape):
            moves.append((x.shape[0], prod(x.shape[2:]), x.shape[1]))
        if not is_row_major(y.shape):
            moves.append((y.shape[0], y.shape[1], prod(y.shape[2:])))
        lowering.transpose(x, y, moves)


RESHAPE = register(Reshape())


def flatten(x, start_dim=0, end_dim=-1, *, out=None):
    """Merge the dimensions from `start_dim` to `end_dim` into one.

    Parameters
    ----------
    x : array
    start_dim, end_dim : int
        Negative values count from the end.
    out : array, optional
        Where the result is written.

    Returns
    -------
    array
    """
    x = as_array(x, "x")
    start = check_dim(start_dim, x.ndim, "start_dim")
    end = check_dim(end_dim, x.ndim, "end_dim")
    if start > end:
        raise ValueError(f"start_dim={start_dim} comes after end_dim={end_dim}")
    shape = (*x.shape[:start], prod(x.shape[start : end + 1]), *x.shape[end + 1 :])
    return reshape(x, shape, out=out)


def reshape(x, shape, *, out=None):
    """Give an array another shape, with the elements in row-major order.

    Parameters
    ----------
    x : array
    shape : sequence of int
        One entry may be -1: what remains.
    out : array, optional
        Where the result is written.

    Returns
    -------
    array
        A copy.
    """
    x, shape = as_array(x, "x"), sizes(shape, "shape", -1)
    if isinstance(x, Traced) and x.batched:
        shape = _any_batch(x, shape)
    return apply(RESHAPE, x, out=out, shape=shape)


def regroup(x, shape):
    """Reshape for use inside a function: of an array a view, where that can be.

    In a network the first dimension may be some multiple of the batch.
    """
    if isinstance(x, np.ndarray):
        return x.reshape(shape)
    if isinstance(x, Traced) and x.batched:
        shape = (-1, *shape[1:])
    return apply(RESHAPE, x, shape=shape)


def _any_batch(x, shape):
    """The same shape for any batch: its first dimension left open."""
    first, *others = RESHAPE.infer(spec_of(x), shape=shape).shape
    if first != x.shape[0]:
        raise ValueError(
            f"shape {shape} changes the first dimension, the batch, of a traced value"
        )
    return (-1, *others)
