"""Softmax cross-entropy, and its gradient."""

from __future__ import annotations

import inspect
from math import prod

import numpy as np

from .. import _core
from .._config import call_threads
from .arithmetic import add, mul
from .base import (
    FLOAT32,
    FLOAT64,
    INT64,
    Operator,
    Spec,
    Traced,
    apply,
    as_array,
    as_index_array,
    as_optional,
    check_choice,
    check_gradient,
    check_same_dtype,
    prepared,
    register,
)
from .flatten import regroup, reshape
from .memory import dense, optional_dense
from .rearrange import permute
from .reduce import mean
from .reduce import sum as sum_over
from .softmax import log_softmax
from .window import LARGEST, integer

__all__ = ["cross_entropy", "cross_entropy_backward"]

REDUCTIONS = ("mean", "sum", "none")


class CrossEntropy(Operator):
    """Loss of logits (N, classes) and int64 targets (N,)."""

    name = "cross_entropy"

    def infer(
        self, logits, target, weight=None, *, reduction, ignore_index, label_smoothing
    ):
        check_same_dtype(logits=logits, weight=weight)
        check_choice(reduction, "reduction", REDUCTIONS)
        _check_smoothing(label_smoothing)
        if logits.ndim != 2 or logits.shape[1] == 0:
            raise ValueError(
                f"logits must have shape (N, classes) or (classes,), not {logits.shape}"
            )
        n, classes = logits.shape
        if target.dtype != INT64:
            raise TypeError(f"target has dtype {target.dtype}, expected int64")
        if target.shape != (n,):
            raise ValueError(
                f"target must have shape {(n,)} for logits of shape {logits.shape}, "
                f"not {target.shape}"
            )
        if weight is not None and weight.shape != (classes,):
            raise ValueError(
                f"weight must have shape {(classes,)} for logits of shape "
                f"{logits.shape}, not {weight.shape}"
            )
        return Spec((n,) if reduction == "none" else (), logits.dtype)

    def describe(self, logits, target, weight=None, *, last, precision, **attrs):
        return _core.CrossEntropy(logits.dtype.name, *logits.shape, **attrs)

    def compute(self, inputs, attrs, out=None):
        logits, target, weight = inputs
        loss, spec = prepared(self, False, inputs, attrs)
        result = np.empty(*spec)
        arrays = dense(logits), dense(target), optional_dense(weight)
        try:
            loss.forward(*arrays, result, call_threads())
        except ValueError:
            check_targets(target, logits.shape[1], attrs["ignore_index"])
            raise
        return result

    def reference(
        self, logits, target, weight=None, *, reduction, ignore_index, label_smoothing
    ):
        share, total = _shares(
            logits, target, weight, reduction, ignore_index, label_smoothing
        )
        rows = -(share * _log_softmax(logits)).sum(1)
        return rows if reduction == "none" else np.asarray(rows.sum() / total)

    def backward(self, node, dloss):
        dlogits = apply(CROSS_ENTROPY_BACKWARD, dloss, *node.inputs, **node.attrs)
        return dlogits, None, None

    def lower(self, lowering, node):
        lowering.node(node, "cross_entropy_forward", lowering.describe(node))


class CrossEntropyBackward(Operator):
    """``dlogits`` from ``dloss``, shaped like the loss, and the inputs."""

    name = "cross_entropy_backward"

    def infer(self, dloss, logits, target, weight=None, **attrs):
        check_same_dtype(logits=logits, dloss=dloss)
        loss = CROSS_ENTROPY.infer(logits, target, weight, **attrs)
        check_gradient(dloss, loss.shape)
        return logits

    def describe(self, dloss, logits, target, weight=None, **attrs):
        return CROSS_ENTROPY.describe(logits, target, weight, **attrs)

    def compute(self, inputs, attrs, out=None):
        dloss, logits, target, weight = inputs
        loss, spec = prepared(self, False, inputs, attrs)
        dlogits = np.empty(*spec)
        arrays = dense(dloss), dense(logits), dense(target), optional_dense(weight)
        try:
            loss.backward(*arrays, dlogits, call_threads())
        except ValueError:
            check_targets(target, logits.shape[1], attrs["ignore_index"])
            raise
        return dlogits

    def reference(self, dloss, logits, target, weight=None, **attrs):
        share, total = _shares(logits, target, weight, **attrs)
        softmax = np.exp(_log_softmax(logits))
        rows = softmax * share.sum(1, keepdims=True) - share
        scale = dloss[:, None] if attrs["reduction"] == "none" else dloss / total
        return rows * scale

    def lower(self, lowering, node):
        lowering.node(node, "cross_entropy_backward", lowering.describe(node))


CROSS_ENTROPY = register(CrossEntropy())
CROSS_ENTROPY_BACKWARD = register(CrossEntropyBackward())


def cross_entropy(
    logits,
    target,
    weight=None,
    ignore_index=-100,
    reduction="mean",
    label_smoothing=0.0,
):
    """Softmax cross-entropy of class scores and class numbers.

    Parameters
    ----------
    logits : array (N, classes, ...) or (classes,)
        Scores before the softmax.
    target : int64 array (N, ...) or (), or float array like logits
        Class numbers, or the probability of each class.
    weight : array (classes,), optional
        Weight of each class.
    ignore_index : int
        Rows with this target count nothing.
    reduction : {"mean", "sum", "none"}
        The mean divides by the sum of the weights of the targets, or with
        probabilities by their number.
    label_smoothing : float
        Share of the loss, 0 to 1, that is spread over all classes.

    Returns
    -------
    array () or, with "none", of the shape of target

    Raises
    ------
    ValueError
        For sizes that do not fit together or targets outside of the classes.
    """
    logits, weight = as_array(logits, "logits"), as_optional(weight, "weight")
    if getattr(target, "dtype", None) in (FLOAT32, FLOAT64):
        return _of_probabilities(logits, target, weight, reduction, label_smoothing)
    target = as_index_array(target, "target")
    attrs = _attributes(ignore_index, reduction, label_smoothing)
    rows, targets = _rows(logits, target)
    loss = apply(CROSS_ENTROPY, rows, targets, weight, **attrs)
    if reduction == "none" and loss.shape != target.shape:
        return regroup(loss, target.shape)
    return loss


def cross_entropy_backward(dy, logits, target, *args, **kwargs):
    """Gradient of `cross_entropy` with respect to the logits.

    Parameters
    ----------
    dy : array () or, with reduction "none", of the shape of the loss
        Gradient of the loss.
    logits, target, weight, ignore_index, reduction, label_smoothing
        As in the forward call; target holds class numbers.

    Returns
    -------
    array like logits
    """
    given = inspect.signature(cross_entropy).bind(logits, target, *args, **kwargs)
    given.apply_defaults()
    logits, target, weight, *options = given.arguments.values()
    dy, logits = as_array(dy, "dy"), as_array(logits, "logits")
    target, weight = as_index_array(target, "target"), as_optional(weight, "weight")
    attrs = _attributes(*options)
    rows, targets = _rows(logits, target)
    if attrs["reduction"] == "none":
        check_gradient(dy, target.shape)
        dy = regroup(dy, targets.shape)
    dlogits = apply(CROSS_ENTROPY_BACKWARD, dy, rows, targets, weight, **attrs)
    return _as_logits(dlogits, logits.shape)


def _rows(logits, target):
    """Logits (N, classes, space) as rows of classes, and their targets."""
    if logits.ndim == 1 and target.ndim == 0 and not _is_batch(logits):
        return regroup(logits, (1, *logits.shape)), regroup(target, (1,))
    n, classes, *space = logits.shape if logits.ndim > 1 else (0, 0)
    if not space:
        return logits, target
    if target.shape != (n, *space):
        raise ValueError(
            f"target must have shape {(n, *space)} for logits of shape "
            f"{logits.shape}, not {target.shape}"
        )
    last = permute(logits, (0, *range(2, logits.ndim), 1))
    rows = n * prod(space)
    return regroup(last, (rows, classes)), regroup(target, (rows,))


def _as_logits(rows, shape):
    """The inverse of `_rows`."""
    if len(shape) < 3:
        return regroup(rows, shape) if rows.shape != shape else rows
    n, classes, *space = shape
    last = regroup(rows, (n, *space, classes))
    return permute(last, (0, last.ndim - 1, *range(1, last.ndim - 1)))


def _is_batch(x):
    return isinstance(x, Traced) and x.batched


def _of_probabilities(logits, target, weight, reduction, label_smoothing):
    """Cross-entropy with the probability of every class as the target."""
    target = as_array(target, "target")
    _check_smoothing(label_smoothing)
    if logits.ndim == 0 or target.shape != logits.shape:
        raise ValueError(f"target must have shape {logits.shape}, not {target.shape}")
    dim = 0 if logits.ndim == 1 and not _is_batch(logits) else 1
    classes = logits.shape[dim]
    if label_smoothing:
        target = add(mul(target, 1 - label_smoothing), label_smoothing / classes)
    if weight is not None:
        target = mul(
            target, reshape(weight, (classes, *(1,) * (logits.ndim - dim - 1)))
        )
    terms = mul(sum_over(mul(log_softmax(logits, dim), target), dim), -1.0)
    return reduced(terms, reduction)


def reduced(terms, reduction):
    """Mean or sum of the terms of a loss, or the terms."""
    check_choice(reduction, "reduction", REDUCTIONS)
    if reduction == "none":
        return terms
    return mean(terms) if reduction == "mean" else sum_over(terms)


def check_targets(target, classes, ignore_index):
    """Raise when a target is neither a class nor the ignored number."""
    wrong = ((target < 0) | (target >= classes)) & (target != ignore_index)
    if wrong.any():
        raise ValueError(
            f"target holds {target[wrong][0]}, expected 0 to {classes - 1} or "
            f"ignore_index={ignore_index}"
        )


def _attributes(ignore_index, reduction, label_smoothing):
    return {
        "ignore_index": integer(ignore_index, "ignore_index", -LARGEST),
        "reduction": reduction,
        "label_smoothing": float(label_smoothing),
    }


def _check_smoothing(label_smoothing):
    if not 0 <= label_smoothing <= 1:
        raise ValueError(
            f"label_smoothing must be between 0 and 1, not {label_smoothing}"
        )


def _log_softmax(logits):
    shifted = logits - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def _shares(logits, target, weight, reduction, ignore_index, label_smoothing):
    """How much -log p of each class counts in each row, and the divisor."""
    n, classes = logits.shape
    check_targets(target, classes, ignore_index)
    if weight is None:
        weight = np.ones(classes, logits.dtype)
    counted = target != ignore_index
    t = np.where(counted, target, 0)
    share = np.tile(label_smoothing / classes * weight, (n, 1))
    share[np.arange(n), t] += (1 - label_smoothing) * weight[t]
    total = (weight[t] * counted).sum() if reduction == "mean" else 1
    return share * counted[:, None], total
