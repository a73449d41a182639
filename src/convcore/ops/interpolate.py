"""Another number of samples per axis: nearest, linear, cubic and area.

Every mode is the same weighted sum, axis by axis: an output is the sum of a few
inputs, its taps, along that axis.
"""

from __future__ import annotations

from math import floor

import numpy as np

from .. import _core
from .base import Spec, apply, as_array, check_choice, register
from .compiled import Compiled
from .window import per_axis, three_axes

__all__ = ["interpolate"]

LINEAR = {"linear": 1, "bilinear": 2, "trilinear": 3}
MODES = ("nearest", "nearest-exact", *LINEAR, "bicubic", "area")


class Interpolate(Compiled):
    """Resample to `size`; `scale` has the inputs per output along each axis."""

    name = "interpolate"

    def infer(self, x, *, size, scale, mode, align_corners):
        return Spec((*x.shape[:2], *size), x.dtype)

    def describe(self, x, *, last, precision, size, **attrs):
        space = x.shape[2:]
        return _compiled_step(
            "interpolate_forward", x, last, size=space, out=size, **attrs
        )

    def reference(self, x, *, size, scale, mode, align_corners):
        y = x
        for axis, step in enumerate(scale):
            n = x.shape[2 + axis]
            index, weight = _taps(n, size[axis], step, mode, align_corners, x.dtype)
            y = np.moveaxis(y, 2 + axis, -1)
            y = sum(y[..., i] * w for i, w in zip(index, weight, strict=True))
            y = np.moveaxis(y, -1, 2 + axis)
        return y

    def backward(self, node, dy):
        (x,) = node.inputs
        attrs = {k: v for k, v in node.attrs.items() if k != "size"}
        return (apply(INTERPOLATE_BACKWARD, dy, size=x.shape[2:], **attrs),)


class InterpolateBackward(Compiled):
    """``dx`` from ``dy``; attribute `size` is that of x's space."""

    name = "interpolate_backward"

    def infer(self, dy, *, size, scale, mode, align_corners):
        return Spec((*dy.shape[:2], *size), dy.dtype)

    def describe(self, dy, *, last, precision, size, **attrs):
        out = dy.shape[2:]
        return _compiled_step(
            "interpolate_backward", dy, last, size=size, out=out, **attrs
        )

    def reference(self, dy, *, size, scale, mode, align_corners):
        dx = dy
        for axis, step in enumerate(scale):
            n, out = size[axis], dy.shape[2 + axis]
            index, weight = _taps(n, out, step, mode, align_corners, dy.dtype)
            along = np.moveaxis(dx, 2 + axis, 0)
            summed = np.zeros((n, *along.shape[1:]), dy.dtype)
            for i, w in zip(index, weight, strict=True):
                np.add.at(summed, i, along * w.reshape(-1, *(1,) * (along.ndim - 1)))
            dx = np.moveaxis(summed, 0, 2 + axis)
        return np.ascontiguousarray(dx)


INTERPOLATE = register(Interpolate())
INTERPOLATE_BACKWARD = register(InterpolateBackward())


def _compiled_step(kind, x, last, *, size, out, scale, mode, align_corners):
    """Step of the C library, which has all modes but one."""
    if mode == "area":
        return None
    name = "cubic" if mode == "bicubic" else "linear" if mode in LINEAR else mode
    return _core.Step(
        kind,
        x.dtype.name,
        "last" if last else "first",
        name,
        align_corners,
        *x.shape[:2],
        *(three_axes(values, 1) for values in (size, out, scale)),
    )


def _taps(n, out, step, mode, align_corners, dtype):
    """Inputs of each output along an axis, index[tap][out], and their weights."""
    places = np.arange(out)
    if mode == "area":
        return _area(n, out, dtype)
    if mode.startswith("nearest"):
        # In float32 as in torch: where the product is an integer, that counts.
        half = np.float32(0.5 if mode == "nearest-exact" else 0)
        index = np.floor((places.astype(np.float32) + half) * np.float32(step))
        return [np.minimum(index.astype(np.int64), n - 1)], [np.ones(out, dtype)]
    step = dtype.type(step)
    x = (
        places * step
        if align_corners
        else (places + dtype.type(0.5)) * step - dtype.type(0.5)
    )
    if mode == "bicubic":
        first = np.floor(x)
        t = (x - first).astype(dtype)
        index = [first.astype(np.int64) + i for i in (-1, 0, 1, 2)]
        return [np.clip(i, 0, n - 1) for i in index], _cubic(t)
    x = np.maximum(x, 0).astype(dtype)
    first = np.minimum(x.astype(np.int64), n - 1)
    t = np.minimum(x - first.astype(dtype), 1).astype(dtype)
    return [first, np.minimum(first + 1, n - 1)], [1 - t, t]


def _cubic(t, a=-0.75):
    """Keys' cubic convolution (1981) of the four neighbours."""

    def near(d):
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d):
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    return [far(t + 1), near(t), near(1 - t), far(2 - t)]


def _area(n, out, dtype):
    """Equal parts of the elements that a window touches: adaptive mean pooling."""
    first = np.arange(out) * n // out
    count = -(-(np.arange(out) + 1) * n // out) - first
    taps = range(count.max(initial=0))
    index = [np.minimum(first + i, n - 1) for i in taps]
    return index, [(i < count) / count.astype(dtype) for i in taps]


def interpolate(
    x,
    size=None,
    scale_factor=None,
    mode="nearest",
    align_corners=None,
    recompute_scale_factor=None,
    *,
    out=None,
):
    """Resample to another size.

    Parameters
    ----------
    x : array (N, C, space)
    size : int or one per axis, optional
        Of the result.
    scale_factor : float or one per axis, optional
        The result is so many times as large, rounded down. Either this or
        `size` must be given.
    mode : str
        "nearest", "nearest-exact", "linear", "bilinear", "trilinear" (each for
        its number of axes), "bicubic" (two axes) or "area".
    align_corners : bool, optional
        Whether the centres of the first and last elements stay where they are,
        or the outer edges do (False, the default); for linear and cubic modes.
    recompute_scale_factor : bool, optional
        Take the distance of samples from the sizes, not from `scale_factor`.
    out : array, optional
        Where the result is written.

    Returns
    -------
    array (N, C, size)
    """
    x = as_array(x, "x")
    check_choice(mode, "mode", MODES)
    axes = x.ndim - 2
    if axes not in (1, 2, 3) or axes != {**LINEAR, "bicubic": 2}.get(mode, axes):
        raise ValueError(f"mode={mode!r} does not resample x of shape {x.shape}")
    if 0 in x.shape[1:]:
        raise ValueError(f"x of shape {x.shape} may be empty in N only")
    if align_corners is not None and mode not in (*LINEAR, "bicubic"):
        raise ValueError(f"align_corners has no meaning with mode={mode!r}")
    space = x.shape[2:]
    if (size is None) == (scale_factor is None):
        raise ValueError("give size or scale_factor, not both or neither")
    if size is not None:
        if recompute_scale_factor:
            raise ValueError("recompute_scale_factor needs a scale_factor")
        size, factors = per_axis(size, axes, "size", 1), None
    else:
        factors = _factors(scale_factor, axes)
        size = tuple(floor(n * f) for n, f in zip(space, factors, strict=True))
        if min(size) < 1:
            raise ValueError(f"scale_factor {factors} leaves nothing of x {x.shape}")
        factors = None if recompute_scale_factor or mode == "area" else factors
    scale = tuple(
        _step(n, out_n, factor, bool(align_corners))
        for n, out_n, factor in zip(space, size, factors or (None,) * axes, strict=True)
    )
    attrs = dict(size=size, scale=scale, mode=mode, align_corners=bool(align_corners))
    return apply(INTERPOLATE, x, out=out, **attrs)


def _factors(scale_factor, axes):
    given = (
        scale_factor if hasattr(scale_factor, "__iter__") else (scale_factor,) * axes
    )
    factors = tuple(map(float, given))
    if len(factors) != axes:
        raise ValueError(
            f"scale_factor must be a float or {axes} floats, not {scale_factor!r}"
        )
    return factors


def _step(n, out, factor, align_corners):
    """Distance of neighbouring outputs in inputs."""
    if align_corners:
        return (n - 1) / (out - 1) if out > 1 else 0.0
    return n / out if factor is None else 1 / factor
