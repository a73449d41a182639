"""CIFAR-10 in its binary version: no pickle is read."""

from pathlib import Path

import numpy as np

from .arrays import ArrayDataset

CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer",
    "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
_IMAGE = (3, 32, 32)
_RECORD = 1 + 3 * 32 * 32  # label, then the image as c, h, w


def cifar10(path):
    """Read the binary version of CIFAR-10.

    Parameters
    ----------
    path : path
        Folder with ``data_batch_1.bin`` to ``data_batch_5.bin`` and
        ``test_batch.bin``
        (``cifar-10-binary.tar.gz`` of https://www.cs.toronto.edu/~kriz, unpacked).

    Returns
    -------
    (train, test) : ArrayDataset
        x uint8 (50000, 3, 32, 32) and (10000, 3, 32, 32), RGB; y the classes.

    Raises
    ------
    FileNotFoundError, ValueError
        Naming the missing or damaged file.
    """
    folder = Path(path)
    batches = [folder / f"data_batch_{number}.bin" for number in range(1, 6)]
    return _read(batches), _read([folder / "test_batch.bin"])


def _read(paths):
    records = np.concatenate([_read_records(path) for path in paths])
    images = records[:, 1:].reshape(-1, *_IMAGE)
    return ArrayDataset(images, records[:, 0], classes=CLASSES)


def _read_records(path):
    content = np.fromfile(path, np.uint8)
    if content.size == 0 or content.size % _RECORD:
        raise ValueError(
            f"{path}: expected records of {_RECORD} bytes, got {content.size} bytes"
        )
    records = content.reshape(-1, _RECORD)
    if records[:, 0].max() >= len(CLASSES):
        raise ValueError(f"{path}: label {records[:, 0].max()} is not below 10")
    return records
