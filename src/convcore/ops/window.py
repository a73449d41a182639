"""Arguments and sizes of sliding windows: kernel, stride, padding, dilation."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from math import prod

import numpy as np

# C computes with int64 and adds a few of these.
LARGEST = 2**60

Axes = tuple[int, ...]
Padding = tuple[tuple[int, int], ...]


def per_axis(value, axes: int, name: str, least: int) -> Axes:
    """One int per axis from an int, one in a sequence, or `axes` of them >= `least`."""
    if type(value) is int and least <= value <= LARGEST:
        return (value,) * axes
    try:
        entries = tuple(value) if hasattr(value, "__iter__") else (value,) * axes
        ints = tuple(map(operator.index, entries))
    except TypeError:
        ints = ()
    if len(ints) == 1:
        ints *= axes
    if len(ints) != axes:
        expected = "an int" if axes == 1 else f"an int or {axes} ints"
        raise _error(value, f"{name} must be {expected}, not {value!r}")
    if min(ints) < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")
    if max(ints) > LARGEST:
        raise ValueError(f"{name} is too large: {value}")
    return ints


def integer(value, name: str, least: int) -> int:
    """An int >= `least`."""
    return per_axis(value, 1, name, least)[0]


def sizes(value, name: str, least: int = 0) -> Axes:
    """A shape of any rank, its entries >= `least`."""
    try:
        shape = tuple(map(operator.index, value))
    except TypeError:
        raise TypeError(f"{name} must be a tuple of ints, not {value!r}") from None
    if min(shape, default=least) < least:
        raise ValueError(f"{name} must have entries of at least {least}, not {value}")
    return shape


def _error(value, message: str) -> Exception:
    """ValueError for a sequence of ints (of the wrong length), else TypeError."""
    of_ints = hasattr(value, "__iter__") and all(
        hasattr(entry, "__index__") for entry in value
    )
    return (ValueError if of_ints else TypeError)(message)


def pairs(padding, kernel: Axes, stride: Axes, dilation: Axes) -> Padding:
    """Padding (before, after) per axis.

    `padding` is an int, one int or one (before, after) pair per axis,
    ``"valid"`` (none) or ``"same"``: the output is as large as the input, the
    odd element goes after.
    """
    axes = len(kernel)
    if type(padding) is int and 0 <= padding <= LARGEST:
        return ((padding, padding),) * axes
    if isinstance(padding, str):
        return _named_padding(padding, kernel, stride, dilation)
    if not hasattr(padding, "__iter__"):
        return tuple((p, p) for p in per_axis(padding, axes, "padding", 0))
    entries = tuple(padding)
    if len(entries) == 1:
        entries *= axes
    if len(entries) != axes:
        raise ValueError(
            f"padding must have one entry per axis ({axes}), not {padding}"
        )
    return tuple(
        per_axis(e if hasattr(e, "__iter__") else (e, e), 2, "padding", 0)
        for e in entries
    )


def window_attributes(kernel: Axes, stride, padding, dilation) -> dict[str, tuple]:
    """Stride, padding and dilation of windows as attributes of an operator."""
    stride = per_axis(stride, len(kernel), "stride", 1)
    dilation = per_axis(dilation, len(kernel), "dilation", 1)
    padding = pairs(padding, kernel, stride, dilation)
    return {"stride": stride, "padding": padding, "dilation": dilation}


def _named_padding(name: str, kernel: Axes, stride: Axes, dilation: Axes) -> Padding:
    if name == "valid":
        return ((0, 0),) * len(kernel)
    if name != "same":
        raise ValueError(f"padding must be 'same' or 'valid' when a str, not {name!r}")
    if any(s != 1 for s in stride):
        raise ValueError(f"padding='same' needs stride 1, not {stride}")
    totals = (d * (k - 1) for k, d in zip(kernel, dilation, strict=True))
    return tuple((total // 2, total - total // 2) for total in totals)


def output_size(
    size: Axes,
    kernel: Axes,
    stride: Axes,
    padding: Padding,
    dilation: Axes,
    *,
    ceil_mode: bool = False,
) -> Axes:
    """Number of windows per axis.

    With `ceil_mode` a last window may reach beyond the padded input, but it
    begins inside the input or the padding before it.
    """
    out = []
    size, kernel = tuple(size), tuple(kernel)
    for n, k, s, (before, after), d in zip(
        size, kernel, stride, padding, dilation, strict=True
    ):
        extent = d * (k - 1) + 1
        room = n + before + after - extent
        if n < 1 or room < 0:
            raise ValueError(
                f"kernel {kernel} with dilation {dilation} is larger than the padded "
                f"input: size {size}, padding {padding}"
            )
        windows = room // s + 1
        if ceil_mode and room % s and windows * s < n + before:
            windows += 1
        out.append(windows)
    return tuple(out)


def three_axes(values: Iterable[int], leading: int) -> Axes:
    """Entries for depth, height and width, as C takes them."""
    values = tuple(values)
    return (leading,) * (3 - len(values)) + values


def check_elements(shape: Axes, name: str) -> None:
    """Raise when an array of this shape cannot be addressed by int64 bytes."""
    if prod(shape) > LARGEST:
        raise ValueError(f"{name} of shape {shape} is too large")


def taps(
    kernel: Axes,
    size: Axes,
    out: Axes,
    stride: Axes,
    padding: Padding,
    dilation: Axes,
) -> Iterator[tuple]:
    """Each tap with the index of the inputs and of the outputs that it joins.

    Output o meets input ``o*stride - before + tap*dilation``; outputs whose
    input lies in the padding are left out.
    """
    for tap in np.ndindex(*kernel):
        slices = map(_tap_slices, tap, size, out, stride, padding, dilation)
        source, place = zip(*slices, strict=True)
        yield tap, (..., *source), (..., *place)


def _tap_slices(t, size, out, stride, pair, dilation):
    offset = t * dilation - pair[0]
    first = max(0, -(offset // stride))
    end = max(first, min(out, (size - 1 - offset) // stride + 1))
    start = first * stride + offset
    stop = start + (end - first - 1) * stride + 1
    return slice(start, max(start, stop), stride), slice(first, end)
