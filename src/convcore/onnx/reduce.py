"""Reductions along axes."""

from math import prod

import numpy as np

from .. import functional as F
from ..ops.base import apply
from ..ops.elementwise import absolute, exponential, logarithm, power
from ..ops.reduce import REDUCE
from .registry import Untraceable, operator
from .values import axes_of, ints, is_traced


def _reduce(name, traced, of_arrays):
    @operator(name)
    def reduce(x, axes=None, *, keepdims=1, noop_with_empty_axes=0):
        axes = ints(axes, "axes")
        if not axes and noop_with_empty_axes:
            axes = ()
        else:
            axes = axes_of(axes or None, x.ndim)
        if is_traced(x):
            if 0 in x.shape:
                raise Untraceable
            return traced(x, axes, bool(keepdims))
        with np.errstate(all="ignore"):
            return np.asarray(of_arrays(x, axes, bool(keepdims))).astype(x.dtype)

    return reduce


def _of(name):
    def reduce(x, axes, keepdims):
        return apply(REDUCE[name], x, dim=axes, keepdim=keepdims)

    return reduce


_sum, _mean, _max = map(_of, ("sum", "mean", "amax"))


def _total(x, axes, keep):
    """Sums, of small floats in a larger one."""
    wide = np.float32 if x.dtype.itemsize < 4 and x.dtype.kind not in "iub" else x.dtype
    return np.sum(x.astype(wide), axis=axes, keepdims=keep)


def _average(x, axes, keep):
    count = prod(x.shape[i] for i in axes)
    total = _total(x, axes, keep)
    return total // count if x.dtype.kind in "iu" else total / count


def _log_sum_exp(x, axes, keep):
    x = x.astype(np.float64)
    top = np.max(x, axis=axes, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0)
    total = np.log(np.sum(np.exp(x - top), axis=axes, keepdims=True)) + top
    return total if keep else np.squeeze(total, axes)


def _lowest(x):
    """What no element is below."""
    if x.dtype.kind == "b":
        return False
    return np.iinfo(x.dtype).min if x.dtype.kind in "iu" else -np.inf


def _highest(x):
    if x.dtype.kind == "b":
        return True
    return np.iinfo(x.dtype).max if x.dtype.kind in "iu" else np.inf


def _negated(x, axes, keep):
    return F.mul(_max(F.mul(x, -1.0), axes, keep), -1.0)


_reduce("ReduceSum", _sum, _total)
_reduce("ReduceMean", _mean, _average)
_reduce(
    "ReduceMax",
    _max,
    lambda x, axes, keep: np.max(x, axis=axes, keepdims=keep, initial=_lowest(x)),
)
_reduce(
    "ReduceMin",
    _negated,
    lambda x, axes, keep: np.min(x, axis=axes, keepdims=keep, initial=_highest(x)),
)
_reduce(
    "ReduceL1",
    lambda x, axes, keep: _sum(absolute(x), axes, keep),
    lambda x, axes, keep: _total(np.abs(x), axes, keep),
)
_reduce(
    "ReduceL2",
    lambda x, axes, keep: power(_sum(power(x, 2.0), axes, keep), 0.5),
    lambda x, axes, keep: np.sqrt(_total(x * x, axes, keep)),
)
_reduce(
    "ReduceSumSquare",
    lambda x, axes, keep: _sum(power(x, 2.0), axes, keep),
    lambda x, axes, keep: _total(x * x, axes, keep),
)
_reduce(
    "ReduceLogSum",
    lambda x, axes, keep: logarithm(_sum(x, axes, keep)),
    lambda x, axes, keep: np.log(_total(x, axes, keep)),
)
_reduce(
    "ReduceLogSumExp",
    lambda x, axes, keep: logarithm(_sum(exponential(x), axes, keep)),
    _log_sum_exp,
)


def _untraceable(x, axes, keep):
    raise Untraceable


_reduce(
    "ReduceProd",
    _untraceable,
    lambda x, axes, keep: np.prod(x, axis=axes, keepdims=keep),
)
