"""Augmentation, applied to a batch x[n][c][h][w] of any dtype.

A function (x, draws) gives a new array; `draws(stream)` gives one random uint64
per image.
"""

from functools import partial

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .draws import FLIP, SHIFT


def _shift(x, draws, by):
    """Move each image by up to `by` pixels in each direction, zero fill."""
    draw = draws(SHIFT)
    steps = np.uint64(2 * by + 1)
    top = (draw % steps).astype(np.intp)
    left = (draw // steps % steps).astype(np.intp)
    padded = np.pad(x, ((0, 0), (0, 0), (by, by), (by, by)))
    windows = sliding_window_view(padded, x.shape[2:], axis=(2, 3))
    return windows[np.arange(len(x)), :, top, left]


def _flip(x, draws):
    """Mirror half of the images left to right."""
    chosen = draws(FLIP) >> np.uint64(63) == 1
    return np.where(chosen[:, None, None, None], x[..., ::-1], x)


AUGMENTATIONS = {
    "shift": partial(_shift, by=2),
    "crop": partial(_shift, by=4),  # zero padding of 4, then a random crop
    "flip": _flip,
}


def augmentations(augment, sample_shape):
    """The functions that an argument `augment` names, or gives; None is []."""
    single = isinstance(augment, str) or callable(augment)
    return [
        entry if callable(entry) else _named(entry, sample_shape)
        for entry in ((augment,) if single else augment or ())
    ]


def _named(name, sample_shape):
    if name not in AUGMENTATIONS:
        known = ", ".join(map(repr, AUGMENTATIONS))
        raise ValueError(f"augment must be a function or among {known}, got {name!r}")
    if len(sample_shape) != 3:
        raise ValueError(
            f"augment={name!r} needs samples (C, H, W), got {sample_shape}"
        )
    return AUGMENTATIONS[name]
