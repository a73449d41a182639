"""The table of calls: every row is checked in every way that test_ops has.

A row names a public function, the shapes of its arrays and its other
arguments. Rows are small, but for those of `LARGE`, which are split over
threads.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import convcore
from convcore.ops.base import OPERATORS, apply, as_reference


@dataclass(frozen=True)
class Row:
    """One call: ``function(*arrays, **arguments)``.

    A shape may be None; an int or list among them is an argument as it is.
    """

    function: str
    shapes: tuple[tuple[int, ...] | int | list | None, ...]
    arguments: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        shapes = "_".join(
            str(shape)
            if isinstance(shape, int | list)
            else "x".join(map(str, shape)) or "scalar"
            for shape in self.shapes
            if shape is not None
        )
        arguments = ",".join(
            f"{name}={value}" for name, value in self.arguments.items()
        )
        return f"{self.function}-{shapes}-{arguments}".replace(" ", "")

    def arrays(self, dtype, seed: int = 0) -> list[Any]:
        """Standard normal arrays (class numbers, positions for indices)."""
        rng = np.random.default_rng([seed, *self.function.encode()])
        arrays = [
            np.asarray(rng.standard_normal(shape), dtype)
            if isinstance(shape, tuple)
            else shape
            for shape in self.shapes
        ]
        if self.function in ("cross_entropy", "nll_loss"):
            arrays[1] = _targets(rng, *self.shapes[:2])
            if arrays[2] is not None:
                arrays[2] = np.abs(arrays[2])
        if self.function == "div":  # by nothing near 0
            arrays[1] = np.asarray(arrays[1] + np.copysign(1, arrays[1]), dtype)
        if self.function == "embedding":
            arrays[0] = rng.integers(0, self.shapes[1][0], self.shapes[0])
        if self.function.startswith("max_unpool"):
            # As of a pooling without overlap: each position once.
            n, c, *space = self.shapes[0]
            drawn = [
                rng.permutation(np.prod(space) * 2 ** len(space)) for _ in range(n * c)
            ]
            chosen = [order[: np.prod(space)] for order in drawn]
            arrays[1] = np.array(chosen).reshape(self.shapes[0])
        return arrays

    def call(self, module, arrays, **extra):
        """Result of the function of `module`, convcore or its reference."""
        function = getattr(module, self.function)
        return function(*self._positional(arrays), **self.arguments, **extra)

    def _positional(self, arrays):
        return [arrays] if self.function == "cat" else arrays

    def gradients(self, module, dy, arrays, **extra) -> list[np.ndarray | None]:
        """Gradient of each array, None for those that have none."""
        name = self.function
        backward = getattr(module, f"{name}_backward", None)
        arguments = {**self.arguments, **extra}
        if name.startswith("conv") or name == "linear":
            arguments.pop("activation", None)
            gradients = backward(dy, *arrays[:2], **arguments)
            return [g for g, a in zip(gradients, arrays, strict=True) if a is not None]
        if name in ("group_norm", "instance_norm", "layer_norm"):
            return [g for g in backward(dy, *arrays, **arguments) if g is not None]
        if name.startswith("max_pool"):
            _, indices = self.call(module, arrays, return_indices=True)
            return [backward(dy, indices, arrays[0].shape, **arguments)]
        if name.startswith("avg_pool"):
            return [backward(dy, arrays[0].shape, **arguments)]
        if name == "cross_entropy":
            return [backward(dy, *arrays, **arguments)]
        if name.startswith("adaptive_avg_pool"):
            return [backward(dy, arrays[0].shape)]
        if name == "local_response_norm":
            return [backward(dy, *arrays, **arguments)]
        if name == "batch_norm":
            gradients = backward(dy, *arrays[:4], **arguments)
            return gradients[:1] if arrays[3] is None else gradients
        plain = module.__name__.endswith("reference")
        if name == "dropout":
            run = as_reference(apply) if plain else apply
            return [run(OPERATORS["dropout"], dy, stream=0, **self.arguments)]
        if name in ("softmax", "log_softmax"):
            return [backward(dy, *arrays, **arguments)]
        vjp = as_reference(convcore.vjp) if plain else convcore.vjp
        function = getattr(convcore, name)
        found = vjp(function, dy, *self._positional(arrays), **arguments)
        if name == "nll_loss":  # weights have none
            return [found[0] if isinstance(found, tuple) else found]
        return list(found) if isinstance(found, tuple | list) else [found]


def _targets(rng, logits, target):
    """Class numbers, every fifth the ignored one."""
    classes = logits[1] if len(logits) > 1 else logits[0]
    targets = rng.integers(0, classes, target)
    if targets.ndim:
        targets.reshape(-1)[4::5] = -100
    return np.asarray(targets)


def conv(axes, n, c, k, size, kernel, *, bias=True, **arguments) -> Row:
    """Row of a convolution; size and kernel are ints or tuples."""
    groups = arguments.get("groups", 1)
    size = size if isinstance(size, tuple) else (size,) * axes
    kernel = kernel if isinstance(kernel, tuple) else (kernel,) * axes
    shapes = (n, c, *size), (k, c // groups, *kernel), (k,) if bias else None
    return Row(f"conv{axes}d", shapes, arguments)


def conv_transpose(axes, n, c, k, size, kernel, *, bias=True, **arguments) -> Row:
    """Row of a transposed convolution; size and kernel are ints or tuples."""
    groups = arguments.get("groups", 1)
    size = size if isinstance(size, tuple) else (size,) * axes
    kernel = kernel if isinstance(kernel, tuple) else (kernel,) * axes
    shapes = (n, c, *size), (c, k // groups, *kernel), (k,) if bias else None
    return Row(f"conv_transpose{axes}d", shapes, arguments)


CHANNELS = (1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 130)

CONV = [
    # Every stride, padding, dilation and number of groups up to 3.
    *(
        conv(2, 2, 6, 6, (9, 11), (3, 2), stride=s, padding=p, dilation=d, groups=g)
        for s, p, d, g in itertools.product(
            (1, 2, 3), (0, 1, 2, 3), (1, 2, 3), (1, 2, 3)
        )
    ),
    # Kernels from 1x1 to 11x11.
    *(
        conv(2, 1, 3, 5, (13, 12), k, stride=s, padding=k // 2)
        for k, s in itertools.product(range(1, 12), (1, 2))
    ),
    # Channels from 1 to 130.
    *(conv(2, 1, c, 5, (5, 4), 3, padding=1) for c in CHANNELS),
    *(conv(2, 1, 3, k, (4, 5), 2, bias=False) for k in CHANNELS),
    *(conv(2, 2, c, k, 3, 1) for c, k in zip(CHANNELS, CHANNELS[::-1], strict=True)),
    # One and three axes.
    *(
        conv(1, 2, 4, 6, 17, 4, stride=s, padding=p, dilation=d, groups=g)
        for s, p, d, g in itertools.product((1, 3), (0, 2), (1, 2), (1, 2))
    ),
    *(
        conv(
            3, 1, 2, 4, (5, 6, 7), (2, 3, 2), stride=s, padding=p, dilation=d, groups=g
        )
        for s, p, d, g in itertools.product((1, 2), (0, 1), (1, 2), (1, 2))
    ),
    # Speech (3 and 5 taps in a row), video (3x3x3).
    *(
        conv(1, 2, c, k, size, r, padding=r // 2)
        for c, k, size, r in ((8, 16, 50, 3), (17, 33, 63, 3), (16, 32, 41, 5))
    ),
    *(
        conv(3, 1, c, k, (4, 7, 6), 3, padding=1, stride=s)
        for c, k, s in ((3, 16, 1), (16, 33, 1), (17, 16, 2), (16, 16, (1, 2, 2)))
    ),
    # Empty batch, one and many images.
    *(conv(axes, 0, 2, 3, 7, 3) for axes in (1, 2, 3)),
    *(conv(2, n, 3, 4, (5, 7), 3, padding=1) for n in (1, 2, 3, 5, 8, 9, 17)),
    # One group per channel, with one and with several filters each.
    *(conv(2, 2, c, c, 7, 3, padding=1, groups=c) for c in (2, 5, 16, 33)),
    *(conv(2, 2, c, 3 * c, 7, 3, stride=2, groups=c) for c in (1, 4, 9)),
    # Other forms of the arguments.
    conv(2, 2, 3, 4, (6, 7), (3, 2), padding=((1, 0), (0, 2)), stride=(2, 1)),
    conv(2, 2, 3, 4, (6, 7), (2, 4), padding="same"),
    conv(2, 2, 3, 4, (6, 7), (2, 3), padding="same", dilation=(3, 2)),
    conv(2, 2, 3, 4, (6, 7), (2, 3), padding="valid", stride=2),
    conv(1, 2, 3, 4, 8, 3, padding=[[2, 1]]),
    conv(3, 1, 2, 3, (4, 5, 6), (1, 3, 2), padding=(0, 1, 2), stride=(1, 2, 3)),
    conv(2, 2, 3, 4, (6, 7), 3, activation="relu"),
    conv(2, 2, 4, 4, 5, 3, padding=1, groups=2, activation="relu", bias=False),
    # Kernels as large as the input, larger than it, and padding beyond it.
    conv(2, 1, 2, 3, (5, 4), (5, 4)),
    conv(2, 1, 2, 3, (2, 3), (4, 5), padding=2),
    conv(2, 1, 2, 3, 3, 2, padding=4, stride=3),
    conv(2, 1, 1, 1, 1, 1),
    # LeNet-5, long rows, one image row.
    conv(2, 2, 1, 6, 28, 5, padding=2),
    conv(2, 2, 6, 16, 14, 5),
    conv(2, 1, 3, 7, (3, 70), 3, padding=1),
    conv(2, 1, 17, 9, (1, 40), (1, 5), padding=(0, 2)),
    # Unbatched.
    Row("conv2d", ((3, 6, 5), (4, 3, 3, 2), (4,)), {"padding": 1}),
    Row("conv1d", ((2, 9), (3, 2, 3), None)),
    Row("conv3d", ((2, 3, 4, 5), (3, 2, 2, 2, 2), (3,))),
]

MAX_POOL = [
    *(
        Row(
            "max_pool2d",
            ((2, 3, 9, 10),),
            dict(kernel_size=k, stride=s, padding=p, dilation=d, ceil_mode=ceil),
        )
        for k, s, p, d, ceil in itertools.product(
            (2, 3), (1, 2, 3), (0, 1), (1, 2), (False, True)
        )
    ),
    *(
        Row("max_pool2d", ((1, c, 6, 5),), dict(kernel_size=2))
        for c in (1, 7, 16, 17, 64, 130)
    ),
    *(
        Row("max_pool1d", ((2, 3, 11),), dict(kernel_size=k, padding=k // 2))
        for k in (1, 2, 3, 5)
    ),
    *(
        Row("max_pool3d", ((1, 2, 5, 6, 7),), dict(kernel_size=(2, 3, 2), stride=s))
        for s in (None, 1, 2)
    ),
    Row("max_pool2d", ((0, 3, 4, 4),), dict(kernel_size=2)),
    Row("max_pool2d", ((3, 5, 6),), dict(kernel_size=(3, 2), stride=(1, 2))),
    Row("max_pool2d", ((1, 2, 20, 20),), dict(kernel_size=17, stride=3)),
    Row("max_pool2d", ((1, 2, 5, 6),), dict(kernel_size=2, stride=1, padding="same")),
    Row("max_pool2d", ((1, 2, 5, 6),), dict(kernel_size=3, padding=((1, 0), (0, 1)))),
]

AVG_POOL = [
    *(
        Row(
            "avg_pool2d",
            ((2, 3, 9, 10),),
            dict(
                kernel_size=k,
                stride=s,
                padding=p,
                ceil_mode=ceil,
                count_include_pad=count,
            ),
        )
        for k, s, p, ceil, count in itertools.product(
            (2, 3), (1, 2, 3), (0, 1), (False, True), (False, True)
        )
    ),
    *(
        Row("avg_pool2d", ((1, c, 6, 5),), dict(kernel_size=2))
        for c in (1, 7, 16, 17, 64, 130)
    ),
    *(
        Row("avg_pool1d", ((2, 3, 11),), dict(kernel_size=k, padding=k // 2))
        for k in (1, 2, 3, 5)
    ),
    *(
        Row("avg_pool3d", ((1, 2, 5, 6, 7),), dict(kernel_size=(2, 3, 2), stride=s))
        for s in (None, 1, 2)
    ),
    Row("avg_pool2d", ((0, 3, 4, 4),), dict(kernel_size=2)),
    Row("avg_pool2d", ((3, 5, 6),), dict(kernel_size=(3, 2), stride=(1, 2))),
    Row("avg_pool2d", ((1, 2, 7, 7),), dict(kernel_size=7)),
    Row(
        "avg_pool2d",
        ((2, 3, 6, 5),),
        dict(kernel_size=3, padding=1, divisor_override=4),
    ),
]

# Statistics of the batch: the shapes are those of x, none, none, weight, bias.
BATCH_NORM = [
    *(
        Row("batch_norm", (shape, None, None, *channels), {"training": True})
        for shape in (
            (5, 3, 4, 5),
            (2, 17, 6, 7),
            (9, 33, 5),
            (40, 7),
            (3, 64, 3, 4, 5),
            (1, 2, 8, 9),
        )
        for channels in ((None, None), ((shape[1],),) * 2)
    ),
    Row(
        "batch_norm", ((3, 4, 6, 5), None, None, (4,), (4,)), dict(training=True, eps=1)
    ),
]

OTHERS = [
    *(
        Row(f"adaptive_avg_pool{len(shape) - 2}d", (shape,), {"output_size": size})
        for shape, size in (
            ((2, 3, 7), 3),
            ((2, 3, 5, 6), (5, 6)),
            ((2, 17, 9, 7), (1, 1)),
            ((3, 5, 2, 3), (7, 4)),
            ((1, 33, 13, 9), (6, None)),
            ((1, 2, 4, 5, 6), (3, 1, 8)),
            ((0, 3, 4, 4), 2),
        )
    ),
    Row("adaptive_avg_pool2d", ((3, 5, 6),), {"output_size": 2}),
    *(
        Row("local_response_norm", (shape,), dict(size=size, alpha=0.5, beta=beta, k=2))
        for (shape, size), beta in itertools.product(
            (
                ((2, 33, 3, 4), 5),
                ((2, 3, 5), 4),
                ((1, 1, 3, 3), 3),
                ((2, 5, 2, 3, 2), 1),
                ((0, 3, 4), 3),
            ),
            (0.75, 0.5),
        )
    ),
    *(
        Row("dropout", (shape,), {"p": p, "seed": 5 << 40})
        for shape in ((), (33,), (2, 3), (3, 5, 6, 7), (2, 70, 3), (0, 4))
        for p in (0.4, 1.0)
    ),
    *(
        Row("linear", ((n, c), (k, c), (k,) if n % 2 else None))
        for n, (c, k) in itertools.product(
            (0, 1, 2, 9), ((1, 1), (5, 130), (130, 5), (33, 64))
        )
    ),
    Row("linear", ((7,), (3, 7), (3,))),
    Row("linear", ((2, 4, 7), (3, 7), (3,))),
    *(Row("relu", (shape,)) for shape in ((), (1,), (33,), (2, 3, 5, 7), (0, 4))),
    *(Row("add", (shape, shape)) for shape in ((), (1,), (33,), (2, 3, 5, 7), (0, 4))),
    Row("cat", ((2, 3), (4, 3))),
    Row("cat", ((2, 3, 4, 5), (2, 1, 4, 5), (2, 6, 4, 5)), {"dim": 1}),
    Row("cat", ((2, 3, 4), (2, 3, 0)), {"dim": -1}),
    Row("flatten", ((2, 3, 4, 5),), {"start_dim": 1}),
    Row("flatten", ((2, 3, 4, 5),)),
    Row("flatten", ((2, 3, 4, 5),), {"start_dim": 1, "end_dim": -2}),
    Row("flatten", ((0, 3, 4),), {"start_dim": 1}),
    *(
        Row(
            "cross_entropy",
            ((n, c), (n,), (c,) if weighted else None),
            {"reduction": reduction, "label_smoothing": smoothing},
        )
        for (n, c), weighted, reduction, smoothing in itertools.product(
            ((1, 2), (7, 10), (9, 130)),
            (False, True),
            ("mean", "sum", "none"),
            (0.0, 0.1),
        )
    ),
    Row("cross_entropy", ((5,), (), None)),
    Row("cross_entropy", ((0, 3), (0,), None), {"reduction": "none"}),
    Row("cross_entropy", ((4, 3), (4,), None), {"ignore_index": 1}),
]

TRANSPOSED = [
    *(
        conv_transpose(2, 2, 4, 6, (5, 4), (3, 2), stride=s, padding=p, dilation=d,
                       groups=g, output_padding=min(e, max(s, d) - 1))
        for s, p, d, g, e in itertools.product(
            (1, 2, 3), (0, 1), (1, 2), (1, 2), (0, 1)
        )
    ),
    *(
        conv_transpose(1, 2, c, k, 9, 4, stride=2, padding=1)
        for c, k in ((1, 1), (3, 17), (33, 5))
    ),
    *(conv_transpose(3, 1, 2, 3, (2, 3, 4), 2, stride=s, padding=p)
      for s, p in ((1, 0), (2, 0), (2, 1))),
    conv_transpose(2, 1, 3, 5, 4, 4, bias=False, stride=2, padding=((1, 0), (0, 1))),
    conv_transpose(2, 0, 3, 5, 4, 3),
    Row("conv_transpose2d", ((3, 4, 5), (3, 2, 3, 3), (2,)), {"stride": 2}),
]  # fmt: skip

IMAGES = ((2, 5, 4, 3), (1, 17, 3, 5), (3, 33))

ELEMENTS = [
    *(
        Row(name, (shape,))
        for name in (
            "celu", "elu", "gelu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu",
            "logsigmoid", "mish", "relu6", "selu", "sigmoid", "silu", "softplus",
            "tanh",
        )
        for shape in ((), (1,), (37,), (2, 3, 5, 7), (0, 4))
    ),
    Row("celu", ((50,),), {"alpha": 0.5}),
    Row("elu", ((50,),), {"alpha": 1.5}),
    Row("gelu", ((50,),), {"approximate": "tanh"}),
    Row("hardtanh", ((50,),), {"min_val": -0.5, "max_val": 0.25}),
    Row("leaky_relu", ((50,),), {"negative_slope": 0.2}),
    Row("softplus", ((50,),), {"beta": 2.0, "threshold": 1.0}),
    *(Row("prelu", (shape, (1,))) for shape in ((7,), *IMAGES)),
    *(Row("prelu", (shape, shape[1:2])) for shape in IMAGES),
    *(
        Row(name, (a, b))
        for name in ("add", "sub", "mul", "div")
        for a, b in (
            ((2, 3, 4, 5), (2, 3, 4, 5)),
            ((2, 3, 4, 5), (1, 3, 1, 1)),
            ((2, 3, 4, 5), (3, 1, 1)),
            ((2, 3, 4, 5), (2, 1, 4, 5)),
            ((2, 3, 1, 5), (3, 4, 1)),
            ((5,), (2, 3, 4, 5)),
            ((), (2, 3)),
            ((2, 0, 3), (3,)),
            ((2, 3, 2, 3, 2, 2, 2), (3, 1, 3, 1, 2, 1)),
        )
    ),
]  # fmt: skip

ALONG = [
    *(
        Row(name, (shape,), {"dim": dim})
        for name in ("softmax", "log_softmax")
        for shape, dim in (
            ((), 0), ((1,), 0), ((40,), 0), ((100,), -1), ((3, 100), 1), ((37, 5), 1),
            ((37, 5), 0), ((2, 5, 4, 3), 1), ((2, 5, 4, 3), 3), ((2, 19, 5, 7), 1),
            ((2, 70, 3), 1), ((0, 3), 1), ((2, 3, 0), 1),
        )
    ),
    *(
        Row(name, ((2, 3, 4, 5),), {"dim": dim, "keepdim": keep})
        for name in ("sum", "mean", "amax")
        for dim, keep in ((None, False), (1, True), ((2, 3), False), (-1, False),
                          ((0, 2), True))
    ),
    *(Row("matmul", shapes) for shapes in (
        ((3, 4), (4, 5)), ((4,), (4,)), ((2, 3, 4), (4,)), ((4,), (2, 4, 3)),
        ((2, 1, 3, 4), (5, 4, 2)), ((0, 4), (4, 3)),
    )),
    *(
        Row("group_norm", (shape, groups, *(shape[1:2] if affine else None,) * 2))
        for shape, groups, affine in (
            ((2, 6, 5), 3, True), ((2, 6, 4, 5), 6, True), ((2, 6, 4, 5), 1, False),
            ((3, 8), 2, True), ((2, 34, 3, 3), 17, True), ((1, 130, 7, 9), 2, True),
            ((0, 4, 3), 2, True),
        )
    ),
    Row("instance_norm", ((2, 3, 4, 5),)),
    *(Row("layer_norm", (shape, dims, None, None)) for shape, dims in (
        ((3, 7), 7), ((2, 3, 40), 40), ((2, 3, 4), [3, 4]), ((2, 3), [2, 3]),
    )),
    Row("layer_norm", ((2, 3, 40), 40, (40,), (40,))),
    Row("layer_norm", ((2, 3, 4), [3, 4], (3, 4), (3, 4))),
]  # fmt: skip

MOVED = [
    Row("permute", ((2, 3, 4, 5), [3, 0, 2, 1])),
    Row("transpose", ((2, 3, 4), 1, -1)),
    Row("pixel_shuffle", ((2, 12, 3, 4), 2)),
    Row("pixel_unshuffle", ((2, 3, 4, 6), 2)),
    Row("channel_shuffle", ((2, 6, 3, 4), 3)),
    Row("narrow", ((2, 5, 4), 1, 1, 3)),
    Row("squeeze", ((2, 1, 3, 1),)),
    Row("squeeze", ((2, 1, 3, 1), 1)),
    Row("unsqueeze", ((2, 3), -2)),
    *(
        Row("pad", (shape, [*pad]), {"mode": mode})
        for shape, pad in (
            ((2, 3, 5), (1, 2)), ((2, 3, 4, 5), (1, 2, 3, 0)), ((2, 3, 5), (-1, 2)),
            ((2, 2, 3, 4, 3), (1, 1, 0, 2, 1, 0)), ((3, 4, 5), (0, 1, 2, 1)),
        )
        for mode in ("constant", "reflect", "replicate", "circular")
    ),
    Row("pad", ((2, 3), [1, 0, 0, 2]), {"value": 3.0}),
    *(
        Row("interpolate", (shape,), {"size": size, "mode": mode, "align_corners": a})
        for shape, size, modes in (
            ((2, 3, 7), (11,), ("linear",)),
            ((2, 3, 5, 4), (9, 8), ("bilinear", "bicubic")),
            ((2, 17, 5, 4), (9, 8), ("bilinear", "bicubic")),
            ((1, 20, 8, 9), (3, 4), ("bilinear", "bicubic")),
            ((1, 2, 3, 4, 5), (5, 2, 7), ("trilinear",)),
            ((1, 18, 3, 4, 5), (5, 2, 7), ("trilinear",)),
            ((1, 2, 6, 1), (3, 4), ("bilinear", "bicubic")),
            ((0, 2, 6, 5), (3, 4), ("bilinear",)),
        )
        for mode in modes
        for a in (False, True)
    ),
    *(
        Row("interpolate", (shape,), {"scale_factor": scale, "mode": mode})
        for shape, scale in (
            ((2, 3, 7), 1.6), ((2, 3, 5, 4), 2), ((2, 17, 5, 4), (0.7, 2.3)),
            ((1, 2, 3, 4, 5), 0.8),
        )
        for mode in ("nearest", "nearest-exact", "area")
    ),
    *(
        Row(f"adaptive_max_pool{len(space)}d", ((2, 3, *space),), {"output_size": size})
        for space in ((5,), (5, 7), (5, 7, 6))
        for size in (1, 2, 3)
    ),
    Row("lp_pool2d", ((2, 3, 6, 7),), {"norm_type": 2.0, "kernel_size": 2}),
    Row("lp_pool1d", ((2, 3, 8),), {"norm_type": 4.0, "kernel_size": 3, "stride": 2}),
    *(
        Row(f"max_unpool{axes}d", (shape, shape), {"kernel_size": 2})
        for axes, shape in ((1, (2, 3, 4)), (2, (2, 3, 4, 3)), (3, (1, 2, 2, 3, 2)))
    ),
    Row("embedding", ((3, 4), (7, 5))),
]  # fmt: skip

LOSSES = [
    *(
        Row("cross_entropy", (logits, target, weight), {"reduction": reduction})
        for logits, target, weight in (
            ((3, 4, 5), (3, 5), None), ((2, 4, 3, 2), (2, 3, 2), (4,)),
        )
        for reduction in ("mean", "sum", "none")
    ),
    *(
        Row("nll_loss", (x, target, weight), {"reduction": reduction})
        for x, target, weight in (
            ((7, 4), (7,), None), ((7, 4), (7,), (4,)), ((2, 4, 3, 2), (2, 3, 2), (4,)),
            ((4,), (), None),
        )
        for reduction in ("mean", "sum", "none")
    ),
    *(
        Row(name, ((3, 4), (3, 4)), {"reduction": reduction})
        for name in ("mse_loss", "l1_loss", "smooth_l1_loss",
                     "binary_cross_entropy_with_logits")
        for reduction in ("mean", "sum", "none")
    ),
    Row("binary_cross_entropy_with_logits", ((3, 4), (3, 4), (4,))),
]  # fmt: skip

# Enough work that a call is split: over images, rows, channels and granules.
LARGE = [
    conv(2, 9, 16, 24, (20, 19), 3, padding=1),
    conv(2, 1, 40, 130, 17, 3, stride=2),
    conv(2, 2, 3, 32, (60, 61), 7, stride=2, padding=3),
    conv(2, 3, 64, 65, 14, 1),
    conv(2, 4, 32, 32, 30, 3, padding=1, groups=32),
    conv(3, 2, 8, 16, (7, 12, 13), 3, padding=1),
    conv(1, 5, 24, 40, 300, 5, dilation=2),
    conv(1, 3, 40, 64, 500, 3, padding=1),
    conv(3, 1, 32, 32, (8, 14, 14), 3, padding=1),
    Row("linear", ((70, 300), (130, 300), (130,))),
    Row(
        "max_pool2d", ((5, 16, 60, 61),), {"kernel_size": 3, "stride": 2, "padding": 1}
    ),
    Row(
        "avg_pool2d", ((5, 16, 60, 61),), {"kernel_size": 3, "stride": 2, "padding": 1}
    ),
    Row("batch_norm", ((9, 20, 60, 61), None, None, (20,), (20,)), {"training": True}),
    Row("batch_norm", ((2, 200, 30, 61), None, None, None, None), {"training": True}),
    Row("adaptive_avg_pool2d", ((5, 64, 60, 61),), {"output_size": 7}),
    Row("local_response_norm", ((2, 64, 30, 31),), {"size": 5}),
    Row("dropout", ((2_000_003,),), {"p": 0.5, "seed": 1}),
    Row("relu", ((2_000_003,),)),
    Row("add", ((2_000_003,), (2_000_003,))),
    Row("cross_entropy", ((3000, 130), (3000,), None)),
    conv_transpose(2, 3, 16, 24, (20, 19), 4, stride=2, padding=1),
    Row("gelu", ((300_007,),)),
    Row("mul", ((5, 16, 60, 61), (5, 16, 1, 1))),
    Row("softmax", ((9, 21, 60, 61),), {"dim": 1}),
    Row("log_softmax", ((700, 300),), {"dim": 1}),
    Row("group_norm", ((5, 64, 30, 31), 8, (64,), (64,))),
    Row("interpolate", ((5, 16, 30, 31),), {"size": (60, 61), "mode": "bilinear"}),
    Row("interpolate", ((5, 3, 90, 90),), {"size": (60, 60), "mode": "bicubic"}),
]

OPS = [
    *(*CONV, *TRANSPOSED, *MAX_POOL, *AVG_POOL, *BATCH_NORM, *OTHERS),
    *(*ELEMENTS, *ALONG, *MOVED, *LOSSES, *LARGE),
]
