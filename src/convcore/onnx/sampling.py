"""Sampling of images between their pixels, and of regions of them."""

from itertools import product
from math import ceil

import numpy as np

from ..ops.window import output_size, taps
from .registry import folded_operator, numpy_operator
from .values import ints
from .window import Window, pairs


def _reflected(places, low, high):
    """Mirrored at the borders as often as it takes to be between them."""
    span = high - low
    if span == 0:
        return np.full_like(places, low)
    turned = np.mod(places - low, 2 * span)
    return low + np.minimum(turned, 2 * span - turned)


def _contained(places, n, padding_mode, borders):
    if padding_mode == "border":
        return np.clip(places, 0, n - 1)
    if padding_mode == "reflection":
        return np.clip(_reflected(places, *borders), 0, n - 1)
    return places


def _along_axis(places, n, mode, padding_mode, borders):
    """The elements that count at places along an axis: list of (index, weight)."""
    if mode != "cubic":
        places = _contained(places, n, padding_mode, borders)
    if mode == "nearest":
        found = [(np.rint(places), np.ones_like(places))]
    else:
        first = np.floor(places)
        t = places - first
        if mode == "linear":
            found = [(first, 1 - t), (first + 1, t)]
        else:
            found = [(first + i, _cubic(t - i)) for i in (-1, 0, 1, 2)]
    if mode == "cubic":
        found = [(_contained(i, n, padding_mode, borders), w) for i, w in found]
    return [
        (np.clip(i, 0, n - 1).astype(np.int64), np.where((i < 0) | (i > n - 1), 0, w))
        for i, w in found
    ]


def _cubic(d, a=-0.75):
    """Keys' cubic convolution (1981) of the distance to an element."""
    d = np.abs(d)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


def _sampled(image, axes):
    """image[c][space] at places, given for each axis as `_along_axis` does."""
    return sum(
        image[(slice(None), *(i for i, _ in chosen))]
        * np.prod([w for _, w in chosen], axis=0)
        for chosen in product(*axes)
    )


@numpy_operator("GridSample")
def grid_sample(x, grid, *, align_corners=0, mode="linear", padding_mode="zeros"):
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    results = []
    for image, field in zip(x, grid.astype(np.float64), strict=True):
        axes = []
        for axis, n in enumerate(image.shape[1:]):
            at = field[..., -1 - axis]
            if align_corners:
                places, borders = (at + 1) / 2 * (n - 1), (0, n - 1)
            else:
                places, borders = ((at + 1) * n - 1) / 2, (-0.5, n - 0.5)
            axes.append(_along_axis(places, n, mode, padding_mode, borders))
        results.append(_sampled(image, axes))
    return np.stack(results).astype(x.dtype)


@numpy_operator("RoiAlign")
def roi_align(
    x,
    rois,
    batch_indices,
    *,
    coordinate_transformation_mode="half_pixel",
    mode="avg",
    output_height=1,
    output_width=1,
    sampling_ratio=0,
    spatial_scale=1.0,
    opset=16,
):
    half = opset >= 16 and coordinate_transformation_mode == "half_pixel"
    offset, out = 0.5 if half else 0.0, (output_height, output_width)
    y = np.zeros((len(rois), x.shape[1], *out), x.dtype)
    for region, number, result in zip(rois, batch_indices, y, strict=True):
        corners = region.astype(np.float64) * spatial_scale - offset
        axes = []
        for i, n in enumerate(x.shape[2:]):
            start, length = corners[1 - i], corners[3 - i] - corners[1 - i]
            length = length if half else max(length, 1.0)
            count = sampling_ratio or ceil(length / out[i])
            steps = np.arange(out[i])[:, None] + (np.arange(count) + 0.5) / count
            axes.append(_inside(start + steps * length / out[i], n))
        # x[c][oh][sample][ow][sample], for each of four neighbours
        parts = [
            x[number][:, i[:, :, None, None], j] * (v[:, :, None, None] * w)
            for (i, v), (j, w) in product(*axes)
        ]
        if mode == "max":
            result[...] = np.max(parts, axis=0).max((2, 4))
        else:
            result[...] = sum(parts).mean((2, 4))
    return y


def _inside(places, n):
    """Neighbours of places and their weights; 0 more than an element outside."""
    outside = (places < -1) | (places > n)
    places = np.clip(places, 0, n - 1)
    low = np.floor(places).astype(np.int64)
    t = np.where(outside, 0, places - low)
    return [(low, np.where(outside, 0, 1 - t)), (np.minimum(low + 1, n - 1), t)]


@numpy_operator("DeformConv")
def deform_conv(
    x,
    w,
    offset,
    b=None,
    mask=None,
    *,
    dilations=None,
    group=1,
    kernel_shape=None,
    offset_group=1,
    pads=None,
    strides=None,
):
    size, kernel = x.shape[2:], w.shape[2:]
    window = Window(size, kernel, "NOTSET", pads, strides, dilations)
    out = output_size(size, kernel, window.stride, window.padding, window.dilation)
    n, c = x.shape[:2]
    # [n][group of offsets][tap][axis][out]
    offset = offset.reshape(n, offset_group, -1, len(size), *out)
    mask = np.ones(1) if mask is None else mask.reshape(n, offset_group, -1, *out)
    columns = np.zeros((n, c, offset.shape[2], *out))
    each = c // offset_group
    for i, g, (t, tap) in product(
        range(n), range(offset_group), enumerate(np.ndindex(*kernel))
    ):
        axes = []
        for axis, at in enumerate(np.indices(out)):
            start = tap[axis] * window.dilation[axis] - window.padding[axis][0]
            places = at * window.stride[axis] + start + offset[i, g, t, axis]
            axes.append(_along_axis(places, size[axis], "linear", "zeros", None))
        channels = slice(g * each, (g + 1) * each)
        columns[i, channels, t] = _sampled(x[i, channels], axes)
        if mask.ndim > 1:
            columns[i, channels, t] *= mask[i, g, t]
    filters = w.reshape(group, w.shape[0] // group, -1)
    columns = columns.reshape(n, group, filters.shape[2], -1)
    y = (filters @ columns).reshape(n, w.shape[0], *out)
    y = y if b is None else y + b.reshape(-1, *(1,) * len(out))
    return y.astype(x.dtype)


@numpy_operator("Col2Im")
def col2im(x, image_shape, block_shape, *, dilations=None, pads=None, strides=None):
    size, kernel = ints(image_shape), ints(block_shape)
    axes = len(size)
    window = {
        "stride": strides or (1,) * axes,
        "padding": pairs(pads, axes),
        "dilation": dilations or (1,) * axes,
    }
    out = output_size(size, kernel, **window)
    blocks = x.reshape(len(x), -1, *kernel, *out)
    y = np.zeros((*blocks.shape[:2], *size), x.dtype)
    for tap, source, place in taps(kernel, size, out, **window):
        y[source] += blocks[(slice(None), slice(None), *tap)][place]
    return y


@folded_operator("NonMaxSuppression")
def non_max_suppression(
    boxes,
    scores,
    max_output_boxes_per_class=0,
    iou_threshold=0.0,
    score_threshold=-np.inf,
    *,
    center_point_box=0,
):
    limit = int(np.reshape(max_output_boxes_per_class, -1)[0])
    least = np.reshape(score_threshold, -1)[0]
    found = []
    for image, of_class in np.ndindex(*scores.shape[:2]):
        corners = _corners(boxes[image], center_point_box)
        values, kept = scores[image, of_class], []
        for i in np.argsort(-values, kind="stable"):
            if len(kept) >= limit or values[i] <= least:
                break
            if all(_overlap(corners[i], corners[k]) <= iou_threshold for k in kept):
                kept.append(i)
        found += [(image, of_class, i) for i in kept]
    return np.array(found, np.int64).reshape(-1, 3)


def _corners(boxes, center_point_box):
    """Lower and upper corners of boxes."""
    if center_point_box:
        half = boxes[:, 2:] / 2
        return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], 1)
    a, b = boxes[:, :2], boxes[:, 2:]
    return np.concatenate([np.minimum(a, b), np.maximum(a, b)], 1)


def _overlap(a, b):
    """Common area, as a share of that of both together."""
    sides = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
    common = np.prod(sides)
    both = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - common
    return common / both if both else 0.0
