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

from convcore.ops.base import OPERATORS, apply, as_reference


@dataclass(frozen=True)
class Row:
    """One call: ``function(*arrays, **arguments)``; a shape may be None."""

    function: str
    shapes: tuple[tuple[int, ...] | None, ...]
    arguments: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        shapes = "_".join(
            "x".join(map(str, shape)) or "scalar"
            for shape in self.shapes
            if shape is not None
        )
        arguments = ",".join(
            f"{name}={value}" for name, value in self.arguments.items()
        )
        return f"{self.function}-{shapes}-{arguments}".replace(" ", "")

    def arrays(self, dtype, seed: int = 0) -> list[np.ndarray | None]:
        """Standard normal arrays (class numbers for a target)."""
        rng = np.random.default_rng([seed, *self.function.encode()])
        arrays = [
            None if shape is None else np.asarray(rng.standard_normal(shape), dtype)
            for shape in self.shapes
        ]
        if self.function == "cross_entropy":
            arrays[1] = _targets(rng, *self.shapes[:2])
            if arrays[2] is not None:
                arrays[2] = np.abs(arrays[2])
        return arrays

    def call(self, module, arrays, **extra):
        """Result of the function of `module`, convcore or its reference."""
        function = getattr(module, self.function)
        if self.function == "cat":
            return function(arrays, **self.arguments, **extra)
        return function(*arrays, **self.arguments, **extra)

    def gradients(self, module, dy, arrays, **extra) -> list[np.ndarray | None]:
        """Gradient of each array, None for those that have none."""
        name = self.function
        backward = getattr(module, f"{name}_backward", None)
        arguments = {**self.arguments, **extra}
        if name.startswith("conv") or name == "linear":
            arguments.pop("activation", None)
            gradients = backward(dy, *arrays[:2], **arguments)
            return [g for g, a in zip(gradients, arrays, strict=True) if a is not None]
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
        return self._inner_gradients(module, dy, arrays)

    def _inner_gradients(self, module, dy, arrays):
        """Of functions whose gradient is public in networks only."""
        run = as_reference(apply) if module.__name__.endswith("reference") else apply
        if self.function == "relu":
            return [run(OPERATORS["relu_backward"], dy, self.call(module, arrays))]
        if self.function == "dropout":
            attrs = dict(stream=0, **self.arguments)
            return [run(OPERATORS["dropout"], dy, **attrs)]
        if self.function == "flatten":
            return [run(OPERATORS["reshape"], dy, shape=arrays[0].shape)]
        if self.function == "add":
            return [dy, dy]
        dim = self.arguments.get("dim", 0) % dy.ndim
        starts = np.cumsum([0, *(a.shape[dim] for a in arrays)]).tolist()
        return [
            run(OPERATORS["narrow"], dy, dim=dim, start=start, length=a.shape[dim])
            for start, a in zip(starts, arrays, strict=False)
        ]


def _targets(rng, logits, target):
    """Class numbers, every fifth the ignored one."""
    targets = rng.integers(0, logits[-1], target)
    if targets.ndim:
        targets[4::5] = -100
    return np.asarray(targets)


def conv(axes, n, c, k, size, kernel, *, bias=True, **arguments) -> Row:
    """Row of a convolution; size and kernel are ints or tuples."""
    groups = arguments.get("groups", 1)
    size = size if isinstance(size, tuple) else (size,) * axes
    kernel = kernel if isinstance(kernel, tuple) else (kernel,) * axes
    shapes = (n, c, *size), (k, c // groups, *kernel), (k,) if bias else None
    return Row(f"conv{axes}d", shapes, arguments)


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
]

OPS = [*CONV, *MAX_POOL, *AVG_POOL, *BATCH_NORM, *OTHERS, *LARGE]
