"""Image files; needs Pillow (the extra `images`)."""

from concurrent.futures import ThreadPoolExecutor
from copy import copy
from pathlib import Path

import numpy as np

from .._config import get_num_threads
from .arrays import Dataset

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
_CHANNELS = {"L": 1, "RGB": 3}


def load_image(path, size=None, mode="RGB"):
    """Read an image file.

    Parameters
    ----------
    path : path
    size : (height, width), optional
        Scale the image to cover this size and crop its centre.
    mode : "RGB" or "L"
        Colour or grey.

    Returns
    -------
    uint8 array (C, H, W), upright according to its EXIF tag

    Raises
    ------
    ImportError
        Without Pillow.
    OSError
        When the file cannot be read or is no image.
    """
    image_module, operations = _pillow()
    if mode not in _CHANNELS:
        raise ValueError(f"mode must be 'RGB' or 'L', got {mode!r}")
    with image_module.open(path) as image:
        image = operations.exif_transpose(image).convert(mode)
        if size is not None:
            height, width = size
            method = image_module.Resampling.BILINEAR
            image = operations.fit(image, (width, height), method)
    pixels = np.asarray(image)
    return pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1)


class ImageFolder(Dataset):
    """Images in one folder per class, read when they are needed.

    Parameters
    ----------
    path : path
        Folder with one folder per class; the classes are numbered in the
        order of their names.
    size : (height, width), optional
        Scale and crop every image, see `load_image`. Without it all images
        must have the size of the first.
    mode : "RGB" or "L"

    Raises
    ------
    ImportError
        Without Pillow.
    FileNotFoundError
        When there is no image.
    """

    def __init__(self, path, size=None, mode="RGB"):
        _pillow()
        root = Path(path)
        folders = sorted(entry for entry in root.iterdir() if entry.is_dir())
        files = [
            (file, number)
            for number, folder in enumerate(folders)
            for file in sorted(folder.rglob("*"))
            if file.suffix.lower() in _SUFFIXES
        ]
        if not files:
            raise FileNotFoundError(f"{root}: no image in a folder per class")
        self._size, self._mode = size, mode
        self.classes = tuple(folder.name for folder in folders)
        self.files = [file for file, _ in files]
        self.y = np.array([number for _, number in files], np.int64)
        self.sample_shape = load_image(self.files[0], size, mode).shape

    def __repr__(self):
        return f"ImageFolder({len(self)} images {self.sample_shape})"

    def take(self, indices):
        x = np.empty((len(indices), *self.sample_shape), np.uint8)
        # Pillow decodes without the GIL.
        with ThreadPoolExecutor(get_num_threads(), "convcore-images") as pool:
            for _ in pool.map(self._read, x, indices):
                pass
        return x

    def _read(self, image, index):
        """Write the pixels of a file into an array."""
        pixels = load_image(self.files[index], self._size, self._mode)
        if pixels.shape != self.sample_shape:
            raise ValueError(
                f"{self.files[index]}: shape {pixels.shape}, but the first image"
                f" has {self.sample_shape}: name a size"
            )
        image[:] = pixels

    def subset(self, indices):
        part = copy(self)
        part.files = [self.files[index] for index in indices]
        part.y = self.y[indices]
        return part


def _pillow():
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError(
            "reading image files needs Pillow: pip install 'convcore[images]'"
        ) from error
    return Image, ImageOps
