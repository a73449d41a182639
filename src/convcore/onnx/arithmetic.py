"""Sums, products, powers and the like, with broadcasting."""

import numpy as np

from .. import functional as F
from ..ops.base import apply
from ..ops.elementwise import power as power_of
from ..ops.extremes import MAXIMUM, MINIMUM
from .registry import Untraceable, operator
from .values import aligned, constant, is_traced, number, varies


def _make(name, traced, of_arrays):
    @operator(name)
    def binary(a, b, *, axis=None, broadcast=0):
        b = aligned(a, b, axis)
        if not is_traced(a, b):
            with np.errstate(all="ignore"):
                return of_arrays(a, b)
        return traced(_scalar(a), _scalar(b))

    return binary


def _scalar(x):
    """An array of one element without dimensions as a number."""
    return x.item() if isinstance(x, np.ndarray) and x.ndim == 0 else x


def _divide(a, b):
    if np.result_type(a, b).kind not in "iu":
        return a / b
    # Integers are rounded towards 0.
    quotient = np.abs(a) // np.where(b == 0, 1, np.abs(b))
    return (quotient * np.sign(a) * np.sign(b)).astype(np.result_type(a, b))


add = _make("Add", F.add, np.add)
sub = _make("Sub", F.sub, np.subtract)
mul = _make("Mul", F.mul, np.multiply)
div = _make("Div", F.div, _divide)


@operator("Sum")
def sum_of(first, *others):
    for other in others:
        first = add(first, other)
    return first


@operator("Mean")
def mean_of(*inputs):
    total = sum_of(*inputs)
    return div(total, np.asarray(len(inputs), total.dtype))


@operator("Neg")
def negative(x):
    return F.mul(x, -1.0) if is_traced(x) else np.negative(x)


@operator("Pow")
def power(x, exponent, *, axis=None, broadcast=0):
    exponent = aligned(x, exponent, axis)
    if is_traced(x) and not varies(exponent) and np.size(exponent) == 1:
        return power_of(x, number(exponent))
    if is_traced(x, exponent):
        raise Untraceable
    with np.errstate(all="ignore"):
        return np.power(x, exponent).astype(x.dtype)


def _make_extreme(name, traced, of_arrays):
    @operator(name)
    def extreme(first, *others):
        for other in others:
            if is_traced(first, other):
                a, b = (first, other) if is_traced(first) else (other, first)
                first = apply(traced, a, b)
            else:
                first = of_arrays(first, other)
        return first


_make_extreme("Max", MAXIMUM, np.maximum)
_make_extreme("Min", MINIMUM, np.minimum)


@operator("Clip")
def clip(x, min=None, max=None):
    low, high = (None if bound is None else constant(bound) for bound in (min, max))
    if not is_traced(x):
        low = low if low is None else np.asarray(low, x.dtype)
        high = high if high is None else np.asarray(high, x.dtype)
        if low is None and high is None:
            return x
        x = x if low is None else np.maximum(x, low)
        return x if high is None else np.minimum(x, high)
    low = -np.inf if low is None else number(low)
    high = np.inf if high is None else number(high)
    if low > high:
        raise Untraceable
    if (low, high) == (0, 6):
        return F.relu6(x)
    if (low, high) == (0, np.inf):
        return F.relu(x)
    return F.hardtanh(x, low, high)
