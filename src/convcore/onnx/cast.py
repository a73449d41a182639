"""Conversion of dtypes."""

import numpy as np

from .registry import Untraceable, numpy_operator, operator
from .values import is_traced

# Numbers of ONNX's data types (onnx.TensorProto) that NumPy has.
_NUMPY = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    8: "object",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    14: "complex64",
    15: "complex128",
}


def numpy_dtype(number):
    """The dtype of a number of onnx.TensorProto."""
    if number in _NUMPY:
        return np.dtype(_NUMPY[number])
    from onnx.helper import tensor_dtype_to_np_dtype  # the small floats and ints

    return tensor_dtype_to_np_dtype(number)


@operator("Cast")
def cast(x, *, to, saturate=1, round_mode="up"):
    return _converted(x, numpy_dtype(to), saturate, round_mode)


@operator("CastLike")
def cast_like(x, like, *, saturate=1, round_mode="up"):
    return _converted(x, np.dtype(like.dtype), saturate, round_mode)


def _converted(x, dtype, saturate, round_mode):
    if x.dtype == dtype:
        return x
    if is_traced(x):
        raise Untraceable
    if x.dtype.kind in "OUS":
        return _from_text(x, dtype)
    if dtype.kind == "O":
        return _to_text(x)
    if dtype.name == "float8_e8m0fnu":
        return _power_of_two(x, dtype, saturate, round_mode)
    y = x.astype(dtype)
    if saturate and dtype.name.startswith("float8") and x.dtype.kind != "b":
        wide = x.astype(np.float32)
        beyond = ~np.isfinite(y.astype(np.float32)) & ~np.isnan(wide)
        largest = _LARGEST[dtype.name]
        y = np.where(beyond, np.copysign(largest, wide), wide).astype(dtype)
    return y


_LARGEST = {
    "float8_e4m3fn": 448.0,
    "float8_e4m3fnuz": 240.0,
    "float8_e5m2": 57344.0,
    "float8_e5m2fnuz": 57344.0,
}


def _power_of_two(x, dtype, saturate, round_mode):
    """float8_e8m0: nothing but an exponent, from -127 to 127."""
    wide = x.astype(np.float64)
    fraction, exponent = np.frexp(wide)  # 0.5 <= fraction < 1
    up = {"up": fraction > 0.5, "down": fraction < 0, "nearest": fraction >= 0.75}
    exponent = exponent - 1 + up[round_mode]
    if saturate:
        exponent = np.clip(np.where(np.isinf(wide), 127, exponent), -127, 127)
        exponent = np.where(wide == 0, -127, exponent)
        bad = np.isnan(wide)
    else:
        bad = ~np.isfinite(wide) | (np.abs(exponent) > 127) | (wide == 0)
    code = np.where(bad, 255, exponent + 127).astype(np.uint8)
    return code.view(dtype)


def _from_text(x, dtype):
    number = np.array([float(text) for text in x.reshape(-1)]).reshape(x.shape)
    return number.astype(dtype)


def _to_text(x):
    text = np.array([str(element) for element in x.reshape(-1).tolist()], object)
    return text.reshape(x.shape)


@numpy_operator("BitCast")
def bit_cast(x, *, to):
    return x.view(numpy_dtype(to))
