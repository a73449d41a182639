"""Transposed convolution in one, two and three dimensions, and its gradients.

It is the gradient of a convolution with respect to its input, so its own
gradients are that convolution, and its gradient with respect to the weight.
"""

from __future__ import annotations

from .arithmetic import add
from .base import (
    add_batch,
    apply,
    as_array,
    as_optional,
    check_gradient,
    check_mask,
    fill,
    named,
)
from .conv import CONV, CONV_BACKWARD_DATA, CONV_BACKWARD_WEIGHT, attributes
from .flatten import regroup
from .padding import pad
from .reduce import sum as sum_over
from .window import per_axis

__all__ = [
    "conv_transpose1d",
    "conv_transpose1d_backward",
    "conv_transpose2d",
    "conv_transpose2d_backward",
    "conv_transpose3d",
    "conv_transpose3d_backward",
]


def _make_conv_transpose(axes: int):
    def conv_transpose(
        x,
        weight,
        bias=None,
        stride=1,
        padding=0,
        output_padding=0,
        groups=1,
        dilation=1,
        *,
        out=None,
    ):
        """Transposed convolution: the gradient of a convolution, as a layer.

        Parameters
        ----------
        x : array (N, C, {space}) or (C, {space})
            float32 or float64; any strides. Channels-last memory gives a
            channels-last result.
        weight : array (C, K // groups, {kernel})
        bias : array (K,), optional
        stride, dilation : int or one per axis
            Those of the convolution.
        padding : int, one int or (before, after) pair per axis
            That of the convolution: so much is left out of the result.
        output_padding : int or one per axis
            How much longer the result is on one side, of the sizes that the
            convolution would map to that of x; less than stride or dilation.
        groups : int
        out : array, optional
            Where the result is written.

        Returns
        -------
        array (N, K, {out}) or (K, {out})
            ``(size - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1
            + output_padding`` along an axis.

        Raises
        ------
        ValueError
            For sizes that do not fit together.
        """
        x, weight = as_array(x, "x"), as_array(weight, "weight")
        bias = as_optional(bias, "bias")
        x, one = add_batch(x, axes)
        attrs, extra = _attributes(
            x, weight, stride, padding, output_padding, groups, dilation
        )
        filters = weight.shape[1] * attrs["groups"]
        if bias is not None and bias.shape != (filters,):
            raise ValueError(
                f"bias must have shape ({filters},) for weight of shape "
                f"{weight.shape} and groups={groups}, not {bias.shape}"
            )
        y = apply(CONV_BACKWARD_DATA, x, weight, **attrs)
        if any(extra):
            y = pad(y, [n for e in extra[::-1] for n in (0, e)])
        if bias is not None:
            y = add(y, regroup(bias, (1, filters, *(1,) * axes)))
        y = y[0] if one else y
        return y if out is None else fill(out, y)

    return named(conv_transpose, f"conv_transpose{axes}d", axes)


def _make_conv_transpose_backward(axes: int):
    def conv_transpose_backward(
        dy,
        x,
        weight,
        stride=1,
        padding=0,
        output_padding=0,
        groups=1,
        dilation=1,
        *,
        output_mask=(True, True, True),
    ):
        """Gradients of a transposed convolution.

        Parameters
        ----------
        dy : array (N, K, {out}) or (K, {out})
            Gradient of the result.
        x, weight, stride, padding, output_padding, groups, dilation
            As in the forward call.
        output_mask : three bools
            Which of the gradients to compute.

        Returns
        -------
        dx, dw, db : arrays like x, weight and bias, or None where not wanted
        """
        dy, x, weight = as_array(dy, "dy"), as_array(x, "x"), as_array(weight, "weight")
        dy, _ = add_batch(dy, axes, "dy")
        x, one = add_batch(x, axes)
        attrs, extra = _attributes(
            x, weight, stride, padding, output_padding, groups, dilation
        )
        size = attrs.pop("size")
        whole = (n + e for n, e in zip(size, extra, strict=True))
        check_gradient(dy, (x.shape[0], weight.shape[1] * attrs["groups"], *whole))
        want_dx, want_dw, want_db = check_mask(output_mask)
        dx = dw = db = None
        if want_db:
            db = sum_over(dy, (0, *range(2, dy.ndim)))
        if any(extra):
            dy = pad(dy, [n for e in extra[::-1] for n in (0, -e)])
        if want_dx:
            dx = apply(CONV, dy, weight, None, activation=None, **attrs)
            dx = dx[0] if one else dx
        if want_dw:
            mask, kernel = (True, False), weight.shape[2:]
            dw, _ = apply(
                CONV_BACKWARD_WEIGHT, x, dy, kernel=kernel, mask=mask, **attrs
            )
        return dx, dw, db

    return named(conv_transpose_backward, f"conv_transpose{axes}d_backward", axes)


conv_transpose1d, conv_transpose2d, conv_transpose3d = map(
    _make_conv_transpose, (1, 2, 3)
)
(
    conv_transpose1d_backward,
    conv_transpose2d_backward,
    conv_transpose3d_backward,
) = map(_make_conv_transpose_backward, (1, 2, 3))


def _attributes(x, weight, stride, padding, output_padding, groups, dilation):
    """Attributes of the convolution's gradient, and what is to be added to it.

    `size` is that of the result, as far as the convolution reaches it; the rest,
    along each axis, is 0: `output_padding` beyond a stride.
    """
    axes = x.ndim - 2
    attrs = attributes(axes, weight, stride, padding, dilation, groups, "auto")
    if isinstance(padding, str):
        raise ValueError(f"padding must be in numbers, not {padding!r}")
    extra = per_axis(output_padding, axes, "output_padding", 0)
    if x.shape[1] != weight.shape[0]:
        raise ValueError(
            f"x of shape {x.shape} has {x.shape[1]} channels, weight of shape "
            f"{weight.shape} needs {weight.shape[0]}"
        )
    if (
        max(
            e - max(s, d)
            for e, s, d in zip(extra, attrs["stride"], attrs["dilation"], strict=True)
        )
        >= 0
    ):
        raise ValueError(
            f"output_padding {extra} must be less than stride {attrs['stride']} or "
            f"dilation {attrs['dilation']}"
        )
    axis = zip(
        x.shape[2:],
        weight.shape[2:],
        attrs["stride"],
        attrs["padding"],
        attrs["dilation"],
        extra,
        strict=True,
    )
    size, padding, beyond = zip(
        *(_along_axis(*of_axis) for of_axis in axis), strict=True
    )
    if min(size) < 1 or min(x.shape[2:]) < 1:
        raise ValueError(
            f"padding {attrs['padding']} leaves nothing of x of shape {x.shape}: "
            f"result of size {size}"
        )
    return {**attrs, "size": size, "padding": padding}, beyond


def _along_axis(n, kernel, stride, pair, dilation, extra):
    """Size of the result, padding of the convolution, and zeros after the result.

    The convolution must give n elements. Where `extra` is a stride or more it
    would give more: padding is taken away, then elements.
    """
    before, after = pair
    size = (n - 1) * stride - before - after + dilation * (kernel - 1) + 1 + extra
    surplus = max(0, extra - stride + 1)
    beyond = max(0, surplus - after)
    return size - beyond, (before, after - surplus + beyond), beyond
