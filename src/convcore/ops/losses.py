"""Losses composed of other functions, and the negative log likelihood."""

from __future__ import annotations

import numpy as np

from .arithmetic import add, div, mul, sub
from .base import (
    INT64,
    Operator,
    Spec,
    apply,
    as_array,
    as_index_array,
    as_optional,
    check_choice,
    check_gradient,
    check_same_dtype,
    register,
    spec_of,
)
from .elementwise import absolute, huber, softplus, square
from .loss import REDUCTIONS, check_targets, reduced
from .reduce import sum as sum_over
from .window import LARGEST, integer

__all__ = [
    "binary_cross_entropy_with_logits",
    "l1_loss",
    "mse_loss",
    "nll_loss",
    "smooth_l1_loss",
]


def _difference(x, target):
    x, target = as_array(x, "x"), as_array(target, "target")
    return sub(x, target)


def mse_loss(x, target, reduction="mean"):
    """Squared differences.

    Parameters
    ----------
    x, target : array
    reduction : {"mean", "sum", "none"}

    Returns
    -------
    array () or, with "none", like x
    """
    return reduced(square(_difference(x, target)), reduction)


def l1_loss(x, target, reduction="mean"):
    """Magnitudes of differences.

    Parameters
    ----------
    x, target : array
    reduction : {"mean", "sum", "none"}

    Returns
    -------
    array () or, with "none", like x
    """
    return reduced(absolute(_difference(x, target)), reduction)


def smooth_l1_loss(x, target, reduction="mean", beta=1.0):
    """Of a difference d, ``d * d / (2 * beta)`` below beta, else ``|d| - beta / 2``.

    Parameters
    ----------
    x, target : array
    reduction : {"mean", "sum", "none"}
    beta : float

    Returns
    -------
    array () or, with "none", like x
    """
    if beta < 0:
        raise ValueError(f"beta must be at least 0, not {beta}")
    return reduced(huber(_difference(x, target), beta), reduction)


def binary_cross_entropy_with_logits(
    x, target, weight=None, reduction="mean", pos_weight=None
):
    """Cross-entropy of independent yes-or-no answers, given their log odds.

    Parameters
    ----------
    x : array
        Logits.
    target : array like x
        Probabilities.
    weight : array, optional
        Of each term; broadcast.
    reduction : {"mean", "sum", "none"}
    pos_weight : array, optional
        Of the terms of "yes"; broadcast.

    Returns
    -------
    array () or, with "none", like x
    """
    x, target = as_array(x, "x"), as_array(target, "target")
    weight = as_optional(weight, "weight")
    pos_weight = as_optional(pos_weight, "pos_weight")
    if target.shape != x.shape:
        raise ValueError(f"target must have shape {x.shape}, not {target.shape}")
    # -log sigmoid(x) = softplus(-x), -log (1 - sigmoid(x)) = x + softplus(-x)
    negated = softplus(mul(x, -1.0), threshold=np.inf)
    if pos_weight is not None:
        negated = mul(negated, add(mul(sub(pos_weight, 1.0), target), 1.0))
    terms = add(mul(sub(1.0, target), x), negated)
    if weight is not None:
        terms = mul(terms, weight)
    return reduced(terms, reduction)


class NllLoss(Operator):
    """``y[n][space] = -weight[t] x[n][t][space]``, and the sum of the weights[t]."""

    name = "nll_loss"

    def infer(self, x, target, weight=None, *, ignore_index):
        check_same_dtype(x=x, weight=weight)
        if target.dtype != INT64:
            raise TypeError(f"target has dtype {target.dtype}, expected int64")
        if x.ndim < 2 or target.shape != (x.shape[0], *x.shape[2:]):
            raise ValueError(
                f"x must have shape (N, classes, ...) and target (N, ...), not "
                f"{x.shape} and {target.shape}"
            )
        if weight is not None and weight.shape != x.shape[1:2]:
            raise ValueError(
                f"weight must have shape {x.shape[1:2]} for x of shape {x.shape}, "
                f"not {weight.shape}"
            )
        return Spec(target.shape, x.dtype), Spec((), x.dtype)

    def compute(self, inputs, attrs, out=None):
        self.infer(*map(spec_of, inputs), **attrs)
        return self.reference(*inputs, **attrs)

    def reference(self, x, target, weight=None, *, ignore_index):
        share, place = _shares(x, target, weight, ignore_index)
        y = -share * np.take_along_axis(x, place, 1)[:, 0]
        return np.where(share == 0, 0, y).astype(x.dtype), np.asarray(share.sum())

    def backward(self, node, dy, _):
        return apply(NLL_LOSS_BACKWARD, dy, *node.inputs, **node.attrs), None, None


class NllLossBackward(Operator):
    """``dx`` from the gradient of the terms."""

    name = "nll_loss_backward"

    def infer(self, dy, x, target, weight=None, *, ignore_index):
        check_gradient(dy, target.shape)
        return x

    def reference(self, dy, x, target, weight=None, *, ignore_index):
        share, place = _shares(x, target, weight, ignore_index)
        dx = np.zeros_like(x)
        np.put_along_axis(dx, place, -(share * dy)[:, None], 1)
        return dx


NLL_LOSS = register(NllLoss())
NLL_LOSS_BACKWARD = register(NllLossBackward())


def _shares(x, target, weight, ignore_index):
    """Weight of each target, and the targets as indices along the classes."""
    check_targets(target, x.shape[1], ignore_index)
    counted = target != ignore_index
    place = np.where(counted, target, 0)
    weights = np.ones(x.shape[1], x.dtype) if weight is None else weight
    return np.where(counted, weights[place], x.dtype.type(0)), place[:, None]


def nll_loss(x, target, weight=None, ignore_index=-100, reduction="mean"):
    """Negative log likelihood of class numbers.

    Parameters
    ----------
    x : array (N, classes, ...) or (classes,)
        Logarithms of probabilities.
    target : int64 array (N, ...) or ()
    weight : array (classes,), optional
        Weight of each class.
    ignore_index : int
        Elements with this target count nothing.
    reduction : {"mean", "sum", "none"}
        The mean divides by the sum of the weights of the targets.

    Returns
    -------
    array () or, with "none", of the shape of target
    """
    x, target = as_array(x, "x"), as_index_array(target, "target")
    check_choice(reduction, "reduction", REDUCTIONS)
    ignore_index = integer(ignore_index, "ignore_index", -LARGEST)
    one = x.ndim == 1
    if one:
        x, target = x[None], target[None]
    weight = as_optional(weight, "weight")
    terms, total = apply(NLL_LOSS, x, target, weight, ignore_index=ignore_index)
    if reduction == "mean":
        return div(sum_over(terms), total)
    if reduction == "sum":
        return sum_over(terms)
    return terms[0] if one else terms
