"""Activations. `inplace` is accepted, and of no effect: plans see to it."""

from .. import functional as F
from ..graph import Parameter
from ..ops.window import integer
from .module import FunctionModule, Module

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "SELU",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "LogSoftmax",
    "Mish",
    "PReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
]


class _Activation(FunctionModule):
    def __init__(self, inplace=False):
        super().__init__()


class ReLU(_Activation):
    """max(x, 0), as torch.nn.ReLU."""

    function = F.relu


class ReLU6(_Activation):
    """min(max(x, 0), 6), as torch.nn.ReLU6."""

    function = F.relu6


class SiLU(_Activation):
    """x * sigmoid(x), as torch.nn.SiLU."""

    function = F.silu


class Mish(_Activation):
    """x * tanh(softplus(x)), as torch.nn.Mish."""

    function = F.mish


class SELU(_Activation):
    """Scaled exponential linear unit, as torch.nn.SELU."""

    function = F.selu


class Hardsigmoid(_Activation):
    """x / 6 + 1 / 2 between 0 and 1, as torch.nn.Hardsigmoid."""

    function = F.hardsigmoid


class Hardswish(_Activation):
    """x * hardsigmoid(x), as torch.nn.Hardswish."""

    function = F.hardswish


class Sigmoid(FunctionModule):
    """1 / (1 + exp(-x)), as torch.nn.Sigmoid."""

    function = F.sigmoid


class LogSigmoid(FunctionModule):
    """log(sigmoid(x)), as torch.nn.LogSigmoid."""

    function = F.logsigmoid


class Tanh(FunctionModule):
    """Hyperbolic tangent, as torch.nn.Tanh."""

    function = F.tanh


class LeakyReLU(FunctionModule):
    """x, or negative_slope * x where it is negative, as torch.nn.LeakyReLU."""

    function = F.leaky_relu

    def __init__(self, negative_slope=0.01, inplace=False):
        super().__init__(negative_slope=negative_slope)


class ELU(FunctionModule):
    """Exponential linear unit, as torch.nn.ELU."""

    function = F.elu

    def __init__(self, alpha=1.0, inplace=False):
        super().__init__(alpha=alpha)


class CELU(FunctionModule):
    """Continuously differentiable exponential linear unit, as torch.nn.CELU."""

    function = F.celu

    def __init__(self, alpha=1.0, inplace=False):
        super().__init__(alpha=alpha)


class GELU(FunctionModule):
    """Gaussian error linear unit, as torch.nn.GELU."""

    function = F.gelu

    def __init__(self, approximate="none"):
        super().__init__(approximate=approximate)


class Softplus(FunctionModule):
    """log(1 + exp(beta * x)) / beta, as torch.nn.Softplus."""

    function = F.softplus

    def __init__(self, beta=1.0, threshold=20.0):
        super().__init__(beta=beta, threshold=threshold)


class Hardtanh(FunctionModule):
    """x between min_val and max_val, as torch.nn.Hardtanh."""

    function = F.hardtanh

    def __init__(self, min_val=-1.0, max_val=1.0, inplace=False):
        super().__init__(min_val=min_val, max_val=max_val)


class Softmax(FunctionModule):
    """Softmax along a dimension, as torch.nn.Softmax."""

    function = F.softmax

    def __init__(self, dim):
        super().__init__(dim=dim)


class LogSoftmax(FunctionModule):
    """Logarithm of the softmax along a dimension, as torch.nn.LogSoftmax."""

    function = F.log_softmax

    def __init__(self, dim):
        super().__init__(dim=dim)


class PReLU(Module):
    """x, or weight * x where it is negative, as torch.nn.PReLU."""

    def __init__(self, num_parameters=1, init=0.25):
        count = integer(num_parameters, "num_parameters", 1)
        self.weight = Parameter([float(init)] * count)

    def forward(self, x):
        return F.prelu(x, self.weight)
