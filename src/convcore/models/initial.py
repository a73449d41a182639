"""How the layers of whole networks begin."""

from math import prod

from .. import nn
from ..nn.initial import spread, zeros


def kaiming(network):
    """Begin convolutions with a variance of 2 / fan_out (He et al., 2015)."""
    for layer in _layers(network, nn.Conv2d):
        outputs, _, *kernel = layer.weight.shape
        begin(layer, (2 / (outputs * prod(kernel))) ** 0.5)


def small(network, kind, deviation=0.01):
    """Begin layers of a kind with a small standard deviation."""
    for layer in _layers(network, kind):
        begin(layer, deviation)


def _layers(network, kind):
    return (layer for _, layer in network.named_modules() if isinstance(layer, kind))


def begin(layer, deviation):
    """Begin a layer with this standard deviation, and biases with 0."""
    layer.weight = spread(layer.weight.shape, deviation)
    if layer.bias is not None:
        layer.bias = zeros(layer.bias.shape)
