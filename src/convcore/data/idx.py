"""IDX files, the format of MNIST: plain, gzip or xz, told by their first bytes.

Layout (http://yann.lecun.com/exdb/mnist, big-endian): two zero bytes, a type
code, the rank, the size of each axis as uint32, then the elements, last axis
fastest.
"""

import gzip
import lzma
import zlib
from math import prod
from pathlib import Path

import numpy as np

_DTYPES = {
    0x08: np.dtype("u1"),
    0x09: np.dtype("i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}


def read_idx(path):
    """Read an IDX file.

    Returns
    -------
    ndarray in the machine's byte order, writable

    Raises
    ------
    ValueError
        Naming the file and what is wrong with it.
    """
    path = Path(path)
    content = _unpacked(path)
    if len(content) < 4 or content[:2] != b"\0\0":
        raise ValueError(
            f"{path}: not an IDX file, begins with {content[:4].hex() or 'nothing'}"
        )
    code, rank = content[2], content[3]
    if code not in _DTYPES:
        raise ValueError(f"{path}: unknown IDX element type 0x{code:02x}")
    header = 4 + 4 * rank
    if len(content) < header:
        raise ValueError(f"{path}: truncated in the header, {len(content)} bytes")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", rank, 4))
    dtype = _DTYPES[code]
    expected = header + prod(shape) * dtype.itemsize
    if len(content) != expected:
        problem = "truncated" if len(content) < expected else "too long"
        raise ValueError(
            f"{path}: {problem}, shape {shape} of {dtype.name} takes {expected} bytes"
            f" with the header, got {len(content)}"
        )
    array = np.frombuffer(content, dtype, offset=header).reshape(shape)
    return array.astype(dtype.newbyteorder("="))


def encode_idx(array):
    """The bytes of an array (uint8) as an IDX file."""
    array = np.ascontiguousarray(array)
    if array.dtype != np.uint8:
        raise TypeError(f"array must be uint8, got {array.dtype}")
    sizes = np.array(array.shape, ">u4").tobytes()
    return bytes([0, 0, 0x08, array.ndim]) + sizes + array.tobytes()


def _unpacked(path):
    content = path.read_bytes()
    try:
        if content[:2] == b"\x1f\x8b":
            return gzip.decompress(content)
        if content[:6] == b"\xfd7zXZ\0":
            return lzma.decompress(content)
    except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        raise ValueError(f"{path}: damaged compressed file, {error}") from None
    return content
