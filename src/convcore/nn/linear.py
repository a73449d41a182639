"""Linear layers."""

from .. import functional as F
from ..ops.window import integer
from .initial import uniform
from .module import Module

__all__ = ["Linear"]


class Linear(Module):
    """``x @ weight.T + bias`` of x (N, ..., in_features), as torch.nn.Linear."""

    def __init__(self, in_features, out_features, bias=True):
        in_features = integer(in_features, "in_features", 1)
        out_features = integer(out_features, "out_features", 1)
        self.weight = uniform((out_features, in_features), in_features)
        self.bias = uniform((out_features,), in_features) if bias else None

    def forward(self, x):
        return F.linear(x, self.weight, self.bias)
