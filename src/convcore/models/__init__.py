"""Networks by name: each a function (num_classes, in_channels) that gives a module."""

from .alexnet import alexnet, zfnet
from .googlenet import googlenet
from .lenet import lenet5
from .mobilenet import mobilenet_v2
from .resnet import (
    resnet18,
    resnet20_cifar,
    resnet34,
    resnet50,
    resnet56_cifar,
    resnet101,
    resnet152,
)
from .squeezenet import squeezenet1_1
from .vgg import vgg11, vgg11_bn, vgg13, vgg13_bn, vgg16, vgg16_bn, vgg19, vgg19_bn

__all__ = [
    "alexnet",
    "googlenet",
    "lenet5",
    "mobilenet_v2",
    "resnet18",
    "resnet20_cifar",
    "resnet34",
    "resnet50",
    "resnet56_cifar",
    "resnet101",
    "resnet152",
    "squeezenet1_1",
    "vgg11",
    "vgg11_bn",
    "vgg13",
    "vgg13_bn",
    "vgg16",
    "vgg16_bn",
    "vgg19",
    "vgg19_bn",
    "zfnet",
]
