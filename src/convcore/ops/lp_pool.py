"""Power-average pooling: composed of powers and average pooling."""

from __future__ import annotations

from math import prod

from .arithmetic import mul
from .base import as_array, named
from .elementwise import power
from .pool import avg_pool1d, avg_pool2d, avg_pool3d
from .relu import relu
from .window import per_axis

__all__ = ["lp_pool1d", "lp_pool2d", "lp_pool3d"]


def _make_lp_pool(axes: int):
    average = (avg_pool1d, avg_pool2d, avg_pool3d)[axes - 1]

    def lp_pool(x, norm_type, kernel_size, stride=None, ceil_mode=False):
        """p-norm of each window: ``sum(x ** p) ** (1 / p)``, 0 of a negative sum.

        Parameters
        ----------
        x : array (N, C, {space}) or (C, {space})
            float32 or float64.
        norm_type : float
            p.
        kernel_size : int or one per axis
        stride : int or one per axis, optional
            `kernel_size` when not given.
        ceil_mode : bool
            Let a last window reach beyond the input.

        Returns
        -------
        array (N, C, {out}) or (C, {out})
        """
        kernel = per_axis(kernel_size, axes, "kernel_size", 1)
        means = average(
            power(as_array(x, "x"), norm_type), kernel, stride, 0, ceil_mode
        )
        return power(mul(relu(means), float(prod(kernel))), 1.0 / norm_type)

    return named(lp_pool, f"lp_pool{axes}d", axes)


lp_pool1d, lp_pool2d, lp_pool3d = map(_make_lp_pool, (1, 2, 3))
