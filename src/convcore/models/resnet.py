"""ResNet-18, 34, 50, 101 and 152, and the small ones for CIFAR.

K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image
recognition", CVPR 2016. As in torchvision, a bottleneck has its stride in the
3x3 convolution.
"""

from .. import functional as F
from .. import nn
from .initial import kaiming


class _Block(nn.Module):
    """Two 3x3 convolutions."""

    expansion = 1

    def __init__(self, channels, width, stride, downsample):
        self.conv1 = _conv(channels, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = downsample

    def forward(self, x):
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y))
        return (y + (self.downsample(x) if self.downsample else x)).relu()


class _Bottleneck(nn.Module):
    """A 3x3 convolution between two 1x1."""

    expansion = 4

    def __init__(self, channels, width, stride, downsample):
        out = self.expansion * width
        self.conv1 = _conv(channels, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _conv(width, out, 1)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample = downsample

    def forward(self, x):
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        y = self.bn3(self.conv3(y))
        return (y + (self.downsample(x) if self.downsample else x)).relu()


def _conv(channels, out, kernel, stride=1):
    return nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False)


def _projection(channels, out, stride):
    return nn.Sequential(_conv(channels, out, 1, stride), nn.BatchNorm2d(out))


class _Padding(nn.Module):
    """Every other pixel, between channels of zeros: shortcut A of the paper."""

    def __init__(self, channels, out, stride):
        self.stride = stride
        self.missing = out - channels

    def forward(self, x):
        x = F.max_pool2d(x, 1, self.stride)
        before = self.missing // 2
        return F.pad(x, (0, 0, 0, 0, before, self.missing - before))


def _stage(block, blocks, channels, width, stride, shortcut):
    """Blocks of one width, the first of which may change size and channels."""
    out, layers = block.expansion * width, []
    for _ in range(blocks):
        changes = stride != 1 or channels != out
        downsample = shortcut(channels, out, stride) if changes else None
        layers.append(block(channels, width, stride, downsample))
        channels, stride = out, 1
    return nn.Sequential(*layers)


class _ResNet(nn.Module):
    def __init__(self, block, stages, num_classes, in_channels):
        self.conv1 = nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = 64
        for i, blocks in enumerate(stages):
            width, stride = 64 << i, 1 if i == 0 else 2
            stage = _stage(block, blocks, channels, width, stride, _projection)
            setattr(self, f"layer{i + 1}", stage)
            channels = block.expansion * width
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        kaiming(self)

    def forward(self, x):
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


class _CifarResNet(nn.Module):
    def __init__(self, blocks, num_classes, in_channels):
        self.conv1 = _conv(in_channels, 16, 3)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(_Block, blocks, 16, 16, 1, _Padding)
        self.layer2 = _stage(_Block, blocks, 16, 32, 2, _Padding)
        self.layer3 = _stage(_Block, blocks, 32, 64, 2, _Padding)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, num_classes)
        kaiming(self)

    def forward(self, x):
        x = self.bn1(self.conv1(x)).relu()
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(self.avgpool(x).flatten(1))


def _make(block, stages, parameters):
    layers = 2 + sum(stages) * (2 if block is _Block else 3)

    def resnet(num_classes=1000, in_channels=3):
        return _ResNet(block, stages, num_classes, in_channels)

    resnet.__name__ = resnet.__qualname__ = f"resnet{layers}"
    resnet.__doc__ = f"""ResNet-{layers}, as torchvision's: {parameters:,} parameters.

    Parameters
    ----------
    num_classes, in_channels : int

    Returns
    -------
    nn.Module
        (N, in_channels, H, W), 224x224 by design, -> logits.
    """
    return resnet


resnet18 = _make(_Block, (2, 2, 2, 2), 11_689_512)
resnet34 = _make(_Block, (3, 4, 6, 3), 21_797_672)
resnet50 = _make(_Bottleneck, (3, 4, 6, 3), 25_557_032)
resnet101 = _make(_Bottleneck, (3, 4, 23, 3), 44_549_160)
resnet152 = _make(_Bottleneck, (3, 8, 36, 3), 60_192_808)


def _make_cifar(blocks, parameters):
    layers = 6 * blocks + 2

    def resnet(num_classes=10, in_channels=3):
        return _CifarResNet(blocks, num_classes, in_channels)

    resnet.__name__ = resnet.__qualname__ = f"resnet{layers}_cifar"
    resnet.__doc__ = f"""ResNet-{layers} for CIFAR: {parameters:,} parameters.

    As in the paper, shortcuts that change the size have no parameters: they take
    every other pixel and add channels of zeros. Keys are as in torchvision.

    Parameters
    ----------
    num_classes, in_channels : int

    Returns
    -------
    nn.Module
        (N, in_channels, H, W), 32x32 by design, -> logits.
    """
    return resnet


resnet20_cifar = _make_cifar(3, 269_722)
resnet56_cifar = _make_cifar(9, 853_018)
