"""Changes of shape, parts, and joining."""

from itertools import accumulate

import numpy as np

from .. import functional as F
from ..ops.base import apply
from ..ops.cat import NARROW
from ..ops.padding import PAD
from ..ops.rearrange import REARRANGE
from ..ops.reduce import EXPAND
from ..ops.slices import SLICE
from .registry import Untraceable, operator
from .values import (
    axis_of,
    constant,
    ints,
    is_traced,
    number,
    permute,
    reshape,
    unsqueeze,
)


@operator("Identity")
def identity(x):
    return x


@operator("Shape")
def shape(x, *, start=0, end=None):
    return np.array(x.shape[start:end], np.int64)


@operator("Size")
def size(x):
    return np.array(np.prod(x.shape, dtype=np.int64))


@operator("Reshape")
def reshape_node(x, shape, *, allowzero=0):
    wanted = ints(shape, "shape")
    if not allowzero:
        wanted = tuple(x.shape[i] if n == 0 else n for i, n in enumerate(wanted))
    return reshape(x, wanted)


@operator("Flatten")
def flatten(x, *, axis=1):
    axis = axis if axis == x.ndim else axis_of(axis, x.ndim)
    rows = int(np.prod(x.shape[:axis], dtype=np.int64))
    columns = int(np.prod(x.shape[axis:], dtype=np.int64))
    return reshape(x, (rows, columns))


@operator("Squeeze")
def squeeze(x, axes=None):
    axes = ints(axes, "axes")
    if axes is None:
        axes = [i for i, n in enumerate(x.shape) if n == 1]
    axes = {axis_of(axis, x.ndim) for axis in axes}
    if any(x.shape[i] != 1 for i in axes):
        raise ValueError(f"axes {sorted(axes)} of shape {x.shape} are not all 1 long")
    return reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in axes))


@operator("Unsqueeze")
def unsqueeze_node(x, axes):
    axes = ints(axes, "axes")
    ndim = x.ndim + len(axes)
    return unsqueeze(x, {axis_of(axis, ndim) for axis in axes}, ndim)


@operator("Transpose")
def transpose(x, *, perm=None):
    return permute(x, range(x.ndim)[::-1] if perm is None else perm)


@operator("Concat")
def concat(*inputs, axis=1):
    axis = axis_of(axis, inputs[0].ndim)
    if not is_traced(*inputs):
        return np.concatenate(inputs, axis)
    if len(inputs) == 1:
        return inputs[0]
    return F.cat(inputs, axis)


@operator("Split")
def split(x, split=None, *, axis=0, num_outputs=None, declared=1):
    axis, lengths = axis_of(axis, x.ndim), ints(split, "split")
    n = x.shape[axis]
    if lengths is None:
        each = -(-n // (num_outputs or declared))
        lengths = [max(0, min(each, n - i * each)) for i in range(declared)]
    if sum(lengths) != n:
        raise ValueError(f"split {lengths} does not add up to {n}")
    starts = accumulate(lengths, initial=0)
    return tuple(
        _part(x, axis, start, start + length, 1)
        for start, length in zip(starts, lengths, strict=False)
    )


def _part(x, dim, start, stop, step):
    """Every step-th element from start to stop along a dimension."""
    indices = range(start, stop, step)
    if len(indices) == x.shape[dim] and step == 1:
        return x
    if not is_traced(x):
        stop = stop if stop >= 0 else None
        return x[(slice(None),) * dim + (slice(start, stop, step),)]
    if step == 1:
        return apply(NARROW, x, dim=dim, start=start, length=len(indices))
    return apply(SLICE, x, dim=dim, start=start, stop=stop, step=step)


@operator("Slice")
def slice_node(x, starts, ends, axes=None, steps=None):
    starts, ends = ints(starts, "starts"), ints(ends, "ends")
    axes = ints(axes, "axes") or range(len(starts))
    steps = ints(steps, "steps") or (1,) * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        axis = axis_of(axis, x.ndim)
        indices = slice(start, end, step).indices(x.shape[axis])
        x = _part(x, axis, *indices)
    return x


@operator("Gather")
def gather(x, indices, *, axis=0):
    axis = axis_of(axis, x.ndim)
    if not is_traced(x, indices):
        return np.take(x, indices, axis)
    if not is_traced(x):
        raise Untraceable
    indices, n = constant(indices, "indices"), x.shape[axis]
    places = np.where(indices < 0, indices + n, indices)
    if places.size and not (places.min() >= 0 and places.max() < n):
        raise ValueError(f"indices {indices} are out of range for {n} elements")
    flat = places.reshape(-1).tolist()
    steps = set(np.diff(flat).tolist())
    if len(flat) == 0 or len(steps) > 1 or steps == {0}:
        raise Untraceable
    step = steps.pop() if steps else 1
    part = _part(x, axis, flat[0], flat[-1] + (1 if step > 0 else -1), step)
    return reshape(part, (*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]))


@operator("Expand")
def expand(x, shape):
    wanted = np.broadcast_shapes(x.shape, ints(shape, "shape"))
    if not is_traced(x):
        return np.broadcast_to(x, wanted)
    if wanted == x.shape:
        return x
    x = reshape(x, (1,) * (len(wanted) - x.ndim) + x.shape)
    return apply(EXPAND, x, shape=wanted, divisor=1)


@operator("Pad")
def pad(x, pads, constant_value=None, axes=None, *, value=0.0, mode="constant"):
    pads = ints(pads, "pads")
    axes = range(x.ndim) if axes is None else ints(axes, "axes")
    value = value if constant_value is None else constant(constant_value)
    pairs = [(0, 0)] * x.ndim
    for axis, before, after in zip(
        axes, pads[: len(axes)], pads[len(axes) :], strict=True
    ):
        pairs[axis_of(axis, x.ndim)] = (before, after)
    mode = {"edge": "replicate", "wrap": "circular"}.get(mode, mode)
    if not is_traced(x):
        return _padded(x, pairs, mode, value)
    if all(pair == (0, 0) for pair in pairs):
        return x
    value = number(value) if mode == "constant" else 0.0
    return apply(PAD, x, pad=tuple(pairs), mode=mode, value=value)


def _padded(x, pairs, mode, value):
    cropped = tuple(
        slice(max(0, -before), n - max(0, -after))
        for n, (before, after) in zip(x.shape, pairs, strict=True)
    )
    pairs = [(max(0, before), max(0, after)) for before, after in pairs]
    if mode == "constant":
        value = np.asarray(value).reshape(-1)[0].astype(x.dtype)
        return np.pad(x[cropped], pairs, constant_values=value)
    names = {"replicate": "edge", "circular": "wrap", "reflect": "reflect"}
    return np.pad(x[cropped], pairs, names[mode])


@operator("DepthToSpace")
def depth_to_space(x, *, blocksize, mode="DCR"):
    c = x.shape[1] // blocksize**2
    b = blocksize
    if mode == "DCR":
        return _rearranged(x, (b, b, c), (0, 3, 4, 1, 5, 2))
    return _rearranged(x, (c, b, b), (0, 1, 4, 2, 5, 3))


def _rearranged(x, channels, order):
    """Pixels of channels: x[n][channels][h][w] in this order, the last two merged."""
    if is_traced(x):
        split = ((-1,), channels, (-1,), (-1,))
        return apply(REARRANGE, x, split=split, order=order, merge=(1, 1, 2, 2))
    n, _, h, w = x.shape
    y = x.reshape(n, *channels, h, w).transpose(order)
    return y.reshape(n, y.shape[1], y.shape[2] * y.shape[3], -1)


@operator("SpaceToDepth")
def space_to_depth(x, *, blocksize, mode="DCR"):
    n, c, h, w = x.shape
    b = blocksize
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    if is_traced(x):
        split = ((-1,), (-1,), (h // b, b), (w // b, b))
        return apply(REARRANGE, x, split=split, order=order, merge=(1, 3, 1, 1))
    parts = x.reshape(n, c, h // b, b, w // b, b).transpose(order)
    return parts.reshape(n, c * b * b, h // b, w // b)
