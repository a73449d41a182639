"""Functions of each element: a row each, of a definition and its derivative.

The rows are at the end. `elementwise` makes of a row the operator, the operator
of its gradient and the public function.
"""

from __future__ import annotations

import functools
import inspect
import math
from math import prod

import numpy as np

from .. import _core
from .base import apply, as_array, check_same_shape, register
from .compiled import FUNCTION_NUMBERS, Compiled

__all__ = [
    "celu",
    "elu",
    "gelu",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "logsigmoid",
    "mish",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softplus",
    "tanh",
]


def _describe(kind, name, x, parameters):
    """The step of a function that the C library has; text chooses its variant."""
    texts = [p for p in parameters.values() if isinstance(p, str) and p != "none"]
    number = FUNCTION_NUMBERS.get("_".join([name, *texts]))
    if number is None:
        return None
    a, b, *_ = (*(p for p in parameters.values() if not isinstance(p, str)), 0, 0)
    return _core.Step(kind, x.dtype.name, number, prod(x.shape), a, b)


class Elementwise(Compiled):
    """``y = function(x)`` of each element, in the dtype of x."""

    keeps_order = True

    def __init__(self, name, function, derivative):
        self.name = name
        self._function = function
        self._gradient = register(ElementwiseBackward(name, derivative))

    def infer(self, x, **parameters):
        return x

    def describe(self, x, *, last, precision, **parameters):
        return _describe("function_forward", self.name, x, parameters)

    def reference(self, x, **parameters):
        return _quietly(self._function, x, parameters)

    def backward(self, node, dy):
        return (apply(self._gradient, dy, node.inputs[0], **node.attrs),)


class ElementwiseBackward(Compiled):
    """``dx = dy * derivative(x)``."""

    keeps_order = True

    def __init__(self, name, derivative):
        self.name = f"{name}_backward"
        self._of = name
        self._derivative = derivative

    def infer(self, dy, x, **parameters):
        check_same_shape(dy=dy, x=x)
        return dy

    def describe(self, dy, x, *, last, precision, **parameters):
        return _describe("function_backward", self._of, x, parameters)

    def reference(self, dy, x, **parameters):
        return dy * _quietly(self._derivative, x, parameters)


def _quietly(function, x, parameters):
    """The function's values, without warnings where it overflows on the way."""
    with np.errstate(all="ignore"):
        return np.asarray(function(x, **parameters), x.dtype)


def elementwise(derivative, check=None):
    """Make a public function of a definition ``f(x, parameters...)``.

    Parameters
    ----------
    derivative : function of the same arguments
    check : function of the parameters, optional
        Raises when they are wrong.
    """

    def make(function):
        name = function.__name__
        operator = register(Elementwise(name, function, derivative))
        _, *rest = inspect.signature(function).parameters.values()
        defaults = {p.name: p.default for p in rest}

        @functools.wraps(function)
        def public(x, *args, out=None, **kwargs):
            if len(args) > len(defaults) or not kwargs.keys() <= defaults.keys():
                inspect.signature(function).bind(x, *args, **kwargs)  # says what
            given = dict(zip(defaults, args, strict=False))
            parameters = {**defaults, **given, **kwargs}
            for key, value in parameters.items():
                if not isinstance(defaults[key], str):
                    parameters[key] = float(value)
            if check is not None:
                check(**parameters)
            return apply(operator, as_array(x, "x"), out=out, **parameters)

        public.__signature__ = _with_out(inspect.signature(function))
        return public

    return make


def _with_out(signature):
    out = inspect.Parameter("out", inspect.Parameter.KEYWORD_ONLY, default=None)
    return signature.replace(parameters=[*signature.parameters.values(), out])


# ------------------------------------------------------------------------ rows


def _sigmoid(x):
    # Without overflow on either side.
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def _erf(x):
    return np.asarray(np.frompyfunc(math.erf, 1, 1)(x), x.dtype)


def _between(x, low, high, inside):
    """`inside` where low < x < high, else 0; NaN stays NaN."""
    return np.where((x <= low) | (x >= high), 0, inside)


@elementwise(lambda x, negative_slope: np.where(x > 0, 1, negative_slope))
def leaky_relu(x, negative_slope=0.01):
    """``x`` where it is positive, else ``negative_slope * x``."""
    return np.where(x > 0, x, x * negative_slope)


@elementwise(lambda x, alpha: np.where(x > 0, 1, alpha * np.exp(x)))
def elu(x, alpha=1.0):
    """Exponential linear unit (Clevert et al., 2015).

    ``x`` where it is positive, else ``alpha * (exp(x) - 1)``.
    """
    return np.where(x > 0, x, alpha * np.expm1(x))


# Klambauer et al., 2017.
_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


@elementwise(lambda x: _SELU_SCALE * np.where(x > 0, 1, _SELU_ALPHA * np.exp(x)))
def selu(x):
    """Scaled exponential linear unit (Klambauer et al., 2017)."""
    return _SELU_SCALE * np.where(x > 0, x, _SELU_ALPHA * np.expm1(x))


def _check_alpha(alpha):
    if alpha == 0:
        raise ValueError("alpha must not be 0")


@elementwise(lambda x, alpha: np.where(x > 0, 1, np.exp(x / alpha)), _check_alpha)
def celu(x, alpha=1.0):
    """Continuously differentiable exponential linear unit (Barron, 2017).

    ``x`` where it is positive, else ``alpha * (exp(x / alpha) - 1)``.
    """
    return np.where(x > 0, x, alpha * np.expm1(x / alpha))


def _check_approximate(approximate):
    if approximate not in ("none", "tanh"):
        raise ValueError(f"approximate must be 'none' or 'tanh', not {approximate!r}")


_GELU = (2 / np.pi) ** 0.5, 0.044715


def _gelu_derivative(x, approximate):
    if approximate == "tanh":
        scale, cubic = _GELU
        t = np.tanh(scale * (x + cubic * x**3))
        inner = scale * (1 + 3 * cubic * x**2)
        return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * inner
    density = np.exp(-0.5 * x * x) / (2 * np.pi) ** 0.5
    return 0.5 * (1 + _erf(x * 0.5**0.5)) + x * density


@elementwise(_gelu_derivative, _check_approximate)
def gelu(x, approximate="none"):
    """Gaussian error linear unit (Hendrycks and Gimpel, 2016).

    ``x * P(X <= x)`` for a standard normal X, or with ``approximate="tanh"``
    the paper's approximation of it.
    """
    if approximate == "tanh":
        scale, cubic = _GELU
        return 0.5 * x * (1 + np.tanh(scale * (x + cubic * x**3)))
    return 0.5 * x * (1 + _erf(x * 0.5**0.5))


def _silu_derivative(x):
    s = _sigmoid(x)
    return s * (1 + x * (1 - s))


@elementwise(_silu_derivative)
def silu(x):
    """``x * sigmoid(x)``, also known as swish."""
    return x * _sigmoid(x)


def _mish_derivative(x):
    t = np.tanh(np.logaddexp(x, 0))
    return t + x * (1 - t * t) * _sigmoid(x)


@elementwise(_mish_derivative)
def mish(x):
    """``x * tanh(log(1 + exp(x)))`` (Misra, 2019)."""
    return x * np.tanh(np.logaddexp(x, 0))


@elementwise(lambda x: _sigmoid(x) * _sigmoid(-x))
def sigmoid(x):
    """``1 / (1 + exp(-x))``."""
    return _sigmoid(x)


@elementwise(lambda x: _sigmoid(-x))
def logsigmoid(x):
    """``log(1 / (1 + exp(-x)))``."""
    return -np.logaddexp(0, -x)


@elementwise(lambda x: 1 - np.tanh(x) ** 2)
def tanh(x):
    """Hyperbolic tangent."""
    return np.tanh(x)


@elementwise(
    lambda x, beta, threshold: np.where(x * beta > threshold, 1, _sigmoid(x * beta))
)
def softplus(x, beta=1.0, threshold=20.0):
    """``log(1 + exp(beta * x)) / beta``, or ``x`` where ``beta * x > threshold``."""
    return np.where(x * beta > threshold, x, np.logaddexp(x * beta, 0) / beta)


def _check_range(min_val, max_val):
    if min_val > max_val:
        raise ValueError(f"min_val={min_val} is larger than max_val={max_val}")


@elementwise(lambda x, min_val, max_val: _between(x, min_val, max_val, 1), _check_range)
def hardtanh(x, min_val=-1.0, max_val=1.0):
    """``x`` between `min_val` and `max_val`, else the nearer of these."""
    return np.clip(x, min_val, max_val)


@elementwise(lambda x: _between(x, 0, 6, 1))
def relu6(x):
    """``x`` between 0 and 6, else the nearer of these."""
    return np.clip(x, 0, 6)


@elementwise(lambda x: _between(x, -3, 3, x.dtype.type(1) / 6))
def hardsigmoid(x):
    """``x / 6 + 1 / 2`` between 0 and 1, else the nearer of these."""
    return np.clip(x + 3, 0, 6) / 6


@elementwise(
    lambda x: np.where(x <= -3, 0, np.where(x < 3, x / 3 + x.dtype.type(0.5), 1))
)
def hardswish(x):
    """``x * hardsigmoid(x)`` (Howard et al., 2019)."""
    return x * np.clip(x + 3, 0, 6) / 6


# What other functions are composed of.


@elementwise(lambda x: np.sign(x))
def absolute(x):
    """Magnitude."""
    return np.abs(x)


@elementwise(lambda x: 2 * x)
def square(x):
    """``x * x``."""
    return x * x


@elementwise(lambda x, exponent: exponent * x ** (exponent - 1))
def power(x, exponent=1.0):
    """``x ** exponent``."""
    return x**exponent


@elementwise(lambda x, beta: np.where(np.abs(x) < beta, x / beta, np.sign(x)))
def huber(x, beta=1.0):
    """``x * x / (2 * beta)`` where ``|x| < beta``, else ``|x| - beta / 2``."""
    size = np.abs(x)
    return np.where(size < beta, 0.5 * x * x / beta, size - 0.5 * beta)


@elementwise(np.exp)
def exponential(x):
    """``exp(x)``."""
    return np.exp(x)


@elementwise(np.reciprocal)
def logarithm(x):
    """Natural logarithm."""
    return np.log(x)


@elementwise(lambda x: 0.5 / np.sqrt(x))
def square_root(x):
    """``x ** 0.5``."""
    return np.sqrt(x)


@elementwise(lambda x: -1 / (x * x))
def reciprocal(x):
    """``1 / x``."""
    return 1 / x


@elementwise(lambda x: 2 / np.pi**0.5 * np.exp(-x * x))
def error_function(x):
    """Integral of the normal density's bell from ``-x`` to ``x``."""
    return _erf(x)


@elementwise(lambda x: 1 / (1 + np.abs(x)) ** 2)
def softsign(x):
    """``x / (1 + |x|)``."""
    return x / (1 + np.abs(x))


@elementwise(np.cos)
def sine(x):
    """Sine of an angle in radians."""
    return np.sin(x)


@elementwise(lambda x: -np.sin(x))
def cosine(x):
    """Cosine of an angle in radians."""
    return np.cos(x)
