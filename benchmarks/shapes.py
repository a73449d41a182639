"""The one table of layers that everything here measures.

Batch sizes are chosen so that a layer takes some milliseconds.
"""

import math
from typing import NamedTuple

import numpy as np


def aligned(shape):
    """An array float32 at the start of a cache line, where libraries put theirs."""
    size = math.prod(shape)
    block = np.empty(size + 16, np.float32)
    start = -block.ctypes.data % 64 // block.itemsize
    return block[start : start + size].reshape(shape)


def pair(value):
    return (value, value) if isinstance(value, int) else value


class Conv(NamedTuple):
    """Square images x[n][c][h][h], filters w[k][c/groups][r][r].

    r and padding may be pairs (height, width), as long as the result is square.
    """

    net: str
    name: str
    n: int
    c: int
    h: int
    k: int
    r: int | tuple[int, int]
    stride: int = 1
    padding: int | tuple[int, int] = 0
    groups: int = 1

    passes = ("forward", "backward_data", "backward_weight")

    @property
    def kernel(self):
        return pair(self.r)

    @property
    def out(self):
        return (self.h + 2 * pair(self.padding)[0] - self.kernel[0]) // self.stride + 1

    @property
    def flops(self):
        """Of each pass; one multiply-add is two."""
        taps = self.c // self.groups * math.prod(self.kernel)
        return 2 * self.n * self.k * taps * self.out**2

    def arrays(self):
        """Arguments of every pass, float32, channels first."""
        random = np.random.default_rng(0)
        shapes = {
            "x": (self.n, self.c, self.h, self.h),
            "w": (self.k, self.c // self.groups, *self.kernel),
            "b": (self.k,),
            "dy": (self.n, self.k, self.out, self.out),
        }
        return {
            name: random.standard_normal(dtype=np.float32, out=aligned(shape))
            for name, shape in shapes.items()
        }

    def __str__(self):
        groups = f" g{self.groups}" if self.groups > 1 else ""
        return (
            f"{self.n}x{self.c}x{self.h}x{self.h} k{self.k}"
            f" {'x'.join(map(str, self.kernel))} s{self.stride}"
            f" p{'x'.join(map(str, dict.fromkeys(pair(self.padding))))}{groups}"
        )


class Pool(NamedTuple):
    """Square windows on x[n][c][h][h]."""

    net: str
    name: str
    kind: str
    n: int
    c: int
    h: int
    r: int
    stride: int
    padding: int = 0

    passes = ("forward", "backward")
    flops = None

    @property
    def out(self):
        return (self.h + 2 * self.padding - self.r) // self.stride + 1

    def arrays(self):
        random = np.random.default_rng(0)
        x = random.standard_normal((self.n, self.c, self.h, self.h), np.float32)
        shape = (self.n, self.c, self.out, self.out)
        return {"x": x, "dy": random.standard_normal(shape, np.float32)}

    def __str__(self):
        return (
            f"{self.n}x{self.c}x{self.h}x{self.h} {self.kind} {self.r}x{self.r}"
            f" s{self.stride} p{self.padding}"
        )


LAYERS = [
    #    net          name             n    c    h    k  r  s  p  groups
    Conv("LeNet-5", "conv1", 64, 1, 28, 6, 5, 1, 2),
    Conv("LeNet-5", "conv2", 64, 6, 14, 16, 5),
    Conv("VGG-16", "conv1_1", 1, 3, 224, 64, 3, 1, 1),
    Conv("VGG-16", "conv2_1", 1, 64, 112, 128, 3, 1, 1),
    Conv("VGG-16", "conv3_2", 1, 256, 56, 256, 3, 1, 1),
    Conv("VGG-16", "conv5_1", 4, 512, 14, 512, 3, 1, 1),
    Conv("ResNet-50", "conv1", 2, 3, 224, 64, 7, 2, 3),
    Conv("ResNet-50", "layer1 1x1", 2, 64, 56, 256, 1),
    Conv("ResNet-50", "layer1 3x3", 4, 64, 56, 64, 3, 1, 1),
    Conv("ResNet-50", "layer2 3x3/2", 4, 128, 56, 128, 3, 2, 1),
    Conv("ResNet-50", "layer3 1x1/2", 4, 512, 28, 1024, 1, 2),
    Conv("ResNet-50", "layer4 3x3", 8, 512, 7, 512, 3, 1, 1),
    Conv("ResNet-50", "layer4 1x1", 8, 2048, 7, 512, 1),
    Conv("ResNet-20", "layer1", 32, 16, 32, 16, 3, 1, 1),
    Conv("ResNet-20", "layer3", 32, 64, 8, 64, 3, 1, 1),
    Conv("GoogLeNet", "3a 1x1", 4, 192, 28, 64, 1),
    Conv("GoogLeNet", "3a 3x3", 4, 96, 28, 128, 3, 1, 1),
    Conv("GoogLeNet", "3a 5x5", 4, 16, 28, 32, 5, 1, 2),
    Conv("MobileNet-v2", "depthwise", 4, 144, 56, 144, 3, 1, 1, 144),
    Conv("MobileNet-v2", "depthwise/2", 4, 96, 112, 96, 3, 2, 1, 96),
    Conv("MobileNet-v2", "project", 4, 144, 56, 24, 1),
    Conv("MobileNet-v2", "expand", 4, 24, 56, 144, 1),
    #    net          name    kind        n    c    h  r  s  p
    Pool("LeNet-5", "pool1", "max", 64, 6, 28, 2, 2),
    Pool("VGG-16", "pool1", "max", 1, 64, 224, 2, 2),
    Pool("ResNet-50", "maxpool", "max", 2, 64, 112, 3, 2, 1),
    Pool("ResNet-50", "avgpool", "average", 16, 2048, 7, 7, 1),
    Pool("GoogLeNet", "3a pool", "max", 4, 192, 28, 3, 1, 1),
    Pool("GoogLeNet", "aux pool", "average", 4, 512, 14, 5, 3),
]

QUICK = [
    layer
    for layer in LAYERS
    if (layer.net, layer.name)
    in {
        ("LeNet-5", "conv1"),
        ("LeNet-5", "conv2"),
        ("ResNet-50", "layer1 3x3"),
        ("GoogLeNet", "3a 1x1"),
        ("MobileNet-v2", "depthwise"),
        ("LeNet-5", "pool1"),
    }
]
