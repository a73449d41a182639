"""Normalisation."""

import numpy as np

from .. import functional as F
from ..graph import Buffer, Parameter
from ..ops.batch_norm import normalize
from ..ops.window import integer
from .module import FunctionModule, Module

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "LocalResponseNorm"]


class _BatchNorm(Module):
    ranks: tuple[int, ...]

    def __init__(
        self,
        num_features,
        eps=1e-5,
        momentum=0.1,
        affine=True,
        track_running_stats=True,
    ):
        channels = integer(num_features, "num_features", 1)
        self.eps = eps
        self.momentum = momentum
        self.weight = Parameter(np.ones(channels)) if affine else None
        self.bias = Parameter(np.zeros(channels)) if affine else None
        self.running_mean = self.running_var = self.num_batches_tracked = None
        if track_running_stats:
            self.running_mean = Buffer(np.zeros(channels))
            self.running_var = Buffer(np.ones(channels))
            self.num_batches_tracked = Buffer(np.array(0))

    def forward(self, x):
        if x.ndim not in self.ranks:
            ranks = " or ".join(map(str, self.ranks))
            raise ValueError(
                f"{type(self).__name__} takes {ranks} dimensions, not shape {x.shape}"
            )
        return normalize(
            x,
            self.running_mean,
            self.running_var,
            self.num_batches_tracked,
            self.weight,
            self.bias,
            training=self.training or self.running_mean is None,
            momentum=self.momentum,
            eps=self.eps,
        )


class BatchNorm1d(_BatchNorm):
    """Normalisation of the channels of (N, C) or (N, C, L), as torch.nn.BatchNorm1d."""

    ranks = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Normalisation of the channels of (N, C, H, W), as torch.nn.BatchNorm2d."""

    ranks = (4,)


class BatchNorm3d(_BatchNorm):
    """Normalisation of the channels of (N, C, D, H, W), as torch.nn.BatchNorm3d."""

    ranks = (5,)


class LocalResponseNorm(FunctionModule):
    """Normalisation by neighbouring channels, as torch.nn.LocalResponseNorm."""

    function = F.local_response_norm

    def __init__(self, size, alpha=1e-4, beta=0.75, k=1.0):
        super().__init__(size=size, alpha=alpha, beta=beta, k=k)
