"""MNIST and the data sets of the same four files (Fashion-MNIST, KMNIST)."""

from pathlib import Path

import numpy as np

from .arrays import ArrayDataset
from .idx import read_idx


def mnist(path):
    """Read the four official MNIST files.

    Parameters
    ----------
    path : path
        Folder with ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``,
        ``t10k-images-idx3-ubyte`` and ``t10k-labels-idx1-ubyte``, each plain
        or with ``.gz``.

    Returns
    -------
    (train, test) : ArrayDataset
        x uint8 (60000, 1, 28, 28) and (10000, 1, 28, 28), white on black;
        y the digits.

    Raises
    ------
    FileNotFoundError
        Naming the missing file.
    ValueError
        Naming a damaged one.
    """
    return _read(Path(path), "train"), _read(Path(path), "t10k")


def _read(folder, part):
    images_path = _find(folder, f"{part}-images-idx3-ubyte")
    labels_path = _find(folder, f"{part}-labels-idx1-ubyte")
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.ndim != 3 or images.dtype != np.uint8:
        raise ValueError(
            f"{images_path}: expected uint8 images (N, H, W),"
            f" got {images.dtype} {images.shape}"
        )
    if labels.shape != images.shape[:1] or labels.dtype != np.uint8:
        raise ValueError(
            f"{labels_path}: expected uint8 labels ({len(images)},),"
            f" got {labels.dtype} {labels.shape}"
        )
    return ArrayDataset(images[:, None], labels, classes=map(str, range(10)))


def _find(folder, name):
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f"{folder / name}: no such file, nor with .gz")
