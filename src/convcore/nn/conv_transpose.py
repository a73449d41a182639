"""Transposed convolutions."""

from math import prod

from .. import functional as F
from ..ops.window import integer, per_axis
from .initial import uniform
from .module import Module

__all__ = ["ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]


class _ConvTranspose(Module):
    axes: int

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=1,
        padding=0,
        output_padding=0,
        groups=1,
        bias=True,
        dilation=1,
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
        shape = (in_channels, out_channels // groups, *kernel)
        self.arguments = (stride, padding, output_padding, groups, dilation)
        self.weight = uniform(shape, prod(shape[1:]))
        self.bias = uniform((out_channels,), prod(shape[1:])) if bias else None

    def forward(self, x):
        functions = F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d
        transposed = functions[self.axes - 1]
        return transposed(x, self.weight, self.bias, *self.arguments)


class ConvTranspose1d(_ConvTranspose):
    """Transposed convolution of (N, C, L), as torch.nn.ConvTranspose1d."""

    axes = 1


class ConvTranspose2d(_ConvTranspose):
    """Transposed convolution of (N, C, H, W), as torch.nn.ConvTranspose2d."""

    axes = 2


class ConvTranspose3d(_ConvTranspose):
    """Transposed convolution of (N, C, D, H, W), as torch.nn.ConvTranspose3d."""

    axes = 3
