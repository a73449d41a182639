"""Quantised operators: integers with a scale and a zero point, by NumPy."""

import numpy as np

from .cast import _converted, numpy_dtype
from .conv import conv
from .registry import numpy_operator
from .values import axis_of

# ONNX numbers of dtypes by their limits: ml_dtypes' small ints have no np.iinfo.
_LIMITS = {
    "uint2": (0, 3),
    "int2": (-2, 1),
    "uint4": (0, 15),
    "int4": (-8, 7),
    "uint8": (0, 255),
    "int8": (-128, 127),
    "uint16": (0, 65535),
    "int16": (-32768, 32767),
    "int32": (-(2**31), 2**31 - 1),
}


def _spread(values, shape, axis, block_size):
    """Values of all, of slices along the axis, or of blocks of it, for a shape."""
    if values.size == 1:
        return values.reshape(())
    if block_size:
        axis = axis_of(axis, len(shape))
        repeated = np.repeat(values, block_size, axis)
        return np.take(repeated, range(shape[axis]), axis)
    axis = axis_of(axis, len(shape))
    return values.reshape(-1, *(1,) * (len(shape) - axis - 1))


def _quantized(x, scale, zero_point, dtype):
    """``x / scale``, rounded to even, plus the zero point, within the dtype."""
    y = x / scale
    if dtype.name not in _LIMITS:  # a small float
        return _converted(y.astype(np.float32), dtype, True, "up")
    shifted = np.rint(y) + zero_point.astype(np.float64)
    return np.clip(shifted, *_LIMITS[dtype.name]).astype(dtype)


@numpy_operator("QuantizeLinear")
def quantize_linear(
    x,
    y_scale,
    y_zero_point=None,
    *,
    axis=1,
    block_size=0,
    output_dtype=0,
    precision=0,
    saturate=1,
):
    if y_zero_point is None:
        dtype = numpy_dtype(output_dtype) if output_dtype else np.dtype(np.uint8)
        y_zero_point = np.zeros(y_scale.shape, dtype)
    dtype = y_zero_point.dtype
    computed = numpy_dtype(precision) if precision else y_scale.dtype
    scale, zero_point = (
        _spread(v, x.shape, axis, block_size) for v in (y_scale, y_zero_point)
    )
    ratio = x.astype(computed) / scale.astype(computed)
    if dtype.name not in _LIMITS:
        return _converted(ratio.astype(np.float32), dtype, saturate, "up")
    return _quantized(ratio, 1, zero_point, dtype)


@numpy_operator("DequantizeLinear")
def dequantize_linear(
    x, x_scale, x_zero_point=None, *, axis=1, block_size=0, output_dtype=0
):
    dtype = numpy_dtype(output_dtype) if output_dtype else x_scale.dtype
    y = x.astype(np.float32)
    if x_zero_point is not None:
        y = y - _spread(x_zero_point, x.shape, axis, block_size).astype(np.float32)
    scale = _spread(x_scale, x.shape, axis, block_size)
    return (y * scale.astype(np.float32)).astype(dtype)


@numpy_operator("DynamicQuantizeLinear")
def dynamic_quantize_linear(x):
    low, high = min(0.0, x.min(initial=0)), max(0.0, x.max(initial=0))
    scale = np.float32((high - low) / 255)
    zero_point = np.uint8(np.clip(np.rint(-low / (scale or 1)), 0, 255))
    y = _quantized(x, scale or np.float32(1), zero_point, np.dtype(np.uint8))
    return y, np.asarray(scale), np.asarray(zero_point)


def _shifted(x, zero_point, axis=0):
    """Integers less their zero point, in float64 where sums of them are exact."""
    x = x.astype(np.float64)
    if zero_point is None:
        return x
    return x - _spread(zero_point.astype(np.float64), x.shape, axis, 0)


@numpy_operator("ConvInteger")
def conv_integer(x, w, x_zero_point=None, w_zero_point=None, **window):
    y = conv(x=_shifted(x, x_zero_point), weight=_shifted(w, w_zero_point), **window)
    return np.rint(y).astype(np.int32)


@numpy_operator("QLinearConv")
def qlinear_conv(
    x,
    x_scale,
    x_zero_point,
    w,
    w_scale,
    w_zero_point,
    y_scale,
    y_zero_point,
    bias=None,
    **window,
):
    shifted = _shifted(x, x_zero_point), _shifted(w, w_zero_point)
    y = np.rint(conv(x=shifted[0], weight=shifted[1], **window))
    if bias is not None:
        y = y + bias.reshape(-1, *(1,) * (y.ndim - 2))
    scale = x_scale.astype(np.float64) * w_scale / y_scale
    y = y * _spread(scale, y.shape, 1, 0)
    return _quantized(y, 1, y_zero_point, y_zero_point.dtype)


def _columns(x, zero_point):
    """A right factor less its zero points, one of all or one of each column."""
    if zero_point is not None and zero_point.ndim > 1:
        return x.astype(np.float64) - zero_point
    return _shifted(x, zero_point, x.ndim - 1)


def _rows(x, zero_point):
    """A left factor less its zero points, one of all or one of each row."""
    if zero_point is not None and zero_point.ndim > 1:
        return x.astype(np.float64) - zero_point
    return _shifted(x, zero_point, max(x.ndim - 2, 0))


@numpy_operator("MatMulInteger")
def matmul_integer(a, b, a_zero_point=None, b_zero_point=None):
    y = _rows(a, a_zero_point) @ _columns(b, b_zero_point)
    return np.rint(y).astype(np.int32)


@numpy_operator("QLinearMatMul")
def qlinear_matmul(
    a, a_scale, a_zero_point, b, b_scale, b_zero_point, y_scale, y_zero_point
):
    y = np.rint(_rows(a, a_zero_point) @ _columns(b, b_zero_point))
    scale = a_scale.astype(np.float64) * b_scale / y_scale
    return _quantized(y * scale, 1, y_zero_point, y_zero_point.dtype)
