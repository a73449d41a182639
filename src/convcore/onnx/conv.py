"""Convolutions."""

import numpy as np

from .. import functional as F
from .registry import operator
from .values import real, reshape
from .window import Window, split

_CONV = (F.conv1d, F.conv2d, F.conv3d)
_CONV_TRANSPOSE = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


def _axes(x):
    if x.ndim not in (3, 4, 5):
        raise ValueError(f"x must have 1, 2 or 3 axes of space, its shape is {x.shape}")
    return x.ndim - 2


def _check_kernel(kernel_shape, weight):
    if kernel_shape is not None and tuple(kernel_shape) != weight.shape[2:]:
        raise ValueError(
            f"kernel_shape {tuple(kernel_shape)} is not that of the weight, "
            f"{weight.shape}"
        )


@operator("Conv")
@real
def conv(
    x,
    weight,
    bias=None,
    *,
    auto_pad="NOTSET",
    dilations=None,
    group=1,
    kernel_shape=None,
    pads=None,
    strides=None,
):
    axes = _axes(x)
    _check_kernel(kernel_shape, weight)
    window = Window(x.shape[2:], weight.shape[2:], auto_pad, pads, strides, dilations)
    # Negative padding leaves out elements.
    if min(min(pair) for pair in window.padding) < 0:
        cropped = [min(n, 0) for pair in window.padding[::-1] for n in pair]
        x = F.pad(x, cropped)
    padding = [tuple(max(n, 0) for n in pair) for pair in window.padding]
    function = _CONV[axes - 1]
    return function(x, weight, bias, window.stride, padding, window.dilation, group)


@operator("ConvTranspose")
@real
def conv_transpose(
    x,
    weight,
    bias=None,
    *,
    auto_pad="NOTSET",
    dilations=None,
    group=1,
    kernel_shape=None,
    output_padding=None,
    output_shape=None,
    pads=None,
    strides=None,
):
    axes = _axes(x)
    _check_kernel(kernel_shape, weight)
    kernel = weight.shape[2:]
    plain = "NOTSET" if auto_pad.startswith("SAME") else auto_pad
    window = Window(x.shape[2:], kernel, plain, pads, strides, dilations)
    extra = tuple(output_padding or (0,) * axes)
    padding = window.padding
    if output_shape is None and auto_pad.startswith("SAME"):
        output_shape = np.multiply(x.shape[2:], window.stride)
    if output_shape is not None:
        full = np.multiply(np.subtract(x.shape[2:], 1), window.stride)
        full = full + window.extent + extra
        totals = [int(n) for n in full - np.asarray(output_shape)[-axes:]]
        # The specification's odd element is before, except for SAME_UPPER.
        padding = tuple(split(total, auto_pad) for total in totals)
    less = [tuple(max(n, 0) for n in pair) for pair in padding]
    arguments = window.stride, less, extra, group, window.dilation
    function = _CONV_TRANSPOSE[axes - 1]
    if less == list(padding):
        return function(x, weight, bias, *arguments)
    # Negative padding makes the result larger: there it is the bias.
    added = [max(-n, 0) for pair in padding[::-1] for n in pair]
    y = F.pad(function(x, weight, None, *arguments), added)
    return y if bias is None else F.add(y, reshape(bias, (1, -1, *(1,) * axes)))
