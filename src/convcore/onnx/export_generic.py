"""ONNX nodes of what a network has from a file and no operator here does."""

import numpy as np
from onnx import defs

from .export_writer import OPSET, exports
from .registry import TABLE


@exports("onnx")
def _onnx(writer, node):
    attrs = node.attrs
    kind, entry = attrs["op_type"], TABLE[attrs["op_type"]]
    schema = _schema(kind, attrs["opset"], entry)
    inputs = writer.names(node.inputs)
    for place, dtype, shape, elements in attrs["constants"]:
        array = np.array(elements, dtype).reshape(shape)
        inputs.insert(place, writer.constant(array, dtype))
    attributes = dict(attrs["attributes"])
    # What became an input since is given as one.
    for name in [name for name in attributes if name not in schema.attributes]:
        place = entry.inputs.index(name)
        inputs += [""] * (place + 1 - len(inputs))
        value = np.asarray(attributes.pop(name))
        inputs[place] = writer.constant(value, value.dtype)
    outputs = [writer.name(y) for y in node.outputs]
    writer.add(kind, inputs, outputs, **attributes)


def _schema(kind, opset, entry):
    """The operator in the opset that is written; it must mean the same there."""
    try:
        schema = defs.get_schema(kind, OPSET)
        old = defs.get_schema(kind, opset)
    except defs.SchemaError:
        raise ValueError(f"opset {OPSET} has no {kind}") from None
    if old.since_version != schema.since_version and "opset" in entry.context:
        raise ValueError(f"{kind} of opset {opset} has another meaning in {OPSET}")
    return schema


@exports("maximum", "minimum")
def _extreme(writer, node):
    kind = {"maximum": "Max", "minimum": "Min"}[node.op.name]
    writer.add(kind, writer.names(node.inputs), node.outputs[0])
