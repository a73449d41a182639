"""Why a convolution runs the algorithm that it runs."""

from __future__ import annotations

from math import ceil, prod
from typing import NamedTuple

from . import _core
from ._config import PRECISIONS, get_float32_precision
from .ops.base import FLOAT32, Spec, check_choice, check_real_dtype
from .ops.conv import CONV, attributes
from .ops.window import sizes

_DIRECTIONS = ("forward", "backward_data", "backward_weight")
_ONLY_DIRECT = (
    "Winograd does not apply: it takes float32, one or two axes of 3 to 5 taps,\n"
    "3x3 of stride 2 (its gradient of x with odd padding), forward of 3 to 5 times\n"
    "the stride, without dilation, and is not for depthwise convolutions."
)


class Candidate(NamedTuple):
    """One way to compute a convolution.

    Attributes
    ----------
    algorithm : str
    planar : bool
        Direct, with vectors along the pixels of a channel instead of along
        channels.
    linear : bool
        Direct, a product of matrices that takes the weights as they are: few
        pixels, each for itself.
    tile : tuple of int
        Outputs of a Winograd tile along each axis, (4, 4) for F(4x4, 3x3);
        empty for the others.
    multiplications : int
    cycles : float
        Predicted, of one thread.
    time : float
        Predicted, relative to the chosen one.
    """

    algorithm: str
    planar: bool
    linear: bool
    tile: tuple[int, ...]
    multiplications: int
    cycles: float
    time: float


class Explanation(NamedTuple):
    """What "auto" weighs for one convolution; as a str, a table.

    Attributes
    ----------
    title : str
        The convolution in words.
    taps : tuple of int
        Of the kernel; where it is strided, every stride-th, as Winograd's
        algorithm takes them, but 3x3 of stride 2 as they are.
    candidates : tuple of Candidate
        By predicted time, the chosen one first.
    """

    title: str
    taps: tuple[int, ...]
    candidates: tuple[Candidate, ...]

    @property
    def chosen(self) -> Candidate:
        """The candidate that runs."""
        return self.candidates[0]

    def __str__(self):
        rows = [("", "algorithm", "form", "multiplications", "cycles", "time")]
        for candidate in self.candidates:
            rows.append(
                (
                    "->" if candidate is self.chosen else "",
                    candidate.algorithm,
                    self._form(candidate),
                    f"{candidate.multiplications / 1e6:,.3f} M",
                    f"{candidate.cycles / 1e6:,.3f} M",
                    f"{candidate.time:.2f}",
                )
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [self.title]
        for row in rows:
            cells = zip(row, widths, "<<<>>>", strict=True)
            lines.append("  ".join(f"{x:{side}{width}}" for x, width, side in cells))
        if not any(candidate.tile for candidate in self.candidates):
            lines.append(_ONLY_DIRECT)
        return "\n".join(lines)

    def _form(self, candidate):
        """What the algorithm's name leaves open; a tile as papers write it."""
        tile = candidate.tile
        if tile:
            return f"F({_times(tile)}, {_times(self.taps[-len(tile) :])})"
        return "planar" if candidate.planar else "linear" if candidate.linear else ""


def explain_conv(
    x_shape,
    weight_shape,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    *,
    dtype="float32",
    precision=None,
    packed=False,
    direction="forward",
):
    """Tell which algorithm ``algorithm="auto"`` chooses for a convolution, and why.

    The choice is the smallest predicted time: a function of what stands here
    and of the instruction set, never of threads or measurements.

    Parameters
    ----------
    x_shape : tuple of int (N, C, space)
        One, two or three axes of space.
    weight_shape : tuple of int (K, C // groups, kernel)
    stride, padding, dilation, groups
        As in `conv2d`.
    dtype : {"float32", "float64"}
    precision : {"highest", "high", "medium"}, optional
        Of float32. Default: `get_float32_precision`.
    packed : bool
        Whether the weights are packed beforehand and the arrays channels-last,
        as where a model predicts, or as `conv2d` gets them.
    direction : {"forward", "backward_data", "backward_weight"}
        The convolution, or its gradient with respect to x or to the weights
        (and the bias).

    Returns
    -------
    Explanation
        A table when printed; `chosen` and `candidates` are for programs.

    Examples
    --------
    >>> import convcore as cc
    >>> x_shape, weight_shape = (1, 64, 56, 56), (64, 64, 3, 3)
    >>> why = cc.explain_conv(x_shape, weight_shape, padding=1)
    >>> why.chosen.algorithm, why.chosen.tile
    ('winograd', (4, 4))
    >>> cc.explain_conv(x_shape, weight_shape, stride=2).chosen.tile  # split
    (5, 5)
    """
    dtype = check_real_dtype(dtype)
    precision = get_float32_precision() if precision is None else precision
    check_choice(precision, "precision", PRECISIONS)
    check_choice(direction, "direction", _DIRECTIONS)
    x = Spec(sizes(x_shape, "x_shape"), dtype)
    weight = Spec(sizes(weight_shape, "weight_shape"), dtype)
    kernel = weight.shape[2:]
    if len(kernel) not in (1, 2, 3):
        raise ValueError(
            "weight_shape must be (K, C // groups, kernel) with one to three axes, "
            f"not {weight.shape}"
        )
    attrs = attributes(len(kernel), weight, stride, padding, dilation, groups, "auto")
    y = CONV.infer(x, weight, activation=None, **attrs)
    conv = CONV.describe(
        x,
        weight,
        last=packed,
        precision=precision,
        packed=packed,
        activation=None,
        **attrs,
    )
    steps = attrs["stride"]
    split = kernel == (3, 3) and steps == (2, 2)
    taps = tuple(
        ceil(r / (1 if split else s)) for r, s in zip(kernel, steps, strict=True)
    )
    if direction != "backward_data":
        tiled = y.shape[2:]
    else:
        tiled = tuple(ceil(size / (2 if split else 1)) for size in x.shape[2:])
    found = conv.explain(direction)
    best = found[0][-1]  # 0 for an empty batch
    candidates = []
    for algorithm, *forms, m, cycles in found:
        tile = (m,) * sum(r > 1 for r in kernel) if m else ()
        products = (
            _winograd_products(m, tiled, taps, split) * (1 if split else prod(steps))
            if m
            else prod(y.shape[2:]) * prod(kernel)
        )
        products *= x.shape[0] * prod(weight.shape[:2])
        time = cycles / best if best else 1.0
        candidates.append(Candidate(algorithm, *forms, tile, products, cycles, time))
    title = (
        f"{direction} {x.shape} * {weight.shape} -> {y.shape}, {dtype}"
        f"{f' {precision}' if dtype == FLOAT32 else ''}, "
        f"{'packed' if packed else 'plain'} weights, {_core.isa()}"
    )
    return Explanation(title, taps, tuple(candidates))


def _winograd_products(m, size, taps, split):
    """Products of one image and pair of channels.

    A tile along an axis takes m + r - 1 for m results of r taps, and one less for
    m - 1 results; of a split filter of 3 taps and stride 2, 11 for 5 and 9 for 4.
    """

    def of_axis(results, r):
        tiles = ceil(results / m)
        whole = max(results - (m - 1) * tiles, 0)
        points, step = (11, 2) if split else (m + r - 1, 1)
        return tiles * (points - step) + whole * step

    return prod(
        of_axis(results, r) if r > 1 else results
        for results, r in zip(size, taps, strict=True)
    )


def _times(sizes):
    return "x".join(map(str, sizes))
