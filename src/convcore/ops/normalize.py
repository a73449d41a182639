"""Group, instance and layer norm.

All are group norm: an instance norm has a channel in each group, a layer norm
one group whose channels are the elements of a layer.
"""

from __future__ import annotations

from math import prod

import numpy as np

from .. import _core
from .._config import call_threads
from .base import (
    Operator,
    Spec,
    Traced,
    apply,
    as_array,
    as_optional,
    check_gradient,
    check_same_dtype,
    fill,
    prepared,
    register,
)
from .compiled import Compiled
from .flatten import regroup
from .memory import dense, is_channels_last, optional_dense, target
from .window import integer, sizes

__all__ = [
    "group_norm",
    "group_norm_backward",
    "instance_norm",
    "instance_norm_backward",
    "layer_norm",
    "layer_norm_backward",
]


class GroupNorm(Compiled):
    """``y = (x - mean) / sqrt(variance + eps) * weight + bias``.

    Mean and variance are those of a sample's group of channels, weight and bias
    those of the channel.
    """

    name = "group_norm"

    def infer(self, x, weight=None, bias=None, *, groups, eps):
        check_same_dtype(x=x, weight=weight, bias=bias)
        if x.ndim < 2:
            raise ValueError(f"x must have shape (N, C, ...), not {x.shape}")
        channels = x.shape[1]
        if channels % groups:
            raise ValueError(
                f"num_groups={groups} does not divide the {channels} channels of x "
                f"of shape {x.shape}"
            )
        for name, given in (("weight", weight), ("bias", bias)):
            if given is not None and given.shape != (channels,):
                raise ValueError(
                    f"{name} must have shape ({channels},) for x of shape {x.shape}, "
                    f"not {given.shape}"
                )
        return x

    def describe(self, x, weight=None, bias=None, *, last, precision, groups, eps):
        n, c, *space = x.shape
        layout = "last" if last else "first"
        return _core.Step(
            "group_norm_forward", x.dtype.name, layout, n, c, prod(space), groups, eps
        )

    def reference(self, x, weight=None, bias=None, *, groups, eps):
        y, _ = _normalized(x, groups, eps)
        if weight is not None:
            y = y * _of_channels(weight, x)
        return y if bias is None else y + _of_channels(bias, x)

    def backward(self, node, dy):
        x, weight, bias = node.inputs
        mask = weight is not None, bias is not None
        return apply(GROUP_NORM_BACKWARD, dy, x, weight, mask=mask, **node.attrs)


class GroupNormBackward(Operator):
    """``(dx, dweight, dbias)``; `mask`: which of the last two are wanted."""

    name = "group_norm_backward"

    def infer(self, dy, x, weight=None, *, mask, groups, eps):
        GROUP_NORM.infer(x, weight, groups=groups, eps=eps)
        check_same_dtype(dy=dy, x=x)
        check_gradient(dy, x.shape)
        of_channels = Spec(x.shape[1:2], x.dtype)
        return x, *(of_channels if wanted else None for wanted in mask)

    def describe(self, dy, x, weight=None, *, last, precision, mask, groups, eps):
        n, c, *space = x.shape
        layout = "last" if last else "first"
        return _core.Step(
            "group_norm_backward", x.dtype.name, layout, n, c, prod(space), groups, eps
        )

    def compute(self, inputs, attrs, out=None):
        dy, x, weight = inputs
        last = is_channels_last(x)
        step, (spec, *channels) = prepared(self, last, inputs, attrs)
        dx = target(None, spec, last, inputs)
        dweight, dbias = (c and np.empty(*c) for c in channels)
        arrays = (dense(a, last and a.ndim > 2) for a in (dy, x))
        written = dense(dx, last), dweight, dbias
        step.run(*arrays, optional_dense(weight), *written, threads=call_threads())
        return dx, dweight, dbias

    def reference(self, dy, x, weight=None, *, mask, groups, eps):
        normalized, deviation = _normalized(x, groups, eps)
        others = (0, *range(2, x.ndim))
        dweight = (dy * normalized).sum(others) if mask[0] else None
        dbias = dy.sum(others) if mask[1] else None
        if weight is not None:
            dy = dy * _of_channels(weight, x)
        shape = x.shape[0], groups, prod(x.shape[1:]) // groups
        g, y = dy.reshape(shape), normalized.reshape(shape)
        count = max(shape[2], 1)
        along = (g * y).sum(2, keepdims=True) / count
        dx = (g - g.sum(2, keepdims=True) / count - y * along) / deviation
        return dx.reshape(x.shape), dweight, dbias

    def lower(self, lowering, node):
        lowering.node(node, "group_norm_backward", lowering.describe(node))


GROUP_NORM = register(GroupNorm())
GROUP_NORM_BACKWARD = register(GroupNormBackward())


def _normalized(x, groups, eps):
    """(x - mean) / deviation, and the deviation of each group [n][group][1]."""
    rows = x.reshape(x.shape[0], groups, prod(x.shape[1:]) // groups)
    count = max(rows.shape[2], 1)
    centred = rows - rows.sum(2, keepdims=True) / count
    with np.errstate(invalid="ignore"):  # a negative eps gives NaN
        variance = (centred * centred).sum(2, keepdims=True) / count
        deviation = np.sqrt(variance + x.dtype.type(eps))
        return (centred / deviation).reshape(x.shape), deviation


def _of_channels(values, x):
    return values.reshape(-1, *(1,) * (x.ndim - 2))


# -------------------------------------------------------------------- group norm


def group_norm(x, num_groups, weight=None, bias=None, eps=1e-5, *, out=None):
    """Normalise groups of channels of each sample (Wu and He, 2018).

    Parameters
    ----------
    x : array (N, C, ...)
    num_groups : int
        Into which the channels are divided.
    weight, bias : array (C,), optional
        What the normalised channels are multiplied by, and what is added.
    eps : float
        Added to the variance.
    out : array, optional
        Where the result is written.

    Returns
    -------
    array like x
    """
    x, weight = as_array(x, "x"), as_optional(weight, "weight")
    attrs = {"groups": integer(num_groups, "num_groups", 1), "eps": float(eps)}
    return apply(GROUP_NORM, x, weight, as_optional(bias, "bias"), out=out, **attrs)


def group_norm_backward(dy, x, num_groups, weight=None, bias=None, eps=1e-5):
    """Gradients of `group_norm`.

    Parameters
    ----------
    dy : array like x
        Gradient of the result.
    x, num_groups, weight, bias, eps
        As in the forward call.

    Returns
    -------
    dx, dweight, dbias : arrays like x, weight and bias; None for those not given
    """
    dy, x, weight = as_array(dy, "dy"), as_array(x, "x"), as_optional(weight, "weight")
    attrs = {"groups": integer(num_groups, "num_groups", 1), "eps": float(eps)}
    mask = weight is not None, bias is not None
    return apply(GROUP_NORM_BACKWARD, dy, x, weight, mask=mask, **attrs)


# ----------------------------------------------------------------- instance norm


def instance_norm(
    x,
    running_mean=None,
    running_var=None,
    weight=None,
    bias=None,
    use_input_stats=True,
    momentum=0.1,
    eps=1e-5,
    *,
    out=None,
):
    """Normalise each channel of each sample (Ulyanov et al., 2016).

    Parameters
    ----------
    x : array (N, C, space)
    running_mean, running_var : array (C,), optional
        Averages over calls, which are updated in place; with
        ``use_input_stats=False`` they are what x is normalised by.
    weight, bias : array (C,), optional
        What the normalised channels are multiplied by, and what is added.
    use_input_stats : bool
    momentum : float
        Weight of this call in the running averages.
    eps : float
        Added to the variance.
    out : array, optional
        Where the result is written.

    Returns
    -------
    array like x
    """
    x = as_array(x, "x")
    if x.ndim < 3:
        raise ValueError(f"x must have shape (N, C, space), not {x.shape}")
    if not use_input_stats:
        raise ValueError(
            "use_input_stats=False is batch_norm with training=False: call that"
        )
    if prod(x.shape[2:]) < 2:
        raise ValueError(
            f"x of shape {x.shape} has a single element per channel to normalise by"
        )
    y = group_norm(x, max(x.shape[1], 1), weight, bias, eps, out=out)
    _update_running(x, running_mean, running_var, momentum)
    return y


def instance_norm_backward(dy, x, weight=None, bias=None, eps=1e-5):
    """Gradients of `instance_norm`.

    Parameters
    ----------
    dy : array like x
        Gradient of the result.
    x, weight, bias, eps
        As in the forward call.

    Returns
    -------
    dx, dweight, dbias : arrays like x, weight and bias; None for those not given
    """
    return group_norm_backward(dy, x, x.shape[1], weight, bias, eps)


def _update_running(x, running_mean, running_var, momentum):
    """Running averages of the samples' means and unbiased variances."""
    if running_mean is None and running_var is None:
        return
    if isinstance(x, Traced):
        if x.batched:
            raise TypeError("a network has no place for running_mean, running_var")
        return  # a derivative changes nothing
    space = tuple(range(2, x.ndim))
    for running, name, value in (
        (running_mean, "running_mean", x.mean(space)),
        (running_var, "running_var", x.var(space, ddof=1)),
    ):
        if running is None:
            continue
        if running.shape != x.shape[1:2]:
            raise ValueError(
                f"{name} must have shape ({x.shape[1]},) for x of shape {x.shape}, "
                f"not {running.shape}"
            )
        running += momentum * (value.mean(0) - running)


# -------------------------------------------------------------------- layer norm


def layer_norm(x, normalized_shape, weight=None, bias=None, eps=1e-5, *, out=None):
    """Normalise over the last dimensions (Ba et al., 2016).

    Parameters
    ----------
    x : array (..., normalized_shape)
    normalized_shape : int or sequence of int
        Of the last dimensions.
    weight, bias : array of shape normalized_shape, optional
        What the normalised elements are multiplied by, and what is added.
    eps : float
        Added to the variance.
    out : array, optional
        Where the result is written.

    Returns
    -------
    array like x
    """
    x = as_array(x, "x")
    rows, weight, bias = _rows(x, normalized_shape, weight, bias)
    y = regroup(group_norm(rows, 1, weight, bias, eps), x.shape)
    return y if out is None else fill(out, y)


def layer_norm_backward(dy, x, normalized_shape, weight=None, bias=None, eps=1e-5):
    """Gradients of `layer_norm`.

    Parameters
    ----------
    dy : array like x
        Gradient of the result.
    x, normalized_shape, weight, bias, eps
        As in the forward call.

    Returns
    -------
    dx, dweight, dbias : arrays like x, weight and bias; None for those not given
    """
    dy, x = as_array(dy, "dy"), as_array(x, "x")
    check_gradient(dy, x.shape)
    rows, weight, bias = _rows(x, normalized_shape, weight, bias)
    dy = regroup(dy, rows.shape)
    dx, *others = group_norm_backward(dy, rows, 1, weight, bias, eps)
    shape = _shape(normalized_shape)
    return regroup(dx, x.shape), *(
        g if g is None else regroup(g, shape) for g in others
    )


def _shape(normalized_shape):
    one = not hasattr(normalized_shape, "__iter__")
    return sizes((normalized_shape,) if one else normalized_shape, "normalized_shape")


def _rows(x, normalized_shape, weight, bias):
    """x as rows to normalise, weight and bias as one row."""
    shape = _shape(normalized_shape)
    if not shape or x.shape[max(x.ndim - len(shape), 0) :] != shape:
        raise ValueError(
            f"normalized_shape {shape} must be the last dimensions of x of shape "
            f"{x.shape}"
        )
    others = []
    for name, given in (("weight", weight), ("bias", bias)):
        given = as_optional(given, name)
        if given is not None and given.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, not {given.shape}")
        others.append(given if given is None else regroup(given, (prod(shape),)))
    rows = prod(x.shape[: x.ndim - len(shape)])
    return regroup(x, (rows, prod(shape))), *others
