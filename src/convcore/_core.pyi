from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

_Real: TypeAlias = NDArray[np.float32] | NDArray[np.float64]
_Axes: TypeAlias = tuple[int, int, int]
_RealName: TypeAlias = Literal["float32", "float64"]
_Layout: TypeAlias = Literal["first", "last"]
_Algorithm: TypeAlias = Literal["direct", "im2col", "winograd"]
_Pass: TypeAlias = Literal["forward", "backward_data", "backward_weight"]
_PackedPass: TypeAlias = Literal["forward", "backward_data"]
_Space: TypeAlias = Literal["arena", "parameters", "gradients", "state", "external"]
# (space, index, dtype, offset, size), offset and size in elements
_Operand: TypeAlias = tuple[_Space, int, str, int, int]
_Step: TypeAlias = tuple[str, tuple[_Operand | None, ...], Any]

def version() -> str: ...
def compiler() -> str: ...
def build_flags() -> str: ...
def isa() -> str: ...
def isas_available() -> list[str]: ...
def has_openmp() -> bool: ...
def default_threads() -> int: ...
def set_default_threads(n: int) -> None: ...
def get_precision() -> str: ...
def set_precision(name: str) -> None: ...
def empty_aligned(nbytes: int) -> NDArray[np.uint8]: ...

class Conv:
    def __init__(
        self,
        dtype: _RealName,
        layout: _Layout,
        n: int,
        c: int,
        k: int,
        groups: int,
        size: _Axes,
        kernel: _Axes,
        stride: _Axes,
        pad_before: _Axes,
        pad_after: _Axes,
        dilation: _Axes,
        *,
        algorithm: Literal["auto"] | _Algorithm = "auto",
        precision: Literal["highest", "high", "medium"] = "highest",
        activation: Literal["relu", "relu6"] | None = None,
        packed: bool = False,
        y_stride: int = 0,
    ) -> None: ...
    @property
    def output_size(self) -> _Axes: ...
    def choose(self, pass_: _Pass) -> _Algorithm: ...
    def explain(
        self, pass_: _Pass
    ) -> list[tuple[_Algorithm, bool, bool, int, float]]: ...
    def packed_size(self, pass_: _PackedPass) -> int: ...
    def pack(
        self, pass_: _PackedPass, w: _Real, packed: _Real, threads: int = 0
    ) -> None: ...
    def unpack(self, packed: _Real, w: _Real) -> None: ...
    def forward(
        self,
        x: _Real,
        w: _Real,
        bias: _Real | None,
        residual: _Real | None,
        y: _Real,
        threads: int = 0,
    ) -> None: ...
    def backward_data(
        self, dy: _Real, w: _Real, dx: _Real, threads: int = 0
    ) -> None: ...
    def backward_weight(
        self,
        dy: _Real,
        x: _Real,
        dw: _Real | None,
        db: _Real | None,
        threads: int = 0,
    ) -> None: ...

class Pool:
    def __init__(
        self,
        dtype: _RealName,
        layout: _Layout,
        kind: Literal["max", "average"],
        n: int,
        c: int,
        size: _Axes,
        out: _Axes,
        kernel: _Axes,
        stride: _Axes,
        pad_before: _Axes,
        pad_after: _Axes,
        dilation: _Axes,
        *,
        count_include_pad: bool = True,
        divisor: int = 0,
        index_dtype: Literal["int64", "uint8"] = "int64",
    ) -> None: ...
    def forward(
        self,
        x: _Real,
        y: _Real,
        indices: NDArray[np.int64] | NDArray[np.uint8] | None,
        threads: int = 0,
    ) -> None: ...
    def backward(
        self,
        dy: _Real,
        indices: NDArray[np.int64] | NDArray[np.uint8] | None,
        dx: _Real,
        threads: int = 0,
    ) -> None: ...

class BatchNorm:
    def __init__(
        self,
        dtype: _RealName,
        layout: _Layout,
        n: int,
        c: int,
        pixels: int,
        *,
        training: bool,
        eps: float,
        activation: Literal["relu", "relu6"] | None = None,
    ) -> None: ...
    def forward(
        self,
        x: _Real,
        weight: _Real | None,
        bias: _Real | None,
        given_mean: _Real | None,
        given_var: _Real | None,
        residual: _Real | None,
        y: _Real,
        mean: _Real | None,
        var: _Real | None,
        threads: int = 0,
    ) -> None: ...
    def backward(
        self,
        dy: _Real,
        x: _Real,
        y: _Real | None,
        weight: _Real | None,
        bias: _Real | None,
        mean: _Real,
        var: _Real,
        dx: _Real | None,
        dweight: _Real | None,
        dbias: _Real | None,
        dresidual: _Real | None,
        threads: int = 0,
    ) -> None: ...

def running_statistics(
    count: int,
    momentum: float,
    mean: _Real,
    var: _Real,
    running_mean: _Real,
    running_var: _Real,
    batches: NDArray[np.int64] | None,
    new_mean: _Real,
    new_var: _Real,
    new_batches: NDArray[np.int64] | None,
) -> None: ...

class AdaptivePool:
    def __init__(
        self, dtype: _RealName, layout: _Layout, n: int, c: int, size: _Axes, out: _Axes
    ) -> None: ...
    def forward(self, x: _Real, y: _Real, threads: int = 0) -> None: ...
    def backward(self, dy: _Real, dx: _Real, threads: int = 0) -> None: ...

class LocalResponseNorm:
    def __init__(
        self,
        dtype: _RealName,
        pixels: int,
        c: int,
        size: int,
        alpha: float,
        beta: float,
        k: float,
    ) -> None: ...
    def forward(self, x: _Real, y: _Real, threads: int = 0) -> None: ...
    def backward(self, dy: _Real, x: _Real, dx: _Real, threads: int = 0) -> None: ...

class Dropout:
    def __init__(self, dtype: _RealName, size: int, p: float, stream: int) -> None: ...
    def apply(
        self, draws: NDArray[np.int64], x: _Real, y: _Real, threads: int = 0
    ) -> None: ...

class CrossEntropy:
    def __init__(
        self,
        dtype: _RealName,
        n: int,
        classes: int,
        *,
        reduction: Literal["none", "mean", "sum"] = "mean",
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
    ) -> None: ...
    def forward(
        self,
        logits: _Real,
        target: NDArray[np.int64],
        weight: _Real | None,
        loss: _Real,
        threads: int = 0,
    ) -> None: ...
    def backward(
        self,
        dloss: _Real,
        logits: _Real,
        target: NDArray[np.int64],
        weight: _Real | None,
        dlogits: _Real,
        threads: int = 0,
    ) -> None: ...

def relu_forward(x: _Real, y: _Real, threads: int = 0) -> None: ...
def relu_backward(dy: _Real, y: _Real, dx: _Real, threads: int = 0) -> None: ...
def add(a: _Real, b: _Real, y: _Real, threads: int = 0) -> None: ...
def transpose(
    batch: int, a: int, b: int, x: _Real, y: _Real, threads: int = 0
) -> None: ...
def copy(
    rows: int,
    columns: int,
    x: _Real,
    x_stride: int,
    y: _Real,
    y_stride: int,
    threads: int = 0,
) -> None: ...
def sgd_step(
    hyper: NDArray[np.float64],
    g: _Real,
    p: _Real,
    m: _Real | None,
    threads: int = 0,
) -> None: ...
def adam_step(
    hyper: NDArray[np.float64], g: _Real, p: _Real, m: _Real, v: _Real, threads: int = 0
) -> None: ...
def rmsprop_step(
    hyper: NDArray[np.float64],
    g: _Real,
    p: _Real,
    v: _Real,
    m: _Real | None,
    threads: int = 0,
) -> None: ...
def sum_of_squares(x: _Real, threads: int = 0) -> float: ...

class Step:
    kind: str
    def __init__(self, kind: str, dtype: str, *fields: Any) -> None: ...
    def run(self, *arrays: NDArray[Any] | None, threads: int = 0) -> None: ...

MAX_DIMENSIONS: int

def element_functions() -> list[str]: ...

class Plan:
    def __init__(
        self,
        steps: Sequence[_Step],
        space_bytes: Mapping[str, int],
        external_bytes: Sequence[int],
    ) -> None: ...
    def scratch_bytes(self, first: int, last: int, threads: int) -> int: ...
    def run(
        self,
        first: int,
        last: int,
        arena: NDArray[Any] | None,
        parameters: NDArray[Any] | None,
        gradients: NDArray[Any] | None,
        state: NDArray[Any] | None,
        external: Sequence[NDArray[Any]],
        threads: int = 0,
        scratch: NDArray[np.uint8] | None = None,
        seconds: NDArray[np.float64] | None = None,
    ) -> None: ...

class Runner:
    def __init__(
        self,
        plan: Plan,
        first: int,
        last: int,
        parameters: NDArray[Any] | None,
        state: NDArray[Any] | None,
        x: NDArray[Any],
        y: NDArray[Any],
        draws: NDArray[np.int64],
    ) -> None: ...
    def run(self, x: Any, threads: int) -> NDArray[Any] | None: ...

def is_channels_last(x: NDArray[Any]) -> bool: ...

class Calls:
    def __init__(
        self,
        axes: int,
        describe: Callable[[_Real, _Real, _Real | None, tuple[Any, ...]], Conv],
        threads: ContextVar[int],
        use_reference: ContextVar[bool],
    ) -> None: ...
    def run(
        self, x: Any, weight: Any, bias: Any, options: tuple[Any, ...], out: Any
    ) -> _Real | None: ...
