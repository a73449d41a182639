"""Thread counts are fixed before NumPy is imported; BENCH_THREADS (1) sets them."""

import os

from .environment import fair_environment

THREADS = int(os.environ.get("BENCH_THREADS", "1"))

environment = fair_environment(THREADS)
os.environ.clear()
os.environ.update(environment)
