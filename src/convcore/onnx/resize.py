"""Resampling."""

import numpy as np

from ..ops.base import apply
from ..ops.interpolate import INTERPOLATE
from .registry import Untraceable, operator
from .values import constant, ints, is_traced


@operator("Resize", "Upsample")
def resize(
    x,
    roi=None,
    scales=None,
    sizes=None,
    *,
    antialias=0,
    axes=None,
    coordinate_transformation_mode=None,
    cubic_coeff_a=-0.75,
    exclude_outside=0,
    extrapolation_value=0.0,
    keep_aspect_ratio_policy="stretch",
    mode="nearest",
    nearest_mode="round_prefer_floor",
    opset=13,
):
    if opset <= 10:  # scales was the second input
        scales, roi = (roi if scales is None else scales), None
        transformation = "asymmetric"
        nearest_mode = "floor"
    else:
        transformation = coordinate_transformation_mode or "half_pixel"
    axes = range(x.ndim) if axes is None else [axis % x.ndim for axis in axes]
    size, scale = _sizes(
        x.shape,
        axes,
        None if scales is None or not np.size(constant(scales)) else constant(scales),
        ints(sizes, "sizes"),
        keep_aspect_ratio_policy,
    )
    if size == tuple(x.shape) and all(s == 1 for s in scale) and roi is None:
        return x
    if is_traced(x):
        return _as_interpolate(
            x,
            size,
            scale,
            mode,
            transformation,
            nearest_mode,
            antialias,
            exclude_outside,
            cubic_coeff_a,
        )
    roi = None if roi is None or not np.size(roi) else np.asarray(roi, np.float64)
    result = x.astype(np.float64)
    outside = np.zeros(size, bool)
    for i, axis in enumerate(axes):
        if transformation == "tf_crop_and_resize":
            start, end = roi[i], roi[i + len(axes)]
        else:
            start, end = 0.0, 1.0
        places = _places(
            x.shape[axis], size[axis], scale[axis], transformation, start, end
        )
        if places is None:
            continue
        weights = _weights(
            places,
            x.shape[axis],
            scale[axis],
            mode,
            nearest_mode,
            antialias,
            exclude_outside,
            cubic_coeff_a,
        )
        result = np.moveaxis(np.tensordot(weights, result, (1, axis)), 0, axis)
        if transformation == "tf_crop_and_resize":
            beyond = (places < 0) | (places > x.shape[axis] - 1)
            outside |= beyond.reshape(-1, *(1,) * (x.ndim - axis - 1))
    if outside.any():
        result[outside] = extrapolation_value
    if x.dtype.kind in "iu":
        result = np.rint(result)
    return result.astype(x.dtype)


def _sizes(shape, axes, scales, sizes, policy):
    """Size and scale of every dimension."""
    size, scale = list(shape), [1.0] * len(shape)
    if sizes is None:
        for axis, s in zip(axes, scales, strict=True):
            size[axis], scale[axis] = int(np.floor(shape[axis] * s)), float(s)
        return tuple(size), scale
    if policy != "stretch":
        best = min if policy == "not_larger" else max
        one = best(n / shape[axis] for axis, n in zip(axes, sizes, strict=True))
        for axis in axes:
            size[axis], scale[axis] = int(shape[axis] * one + 0.5), one
        return tuple(size), scale
    for axis, n in zip(axes, sizes, strict=True):
        size[axis], scale[axis] = n, n / shape[axis]
    return tuple(size), scale


def _as_interpolate(
    x, size, scale, mode, transformation, nearest_mode, antialias, exclude, a
):
    """The operator of this package, where there is one that does the same."""
    modes = {
        "linear": ("linear", "bilinear", "trilinear"),
        "cubic": (None, "bicubic", None),
    }
    corners = transformation == "align_corners"
    halves = transformation in ("half_pixel", "pytorch_half_pixel")
    if size[:2] != x.shape[:2] or x.ndim not in (3, 4, 5) or antialias or exclude:
        raise Untraceable
    if mode == "nearest":
        name = _nearest(x.shape, size, scale, transformation, nearest_mode)
    else:
        name = modes[mode][x.ndim - 3] if corners or halves else None
    if name is None or (mode == "cubic" and a != -0.75):
        raise Untraceable
    if corners:
        step = [
            (n - 1) / (n * s - 1) if n * s > 1 else 0.0
            for n, s in zip(x.shape[2:], scale[2:], strict=True)
        ]
    else:
        step = [1 / s for s in scale[2:]]
    if transformation == "pytorch_half_pixel" and 1 in size[2:]:
        raise Untraceable
    return apply(
        INTERPOLATE,
        x,
        size=size[2:],
        scale=tuple(step),
        mode=name,
        align_corners=corners,
    )


def _nearest(shape, size, scale, transformation, nearest_mode):
    """Our mode that takes the same elements; None where there is none."""
    modes = {"nearest": 0.0, "nearest-exact": 0.5}
    for n, m, s in zip(shape, size, scale, strict=True):
        places = _places(n, m, s, transformation, 0.0, 1.0)
        if places is None:
            continue
        wanted = np.clip(_rounded(places, nearest_mode), 0, n - 1)
        for name, shift in list(modes.items()):
            at = (np.arange(m, dtype=np.float32) + np.float32(shift)) * np.float32(
                1 / s
            )
            if not np.array_equal(np.minimum(at.astype(np.int64), n - 1), wanted):
                del modes[name]
    return next(iter(modes), None)


def _places(n, size, scale, transformation, start, end):
    """Where in the n elements each of the result lies."""
    if n == size and scale == 1 and (start, end) == (0.0, 1.0):
        return None
    at = np.arange(size, dtype=np.float64)
    length = n * scale  # before rounding
    if transformation == "half_pixel":
        return (at + 0.5) / scale - 0.5
    if transformation == "pytorch_half_pixel":
        return (at + 0.5) / scale - 0.5 if size > 1 else at * 0 - 0.5
    if transformation == "half_pixel_symmetric":
        adjusted = size / length
        offset = n / 2 * (1 - adjusted)
        return offset + (at + 0.5) / scale - 0.5
    if transformation == "align_corners":
        return at * (n - 1) / (length - 1) if length > 1 else at * 0
    if transformation == "asymmetric":
        return at / scale
    if transformation == "tf_half_pixel_for_nn":
        return (at + 0.5) / scale
    if transformation == "tf_crop_and_resize":
        if size > 1:
            return start * (n - 1) + at * (end - start) * (n - 1) / (size - 1)
        return at + 0.5 * (start + end) * (n - 1)
    raise ValueError(f"coordinate_transformation_mode {transformation!r} is unknown")


def _weights(places, n, scale, mode, nearest_mode, antialias, exclude, a):
    """Matrix [out][in] of what each element counts in each of the result."""
    if mode == "nearest":
        return np.eye(n)[np.clip(_rounded(places, nearest_mode), 0, n - 1)]
    shrink = min(1.0, scale) if antialias else 1.0
    reach = (2 if mode == "cubic" else 1) / shrink
    count = int(np.ceil(reach))
    first = np.floor(places).astype(np.int64) - count + 1
    taps = first[:, None] + np.arange(2 * count)
    weight = _kernel((taps - places[:, None]) * shrink, mode, a)
    if exclude:
        weight = np.where((taps < 0) | (taps >= n), 0, weight)
    if exclude or antialias:
        weight = weight / weight.sum(1, keepdims=True)
    matrix = np.zeros((len(places), n))
    rows = np.broadcast_to(np.arange(len(places))[:, None], taps.shape)
    np.add.at(matrix, (rows, np.clip(taps, 0, n - 1)), weight)
    return matrix


def _rounded(places, nearest_mode):
    rounded = {
        "round_prefer_floor": lambda x: np.ceil(x - 0.5),
        "round_prefer_ceil": lambda x: np.floor(x + 0.5),
        "floor": np.floor,
        "ceil": np.ceil,
    }[nearest_mode](places)
    return rounded.astype(np.int64)


def _kernel(d, mode, a):
    """Weight at a distance: a triangle, or Keys' cubic convolution (1981)."""
    d = np.abs(d)
    if mode == "linear":
        return np.maximum(0, 1 - d)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))
