"""Threads and precision of this process, and what the library was built with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from . import _core

PRECISIONS = ("highest", "high", "medium")
MAX_THREADS = 1024

# 0: the default of the process.
threads_here: ContextVar[int] = ContextVar("threads", default=0)


def set_num_threads(n: int) -> None:
    """Set how many threads a call may use, for the whole process.

    Results do not depend on it, bit for bit.
    """
    _core.set_default_threads(_check_threads(n))


def get_num_threads() -> int:
    """Threads that a call may use here.

    Without `set_num_threads` and `threads`: ``OMP_NUM_THREADS``, else the
    CPUs this process may use (affinity and cgroup quota).
    """
    return threads_here.get() or _core.default_threads()


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Use `n` threads inside a ``with`` block, in this thread or task alone."""
    token = threads_here.set(_check_threads(n))
    try:
        yield
    finally:
        threads_here.reset(token)


def call_threads() -> int:
    """Thread count to pass to compiled code; 0 is the process's default."""
    return threads_here.get()


def set_float32_precision(precision: str) -> None:
    """Set the error class of float32 results, for the whole process.

    Parameters
    ----------
    precision : {"highest", "high", "medium"}
        Largest error relative to the largest result, on normal data:
        3e-6, 2e-5, 2e-2. A plan keeps the one it was built with.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {PRECISIONS}, not {precision!r}")
    _core.set_precision(precision)


def get_float32_precision() -> str:
    """Error class of float32 results."""
    return _core.get_precision()


def config() -> dict[str, object]:
    """Give the facts that `show_config` prints."""
    return {
        "version": _core.version(),
        "isa": _core.isa(),
        "isas available": _core.isas_available(),
        "threads": get_num_threads(),
        "OpenMP": _core.has_openmp(),
        "float32 precision": get_float32_precision(),
        "compiler": _core.compiler(),
        "build flags": _core.build_flags(),
    }


def lines(facts: dict[str, object]) -> list[str]:
    """Give facts as a table of two columns."""
    return [
        f"{name + ':':20}{', '.join(value) if isinstance(value, list) else value}"
        for name, value in facts.items()
    ]


def show_config() -> None:
    """Print the instruction set, threads and build of this installation."""
    print(*lines(config()), sep="\n")


def _check_threads(n: int) -> int:
    if not hasattr(n, "__index__"):
        raise TypeError(f"n must be an int, not {n!r}")
    if not 1 <= n <= MAX_THREADS:
        raise ValueError(f"n must be between 1 and {MAX_THREADS}, not {n}")
    return int(n)
