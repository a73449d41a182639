"""Operators of ONNX that this package has no operator for: one node for all."""

import numpy as np

from ..ops.base import Operator, Spec, fill, register
from . import operators  # noqa: F401 (enters them in the table)
from .registry import TABLE


class OnnxNode(Operator):
    """A step of NumPy's that calls the function of an ONNX operator.

    Attributes are the operator's name, `opset`, the numbers of outputs that are
    `declared` and `wanted`, its own `attributes` as (name, value) pairs, and those
    inputs that are `constants`: (position, dtype, shape, elements). It has no
    gradient.
    """

    name = "onnx"

    def infer(self, *specs, **attrs):
        # Its shapes are what the function makes of them: ones have no meaning
        # that could decide them.
        arrays = [None if s is None else np.ones(s.shape, s.dtype) for s in specs]
        results = self._call(arrays, **attrs)
        specs = tuple(None if y is None else Spec(y.shape, y.dtype) for y in results)
        return specs if attrs["wanted"] > 1 else specs[0]

    def compute(self, inputs, attrs, out=None):
        results = self._call(inputs, **attrs)
        if attrs["wanted"] > 1:
            return results
        return results[0] if out is None else fill(out, results[0])

    def reference(self, *arrays, **attrs):
        results = self._call(arrays, **attrs)
        return results if attrs["wanted"] > 1 else results[0]

    @staticmethod
    def _call(arrays, *, op_type, attributes, constants, **context):
        inputs = list(arrays)
        for place, dtype, shape, elements in constants:
            inputs.insert(place, np.array(elements, dtype).reshape(shape))
        with np.errstate(all="ignore"):
            results = TABLE[op_type].call(inputs, dict(attributes), **context)
        return tuple(results)


ONNX_NODE = register(OnnxNode())
