"""Pooling."""

from .. import functional as F
from .module import FunctionModule

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
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


class _AdaptiveMaxPool(FunctionModule):
    def __init__(self, output_size, return_indices=False):
        super().__init__(output_size=output_size, return_indices=return_indices)


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """Maximum over equal parts of (N, C, L), as torch.nn.AdaptiveMaxPool1d."""

    function = F.adaptive_max_pool1d


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """Maximum over equal parts of (N, C, H, W), as torch.nn.AdaptiveMaxPool2d."""

    function = F.adaptive_max_pool2d


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """Maximum over equal parts of (N, C, D, H, W), as torch.nn.AdaptiveMaxPool3d."""

    function = F.adaptive_max_pool3d


class _LPPool(FunctionModule):
    def __init__(self, norm_type, kernel_size, stride=None, ceil_mode=False):
        super().__init__(
            norm_type=norm_type,
            kernel_size=kernel_size,
            stride=stride,
            ceil_mode=ceil_mode,
        )


class LPPool1d(_LPPool):
    """p-norm of windows of (N, C, L), as torch.nn.LPPool1d."""

    function = F.lp_pool1d


class LPPool2d(_LPPool):
    """p-norm of windows of (N, C, H, W), as torch.nn.LPPool2d."""

    function = F.lp_pool2d


class LPPool3d(_LPPool):
    """p-norm of windows of (N, C, D, H, W), as torch.nn.LPPool3d."""

    function = F.lp_pool3d


class _MaxUnpool(FunctionModule):
    def __init__(self, kernel_size, stride=None, padding=0):
        super().__init__(kernel_size=kernel_size, stride=stride, padding=padding)


class MaxUnpool1d(_MaxUnpool):
    """Maxima of (N, C, L) put back by their indices, as torch.nn.MaxUnpool1d."""

    function = F.max_unpool1d


class MaxUnpool2d(_MaxUnpool):
    """Maxima of (N, C, H, W) put back by their indices, as torch.nn.MaxUnpool2d."""

    function = F.max_unpool2d


class MaxUnpool3d(_MaxUnpool):
    """Maxima of (N, C, D, H, W) put back by their indices, as torch.nn.MaxUnpool3d."""

    function = F.max_unpool3d
