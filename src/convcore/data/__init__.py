"""Data sets and augmentation.

`mnist`, `cifar10`, `digits` and `load`, for any folder, give (train, test);
`ImageFolder` and `ArrayDataset` are one set with `.split(fraction, seed)`.
"""

from .arrays import ArrayDataset, Dataset
from .cifar10 import cifar10
from .digits import digits
from .idx import read_idx
from .images import ImageFolder, load_image
from .load import load
from .mnist import mnist

__all__ = [
    "ArrayDataset",
    "Dataset",
    "ImageFolder",
    "cifar10",
    "digits",
    "load",
    "load_image",
    "mnist",
    "read_idx",
]
