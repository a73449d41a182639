"""LeNet-5 (LeCun, Bottou, Bengio, Haffner, 1998), with ReLU and max pooling."""

from .. import nn


def lenet5(num_classes=10, in_channels=1):
    """LeNet-5 for images of 28x28 pixels: 61,706 parameters by default.

    Parameters
    ----------
    num_classes, in_channels : int

    Returns
    -------
    nn.Module
        (N, in_channels, 28, 28) -> logits (N, num_classes).
    """
    return _LeNet5(num_classes, in_channels)


class _LeNet5(nn.Module):
    def __init__(self, num_classes, in_channels):
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 6, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(
            nn.Linear(16 * 5 * 5, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, num_classes),
        )

    def forward(self, x):
        return self.classifier(self.flatten(self.features(x)))
