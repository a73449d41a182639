"""Convolution in one, two and three dimensions, and its gradients."""

from __future__ import annotations

from math import prod

import numpy as np

from .. import _core
from .._config import call_threads, threads_here
from .base import (
    Operator,
    Spec,
    add_batch,
    apply,
    as_array,
    as_optional,
    call,
    check_choice,
    check_gradient,
    check_mask,
    check_same_dtype,
    fill,
    named,
    prepared,
    register,
    spec_of,
    use_reference,
)
from .memory import dense, finish, is_channels_last, optional_dense, target
from .relu import ACTIVATIONS, activated, undo_activation
from .window import (
    check_elements,
    integer,
    output_size,
    taps,
    three_axes,
    window_attributes,
)

__all__ = [
    "conv1d",
    "conv1d_backward",
    "conv2d",
    "conv2d_backward",
    "conv3d",
    "conv3d_backward",
]

ALGORITHMS = ("auto", "direct", "im2col", "winograd")


class Conv(Operator):
    """``y = activation(conv(x, weight) + bias + residual)``.

    The residual is an input of nodes that `passes.fuse_add` has changed.
    """

    name = "conv"
    takes_residual = 3
    row_inputs = (1,)

    def infer(
        self,
        x,
        weight,
        bias=None,
        residual=None,
        *,
        groups,
        algorithm,
        activation,
        **window,
    ):
        check_same_dtype(x=x, weight=weight, bias=bias, residual=residual)
        check_choice(algorithm, "algorithm", ALGORITHMS)
        check_choice(activation, "activation", ACTIVATIONS)
        shape = _output_shape(x.shape, weight.shape, groups, window)
        if bias is not None and bias.shape != (weight.shape[0],):
            raise ValueError(
                f"bias must have shape ({weight.shape[0]},) for weight of shape "
                f"{weight.shape}, not {bias.shape}"
            )
        if residual is not None and residual.shape != shape:
            raise ValueError(f"residual must have shape {shape}, not {residual.shape}")
        return Spec(shape, x.dtype)

    def describe(self, x, weight, bias=None, residual=None, **attrs):
        return _descriptor("forward", x.dtype, x.shape, weight.shape, **attrs)

    def compute(self, inputs, attrs, out=None):
        x, weight, bias, *residual = inputs
        last = is_channels_last(x)
        conv, spec = prepared(self, last, inputs, attrs)
        y = target(out, spec, last, inputs)
        conv.forward(
            dense(x, last),
            dense(weight),
            optional_dense(bias),
            dense(residual[0], last) if residual else None,
            dense(y, last),
            call_threads(),
        )
        return finish(out, y)

    def reference(
        self,
        x,
        weight,
        bias=None,
        residual=None,
        *,
        groups,
        algorithm,
        activation,
        **window,
    ):
        y = np.zeros(_output_shape(x.shape, weight.shape, groups, window), x.dtype)
        for tap, source, place in taps(
            weight.shape[2:], x.shape[2:], y.shape[2:], **window
        ):
            # [n][group][k][pixel] += [group][k][c] @ [n][group][c][pixel]
            product = _tap(weight, tap, groups) @ _pixels(x[source], groups)
            y[place] += product.reshape(y[place].shape)
        if bias is not None:
            y += bias.reshape(-1, *(1,) * (y.ndim - 2))
        if residual is not None:
            y += residual
        return activated(y, activation)

    def backward(self, node, dy):
        x, weight, bias, *residual = node.inputs
        dy = undo_activation(node, dy)
        attrs = {**node.attrs, "algorithm": "auto"}
        del attrs["activation"]
        mask = (True, bias is not None)
        return (
            apply(CONV_BACKWARD_DATA, dy, weight, size=x.shape[2:], **attrs),
            *apply(
                CONV_BACKWARD_WEIGHT, dy, x, kernel=weight.shape[2:], mask=mask, **attrs
            ),
            *(dy for _ in residual),
        )

    def writes_channels(self, node):
        groups, channels = node.attrs["groups"], node.outputs[0].shape[1]
        depthwise = groups > 1 and groups == channels == node.inputs[0].shape[1]
        return len(node.inputs) == 3 and not depthwise

    def lower(self, lowering, node):
        lowering.conv_forward(node)


class ConvBackwardData(Operator):
    """``dx`` from ``dy`` and ``weight``; attribute `size` is that of x's space."""

    name = "conv_backward_data"
    row_inputs = (1,)

    def infer(self, dy, weight, *, size, groups, algorithm, **window):
        check_same_dtype(dy=dy, weight=weight)
        check_choice(algorithm, "algorithm", ALGORITHMS)
        _check_rank("dy", dy.shape, weight.shape)
        shape = (dy.shape[0], weight.shape[1] * groups, *size)
        check_gradient(dy, _output_shape(shape, weight.shape, groups, window))
        return Spec(shape, dy.dtype)

    def describe(self, dy, weight, *, size, groups, **attrs):
        shape = (dy.shape[0], weight.shape[1] * groups, *size)
        return _descriptor(
            "backward_data", dy.dtype, shape, weight.shape, groups=groups, **attrs
        )

    def compute(self, inputs, attrs, out=None):
        dy, weight = inputs
        last = is_channels_last(dy)
        conv, spec = prepared(self, last, inputs, attrs)
        dx = target(out, spec, last, inputs)
        conv.backward_data(
            dense(dy, last), dense(weight), dense(dx, last), call_threads()
        )
        return finish(out, dx)

    def reference(self, dy, weight, *, size, groups, algorithm, **window):
        dx = np.zeros((dy.shape[0], weight.shape[1] * groups, *size), dy.dtype)
        for tap, source, place in taps(weight.shape[2:], size, dy.shape[2:], **window):
            # [n][group][c][pixel] += [group][c][k] @ [n][group][k][pixel]
            turned = _tap(weight, tap, groups).swapaxes(1, 2)
            product = turned @ _pixels(dy[place], groups)
            dx[source] += product.reshape(dx[source].shape)
        return dx

    def backward(self, node, g):
        dy, weight = node.inputs
        attrs = {k: value for k, value in node.attrs.items() if k != "size"}
        kernel, mask = weight.shape[2:], (True, False)
        return (
            apply(CONV, g, weight, None, activation=None, **attrs),
            apply(CONV_BACKWARD_WEIGHT, dy, g, kernel=kernel, mask=mask, **attrs)[0],
        )

    def lower(self, lowering, node):
        lowering.node(node, "conv_backward_data", lowering.describe(node))


class ConvBackwardWeight(Operator):
    """``(dw, db)`` from ``dy`` and ``x``; attribute `mask` says which are wanted."""

    name = "conv_backward_weight"
    row_outputs = (0,)

    def infer(self, dy, x, *, kernel, mask, groups, algorithm, **window):
        check_same_dtype(dy=dy, x=x)
        check_choice(algorithm, "algorithm", ALGORITHMS)
        _check_rank("dy", dy.shape, x.shape)
        shape = (dy.shape[1], x.shape[1] // groups, *kernel)
        check_gradient(dy, _output_shape(x.shape, shape, groups, window))
        return (
            Spec(shape, dy.dtype) if mask[0] else None,
            Spec(shape[:1], dy.dtype) if mask[1] else None,
        )

    def describe(self, dy, x, *, kernel, mask, groups, **attrs):
        weight = (dy.shape[1], x.shape[1] // groups, *kernel)
        return _descriptor(
            "backward_weight", dy.dtype, x.shape, weight, groups=groups, **attrs
        )

    def compute(self, inputs, attrs, out=None):
        dy, x = inputs
        last = is_channels_last(x)
        conv, specs = prepared(self, last, inputs, attrs)
        dw, db = (spec and np.empty(*spec) for spec in specs)
        conv.backward_weight(dense(dy, last), dense(x, last), dw, db, call_threads())
        return dw, db

    def reference(self, dy, x, *, kernel, mask, groups, algorithm, **window):
        k, c = dy.shape[1], x.shape[1]
        dw = np.zeros((groups, k // groups, c // groups, *kernel), dy.dtype)
        for tap, source, place in taps(kernel, x.shape[2:], dy.shape[2:], **window):
            # [n][group][k][c] = [n][group][k][pixel] @ [n][group][pixel][c]
            pixels = _pixels(x[source], groups).swapaxes(2, 3)
            dw[(..., *tap)] = (_pixels(dy[place], groups) @ pixels).sum(0)
        return (
            dw.reshape(k, c // groups, *kernel) if mask[0] else None,
            dy.sum((0, *range(2, dy.ndim))) if mask[1] else None,
        )

    def lower(self, lowering, node):
        lowering.node(node, "conv_backward_weight", lowering.describe(node))


CONV = register(Conv())
CONV_BACKWARD_DATA = register(ConvBackwardData())
CONV_BACKWARD_WEIGHT = register(ConvBackwardWeight())


def _make_conv(axes: int):
    def describe(x, weight, bias, options):
        attrs = forward_attributes(axes, weight, *options)
        return prepared(CONV, is_channels_last(x), (x, weight, bias), attrs)[0]

    calls = _core.Calls(axes, describe, threads_here, use_reference)

    def conv(
        x,
        weight,
        bias=None,
        stride=1,
        padding=0,
        dilation=1,
        groups=1,
        *,
        algorithm="auto",
        activation=None,
        out=None,
    ):
        """Convolve a batch with a filter bank (cross-correlation, zero padding).

        Parameters
        ----------
        x : array (N, C, {space}) or (C, {space})
            float32 or float64; any strides. Channels-last memory gives a
            channels-last result.
        weight : array (K, C // groups, {kernel})
        bias : array (K,), optional
        stride, dilation : int or one per axis
        padding : int, one int or (before, after) pair per axis, "same" or "valid"
            Zeros around the input. "same" needs stride 1.
        groups : int
            Filters of group g see the g-th part of the channels only.
        algorithm : {{"auto", "direct", "im2col", "winograd"}}
        activation : {{None, "relu"}}
            Applied to the result.
        out : array, optional
            Where the result is written.

        Returns
        -------
        array (N, K, {out}) or (K, {out})

        Raises
        ------
        ValueError
            For sizes that do not fit together, or an algorithm that cannot do
            this shape.
        TypeError
            For a dtype other than float32 and float64, or a mixture.
        """
        options = stride, padding, dilation, groups, algorithm, activation
        y = calls.run(x, weight, bias, options, out)
        if y is not None:
            return y
        x, weight = as_array(x, "x"), as_array(weight, "weight")
        bias = as_optional(bias, "bias")
        attrs = forward_attributes(axes, weight, *options)
        if x.ndim == axes + 1:
            x, _ = add_batch(x, axes)
            y = call(CONV, (x, weight, bias), attrs)[0]
            return y if out is None else fill(out, y)
        return call(CONV, (x, weight, bias), attrs, out)

    return named(conv, f"conv{axes}d", axes)


def _make_conv_backward(axes: int):
    def conv_backward(
        dy,
        x,
        weight,
        stride=1,
        padding=0,
        dilation=1,
        groups=1,
        *,
        algorithm="auto",
        output_mask=(True, True, True),
    ):
        """Gradients of a convolution.

        Parameters
        ----------
        dy : array (N, K, {out}) or (K, {out})
            Gradient of the result.
        x, weight, stride, padding, dilation, groups, algorithm
            As in the forward call.
        output_mask : three bools
            Which of the gradients to compute.

        Returns
        -------
        dx, dw, db : arrays like x, weight and bias, or None where not wanted
        """
        dy, x, weight = as_array(dy, "dy"), as_array(x, "x"), as_array(weight, "weight")
        attrs = attributes(axes, weight, stride, padding, dilation, groups, algorithm)
        one = x.ndim == axes + 1 and isinstance(x, np.ndarray)
        if one:
            dy, x = dy[None], x[None]
        CONV.infer(*map(spec_of, (x, weight)), activation=None, **attrs)
        want_dx, *mask = check_mask(output_mask)
        dx = dw = db = None
        if want_dx:
            dx = apply(CONV_BACKWARD_DATA, dy, weight, size=x.shape[2:], **attrs)
        if any(mask):
            dw, db = apply(
                CONV_BACKWARD_WEIGHT,
                dy,
                x,
                kernel=weight.shape[2:],
                mask=tuple(mask),
                **attrs,
            )
        return dx[0] if one and want_dx else dx, dw, db

    return named(conv_backward, f"conv{axes}d_backward", axes)


conv1d, conv2d, conv3d = map(_make_conv, (1, 2, 3))
conv1d_backward, conv2d_backward, conv3d_backward = map(_make_conv_backward, (1, 2, 3))


# --------------------------------------------------------- arguments and checks


def attributes(axes, weight, stride, padding, dilation, groups, algorithm) -> dict:
    """The operator's attributes from the arguments of a public function."""
    if weight.ndim != axes + 2:
        raise ValueError(
            f"weight must have {axes + 2} dimensions (K, C // groups, kernel), "
            f"not shape {weight.shape}"
        )
    return {
        **window_attributes(weight.shape[2:], stride, padding, dilation),
        "groups": integer(groups, "groups", 1),
        "algorithm": algorithm,
    }


def forward_attributes(axes, weight, *options) -> dict:
    """Those of the forward pass, whose last option is the activation."""
    *window, activation = options
    return attributes(axes, weight, *window) | {"activation": activation}


def _output_shape(x, weight, groups, window):
    """Shape of y[n][k][space], with all checks that shapes permit."""
    _check_rank("x", x, weight)
    n, c, *size = x
    k, c_group, *kernel = weight
    if k % groups:
        raise ValueError(f"groups={groups} does not divide the {k} filters of weight")
    if c != c_group * groups:
        raise ValueError(
            f"x of shape {x} has {c} channels, weight of shape {weight} with "
            f"groups={groups} needs {c_group * groups}"
        )
    if 0 in x[1:] or 0 in weight:
        raise ValueError(f"x {x} and weight {weight} may be empty in N only")
    shape = (n, k, *output_size(size, kernel, **window))
    check_elements(shape, "the result")
    return shape


def _check_rank(name, shape, other):
    if len(shape) != len(other):
        raise ValueError(
            f"{name} must have {len(other)} dimensions (N, C, space), not shape {shape}"
        )


def _descriptor(
    pass_,
    dtype,
    x,
    weight,
    *,
    last,
    precision,
    stride,
    padding,
    dilation,
    groups,
    algorithm,
    activation=None,
    packed=False,
    y_stride=0,
):
    n, c, *size = x
    k, _, *kernel = weight
    conv = _core.Conv(
        dtype.name,
        "last" if last else "first",
        n,
        c,
        k,
        groups,
        three_axes(size, 1),
        three_axes(kernel, 1),
        three_axes(stride, 1),
        three_axes((before for before, _ in padding), 0),
        three_axes((after for _, after in padding), 0),
        three_axes(dilation, 1),
        algorithm=algorithm,
        precision=precision,
        activation=activation,
        packed=packed,
        y_stride=y_stride,
    )
    try:
        conv.choose(pass_)
    except ValueError as error:
        raise ValueError(
            f"algorithm={algorithm!r} cannot do kernel {tuple(kernel)}, "
            f"stride {stride}, dilation {dilation}, groups {groups} in {dtype} "
            f"with precision {precision!r}: {error}"
        ) from None
    return conv


# ------------------------------------------------------------------- definitions


def _tap(weight, tap, groups):
    """One tap of weight[k][c/groups][kernel] as [group][k/groups][c/groups]."""
    return weight[(..., *tap)].reshape(groups, -1, weight.shape[1])


def _pixels(x, groups):
    """x[n][c][space] as [n][group][c/groups][pixel]."""
    n, c, *space = x.shape
    return x.reshape(n, groups, c // groups, prod(space))
