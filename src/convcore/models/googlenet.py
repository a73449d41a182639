"""GoogLeNet (Inception v1), with batch normalisation as torchvision's.

C. Szegedy et al., "Going deeper with convolutions", CVPR 2015. In the branch
of 5x5 convolutions they are 3x3: torchvision's weights have it so.
"""

from .. import functional as F
from .. import nn
from .initial import small


def googlenet(num_classes=1000, in_channels=3, aux_logits=True):
    """GoogLeNet: 13,004,888 parameters with the auxiliary heads, 6,624,904 without.

    Parameters
    ----------
    num_classes, in_channels : int
    aux_logits : bool
        Whether it has auxiliary heads. They are used in training only, where
        the loss is main + 0.3 (aux1 + aux2).

    Returns
    -------
    nn.Module
        (N, in_channels, H, W), 224x224 by design, -> logits.
    """
    return _GoogLeNet(num_classes, in_channels, aux_logits)


class _Conv(nn.Module):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, channels, out, kernel, **window):
        self.conv = nn.Conv2d(channels, out, kernel, bias=False, **window)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x):
        return self.bn(self.conv(x)).relu()


class _Inception(nn.Module):
    """Four branches; `two` and `three`: channels before and after the 3x3."""

    def __init__(self, channels, one, two, three, four):
        self.branch1 = _Conv(channels, one, 1)
        self.branch2 = self._reduced(channels, *two)
        self.branch3 = self._reduced(channels, *three)
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, 1, 1, ceil_mode=True), _Conv(channels, four, 1)
        )

    @staticmethod
    def _reduced(channels, before, after):
        return nn.Sequential(
            _Conv(channels, before, 1), _Conv(before, after, 3, padding=1)
        )

    def forward(self, x):
        branches = self.branch1, self.branch2, self.branch3, self.branch4
        return F.cat([branch(x) for branch in branches], 1)


class _Head(nn.Module):
    """An auxiliary classifier."""

    def __init__(self, channels, num_classes):
        self.conv = _Conv(channels, 128, 1)
        self.fc1 = nn.Linear(128 * 4 * 4, 1024)
        self.fc2 = nn.Linear(1024, num_classes)
        self.dropout = nn.Dropout(0.7)

    def forward(self, x):
        x = self.conv(F.adaptive_avg_pool2d(x, 4))
        return self.fc2(self.dropout(self.fc1(x.flatten(1)).relu()))


class _GoogLeNet(nn.Module):
    def __init__(self, num_classes, in_channels, aux_logits):
        self.conv1 = _Conv(in_channels, 64, 7, stride=2, padding=3)
        self.maxpool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2 = _Conv(64, 64, 1)
        self.conv3 = _Conv(64, 192, 3, padding=1)
        self.maxpool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.inception3a = _Inception(192, 64, (96, 128), (16, 32), 32)
        self.inception3b = _Inception(256, 128, (128, 192), (32, 96), 64)
        self.maxpool3 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.inception4a = _Inception(480, 192, (96, 208), (16, 48), 64)
        self.inception4b = _Inception(512, 160, (112, 224), (24, 64), 64)
        self.inception4c = _Inception(512, 128, (128, 256), (24, 64), 64)
        self.inception4d = _Inception(512, 112, (144, 288), (32, 64), 64)
        self.inception4e = _Inception(528, 256, (160, 320), (32, 128), 128)
        self.maxpool4 = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.inception5a = _Inception(832, 256, (160, 320), (32, 128), 128)
        self.inception5b = _Inception(832, 384, (192, 384), (48, 128), 128)
        self.aux1 = _Head(512, num_classes) if aux_logits else None
        self.aux2 = _Head(528, num_classes) if aux_logits else None
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(1024, num_classes)
        small(self, nn.Conv2d)
        small(self, nn.Linear)

    def forward(self, x):
        x = self.maxpool1(self.conv1(x))
        x = self.maxpool2(self.conv3(self.conv2(x)))
        x = self.maxpool3(self.inception3b(self.inception3a(x)))
        first = self.inception4a(x)
        second = self.inception4d(self.inception4c(self.inception4b(first)))
        x = self.maxpool4(self.inception4e(second))
        x = self.inception5b(self.inception5a(x))
        x = self.fc(self.dropout(self.avgpool(x).flatten(1)))
        if self.aux1 is None or not self.training:
            return x
        return nn.Auxiliary(x, [self.aux1(first), self.aux2(second)], weight=0.3)
