"""Memory order of arrays: channels first or last, dense views, results.

Compiled code takes dense arrays. An array (N, C, space) whose memory is
channels-last is passed as its (N, space, C) view; what is dense in neither
order is copied to channels first.
"""

from __future__ import annotations

from math import prod

import numpy as np

from .._core import empty_aligned
from .._core import is_channels_last as is_channels_last
from .base import Spec, check_out

_TO_LAST = {n: (0, *range(2, n), 1) for n in range(2, 33)}
_TO_FIRST = {n: (0, n - 1, *range(1, n - 1)) for n in range(2, 33)}


def channels_last(x: np.ndarray) -> np.ndarray:
    """Copy an array (N, C, space) into channels-last memory.

    The shape stays (N, C, space); an array that already is channels-last is
    returned as it is.
    """
    if not isinstance(x, np.ndarray):
        raise TypeError(f"x must be a NumPy array, not {type(x).__name__}")
    if x.ndim not in (3, 4, 5):
        raise ValueError(f"x must have 3, 4 or 5 dimensions, not shape {x.shape}")
    return np.ascontiguousarray(x.transpose(_TO_LAST[x.ndim])).transpose(
        _TO_FIRST[x.ndim]
    )


def dense(x: np.ndarray, last: bool = False) -> np.ndarray:
    """Aligned C-contiguous array with the elements of `x` in memory order.

    A view where possible; with `last` its shape is (N, space, C).
    """
    if last:
        x = x.transpose(_TO_LAST[x.ndim])
    flags = x.flags
    if flags.c_contiguous and flags.aligned:
        return x
    return np.array(x, order="C", subok=False)


def optional_dense(x: np.ndarray | None) -> np.ndarray | None:
    """Give `dense` of what is not None."""
    return None if x is None else dense(x)


def empty(shape: tuple[int, ...], dtype, last: bool = False) -> np.ndarray:
    """Uninitialised array of logical `shape` in the given memory order."""
    if not last:
        return np.empty(shape, dtype)
    n, c, *space = shape
    return np.empty((n, *space, c), dtype).transpose(_TO_FIRST[len(shape)])


def aligned(shape: tuple[int, ...], dtype) -> np.ndarray:
    """Uninitialised array that begins with a cache line.

    Large results are then stored past the caches.
    """
    nbytes = prod(shape) * dtype.itemsize
    return empty_aligned(nbytes).view(dtype).reshape(shape)


def target(out, spec: Spec, last: bool, inputs: tuple) -> np.ndarray:
    """Array for the compiled code to write: `out` itself where that is possible.

    `out` must be dense in the memory order of the call and apart from the
    inputs, else `finish` copies into it.
    """
    if out is None:
        return empty(*spec, last)
    check_out(out, *spec)
    view = out.transpose(_TO_LAST[out.ndim]) if last else out
    apart = not any(np.may_share_memory(out, x) for x in inputs if x is not None)
    if apart and view.flags.carray:
        return out
    return empty(*spec, last)


def finish(out, result: np.ndarray) -> np.ndarray:
    """Give the result of a call, copied into `out` when it is elsewhere."""
    if out is None or out is result:
        return result
    out[...] = result
    return out


# What a plan keeps is channels-last throughout: shapes (N, C, space) are in
# memory (N, space, C).


def memory_shape(shape):
    """Shape in the memory of a plan."""
    return shape if len(shape) < 3 else (shape[0], *shape[2:], shape[1])


def memory_axis(dim, ndim):
    """Where a dimension is in the memory of a plan."""
    if ndim < 3 or dim == 0:
        return dim
    return ndim - 1 if dim == 1 else dim - 1


def is_row_major(shape):
    """Whether the memory of a plan has the order of the logical shape."""
    return len(shape) < 3 or shape[1] == 1 or prod(shape[2:]) == 1
