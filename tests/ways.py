"""Every way in which a convolution is computed, and small calls that take each."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil

import numpy as np
from table import Row, conv

import convcore
from convcore.ops.base import Spec
from convcore.ops.conv import CONV, attributes

# Largest error permitted, relative to the largest result, on N(0, 1) data: by
# precision, and of every way.
CLASSES = {"highest": 3e-6, "high": 2e-5}
LIMITS = {
    "direct": 6e-7,
    "direct planar": 6e-7,
    "direct linear": 6e-7,
    "im2col": 6e-7,
    "F(2x2, 3x3)": 1e-6,
    "F(4x4, 3x3)": 3e-6,
    "F(4, 3)": 3e-6,
    "F(3x3, 4x4)": 3e-6,
    "F(5x5, 3x3)": 3e-6,  # of stride 2
    "F(2x2, 5x5)": 3e-6,
    "F(2, 5)": 3e-6,
    "F(4x4, 5x5)": 2e-5,
}


@dataclass(frozen=True)
class Way:
    """A convolution of float32 arrays by an algorithm, in a layout."""

    row: Row
    algorithm: str = "auto"
    last: bool = False
    precision: str = "highest"

    def __str__(self):
        layout = "last" if self.last else "first"
        return f"{self.row}-{self.algorithm}-{layout}-{self.precision}"

    def applies(self, direction="forward") -> bool:
        """Whether the algorithm can do this convolution, or this gradient of it."""
        try:
            return bool(self._explain(direction))
        except ValueError:
            return False

    def tile(self, direction="forward") -> int:
        """Outputs of a Winograd tile along an axis, 0 without Winograd."""
        return self._explain(direction)[3]

    def form(self, direction="forward") -> str:
        """What runs: a key of LIMITS."""
        algorithm, planar, linear, m, _ = self._explain(direction)
        if planar or linear:
            return f"{algorithm} {'planar' if planar else 'linear'}"
        if not m:
            return algorithm
        step = self.row.arguments.get("stride", 1)
        if step == 2 and self.row.shapes[1][2:] == (3, 3):
            return f"F({m}x{m}, 3x3)"
        taps = [str(ceil(r / step)) for r in self.row.shapes[1][2:] if r > 1]
        return f"F({'x'.join([str(m)] * len(taps))}, {'x'.join(taps)})"

    def forward(self, x, weight, bias, **arguments):
        """The result."""
        with self._precision():
            return self.row.call(
                convcore,
                [self._in_layout(x), weight, bias],
                algorithm=self.algorithm,
                **arguments,
            )

    def backward(self, dy, x, weight):
        """(dx, dw, db)."""
        backward = getattr(convcore.functional, f"{self.row.function}_backward")
        arrays = self._in_layout(dy), self._in_layout(x), weight
        with self._precision():
            return backward(*arrays, **self.row.arguments, algorithm=self.algorithm)

    def _in_layout(self, x):
        return convcore.channels_last(x) if self.last else x

    @contextmanager
    def _precision(self):
        before = convcore.get_float32_precision()
        convcore.set_float32_precision(self.precision)
        try:
            yield
        finally:
            convcore.set_float32_precision(before)

    def _explain(self, direction):
        """(algorithm, planar, linear, tile, cycles) of what runs."""
        specs = [Spec(shape, np.dtype(np.float32)) for shape in self.row.shapes[:2]]
        arguments = dict(stride=1, padding=0, dilation=1, groups=1)
        arguments.update(self.row.arguments)
        attrs = attributes(
            specs[1].ndim - 2, specs[1], **arguments, algorithm=self.algorithm
        )
        descriptor = CONV.describe(
            *specs, last=self.last, precision=self.precision, **attrs
        )
        return descriptor.explain(direction)[0]


ROWS = [
    conv(2, 2, 24, 40, (12, 11), 3, padding=1),
    conv(2, 1, 33, 17, 2, 3, padding=1),  # so small that a tile of 2x2 is best
    conv(2, 2, 17, 33, (9, 10), 5, padding=2),
    conv(2, 1, 1, 6, (14, 15), 5, padding=2),
    conv(2, 2, 1, 6, (28, 29), 3, padding=1),
    conv(2, 1, 3, 17, (20, 19), 7, stride=2, padding=3),
    conv(2, 2, 17, 33, (9, 10), 4, padding=1),
    conv(2, 2, 20, 33, (19, 22), 5, stride=2, padding=2),
    conv(2, 1, 3, 20, (40, 43), 11, stride=4, padding=2),
    conv(2, 1, 20, 12, (6, 5), 1),
    conv(2, 30, 40, 33, 1, 1),  # a linear layer
    conv(2, 20, 40, 33, 4, 4),  # an image is one window
    conv(2, 1, 512, 70, (6, 4), 2, stride=2),  # its pixels are pages apart
    conv(2, 2, 20, 40, 6, 1, stride=2, padding=1),
    conv(2, 2, 8, 6, (13, 35), 3, stride=2, padding=1),
    conv(2, 2, 33, 20, (23, 18), 3, stride=2, padding=1),
    conv(2, 1, 8, 18, (17, 9), 3, stride=2, padding=1, groups=2),
    conv(2, 1, 16, 33, (14, 12), 3, stride=2),
    conv(2, 1, 6, 8, (11, 10), 3, dilation=2, padding=2),
    conv(2, 2, 8, 12, (9, 8), 3, padding=1, groups=2),
    conv(2, 2, 37, 37, (9, 10), 3, padding=1, groups=37),
    conv(2, 1, 33, 33, (9, 8), 3, stride=2, padding=1, groups=33),
    conv(2, 1, 4, 8, (9, 8), 3, padding=1, groups=4),
    conv(1, 2, 17, 33, 63, 3, padding=1),
    conv(1, 2, 16, 33, 41, 5, padding=2),
    conv(3, 1, 4, 9, (4, 7, 6), 3, padding=1, stride=(1, 2, 2)),
]

WAYS = [
    way
    for row in ROWS
    for last in (False, True)
    for way in (
        Way(row, "direct", last),
        Way(row, "im2col", last),
        Way(row, "winograd", last),
        Way(row, "winograd", last, "high"),
    )
    if way.applies()
]
# Winograd of strided filters but 3x3 with padding, or of 4 taps, has no gradients.
DIFFERENTIABLE = [way for way in WAYS if way.applies("backward_data")]
