"""Loads the compiled core with OpenMP threads that wait considerately.

GNU's runtime lets a thread that waits for the others spin for milliseconds,
which on a busy machine takes the core away from the very thread it waits for:
a training step of 2 ms becomes one of 130. Spinning for some 20 microseconds
bridges the gaps inside a plan and costs nothing on an idle machine. The
runtime reads the setting when it is loaded, so it is set for that moment
alone; whoever sets a policy keeps it.
"""

import os

_OWN = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}

if _OWN.isdisjoint(os.environ):
    os.environ["GOMP_SPINCOUNT"] = "20000"
    try:
        from . import _core  # noqa: F401
    finally:
        del os.environ["GOMP_SPINCOUNT"]
