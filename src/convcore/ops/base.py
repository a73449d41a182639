"""What an operator is, and the one place where a call is traced or computed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

import numpy as np

from .._config import get_float32_precision

FLOAT32 = np.dtype("float32")
FLOAT64 = np.dtype("float64")
INT64 = np.dtype("int64")

_F = TypeVar("_F", bound=Callable)


class Spec(NamedTuple):
    """Shape and dtype of a tensor: what a shape rule sees of it."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)


class Traced:
    """Base class of what stands for an array while a network is traced.

    It has `shape`, `ndim` and `dtype` as an array has, so that public
    functions need not tell the two apart.
    """

    __slots__ = ()

    shape: tuple[int, ...]
    ndim: int
    dtype: np.dtype
    # Whether the first dimension is a batch, of whatever size.
    batched: bool

    def trace(self, operator: Operator, inputs: tuple, attrs: dict[str, Any]):
        """Add a node to this value's graph; its output, or a tuple of them.

        `inputs` may hold further traced values, arrays and None.
        """
        raise NotImplementedError

    @property
    def position(self) -> int:
        """How many nodes the graph has so far: a number for what is added next."""
        raise NotImplementedError

    def assign(self, value: Traced) -> None:
        """Be this value after a training step: what buffers can."""
        raise TypeError(f"{self!r} is no buffer: it cannot be changed")


class Operator:
    """One operation: its shape rule, definition, computation and gradient.

    There is one instance per operator, found in `OPERATORS` by its name.
    Inputs are positional and may be None where they are optional. Attributes
    are keyword arguments and JSON values (with tuples for lists), already
    normalised by the public function. An output that the attributes leave out
    is None, in `infer` as in the results.
    """

    name: str
    # Operators that this one can apply to its result, by an attribute `activation`.
    activations: tuple[str, ...] = ("relu", "relu6")
    # Number of inputs after which one more may follow that is added to the result.
    takes_residual: int | None = None
    # Memory order in a plan, see `lowering`: the inputs and outputs of rank >= 3
    # that are in the order of their shape, as parameters are, and whether the
    # outputs have the order of the inputs.
    row_inputs: tuple[int, ...] = ()
    row_outputs: tuple[int, ...] = ()
    keeps_order = False

    def infer(self, *specs: Spec | None, **attrs) -> Spec | tuple[Spec | None, ...]:
        """Specs of the outputs; errors name the argument and its values."""
        raise NotImplementedError

    def compute(self, inputs: tuple, attrs: dict[str, Any], out=None):
        """Run the compiled code on arrays; checks as `infer` does.

        Without compiled code, the definition is what runs.
        """
        self.infer(*map(spec_of, inputs), **attrs)
        result = self.reference(*inputs, **attrs)
        return result if out is None else fill(out, result)

    def reference(self, *arrays, **attrs):
        """Compute with plain NumPy: the definition of the operator."""
        raise NotImplementedError

    def describe(self, *specs: Spec | None, last: bool, precision: str, **attrs):
        """Descriptor of the compiled call (`_core.Conv`, ...); sizes are checked.

        `last`: tensors of rank >= 3 are channels-last in memory.
        """
        raise NotImplementedError

    def backward(self, node, *grads) -> tuple:
        """Add the nodes of the gradient; one Value or None per input."""
        raise TypeError(f"{self.name} has no gradient")

    def writes_channels(self, node) -> bool:
        """Whether a plan may let the result be some channels of a larger array."""
        return False

    def lower(self, lowering, node) -> None:
        """Emit the steps of a plan: `compute` as a step of NumPy's, or others."""
        lowering.numpy(node)


OPERATORS: dict[str, Operator] = {}


def register(operator: Operator) -> Operator:
    """Enter an operator in `OPERATORS` and return it."""
    OPERATORS[operator.name] = operator
    return operator


_prepared: dict[tuple, tuple] = {}


def prepared(operator: Operator, last: bool, inputs: tuple, attrs: dict[str, Any]):
    """Descriptor and output specs of a compiled call.

    Checking and describing a call takes longer than a small convolution, so
    both are done once per combination of shapes, dtypes and attributes.
    """
    precision = get_float32_precision()
    inputs = [None if x is None else (x.shape, x.dtype) for x in inputs]
    key = (operator, last, precision, *inputs, *attrs, *attrs.values())
    found = _prepared.get(key)
    if found is None:
        specs = [None if x is None else Spec(*x) for x in inputs]
        outputs = operator.infer(*specs, **attrs)
        descriptor = operator.describe(*specs, last=last, precision=precision, **attrs)
        if len(_prepared) >= 4096:
            _prepared.clear()
        found = _prepared[key] = descriptor, outputs
    return found


use_reference: ContextVar[bool] = ContextVar("use_reference", default=False)


def apply(operator: Operator, *inputs, out=None, **attrs):
    """Trace the operator when an input is traced, else compute it."""
    return call(operator, inputs, attrs, out)


def call(operator: Operator, inputs: tuple, attrs: dict[str, Any], out=None):
    """`apply` as public functions call it: attributes are not unpacked again."""
    for x in inputs:
        if isinstance(x, Traced):
            if out is not None:
                raise TypeError("out= cannot be used while a network is traced")
            return x.trace(operator, inputs, attrs)
    if not use_reference.get():
        return operator.compute(inputs, attrs, out)
    operator.infer(*map(spec_of, inputs), **attrs)
    result = operator.reference(*inputs, **attrs)
    return result if out is None else fill(out, result)


def as_reference(function: _F) -> _F:
    """Give `function` with the NumPy definitions in place of compiled code."""

    @functools.wraps(function)
    def reference(*args, **kwargs):
        token = use_reference.set(True)
        try:
            return function(*args, **kwargs)
        finally:
            use_reference.reset(token)

    return reference


_SPACE = {
    1: {"space": "L", "kernel": "R", "out": "OL"},
    2: {"space": "H, W", "kernel": "R, S", "out": "OH, OW"},
    3: {"space": "D, H, W", "kernel": "T, R, S", "out": "OD, OH, OW"},
}


def named(function: _F, name: str, axes: int) -> _F:
    """Name a function made for a number of axes, in its docstring too."""
    function.__name__ = function.__qualname__ = name
    function.__doc__ = function.__doc__.format(**_SPACE[axes])
    return function


def spec_of(value) -> Spec | None:
    """Spec of an array or traced value; None of None."""
    return None if value is None else Spec(tuple(value.shape), value.dtype)


def as_array(value, name: str):
    """Give `value` as a float32 or float64 array, or itself when traced.

    Parameters
    ----------
    value : array, traced value, or object with ``__array__`` or ``__dlpack__``
    name : str
        The argument's name, for the message.

    Raises
    ------
    TypeError
        For any other object and any other dtype.
    """
    if type(value) is not np.ndarray:
        if isinstance(value, Traced):
            return value
        value = _convert(value, name)
    dtype = value.dtype
    if dtype is FLOAT32 or dtype is FLOAT64:
        return value
    return _check_dtype(value, name, (FLOAT32, FLOAT64))


def as_index_array(value, name: str):
    """Give `value` as an int64 array, or itself when traced."""
    if isinstance(value, Traced):
        return value
    return _check_dtype(_convert(value, name), name, (INT64,))


def as_optional(value, name: str):
    """Give `as_array` of what is not None."""
    return None if value is None else as_array(value, name)


def fill(out: np.ndarray, result):
    """Write `result` into the checked array `out`."""
    check_out(out, result.shape, result.dtype)
    out[...] = result
    return out


def check_out(out, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Raise when `out` cannot take a result of this shape and dtype."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a NumPy array, not {type(out).__name__}")
    if out.dtype != dtype:
        raise TypeError(f"out has dtype {out.dtype}, the result {dtype}")
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}, the result {shape}")
    if not out.flags.writeable:
        raise ValueError("out is read-only")


def add_batch(x, axes: int, name: str = "x"):
    """Give x as a batch (N, C, space), and whether it was one sample (C, space)."""
    if x.ndim == axes + 1 and not (isinstance(x, Traced) and x.batched):
        return x[None], True
    if x.ndim != axes + 2:
        raise ValueError(
            f"{name} must have {axes + 2} dimensions (N, C, space) or {axes + 1} "
            f"(C, space), not shape {x.shape}"
        )
    return x, False


def check_choice(value, name: str, choices: tuple) -> None:
    """Raise when an argument is none of its choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {choices}, not {value!r}")


def check_mask(output_mask) -> list[bool]:
    """Which of three gradients are wanted."""
    wanted = list(output_mask) if hasattr(output_mask, "__iter__") else []
    if len(wanted) != 3:
        raise ValueError(f"output_mask must be three bools, not {output_mask!r}")
    return [bool(want) for want in wanted]


def check_real_dtype(dtype) -> np.dtype:
    """Give float32 or float64 as a NumPy dtype."""
    for real in (FLOAT32, FLOAT64):
        if dtype in (real, real.name, real.type):
            return real
    raise TypeError(f"dtype must be float32 or float64, not {dtype!r}")


def check_dim(dim, ndim: int, name: str) -> int:
    """Give a dimension as an index >= 0."""
    if not hasattr(dim, "__index__"):
        raise TypeError(f"{name} must be an int, not {dim!r}")
    if not -ndim <= dim < ndim:
        raise ValueError(f"{name}={dim} is out of range for {ndim} dimensions")
    return int(dim) % ndim


def check_gradient(dy, shape: tuple[int, ...]) -> None:
    """Raise when `dy` has not the shape of the result."""
    if dy.shape != shape:
        raise ValueError(f"dy must have shape {shape}, not {dy.shape}")


def check_same_shape(**specs: Spec) -> None:
    """Raise when the named specs differ in shape or dtype."""
    check_same_dtype(**specs)
    (first, spec), *others = specs.items()
    for name, other in others:
        if other.shape != spec.shape:
            raise ValueError(
                f"{name} has shape {other.shape}, {first} has {spec.shape}"
            )


def check_same_dtype(**specs: Spec | None) -> None:
    """Raise when the named specs differ in dtype."""
    given = {name: spec.dtype for name, spec in specs.items() if spec is not None}
    (first, dtype), *others = given.items()
    for name, other in others:
        if other != dtype:
            raise TypeError(f"{name} has dtype {other}, {first} has {dtype}")


def as_numpy(value) -> np.ndarray:
    """Give `numpy.asarray`, of objects that have only ``__dlpack__`` too."""
    if hasattr(value, "__dlpack__") and not isinstance(value, np.ndarray):
        return np.from_dlpack(value)
    return np.asarray(value)


def _convert(value, name: str) -> np.ndarray:
    if not (hasattr(value, "__dlpack__") or hasattr(value, "__array__")):
        raise TypeError(f"{name} must be an array, not {type(value).__name__}")
    return as_numpy(value)


def _check_dtype(value, name: str, dtypes: tuple[np.dtype, ...]):
    # Equality of dtypes includes the byte order.
    if value.dtype not in dtypes:
        names = " or ".join(map(str, dtypes))
        raise TypeError(f"{name} has dtype {value.dtype}, expected {names}")
    return value
