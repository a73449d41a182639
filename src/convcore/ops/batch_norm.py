"""Batch normalisation, its gradients, and its running statistics."""

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
    call,
    check_gradient,
    check_mask,
    check_same_dtype,
    fill,
    prepared,
    register,
)
from .memory import dense, finish, is_channels_last, optional_dense, target

__all__ = ["batch_norm", "batch_norm_backward"]


_MOST = {"relu": np.nan, "relu6": 6}  # that an activation gives; NaN: no bound


class BatchNorm(Operator):
    """``y = activation((x - mean) / sqrt(var + eps) * weight + bias + residual)``.

    Inputs are x, weight, bias, mean, var, and maybe the residual. In training
    mean and var are not given: those of the batch are further outputs.
    """

    name = "batch_norm"
    takes_residual = 5

    def infer(
        self, x, weight, bias, mean, var, residual=None, *, training, eps, activation
    ):
        _check_channels(x, weight=weight, bias=bias, running_mean=mean, running_var=var)
        if residual is not None and residual != x:
            raise ValueError(
                f"residual must have shape {x.shape}, not {residual.shape}"
            )
        if not training and (mean is None or var is None):
            raise ValueError("running_mean and running_var are needed unless training")
        statistic = Spec(x.shape[1:2], x.dtype) if training else None
        return x, statistic, statistic

    def describe(self, x, *inputs, last, precision, training, **attrs):
        if training and prod(x.shape) == x.shape[1]:
            raise ValueError(
                f"x of shape {x.shape} has one value per channel: training needs more"
            )
        return _descriptor(x, last, training=training, **attrs)

    def compute(self, inputs, attrs, out=None):
        x, *channels = inputs
        channels += [None] * (5 - len(channels))
        residual = channels.pop()
        last = is_channels_last(x)
        norm, (spec, *statistics) = prepared(self, last, inputs, attrs)
        y = target(out, spec, last, inputs)
        mean, var = (s and np.empty(*s) for s in statistics)
        norm.forward(
            dense(x, last),
            *map(optional_dense, channels),
            None if residual is None else dense(residual, last),
            dense(y, last),
            mean,
            var,
            call_threads(),
        )
        return finish(out, y), mean, var

    def reference(
        self, x, weight, bias, mean, var, residual=None, *, training, eps, activation
    ):
        if training:
            axes = (0, *range(2, x.ndim))
            mean, var = x.mean(axes), x.var(axes)
        y = (x - _per_channel(mean, x)) / np.sqrt(_per_channel(var, x) + eps)
        if weight is not None:
            y = y * _per_channel(weight, x)
        if bias is not None:
            y = y + _per_channel(bias, x)
        if residual is not None:
            y = y + residual
        if activation is not None:
            most = _MOST[activation]
            y = np.where(y > most, most, np.maximum(y, 0))
        return (y, mean, var) if training else (y, None, None)

    def backward(self, node, dy, *_):
        x, weight, bias, mean, var, *residual = node.inputs
        y, *saved = node.outputs
        attrs = node.attrs
        rectified = attrs["activation"] is not None
        adds = bool(residual) and rectified
        dx, dweight, dbias, dresidual = apply(
            BATCH_NORM_BACKWARD,
            dy,
            x,
            y if adds else None,  # else its sign follows from x
            weight,
            bias,
            *(saved if attrs["training"] else (mean, var)),
            **attrs,
            mask=(True, weight is not None, bias is not None, adds),
        )
        gradients = dx, dweight, dbias, None, None
        return (*gradients, dresidual if adds else dy) if residual else gradients

    def lower(self, lowering, node):
        inputs = [*map(lowering.operand, node.inputs), None][:6]
        outputs = map(lowering.result, node.outputs)
        lowering.emit(
            "batch_norm_forward", (*inputs, *outputs), lowering.describe(node)
        )


class BatchNormBackward(Operator):
    """``(dx, dweight, dbias, dresidual)``; `mask` says which are wanted.

    mean and var are those that the forward call used; y is its result where it
    added a residual and applied an activation, else None.
    """

    name = "batch_norm_backward"

    def infer(
        self, dy, x, y, weight, bias, mean, var, *, training, eps, activation, mask
    ):
        check_same_dtype(dy=dy, x=x)
        check_gradient(dy, x.shape)
        _check_channels(x, weight=weight, bias=bias, mean=mean, var=var)
        channels = Spec(x.shape[1:2], x.dtype)
        specs = x, channels, channels, x
        return tuple(
            spec if want else None for spec, want in zip(specs, mask, strict=True)
        )

    def describe(self, dy, x, *inputs, last, precision, mask, **attrs):
        return _descriptor(x, last, **attrs)

    def compute(self, inputs, attrs, out=None):
        dy, x, y, *channels = inputs
        last = is_channels_last(x)
        norm, specs = prepared(self, last, inputs, attrs)
        results = [s and target(None, s, last and len(s.shape) > 2, ()) for s in specs]
        norm.backward(
            dense(dy, last),
            dense(x, last),
            None if y is None else dense(y, last),
            *map(optional_dense, channels),
            *(r if r is None else dense(r, last and r.ndim > 2) for r in results),
            call_threads(),
        )
        return tuple(results)

    def reference(
        self, dy, x, y, weight, bias, mean, var, *, training, eps, activation, mask
    ):
        axes = (0, *range(2, x.ndim))
        deviation = 1 / np.sqrt(var + eps)
        scale = deviation if weight is None else weight * deviation
        centred = x - _per_channel(mean, x)
        if activation is not None:
            if y is None:
                y = centred * _per_channel(scale, x)
                y = y if bias is None else y + _per_channel(bias, x)
            inside = (y > 0) & ~(y >= _MOST[activation])
            dy = np.where(inside, dy, dy.dtype.type(0))
        total, product = dy.sum(axes), (dy * centred).sum(axes)
        dx = dy
        if training:
            count = x.dtype.type(prod(x.shape) // x.shape[1])
            slope = product * deviation**2 / count
            dx = dx - _per_channel(total / count, x) - _per_channel(slope, x) * centred
        results = dx * _per_channel(scale, x), product * deviation, total, dy
        return tuple(r if want else None for r, want in zip(results, mask, strict=True))

    def lower(self, lowering, node):
        lowering.node(node, "batch_norm_backward", lowering.describe(node))


class RunningStatistics(Operator):
    """``new = (1 - momentum) running + momentum batch``, the variance unbiased.

    Inputs are x, whose size counts, the mean and var of its channels, the
    running ones and the number of batches, which may be None. Without momentum
    (None) it is 1 / the new number: the mean of all batches.
    """

    name = "running_statistics"

    def infer(self, x, mean, var, running_mean, running_var, batches=None, *, momentum):
        _check_channels(x, running_mean=running_mean, running_var=running_var)
        return running_mean, running_var, batches

    def compute(self, inputs, attrs, out=None):
        x, *statistics, batches = inputs
        results = [None if a is None else np.empty_like(a) for a in inputs[3:]]
        _core.running_statistics(
            *_counts(x.shape, **attrs),
            *map(dense, statistics),
            optional_dense(batches),
            *results,
        )
        return tuple(results)

    def reference(
        self, x, mean, var, running_mean, running_var, batches=None, *, momentum
    ):
        count, _ = _counts(x.shape, momentum)
        if batches is not None:
            batches = batches + 1
        share = 1 / batches if momentum is None else momentum
        var = var * (count / max(count - 1, 1))
        return (
            (1 - share) * running_mean + share * mean,
            (1 - share) * running_var + share * var,
            batches,
        )

    def lower(self, lowering, node):
        x, *inputs = node.inputs
        operands = map(lowering.operand, inputs), map(lowering.result, node.outputs)
        counts = _counts(x.shape, **node.attrs)
        lowering.emit(
            "running_statistics",
            tuple(operand for group in operands for operand in group),
            counts,
            segment="update",
        )


BATCH_NORM = register(BatchNorm())
BATCH_NORM_BACKWARD = register(BatchNormBackward())
RUNNING_STATISTICS = register(RunningStatistics())


def batch_norm(
    x,
    running_mean,
    running_var,
    weight=None,
    bias=None,
    training=False,
    momentum=0.1,
    eps=1e-5,
    *,
    out=None,
):
    """Normalise each channel over the batch.

    ``(x - mean) / sqrt(var + eps) * weight + bias``, where mean and variance
    are those of the batch in training, else the running ones.

    Parameters
    ----------
    x : array (N, C) or (N, C, space)
    running_mean, running_var : array (C,), or None when training
        Changed in place when training.
    weight, bias : array (C,), optional
    training : bool
    momentum : float
        Share of the batch in the new running statistics; its variance is made
        unbiased for them.
    eps : float
        Added to the variance.
    out : array, optional
        Where the result is written.

    Returns
    -------
    array like x

    Raises
    ------
    ValueError
        For shapes that do not fit, and for training with one value per channel.

    References
    ----------
    S. Ioffe, C. Szegedy, "Batch normalization", ICML 2015.
    """
    x = as_array(x, "x")
    if x.shape == (0,):  # without channels, too
        return x
    return normalize(
        x,
        as_optional(running_mean, "running_mean"),
        as_optional(running_var, "running_var"),
        None,
        as_optional(weight, "weight"),
        as_optional(bias, "bias"),
        training=training,
        momentum=float(momentum),
        eps=eps,
        out=out,
    )


def normalize(
    x,
    running_mean,
    running_var,
    batches,
    weight,
    bias,
    *,
    training,
    momentum,
    eps,
    out=None,
):
    """`batch_norm` that counts the batches, and takes a momentum of None."""
    attrs = {"training": bool(training), "eps": float(eps), "activation": None}
    if not training:
        inputs = x, weight, bias, running_mean, running_var
        return call(BATCH_NORM, inputs, attrs, out)[0]
    y, mean, var = call(BATCH_NORM, (x, weight, bias, None, None), attrs, out)
    constant = isinstance(x, Traced) and not x.batched  # what a derivative is of
    if running_mean is not None and not constant:
        running = running_mean, running_var, batches
        new = apply(RUNNING_STATISTICS, x, mean, var, *running, momentum=momentum)
        for old, value in zip(running, new, strict=True):
            if isinstance(old, np.ndarray):
                fill(old, value)
            elif old is not None:
                old.assign(value)
    return y


def batch_norm_backward(
    dy,
    x,
    running_mean,
    running_var,
    weight=None,
    training=False,
    eps=1e-5,
    *,
    output_mask=(True, True, True),
):
    """Gradients of batch normalisation.

    Parameters
    ----------
    dy : array like x
        Gradient of the result.
    x, running_mean, running_var, weight, training, eps
        As in the forward call. The running statistics are not read in
        training, nor changed.
    output_mask : three bools
        Which gradients are wanted.

    Returns
    -------
    (dx, dweight, dbias) : arrays, or None where the mask is False
    """
    x, weight = as_array(x, "x"), as_optional(weight, "weight")
    attrs = {"training": bool(training), "eps": float(eps), "activation": None}
    mean = as_optional(running_mean, "running_mean")
    var = as_optional(running_var, "running_var")
    if training:
        _, mean, var = apply(BATCH_NORM, x, None, None, None, None, **attrs)
    inputs = as_array(dy, "dy"), x, None, weight, None, mean, var
    mask = (*check_mask(output_mask), False)
    return apply(BATCH_NORM_BACKWARD, *inputs, **attrs, mask=mask)[:3]


# --------------------------------------------------------- arguments and checks


def _check_channels(x, **channels):
    """Raise unless x is (N, C, ...) and the others are (C,)."""
    check_same_dtype(x=x, **channels)
    if x.ndim < 2:
        raise ValueError(f"x must have at least 2 dimensions (N, C), not {x.shape}")
    for name, spec in channels.items():
        if spec is not None and spec.shape != x.shape[1:2]:
            raise ValueError(
                f"{name} must have shape {x.shape[1:2]} for x of shape {x.shape}, "
                f"not {spec.shape}"
            )


def _descriptor(x, last, *, training, eps, activation):
    n, c, *space = x.shape
    pixels = prod(space)
    return _core.BatchNorm(
        x.dtype.name,
        "last" if last or pixels == 1 else "first",
        n,
        c,
        pixels,
        training=training,
        eps=eps,
        activation=activation,
    )


def _counts(shape, momentum):
    """Elements of a channel; the momentum, where NaN stands for None."""
    return prod(shape) // shape[1], np.nan if momentum is None else momentum


def _per_channel(values, x):
    """Values of the channels, to be broadcast against x."""
    return values.reshape(-1, *(1,) * (x.ndim - 2))
