"""Data sets: what `Model.fit`, `evaluate` and `predict` take samples from."""

from abc import ABC, abstractmethod
from functools import partial

import numpy as np

from ..ops.base import as_numpy
from ..ops.window import integer
from .augment import augmentations
from .draws import ORDER, SPLIT, draw, permutation


class Dataset(ABC):
    """Samples with targets; the base of `ArrayDataset` and `ImageFolder`.

    Attributes
    ----------
    y : ndarray
        Targets: int64 class numbers, or float values.
    classes : tuple of str, or None
        Names of the classes, where known.
    sample_shape : tuple of int
        Shape of one sample, (C, H, W) for images.
    """

    @abstractmethod
    def take(self, indices):
        """The samples of these numbers: uint8 (scaled later) or float array."""

    @abstractmethod
    def subset(self, indices):
        """A data set of the samples of these numbers."""

    def __len__(self):
        return len(self.y)

    def split(self, fraction, seed=0):
        """Split at random into two data sets.

        Parameters
        ----------
        fraction : float
            Share of the first part, strictly between 0 and 1.
        seed : int
            The same seed gives the same parts.

        Returns
        -------
        (first, second) : round(fraction * len(self)) samples and the others
        """
        if not 0 < fraction < 1:
            raise ValueError(f"fraction must be between 0 and 1, got {fraction!r}")
        order = permutation(seed, 0, SPLIT, len(self))
        count = round(fraction * len(self))
        return self.subset(np.sort(order[:count])), self.subset(np.sort(order[count:]))

    def steps(self, batch_size):
        """Number of batches in an epoch; the last may be smaller."""
        return -(-len(self) // integer(batch_size, "batch_size", 1))

    def batches(
        self,
        batch_size,
        *,
        seed=None,
        epoch=0,
        start=0,
        augment=None,
        dtype=np.float32,
    ):
        """Iterate over one epoch.

        Parameters
        ----------
        batch_size : int
        seed : int, optional
            Shuffle, in an order drawn from (seed, epoch). None: in order.
        epoch : int
            Number of the epoch, for the draws.
        start : int
            First step: a run stopped after `start` steps of this epoch goes on
            with the batches that it would have seen.
        augment : str or function, or sequence of them, optional
            Applied in this order to (C, H, W) images, drawn from (seed, epoch,
            sample index): "shift" (up to 2 pixels, zero fill), "crop" (zero
            padding of 4 pixels, random crop), "flip" (left to right), or a
            function (x, draws) of a batch of samples as `take` gives them,
            where ``draws(i)`` for i >= 0 is one random uint64 per sample.
            Needs a seed.
        dtype : float32 or float64
            Of x, and of y unless it holds class numbers. uint8 samples are
            divided by 255.

        Yields
        ------
        (x, y) : C-contiguous arrays with at most `batch_size` samples
        """
        batch_size = integer(batch_size, "batch_size", 1)
        functions = augmentations(augment, self.sample_shape)
        if functions and seed is None:
            raise ValueError(f"augment={augment!r} needs a seed, got None")
        dtype = np.dtype(dtype)
        return self._generate(batch_size, seed, epoch, start, functions, dtype)

    def _generate(self, batch_size, seed, epoch, start, functions, dtype):
        if seed is None:
            order = np.arange(len(self))
        else:
            order = permutation(seed, epoch, ORDER, len(self))
        for first in range(start * batch_size, len(self), batch_size):
            indices = order[first : first + batch_size]
            x = self.take(indices)
            for function in functions:
                x = function(x, partial(draw, seed, epoch, indices=indices))
            y = self.y[indices]
            yield _as_float(x, dtype), y if y.dtype == np.int64 else y.astype(dtype)


class ArrayDataset(Dataset):
    """Samples in memory.

    Parameters
    ----------
    x : array (N, ...), uint8, float32 or float64
        Images are (N, C, H, W). uint8 is kept as it is and divided by 255 when
        batched.
    y : array (N, ...)
        Targets: integers (class numbers, kept as int64) or floats.
    classes : sequence of str, optional
        Names of the classes.

    Examples
    --------
    >>> import numpy as np
    >>> from convcore.data import ArrayDataset
    >>> dataset = ArrayDataset(np.zeros((10, 1, 8, 8), np.uint8), np.arange(10))
    >>> [x.shape for x, y in dataset.batches(4, seed=0)]
    [(4, 1, 8, 8), (4, 1, 8, 8), (2, 1, 8, 8)]
    """

    def __init__(self, x, y, *, classes=None):
        x, y = as_numpy(x), as_numpy(y)
        if x.dtype not in (np.uint8, np.float32, np.float64):
            raise TypeError(f"x must be uint8, float32 or float64, got {x.dtype}")
        if y.dtype.kind not in "iuf":
            raise TypeError(f"y must be integers or floats, got {y.dtype}")
        if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
            raise ValueError(
                f"x and y must have as many samples: x {x.shape}, y {y.shape}"
            )
        self.x = x
        self.y = y if y.dtype.kind == "f" else y.astype(np.int64)
        self.classes = None if classes is None else tuple(classes)
        self.sample_shape = x.shape[1:]

    def __repr__(self):
        return f"ArrayDataset(x={self.x.shape} {self.x.dtype}, y={self.y.shape})"

    def take(self, indices):
        return self.x[indices]

    def subset(self, indices):
        return ArrayDataset(self.x[indices], self.y[indices], classes=self.classes)


def _as_float(x, dtype):
    if x.dtype == np.uint8:
        return np.divide(x, 255, dtype=dtype, order="C")
    return np.ascontiguousarray(x, dtype)
