"""Activations."""

from .. import functional as F
from .module import FunctionModule

__all__ = ["ReLU", "ReLU6"]


class ReLU(FunctionModule):
    """max(x, 0). `inplace` is accepted, and of no effect: plans see to it."""

    function = F.relu

    def __init__(self, inplace=False):
        super().__init__()


class ReLU6(FunctionModule):
    """min(max(x, 0), 6). `inplace` is accepted, and of no effect."""

    function = F.relu6

    def __init__(self, inplace=False):
        super().__init__()
