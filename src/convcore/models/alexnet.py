"""AlexNet and ZFNet."""

from .. import nn


def alexnet(num_classes=1000, in_channels=3):
    """AlexNet in one column, as torchvision's: 61,100,840 parameters.

    A. Krizhevsky, "One weird trick for parallelizing convolutional neural
    networks", 2014.

    Parameters
    ----------
    num_classes, in_channels : int

    Returns
    -------
    nn.Module
        (N, in_channels, H, W), 224x224 by design and at least 63x63, -> logits.
    """
    features = nn.Sequential(
        nn.Conv2d(in_channels, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
    )
    return _AlexNet(features, num_classes)


def zfnet(num_classes=1000, in_channels=3):
    """ZFNet: 62,357,608 parameters. torchvision has none; the keys are AlexNet's.

    M. Zeiler, R. Fergus, "Visualizing and understanding convolutional
    networks", ECCV 2014. Contrasts are normalised by local response
    normalisation with the constants of AlexNet's first version.

    Parameters
    ----------
    num_classes, in_channels : int

    Returns
    -------
    nn.Module
        (N, in_channels, H, W), 224x224 by design, -> logits.
    """
    features = nn.Sequential(
        nn.Conv2d(in_channels, 96, 7, stride=2, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, padding=1),
        nn.LocalResponseNorm(5, k=2.0),
        nn.Conv2d(96, 256, 5, stride=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, padding=1),
        nn.LocalResponseNorm(5, k=2.0),
        nn.Conv2d(256, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
    )
    return _AlexNet(features, num_classes)


class _AlexNet(nn.Module):
    def __init__(self, features, num_classes):
        self.features = features
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            nn.Dropout(),
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Linear(4096, num_classes),
        )

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)).flatten(1))
