"""The built-in digits: a class-balanced, lossless subset of MNIST.

``digits.idx.xz`` is an IDX file of 6,000 images, compressed with xz. Image
number i shows the digit i % 10; the first 5,000 come from the training set of
MNIST (the first 500 of each class), the others from its test set (the first
100 of each class). ``tools/make_digits.py`` makes it; ``NOTICE-digits.txt``
names its source and licence.
"""

from pathlib import Path

import numpy as np

from .arrays import ArrayDataset
from .idx import read_idx

_FILE = Path(__file__).with_name("digits.idx.xz")
_TRAIN = 5000


def digits():
    """Handwritten digits that come with the package.

    Returns
    -------
    (train, test) : ArrayDataset
        x uint8 (5000, 1, 28, 28) and (1000, 1, 28, 28), white on black; y the
        digits, every class equally often.
    """
    images = read_idx(_FILE)[:, None]
    labels = np.arange(len(images)) % 10
    names = [str(digit) for digit in range(10)]
    return (
        ArrayDataset(images[:_TRAIN], labels[:_TRAIN], classes=names),
        ArrayDataset(images[_TRAIN:], labels[_TRAIN:], classes=names),
    )
