"""Adaptive average pooling, and its gradient."""

from __future__ import annotations

import numpy as np

from .. import _core
from .._config import call_threads
from .base import (
    Operator,
    Spec,
    add_batch,
    apply,
    as_array,
    call,
    fill,
    named,
    prepared,
    register,
)
from .memory import dense, finish, is_channels_last, target
from .window import check_elements, integer, sizes, three_axes

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool1d_backward",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "adaptive_avg_pool3d",
    "adaptive_avg_pool3d_backward",
]


class AdaptiveAvgPool(Operator):
    """Mean of each window; attribute `out` is the size of the result's space."""

    name = "adaptive_avg_pool"

    def infer(self, x, *, out):
        if 0 in x.shape[1:]:
            raise ValueError(f"x of shape {x.shape} may be empty in N only")
        check_elements((*x.shape[:2], *out), "the result")
        return Spec((*x.shape[:2], *out), x.dtype)

    def describe(self, x, *, last, precision, out):
        return _descriptor(x, x.shape[2:], out, last)

    def compute(self, inputs, attrs, out=None):
        (x,) = inputs
        last = is_channels_last(x)
        pool, spec = prepared(self, last, inputs, attrs)
        y = target(out, spec, last, inputs)
        pool.forward(dense(x, last), dense(y, last), call_threads())
        return finish(out, y)

    def reference(self, x, *, out):
        for axis, n in enumerate(out, 2):
            parts = [
                x.take(range(*window), axis).mean(axis, keepdims=True)
                for window in _windows(x.shape[axis], n)
            ]
            x = np.concatenate(parts, axis)
        return x

    def backward(self, node, dy):
        (x,) = node.inputs
        return (apply(ADAPTIVE_AVG_POOL_BACKWARD, dy, size=x.shape[2:]),)

    def lower(self, lowering, node):
        (x,), (y,) = node.inputs, node.outputs
        if x.shape == y.shape:
            lowering.alias(y, lowering.operand(x))
        else:
            lowering.node(node, "adaptive_pool_forward", lowering.describe(node))


class AdaptiveAvgPoolBackward(Operator):
    """``dx`` from ``dy``; attribute `size` is that of x's space."""

    name = "adaptive_avg_pool_backward"

    def infer(self, dy, *, size):
        return Spec((*dy.shape[:2], *size), dy.dtype)

    def describe(self, dy, *, last, precision, size):
        return _descriptor(dy, size, dy.shape[2:], last)

    def compute(self, inputs, attrs, out=None):
        (dy,) = inputs
        last = is_channels_last(dy)
        pool, spec = prepared(self, last, inputs, attrs)
        dx = target(out, spec, last, inputs)
        pool.backward(dense(dy, last), dense(dx, last), call_threads())
        return finish(out, dx)

    def reference(self, dy, *, size):
        for axis, n in enumerate(size, 2):
            dx = np.zeros((*dy.shape[:axis], n, *dy.shape[axis + 1 :]), dy.dtype)
            for o, (first, last) in enumerate(_windows(n, dy.shape[axis])):
                share = dy.take([o], axis) / dy.dtype.type(last - first)
                dx[(slice(None),) * axis + (slice(first, last),)] += share
            dy = dx
        return dy

    def lower(self, lowering, node):
        lowering.node(node, "adaptive_pool_backward", lowering.describe(node))


ADAPTIVE_AVG_POOL = register(AdaptiveAvgPool())
ADAPTIVE_AVG_POOL_BACKWARD = register(AdaptiveAvgPoolBackward())


def _make_adaptive_avg_pool(axes: int):
    def adaptive_avg_pool(x, output_size, *, out=None):
        """Mean of windows that divide the input evenly into `output_size`.

        Output o of an axis is the mean of the elements from o*size/out, rounded
        down, to (o + 1)*size/out, rounded up.

        Parameters
        ----------
        x : array (N, C, {space}) or (C, {space})
        output_size : int or one per axis
            None in place of an int: as large as x.
        out : array, optional
            Where the result is written.

        Returns
        -------
        array (N, C, {out}) or (C, {out})
        """
        x, single = add_batch(as_array(x, "x"), axes)
        attrs = {"out": _sizes(output_size, x.shape[2:])}
        if single:
            y = call(ADAPTIVE_AVG_POOL, (x,), attrs)[0]
            return y if out is None else fill(out, y)
        return call(ADAPTIVE_AVG_POOL, (x,), attrs, out)

    return named(adaptive_avg_pool, f"adaptive_avg_pool{axes}d", axes)


def _make_adaptive_avg_pool_backward(axes: int):
    def adaptive_avg_pool_backward(dy, input_shape):
        """Gradient of adaptive average pooling.

        Parameters
        ----------
        dy : array (N, C, {out}) or (C, {out})
            Gradient of the result.
        input_shape : tuple
            Shape of x.

        Returns
        -------
        array of shape `input_shape`
        """
        dy, shape = as_array(dy, "dy"), sizes(input_shape, "input_shape")
        if len(shape) != dy.ndim or shape[:-axes] != dy.shape[:-axes]:
            raise ValueError(f"input_shape {shape} does not fit dy of shape {dy.shape}")
        dy, single = add_batch(dy, axes, "dy")
        dx = apply(ADAPTIVE_AVG_POOL_BACKWARD, dy, size=shape[-axes:])
        return dx[0] if single else dx

    return named(adaptive_avg_pool_backward, f"adaptive_avg_pool{axes}d_backward", axes)


adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = map(
    _make_adaptive_avg_pool, (1, 2, 3)
)
(
    adaptive_avg_pool1d_backward,
    adaptive_avg_pool2d_backward,
    adaptive_avg_pool3d_backward,
) = map(_make_adaptive_avg_pool_backward, (1, 2, 3))


def _sizes(output_size, size):
    """Output sizes per axis; None stands for that of x."""
    given = hasattr(output_size, "__iter__")
    entries = tuple(output_size) if given else (output_size,) * len(size)
    if len(entries) != len(size):
        raise ValueError(
            f"output_size must have one entry per axis ({len(size)}), not {output_size}"
        )
    return tuple(
        n if entry is None else integer(entry, "output_size", 1)
        for entry, n in zip(entries, size, strict=True)
    )


def _descriptor(x, size, out, last):
    layout = "last" if last else "first"
    axes = three_axes(size, 1), three_axes(out, 1)
    return _core.AdaptivePool(x.dtype.name, layout, *x.shape[:2], *axes)


def _windows(size, out):
    """First element of each window, and the one after its last."""
    return [(o * size // out, -((o + 1) * size // -out)) for o in range(out)]
