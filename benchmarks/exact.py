"""Results in float64, to tell the errors of the sides."""

import numpy as np

from .peers import arrays_of
from .shapes import pair


def exact_part(layer, direction):
    """A part of the result (an index of its first axis), and its exact value.

    Of images it is the first and the last; weights' gradients are sums of all.
    """
    import torch

    every = direction == "backward_weight"
    part = slice(None) if every else sorted({0, layer.n - 1})
    arrays = arrays_of(layer, "first")
    x, w, b, dy = (
        torch.from_numpy(arrays[name]).double() for name in ("x", "w", "b", "dy")
    )
    window = pair(layer.stride), pair(layer.padding), (1, 1)
    if direction == "forward":
        return part, torch.conv2d(x[part], w, b, *window, layer.groups).numpy()
    backward = torch.ops.aten.convolution_backward
    mask = [not every, every, False]
    rest = None, *window, False, (0, 0), layer.groups, mask
    return part, backward(dy[part], x[part], w, *rest)[1 if every else 0].numpy()


def errors(calls, part, exact):
    """Largest error of each side, relative to the largest result."""
    found = {}
    for name, call in calls.items():
        y = call()
        y = np.asarray(y.to_dense() if hasattr(y, "to_dense") else y)[part]
        found[name] = float(abs(y - exact).max() / abs(exact).max())
    return found
