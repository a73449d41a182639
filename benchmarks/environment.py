"""The same conditions for every side; set before NumPy is imported."""

import os


def fair_environment(threads, inherited=os.environ):
    """Environment variables of a process that measures.

    As many threads for every side, and none that spins while another side is
    measured. OPENBLAS_* settings are left out (OPENBLAS_CORETYPE may hold BLAS
    back to an older CPU), so that NumPy is at its best.
    """
    kept = {
        name: value
        for name, value in inherited.items()
        if not name.startswith("OPENBLAS_")
    }
    count = str(threads)
    return kept | {
        "OMP_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def dropped_settings(inherited=os.environ):
    """The settings that `fair_environment` leaves out, as NAME=value."""
    return sorted(
        f"{name}={value}"
        for name, value in inherited.items()
        if name.startswith("OPENBLAS_") and name != "OPENBLAS_NUM_THREADS"
    )
