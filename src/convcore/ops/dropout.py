"""Dropout, and the random numbers that it draws."""

from __future__ import annotations

import secrets
from math import prod

import numpy as np

from .. import _core
from .._config import call_threads
from .base import (
    INT64,
    Operator,
    Traced,
    as_array,
    call,
    prepared,
    register,
)
from .memory import dense, finish, is_channels_last, target
from .window import integer

__all__ = ["dropout"]


class Dropout(Operator):
    """``y = x / (1 - p)``, or 0 with probability p.

    What is dropped is a function of seed, step, stream and the element's number
    in channels-last order. In a network seed and step are those of the run, and
    the stream says which dropout of the network it is. The gradient is the same
    function of dy.
    """

    name = "dropout"

    def infer(self, x, *, p, stream, seed=0, step=0):
        return x

    def describe(self, x, *, last, precision, p, stream):
        return _core.Dropout(x.dtype.name, prod(x.shape), p, stream)

    def compute(self, inputs, attrs, out=None):
        (x,) = inputs
        last = x.ndim > 2
        known = {name: attrs[name] for name in ("p", "stream")}
        dropout, spec = prepared(self, last, inputs, known)
        y = target(out, spec, is_channels_last(x), inputs)
        source, result = dense(x, last), dense(y, last)
        draws = np.array([attrs.get("seed", 0), attrs.get("step", 0)], INT64)
        dropout.apply(draws, source, result, call_threads())
        if not np.may_share_memory(result, y):  # channels first
            y[...] = np.moveaxis(result, -1, 1)
        return finish(out, y)

    def reference(self, x, *, p, stream, seed=0, step=0):
        words = _random_words(x.size, seed, step, stream)
        if x.ndim > 2:
            shape = (x.shape[0], *x.shape[2:], x.shape[1])
            words = np.moveaxis(words.reshape(shape), -1, 1)
        kept = words.reshape(x.shape) >= int(p * 2**32)
        scale = x.dtype.type(1 / (1 - p) if p < 1 else 0)
        return np.where(kept, x * scale, x.dtype.type(0))

    def backward(self, node, dy):
        return (call(self, (dy,), node.attrs),)

    def lower(self, lowering, node):
        (x,), (y,) = node.inputs, node.outputs
        operands = lowering.draws, lowering.operand(x), lowering.result(y)
        lowering.emit("dropout", operands, lowering.describe(node))


_NAMED = 1 << 31  # streams from here on are named by a seed

DROPOUT = register(Dropout())


def dropout(x, p=0.5, training=True, seed=None, *, out=None):
    """Set elements to 0 with probability p, and divide the others by 1 - p.

    Parameters
    ----------
    x : array
    p : float
        Between 0 and 1.
    training : bool
        Without it, x is returned: as it is in networks, else a copy.
    seed : int, optional
        The same seed drops the same elements, whatever the number of threads,
        the memory order and the dtype. Default: another one for each call. In
        networks every step draws anew, from the seed of the training and the
        number of the step; a seed here names the dropout: those of the same
        seed drop the same elements in one step.
    out : array, optional
        Where the result is written.

    Returns
    -------
    array like x

    References
    ----------
    N. Srivastava et al., "Dropout: a simple way to prevent neural networks from
    overfitting", JMLR 2014. The random numbers are those of Philox4x32-10:
    J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
    """
    x = as_array(x, "x")
    if not 0 <= p <= 1:
        raise ValueError(f"p must be between 0 and 1, got {p!r}")
    traced = isinstance(x, Traced)
    if traced and not training:
        return x
    attrs = {"p": float(p) if training else 0.0, "stream": 0}
    if seed is not None:
        seed = integer(seed, "seed", 0)
    if traced:
        attrs["stream"] = x.position if seed is None else _NAMED + seed % _NAMED
    else:
        attrs["seed"] = secrets.randbits(62) if seed is None else seed
    return call(DROPOUT, (x,), attrs, out)


def _random_words(size, seed, step, stream):
    """Philox4x32-10: the random uint32 of each element, see dropout.inc."""
    blocks = -(-size // 64)
    counter = np.arange(16 * blocks, dtype=np.uint64)
    low, rest = np.uint64(0xFFFFFFFF), np.uint64(32)
    words = [counter & low, counter >> rest]
    words += [np.full_like(counter, n % 2**32) for n in (stream, step)]
    key = [seed % 2**32, seed >> 32 & 0xFFFFFFFF]
    for _ in range(10):
        a, b = words[0] * np.uint64(0xD2511F53), words[2] * np.uint64(0xCD9E8D57)
        words = [
            (b >> rest) ^ words[1] ^ np.uint64(key[0]),
            b & low,
            (a >> rest) ^ words[3] ^ np.uint64(key[1]),
            a & low,
        ]
        key = [(key[0] + 0x9E3779B9) % 2**32, (key[1] + 0xBB67AE85) % 2**32]
    # Word j of counter i belongs to element 16 j + i of its 64.
    found = np.stack(words).reshape(4, blocks, 16).transpose(1, 0, 2)
    return found.reshape(-1)[:size]
