"""Rows of a table by their numbers."""

from __future__ import annotations

import numpy as np

from .base import (
    INT64,
    Operator,
    Spec,
    apply,
    as_array,
    as_index_array,
    register,
)
from .window import integer

__all__ = ["embedding"]


class Embedding(Operator):
    """``y = weight[x]``; the row `padding_idx` (or None) has no gradient."""

    name = "embedding"

    def infer(self, x, weight, *, padding_idx):
        if x.dtype != INT64:
            raise TypeError(f"x has dtype {x.dtype}, expected int64")
        if weight.ndim != 2:
            raise ValueError(
                f"weight must have 2 dimensions (rows, columns), not {weight.shape}"
            )
        return Spec((*x.shape, weight.shape[1]), weight.dtype)

    def reference(self, x, weight, *, padding_idx):
        wrong = (x < 0) | (x >= len(weight))
        if wrong.any():
            raise ValueError(
                f"x holds {x[wrong][0]}, expected 0 to {len(weight) - 1} for weight "
                f"of shape {weight.shape}"
            )
        return weight[x]

    def backward(self, node, dy):
        x, weight = node.inputs
        attrs = {"rows": weight.shape[0], **node.attrs}
        return None, apply(EMBEDDING_BACKWARD, dy, x, **attrs)


class EmbeddingBackward(Operator):
    """``dweight``: the sum of dy by row."""

    name = "embedding_backward"

    def infer(self, dy, x, *, rows, padding_idx):
        return Spec((rows, dy.shape[-1]), dy.dtype)

    def reference(self, dy, x, *, rows, padding_idx):
        dweight = np.zeros((rows, dy.shape[-1]), dy.dtype)
        np.add.at(dweight, x, dy)
        if padding_idx is not None:
            dweight[padding_idx] = 0
        return dweight


EMBEDDING = register(Embedding())
EMBEDDING_BACKWARD = register(EmbeddingBackward())


def embedding(x, weight, padding_idx=None, *, out=None):
    """Look up rows of a table.

    Parameters
    ----------
    x : int64 array (...)
        Row numbers.
    weight : array (rows, columns)
    padding_idx : int, optional
        A row that is not learned: its gradient is 0.
    out : array, optional
        Where the result is written.

    Returns
    -------
    array (..., columns)
    """
    x, weight = as_index_array(x, "x"), as_array(weight, "weight")
    if padding_idx is not None:
        rows = weight.shape[0]
        padding_idx = integer(padding_idx, "padding_idx", -rows)
        if padding_idx >= rows:
            raise ValueError(f"padding_idx={padding_idx} is no row of {rows}")
        padding_idx %= rows
    return apply(EMBEDDING, x, weight, out=out, padding_idx=padding_idx)
