"""Matrix product."""

from __future__ import annotations

import numpy as np

from .arithmetic import _summed_to
from .base import Operator, Spec, apply, as_array, check_same_dtype, register
from .flatten import reshape
from .rearrange import reorder

__all__ = ["matmul"]


class Matmul(Operator):
    """``y = a @ b`` of matrices, batches of them broadcast."""

    name = "matmul"

    def infer(self, a, b):
        check_same_dtype(a=a, b=b)
        if a.shape[-1] != b.shape[-2]:
            raise ValueError(
                f"a of shape {a.shape} and b of shape {b.shape} do not fit: a has "
                f"{a.shape[-1]} columns, b has {b.shape[-2]} rows"
            )
        try:
            batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        except ValueError:
            raise ValueError(
                f"batches of a of shape {a.shape} and b of shape {b.shape} do not "
                "broadcast"
            ) from None
        return Spec((*batch, a.shape[-2], b.shape[-1]), a.dtype)

    def reference(self, a, b):
        # Dense, so that strides do not change the order of the sums.
        return np.matmul(np.ascontiguousarray(a), np.ascontiguousarray(b))

    def backward(self, node, dy):
        a, b = node.inputs
        return (
            _summed_to(a, apply(self, dy, _turned(b))),
            _summed_to(b, apply(self, _turned(a), dy)),
        )


MATMUL = register(Matmul())


def matmul(a, b, *, out=None):
    """Matrix product; also ``a @ b`` in networks.

    Parameters
    ----------
    a : array (..., rows, n) or (n,)
    b : array (..., n, columns) or (n,)
        Leading dimensions are broadcast; a vector is a row of a, a column of b.
    out : array, optional
        Where the result is written.

    Returns
    -------
    array (..., rows, columns), without the dimension of a vector
    """
    a, b = as_array(a, "a"), as_array(b, "b")
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError(f"a {a.shape} and b {b.shape} must have a dimension")
    if a.ndim > 1 and b.ndim > 1:
        return apply(MATMUL, a, b, out=out)
    rows = a if a.ndim > 1 else reshape(a, (1, *a.shape))
    columns = b if b.ndim > 1 else reshape(b, (*b.shape, 1))
    y = apply(MATMUL, rows, columns)
    shape = (*y.shape[:-2], *a.shape[-2:-1], *(b.shape[-1:] if b.ndim > 1 else ()))
    return reshape(y, shape, out=out)


def _turned(x):
    order = (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2)
    return reorder(x, order)
