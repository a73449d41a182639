"""Max and average pooling in one, two and three dimensions, and their gradients."""

from __future__ import annotations

from math import prod

import numpy as np

from .. import _core
from .._config import call_threads
from .base import (
    Operator,
    Spec,
    Traced,
    add_batch,
    apply,
    as_array,
    as_index_array,
    call,
    check_gradient,
    fill,
    named,
    prepared,
    register,
)
from .memory import dense, empty, finish, is_channels_last, target
from .window import (
    LARGEST,
    check_elements,
    integer,
    output_size,
    per_axis,
    sizes,
    taps,
    three_axes,
    window_attributes,
)

__all__ = [
    "avg_pool1d",
    "avg_pool1d_backward",
    "avg_pool2d",
    "avg_pool2d_backward",
    "avg_pool3d",
    "avg_pool3d_backward",
    "max_pool1d",
    "max_pool1d_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "max_pool3d",
    "max_pool3d_backward",
]


class MaxPool(Operator):
    """``(y, indices)``; padding is ignored, NaN is the largest.

    Attribute `index_dtype` says what an index is: None (there are none),
    "int64" (the position in the plane) or "uint8" (the number of the tap, what
    a plan keeps).
    """

    name = "max_pool"

    def infer(self, x, *, index_dtype, **window):
        shape = _output_shape(x.shape, **window)
        _check_windows(x.shape[2:], shape[2:], **window)
        index_dtype = index_dtype and np.dtype(index_dtype)
        return Spec(shape, x.dtype), index_dtype and Spec(shape, index_dtype)

    def describe(self, x, *, index_dtype, **attrs):
        return _descriptor("max", x.shape, x.dtype, index_dtype=index_dtype, **attrs)

    def compute(self, inputs, attrs, out=None):
        (x,) = inputs
        last = is_channels_last(x)
        pool, (spec, index_spec) = prepared(self, last, inputs, attrs)
        y = target(out, spec, last, inputs)
        indices = index_spec and empty(*index_spec, last)
        pool.forward(
            dense(x, last),
            dense(y, last),
            index_spec and dense(indices, last),
            call_threads(),
        )
        return finish(out, y), indices

    def reference(self, x, *, index_dtype, kernel, ceil_mode, **window):
        shape = _output_shape(x.shape, kernel=kernel, ceil_mode=ceil_mode, **window)
        y = np.full(shape, -np.inf, x.dtype)
        tap_number = np.full(shape, -1)
        all_taps = taps(kernel, x.shape[2:], shape[2:], **window)
        for number, (_, source, place) in enumerate(all_taps):
            value, best = x[source], y[place]
            wins = (value > best) | np.isnan(value) | (tap_number[place] < 0)
            y[place] = np.where(wins, value, best)
            tap_number[place] = np.where(wins, number, tap_number[place])
        if index_dtype is None:
            return y, None
        if index_dtype == "int64":
            return y, _positions(tap_number, x.shape[2:], kernel, **window)
        return y, tap_number.astype(index_dtype)

    def backward(self, node, dy, _):
        (x,), (_, indices) = node.inputs, node.outputs
        attrs = {k: value for k, value in node.attrs.items() if k != "index_dtype"}
        return (apply(MAX_POOL_BACKWARD, dy, indices, size=x.shape[2:], **attrs),)

    def lower(self, lowering, node):
        lowering.node(node, "pool_forward", lowering.describe(node))


class MaxPoolBackward(Operator):
    """``dx`` from ``dy`` and ``indices``; attribute `size` is that of x's space."""

    name = "max_pool_backward"

    def infer(self, dy, indices, *, size, **window):
        shape = (*dy.shape[:2], *size)
        check_gradient(dy, _output_shape(shape, **window))
        if indices.shape != dy.shape:
            raise ValueError(
                f"indices must have the shape of dy, {dy.shape}, not {indices.shape}"
            )
        return Spec(shape, dy.dtype)

    def describe(self, dy, indices, *, size, **attrs):
        shape = (*dy.shape[:2], *size)
        index_dtype = indices.dtype.name
        return _descriptor("max", shape, dy.dtype, index_dtype=index_dtype, **attrs)

    def compute(self, inputs, attrs, out=None):
        dy, indices = inputs
        last = is_channels_last(dy)
        pool, spec = prepared(self, last, inputs, attrs)
        dx = target(out, spec, last, inputs)
        try:
            pool.backward(
                dense(dy, last), dense(indices, last), dense(dx, last), call_threads()
            )
        except ValueError:
            _check_indices(indices, attrs["size"])
            raise
        return finish(out, dx)

    def reference(self, dy, indices, *, size, kernel, ceil_mode, **window):
        _check_indices(indices, size)
        if indices.dtype == np.uint8:
            indices = _positions(indices, size, kernel, **window)
        n, c, *out = dy.shape
        dx = np.zeros((n, c, prod(size)), dy.dtype)
        image, channel, _ = np.ogrid[:n, :c, :1]
        position = indices.reshape(n, c, prod(out))
        np.add.at(dx, (image, channel, position), dy.reshape(position.shape))
        return dx.reshape(n, c, *size)

    def lower(self, lowering, node):
        lowering.node(node, "pool_backward", lowering.describe(node))


class AvgPool(Operator):
    """Mean of each window; attribute `divisor` replaces the number of elements."""

    name = "avg_pool"

    def infer(self, x, *, count_include_pad, divisor, **window):
        return Spec(_output_shape(x.shape, **window), x.dtype)

    def describe(self, x, **attrs):
        return _descriptor("average", x.shape, x.dtype, **attrs)

    def compute(self, inputs, attrs, out=None):
        (x,) = inputs
        last = is_channels_last(x)
        pool, spec = prepared(self, last, inputs, attrs)
        y = target(out, spec, last, inputs)
        pool.forward(dense(x, last), dense(y, last), None, call_threads())
        return finish(out, y)

    def reference(self, x, *, kernel, ceil_mode, count_include_pad, divisor, **window):
        shape = _output_shape(x.shape, kernel=kernel, ceil_mode=ceil_mode, **window)
        total = np.zeros(shape, x.dtype)
        for _, source, place in taps(kernel, x.shape[2:], shape[2:], **window):
            total[place] += x[source]
        counts = _counts(
            x.shape[2:], shape[2:], kernel, count_include_pad, divisor, window
        )
        return total / counts.astype(x.dtype)

    def backward(self, node, dy):
        (x,) = node.inputs
        return (apply(AVG_POOL_BACKWARD, dy, size=x.shape[2:], **node.attrs),)

    def lower(self, lowering, node):
        (x,), (y,) = node.inputs, node.outputs
        operands = lowering.operand(x), lowering.result(y), None
        lowering.emit("pool_forward", operands, lowering.describe(node))


class AvgPoolBackward(Operator):
    """``dx`` from ``dy``; attribute `size` is that of x's space."""

    name = "avg_pool_backward"

    def infer(self, dy, *, size, count_include_pad, divisor, **window):
        shape = (*dy.shape[:2], *size)
        check_gradient(dy, _output_shape(shape, **window))
        return Spec(shape, dy.dtype)

    def describe(self, dy, *, size, **attrs):
        return _descriptor("average", (*dy.shape[:2], *size), dy.dtype, **attrs)

    def compute(self, inputs, attrs, out=None):
        (dy,) = inputs
        last = is_channels_last(dy)
        pool, spec = prepared(self, last, inputs, attrs)
        dx = target(out, spec, last, inputs)
        pool.backward(dense(dy, last), None, dense(dx, last), call_threads())
        return finish(out, dx)

    def reference(
        self, dy, *, size, kernel, ceil_mode, count_include_pad, divisor, **window
    ):
        counts = _counts(size, dy.shape[2:], kernel, count_include_pad, divisor, window)
        share = dy / counts.astype(dy.dtype)
        dx = np.zeros((*dy.shape[:2], *size), dy.dtype)
        for _, source, place in taps(kernel, size, dy.shape[2:], **window):
            dx[source] += share[place]
        return dx

    def lower(self, lowering, node):
        (dy,), (dx,) = node.inputs, node.outputs
        operands = lowering.operand(dy), None, lowering.result(dx)
        lowering.emit("pool_backward", operands, lowering.describe(node))


MAX_POOL = register(MaxPool())
MAX_POOL_BACKWARD = register(MaxPoolBackward())
AVG_POOL = register(AvgPool())
AVG_POOL_BACKWARD = register(AvgPoolBackward())


def _make_max_pool(axes: int):
    def max_pool(
        x,
        kernel_size,
        stride=None,
        padding=0,
        dilation=1,
        ceil_mode=False,
        return_indices=False,
        *,
        out=None,
    ):
        """Largest element of each window; padding is ignored, NaN is the largest.

        Parameters
        ----------
        x : array (N, C, {space}) or (C, {space})
            float32 or float64; any strides. Channels-last memory gives a
            channels-last result.
        kernel_size, dilation : int or one per axis
        stride : int or one per axis, optional
            `kernel_size` when not given.
        padding : int, one int or (before, after) pair per axis, "same" or "valid"
            At most half of the window's extent.
        ceil_mode : bool
            Let a last window reach beyond the padded input, if it begins
            inside the input or the padding before it.
        return_indices : bool
        out : array, optional
            Where the result is written.

        Returns
        -------
        array (N, C, {out}) or (C, {out})
            With `return_indices` a pair, the second being the int64 positions
            of the maxima in their plane {space}, flattened.

        Raises
        ------
        ValueError
            For sizes that do not fit together.
        """
        x = as_array(x, "x")
        attrs = _attributes(axes, kernel_size, stride, padding, dilation, ceil_mode)
        attrs["index_dtype"] = _index_dtype(x, attrs["kernel"], return_indices)
        x, one = add_batch(x, axes)
        if one:
            y, indices = call(MAX_POOL, (x,), attrs)
            y = y[0] if out is None else fill(out, y[0])
            return (y, indices[0]) if return_indices else y
        y, indices = call(MAX_POOL, (x,), attrs, out)
        return (y, indices) if return_indices else y

    return named(max_pool, f"max_pool{axes}d", axes)


def _make_max_pool_backward(axes: int):
    def max_pool_backward(
        dy,
        indices,
        input_shape,
        kernel_size,
        stride=None,
        padding=0,
        dilation=1,
        ceil_mode=False,
    ):
        """Gradient of max pooling.

        Parameters
        ----------
        dy : array (N, C, {out}) or (C, {out})
            Gradient of the result.
        indices : int64 array like dy
            Those of the forward call.
        input_shape : tuple
            Shape of x.
        kernel_size, stride, padding, dilation, ceil_mode
            As in the forward call.

        Returns
        -------
        array of shape `input_shape`
        """
        dy, indices = as_array(dy, "dy"), as_index_array(indices, "indices")
        attrs = _attributes(axes, kernel_size, stride, padding, dilation, ceil_mode)
        size = _input_size(dy, input_shape, axes)
        if dy.ndim == axes + 1:
            dy, indices = dy[None], indices[None]
            return apply(MAX_POOL_BACKWARD, dy, indices, size=size, **attrs)[0]
        return apply(MAX_POOL_BACKWARD, dy, indices, size=size, **attrs)

    return named(max_pool_backward, f"max_pool{axes}d_backward", axes)


def _make_avg_pool(axes: int):
    def avg_pool(
        x,
        kernel_size,
        stride=None,
        padding=0,
        ceil_mode=False,
        count_include_pad=True,
        divisor_override=None,
        *,
        out=None,
    ):
        """Mean of each window.

        Parameters
        ----------
        x : array (N, C, {space}) or (C, {space})
            float32 or float64; any strides. Channels-last memory gives a
            channels-last result.
        kernel_size : int or one per axis
        stride : int or one per axis, optional
            `kernel_size` when not given.
        padding : int, one int or (before, after) pair per axis, "same" or "valid"
            Zeros around the input, at most half of the window.
        ceil_mode : bool
            Let a last window reach beyond the padded input, if it begins
            inside the input or the padding before it.
        count_include_pad : bool
            Whether the padding counts as elements.
        divisor_override : int, optional
            Divide by this instead of the number of elements.
        out : array, optional
            Where the result is written.

        Returns
        -------
        array (N, C, {out}) or (C, {out})

        Raises
        ------
        ValueError
            For sizes that do not fit together.
        """
        x = as_array(x, "x")
        attrs = _attributes(axes, kernel_size, stride, padding, 1, ceil_mode)
        attrs["count_include_pad"] = bool(count_include_pad)
        attrs["divisor"] = _divisor(divisor_override)
        x, one = add_batch(x, axes)
        if one:
            y = call(AVG_POOL, (x,), attrs)[0]
            return y if out is None else fill(out, y)
        return call(AVG_POOL, (x,), attrs, out)

    return named(avg_pool, f"avg_pool{axes}d", axes)


def _make_avg_pool_backward(axes: int):
    def avg_pool_backward(
        dy,
        input_shape,
        kernel_size,
        stride=None,
        padding=0,
        ceil_mode=False,
        count_include_pad=True,
        divisor_override=None,
    ):
        """Gradient of average pooling.

        Parameters
        ----------
        dy : array (N, C, {out}) or (C, {out})
            Gradient of the result.
        input_shape : tuple
            Shape of x.
        kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
            As in the forward call.

        Returns
        -------
        array of shape `input_shape`
        """
        dy = as_array(dy, "dy")
        attrs = _attributes(axes, kernel_size, stride, padding, 1, ceil_mode)
        attrs["count_include_pad"] = bool(count_include_pad)
        attrs["divisor"] = _divisor(divisor_override)
        size = _input_size(dy, input_shape, axes)
        if dy.ndim == axes + 1:
            return apply(AVG_POOL_BACKWARD, dy[None], size=size, **attrs)[0]
        return apply(AVG_POOL_BACKWARD, dy, size=size, **attrs)

    return named(avg_pool_backward, f"avg_pool{axes}d_backward", axes)


max_pool1d, max_pool2d, max_pool3d = map(_make_max_pool, (1, 2, 3))
max_pool1d_backward, max_pool2d_backward, max_pool3d_backward = map(
    _make_max_pool_backward, (1, 2, 3)
)
avg_pool1d, avg_pool2d, avg_pool3d = map(_make_avg_pool, (1, 2, 3))
avg_pool1d_backward, avg_pool2d_backward, avg_pool3d_backward = map(
    _make_avg_pool_backward, (1, 2, 3)
)


# --------------------------------------------------------- arguments and checks


def _attributes(axes, kernel_size, stride, padding, dilation, ceil_mode) -> dict:
    kernel = per_axis(kernel_size, axes, "kernel_size", 1)
    given = stride is not None and stride != ()
    attrs = window_attributes(kernel, stride if given else kernel, padding, dilation)
    for k, d, pair in zip(kernel, attrs["dilation"], attrs["padding"], strict=True):
        if max(pair) > (d * (k - 1) + 1) // 2:
            raise ValueError(
                f"padding {attrs['padding']} is more than half of kernel_size {kernel} "
                f"with dilation {attrs['dilation']}"
            )
    return {"kernel": kernel, **attrs, "ceil_mode": bool(ceil_mode)}


def _index_dtype(x, kernel, return_indices):
    if return_indices:
        return "int64"
    # The gradient of a traced network reads the indices; a plan keeps them
    # only where it has one.
    if isinstance(x, Traced):
        return "uint8" if prod(kernel) <= 256 else "int64"
    return None


def _divisor(divisor_override) -> int:
    """Give the divisor; 0 stands for the number of elements."""
    if divisor_override is None:
        return 0
    divisor = integer(divisor_override, "divisor_override", -LARGEST)
    if divisor == 0:
        raise ValueError("divisor_override must not be 0")
    return divisor


def _input_size(dy, input_shape, axes):
    """Space of the input, whose N and C must be those of dy."""
    shape = sizes(input_shape, "input_shape")
    if dy.ndim not in (axes + 1, axes + 2):
        _check_rank("dy", dy, axes)
    if len(shape) != dy.ndim or shape[:-axes] != dy.shape[:-axes]:
        raise ValueError(f"input_shape {shape} does not fit dy of shape {dy.shape}")
    return shape[-axes:]


def _check_rank(name, x, axes):
    if x.ndim != axes + 2:
        raise ValueError(
            f"{name} must have {axes + 2} dimensions (N, C, space) or {axes + 1} "
            f"(C, space), not shape {x.shape}"
        )


def _output_shape(x, *, kernel, **window):
    n, c, *size = x
    if c == 0:
        raise ValueError(f"x of shape {x} may be empty in N only")
    shape = (n, c, *output_size(size, kernel, **window))
    check_elements(shape, "the result")
    return shape


def _check_windows(size, out, *, kernel, stride, padding, dilation, ceil_mode):
    """Raise when a window has no element: dilated taps may all be in the padding."""
    for n, o, k, s, (before, _), d in zip(
        size, out, kernel, stride, padding, dilation, strict=True
    ):
        # Taps cannot step over an input that is as long as their distance.
        if d > n and any(
            all(not 0 <= start + t * d < n for t in range(k))
            for start in range(-before, o * s - before, s)
        ):
            raise ValueError(
                f"a window of kernel_size {kernel} with dilation {dilation} lies "
                f"in the padding {padding} alone, x has size {tuple(size)}"
            )


def _check_indices(indices, size):
    """Raise when a position is outside of the plane."""
    outside = (indices < 0) | (indices >= prod(size))
    if indices.dtype == np.int64 and outside.any():
        raise ValueError(
            f"indices holds {indices[outside][0]}, expected 0 to {prod(size) - 1} for "
            f"a plane of size {size}"
        )


def _descriptor(
    kind,
    x,
    dtype,
    *,
    last,
    precision,
    kernel,
    stride,
    padding,
    dilation,
    ceil_mode,
    index_dtype=None,
    count_include_pad=True,
    divisor=0,
):
    n, c, *size = x
    out = output_size(size, kernel, stride, padding, dilation, ceil_mode=ceil_mode)
    return _core.Pool(
        dtype.name,
        "last" if last else "first",
        kind,
        n,
        c,
        three_axes(size, 1),
        three_axes(out, 1),
        three_axes(kernel, 1),
        three_axes(stride, 1),
        three_axes((before for before, _ in padding), 0),
        three_axes((after for _, after in padding), 0),
        three_axes(dilation, 1),
        count_include_pad=count_include_pad,
        divisor=divisor,
        index_dtype=index_dtype or "int64",
    )


# ------------------------------------------------------------------- definitions


def _positions(tap_number, size, kernel, stride, padding, dilation):
    """Flat positions in the plane of the taps of each output."""
    position = np.zeros(tap_number.shape, np.int64)
    outputs = np.indices(tap_number.shape[2:], sparse=True)
    steps = np.unravel_index(tap_number, kernel)
    for o, t, n, s, (before, _), d in zip(
        outputs, steps, size, stride, padding, dilation, strict=True
    ):
        position = position * n + o * s - before + t * d
    return position


def _counts(size, out, kernel, count_include_pad, divisor, window):
    """What the sum of each window is divided by."""
    if divisor:
        return np.full(out, divisor)
    if count_include_pad:
        padding = window["padding"]
        size = [n + sum(pair) for n, pair in zip(size, padding, strict=True)]
        window = {**window, "padding": ((0, 0),) * len(size)}
    counts = np.zeros(out, np.int64)
    for _, _, place in taps(kernel, size, out, **window):
        counts[place] += 1
    return counts
