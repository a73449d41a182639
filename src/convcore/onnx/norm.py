"""Normalisations."""

import numpy as np

from .. import functional as F
from ..ops.base import apply, call
from ..ops.batch_norm import BATCH_NORM, RUNNING_STATISTICS
from ..ops.elementwise import power
from ..ops.normalize import GROUP_NORM
from .arithmetic import add, div, mul, sub
from .registry import operator
from .values import axis_of, constant, is_traced, real, reshape


@operator("BatchNormalization")
@real
def batch_normalization(
    x,
    scale,
    bias,
    mean,
    var,
    *,
    epsilon=1e-5,
    momentum=0.9,
    spatial=1,
    training_mode=0,
    is_test=1,
    training=False,
    wanted=1,
):
    if not spatial:
        raise ValueError("spatial=0 is not supported")
    attrs = {"training": False, "eps": float(epsilon), "activation": None}
    if not (training_mode or training):
        return call(BATCH_NORM, (x, scale, bias, mean, var), attrs)[0]
    attrs["training"] = True
    y, *batch = call(BATCH_NORM, (x, scale, bias, None, None), attrs)
    if is_traced(x):
        running = apply(
            RUNNING_STATISTICS, x, *batch, mean, var, None, momentum=1 - momentum
        )
        x.graph.update(mean, running[0])
        x.graph.update(var, running[1])
        return y
    # The specification's running variance is that of the batch, not unbiased.
    new = (
        old * momentum + value * (1 - momentum)
        for old, value in zip((mean, var), batch, strict=True)
    )
    return (y, *(value.astype(mean.dtype) for value in new))[:wanted]


@operator("InstanceNormalization")
@real
def instance_normalization(x, scale, bias, *, epsilon=1e-5):
    return apply(GROUP_NORM, x, scale, bias, groups=x.shape[1], eps=float(epsilon))


@operator("GroupNormalization")
@real
def group_normalization(
    x, scale, bias, *, epsilon=1e-5, num_groups, stash_type=1, opset=21
):
    attrs = {"groups": num_groups, "eps": float(epsilon)}
    if opset >= 21:
        return apply(GROUP_NORM, x, scale, bias, **attrs)
    # Before, scale and bias had an element for each group.
    y = apply(GROUP_NORM, x, None, None, **attrs)
    n, c, *space = x.shape
    ones = (1,) * (len(space) + 1)
    parts = reshape(y, (n, num_groups, c // num_groups, *space))
    scale, bias = (reshape(v, (1, num_groups, *ones)) for v in (scale, bias))
    return reshape(add(mul(parts, scale), bias), x.shape)


@operator("LayerNormalization")
def layer_normalization(
    x, scale, bias=None, *, axis=-1, epsilon=1e-5, stash_type=1, wanted=1
):
    axis = axis_of(axis, x.ndim)
    dims = tuple(range(axis, x.ndim))
    dtype = x.dtype
    if not is_traced(x) and dtype not in (np.float32, np.float64):
        x = x.astype(np.float32)
    mean = F.mean(x, dims, True)
    centred = F.sub(x, mean)
    variance = F.mean(mul(centred, centred), dims, True)
    inverse = power(F.add(variance, float(epsilon)), -0.5)
    y = mul(centred, inverse)
    y = y if is_traced(y) else y.astype(dtype)
    y = mul(y, scale)
    y = y if bias is None else add(y, bias)
    return (y, mean, inverse)[:wanted] if wanted > 1 else y


@operator("LRN")
@real
def lrn(x, *, alpha=1e-4, beta=0.75, bias=1.0, size):
    # An even size has one more channel after than before; here it is the other
    # way round, so those channels are turned.
    if size % 2:
        return F.local_response_norm(x, size, alpha, beta, bias)
    flipped = _flip_channels(x)
    return _flip_channels(F.local_response_norm(flipped, size, alpha, beta, bias))


def _flip_channels(x):
    if not is_traced(x):
        return x[:, ::-1]
    return x[(slice(None), slice(None, None, -1))]


_TINY = float(np.finfo(np.float32).tiny)


@operator("LpNormalization")
@real
def lp_normalization(x, *, axis=-1, p=2):
    axis = axis_of(axis, x.ndim)
    magnitude = F.add(F.relu(x), F.relu(F.mul(x, -1.0))) if p == 1 else power(x, 2.0)
    total = F.sum(magnitude, axis, True)
    norm = total if p == 1 else power(total, 0.5)
    return F.div(x, F.hardtanh(norm, _TINY, np.inf))  # 0 of nothing but zeros


@operator("MeanVarianceNormalization")
@real
def mean_variance_normalization(x, *, axes=(0, 2, 3)):
    dims = tuple(axes)
    centred = sub(x, F.mean(x, dims, True))
    variance = F.mean(mul(centred, centred), dims, True)
    return div(centred, add(power(variance, 0.5), 1e-9))


@operator("Dropout")
def dropout(
    x,
    ratio=0.5,
    training_mode=False,
    *,
    seed=None,
    is_test=1,
    training=False,
    wanted=1,
):
    ratio = float(constant(ratio, "ratio"))
    if is_traced(x):
        if wanted > 1:
            raise ValueError("the mask of Dropout cannot be an output")
        return F.dropout(x, ratio, training=training)
    mask = np.ones(x.shape, bool)
    if training_mode and ratio:
        mask = np.random.RandomState(seed).uniform(size=x.shape) >= ratio
        x = np.where(mask, x / x.dtype.type(1 - ratio), x.dtype.type(0))
    return (x, mask)[:wanted] if wanted > 1 else x
