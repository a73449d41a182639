"""Make the built-in digits from the four MNIST files.

    python tools/make_digits.py ../shared/data/mnist

Deterministic: the same files give the same bytes (for one version of liblzma).
"""

import argparse
import lzma
from pathlib import Path

import numpy as np

from convcore.data import mnist
from convcore.data.idx import encode_idx

TARGET = Path(__file__).parents[1] / "src/convcore/data/digits.idx.xz"


def first_of_each_class(dataset, count):
    """Images in the order 0, 1, ... 9, 0, 1, ..."""
    columns = [np.flatnonzero(dataset.y == digit)[:count] for digit in range(10)]
    return dataset.x[np.stack(columns, axis=1).ravel(), 0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mnist", help="folder with the MNIST files")
    parser.add_argument("--output", default=TARGET, type=Path)
    arguments = parser.parse_args()
    train, test = mnist(arguments.mnist)
    images = [first_of_each_class(train, 500), first_of_each_class(test, 100)]
    content = encode_idx(np.concatenate(images))
    packed = lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)
    arguments.output.write_bytes(packed)
    print(f"{arguments.output}: {len(packed)} bytes")


if __name__ == "__main__":
    main()
