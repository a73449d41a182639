"""ONNX nodes of functions of each element."""

from math import prod

from .elementwise import ROWS
from .export_writer import OPSET, exports


def _export_row(row):
    @exports(row.ours)
    def export(writer, node):
        given = {
            theirs: node.attrs[ours] for ours, (theirs, _) in row.attributes.items()
        }
        names = writer.names(node.inputs)
        writer.add(row.onnx, names, node.outputs[0], **given, **row.fixed)


for _row in ROWS:
    if _row.since <= OPSET:
        _export_row(_row)


def activation(writer, name, dtype):
    """The steps of an activation that is part of a layer; none for None."""
    if name is None:
        return []
    if name == "relu":
        return [("Relu", [None], {})]
    return [("Clip", [None, writer.constant(0, dtype), writer.constant(6, dtype)], {})]


@exports("relu6", "hardtanh")
def _clip(writer, node):
    low, high = node.attrs.get("min_val", 0.0), node.attrs.get("max_val", 6.0)
    (x,) = node.inputs
    bounds = [writer.constant(bound, x.dtype) for bound in (low, high)]
    writer.add("Clip", [writer.name(x), *bounds], node.outputs[0])


@exports("silu")
def _silu(writer, node):
    (x,) = writer.names(node.inputs)
    writer.chain([("Sigmoid", [x], {}), ("Mul", [x, None], {})], node.outputs[0])


@exports("softplus")
def _softplus(writer, node):
    # Beyond the threshold the function differs from the line by less than a digit.
    (x,) = node.inputs
    beta = writer.constant(node.attrs["beta"], x.dtype)
    steps = [("Mul", [writer.name(x), beta], {}), ("Softplus", [None], {})]
    writer.chain([*steps, ("Div", [None, beta], {})], node.outputs[0])


@exports("logsigmoid")
def _logsigmoid(writer, node):
    steps = [("Neg", writer.names(node.inputs), {}), ("Softplus", [None], {})]
    writer.chain([*steps, ("Neg", [None], {})], node.outputs[0])


@exports("square")
def _square(writer, node):
    writer.add("Mul", 2 * writer.names(node.inputs), node.outputs[0])


@exports("power")
def _power(writer, node):
    (x,) = node.inputs
    exponent = writer.constant(node.attrs["exponent"], x.dtype)
    writer.add("Pow", [writer.name(x), exponent], node.outputs[0])


@exports("prelu")
def _prelu(writer, node):
    x, weight = node.inputs
    shape = (prod(weight.shape), *(1,) * (x.ndim - 2))
    slope = writer.add("Reshape", [writer.name(weight), writer.ints(*shape)])
    writer.add("PRelu", [writer.name(x), slope], node.outputs[0])


def _along(kind):
    def export(writer, node):
        names = writer.names(node.inputs)
        writer.add(kind, names, node.outputs[0], axis=node.attrs["dim"])

    return export


exports("softmax")(_along("Softmax"))
exports("log_softmax")(_along("LogSoftmax"))
