"""Time the sides against each other: `python -m benchmarks.measure`.

Writes JSON lines to standard output: first the conditions, then a row per
layer and pass. `python -m benchmarks` starts it in a fair environment.
"""

import json
import math
import sys
from random import Random
from statistics import median
from time import perf_counter

import numpy as np

from .peers import all_sides
from .shapes import LAYERS, QUICK

_SAMPLE_SECONDS = 2e-3  # a sample repeats a short call until it is about this long


def check(calls, context):
    """Every side must give the same result: that of the last NumPy side."""
    expected = np.asarray(calls["numpy last"]())
    tolerance = 1e-4 * np.abs(expected).max()
    for name, call in calls.items():
        error = np.abs(np.asarray(call()) - expected).max()
        if not error <= tolerance:
            raise ArithmeticError(f"{context}: {name} is off by {error} > {tolerance}")


def measure(calls, repeats, seconds=0.0, *, warm=False):
    """Median seconds of each call, the sides taking turns.

    `repeats` samples of each, and more as long as they begin within `seconds`. The
    order changes: a side that follows one with the same arrays finds them in the
    caches. Samples of short calls, with `warm` of all, begin with a call that does
    not count: what others left in the caches is no side's gain or loss.
    """
    counts = {}
    for name, call in calls.items():
        start = perf_counter()
        call()
        took = perf_counter() - start
        counts[name] = min(100, math.ceil(_SAMPLE_SECONDS / took))
    samples = {name: [] for name in calls}
    sides, shuffle = list(calls.items()), Random(0)
    end = perf_counter() + seconds
    while repeats > 0 or perf_counter() < end:
        repeats -= 1
        for name, call in shuffle.sample(sides, len(sides)):
            if warm or counts[name] > 1:
                call()
            start = perf_counter()
            for _ in range(counts[name]):
                call()
            samples[name].append((perf_counter() - start) / counts[name])
    return {name: median(values) for name, values in samples.items()}


def rows(sides, layers, repeats):
    for layer in layers:
        for pass_ in layer.passes:
            prepared = ((side.name, side.prepare(layer, pass_)) for side in sides)
            calls = {name: call for name, call in prepared if call}
            check(calls, f"{layer.net} {layer.name} {pass_}")
            yield {
                "layer": f"{layer.net} {layer.name}",
                "kind": type(layer).__name__.lower(),
                "shape": str(layer),
                "pass": pass_,
                "flops": layer.flops,
                "seconds": measure(calls, repeats),
            }


def main(threads, repeats, quick):
    from convcore._config import config

    sides = all_sides(threads)
    conditions = {
        "threads": threads,
        "isa": config()["isa"],
        "repeats": repeats,
        "versions": list(dict.fromkeys(side.version for side in sides)),
    }
    for line in (conditions, *rows(sides, QUICK if quick else LAYERS, repeats)):
        print(json.dumps(line), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:4])))
