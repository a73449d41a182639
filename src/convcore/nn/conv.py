"""Convolutions."""

from math import prod

from .. import functional as F
from ..ops.window import integer, per_axis
from .initial import uniform
from .module import Module

__all__ = ["Conv1d", "Conv2d", "Conv3d"]


class _Conv(Module):
    axes: int

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=1,
        padding=0,
        dilation=1,
        groups=1,
        bias=True,
    ):
        in_channels = integer(in_channels, "in_channels", 1)
        out_channels = integer(out_channels, "out_channels", 1)
        groups = integer(groups, "groups", 1)
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"groups={groups} must divide in_channels={in_channels} and "
                f"out_channels={out_channels}"
            )
        kernel = per_axis(kernel_size, self.axes, "kernel_size", 1)
        shape = (out_channels, in_channels // groups, *kernel)
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.groups = groups
        self.weight = uniform(shape, prod(shape[1:]))
        self.bias = uniform((out_channels,), prod(shape[1:])) if bias else None

    def forward(self, x):
        convolve = (F.conv1d, F.conv2d, F.conv3d)[self.axes - 1]
        return convolve(
            x,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
        )


class Conv1d(_Conv):
    """Convolution of (N, C, L), as torch.nn.Conv1d."""

    axes = 1


class Conv2d(_Conv):
    """Convolution of (N, C, H, W), as torch.nn.Conv2d."""

    axes = 2


class Conv3d(_Conv):
    """Convolution of (N, C, D, H, W), as torch.nn.Conv3d."""

    axes = 3
