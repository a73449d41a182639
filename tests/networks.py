"""Small networks for the tests, and their definition in plain NumPy."""

import numpy as np

import convcore as cc
from convcore import nn


class Residual(nn.Module):
    """A block whose input has two users."""

    def __init__(self, channels):
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x):
        return cc.relu(self.conv2(cc.relu(self.conv1(x))) + x)


class Projection(nn.Module):
    """A sum of two convolutions, one of which may add the other's result."""

    def __init__(self, channels, out):
        self.conv = nn.Conv2d(channels, out, 3, stride=2, padding=1)
        self.shortcut = nn.Conv2d(channels, out, 1, stride=2)

    def forward(self, x):
        return cc.relu(self.conv(x) + self.shortcut(x))


class Inception(nn.Module):
    """Branches joined by channel."""

    def __init__(self, channels):
        self.one = nn.Conv2d(channels, 3, 1)
        self.three = nn.Sequential(
            nn.Conv2d(channels, 4, 1), nn.ReLU(), nn.Conv2d(4, 5, 3, padding=1)
        )
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(channels, 2, 1))

    def forward(self, x):
        branches = [self.one(x), self.three(x), self.pool(x)]
        return cc.cat([branch.relu() for branch in branches], 1)


class Tied(nn.Module):
    """One layer used twice, and named twice."""

    def __init__(self):
        self.first = nn.Conv2d(2, 2, 3, padding=1)
        self.second = self.first
        self.head = nn.Linear(2 * 5 * 5, 4)

    def forward(self, x):
        x = self.second(self.first(x).relu())
        return self.head(x.view(x.size(0), -1))


class TwoInputs(nn.Module):
    def __init__(self):
        self.left = nn.Conv2d(1, 2, 3)
        self.head = nn.Linear(2 * 3 * 3 + 4, 3)

    def forward(self, image, features):
        return self.head(cc.cat([self.left(image).flatten(1), features], 1))


def _head(channels, pixels, classes=4):
    return [nn.Flatten(), nn.Linear(channels * pixels, classes)]


# name -> (function that gives the module, input shape); each gives (N, classes)
NETWORKS = {
    "linear": (
        lambda: nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 4)),
        (7,),
    ),
    "lenet5": (lambda: cc.models.lenet5(), (1, 28, 28)),
    "residual": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 3), Residual(3), *_head(3, 25)),
        (2, 7, 7),
    ),
    "projection": (lambda: nn.Sequential(Projection(2, 3), *_head(3, 16)), (2, 7, 8)),
    "inception": (
        lambda: nn.Sequential(Inception(3), nn.AvgPool2d(2), *_head(10, 9)),
        (3, 6, 6),
    ),
    "tied": (Tied, (2, 5, 5)),
    "one axis": (
        lambda: nn.Sequential(
            nn.Conv1d(2, 4, 3, stride=2, groups=2), nn.MaxPool1d(2, 1), *_head(4, 3)
        ),
        (2, 9),
    ),
    "three axes": (
        lambda: nn.Sequential(
            nn.Conv3d(1, 3, 2, dilation=2), nn.ReLU(), nn.AvgPool3d(2, 1), *_head(3, 8)
        ),
        (1, 5, 5, 5),
    ),
    "rows": (  # a linear layer of values that a plan keeps channels-last
        lambda: nn.Sequential(
            nn.Conv1d(2, 3, 3),
            nn.Linear(7, 5),
            nn.ReLU(),
            nn.Linear(5, 4),
            *_head(3, 4),
        ),
        (2, 9),
    ),
    "no fusion": (
        lambda: nn.Sequential(nn.ReLU(), nn.MaxPool2d(2), nn.ReLU(), *_head(2, 4)),
        (2, 4, 4),
    ),
}


def model(name, **options):
    module, shape = NETWORKS[name]
    return cc.Model(module(), shape, **options)


def batch(name, n, dtype=np.float64, seed=0):
    """Random (x, y) for a network."""
    generator = np.random.default_rng(seed)
    shape = NETWORKS[name][1]
    return generator.normal(size=(n, *shape)).astype(dtype), generator.integers(0, 4, n)


def evaluate(graph, inputs, parameters):
    """Compute every value of a graph with the operators' NumPy definitions.

    Parameters
    ----------
    inputs : sequence of arrays
    parameters : dict of str -> array

    Returns
    -------
    dict of Value -> array
    """
    values = dict(zip(graph.inputs, inputs, strict=True)) | {None: None}
    values |= {value: parameters[key] for key, value in graph.parameters.items()}
    for node in graph.nodes:
        result = node.op.reference(*(values[x] for x in node.inputs), **node.attrs)
        results = result if isinstance(result, tuple) else (result,)
        values |= dict(zip(node.outputs, results, strict=True))
    return values
