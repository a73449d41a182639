"""NaN and infinity land where the definition puts them, in every algorithm.

Padding is no product with zero, and an infinity does not spread over the
results that share a tile or a vector with its own.
"""

import numpy as np
import pytest
from ways import CLASSES, DIFFERENTIABLE, WAYS

from convcore import reference

spoiled = pytest.mark.parametrize("where", ["x", "weights", "both"])
ways = pytest.mark.parametrize("way", WAYS, ids=str)


def spoil(rng, array):
    """NaN and infinities at both ends and in between; there also a zero."""
    flat = array.flatten()
    flat[[0, -1]] = np.inf, -np.inf
    flat[rng.integers(1, flat.size - 1, 3)] = np.nan, 0, np.inf
    return flat.reshape(array.shape)


def wide(*arrays):
    return [array.astype(float) for array in arrays]


def assert_same(way, actual, expected):
    """Equal where not finite, and close where finite."""
    for is_kind in (np.isnan, np.isposinf, np.isneginf):
        assert np.array_equal(is_kind(actual), is_kind(expected))
    finite = np.isfinite(expected)
    if finite.any():
        error = np.abs(actual[finite] - expected[finite]).max()
        assert error <= CLASSES[way.precision] * np.abs(expected[finite]).max()


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("activation", [None, "relu"])
@spoiled
@ways
def test_forward(way, where, activation, rng):
    x, w, bias = way.row.arrays(np.float32)
    x = x if where == "weights" else spoil(rng, x)
    w = w if where == "x" else spoil(rng, w)
    expected = way.row.call(reference, wide(x, w, bias), activation=activation)
    assert not np.isfinite(expected).all()
    assert_same(way, way.forward(x, w, bias, activation=activation), expected)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@spoiled
@pytest.mark.parametrize("way", DIFFERENTIABLE, ids=str)
def test_backward(way, where, rng):
    """Here "x" are both tensors, dy and x."""
    x, w, _ = way.row.arrays(np.float32)
    dy = rng.standard_normal(way.forward(x, w, None).shape, np.float32)
    if where != "weights":
        x, dy = spoil(rng, x), spoil(rng, dy)
    w = w if where == "x" else spoil(rng, w)
    backward = getattr(reference, f"{way.row.function}_backward")
    expected = backward(*wide(dy, x, w), **way.row.arguments)
    assert not np.isfinite(expected[0]).all()
    for gradient, e in zip(way.backward(dy, x, w), expected, strict=True):
        assert_same(way, gradient, e)
