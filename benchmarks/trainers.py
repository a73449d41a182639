"""Programs that train a network, each at its best: the sides of `train`.

A side has a name, a version and `load(network, batch)`: a function without
arguments that makes one step of SGD with momentum on the same batch and gives
its loss. `python -m benchmarks.trainers SIDE NETWORK BATCH` prints the peak
resident memory, in MB, of a process that makes a few steps on one thread.
"""

import importlib.util
import sys

import numpy as np

LR, MOMENTUM = 1e-3, 0.9
SHAPES = {"lenet5": (1, 28, 28)}
IMAGE = (3, 224, 224)


def batch_of(network, size):
    """Images and classes."""
    rng = np.random.default_rng(size)
    shape = SHAPES.get(network, IMAGE)
    return rng.standard_normal((size, *shape), np.float32), np.arange(size) % 10


class Convcore:
    name = "convcore"

    def __init__(self, threads):
        import convcore

        convcore.set_num_threads(threads)
        self.version = f"convcore {convcore.__version__}"

    def load(self, network, size):
        from convcore import Model, models, optim

        x, y = batch_of(network, size)
        model = Model(getattr(models, network)(), x.shape[1:])
        optimizer = optim.SGD(lr=LR, momentum=MOMENTUM)
        return lambda: model.train_step(x, y, optimizer=optimizer)


class Torch:
    """Eager, in one memory layout, with the optimizer in one pass."""

    def __init__(self, threads, layout="first"):
        import torch

        torch.set_num_threads(threads)
        self.name = f"torch {layout}"
        self.version = f"torch {torch.__version__}"
        self.torch, self.layout = torch, layout

    def load(self, network, size):
        from . import torch_twins

        torch = self.torch
        twin = torch_twins.make(network).float().train()
        x, y = map(torch.from_numpy, batch_of(network, size))
        if self.layout == "last":
            twin = twin.to(memory_format=torch.channels_last)
            x = x.contiguous(memory_format=torch.channels_last)
        parameters = twin.parameters()
        optimizer = torch.optim.SGD(parameters, LR, momentum=MOMENTUM, fused=True)

        def step():
            optimizer.zero_grad()
            loss, _ = torch_twins.loss(twin, x, y)
            loss.backward()
            optimizer.step()
            return loss.item()

        return step


def makers():
    """Functions of a number of threads that make the sides that can be had here."""
    found = {"convcore": Convcore}
    if importlib.util.find_spec("torch"):
        for layout in ("first", "last"):
            found[f"torch {layout}"] = lambda n, way=layout: Torch(n, way)
    return found


def main(name, network, size):
    from .resident import peak

    step = makers()[name](1).load(network, int(size))
    for _ in range(3):
        step()
    print(peak())


if __name__ == "__main__":
    main(*sys.argv[1:])
