"""The larger and the smaller of two elements, with broadcasting."""

from __future__ import annotations

import numpy as np

from .arithmetic import ADD, _summed_to
from .base import Operator, Spec, apply, register


class Extreme(Operator):
    """``y = function(a, b)``: np.maximum or np.minimum."""

    def __init__(self, name, function):
        self.name = name
        self._function = function

    def infer(self, a, b):
        return ADD.infer(a, b)

    def reference(self, a, b):
        return np.asarray(self._function(a, b))

    def backward(self, node, dy):
        a, b = node.inputs
        y = node.outputs[0]
        of_a, of_b = apply(EXTREME_BACKWARD, dy, a, b, y)
        return _summed_to(a, of_a), _summed_to(b, of_b)


class ExtremeBackward(Operator):
    """Gradients in the shape of y, shared equally where both are y."""

    name = "extreme_backward"

    def infer(self, dy, a, b, y):
        return Spec(y.shape, dy.dtype), Spec(y.shape, dy.dtype)

    def reference(self, dy, a, b, y):
        chosen = [np.asarray(x == y, dy.dtype) for x in (a, b)]
        share = dy / np.maximum(chosen[0] + chosen[1], 1)
        return tuple(share * which for which in chosen)


MAXIMUM = register(Extreme("maximum", np.maximum))
MINIMUM = register(Extreme("minimum", np.minimum))
EXTREME_BACKWARD = register(ExtremeBackward())
