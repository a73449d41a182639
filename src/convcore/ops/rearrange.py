"""Elements in another order of dimensions: permute, shuffles of pixels, channels."""

from __future__ import annotations

from math import prod

import numpy as np

from .base import Operator, Spec, apply, as_array, check_dim, register
from .window import integer

__all__ = [
    "channel_shuffle",
    "permute",
    "pixel_shuffle",
    "pixel_unshuffle",
    "transpose",
]


class Rearrange(Operator):
    """Split dimensions, put them in another order, and merge some.

    Dimension i of x is split into ``split[i]`` (a tuple whose product it is;
    one entry may be -1), the parts are put in `order`, and the result has a
    dimension for each of the groups of so many entries in `merge`.
    """

    name = "rearrange"

    def infer(self, x, *, split, order, merge):
        parts = _parts(x.shape, split)
        ordered = [parts[i] for i in order]
        ends = np.cumsum(merge)
        groups = zip(ends - merge, ends, strict=True)
        return Spec(tuple(prod(ordered[a:b]) for a, b in groups), x.dtype)

    def reference(self, x, *, split, order, merge):
        parts = _parts(x.shape, split)
        y = x.reshape(parts).transpose(order)
        shape = self.infer(x, split=split, order=order, merge=merge).shape
        return np.array(y.reshape(shape))

    def backward(self, node, dy):
        (x,) = node.inputs
        split, order = node.attrs["split"], node.attrs["order"]
        parts = _parts(x.shape, split)
        merge = node.attrs["merge"]
        ordered = iter(parts[i] for i in order)
        return (
            apply(
                self,
                dy,
                split=tuple(tuple(next(ordered) for _ in range(n)) for n in merge),
                order=tuple(np.argsort(order).tolist()),
                merge=tuple(map(len, split)),
            ),
        )


REARRANGE = register(Rearrange())


def _parts(shape, split):
    """Lengths of the split dimensions."""
    parts = []
    for n, lengths in zip(shape, split, strict=True):
        known = prod(p for p in lengths if p != -1)
        parts += (n // known if p == -1 else p for p in lengths)
    return parts


def reorder(x, order, out=None):
    """Dimensions in a checked order."""
    split, merge = ((-1,),) * x.ndim, (1,) * x.ndim
    return apply(REARRANGE, x, out=out, split=split, order=order, merge=merge)


def permute(x, dims, *, out=None):
    """Put dimensions in another order.

    Parameters
    ----------
    x : array
    dims : sequence of int
        Dimension i of the result is ``dims[i]`` of x.
    out : array, optional
        Where the result is written.

    Returns
    -------
    array
        A copy.
    """
    x = as_array(x, "x")
    order = tuple(check_dim(d, x.ndim, "dims") for d in dims)
    if sorted(order) != list(range(x.ndim)):
        raise ValueError(
            f"dims={tuple(dims)} must name each of the {x.ndim} dimensions once"
        )
    if getattr(x, "batched", False) and order[:1] != (0,):
        raise ValueError(f"dims={tuple(dims)} moves the batch of a traced value")
    return reorder(x, order, out)


def transpose(x, dim0, dim1, *, out=None):
    """Exchange two dimensions.

    Parameters
    ----------
    x : array
    dim0, dim1 : int
    out : array, optional
        Where the result is written.

    Returns
    -------
    array
        A copy.
    """
    x = as_array(x, "x")
    dims = list(range(x.ndim))
    i, j = check_dim(dim0, x.ndim, "dim0"), check_dim(dim1, x.ndim, "dim1")
    dims[i], dims[j] = j, i
    return permute(x, dims, out=out)


def pixel_shuffle(x, upscale_factor, *, out=None):
    """Make pixels of channels (Shi et al., 2016).

    Parameters
    ----------
    x : array (..., C * r * r, H, W)
    upscale_factor : int
        r.
    out : array, optional
        Where the result is written.

    Returns
    -------
    array (..., C, H * r, W * r)
    """
    x, r = as_array(x, "x"), integer(upscale_factor, "upscale_factor", 1)
    _check_image(x)
    if x.shape[-3] % (r * r):
        raise ValueError(
            f"upscale_factor={r} squared does not divide the {x.shape[-3]} channels "
            f"of x of shape {x.shape}"
        )
    n = x.ndim - 3
    return apply(
        REARRANGE,
        x,
        out=out,
        split=(*((-1,),) * n, (-1, r, r), (-1,), (-1,)),
        order=(*range(n), n, n + 3, n + 1, n + 4, n + 2),
        merge=(*(1,) * n, 1, 2, 2),
    )


def pixel_unshuffle(x, downscale_factor, *, out=None):
    """Make channels of pixels: the inverse of `pixel_shuffle`.

    Parameters
    ----------
    x : array (..., C, H * r, W * r)
    downscale_factor : int
        r.
    out : array, optional
        Where the result is written.

    Returns
    -------
    array (..., C * r * r, H, W)
    """
    x, r = as_array(x, "x"), integer(downscale_factor, "downscale_factor", 1)
    _check_image(x)
    if x.shape[-2] % r or x.shape[-1] % r:
        raise ValueError(
            f"downscale_factor={r} does not divide the height and width of x of "
            f"shape {x.shape}"
        )
    n = x.ndim - 3
    return apply(
        REARRANGE,
        x,
        out=out,
        split=(*((-1,),) * n, (-1,), (-1, r), (-1, r)),
        order=(*range(n), n, n + 2, n + 4, n + 1, n + 3),
        merge=(*(1,) * n, 3, 1, 1),
    )


def channel_shuffle(x, groups, *, out=None):
    """Interleave groups of channels (Zhang et al., 2018).

    Parameters
    ----------
    x : array (N, C, space)
    groups : int
        Channel ``g * (C // groups) + c`` becomes ``c * groups + g``.
    out : array, optional
        Where the result is written.

    Returns
    -------
    array like x
    """
    x, groups = as_array(x, "x"), integer(groups, "groups", 1)
    if x.ndim < 3 or x.shape[1] % groups:
        raise ValueError(
            f"groups={groups} must divide the channels of x (N, C, space), which "
            f"has shape {x.shape}"
        )
    rest = x.ndim - 2
    return apply(
        REARRANGE,
        x,
        out=out,
        split=((-1,), (groups, -1), *((-1,),) * rest),
        order=(0, 2, 1, *range(3, 3 + rest)),
        merge=(1, 2, *(1,) * rest),
    )


def _check_image(x):
    if x.ndim < 3:
        raise ValueError(f"x must have shape (..., C, H, W), not {x.shape}")
