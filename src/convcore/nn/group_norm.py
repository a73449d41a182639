"""Norms over the elements of a sample: group, instance and layer norm."""

import numpy as np

from .. import functional as F
from ..graph import Parameter
from ..ops.window import integer, sizes
from .module import Module

__all__ = [
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
]


class _Norm(Module):
    """Has a weight of ones and a bias of zeros, or None of them."""

    def __init__(self, shape, eps, weight, bias):
        self.eps = eps
        self.weight = Parameter(np.ones(shape)) if weight else None
        self.bias = Parameter(np.zeros(shape)) if bias else None


class GroupNorm(_Norm):
    """Group norm of (N, C, ...), as torch.nn.GroupNorm."""

    def __init__(self, num_groups, num_channels, eps=1e-5, affine=True):
        num_groups = integer(num_groups, "num_groups", 1)
        num_channels = integer(num_channels, "num_channels", 1)
        if num_channels % num_groups:
            raise ValueError(
                f"num_groups={num_groups} must divide num_channels={num_channels}"
            )
        super().__init__((num_channels,), eps, affine, affine)
        self.num_groups = num_groups

    def forward(self, x):
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class _InstanceNorm(_Norm):
    def __init__(self, num_features, eps=1e-5, *, affine=False):
        num_features = integer(num_features, "num_features", 1)
        super().__init__((num_features,), eps, affine, affine)

    def forward(self, x):
        return F.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)


class InstanceNorm1d(_InstanceNorm):
    """Instance norm of (N, C, L), as torch.nn.InstanceNorm1d without averages."""


class InstanceNorm2d(_InstanceNorm):
    """Instance norm of (N, C, H, W), as torch.nn.InstanceNorm2d without averages."""


class InstanceNorm3d(_InstanceNorm):
    """Instance norm of (N, C, D, H, W), as torch.nn.InstanceNorm3d without averages."""


class LayerNorm(_Norm):
    """Norm over the last dimensions, as torch.nn.LayerNorm."""

    def __init__(self, normalized_shape, eps=1e-5, elementwise_affine=True, bias=True):
        one = not hasattr(normalized_shape, "__iter__")
        shape = (normalized_shape,) if one else normalized_shape
        self.normalized_shape = sizes(shape, "normalized_shape", 1)
        affine = elementwise_affine
        super().__init__(self.normalized_shape, eps, affine, affine and bias)

    def forward(self, x):
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
