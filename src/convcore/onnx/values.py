"""What operators do with their inputs, be they arrays or traced values."""

import functools

import numpy as np

from ..ops.base import FLOAT32, FLOAT64, Traced, apply
from ..ops.flatten import RESHAPE
from ..ops.rearrange import reorder

REAL = (FLOAT32, FLOAT64)


def is_traced(*values):
    """Whether one of these is a traced value."""
    return any(isinstance(x, Traced) for x in values)


def varies(x):
    """Whether a value depends on the inputs of the network."""
    return isinstance(x, Traced) and x.graph.varies(x)


def constant(x, name="an input"):
    """The elements of what does not depend on the inputs of the network."""
    if not isinstance(x, Traced):
        return x
    if x.graph.varies(x):
        raise ValueError(
            f"{name} must be constant, but is computed from the network's input"
        )
    return x.graph.evaluate(x)


def ints(x, name="an input"):
    """A constant as a tuple of ints; None of None."""
    if x is None:
        return None
    return tuple(int(i) for i in np.asarray(constant(x, name)).reshape(-1))


def number(x, name="an input"):
    """A constant of one element as a Python number."""
    return np.asarray(constant(x, name)).reshape(-1)[0].item()


def axis_of(axis, ndim):
    """An axis as an index >= 0."""
    if not -ndim <= axis < max(ndim, 1):
        raise ValueError(f"axis {axis} is out of range for {ndim} dimensions")
    return axis % max(ndim, 1)


def axes_of(axes, ndim):
    """Axes as sorted indices >= 0; all of them for None."""
    if axes is None:
        return tuple(range(ndim))
    return tuple(sorted(axis_of(axis, ndim) for axis in axes))


def reshape(x, shape):
    """Another shape, which may hold one -1.

    Of what varies with the batch, the first dimension stays open where it is the
    batch of x, and otherwise if no other dimension is: then it is a multiple.
    """
    if not isinstance(x, Traced):
        return np.reshape(x, shape)
    whole = RESHAPE.infer(x.spec, shape=tuple(shape)).shape
    if whole == x.shape:
        return x
    if not varies(x) or 0 in whole:
        return apply(RESHAPE, x, shape=whole)
    if whole and (whole[:1] == x.shape[:1] == (x.graph.batch,) or -1 not in shape):
        shape = (-1, *whole[1:])
    return apply(RESHAPE, x, shape=tuple(shape))


def permute(x, order):
    """Dimensions in another order."""
    if not isinstance(x, Traced):
        return np.transpose(x, order)
    return x if tuple(order) == tuple(range(x.ndim)) else reorder(x, tuple(order))


def aligned(a, b, axis):
    """b, whose first dimension is that dimension of a, as opsets before 7 have it."""
    if axis is None:
        return b
    after = a.ndim - axis_of(axis, a.ndim) - b.ndim
    return reshape(b, (*b.shape, *(1,) * after))


def unsqueeze(x, axes, ndim):
    """x with dimensions of length 1 at `axes`, so that it has `ndim`."""
    rest = iter(x.shape)
    return reshape(x, tuple(1 if i in axes else next(rest) for i in range(ndim)))


def real(function):
    """Let a function of float32 and float64 take arrays of other numbers too.

    These are computed in the next larger float and given back in their dtype.
    """

    @functools.wraps(function)
    def of_any(**given):
        arrays = {k: x for k, x in given.items() if isinstance(x, np.ndarray)}
        dtype = next((x.dtype for x in arrays.values()), FLOAT32)
        if is_traced(*given.values()) or dtype in REAL:
            return function(**given)
        wide = FLOAT32 if dtype.itemsize <= 2 else FLOAT64
        others = {k: x.astype(wide) for k, x in arrays.items() if x.dtype == dtype}
        results = function(**given | others)
        if not isinstance(results, tuple):
            return results.astype(dtype)
        return tuple(y.astype(dtype) if y.dtype == wide else y for y in results)

    return of_any
