"""Where the time of a network goes, beside what this machine can do."""

from collections import Counter
from functools import lru_cache
from math import prod
from time import perf_counter
from typing import NamedTuple

import numpy as np

from . import _core

_PROBE_BYTES = 1 << 28  # more than caches hold
_PASSES = {
    "conv_forward": "forward",
    "conv_backward_data": "backward_data",
    "conv_backward_weight": "backward_weight",
}


class Limits(NamedTuple):
    """What this machine does at most, measured: per second."""

    flops: float
    bytes: float


class Row(NamedTuple):
    """One step of a run.

    Attributes
    ----------
    segment : str
        "forward", "backward" or "update".
    layer : str
        The module's path; empty for what belongs to none.
    operator : str
    shape : tuple of int
        Of the result.
    parameters : int
        Elements of the parameters that it reads.
    algorithm : str
        Of convolutions.
    seconds : float
    flops : float
        Of convolutions and linear layers: two for each product of the definition,
        whatever the algorithm. 0 for the others.
    bytes : float
        Of all operands, each counted once.
    share : float
        Of the limit: the least time for flops and bytes, divided by the time.
        Winograd's algorithm can be above 1, and what stays in the caches.
    """

    segment: str
    layer: str
    operator: str
    shape: tuple[int, ...]
    parameters: int
    algorithm: str
    seconds: float
    flops: float
    bytes: float
    share: float

    @property
    def rate(self):
        """The rate in words: GFLOP/s, or GB/s where nothing is multiplied."""
        amount, unit = (self.flops, "GFLOP/s") if self.flops else (self.bytes, "GB/s")
        return f"{amount / max(self.seconds, 1e-9) / 1e9:.1f} {unit}"


class Profile(NamedTuple):
    """Times of one batch; as a str, a table.

    Attributes
    ----------
    title : str
    limits : Limits
    rows : tuple of Row
        In the order in which they run.
    """

    title: str
    limits: Limits
    rows: tuple[Row, ...]

    @property
    def seconds(self):
        """Of all rows together."""
        return sum(row.seconds for row in self.rows)

    def as_dict(self):
        """The same as JSON values."""
        rows = [row._asdict() for row in self.rows]
        limits = self.limits._asdict()
        facts = {"title": self.title, "seconds": self.seconds, "limits": limits}
        return facts | {"rows": rows}

    def __str__(self):
        head = ("", "layer", "operator", "shape", "parameters", "algorithm")
        table = [(*head, "ms", "%", "rate", "of limit")]
        table += [self._cells(row) for row in self.rows]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [self.title]
        for cells in table:
            sides = zip(cells, widths, "<<<<><>>>>", strict=True)
            line = "  ".join(f"{text:{side}{width}}" for text, width, side in sides)
            lines.append(line.rstrip())
        times = Counter()
        for row in self.rows:
            times[row.operator] += row.seconds
        lines.append("")
        for operator, seconds in times.most_common():
            share = 100 * seconds / self.seconds
            lines.append(f"{operator:26}{seconds * 1e3:10.3f} ms {share:5.1f} %")
        lines.append(f"{'all':26}{self.seconds * 1e3:10.3f} ms")
        lines.append(
            f"limits: {self.limits.flops / 1e9:.0f} GFLOP/s, "
            f"{self.limits.bytes / 1e9:.1f} GB/s"
        )
        return "\n".join(lines)

    def _cells(self, row):
        shape = ", ".join(map(str, row.shape))
        return (
            *(row.segment, row.layer, row.operator, f"({shape})"),
            *(f"{row.parameters:,}" if row.parameters else "", row.algorithm),
            f"{row.seconds * 1e3:.3f}",
            f"{100 * row.seconds / self.seconds:.1f}",
            *(row.rate, f"{100 * row.share:.0f} %"),
        )


def profile(title, plan, seconds, threads):
    """A profile of the steps of a plan that have run.

    Parameters
    ----------
    title : str
    plan : Plan
    seconds : (steps,) ndarray
        NaN where a step has not run.
    threads : int
    """
    limits = measured_limits(threads)
    keys = {x: key for key, x in plan.graph.parameters.items()}
    segment_of = {
        number: name
        for name, (first, end) in plan.segments.items()
        for number in range(first, end)
    }
    rows = []
    for number, (step, time) in enumerate(zip(plan.steps, seconds, strict=True)):
        if np.isnan(time):
            continue
        flops, moved = _flops(step), _bytes(step)
        least = max(flops / limits.flops, moved / limits.bytes)
        is_conv = step.kind in _PASSES
        rows.append(
            Row(
                segment_of[number],
                _layer(step.node, keys),
                step.node.op.name if step.kind == "numpy" else step.kind,
                _shape(step),
                _parameters(step.node, keys),
                step.descriptor.choose(_PASSES[step.kind]) if is_conv else "",
                float(time),
                float(flops),
                float(moved),
                float(least / max(time, 1e-9)),
            )
        )
    return Profile(title, limits, tuple(rows))


# ------------------------------------------------------------- a step's figures


def _layer(node, keys):
    """The path of the module that a node belongs to, by its parameters if any."""
    if node is None:
        return ""
    node = node.source or node
    for x in node.inputs:
        if x in keys:
            return keys[x].rpartition(".")[0]
    names = [y.name for y in node.outputs if y is not None and y.name]
    return names[0] if names else ""


def _shape(step):
    if step.node is None:
        return (step.operands[-1].size if step.operands[-1] else step.operands[2].size,)
    return next(y.shape for y in step.node.outputs if y is not None)


def _parameters(node, keys):
    inputs = () if node is None else node.inputs
    return sum(prod(x.shape) for x in inputs if x in keys)


def _bytes(step):
    return sum(x.size * x.buffer.dtype.itemsize for x in step.operands if x is not None)


def _flops(step):
    """Of a convolution: each filter element meets each output of its channel."""
    if step.kind not in _PASSES:
        return 0
    inputs, outputs = step.node.inputs, step.node.outputs
    if step.kind == "conv_forward":
        weight, y = inputs[1], outputs[0]
    elif step.kind == "conv_backward_data":
        y, weight = inputs[:2]
    else:
        y, weight = inputs[0], outputs[0]
        if weight is None:  # only the gradient of the bias
            return 0
    return 2 * prod(weight.shape) * prod(y.shape) // weight.shape[0]


# ----------------------------------------------------------------- the machine


@lru_cache
def measured_limits(threads):
    """What this machine does with so many threads, in a fifth of a second.

    Products: those of a pointwise convolution that stays in the caches. Bytes: the
    faster of reading a large array, and changing it in place.
    """
    one, zero = (1, 1, 1), (0, 0, 0)
    n, channels, size = 8 * threads, 128, (1, 28, 28)
    conv = _core.Conv(
        *("float32", "last", n, channels, channels, 1, size),
        *(one, one, zero, zero, one),
        packed=True,
    )
    x, y = np.ones((2, n, 28, 28, channels), np.float32)
    packed = _core.empty_aligned(4 * conv.packed_size("forward")).view(np.float32)
    conv.pack("forward", np.ones((channels, channels, 1, 1), np.float32), packed)
    flops = 2 * y.size * channels
    large = np.ones(_PROBE_BYTES // 4, np.float32)

    def product():
        conv.forward(x, packed, None, None, y, threads)

    def read():
        _core.sum_of_squares(large, threads)

    def change():
        _core.relu_forward(large, large, threads)

    return Limits(
        flops / _fastest(product, 10),
        max(large.nbytes / _fastest(read, 3), 2 * large.nbytes / _fastest(change, 3)),
    )


def _fastest(function, times):
    found = []
    for _ in range(times):
        start = perf_counter()
        function()
        found.append(perf_counter() - start)
    return min(found)
