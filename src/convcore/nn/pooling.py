"""Pooling."""

from .. import functional as F
from .module import FunctionModule

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
]


class _MaxPool(FunctionModule):
    def __init__(
        self,
        kernel_size,
        stride=None,
        padding=0,
        dilation=1,
        return_indices=False,
        ceil_mode=False,
    ):
        super().__init__(
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            return_indices=return_indices,
            ceil_mode=ceil_mode,
        )


class MaxPool1d(_MaxPool):
    """Maximum over windows of (N, C, L), as torch.nn.MaxPool1d."""

    function = F.max_pool1d


class MaxPool2d(_MaxPool):
    """Maximum over windows of (N, C, H, W), as torch.nn.MaxPool2d."""

    function = F.max_pool2d


class MaxPool3d(_MaxPool):
    """Maximum over windows of (N, C, D, H, W), as torch.nn.MaxPool3d."""

    function = F.max_pool3d


class _AvgPool(FunctionModule):
    def __init__(
        self,
        kernel_size,
        stride=None,
        padding=0,
        ceil_mode=False,
        count_include_pad=True,
        divisor_override=None,
    ):
        super().__init__(
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            ceil_mode=ceil_mode,
            count_include_pad=count_include_pad,
            divisor_override=divisor_override,
        )


class AvgPool1d(_AvgPool):
    """Mean over windows of (N, C, L), as torch.nn.AvgPool1d."""

    function = F.avg_pool1d


class AvgPool2d(_AvgPool):
    """Mean over windows of (N, C, H, W), as torch.nn.AvgPool2d."""

    function = F.avg_pool2d


class AvgPool3d(_AvgPool):
    """Mean over windows of (N, C, D, H, W), as torch.nn.AvgPool3d."""

    function = F.avg_pool3d


class _AdaptivePool(FunctionModule):
    def __init__(self, output_size):
        super().__init__(output_size=output_size)


class AdaptiveAvgPool1d(_AdaptivePool):
    """Mean over `output_size` windows of (N, C, L), as torch.nn.AdaptiveAvgPool1d."""

    function = F.adaptive_avg_pool1d


class AdaptiveAvgPool2d(_AdaptivePool):
    """Mean over windows of (N, C, H, W), as torch.nn.AdaptiveAvgPool2d."""

    function = F.adaptive_avg_pool2d


class AdaptiveAvgPool3d(_AdaptivePool):
    """Mean over windows of (N, C, D, H, W), as torch.nn.AdaptiveAvgPool3d."""

    function = F.adaptive_avg_pool3d
