"""Other shapes and sizes of the same elements."""

from .. import functional as F
from .module import FunctionModule

__all__ = [
    "ChannelShuffle",
    "Flatten",
    "PixelShuffle",
    "PixelUnshuffle",
    "Upsample",
]


class Flatten(FunctionModule):
    """Make dimensions start_dim..end_dim one."""

    function = F.flatten

    def __init__(self, start_dim=1, end_dim=-1):
        super().__init__(start_dim=start_dim, end_dim=end_dim)


class PixelShuffle(FunctionModule):
    """Pixels of channels, as torch.nn.PixelShuffle."""

    function = F.pixel_shuffle

    def __init__(self, upscale_factor):
        super().__init__(upscale_factor=upscale_factor)


class PixelUnshuffle(FunctionModule):
    """Channels of pixels, as torch.nn.PixelUnshuffle."""

    function = F.pixel_unshuffle

    def __init__(self, downscale_factor):
        super().__init__(downscale_factor=downscale_factor)


class ChannelShuffle(FunctionModule):
    """Groups of channels interleaved, as torch.nn.ChannelShuffle."""

    function = F.channel_shuffle

    def __init__(self, groups):
        super().__init__(groups=groups)


class Upsample(FunctionModule):
    """Another size, as torch.nn.Upsample."""

    function = F.interpolate

    def __init__(
        self, size=None, scale_factor=None, mode="nearest", align_corners=None
    ):
        super().__init__(
            size=size, scale_factor=scale_factor, mode=mode, align_corners=align_corners
        )
