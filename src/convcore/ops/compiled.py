"""Operators that are one step of the C library."""

from __future__ import annotations

from .. import _core
from .._config import call_threads
from .base import Operator, prepared
from .memory import dense, finish, is_channels_last, target

FUNCTION_NUMBERS = {name: i for i, name in enumerate(_core.element_functions())}


class Compiled(Operator):
    """An operator with one result, whose `describe` gives a `_core.Step`.

    Where that is None the definition is what runs. Inputs of rank >= 3 have the
    memory order of the first.
    """

    def compute(self, inputs, attrs, out=None):
        last = is_channels_last(inputs[0])
        step, spec = prepared(self, last, inputs, attrs)
        y = target(out, spec, last, inputs)
        if step is None:
            y[...] = self.reference(*map(_in_order, inputs), **attrs)
            return finish(out, y)
        arrays = [x if x is None else dense(x, last and x.ndim > 2) for x in inputs]
        step.run(*arrays, dense(y, last), threads=call_threads())
        return finish(out, y)

    def lower(self, lowering, node):
        step = lowering.describe(node)
        if step is None:
            lowering.numpy(node)
        else:
            lowering.node(node, step.kind, step)


def _in_order(x):
    """x without gaps or turns: NumPy's loops over those differ in the last bit."""
    return x if x is None or x.flags.forc or is_channels_last(x) else x.copy()
