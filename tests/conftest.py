"""What the tests share: errors relative to the largest element, subprocesses."""

import os
import subprocess
import sys

import numpy as np
import pytest


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


@pytest.fixture
def rng():
    return np.random.default_rng(0)
