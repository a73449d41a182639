"""VGG-11, 13, 16 and 19, plain and with batch normalisation.

K. Simonyan, A. Zisserman, "Very deep convolutional networks for large-scale
image recognition", ICLR 2015.
"""

from .. import nn
from .initial import kaiming, small

# Channels of the convolutions between two poolings: configurations A, B, D, E.
_STAGES = {
    11: ((64,), (128,), (256,) * 2, (512,) * 2, (512,) * 2),
    13: ((64,) * 2, (128,) * 2, (256,) * 2, (512,) * 2, (512,) * 2),
    16: ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3),
    19: ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4),
}


class _VGG(nn.Module):
    def __init__(self, layers, normalized, num_classes, in_channels):
        self.features = _features(_STAGES[layers], normalized, in_channels)
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, num_classes),
        )
        kaiming(self)
        small(self, nn.Linear)

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def _features(stages, normalized, channels):
    layers = []
    for stage in stages:
        for out in stage:
            layers.append(nn.Conv2d(channels, out, 3, padding=1))
            if normalized:
                layers.append(nn.BatchNorm2d(out))
            layers.append(nn.ReLU())
            channels = out
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def _make(layers, normalized, parameters):
    def vgg(num_classes=1000, in_channels=3):
        return _VGG(layers, normalized, num_classes, in_channels)

    vgg.__name__ = vgg.__qualname__ = f"vgg{layers}{'_bn' * normalized}"
    how = "with batch normalisation" if normalized else "without normalisation"
    vgg.__doc__ = f"""VGG-{layers} {how}, as torchvision's: {parameters:,} parameters.

    Parameters
    ----------
    num_classes, in_channels : int

    Returns
    -------
    nn.Module
        (N, in_channels, H, W), 224x224 by design and at least 32x32, -> logits.
    """
    return vgg


vgg11 = _make(11, False, 132_863_336)
vgg13 = _make(13, False, 133_047_848)
vgg16 = _make(16, False, 138_357_544)
vgg19 = _make(19, False, 143_667_240)
vgg11_bn = _make(11, True, 132_868_840)
vgg13_bn = _make(13, True, 133_053_736)
vgg16_bn = _make(16, True, 138_365_992)
vgg19_bn = _make(19, True, 143_678_248)
