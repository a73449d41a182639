"""Operators of ONNX that this package has no operator for: one node for all."""

import numpy as np

from ..ops.base import Operator, Spec, fill, register
from . import operators  # noqa: F401 (enters them in the table)
from .registry import TABLE


class OnnxNode(Operator):
    """A step of NumPy's that calls the function of an ONNX operator.

    Attributes are the operator's name, `opset`, the number of `outputs`, its own
    `attributes` as (name, value) pairs, and those inputs that are `constants`:
    (position, dtype, shape, elements). It has no gradient.
    """

    name = "onnx"

    def infer(self, *specs, **attrs):
        # Its shapes are what the function makes of them: ones have no meaning
        # that could decide them.
        arrays = [None if s is None else np.ones(s.shape, s.dtype) for s in specs]
        results = self._call(arrays, **attrs)
        return _one_or_all(
            [None if y is None else Spec(y.shape, y.dtype) for y in results]
        )

    def compute(self, inputs, attrs, out=None):
        result = self.reference(*inputs, **attrs)
        return result if out is None else fill(out, result)

    def reference(self, *arrays, **attrs):
        return _one_or_all(self._call(arrays, **attrs))

    @staticmethod
    def _call(arrays, *, op_type, opset, outputs, attributes, constants):
        inputs = list(arrays)
        for place, dtype, shape, elements in constants:
            inputs.insert(place, np.array(elements, dtype).reshape(shape))
        context = {"opset": opset, "declared": outputs, "wanted": outputs}
        with np.errstate(all="ignore"):
            return TABLE[op_type].call(inputs, dict(attributes), **context)[:outputs]


def _one_or_all(results):
    return results[0] if len(results) == 1 else tuple(results)


ONNX_NODE = register(OnnxNode())
