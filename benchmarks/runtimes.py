"""Programs that run a whole network, each at its best: the sides of `infer`.

A side has a name, a version and `load(folder, x)`: a function without arguments
that computes the network of the files in that folder for the batch x, arrays in
and arrays out. The files are written by `write`, one for each format.
"""

import importlib.util
import os
from contextlib import contextmanager

import numpy as np


def write(folder, network):
    """The files of a network: ours, ONNX, and torch's if there is torch."""
    import convcore as cc

    model = cc.Model(getattr(cc.models, network.name)(), network.shape)
    _draw(model)
    model.save(folder / "model.safetensors")
    model.export_onnx(folder / "model.onnx")
    if importlib.util.find_spec("torch"):
        import torch

        from . import torch_twins

        twin = torch_twins.make(network.name)
        torch_twins.copy(model, twin)
        example = torch.zeros(1, *network.shape)
        traced = torch.jit.trace(twin.float().eval(), example)
        traced.save(str(folder / "model.pt"))


def _draw(model):
    """Weights with which every layer's results are as large as the ones before."""
    rng = np.random.default_rng(0)
    state = model.state_dict()
    for x in state.values():
        if x.ndim > 1:
            rng.standard_normal(out=x, dtype=x.dtype)
            x *= (2 * len(x) / x.size) ** 0.5
    model.load_state_dict(state)


class Convcore:
    name = "convcore"

    def __init__(self, threads):
        import convcore

        convcore.set_num_threads(threads)
        self.version = f"convcore {convcore.__version__}"

    def load(self, folder, x):
        from convcore.frozen import FrozenModel

        model = FrozenModel.load(folder / "model.safetensors")
        return lambda: model.predict(x)


class Torch:
    """The network as its author runs it, in one memory layout."""

    def __init__(self, threads, layout="first", compiled=False):
        import torch

        torch.set_num_threads(threads)
        self.name = f"torch {'frozen ' if compiled else ''}{layout}"
        self.version = f"torch {torch.__version__}"
        self.torch, self.layout, self.compiled = torch, layout, compiled

    def load(self, folder, x):
        torch = self.torch
        network = torch.jit.load(str(folder / "model.pt")).eval()
        x = torch.from_numpy(x)
        if self.layout == "last":
            network = network.to(memory_format=torch.channels_last)
            x = x.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            if self.compiled:
                network = torch.jit.optimize_for_inference(network)
            for _ in range(3):  # the first calls specialise it
                network(x)

        def call():
            with torch.inference_mode():
                return network(x).numpy()

        return call


class OnnxRuntime:
    name = "onnxruntime"

    def __init__(self, threads, cpus=()):
        import onnxruntime

        self.version = f"onnxruntime {onnxruntime.__version__}"
        self.runtime, self.threads, self.cpus = onnxruntime, threads, cpus

    def load(self, folder, x):
        options = self.runtime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        # Threads that spin would take the CPUs from the sides that come next.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if self.cpus and self.threads > 1:  # but the caller's; counted from 1
            bound = ";".join(str(cpu + 1) for cpu in self.cpus[1 : self.threads])
            options.add_session_config_entry(
                "session.intra_op_thread_affinities", bound
            )
        path, providers = str(folder / "model.onnx"), ["CPUExecutionProvider"]
        session = self.runtime.InferenceSession(path, options, providers)
        feed = {session.get_inputs()[0].name: x}
        return lambda: session.run(None, feed)[0]


class OpenVino:
    name = "openvino"

    def __init__(self, threads):
        import openvino

        self.version = f"openvino {openvino.__version__.split('-')[0]}"
        self.openvino, self.threads = openvino, threads

    def load(self, folder, x):
        core = self.openvino.Core()
        model = core.read_model(folder / "model.onnx")
        model.reshape(x.shape)
        options = {
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        request = core.compile_model(model, "CPU", options).create_infer_request()
        feed = [x]
        options = {"share_inputs": True, "share_outputs": True}
        return lambda: request.infer(feed, **options)[0]


@contextmanager
def unbound(cpus):
    """Let threads that begin in here use these CPUs, all of them.

    OpenMP binds the caller to the first one, and libraries with threads of their
    own would have them all there.
    """
    if not cpus:
        yield
        return
    bound = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, bound)


def makers(cpus=()):
    """Functions of a number of threads that make the sides that can be had here.

    The threads have these CPUs, or any.
    """
    found = {"convcore": Convcore}
    if importlib.util.find_spec("torch"):
        for layout in ("first", "last"):
            found[f"torch {layout}"] = lambda n, way=layout: Torch(n, way)
            found[f"torch frozen {layout}"] = lambda n, way=layout: Torch(n, way, True)
    if importlib.util.find_spec("onnxruntime"):
        found["onnxruntime"] = lambda n: OnnxRuntime(n, cpus)
    if importlib.util.find_spec("openvino"):
        found["openvino"] = OpenVino
    return found
