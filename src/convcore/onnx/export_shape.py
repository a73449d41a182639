"""ONNX nodes of arithmetic, reductions, and what moves or joins elements."""

import numpy as np

from ..ops.interpolate import LINEAR
from .export_writer import exports

_LEAST = np.iinfo(np.int64).min


@exports("add", "sub", "mul", "div")
def _binary(writer, node):
    dtype = node.outputs[0].dtype
    inputs = [
        writer.constant(node.attrs["scalar"], dtype) if x is None else writer.name(x)
        for x in node.inputs
    ]
    writer.add(node.op.name.capitalize(), inputs, node.outputs[0])


@exports("matmul")
def _matmul(writer, node):
    writer.add("MatMul", writer.names(node.inputs), node.outputs[0])


@exports("embedding")
def _embedding(writer, node):
    x, weight = node.inputs
    writer.add("Gather", writer.names([weight, x]), node.outputs[0])


@exports("sum", "mean", "amax")
def _reduce(writer, node):
    kind = {"sum": "ReduceSum", "mean": "ReduceMean", "amax": "ReduceMax"}
    (x,), attrs = node.inputs, node.attrs
    writer.add(
        kind[node.op.name],
        [writer.name(x), writer.ints(*attrs["dim"])],
        node.outputs[0],
        keepdims=int(attrs["keepdim"]),
    )


@exports("reshape")
def _reshape(writer, node):
    (x,), shape = node.inputs, node.attrs["shape"]
    writer.add("Reshape", [writer.name(x), writer.ints(*shape)], node.outputs[0])


@exports("rearrange")
def _rearrange(writer, node):
    (x,), (y,), attrs = node.inputs, node.outputs, node.attrs
    name, order = writer.name(x), attrs["order"]
    asked = [part for parts in attrs["split"] for part in parts]
    splits, merges = len(asked) != x.ndim, len(order) != y.ndim
    lengths = []
    for n, parts in zip(x.shape, attrs["split"], strict=True):
        known = int(np.prod([p for p in parts if p != -1]))
        lengths += (n // known if p == -1 else p for p in parts)
    if splits:
        name = writer.add("Reshape", [name, writer.ints(*_open(lengths, asked))])
    turned = writer.add("Transpose", [name], None if merges else y, perm=order)
    if merges:
        first = [-1] if order[0] == 0 and asked[0] == -1 else [y.shape[0]]
        writer.add("Reshape", [turned, writer.ints(*first, *y.shape[1:])], y)


def _open(shape, asked):
    """A shape whose first dimension is left open where it was asked for as -1."""
    return [-1, *shape[1:]] if len(asked) and asked[0] == -1 else list(shape)


@exports("cat")
def _cat(writer, node):
    names, axis = writer.names(node.inputs), node.attrs["dim"]
    writer.add("Concat", names, node.outputs[0], axis=axis)


@exports("narrow")
def _narrow(writer, node):
    attrs = node.attrs
    stop = attrs["start"] + attrs["length"]
    _slice(writer, node, attrs["dim"], attrs["start"], stop, 1)


@exports("slice")
def _strided(writer, node):
    attrs = dict(node.attrs)
    if attrs["stop"] < 0:  # past the first element, backwards
        attrs["stop"] = _LEAST
    _slice(writer, node, **attrs)


def _slice(writer, node, dim, start, stop, step):
    where = [writer.ints(n) for n in (start, stop, dim, step)]
    (x,) = node.inputs
    writer.add("Slice", [writer.name(x), *where], node.outputs[0])


@exports("pad")
def _pad(writer, node):
    (x,), attrs = node.inputs, node.attrs
    modes = {"replicate": "edge", "circular": "wrap"}
    befores, afters = zip(*attrs["pad"], strict=True)
    inputs = [writer.name(x), writer.ints(*befores, *afters)]
    if attrs["mode"] == "constant":
        inputs.append(writer.constant(attrs["value"], x.dtype))
    mode = modes.get(attrs["mode"], attrs["mode"])
    writer.add("Pad", inputs, node.outputs[0], mode=mode)


@exports("interpolate")
def _interpolate(writer, node):
    (x,), (y,), attrs = node.inputs, node.outputs, node.attrs
    size, mode, corners = attrs["size"], attrs["mode"], attrs["align_corners"]
    if mode == "area":
        raise ValueError("mode='area' has no equal; use adaptive_avg_pool")
    space = x.shape[2:]
    options = {
        "nearest": {"nearest_mode": "floor"},
        "nearest-exact": {"nearest_mode": "round_prefer_ceil"},
        "bicubic": {"cubic_coeff_a": -0.75},
    }.get(mode, {})
    kind = "linear" if mode in LINEAR else "cubic" if mode == "bicubic" else "nearest"
    where = "asymmetric" if mode == "nearest" else "half_pixel"
    inputs = [writer.name(x), "", "", writer.ints(*size)]
    by_size = [n / m for n, m in zip(space, size, strict=True)]
    if not corners and list(attrs["scale"]) != by_size:
        factors = [1 / step for step in attrs["scale"]]
        inputs[2:] = [writer.constant(factors, np.float32)]
    writer.add(
        "Resize",
        inputs,
        y,
        mode=kind,
        axes=range(2, x.ndim),
        coordinate_transformation_mode="align_corners" if corners else where,
        **options,
    )
