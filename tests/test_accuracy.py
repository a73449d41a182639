"""The accuracy classes: over the layers of networks, and of data unlike N(0, 1).

The largest error of every way to compute a convolution is printed at the end
of a run of pytest.
"""

import numpy as np
import pytest
from conftest import relative_error, run_python
from table import conv
from ways import CLASSES, DIFFERENTIABLE, LIMITS, WAYS, Way

from benchmarks.networks import SHAPES, network_layers
from convcore import reference

LAYERS = [
    conv(
        2, 1, layer.c, layer.k, layer.h, layer.kernel, bias=False,
        stride=layer.stride, padding=layer.padding, groups=layer.groups,
    )
    for layer in network_layers(SHAPES)
]  # fmt: skip


def test_layers_of_networks():
    """Without the file, the layers are a handful of the benchmarks' own."""
    if not SHAPES.exists():
        pytest.skip(f"../shared/data/shapes/{SHAPES.name} is absent")
    assert len(LAYERS) > 150


@pytest.mark.parametrize("row", LAYERS, ids=str)
def test_network_layer(row, record_property):
    arrays = x, w, _ = row.arrays(np.float32)
    expected = row.call(reference, [x.astype(float), w.astype(float), None])
    ways = [
        *(Way(row, algorithm) for algorithm in ("auto", "direct", "im2col")),
        *(Way(row, "winograd", precision=precision) for precision in CLASSES),
    ]
    errors = [
        (way, relative_error(way.forward(*arrays), expected))
        for way in ways
        if way.applies()
    ]
    for way, error in errors:
        record_property("accuracy", (way.form(), error, LIMITS[way.form()]))
    for way, error in errors:
        assert error <= min(LIMITS[way.form()], CLASSES[way.precision]), way


def test_every_way_is_among_the_small_calls():
    assert {way.form() for way in WAYS} == LIMITS.keys()
    of_data, of_weights = (
        {way.form(direction) for way in DIFFERENTIABLE}
        for direction in ("backward_data", "backward_weight")
    )
    assert of_data == LIMITS.keys() - {"F(3x3, 4x4)"}
    # With short vectors one channel's weights are not planar.
    assert of_weights | {"direct planar"} == LIMITS.keys() - {"F(3x3, 4x4)"}


@pytest.mark.parametrize("way", DIFFERENTIABLE, ids=str)
def test_gradients(way, rng):
    x, w, _ = way.row.arrays(np.float32)
    dy = rng.standard_normal(way.forward(x, w, None).shape, np.float32)
    backward = getattr(reference, f"{way.row.function}_backward")
    expected = backward(*(a.astype(float) for a in (dy, x, w)), **way.row.arguments)
    dx, dw, _ = way.backward(dy, x, w)
    for gradient, e, direction in (
        (dx, expected[0], "backward_data"),
        (dw, expected[1], "backward_weight"),
    ):
        limit = LIMITS[way.form(direction)]
        assert relative_error(gradient, e) <= limit, direction


def magnitudes(way, x, w):
    """For each result the sum of ``|x| |w|`` that its rounding errors scale with.

    It is taken over the result's own terms or, as Winograd mixes the pixels
    of a tile, over all pixels that can share one with them.
    """
    x, w, m = np.abs(x), np.abs(w), way.tile()
    if not m:
        return way.row.call(reference, [x, w, None])
    step = way.row.arguments.get("stride", 1)
    more = [(m - 1) * step if taps > 1 else 0 for taps in w.shape[2:]]
    wide = [taps + 2 * extra for taps, extra in zip(w.shape[2:], more, strict=True)]
    w = w.sum(axis=tuple(range(2, w.ndim)), keepdims=True)
    arguments = dict(way.row.arguments)
    arguments["padding"] = [arguments.get("padding", 0) + extra for extra in more]
    function = getattr(reference, way.row.function)
    return function(x, np.broadcast_to(w, (*w.shape[:2], *wide)), **arguments)


def scaled(x_exponent, w_exponent):
    return lambda rng, x, w: (np.ldexp(x, x_exponent), np.ldexp(w, w_exponent))


def over_decades(rng, x, w):
    """Magnitudes of x between 1e-6 and 1e6, every decade as frequent."""
    return np.copysign(10 ** rng.uniform(-6, 6, x.shape), x).astype(np.float32), w


# From standard normal x and w. Numbers below 2^-126 are denormal; from 2^128 on
# they are infinite, which sums within a Winograd tile reach before the result.
DATA = {
    "after ReLU": lambda rng, x, w: (np.maximum(x, 0), w),
    "12 decades": over_decades,
    "denormal x": scaled(-127, 100),
    "denormal weights": scaled(100, -127),
    "denormal products": scaled(-64, -64),
    "huge x": scaled(125, -20),
    "huge weights": scaled(-20, 125),
    "huge results": scaled(59, 59),
}


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_other_data(way, data, rng):
    """Every result for itself, however small beside the largest one.

    An operation errs by up to 2^-24 of its result, and in a chain of n sums
    the errors add up to about sqrt(n) such steps: 16 for chains of 96 terms
    (CVC_CHUNK) and their sum. A denormal result errs by up to 2^-150 instead.
    """
    x, w, _ = way.row.arrays(np.float32)
    x, w = DATA[data](rng, x, w)
    wide = x.astype(float), w.astype(float)
    error = np.abs(way.forward(x, w, None) - way.row.call(reference, [*wide, None]))
    smallest = w[0].size * 2.0**-149
    assert (error <= 16 * 2.0**-24 * magnitudes(way, *wide) + smallest).all()


def test_isa(other_isa):
    run = run_python(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__,
        __file__.replace("accuracy", "nonfinite"), "-k", "not network and not isa",
        CONVCORE_ISA=other_isa,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout
