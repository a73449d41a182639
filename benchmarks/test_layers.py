"""pytest-benchmark suites over the table: `pytest benchmarks --benchmark-only`.

A group holds one layer and pass; the sides stand beside each other.
"""

import pytest

from .conftest import THREADS
from .peers import all_sides
from .shapes import LAYERS

SIDES = all_sides(THREADS)

CASES = [
    pytest.param(layer, pass_, side, id=f"{layer.net}-{layer.name}-{pass_}-{side.name}")
    for layer in LAYERS
    for pass_ in layer.passes
    for side in SIDES
]


@pytest.mark.parametrize(("layer", "pass_", "side"), CASES)
def test_layer(benchmark, layer, pass_, side):
    call = side.prepare(layer, pass_)
    if call is None:
        pytest.skip(f"{side.name} has no {pass_} pass")
    benchmark.group = f"{layer.net} {layer.name} {pass_}: {layer}"
    benchmark.extra_info.update(flops=layer.flops, threads=THREADS)
    benchmark.pedantic(call, rounds=7, iterations=1, warmup_rounds=1)
