"""ONNX nodes of layers: convolution, linear and normalisation."""

from math import prod

import numpy as np

from .export_elementwise import activation
from .export_writer import exports, window


@exports("conv")
def _conv(writer, node):
    x, weight, bias, *residual = node.inputs
    where = {key: node.attrs[key] for key in ("stride", "padding", "dilation")}
    attributes = {"group": node.attrs["groups"], **window(weight.shape[2:], **where)}
    steps = [
        ("Conv", writer.names([x, weight, bias]), attributes),
        *(("Add", [None, writer.name(r)], {}) for r in residual),
        *activation(writer, node.attrs["activation"], x.dtype),
    ]
    writer.chain(steps, node.outputs[0])


@exports("conv_backward_data")
def _conv_transpose(writer, node):
    (x, weight), (y,), attrs = node.inputs, node.outputs, node.attrs
    where = {key: attrs[key] for key in ("stride", "padding", "dilation")}
    extra = [
        n - ((m - 1) * s - before - after + d * (k - 1) + 1)
        for n, m, k, s, (before, after), d in zip(
            attrs["size"], x.shape[2:], weight.shape[2:], *where.values(), strict=True
        )
    ]
    writer.add(
        "ConvTranspose",
        writer.names([x, weight]),
        y,
        group=attrs["groups"],
        output_padding=extra,
        **window(weight.shape[2:], **where),
    )


@exports("linear")
def _linear(writer, node):
    x, weight, bias = node.inputs
    steps = [("Gemm", writer.names([x, weight, bias]), {"transB": 1})]
    if x.ndim != 2:
        turned = writer.add("Transpose", [writer.name(weight)], perm=(1, 0))
        steps = [("MatMul", [writer.name(x), turned], {})]
        if bias is not None:
            steps.append(("Add", [None, writer.name(bias)], {}))
    steps += activation(writer, node.attrs["activation"], x.dtype)
    writer.chain(steps, node.outputs[0])


@exports("batch_norm")
def _batch_norm(writer, node):
    x, weight, bias, mean, var, *residual = node.inputs
    if node.attrs["training"]:
        raise ValueError("the statistics of a batch are for training")
    c, dtype = x.shape[1], x.dtype
    inputs = [
        writer.name(x),
        writer.name(weight) or writer.constant(np.ones(c), dtype),
        writer.name(bias) or writer.constant(np.zeros(c), dtype),
        *writer.names([mean, var]),
    ]
    steps = [
        ("BatchNormalization", inputs, {"epsilon": node.attrs["eps"]}),
        *(("Add", [None, writer.name(r)], {}) for r in residual),
        *activation(writer, node.attrs["activation"], dtype),
    ]
    writer.chain(steps, node.outputs[0])


@exports("group_norm")
def _group_norm(writer, node):
    x, weight, bias = node.inputs
    c = x.shape[1]
    writer.add(
        "GroupNormalization",
        [
            writer.name(x),
            writer.name(weight) or writer.constant(np.ones(c), x.dtype),
            writer.name(bias) or writer.constant(np.zeros(c), x.dtype),
        ],
        node.outputs[0],
        num_groups=node.attrs["groups"],
        epsilon=node.attrs["eps"],
    )


@exports("local_response_norm")
def _local_response_norm(writer, node):
    (x,), (y,), attrs = node.inputs, node.outputs, node.attrs
    size, alpha, beta, k = (attrs[key] for key in ("size", "alpha", "beta", "k"))
    name = writer.name(x)
    if size % 2:
        writer.add("LRN", [name], y, size=size, alpha=alpha, beta=beta, bias=k)
        return
    # Of an even number ONNX has the odd one after, and onnxruntime nothing.
    c, dtype = x.shape[1], x.dtype
    steps = [
        ("Mul", [name, name], {}),
        ("Reshape", [None, writer.ints(-1, 1, c, prod(x.shape[2:]))], {}),
        (
            "AveragePool",
            [None],
            {
                "kernel_shape": (size, 1),
                "pads": (size // 2, 0, size // 2 - 1, 0),
                "count_include_pad": 1,
            },
        ),
        ("Reshape", [None, writer.ints(-1, *x.shape[1:])], {}),
        ("Mul", [None, writer.constant(alpha, dtype)], {}),
        ("Add", [None, writer.constant(k, dtype)], {}),
        ("Pow", [None, writer.constant(beta, dtype)], {}),
        ("Div", [name, None], {}),
    ]
    writer.chain(steps, y)
