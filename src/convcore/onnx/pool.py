"""Pools."""

from math import prod

import numpy as np

from .. import functional as F
from ..ops.base import apply
from ..ops.elementwise import power
from ..ops.padding import PAD
from ..ops.pool import AVG_POOL, MAX_POOL
from .registry import numpy_operator, operator
from .values import is_traced, real
from .window import Window


@operator("MaxPool")
@real
def max_pool(
    x,
    *,
    auto_pad="NOTSET",
    ceil_mode=0,
    dilations=None,
    kernel_shape,
    pads=None,
    storage_order=0,
    strides=None,
    wanted=1,
):
    window = Window(x.shape[2:], kernel_shape, auto_pad, pads, strides, dilations)
    if wanted > 1 and is_traced(x):
        raise ValueError("the indices of a network's MaxPool cannot be an output")
    attrs = _attributes(window, ceil_mode)
    if _is_padding_alone(x.shape[2:], window):
        x, attrs = _padded(x, attrs, -np.inf), attrs | {"padding": _no_padding(window)}
    index_dtype = "int64" if wanted > 1 else "uint8" if is_traced(x) else None
    if index_dtype == "uint8" and prod(window.kernel) > 256:
        index_dtype = "int64"
    y, indices = apply(MAX_POOL, x, index_dtype=index_dtype, **attrs)
    if wanted == 1:
        return y
    return y, _positions(indices, x.shape, storage_order)


def _attributes(window, ceil_mode):
    return {
        "kernel": window.kernel,
        "stride": window.stride,
        "padding": window.padding,
        "dilation": window.dilation,
        "ceil_mode": bool(ceil_mode),
    }


def _no_padding(window):
    return ((0, 0),) * len(window.kernel)


def _is_padding_alone(size, window):
    """Whether a window may lie outside of x, which pools refuse."""
    return any(
        before >= extent or after >= extent or (d > n and (before or after))
        for n, (before, after), extent, d in zip(
            size, window.padding, window.extent, window.dilation, strict=True
        )
    )


def _padded(x, attrs, value):
    pad = ((0, 0), (0, 0), *attrs["padding"])
    return apply(PAD, x, pad=pad, mode="constant", value=value)


def _positions(indices, shape, storage_order):
    """Positions in the whole of x, of positions in its planes."""
    n, c, *size = shape
    if storage_order:
        at = np.unravel_index(indices, size)
        indices = np.ravel_multi_index(at, size, order="F")
    planes = np.arange(n * c).reshape(n, c, *(1,) * len(size))
    return indices + planes * prod(size)


@operator("AveragePool")
@real
def average_pool(
    x,
    *,
    auto_pad="NOTSET",
    ceil_mode=0,
    count_include_pad=0,
    dilations=None,
    kernel_shape,
    pads=None,
    strides=None,
):
    window = Window(x.shape[2:], kernel_shape, auto_pad, pads, strides, dilations)
    attrs = _attributes(window, ceil_mode)
    return apply(
        AVG_POOL, x, count_include_pad=bool(count_include_pad), divisor=0, **attrs
    )


@operator("LpPool")
@real
def lp_pool(
    x,
    *,
    auto_pad="NOTSET",
    ceil_mode=0,
    dilations=None,
    kernel_shape,
    p=2,
    pads=None,
    strides=None,
):
    window = Window(x.shape[2:], kernel_shape, auto_pad, pads, strides, dilations)
    attrs = _attributes(window, ceil_mode)
    # The mean of the powers, times their number.
    powers = _power_of_magnitude(x, p)
    means = apply(AVG_POOL, powers, count_include_pad=True, divisor=1, **attrs)
    return power(means, 1 / p)


def _power_of_magnitude(x, p):
    return power(
        x if p % 2 == 0 else F.add(F.relu(x), F.relu(F.mul(x, -1.0))), float(p)
    )


@operator("GlobalLpPool")
@real
def global_lp_pool(x, *, p=2):
    total = F.sum(_power_of_magnitude(x, p), tuple(range(2, x.ndim)), True)
    return power(total, 1 / p)


@operator("GlobalAveragePool")
@real
def global_average_pool(x):
    function = {
        3: F.adaptive_avg_pool1d,
        4: F.adaptive_avg_pool2d,
        5: F.adaptive_avg_pool3d,
    }
    if x.ndim not in function:
        return F.mean(x, tuple(range(2, x.ndim)), True)
    return function[x.ndim](x, 1)


@operator("GlobalMaxPool")
@real
def global_max_pool(x):
    return F.amax(x, tuple(range(2, x.ndim)), True)


@numpy_operator("MaxUnpool")
def max_unpool(x, indices, output_shape=None, *, kernel_shape, pads=None, strides=None):
    axes = x.ndim - 2
    window = Window(x.shape[2:], kernel_shape, "NOTSET", pads, strides, None)
    size = [
        (n - 1) * s - before - after + k
        for n, s, (before, after), k in zip(
            x.shape[2:], window.stride, window.padding, window.kernel, strict=True
        )
    ]
    inside = np.zeros((*x.shape[:2], *size), x.dtype)
    inside.reshape(-1)[indices] = x
    if output_shape is None:
        return inside
    # Positions are those in the smaller tensor, which is put into the larger one.
    y = np.zeros([int(n) for n in output_shape], x.dtype)
    y[(slice(None), slice(None), *map(slice, size[-axes:]))] = inside
    return y
