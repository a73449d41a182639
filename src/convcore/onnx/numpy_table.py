"""Operators that are NumPy's: functions of arrays, in networks without gradient."""

from math import prod

import numpy as np

from .cast import numpy_dtype
from .registry import folded_operator, numpy_operator
from .values import aligned, axis_of

# --------------------------------------------------------- one function of NumPy's

_UNARY = {
    "Acos": np.arccos,
    "Acosh": np.arccosh,
    "Asin": np.arcsin,
    "Asinh": np.arcsinh,
    "Atan": np.arctan,
    "Atanh": np.arctanh,
    "BitwiseNot": np.invert,
    "Ceil": np.ceil,
    "Cosh": np.cosh,
    "Floor": np.floor,
    "IsNaN": np.isnan,
    "Not": np.logical_not,
    "Round": np.rint,
    "Sign": np.sign,
    "Sinh": np.sinh,
    "Tan": np.tan,
    "Det": np.linalg.det,
}
_BINARY = {
    "And": np.logical_and,
    "BitwiseAnd": np.bitwise_and,
    "BitwiseOr": np.bitwise_or,
    "BitwiseXor": np.bitwise_xor,
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Or": np.logical_or,
    "Xor": np.logical_xor,
}
_EVERY_DTYPE = ("BitwiseNot", "IsNaN", "Not")


def _enter_unary(name, function):
    @numpy_operator(name)
    def unary(x):
        y = np.asarray(function(x))
        return y if name in _EVERY_DTYPE else y.astype(x.dtype)


def _enter_binary(name, function):
    @numpy_operator(name)
    def binary(a, b, *, axis=None, broadcast=0):
        return np.asarray(function(a, aligned(a, b, axis)))


for _name, _function in _UNARY.items():
    _enter_unary(_name, _function)
for _name, _function in _BINARY.items():
    _enter_binary(_name, _function)


# ----------------------------------------------------------------- of each element


@numpy_operator("IsInf")
def is_inf(x, *, detect_negative=1, detect_positive=1):
    below = (x == -np.inf) if detect_negative else False
    above = (x == np.inf) if detect_positive else False
    return np.broadcast_to(np.logical_or(below, above), x.shape)


@numpy_operator("Where")
def where(condition, x, y):
    return np.where(condition, x, y)


@numpy_operator("Mod")
def mod(a, b, *, fmod=0):
    return np.fmod(a, b) if fmod else np.mod(a, b)


@numpy_operator("BitShift")
def bit_shift(x, y, *, direction):
    return np.left_shift(x, y) if direction == "LEFT" else np.right_shift(x, y)


@numpy_operator("ThresholdedRelu")
def thresholded_relu(x, *, alpha=1.0):
    return np.where(x > alpha, x, x.dtype.type(0))


@numpy_operator("Shrink")
def shrink(x, *, bias=0.0, lambd=0.5):
    below, above = x < -lambd, x > lambd
    zero = x.dtype.type(0)
    y = np.where(below, x + bias, np.where(above, x - bias, zero))
    return y.astype(x.dtype)


# ------------------------------------------------------------------------ constants


@folded_operator("Constant")
def constant(
    *,
    value=None,
    sparse_value=None,
    value_float=None,
    value_floats=None,
    value_int=None,
    value_ints=None,
    value_string=None,
    value_strings=None,
):
    for given, dtype in (
        (value, None),
        (sparse_value, None),
        (value_float, np.float32),
        (value_floats, np.float32),
        (value_int, np.int64),
        (value_ints, np.int64),
        (value_string, object),
        (value_strings, object),
    ):
        if given is not None:
            return np.asarray(given, dtype)
    raise ValueError("it has no value")


@folded_operator("ConstantOfShape")
def constant_of_shape(shape, *, value=None):
    value = np.zeros(1, np.float32) if value is None else value
    return np.broadcast_to(value.reshape(()), tuple(shape))


@folded_operator("Range")
def range_of(start, limit, delta):
    start, limit, delta = (x.reshape(-1)[0] for x in (start, limit, delta))
    count = max(0, int(np.ceil((float(limit) - float(start)) / float(delta))))
    return (start + np.arange(count) * delta).astype(start.dtype)


@numpy_operator("EyeLike")
def eye_like(x, *, dtype=None, k=0):
    return np.eye(*x.shape, k, dtype=x.dtype if dtype is None else numpy_dtype(dtype))


# ------------------------------------------------------------------ order and choice


def _enter_arg(name, function):
    @numpy_operator(name)
    def arg(x, *, axis=0, keepdims=1, select_last_index=0):
        axis = axis_of(axis, x.ndim)
        if select_last_index:
            best = x.shape[axis] - 1 - function(np.flip(x, axis), axis)
        else:
            best = function(x, axis)
        best = best.astype(np.int64)
        return np.expand_dims(best, axis) if keepdims else best


_enter_arg("ArgMax", np.argmax)
_enter_arg("ArgMin", np.argmin)


@numpy_operator("TopK")
def top_k(x, k, *, axis=-1, largest=1, sorted=1):
    k, axis = int(np.reshape(k, -1)[0]), axis_of(axis, x.ndim)
    # Of equal elements the first wins: a stable sort, descending by turning.
    if largest:
        order = np.argsort(np.flip(x, axis), axis, kind="stable")
        order = x.shape[axis] - 1 - np.flip(order, axis)
    else:
        order = np.argsort(x, axis, kind="stable")
    order = np.take(order, range(k), axis)
    return np.take_along_axis(x, order, axis), order.astype(np.int64)


@numpy_operator("Hardmax")
def hardmax(x, *, axis=None, opset=13):
    if opset < 13:
        axis = 1 if axis is None else axis_of(axis, x.ndim)
        rows = x.reshape(prod(x.shape[:axis]), -1)
    else:
        axis = -1 if axis is None else axis
        rows = np.moveaxis(x, axis, -1)
    best = np.argmax(rows, -1)[..., None]
    y = np.zeros_like(rows)
    np.put_along_axis(y, best, 1, -1)
    return y.reshape(x.shape) if opset < 13 else np.moveaxis(y, -1, axis)


@folded_operator("NonZero")
def non_zero(x):
    return np.array(np.nonzero(x), np.int64).reshape(x.ndim, -1)


@folded_operator("Compress")
def compress(x, condition, *, axis=None):
    return np.compress(condition, x, axis)


@folded_operator("Unique")
def unique(x, *, axis=None, sorted=1, wanted=1):
    y, first, inverse, counts = np.unique(x, True, True, True, axis=axis)
    inverse = inverse.reshape(-1)
    if not sorted:  # in the order of appearance
        order = np.argsort(first)
        y = np.take(y, order, 0 if axis is None else axis)
        first, counts = first[order], counts[order]
        inverse = np.argsort(order)[inverse]
    return (y, *(a.astype(np.int64) for a in (first, inverse, counts)))[:wanted]


# ------------------------------------------------------------------ gather, scatter


@numpy_operator("GatherElements")
def gather_elements(x, indices, *, axis=0):
    return np.take_along_axis(x, indices.astype(np.int64), axis)


@numpy_operator("GatherND")
def gather_nd(x, indices, *, batch_dims=0):
    batch = indices.shape[:batch_dims]
    flat = x.reshape(-1, *x.shape[batch_dims:])
    places = indices.reshape(len(flat), -1, indices.shape[-1])
    rows = np.arange(len(flat))[:, None]
    y = flat[(rows, *np.moveaxis(places, -1, 0))]
    rest = x.shape[batch_dims + indices.shape[-1] :]
    return y.reshape(*batch, *indices.shape[batch_dims:-1], *rest)


_COMBINE = {
    "add": np.add,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
}


def _scattered(x, place, updates, reduction):
    y = x.copy()
    if reduction == "none":
        y[place] = updates
    else:
        _COMBINE[reduction].at(y, place, updates)
    return y


@numpy_operator("ScatterElements", "Scatter")
def scatter_elements(x, indices, updates, *, axis=0, reduction="none"):
    axis = axis_of(axis, x.ndim)
    place = list(np.indices(indices.shape, sparse=True))
    place[axis] = indices
    return _scattered(x, tuple(place), updates, reduction)


@numpy_operator("ScatterND")
def scatter_nd(x, indices, updates, *, reduction="none"):
    return _scattered(x, tuple(np.moveaxis(indices, -1, 0)), updates, reduction)


@numpy_operator("OneHot")
def one_hot(indices, depth, values, *, axis=-1):
    depth = int(np.reshape(depth, -1)[0])
    axis = axis_of(axis, indices.ndim + 1)
    indices = indices.astype(np.int64)
    places = np.expand_dims(np.where(indices < 0, indices + depth, indices), axis)
    steps = np.arange(depth).reshape(-1, *(1,) * (indices.ndim - axis))
    return np.where(places == steps, values[1], values[0])


# --------------------------------------------------------------------------- others


def _enter_cumulative(name, function, neutral):
    @numpy_operator(name)
    def cumulative(x, axis, *, exclusive=0, reverse=0):
        axis = axis_of(int(np.reshape(axis, -1)[0]), x.ndim)
        x = np.flip(x, axis) if reverse else x
        y = function(x, axis, dtype=x.dtype)
        if exclusive:
            first = np.full_like(np.take(y, [0], axis), neutral)
            y = np.concatenate(
                [first, np.take(y, range(y.shape[axis] - 1), axis)], axis
            )
        return np.flip(y, axis) if reverse else y


_enter_cumulative("CumSum", np.cumsum, 0)
_enter_cumulative("CumProd", np.cumprod, 1)


@numpy_operator("Tile")
def tile(x, repeats, tiles=None):
    return np.tile(x, tuple(repeats))


@numpy_operator("Trilu")
def trilu(x, k=0, *, upper=1):
    k = int(np.reshape(k, -1)[0])
    return np.triu(x, k) if upper else np.tril(x, k)


@numpy_operator("Einsum")
def einsum(*inputs, equation):
    dtype = inputs[0].dtype
    if dtype.kind not in "fiub":  # the small floats
        inputs = [x.astype(np.float32) for x in inputs]
    return np.asarray(np.einsum(equation.replace(" ", ""), *inputs), dtype)


@numpy_operator("ReverseSequence")
def reverse_sequence(x, sequence_lens, *, batch_axis=1, time_axis=0):
    y = np.moveaxis(x, (batch_axis, time_axis), (0, 1)).copy()
    for row, length in zip(y, sequence_lens, strict=True):
        row[:length] = row[:length][::-1].copy()
    return np.moveaxis(y, (0, 1), (batch_axis, time_axis))
