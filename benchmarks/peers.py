"""The sides of a comparison.

A side has a name, a version, and `prepare(layer, pass_)`: a function without
arguments that does one pass and returns its main result as (N, C, H, W) or
(K, C, R, S), or None where it has no such pass. Arrays are made beforehand, in
the side's memory layout; results are allocated by every call.
"""

import importlib.util
from functools import lru_cache

import numpy as np

from . import numpy_reference
from .shapes import Conv, aligned, pair


def all_sides(threads):
    """The sides that can be had here; convcore comes first."""
    sides = [Convcore("last", threads), Convcore("first", threads)]
    sides += [Numpy("first"), Numpy("last")]
    if importlib.util.find_spec("torch"):
        sides += [Torch("first", threads), Torch("last", threads)]
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx"):
        sides += [OnnxRuntime(threads)]
    return sides


@lru_cache(maxsize=2)
def arrays_of(layer, layout):
    """Those of the layer, images in this memory layout; shared by the sides."""
    if layout == "first":
        return layer.arrays()
    arrays = dict(arrays_of(layer, "first"))
    for name in ("x", "dy"):
        arrays[name] = channels_last(arrays[name].shape)
        arrays[name][:] = arrays_of(layer, "first")[name]
    return arrays


def channels_last(shape):
    n, c, h, w = shape
    return aligned((n, h, w, c)).transpose(0, 3, 1, 2)


class Convcore:
    def __init__(self, layout, threads):
        import convcore

        convcore.set_num_threads(threads)
        self.name = f"convcore {layout}"
        self.version = f"convcore {convcore.__version__}"
        self.layout = layout
        self.functional = convcore.functional

    def prepare(self, layer, pass_):
        prepare = self._conv if isinstance(layer, Conv) else self._pool
        return prepare(layer, pass_, **arrays_of(layer, self.layout))

    def _conv(self, layer, pass_, x, w, b, dy):
        f = self.functional
        options = {
            "stride": layer.stride,
            "padding": layer.padding,
            "groups": layer.groups,
        }
        if pass_ == "forward":
            return lambda: f.conv2d(x, w, b, **options)
        which = 0 if pass_ == "backward_data" else 1
        options["output_mask"] = (which == 0, which == 1, which == 1)
        return lambda: f.conv2d_backward(dy, x, w, **options)[which]

    def _pool(self, layer, pass_, x, dy):
        f, window = self.functional, (layer.r, layer.stride, layer.padding)
        if layer.kind == "average":
            if pass_ == "forward":
                return lambda: f.avg_pool2d(x, *window)
            return lambda: f.avg_pool2d_backward(dy, x.shape, *window)
        if pass_ == "forward":
            return lambda: f.max_pool2d(x, *window)
        _, indices = f.max_pool2d(x, *window, return_indices=True)
        return lambda: f.max_pool2d_backward(dy, indices, x.shape, *window)


class Numpy:
    def __init__(self, layout):
        blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
        self.name = f"numpy {layout}"
        self.version = f"numpy {np.__version__} ({blas['name']} {blas['version']})"
        self.layout = layout

    def prepare(self, layer, pass_):
        prepare = self._conv if isinstance(layer, Conv) else self._pool
        return prepare(layer, pass_, **arrays_of(layer, self.layout))

    def _conv(self, layer, pass_, x, w, b, dy):
        f, layout = numpy_reference, self.layout
        return {
            "forward": lambda: f.conv_forward(layer, layout, x, w, b),
            "backward_data": lambda: f.conv_backward_data(layer, layout, dy, w),
            "backward_weight": lambda: f.conv_backward_weight(layer, layout, dy, x)[0],
        }[pass_]

    def _pool(self, layer, pass_, x, dy):
        f, layout = numpy_reference, self.layout
        if pass_ == "forward":
            return lambda: f.pool_forward(layer, layout, x)
        y = f.pool_forward(layer, layout, x)
        return lambda: f.pool_backward(layer, layout, dy, x, y)


class Torch:
    def __init__(self, layout, threads):
        import torch

        torch.set_num_threads(threads)
        self.name = f"torch {layout}"
        self.version = f"torch {torch.__version__}"
        self.layout = layout
        self.torch = torch

    def prepare(self, layer, pass_):
        tensors = {
            name: self.torch.from_numpy(array)
            for name, array in arrays_of(layer, self.layout).items()
        }
        prepare = self._conv if isinstance(layer, Conv) else self._pool
        return prepare(layer, pass_, **tensors)

    def _conv(self, layer, pass_, x, w, b, dy):
        stride, padding = pair(layer.stride), pair(layer.padding)
        if self.layout == "last":
            w = w.contiguous(memory_format=self.torch.channels_last)
        if pass_ == "forward":
            convolve = self.torch.conv2d
            return lambda: convolve(x, w, b, stride, padding, 1, layer.groups)
        which = 0 if pass_ == "backward_data" else 1
        mask = [which == 0, which == 1, which == 1]
        rest = ([layer.k], stride, padding, [1, 1], False, [0, 0], layer.groups, mask)
        backward = self.torch.ops.aten.convolution_backward
        return lambda: backward(dy, x, w, *rest)[which]

    def _pool(self, layer, pass_, x, dy):
        aten, pairs = self.torch.ops.aten, [[layer.r] * 2, [layer.stride] * 2]
        window = [*pairs, [layer.padding] * 2]
        if layer.kind == "average":
            options = (*window, False, True, None)
            if pass_ == "forward":
                return lambda: aten.avg_pool2d(x, *options)
            return lambda: aten.avg_pool2d_backward(dy, x, *options)
        if pass_ == "forward":
            return lambda: aten.max_pool2d_with_indices(x, *window)[0]
        indices = aten.max_pool2d_with_indices(x, *window)[1]
        options = (*window, [1, 1], False, indices)
        return lambda: aten.max_pool2d_with_indices_backward(dy, x, *options)


class OnnxRuntime:
    """Forward only; it knows one layout for its inputs."""

    def __init__(self, threads):
        import onnxruntime

        self.name = "onnxruntime"
        self.version = f"onnxruntime {onnxruntime.__version__}"
        self.runtime = onnxruntime
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = threads
        self.options.inter_op_num_threads = 1
        self.options.add_session_config_entry("session.intra_op.allow_spinning", "0")

    def prepare(self, layer, pass_):
        if pass_ != "forward":
            return None
        session, arrays = self.session(layer)
        feed = {"x": arrays["x"]}
        return lambda: session.run(None, feed)[0]

    def session(self, layer):
        arrays = arrays_of(layer, "first")
        model = _onnx_model(layer, arrays)
        providers = ["CPUExecutionProvider"]
        return self.runtime.InferenceSession(model, self.options, providers), arrays


def _onnx_model(layer, arrays):
    """One node as a serialized model; weights are constants, as in a network."""
    from onnx import TensorProto, helper, numpy_helper

    attributes = {
        "kernel_shape": pair(layer.r),
        "strides": pair(layer.stride),
        "pads": pair(layer.padding) * 2,
    }
    constants = []
    if isinstance(layer, Conv):
        kind = "Conv"
        attributes["group"] = layer.groups
        constants = [numpy_helper.from_array(arrays[name], name) for name in "wb"]
    else:
        kind = "MaxPool" if layer.kind == "max" else "AveragePool"
    inputs = ["x", *(constant.name for constant in constants)]
    node = helper.make_node(kind, inputs, ["y"], **attributes)
    shapes = {"x": arrays["x"].shape, "y": arrays["dy"].shape}
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    )
    graph = helper.make_graph([node], "layer", [x], [y], constants)
    opset = [helper.make_opsetid("", 13)]
    return helper.make_model(
        graph, opset_imports=opset, ir_version=8
    ).SerializeToString()
