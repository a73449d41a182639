"""Parts of tensors: slicing, splitting, and dimensions of length 1."""

from __future__ import annotations

import operator
from itertools import accumulate

import numpy as np

from .base import Operator, Spec, Traced, apply, as_array, check_dim, register
from .cat import NARROW
from .flatten import reshape
from .window import integer, sizes

__all__ = ["chunk", "narrow", "split", "squeeze", "unsqueeze"]


class Slice(Operator):
    """Every `step`-th of the elements ``start : stop`` of dimension `dim`."""

    name = "slice"

    def infer(self, x, *, dim, start, stop, step):
        length = len(range(start, stop, step))
        return Spec((*x.shape[:dim], length, *x.shape[dim + 1 :]), x.dtype)

    def reference(self, x, *, dim, start, stop, step):
        return x[_place(dim, start, stop, step)].copy(order="K")

    def backward(self, node, dy):
        (x,) = node.inputs
        return (
            apply(SLICE_BACKWARD, dy, size=x.shape[node.attrs["dim"]], **node.attrs),
        )


class SliceBackward(Operator):
    """Zeros of length `size` along `dim`, but dy where the slice was."""

    name = "slice_backward"

    def infer(self, dy, *, size, dim, start, stop, step):
        return Spec((*dy.shape[:dim], size, *dy.shape[dim + 1 :]), dy.dtype)

    def reference(self, dy, *, size, dim, **place):
        dx = np.zeros((*dy.shape[:dim], size, *dy.shape[dim + 1 :]), dy.dtype)
        dx[_place(dim, **place)] = dy
        return dx


SLICE = register(Slice())
SLICE_BACKWARD = register(SliceBackward())


def _place(dim, start, stop, step):
    part = slice(start, stop if stop >= 0 else None, step)
    return (slice(None),) * dim + (part,)


def index(x, key):
    """``x[key]`` of a traced value: ints, slices, None and ... ."""
    entries = list(key) if isinstance(key, tuple) else [key]
    used = sum(entry is not None and entry is not ... for entry in entries)
    if used > x.ndim or sum(entry is ... for entry in entries) > 1:
        raise IndexError(f"too many indices for shape {x.shape}: {key!r}")
    where = next((i for i, e in enumerate(entries) if e is ...), len(entries))
    entries[where : where + 1] = [slice(None)] * (x.ndim - used)
    shape, dim = [], 0
    for entry in entries:
        if entry is None:
            shape.append(1)
            continue
        if isinstance(entry, slice):
            start, stop, step = entry.indices(x.shape[dim])
            if x.batched and dim == 0 and (start, stop, step) != (0, x.shape[0], 1):
                raise IndexError("the batch of a traced value has no known size")
            x = _sliced(x, dim, start, stop, step)
            shape.append(x.shape[dim])
        elif hasattr(entry, "__index__"):
            if x.batched and dim == 0:
                raise IndexError("the batch of a traced value has no known size")
            i = operator.index(entry)
            size = x.shape[dim]
            if not -size <= i < size:
                raise IndexError(f"index {i} is out of range for shape {x.shape}")
            x = _sliced(x, dim, i % size, i % size + 1, 1)
        else:
            raise TypeError(f"a traced value has no elements to index by {entry!r}")
        dim += 1
    return x if tuple(shape) == x.shape else reshape(x, shape)


def _sliced(x, dim, start, stop, step):
    length = len(range(start, stop, step))
    if (start, length, step) == (0, x.shape[dim], 1):
        return x
    if step == 1:
        return apply(NARROW, x, dim=dim, start=start, length=length)
    return apply(SLICE, x, dim=dim, start=start, stop=stop, step=step)


def narrow(x, dim, start, length, *, out=None):
    """The part ``start : start + length`` of a dimension.

    Parameters
    ----------
    x : array
    dim : int
    start, length : int
        A negative start counts from the end.
    out : array, optional
        Where the result is written.

    Returns
    -------
    array
        A copy.
    """
    x = as_array(x, "x")
    dim = check_dim(dim, x.ndim, "dim")
    start = integer(start, "start", -x.shape[dim])
    start += x.shape[dim] if start < 0 else 0
    length = integer(length, "length", 0)
    if isinstance(x, Traced) and x.batched and dim == 0:
        raise ValueError("the batch of a traced value has no known size")
    return apply(NARROW, x, out=out, dim=dim, start=start, length=length)


def split(x, split_size_or_sections, dim=0):
    """Split into parts of a length, or of several lengths.

    Parameters
    ----------
    x : array
    split_size_or_sections : int or sequence of int
        The length of every part (the last may be shorter), or of each.
    dim : int

    Returns
    -------
    tuple of arrays
        Copies.
    """
    x = as_array(x, "x")
    dim = check_dim(dim, x.ndim, "dim")
    size = x.shape[dim]
    if hasattr(split_size_or_sections, "__iter__"):
        lengths = sizes(split_size_or_sections, "split_size_or_sections")
        if sum(lengths) != size:
            raise ValueError(
                f"split_size_or_sections {lengths} must add up to {size}, the length "
                f"of dim={dim} of x of shape {x.shape}"
            )
    else:
        length = integer(split_size_or_sections, "split_size_or_sections", 1)
        starts = range(0, max(size, 1), length)
        lengths = [min(length, size - start) for start in starts]
    starts = accumulate(lengths, initial=0)
    return tuple(
        narrow(x, dim, start, length)
        for start, length in zip(starts, lengths, strict=False)
    )


def chunk(x, chunks, dim=0):
    """Split into a number of parts of one length; the last may be shorter.

    Parameters
    ----------
    x : array
    chunks : int
    dim : int

    Returns
    -------
    tuple of arrays
        Copies; fewer than `chunks` where the length runs out.
    """
    x, chunks = as_array(x, "x"), integer(chunks, "chunks", 1)
    size = x.shape[check_dim(dim, x.ndim, "dim")]
    return split(x, max(1, -(-size // chunks)), dim)


def squeeze(x, dim=None, *, out=None):
    """Leave out dimensions of length 1.

    Parameters
    ----------
    x : array
    dim : int or sequence of int, optional
        Where, if the length is 1; all of them when not given.
    out : array, optional
        Where the result is written.

    Returns
    -------
    array
        A copy.
    """
    x = as_array(x, "x")
    first = 1 if isinstance(x, Traced) and x.batched else 0
    given = range(first, x.ndim) if dim is None else dim
    given = given if hasattr(given, "__iter__") else (given,)
    dims = {check_dim(d, x.ndim, "dim") for d in given}
    shape = [n for i, n in enumerate(x.shape) if n != 1 or i not in dims]
    return reshape(x, shape, out=out)


def unsqueeze(x, dim, *, out=None):
    """Insert a dimension of length 1.

    Parameters
    ----------
    x : array
    dim : int
        Where it will be.
    out : array, optional
        Where the result is written.

    Returns
    -------
    array
        A copy.
    """
    x = as_array(x, "x")
    dim = check_dim(dim, x.ndim + 1, "dim")
    return reshape(x, (*x.shape[:dim], 1, *x.shape[dim:]), out=out)
