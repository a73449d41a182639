"""Joining tensors along a dimension, and taking a part of one."""

from __future__ import annotations

from itertools import accumulate
from math import prod

import numpy as np

from .base import (
    Operator,
    Spec,
    apply,
    as_array,
    check_dim,
    check_same_dtype,
    register,
    spec_of,
)
from .memory import finish, is_channels_last, memory_axis, memory_shape, target
from .padding import PAD

__all__ = ["cat"]


class Cat(Operator):
    """Join along dimension `dim` >= 0."""

    name = "cat"

    def infer(self, *specs, dim):
        named = {f"tensors[{i}]": spec for i, spec in enumerate(specs)}
        check_same_dtype(**named)
        first = specs[0].shape
        for name, spec in named.items():
            if _without(spec.shape, dim) != _without(first, dim):
                raise ValueError(
                    f"{name} of shape {spec.shape} does not fit tensors[0] of shape "
                    f"{first}: all dimensions but dim={dim} must be equal"
                )
        total = sum(spec.shape[dim] for spec in specs)
        return Spec((*first[:dim], total, *first[dim + 1 :]), specs[0].dtype)

    def compute(self, inputs, attrs, out=None):
        spec = self.infer(*map(spec_of, inputs), **attrs)
        y = target(out, spec, any(map(is_channels_last, inputs)), inputs)
        np.concatenate(inputs, axis=attrs["dim"], out=y)
        return finish(out, y)

    def reference(self, *arrays, dim):
        return np.concatenate(arrays, axis=dim)

    def backward(self, node, dy):
        dim = node.attrs["dim"]
        return tuple(
            apply(NARROW, dy, dim=dim, start=start, length=x.shape[dim])
            for x, start in zip(node.inputs, starts(node), strict=True)
        )

    def lower(self, lowering, node):
        (y,), dim = node.outputs, node.attrs["dim"]
        whole = lowering.whole(y)
        for x, start in zip(node.inputs, starts(node), strict=True):
            if lowering.is_part(x):
                continue
            length = x.shape[dim]
            offset, rows, columns, stride, size = _part(y.shape, dim, start, length)
            part = lowering.part(whole, offset, size)
            lowering.emit(
                "copy", (lowering.operand(x), part), (rows, columns, columns, stride)
            )


class Narrow(Operator):
    """The part ``start : start + length`` of dimension `dim`."""

    name = "narrow"

    def infer(self, x, *, dim, start, length):
        if not (0 <= dim < x.ndim and 0 <= start <= start + length <= x.shape[dim]):
            raise ValueError(
                f"x of shape {x.shape} has no {start}:{start + length} in dim={dim}"
            )
        return Spec((*x.shape[:dim], length, *x.shape[dim + 1 :]), x.dtype)

    def compute(self, inputs, attrs, out=None):
        self.infer(*map(spec_of, inputs), **attrs)
        return finish(out, self.reference(*inputs, **attrs))

    def reference(self, x, *, dim, start, length):
        part = slice(start, start + length)
        return x[(slice(None),) * dim + (part,)].copy(order="K")

    def backward(self, node, dy):
        (x,), dim, start = node.inputs, node.attrs["dim"], node.attrs["start"]
        after = x.shape[dim] - start - dy.shape[dim]
        around = [(0, 0)] * dim + [(start, after)] + [(0, 0)] * (x.ndim - dim - 1)
        return (apply(PAD, dy, pad=tuple(around), mode="constant", value=0.0),)

    def lower(self, lowering, node):
        (x,), (y,) = node.inputs, node.outputs
        offset, rows, columns, stride, size = _part(x.shape, **node.attrs)
        part = lowering.part(lowering.operand(x), offset, size)
        lowering.emit(
            "copy", (part, lowering.result(y)), (rows, columns, stride, columns)
        )


CAT = register(Cat())
NARROW = register(Narrow())


def cat(tensors, dim=0, *, out=None):
    """Join arrays along a dimension.

    Parameters
    ----------
    tensors : sequence of arrays
        Equal in dtype and in all dimensions but `dim`.
    dim : int
        Negative values count from the end.
    out : array, optional
        Where the result is written.

    Returns
    -------
    array

    Raises
    ------
    ValueError
        For shapes that do not fit, or no tensors.
    """
    arrays = [as_array(x, f"tensors[{i}]") for i, x in enumerate(tensors)]
    if not arrays:
        raise ValueError("tensors is empty")
    return apply(CAT, *arrays, out=out, dim=check_dim(dim, arrays[0].ndim, "dim"))


def _without(shape, dim):
    return shape[:dim], shape[dim + 1 :]


def starts(node):
    """Where each input of a `cat` node begins."""
    dim = node.attrs["dim"]
    *starts, _ = accumulate((x.shape[dim] for x in node.inputs), initial=0)
    return starts


def _part(shape, dim, start, length):
    """A part of a tensor as rows in its memory: offset, rows, columns, stride, size."""
    memory, axis = memory_shape(shape), memory_axis(dim, len(shape))
    rows, inner = prod(memory[:axis]), prod(memory[axis + 1 :])
    columns, stride = length * inner, shape[dim] * inner
    if 0 in (rows, columns):
        return 0, 0, 0, stride, 0
    return start * inner, rows, columns, stride, (rows - 1) * stride + columns
