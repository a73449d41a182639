"""A data set of any of the known forms, by its folder."""

from pathlib import Path

import numpy as np

from .arrays import ArrayDataset
from .cifar10 import cifar10
from .images import ImageFolder
from .mnist import mnist


def load(path):
    """Read a data set: what the command line trains with.

    Parameters
    ----------
    path : path
        Folder with the files of MNIST, with the binary ones of CIFAR-10, or
        with one folder of images per class, or with two of those: ``train``
        and maybe ``test``. Images are read into memory.

    Returns
    -------
    (train, test) : ArrayDataset
        Where images have no ``test``, it is the last tenth of each class.

    Raises
    ------
    FileNotFoundError, ValueError
        Naming the missing or damaged file.
    """
    folder = Path(path)
    if (folder / "data_batch_1.bin").exists():
        return cifar10(folder)
    if (folder / "train").is_dir():
        train = ImageFolder(folder / "train")
        if (folder / "test").is_dir():
            return _in_memory(train), _in_memory(ImageFolder(folder / "test"))
        return _without_last_tenth(train)
    if folder.is_dir() and any(entry.is_dir() for entry in folder.iterdir()):
        return _without_last_tenth(ImageFolder(folder))
    return mnist(folder)


def _in_memory(images):
    x = images.take(range(len(images)))
    return ArrayDataset(x, images.y, classes=images.classes)


def _without_last_tenth(images):
    """All but the last tenth of each class, and that."""
    numbers = [np.flatnonzero(images.y == i) for i in range(len(images.classes))]
    kept = [of_class[: -(len(of_class) // 10) or None] for of_class in numbers]
    train = np.isin(np.arange(len(images)), np.concatenate(kept))
    parts = np.flatnonzero(train), np.flatnonzero(~train)
    return tuple(_in_memory(images.subset(part)) for part in parts)
