"""SqueezeNet 1.1 (Iandola et al., 2016)."""

from .. import functional as F
from .. import nn
from .initial import begin, small


def squeezenet1_1(num_classes=1000, in_channels=3):
    """SqueezeNet 1.1, as torchvision's: 1,235,496 parameters.

    Parameters
    ----------
    num_classes, in_channels : int

    Returns
    -------
    nn.Module
        (N, in_channels, H, W), 224x224 by design, -> logits.
    """
    return _SqueezeNet(num_classes, in_channels)


class _Fire(nn.Module):
    """Few channels, then many by 1x1 and by 3x3 convolutions."""

    def __init__(self, channels, squeeze, expand):
        self.squeeze = nn.Conv2d(channels, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x):
        x = self.squeeze(x).relu()
        return F.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], 1)


class _SqueezeNet(nn.Module):
    def __init__(self, num_classes, in_channels):
        pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 64, 3, 2),
            nn.ReLU(),
            pool,
            _Fire(64, 16, 64),
            _Fire(128, 16, 64),
            pool,
            _Fire(128, 32, 128),
            _Fire(256, 32, 128),
            pool,
            _Fire(256, 48, 192),
            _Fire(384, 48, 192),
            _Fire(384, 64, 256),
            _Fire(512, 64, 256),
        )
        self.classifier = nn.Sequential(
            nn.Dropout(),
            nn.Conv2d(512, num_classes, 1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
        )
        # Kaiming's rule with fan_in, but for the last convolution.
        for _, layer in self.features.named_modules():
            if isinstance(layer, nn.Conv2d):
                _, inputs, rows, columns = layer.weight.shape
                begin(layer, (2 / (inputs * rows * columns)) ** 0.5)
        small(self.classifier, nn.Conv2d)

    def forward(self, x):
        return self.classifier(self.features(x)).flatten(1)
