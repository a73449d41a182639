"""The interface of the ONNX project: models and nodes, run on arrays.

Functions and classes are those of `onnx.backend.base`, so that its test suite
runs against this module. Operators run one by one, with the compiled functions
of this package where there are, on whatever shapes and dtypes they get; `load`
is for networks, which it makes faster and trainable.
"""

import numpy as np
import onnx
import onnx.shape_inference
from onnx.backend import base

from .program import Eager, program


class Representation(base.BackendRep):
    """A model that is ready to run."""

    def __init__(self, model):
        self._program = program(model)

    def run(self, inputs, **kwargs):
        """Outputs of the inputs: a tuple of arrays.

        Parameters
        ----------
        inputs : dict of str -> array, sequence of arrays, or array
        """
        if not isinstance(inputs, dict):
            arrays = inputs if isinstance(inputs, list | tuple) else [inputs]
            names = [x.name for x in self._program.inputs]
            inputs = dict(zip(names, arrays, strict=False))
        results = self._program.run(inputs, Eager())
        # Arrays of their own: some operators give views, of inputs too.
        return tuple(y.copy() if isinstance(y, np.ndarray) else y for y in results)


class Backend(base.Backend):
    """Runs ONNX models with this package."""

    @classmethod
    def prepare(cls, model, device="CPU", **kwargs):
        """The model, ready to run; ValueError where it cannot be."""
        super().prepare(model, device, **kwargs)  # checks it
        return Representation(model)

    @classmethod
    def run_node(cls, node, inputs, device="CPU", outputs_info=None, **kwargs):
        """Outputs of one node, of the newest opset or ``opset_version=``."""
        arrays = inputs if isinstance(inputs, list | tuple) else [inputs]
        given = [name for name in node.input if name]
        graph = onnx.helper.make_graph(
            [node],
            "node",
            [
                onnx.helper.make_tensor_value_info(
                    name, onnx.helper.np_dtype_to_tensor_dtype(x.dtype), x.shape
                )
                for name, x in zip(given, arrays, strict=True)
            ],
            [onnx.ValueInfoProto(name=name) for name in node.output if name],
        )
        version = kwargs.get("opset_version", onnx.defs.onnx_opset_version())
        opset = onnx.helper.make_opsetid(node.domain, version)
        model = onnx.helper.make_model(graph, opset_imports=[opset])
        model = onnx.shape_inference.infer_shapes(model)  # types of the outputs
        return cls.prepare(model, device).run(list(arrays))

    @classmethod
    def supports_device(cls, device):
        """Whether this is the CPU."""
        return device.split(":")[0] == "CPU"


is_compatible = Backend.is_compatible
prepare = Backend.prepare
run_model = Backend.run_model
run_node = Backend.run_node
supports_device = Backend.supports_device
