"""MobileNetV2 (Sandler, Howard, Zhu, Zhmoginov, Chen, CVPR 2018)."""

from .. import functional as F
from .. import nn
from .initial import kaiming, small

# Of each stage: expansion, channels, blocks, stride of the first.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobilenet_v2(num_classes=1000, in_channels=3):
    """MobileNetV2, as torchvision's: 3,504,872 parameters.

    Parameters
    ----------
    num_classes, in_channels : int

    Returns
    -------
    nn.Module
        (N, in_channels, H, W), 224x224 by design, -> logits.
    """
    return _MobileNetV2(num_classes, in_channels)


def _layers(channels, out, kernel, stride=1, groups=1):
    """Convolution, batch normalisation, ReLU6."""
    window = stride, kernel // 2
    conv = nn.Conv2d(channels, out, kernel, *window, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU6())


class _Block(nn.Module):
    """Inverted residual: many channels inside, few at the ends."""

    def __init__(self, channels, out, stride, expansion):
        inside = channels * expansion
        expand = [_layers(channels, inside, 1)] if expansion != 1 else []
        self.conv = nn.Sequential(
            *expand,
            _layers(inside, inside, 3, stride, groups=inside),
            nn.Conv2d(inside, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.adds = stride == 1 and channels == out

    def forward(self, x):
        return self.conv(x) + x if self.adds else self.conv(x)


class _MobileNetV2(nn.Module):
    def __init__(self, num_classes, in_channels):
        layers, channels = [_layers(in_channels, 32, 3, stride=2)], 32
        for expansion, out, blocks, first_stride in _STAGES:
            for i in range(blocks):
                stride = first_stride if i == 0 else 1
                layers.append(_Block(channels, out, stride, expansion))
                channels = out
        layers.append(_layers(channels, 1280, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, num_classes))
        kaiming(self)
        small(self, nn.Linear)

    def forward(self, x):
        x = F.adaptive_avg_pool2d(self.features(x), 1)
        return self.classifier(x.flatten(1))
