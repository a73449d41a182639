"""Padding: constant, reflected, replicated and circular."""

from __future__ import annotations

import numpy as np

from .base import Operator, Spec, apply, as_array, check_choice, register
from .memory import empty, is_channels_last
from .window import sizes

__all__ = ["pad"]

MODES = ("constant", "reflect", "replicate", "circular")


class Pad(Operator):
    """Attribute `pad` has (before, after) per dimension; negative ones crop."""

    name = "pad"

    def infer(self, x, *, pad, mode, value):
        shape = tuple(n + a + b for n, (a, b) in zip(x.shape, pad, strict=True))
        if min(shape, default=1) < 0:
            raise ValueError(f"pad {pad} leaves less than nothing of x {x.shape}")
        return Spec(shape, x.dtype)

    def reference(self, x, *, pad, mode, value):
        if mode == "constant":
            shape = tuple(n + a + b for n, (a, b) in zip(x.shape, pad, strict=True))
            y = empty(shape, x.dtype, is_channels_last(x))
            y[...] = value
            inside, source = _inside(x.shape, pad)
            y[inside] = x[source]
            return y
        y = x
        for axis, pair in enumerate(pad):
            if pair != (0, 0):
                y = np.take(y, _sources(x.shape[axis], pair, mode), axis)
        return y.copy() if y is x else y

    def backward(self, node, dy):
        (x,) = node.inputs
        pad, mode = node.attrs["pad"], node.attrs["mode"]
        return (apply(PAD_BACKWARD, dy, size=x.shape, pad=pad, mode=mode),)


class PadBackward(Operator):
    """``dx`` from ``dy``; attribute `size` is the shape of x."""

    name = "pad_backward"

    def infer(self, dy, *, size, pad, mode):
        return Spec(size, dy.dtype)

    def reference(self, dy, *, size, pad, mode):
        if mode == "constant":
            dx = np.zeros(size, dy.dtype)
            inside, source = _inside(size, pad)
            dx[source] = dy[inside]
            return dx
        dx = dy
        for axis, pair in enumerate(pad):
            if pair != (0, 0):
                dx = _folded(dx, axis, size[axis], pair, mode)
        return dx.copy() if dx is dy else dx


PAD = register(Pad())
PAD_BACKWARD = register(PadBackward())


def pad(x, pad, mode="constant", value=0.0, *, out=None):
    """Make an array larger on its sides, or smaller where `pad` is negative.

    Parameters
    ----------
    x : array
    pad : sequence of int
        (before, after) of the last dimension, then of the one before it, ...
    mode : {"constant", "reflect", "replicate", "circular"}
        With what: `value`, the elements mirrored in the first and last ones,
        these repeated, or the elements of the other side.
    value : float
    out : array, optional
        Where the result is written.

    Returns
    -------
    array

    Raises
    ------
    ValueError
        For a reflection of as many elements as there are, a circle of more.
    """
    x, entries = as_array(x, "x"), sizes(pad, "pad", -(2**60))
    check_choice(mode, "mode", MODES)
    if len(entries) % 2 or len(entries) > 2 * x.ndim:
        raise ValueError(
            f"pad must have (before, after) of at most the {x.ndim} dimensions of x, "
            f"not {entries}"
        )
    pairs = tuple(zip(entries[::2], entries[1::2], strict=True))[::-1]
    if mode != "constant":
        _check_mirror(x, pairs, mode, value)
    every = ((0, 0),) * (x.ndim - len(pairs)) + pairs
    if getattr(x, "batched", False) and every[:1] not in ((), ((0, 0),)):
        raise ValueError(f"pad {entries} changes the batch of a traced value")
    value = 0.0 if value is None else float(value)
    return apply(PAD, x, out=out, pad=every, mode=mode, value=value)


def _check_mirror(x, pairs, mode, value):
    """Raise where there is nothing to take the padding from."""
    if value:
        raise ValueError(f"value={value} has no meaning with mode={mode!r}")
    if len(pairs) not in (1, 2, 3) or x.ndim - len(pairs) not in (1, 2):
        raise ValueError(
            f"mode={mode!r} pads the last 1, 2 or 3 dimensions of x (N, C, space) or "
            f"(C, space): pad has {2 * len(pairs)} entries, x has shape {x.shape}"
        )
    for n, pair in zip(x.shape[x.ndim - len(pairs) :], pairs, strict=True):
        if n == 0 and x.ndim:
            raise ValueError(f"x of shape {x.shape} may be empty in N only")
        limit = {"reflect": n - 1, "circular": n}.get(mode)
        if limit is not None and max(pair) > limit:
            raise ValueError(
                f"pad of {pair} for a length of {n}: mode={mode!r} can have {limit}"
            )
        if n + sum(pair) < 1:
            raise ValueError(f"pad of {pair} leaves nothing of a length of {n}")


def _inside(shape, pad):
    """Where in y the elements of x are, and which of x."""
    inside, source = [], []
    for n, (before, after) in zip(shape, pad, strict=True):
        first, last = max(0, -before), n - max(0, -after)
        source.append(slice(first, max(first, last)))
        inside.append(slice(first + before, max(first, last) + before))
    return tuple(inside), tuple(source)


def _sources(n, pair, mode):
    """The element of n that each one of the result is."""
    before, after = pair
    if mode == "circular":  # of what negative pads leave
        kept = np.arange(n)[max(0, -before) : n - max(0, -after)]
        places = np.arange(-max(0, before), len(kept) + max(0, after))
        return kept[places % len(kept)]
    places = np.arange(-before, n + after)
    if mode == "replicate":
        return np.clip(places, 0, n - 1)
    places = np.abs(places)
    return np.where(places < n, places, 2 * (n - 1) - places)


def _folded(dy, axis, n, pair, mode):
    """Sum of the gradients of each element along an axis, in the order of y."""
    dx = np.zeros((*dy.shape[:axis], n, *dy.shape[axis + 1 :]), dy.dtype)
    to, given = np.moveaxis(dx, axis, 0), np.moveaxis(dy, axis, 0)
    sources = _sources(n, pair, mode)
    # Rows that are next to each other in both are added in one piece.
    starts = np.flatnonzero(np.diff(sources, prepend=-2) != 1)
    for first, last in zip(starts, [*starts[1:], len(sources)], strict=True):
        part = slice(sources[first], sources[first] + last - first)
        to[part] += given[first:last]
    return dx
