"""Sum of two tensors of one shape."""

from __future__ import annotations

from .. import _core
from .._config import call_threads
from .base import Operator, apply, as_array, check_same_shape, register, spec_of
from .memory import dense, finish, is_channels_last, target

__all__ = ["add"]


class Add(Operator):
    """``y = a + b``."""

    name = "add"

    def infer(self, a, b):
        check_same_shape(a=a, b=b)
        return a

    def compute(self, inputs, attrs, out=None):
        a, b = inputs
        last = is_channels_last(a)
        y = target(out, self.infer(*map(spec_of, inputs)), last, inputs)
        _core.add(dense(a, last), dense(b, last), dense(y, last), call_threads())
        return finish(out, y)

    def reference(self, a, b):
        return a + b

    def backward(self, node, dy):
        return dy, dy

    def lower(self, lowering, node):
        lowering.node(node, "add")


ADD = register(Add())


def add(a, b, *, out=None):
    """Sum of two arrays of the same shape and dtype; also ``a + b`` in networks.

    Parameters
    ----------
    a, b : array
    out : array, optional
        Where the result is written.

    Returns
    -------
    array like a

    Raises
    ------
    ValueError
        For different shapes: nothing is broadcast.
    """
    return apply(ADD, as_array(a, "a"), as_array(b, "b"), out=out)
