"""Functions of each element that this package and ONNX both have: a row each.

The rows serve both directions: to read a file, and by `BY_OURS` to write one.
"""

import inspect
from collections.abc import Mapping
from math import prod
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from .. import functional as F
from ..ops import elementwise
from .registry import operator
from .values import is_traced, real, reshape


class Row(NamedTuple):
    """A function of each element.

    Attributes
    ----------
    ours, onnx : str
        The names.
    attributes : dict of str -> (str, value)
        Of each of our parameters the name in ONNX, and the default there.
    fixed : dict of str -> value
        Attributes that an ONNX node must have to be our function.
    since : int
        The first opset that has it.
    """

    ours: str
    onnx: str
    attributes: Mapping = MappingProxyType({})
    fixed: Mapping = MappingProxyType({})
    since: int = 6


# Klambauer et al., 2017.
_SELU = {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875}

ROWS = (
    Row("relu", "Relu"),
    Row("leaky_relu", "LeakyRelu", {"negative_slope": ("alpha", 0.01)}),
    Row("elu", "Elu", {"alpha": ("alpha", 1.0)}),
    Row("selu", "Selu", fixed=_SELU),
    Row("celu", "Celu", {"alpha": ("alpha", 1.0)}, since=12),
    Row("gelu", "Gelu", {"approximate": ("approximate", "none")}, since=20),
    Row("sigmoid", "Sigmoid"),
    Row("tanh", "Tanh"),
    Row("softplus", "Softplus"),
    Row("softsign", "Softsign"),
    Row("hardsigmoid", "HardSigmoid", fixed={"alpha": 1 / 6, "beta": 0.5}),
    Row("hardswish", "HardSwish", since=14),
    Row("mish", "Mish", since=18),
    Row("silu", "Swish", fixed={"alpha": 1.0}, since=24),
    Row("absolute", "Abs"),
    Row("exponential", "Exp"),
    Row("logarithm", "Log"),
    Row("square_root", "Sqrt"),
    Row("reciprocal", "Reciprocal"),
    Row("error_function", "Erf", since=9),
    Row("sine", "Sin", since=7),
    Row("cosine", "Cos", since=7),
)
BY_OURS = {row.ours: row for row in ROWS}


def _enter(row):
    ours = getattr(F, row.ours, None) or getattr(elementwise, row.ours)

    @real
    def function(x, **given):
        parameters = {
            name: given.get(theirs, default)
            for name, (theirs, default) in row.attributes.items()
        }
        return ours(x, **parameters)

    kind = inspect.Parameter.KEYWORD_ONLY
    names = [
        inspect.Parameter(theirs, kind, default=default)
        for theirs, default in row.attributes.values()
    ]
    x = inspect.Parameter("x", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    function.__signature__ = inspect.Signature([x, *names])
    operator(row.onnx)(function)


for _row in ROWS:
    if not _row.fixed:
        _enter(_row)


# Those that are more general in ONNX.


def _is_ours(name, **attributes):
    fixed = BY_OURS[name].fixed
    return all(np.isclose(fixed[key], value) for key, value in attributes.items())


@operator("Selu")
@real
def selu(x, *, alpha=_SELU["alpha"], gamma=_SELU["gamma"]):
    if _is_ours("selu", alpha=alpha, gamma=gamma):
        return F.selu(x)
    return F.mul(F.elu(x, alpha), gamma)


@operator("HardSigmoid")
@real
def hard_sigmoid(x, *, alpha=0.2, beta=0.5):
    if _is_ours("hardsigmoid", alpha=alpha, beta=beta):
        return F.hardsigmoid(x)
    return F.hardtanh(F.add(F.mul(x, float(alpha)), float(beta)), 0.0, 1.0)


@operator("Swish")
@real
def swish(x, *, alpha=1.0):
    if alpha == 1:
        return F.silu(x)
    return F.mul(x, F.sigmoid(F.mul(x, float(alpha))))


@operator("PRelu")
def prelu(x, slope, *, opset=16):
    channels, size = x.shape[1] if x.ndim > 1 else 1, prod(slope.shape)
    if opset < 7 and size == channels:
        slope = reshape(slope, (channels, *(1,) * (x.ndim - 2)))
    if is_traced(x, slope):
        # A slope of each channel, or one of all.
        of_channels = (channels, *(1,) * (x.ndim - 2))
        if size == 1 or slope.shape[-len(of_channels) :] == of_channels:
            return F.prelu(x, reshape(slope, (size,)))
        below = F.mul(F.relu(F.mul(x, -1.0)), slope)
        return F.sub(F.relu(x), below)
    return np.where(x > 0, x, x * slope)
