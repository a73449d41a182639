"""Models as ONNX files: the nodes of the graph, each as one ONNX node or a few."""

from onnx import TensorProto, helper, numpy_helper, save

from ..ops.base import spec_of
from . import (  # noqa: F401 (they enter their operators)
    export_elementwise,
    export_generic,
    export_layers,
    export_pooling,
    export_shape,
)
from .export_writer import EXPORTERS, OPSET, Writer

IR_VERSION = 10  # the one that came with the opset


def export(graph, tensors, path):
    """Write a graph and its parameters to an ONNX file.

    The first dimension of inputs and outputs is "N", of any size.

    Parameters
    ----------
    graph : Graph
        For inference.
    tensors : dict of str -> ndarray
        Parameters by state_dict key.
    path : path-like

    Raises
    ------
    ValueError
        For an operator that ONNX has not, named with its node.
    """
    writer = Writer(graph)
    for node in graph.nodes:
        _export_node(writer, node)
    for name, value in graph.outputs.items():
        writer.output(name, value)

    used = {name for node in writer.nodes for name in node.input}
    initializers = [
        numpy_helper.from_array(tensors[key], writer.name(value))
        for value, key in writer.keys.items()
        if writer.name(value) in used
    ]
    proto = helper.make_graph(
        writer.nodes,
        "convcore",
        [_declared(writer.name(x), x, graph) for x in graph.inputs],
        [_declared(name, y, graph) for name, y in graph.outputs.items()],
        initializers + writer.constants,
    )
    model = helper.make_model(
        proto,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="convcore",
    )
    save(model, path)


def _export_node(writer, node):
    exporter = EXPORTERS.get(node.op.name)
    name = node.outputs[0].name or "without a name"
    if exporter is None:
        raise ValueError(
            f"{node.op.name} ({name}) has no operator in ONNX; "
            f"exported are {', '.join(sorted(EXPORTERS))}"
        )
    try:
        exporter(writer, node)
    except ValueError as error:
        raise ValueError(f"{node.op.name} ({name}): {error}") from None


def _declared(name, value, graph):
    """Name, dtype and shape of an input or output, of any number of samples."""
    shape, dtype = spec_of(value)
    dims = list(shape)
    if graph.batched and dims and dims[0] == graph.batch:
        dims[0] = "N"
    kind = TensorProto.DataType.Value(_KINDS.get(dtype.name, dtype.name.upper()))
    return helper.make_tensor_value_info(name, kind, dims)


_KINDS = {"float32": "FLOAT", "float64": "DOUBLE"}
