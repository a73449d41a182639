"""The calls that `benchmarks.operators` measures: as convcore and torch know them."""

from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np


class Family(NamedTuple):
    """Rows of a kind, and the ratios that they are to reach: mean and lowest."""

    name: str
    mean: float | None = None
    lowest: float | None = None
    error: float = 1e-4  # root mean square, relative; of results beside torch's


class Row(NamedTuple):
    """A function by its name, the same in convcore and torch, and its arrays.

    A shape that is () stands for an argument that is no array: the first of
    `arguments`, which is passed by position.
    """

    family: Family
    function: str
    shapes: tuple[tuple[int, ...], ...]
    arguments: dict[str, Any] = MappingProxyType({})
    directions: tuple[str, ...] = ("forward", "backward")

    def __str__(self):
        shapes = " ".join("x".join(map(str, shape)) for shape in self.shapes if shape)
        rest = " ".join(f"{name}={value}" for name, value in self.arguments.items())
        return f"{self.function} {shapes} {rest}".strip()

    def arrays(self):
        rng = np.random.default_rng(0)
        return [rng.standard_normal(shape, np.float32) for shape in self.shapes]

    def positional(self, arrays):
        """Arrays and options in the order of the call."""
        arguments = dict(self.arguments)
        if () in self.shapes:
            first, place = next(iter(arguments)), self.shapes.index(())
            arrays = [*arrays[:place], arguments.pop(first), *arrays[place + 1 :]]
        return arrays, arguments


LINES, VOLUMES = Family("1-D", 1.2, 0.9), Family("3-D", 1.2, 0.9)
TRANSPOSED, LINEAR = Family("transposed", 1.2, 0.9), Family("linear", 1.2, 0.9)
GROUP_NORM, BILINEAR = Family("group norm", 1.2, 0.9), Family("bilinear", 1.2, 0.9)
POOLING = Family("max pooling", 1.7, 1.15)
# ReLU's gradient is another one where its argument is 0 but for rounding.
BATCH_NORM = Family("batch norm + ReLU, training", 1.7, 1.15, error=1e-2)
ACTIVATION, SOFTMAX = Family("activation"), Family("softmax")
LAYER_NORM, ARITHMETIC = Family("layer norm"), Family("arithmetic")

FORWARD = ("forward",)
IMAGE = (8, 64, 56, 56)
ACTIVATIONS = (
    *("relu6", "leaky_relu", "elu", "silu", "mish", "sigmoid", "tanh", "softplus"),
    *("hardswish", "hardsigmoid", "gelu"),
)


def conv(family, function, x, w, **arguments):
    transposed = function.startswith("conv_transpose")
    filters = w[1] * arguments.get("groups", 1) if transposed else w[0]
    return Row(family, function, (x, w, (filters,)), arguments)


def conv_rows():
    lines = (
        ((8, 80, 3000), (384, 80, 3), {"padding": 1}),  # Whisper's first two
        ((8, 384, 3000), (384, 384, 3), {"stride": 2, "padding": 1}),
        ((8, 1, 16000), (64, 1, 9), {"stride": 4}),  # raw audio
        ((4, 64, 4000), (64, 64, 7), {"padding": 9, "dilation": 3}),
    )
    volumes = (
        ((1, 3, 16, 112, 112), (64, 3, 3, 7, 7), {"stride": (1, 2, 2),
                                                  "padding": (1, 3, 3)}),
        ((1, 3, 16, 112, 112), (64, 3, 3, 3, 3), {"padding": 1}),  # C3D's first
        ((1, 16, 16, 56, 56), (32, 16, 3, 3, 3), {"padding": 1}),
        ((1, 64, 8, 56, 56), (64, 64, 3, 3, 3), {"padding": 1}),
        ((1, 64, 8, 56, 56), (128, 64, 3, 3, 3), {"stride": 2, "padding": 1}),
        ((2, 256, 4, 14, 14), (256, 256, 3, 3, 3), {"padding": 1}),
    )  # fmt: skip
    halves = {"stride": 2, "padding": 1}
    transposed = (
        # DCGAN's generator, its first map of one pixel
        ("2d", (16, 100, 1, 1), (100, 512, 4, 4), {}),
        ("2d", (16, 512, 4, 4), (512, 256, 4, 4), halves),
        ("2d", (8, 256, 8, 8), (256, 128, 4, 4), halves),
        ("2d", (8, 128, 16, 16), (128, 64, 4, 4), halves),
        ("2d", (8, 64, 32, 32), (64, 3, 4, 4), halves),
        # U-Net's way up
        ("2d", (1, 1024, 28, 28), (1024, 512, 2, 2), {"stride": 2}),
        ("2d", (1, 256, 56, 56), (256, 128, 2, 2), {"stride": 2}),
        ("2d", (4, 128, 28, 28), (128, 64, 2, 2), {"stride": 2}),
        ("2d", (4, 64, 32, 32), (64, 32, 3, 3), {**halves, "output_padding": 1}),
        ("2d", (4, 64, 28, 28), (64, 64, 3, 3), {"padding": 1}),
        # the last layer of an FCN
        ("2d", (1, 21, 32, 32), (21, 21, 16, 16), {"stride": 8, "padding": 4}),
        ("1d", (8, 128, 500), (128, 64, 16), {"stride": 8, "padding": 4}),
        ("3d", (1, 64, 8, 14, 14), (64, 32, 2, 2, 2), {"stride": 2}),
    )
    for x, w, arguments in lines:
        yield conv(LINES, "conv1d", x, w, **arguments)
    for x, w, arguments in volumes:
        yield conv(VOLUMES, "conv3d", x, w, **arguments)
    for axes, x, w, arguments in transposed:
        yield conv(TRANSPOSED, f"conv_transpose{axes}", x, w, **arguments)


def rows():
    yield from conv_rows()
    for shape in ((4096, 25088), (4096, 4096), (1000, 4096)):
        for n in (1, 2, 4, 8, 16, 32, 64):
            yield Row(LINEAR, "linear", ((n, shape[1]), shape, shape[:1]))
    for shape, groups in (
        (IMAGE, 32), ((8, 256, 28, 28), 32), ((32, 512, 7, 7), 32), (IMAGE, 1),
        ((1, 128, 64, 64), 8),
    ):  # fmt: skip
        shapes = shape, (), shape[1:2], shape[1:2]
        yield Row(GROUP_NORM, "group_norm", shapes, {"num_groups": groups})
    for shape, size, corners in (
        ((8, 64, 28, 28), (56, 56), False),
        ((8, 256, 14, 14), (28, 28), True),
        ((1, 3, 224, 224), (512, 512), False),
        ((4, 21, 64, 64), (512, 512), False),
        ((1, 512, 32, 32), (64, 64), False),
        ((1, 3, 512, 512), (224, 224), False),
    ):
        arguments = {"size": size, "mode": "bilinear", "align_corners": corners}
        yield Row(BILINEAR, "interpolate", (shape,), arguments)
    for shape, window in (
        ((8, 64, 112, 112), (3, 2, 1)),  # ResNet's
        ((8, 64, 112, 112), (2, 2, 0)),  # VGG's
        ((8, 256, 28, 28), (2, 2, 0)),
        ((8, 96, 55, 55), (3, 2, 0)),  # AlexNet's
        ((8, 192, 28, 28), (3, 1, 1)),  # GoogLeNet's
        ((64, 6, 28, 28), (2, 2, 0)),  # LeNet's
    ):
        arguments = dict(zip(("kernel_size", "stride", "padding"), window, strict=True))
        yield Row(POOLING, "max_pool2d", (shape,), arguments)
    for shape in (
        (8, 64, 112, 112), (8, 256, 56, 56), (8, 128, 28, 28), (8, 512, 14, 14),
        (8, 1024, 14, 14), (8, 512, 7, 7), (8, 2048, 7, 7), (32, 512, 7, 7),
        (128, 64, 8, 8),
    ):  # fmt: skip
        yield Row(BATCH_NORM, "batch_norm", (shape, shape[1:2], shape[1:2]))
    for name in ACTIVATIONS:
        yield Row(ACTIVATION, name, (IMAGE,), directions=FORWARD)
    yield Row(ACTIVATION, "gelu", (IMAGE,), {"approximate": "tanh"}, FORWARD)
    for name in ("softmax", "log_softmax"):
        for shape, dim in (((64, 1000), 1), ((4, 21, 128, 128), 1), ((512, 10), 1)):
            yield Row(SOFTMAX, name, (shape,), {"dim": dim}, FORWARD)
    layer = ((8, 197, 768), (), (768,), (768,))
    yield Row(LAYER_NORM, "layer_norm", layer, {"normalized_shape": (768,)}, FORWARD)
    yield Row(LAYER_NORM, "instance_norm", (IMAGE,), directions=FORWARD)
    for name in ("add", "mul"):
        for other in (IMAGE, (8, 64, 1, 1), (1, 64, 1, 1)):
            yield Row(ARITHMETIC, name, (IMAGE, other), directions=FORWARD)


# ------------------------------------------------------------------ what is called


def own_call(row, arrays, dy=None):
    """A call of convcore: the function, or with `dy` its gradients."""
    import convcore

    special = {"batch_norm": _own_batch_norm, "max_pool2d": _own_max_pool}
    if row.function in special:
        return special[row.function](row, arrays, dy)
    given, arguments = row.positional(arrays)
    if dy is None:
        function = getattr(convcore, row.function)
        return lambda: function(*given, **arguments)
    backward = getattr(convcore.functional, f"{row.function}_backward", None)
    if backward is None:
        function = getattr(convcore, row.function)
        return lambda: convcore.vjp(function, dy, *given, **arguments)
    if row.function.startswith("conv") or row.function == "linear":
        given = given[:2]  # the bias is of no account
    return lambda: backward(dy, *given, **arguments)


def _own_batch_norm(row, arrays, dy):
    """As a plan computes it: with ReLU, and in two steps."""
    from convcore.ops.base import OPERATORS, apply

    forward, backward = OPERATORS["batch_norm"], OPERATORS["batch_norm_backward"]
    x, weight, bias = arrays
    options = {"training": True, "eps": 1e-5, "activation": "relu"}
    inputs = x, weight, bias, None, None
    if dy is None:
        return lambda: apply(forward, *inputs, **options)[0]
    _, mean, var = apply(forward, *inputs, **options)
    inputs = dy, x, None, weight, bias, mean, var
    mask = True, True, True, False
    return lambda: apply(backward, *inputs, mask=mask, **options)[:3]


def _own_max_pool(row, arrays, dy):
    """Its gradient with the one-byte index that a plan keeps."""
    import convcore
    from convcore.ops.base import OPERATORS, apply
    from convcore.ops.pool import _attributes

    (x,) = arrays
    if dy is None:
        return lambda: convcore.max_pool2d(x, **row.arguments)
    a = row.arguments
    attrs = _attributes(2, a["kernel_size"], a["stride"], a["padding"], 1, False)
    _, index = apply(OPERATORS["max_pool"], x, index_dtype="uint8", **attrs)
    backward, size = OPERATORS["max_pool_backward"], x.shape[2:]
    return lambda: apply(backward, dy, index, size=size, **attrs)


def torch_call(row, tensors, dy=None):
    """A call of torch: the function, or with `dy` autograd's gradients of it."""
    import torch

    def function():
        given, arguments = row.positional(tensors)
        if row.function == "batch_norm":
            x, weight, bias = given
            y = torch.nn.functional.batch_norm(x, None, None, weight, bias, True)
            return torch.relu(y)
        module = torch if row.family is ARITHMETIC else torch.nn.functional
        return getattr(module, row.function)(*given, **arguments)

    if dy is None:
        return function
    leaves = [t.requires_grad_() for t in tensors if t.ndim]
    with torch.enable_grad():
        y = function()
    return lambda: torch.autograd.grad(y, leaves, dy, retain_graph=True)
