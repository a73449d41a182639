"""Sides at their best: memory reused and, in inference, weights packed beforehand.

They have passes of a convolution only; see `peers` for what a side is.
"""

import importlib.util

import numpy as np

from .peers import Convcore, OnnxRuntime, Torch, arrays_of, channels_last
from .shapes import aligned, pair


def forward_sides(threads, precision, cpus, runtime):
    """Those that can be had here; the packed convcore comes first.

    onnxruntime runs with arrays that are "bound", by its usual call ("run"), or not
    at all (None).
    """
    sides = [
        ConvcorePacked(threads, precision),
        Convcore("first", threads),
        Torch("first", threads),
        Torch("last", threads),
        TorchPacked(threads),
        TorchMkldnn(threads),
    ]
    if runtime and all(map(importlib.util.find_spec, ("onnxruntime", "onnx"))):
        bound = runtime == "bound"
        sides.append(OnnxRuntimeBound(threads, cpus) if bound else OnnxRuntime(threads))
    return sides


class _ConvcoreDescribed(Convcore):
    """Channels last, into a given array."""

    packed = False

    def __init__(self, threads, precision):
        import convcore
        from convcore import _core

        super().__init__("last", threads)
        convcore.set_float32_precision(precision)
        self.name = "convcore packed" if self.packed else "convcore"
        self.core, self.threads, self.precision = _core, threads, precision

    def describe(self, layer):
        n, c, k, groups = layer.n, layer.c, layer.k, layer.groups
        size, padding = (layer.h, layer.h), (0, *pair(layer.padding))
        axes = [(1, *values) for values in (size, layer.kernel, pair(layer.stride))]
        axes += padding, padding, (1, 1, 1)
        options = {"precision": self.precision, "packed": self.packed}
        return self.core.Conv("float32", "last", n, c, k, groups, *axes, **options)


class ConvcorePacked(_ConvcoreDescribed):
    """As a plan runs it in inference: weights packed beforehand."""

    packed = True

    def prepare(self, layer, pass_):
        arrays = arrays_of(layer, "last")
        conv, bias, threads = self.describe(layer), arrays["b"], self.threads
        packed = self.core.empty_aligned(4 * conv.packed_size(pass_)).view(np.float32)
        conv.pack(pass_, arrays["w"], packed, threads)
        result = channels_last(arrays["dy"].shape)
        x, y = (array.transpose(0, 2, 3, 1) for array in (arrays["x"], result))

        def call():
            conv.forward(x, packed, bias, None, y, threads)
            return result

        return call


class ConvcoreStep(_ConvcoreDescribed):
    """As a training step runs the backward passes: weights change between calls."""

    def prepare(self, layer, pass_):
        arrays = arrays_of(layer, "last")
        conv, threads, w = self.describe(layer), self.threads, arrays["w"]
        x, dy = (arrays[name].transpose(0, 2, 3, 1) for name in ("x", "dy"))
        if pass_ == "backward_data":
            dx = channels_last(arrays["x"].shape)
            target = dx.transpose(0, 2, 3, 1)

            def call():
                conv.backward_data(dy, w, target, threads)
                return dx
        else:
            dw, db = aligned(w.shape), aligned(arrays["b"].shape)

            def call():
                conv.backward_weight(dy, x, dw, db, threads)
                return dw

        return call


class _TorchPrepared(Torch):
    def __init__(self, threads):
        super().__init__("last", threads)
        self.name = f"torch {self.way}"

    def prepare(self, layer, pass_):
        arrays = arrays_of(layer, "last")
        x, w, b = (self.torch.from_numpy(arrays[name]) for name in "xwb")
        window = pair(layer.padding), pair(layer.stride), (1, 1), layer.groups
        return self.prepare_tensors(x, w, b, window)


class TorchPacked(_TorchPrepared):
    """As torch's compiler calls oneDNN when weights are frozen."""

    way = "packed"

    def prepare_tensors(self, x, w, b, window):
        mkldnn = self.torch.ops.mkldnn
        w = w.contiguous(memory_format=self.torch.channels_last)
        packed = mkldnn._reorder_convolution_weight(w, *window, list(x.shape))
        convolve = mkldnn._convolution_pointwise.default
        return lambda: convolve(x, packed, b, *window, "none", [], "")


class TorchMkldnn(_TorchPrepared):
    """As a network converted by `torch.utils.mkldnn`."""

    way = "mkldnn"

    def prepare_tensors(self, x, w, b, window):
        padding, stride, dilation, groups = window
        convolve = self.torch.mkldnn_convolution
        x, c = x.to_mkldnn(), x.shape[1]
        if c >= 16:  # x times 1, to have it as a layer leaves it: in oneDNN's blocks
            one = self.torch.ones(c, 1, 1, 1)
            x = convolve(x, one, None, (0, 0), (1, 1), (1, 1), c)
        reorder = self.torch._C._nn.mkldnn_reorder_conv2d_weight
        packed, b = reorder(w.to_mkldnn(), *window, list(x.shape)), b.to_mkldnn()
        return lambda: convolve(x, packed, b, padding, stride, dilation, groups)


class OnnxRuntimeBound(OnnxRuntime):
    """Input and output bound to arrays, so that nothing is copied."""

    def __init__(self, threads, cpus):
        super().__init__(threads)
        if cpus and threads > 1:  # of the threads but the caller's; counted from 1
            bound = ";".join(str(cpu + 1) for cpu in cpus[1:threads])
            entry = "session.intra_op_thread_affinities"
            self.options.add_session_config_entry(entry, bound)

    def prepare(self, layer, pass_):
        session, arrays = self.session(layer)
        y = aligned(arrays["dy"].shape)
        binding = session.io_binding()
        binding.bind_cpu_input("x", arrays["x"])
        binding.bind_output("y", "cpu", 0, np.float32, y.shape, y.ctypes.data)

        def call():
            session.run_with_iobinding(binding)
            return y

        return call
