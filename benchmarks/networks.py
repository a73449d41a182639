"""The convolution layers of well-known networks, by class.

The shapes stand in a file beside the repository that is no part of it; without
it the few layers of the benchmark's own table take their place.
"""

import json
import os
from pathlib import Path

from .shapes import LAYERS, Conv

ROOT = Path(__file__).parents[1]
SHAPES = Path(os.path.relpath(ROOT.parent / "shared/data/shapes/shapes.json"))
NETWORKS = (
    "alexnet",
    "vgg_19",
    "googlenet_v1",
    "googlenet_v3",
    "resnet_50",
    "resnet_50_v1_5",
    "mobilenet",
    "mobilenet_dw",
    "yolov2",
    "unet",
)


def network_layers(path):
    """Distinct layers of a file of shapes (oneDNN's names), and LeNet's; n is 1."""
    own = [layer._replace(n=1) for layer in LAYERS if isinstance(layer, Conv)]
    if not path.exists():
        return own
    networks = json.loads(path.read_text())["networks"]
    distinct = {layer[2:]: layer for layer in own if layer.net == "LeNet-5"}
    for net in NETWORKS:
        for shape in networks[net]:
            layer = _layer(net, shape)
            distinct.setdefault(layer[2:], layer)
    return list(distinct.values())


def _layer(net, shape):
    layer = Conv(
        net,
        shape["name"].split(":")[-1].split("*")[0],
        1,
        shape["ic"],
        shape["ih"],
        shape["oc"],
        (shape["kh"], shape["kw"]),
        shape["sh"],
        (shape["ph"], shape["pw"]),
        shape["g"],
    )
    sizes = {shape["iw"] - shape["ih"], shape["sw"] - shape["sh"], shape["dh"]}
    if sizes != {0} or {shape["oh"], shape["ow"]} != {layer.out}:
        raise ValueError(f"{net} has a layer that is not like those here: {shape}")
    return layer


def kind_of(layer):
    """The class of a layer."""
    c, k = layer.c // layer.groups, layer.k // layer.groups
    if layer.net == "LeNet-5":
        return "LeNet"
    if layer.groups == layer.c > 1:
        return "depthwise"
    if layer.c == 3:
        return "3 channels"
    if layer.stride > 1 or layer.kernel == (1, 1):
        return "1x1, strided"
    if layer.kernel == (5, 5):
        return "5x5"
    return "3x3" if layer.kernel == (3, 3) and min(c, k) >= 32 else "other"


def quick(layers):
    """Three layers of every class, that differ in work but are not extreme."""
    by_kind = {}
    for layer in sorted(layers, key=lambda layer: layer.flops):
        by_kind.setdefault(kind_of(layer), []).append(layer)
    return [
        layer
        for of_kind in by_kind.values()
        for layer in dict.fromkeys(of_kind[len(of_kind) * i // 6] for i in (1, 3, 5))
    ]
