"""What the tests share: errors relative to the largest element, subprocesses."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from convcore._core import isa, isas_available


def relative_error(actual, expected) -> float:
    """Largest error relative to the largest expected element."""
    assert actual.shape == expected.shape
    if expected.size == 0:
        return 0.0
    difference = np.abs(np.asarray(actual, np.float64) - expected).max()
    return float(difference / (np.abs(expected).max() or 1.0))


def run_python(*arguments, **environment) -> subprocess.CompletedProcess:
    """Run this Python in a fresh process; output captured as text."""
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


@pytest.fixture(autouse=True, scope="session")
def ctrl_c():
    """Ctrl-C raises: a shell that runs the tests in the background ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(params=["generic", "avx2", "avx512"])
def other_isa(request):
    """Name of an instruction set of this machine that this process does not use."""
    if request.param not in isas_available():
        pytest.skip(f"this machine cannot run {request.param}")
    if request.param == isa():
        pytest.skip(f"{request.param} is what the other tests run")
    return request.param


def pytest_terminal_summary(terminalreporter):
    """Print the largest error of every way to compute a convolution."""
    measured = {}
    for outcome in ("passed", "failed"):
        for test in terminalreporter.getreports(outcome):
            for name, value in test.user_properties:
                if name == "accuracy":
                    form, error, limit = value
                    measured.setdefault(form, []).append((error, limit, test.nodeid))
    if measured:
        terminalreporter.section("largest errors relative to the largest result")
    for form, errors in sorted(measured.items()):
        error, limit, test = max(errors)
        terminalreporter.write_line(
            f"{form:14}{error:.2e} (limit {limit:.0e}) of {len(errors):3}: {test}"
        )
