"""Random numbers that are a function of what they are for.

A draw depends on (seed, epoch, stream, sample index) and on nothing else: not
on the batch size, the order of calls, the number of threads or the version of
NumPy. So a run can be resumed at any step and repeated bit for bit.
"""

import numpy as np

# Streams: what a draw is for. The numbers are part of the result: keep them.
ORDER, SPLIT, SHIFT, FLIP = range(4)

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(z):
    """Finalizer of SplitMix64 (Steele, Lea, Flood, 2014): a bijection."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def draw(seed, epoch, stream, indices):
    """Uniform uint64 numbers, one per sample index.

    Numbers of one (seed, epoch, stream) are distinct for distinct indices.
    """
    key = np.zeros(1, np.uint64)  # an array: its products wrap without warning
    for part in (seed, epoch, stream):
        key = _mix(key + _GOLDEN + np.uint64(int(part) % 2**64))
    return _mix(key + np.asarray(indices).astype(np.uint64) * _GOLDEN)


def permutation(seed, epoch, stream, size):
    """A random order of 0..size-1."""
    return np.argsort(draw(seed, epoch, stream, np.arange(size)))
