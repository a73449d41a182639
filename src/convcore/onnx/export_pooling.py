"""ONNX nodes of pooling."""

from math import prod

from .export_writer import exports, window


def _with_last_windows(x, y, ceil_mode, kernel, stride, padding, dilation):
    """Padding with which the last windows of ceil mode end inside it: runtimes do
    not agree on which windows there are."""
    if not ceil_mode:
        return padding
    return tuple(
        (before, max(after, (out - 1) * s + d * (k - 1) + 1 - n - before))
        for n, out, k, s, (before, after), d in zip(
            x.shape[2:], y.shape[2:], kernel, stride, padding, dilation, strict=True
        )
    )


@exports("max_pool")
def _max_pool(writer, node):
    (x,), (y, indices), attrs = node.inputs, node.outputs, dict(node.attrs)
    if indices is not None and attrs.pop("index_dtype") != "uint8":
        raise ValueError("positions of maxima within their plane are not in ONNX")
    attrs.pop("index_dtype", None)
    attrs["padding"] = _with_last_windows(x, y, **attrs)
    del attrs["ceil_mode"]
    writer.add("MaxPool", [writer.name(x)], y, **window(**attrs))


@exports("avg_pool")
def _avg_pool(writer, node):
    (x,), (y,), attrs = node.inputs, node.outputs, dict(node.attrs)
    divisor, counts_padding = attrs.pop("divisor"), attrs.pop("count_include_pad")
    padding = attrs["padding"]
    whole = _with_last_windows(x, y, **attrs)
    del attrs["ceil_mode"]
    name = writer.name(x)
    if not divisor and counts_padding and whole != padding:
        # What lies beyond the padding does not count, the padding does.
        name = _padded(writer, name, padding, x.dtype)
        whole = tuple(
            (0, after - own)
            for (_, after), (_, own) in zip(whole, padding, strict=True)
        )
        counts_padding = False
    attrs["padding"] = whole
    include = int(bool(divisor or counts_padding))
    pool = ("AveragePool", [name], {"count_include_pad": include, **window(**attrs)})
    steps = [pool]
    if divisor:
        factor = writer.constant(prod(attrs["kernel"]) / divisor, x.dtype)
        steps.append(("Mul", [None, factor], {}))
    writer.chain(steps, y)


def _padded(writer, name, padding, dtype):
    befores, afters = zip(*padding, strict=True)
    pads = writer.ints(0, 0, *befores, 0, 0, *afters)
    return writer.add("Pad", [name, pads, writer.constant(0, dtype)])


@exports("adaptive_avg_pool")
def _adaptive_avg_pool(writer, node):
    _adaptive(writer, node, node.attrs["out"], "Average", "ReduceMean")


@exports("adaptive_max_pool")
def _adaptive_max_pool(writer, node):
    _adaptive(writer, node, node.attrs["size"], "Max", "ReduceMax")


def _adaptive(writer, node, sizes, kind, reduction):
    """Windows that divide the input into `sizes`, whole or one by one."""
    (x,), y = node.inputs, node.outputs[0]
    space = x.shape[2:]
    if all(n == 1 for n in sizes):
        writer.add(f"Global{kind}Pool", [writer.name(x)], y)
        return
    if all(n % out == 0 for n, out in zip(space, sizes, strict=True)):
        kernel = tuple(n // out for n, out in zip(space, sizes, strict=True))
        window = {"kernel_shape": kernel, "strides": kernel}
        writer.add(f"{kind}Pool", [writer.name(x)], y, **window)
        return
    name = writer.name(x)
    for axis, (n, out) in enumerate(zip(space, sizes, strict=True), 2):
        parts = []
        for i in range(out):
            bounds = i * n // out, -((i + 1) * n // -out)
            part = writer.add(
                "Slice", [name, *(writer.ints(v) for v in (*bounds, axis))]
            )
            parts.append(writer.add(reduction, [part, writer.ints(axis)]))
        last = axis == len(space) + 1
        name = writer.add("Concat", parts, y if last else None, axis=axis)
