"""Augmentation by name, applied to a batch x[n][c][h][w] of any dtype.

`AUGMENTATIONS[name](x, draws)` gives a new array; `draws(stream)` gives one
random uint64 per image.
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


def check_augment(augment):
    """Names as a tuple, or ValueError; None is ()."""
    names = (augment,) if isinstance(augment, str) else tuple(augment or ())
    for name in names:
        if name not in AUGMENTATIONS:
            known = ", ".join(map(repr, AUGMENTATIONS))
            raise ValueError(f"augment must be among {known}, got {name!r}")
    return names
