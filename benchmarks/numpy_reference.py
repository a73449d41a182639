"""Convolution and pooling as one writes them for speed in plain NumPy.

Convolution is im2col: the windows are copied into a matrix, and BLAS does the
sums. The copy is done for as many images at once as keep it within about 1 MB,
so that BLAS reads it from the cache. Both memory layouts are offered, since
either wins on some shapes: `layout` "first" takes and gives arrays that are
C-contiguous as (N, C, H, W), "last" as (N, H, W, C), seen as (N, C, H, W).
Depthwise convolution and pooling are sums over the taps, which need no copy.
"""

from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

_COLUMNS = 2**18  # elements of the window matrix at a time

# Axes of windows (n, c, oh, ow, r, s) as they are copied.
_ORDER = {"first": (0, 1, 4, 5, 2, 3), "last": (0, 2, 3, 4, 5, 1)}


def _empty(shape, layout):
    """An array (N, C, H, W) in this layout."""
    n, c, h, w = shape
    if layout == "first":
        return np.empty(shape, np.float32)
    return np.empty((n, h, w, c), np.float32).transpose(0, 3, 1, 2)


def _zeros(shape, layout):
    array = _empty(shape, layout)
    array.fill(0)
    return array


def _padded(x, padding, layout, value=0.0):
    if not padding:
        return x
    n, c, h, w = x.shape
    result = _empty((n, c, h + 2 * padding, w + 2 * padding), layout)
    result.fill(value)
    result[:, :, padding:-padding, padding:-padding] = x
    return result


def _tap(array, layer, r, s):
    """The elements of a padded array under tap (r, s) of every window."""
    span = (layer.out - 1) * layer.stride + 1
    return array[:, :, r : r + span : layer.stride, s : s + span : layer.stride]


def _taps(layer):
    return [(r, s) for r in range(layer.r) for s in range(layer.r)]


def _chunks(layer):
    size = layer.out**2 * layer.c * layer.r**2
    step = max(1, _COLUMNS // size)
    return [slice(i, i + step) for i in range(0, layer.n, step)]


@lru_cache(maxsize=1)
def _workspace(shape):
    """Kept between calls: fresh pages can cost more than the copy into them."""
    return np.empty(shape, np.float32)


def _columns(x, layer, layout):
    """Chunks of images and their windows as matrices (n, oh ow, taps).

    The order of the taps is c r s or r s c. The matrices share one buffer.
    """
    padded = _padded(x, layer.padding, layout)
    windows = sliding_window_view(padded, (layer.r, layer.r), axis=(2, 3))
    windows = windows[:, :, :: layer.stride, :: layer.stride].transpose(_ORDER[layout])
    chunks = _chunks(layer)
    for chunk in chunks:
        part = windows[chunk]
        if not part.flags.c_contiguous:  # a 1x1 filter needs no copy
            buffer = _workspace(windows[chunks[0]].shape)[: len(part)]
            buffer[:] = part
            part = buffer
        if layout == "first":
            yield chunk, part.reshape(len(part), -1, layer.out**2).swapaxes(1, 2)
        else:
            yield chunk, part.reshape(len(part), layer.out**2, -1)


def _weight_matrix(w, layout):
    """Weights as a matrix (taps, k)."""
    w = w if layout == "first" else w.transpose(0, 2, 3, 1)
    return w.reshape(len(w), -1).T


def _rows(y, layout):
    """y (n, k, oh, ow) as matrices (n, oh ow, k); a view."""
    if layout == "first":
        return y.reshape(*y.shape[:2], -1).swapaxes(1, 2)
    return y.transpose(0, 2, 3, 1).reshape(len(y), -1, y.shape[1])


def conv_forward(layer, layout, x, w, b):
    y = _empty((layer.n, layer.k, layer.out, layer.out), layout)
    if layer.groups > 1:
        _check_depthwise(layer)
        padded = _padded(x, layer.padding, layout)
        y[:] = b[:, None, None]
        for r, s in _taps(layer):
            y += w[:, 0, r, s][:, None, None] * _tap(padded, layer, r, s)
        return y
    matrix, rows = _weight_matrix(w, layout), _rows(y, layout)
    for chunk, columns in _columns(x, layer, layout):
        np.matmul(columns, matrix, out=rows[chunk])
        y[chunk] += b[:, None, None]
    return y


def conv_backward_data(layer, layout, dy, w):
    size = layer.h + 2 * layer.padding
    padded = _zeros((layer.n, layer.c, size, size), layout)
    if layer.groups > 1:
        _check_depthwise(layer)
        for r, s in _taps(layer):
            _tap(padded, layer, r, s)[:] += w[:, 0, r, s][:, None, None] * dy
    else:
        matrix, rows = _weight_matrix(w, layout), _rows(dy, layout)
        for chunk in _chunks(layer):
            _add_columns(padded[chunk], rows[chunk], matrix, layer, layout)
    end = layer.padding + layer.h
    return padded[:, :, layer.padding : end, layer.padding : end]


def _add_columns(padded, rows, matrix, layer, layout):
    """col2im: add the gradient of the windows, rows @ matrix.T, tap by tap."""
    side = layer.out
    if layout == "first":
        columns = np.matmul(matrix, rows.swapaxes(1, 2))
        taps = columns.reshape(-1, layer.c, layer.r, layer.r, side, side)
    else:
        columns = np.matmul(rows, matrix.T)
        taps = columns.reshape(-1, side, side, layer.r, layer.r, layer.c)
        taps = taps.transpose(0, 5, 3, 4, 1, 2)
    for r, s in _taps(layer):
        _tap(padded, layer, r, s)[:] += taps[:, :, r, s]


def conv_backward_weight(layer, layout, dy, x):
    db = dy.sum((0, 2, 3))
    if layer.groups > 1:
        _check_depthwise(layer)
        padded = _padded(x, layer.padding, layout)
        dw = [
            np.einsum("nchw,nchw->c", dy, _tap(padded, layer, r, s))
            for r, s in _taps(layer)
        ]
        return np.stack(dw, 1).reshape(layer.k, 1, layer.r, layer.r), db
    rows, total = _rows(dy, layout), 0.0
    for chunk, columns in _columns(x, layer, layout):
        total = total + np.matmul(rows[chunk].swapaxes(1, 2), columns).sum(0)
    if layout == "first":
        return total.reshape(layer.k, layer.c, layer.r, layer.r), db
    return total.reshape(layer.k, layer.r, layer.r, layer.c).transpose(0, 3, 1, 2), db


def _check_depthwise(layer):
    if not layer.groups == layer.c == layer.k:
        raise ValueError(f"groups must be 1 or c = k, got {layer}")


def pool_forward(layer, layout, x):
    if layer.kind == "max":
        padded = _padded(x, layer.padding, layout, -np.inf)
        combine = np.maximum
    else:
        padded = _padded(x, layer.padding, layout)
        combine = np.add
    y = _tap(padded, layer, 0, 0).copy(order="K")
    for r, s in _taps(layer)[1:]:
        combine(y, _tap(padded, layer, r, s), out=y)
    if layer.kind == "average":
        y *= 1 / layer.r**2
    return y


def pool_backward(layer, layout, dy, x, y):
    size = layer.h + 2 * layer.padding
    dx = _zeros((layer.n, layer.c, size, size), layout)
    if layer.kind == "average":
        share = dy * np.float32(1 / layer.r**2)
        for r, s in _taps(layer):
            _tap(dx, layer, r, s)[:] += share
    else:
        padded = _padded(x, layer.padding, layout, -np.inf)
        open_ = np.ones_like(y, bool)  # windows whose first maximum is not yet found
        for r, s in _taps(layer):
            found = open_ & (_tap(padded, layer, r, s) == y)
            _tap(dx, layer, r, s)[:] += dy * found
            open_ &= ~found
    end = layer.padding + layer.h
    return dx[:, :, layer.padding : end, layer.padding : end]
