"""Max pooling to a given size, and its gradient."""

from __future__ import annotations

from math import prod

import numpy as np

from .base import (
    Operator,
    Spec,
    add_batch,
    apply,
    as_array,
    as_index_array,
    named,
    register,
    spec_of,
)
from .unpool import SCATTER_ADD
from .window import per_axis, sizes

__all__ = [
    "adaptive_max_pool1d",
    "adaptive_max_pool1d_backward",
    "adaptive_max_pool2d",
    "adaptive_max_pool2d_backward",
    "adaptive_max_pool3d",
    "adaptive_max_pool3d_backward",
]


class AdaptiveMaxPool(Operator):
    """``(y, indices)``: the maxima of windows, int64 positions in the plane.

    Along an axis, window i of `size` has the elements from ``i * n // size`` up to
    ``-(-(i + 1) * n // size)``, of n.
    """

    name = "adaptive_max_pool"

    def infer(self, x, *, size):
        if 0 in x.shape[1:]:
            raise ValueError(f"x of shape {x.shape} may be empty in N only")
        shape = (*x.shape[:2], *size)
        return Spec(shape, x.dtype), Spec(shape, np.dtype(np.int64))

    def compute(self, inputs, attrs, out=None):
        self.infer(*map(spec_of, inputs), **attrs)
        y, indices = self.reference(*inputs, **attrs)
        if out is None:
            return y, indices
        out[...] = y
        return out, indices

    def reference(self, x, *, size):
        n, c, *space = x.shape
        y = np.empty((n, c, *size), x.dtype)
        indices = np.empty(y.shape, np.int64)
        positions = np.arange(prod(space)).reshape(space)
        for place in np.ndindex(*size):
            window = tuple(
                slice(i * length // s, -(-(i + 1) * length // s))
                for i, length, s in zip(place, space, size, strict=True)
            )
            of_window = x[(..., *window)].reshape(n, c, -1)
            largest = _last_nan_or_first_largest(of_window)
            indices[(..., *place)] = positions[window].reshape(-1)[largest]
            y[(..., *place)] = np.take_along_axis(of_window, largest[..., None], 2)[
                ..., 0
            ]
        return y, indices

    def backward(self, node, dy, _):
        (x,), (_, indices) = node.inputs, node.outputs
        return (apply(SCATTER_ADD, dy, indices, size=x.shape[2:]),)


ADAPTIVE_MAX_POOL = register(AdaptiveMaxPool())


def _last_nan_or_first_largest(x):
    """Which element of the last axis torch takes for the maximum."""
    nan = np.isnan(x)
    last_nan = x.shape[-1] - 1 - nan[..., ::-1].argmax(-1)
    return np.where(nan.any(-1), last_nan, x.argmax(-1))


def _make_adaptive_max_pool(axes: int):
    def adaptive_max_pool(x, output_size, return_indices=False):
        """Largest element of windows that divide the input evenly.

        Parameters
        ----------
        x : array (N, C, {space}) or (C, {space})
            float32 or float64; any strides.
        output_size : int or one per axis
            Number of windows; None leaves an axis as long as it is.
        return_indices : bool

        Returns
        -------
        array (N, C, {out}) or (C, {out})
            With `return_indices` a pair, the second being the int64 positions
            of the maxima in their plane {space}, flattened.
        """
        x, one = add_batch(as_array(x, "x"), axes)
        size = output_sizes(x, output_size)
        y, indices = apply(ADAPTIVE_MAX_POOL, x, size=size)
        if one:
            y, indices = y[0], indices[0]
        return (y, indices) if return_indices else y

    return named(adaptive_max_pool, f"adaptive_max_pool{axes}d", axes)


def _make_adaptive_max_pool_backward(axes: int):
    def adaptive_max_pool_backward(dy, indices, input_shape):
        """Gradient of adaptive max pooling.

        Parameters
        ----------
        dy : array (N, C, {out}) or (C, {out})
            Gradient of the result.
        indices : int64 array like dy
            Those of the forward call.
        input_shape : tuple
            Shape of x.

        Returns
        -------
        array of shape `input_shape`
        """
        dy, one = add_batch(as_array(dy, "dy"), axes, "dy")
        indices, _ = add_batch(as_index_array(indices, "indices"), axes, "indices")
        shape = sizes(input_shape, "input_shape")
        if len(shape) != dy.ndim - one or shape[:-axes] != dy.shape[one:2]:
            raise ValueError(f"input_shape {shape} does not fit dy of shape {dy.shape}")
        dx = apply(SCATTER_ADD, dy, indices, size=shape[-axes:])
        return dx[0] if one else dx

    return named(adaptive_max_pool_backward, f"adaptive_max_pool{axes}d_backward", axes)


adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d = map(
    _make_adaptive_max_pool, (1, 2, 3)
)
(
    adaptive_max_pool1d_backward,
    adaptive_max_pool2d_backward,
    adaptive_max_pool3d_backward,
) = map(_make_adaptive_max_pool_backward, (1, 2, 3))


def output_sizes(x, output_size):
    """Size of the result along each axis; None is that of x."""
    space = x.shape[2:]
    if output_size is None or hasattr(output_size, "__index__"):
        output_size = (output_size,) * len(space)
    given = tuple(output_size)
    if len(given) == len(space):
        given = tuple(n if s is None else s for s, n in zip(given, space, strict=True))
    return per_axis(given, len(space), "output_size", 0)
