"""Calls that repeat an earlier one: compiled code keeps what it found out."""

import numpy as np
import pytest

import convcore
from convcore import reference


def arrays(x=(2, 3, 8, 7), weight=(4, 3, 3, 3), dtype=np.float64):
    random = np.random.default_rng(0)
    return [random.standard_normal(shape).astype(dtype) for shape in (x, weight)]


def check(x, weight, *arguments, **options):
    """Beside the definition, twice."""
    expected = reference.conv2d(x, weight, *arguments, **options)
    for _ in range(2):
        y = convcore.conv2d(x, weight, *arguments, **options)
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    return y


def test_what_distinguishes_calls():
    x, weight = arrays()
    for dtype in (np.float64, np.float32):
        check(x.astype(dtype), weight.astype(dtype))
    check(convcore.channels_last(x), weight)
    check(x, weight, np.ones(4))
    check(x, weight, None)
    check(x[:1], weight)
    check(x, weight[:2])
    check(x, np.ones((4, 3, 1, 5)))
    check(x, np.ones((6, 1, 3, 3)), groups=3)
    check(x, weight, activation="relu")
    for padding in (0, 1, (1, 0), ((1, 0), (0, 1)), [1, 1], "same", np.int64(1)):
        check(x, weight, padding=padding)
    for stride in (1, 2, (2, 1), (1, 2), True):
        check(x, weight, stride=stride)
    check(x, weight, dilation=2)


def test_equal_is_not_the_same():
    x, weight = arrays()
    check(x, weight, stride=1, padding=((1, 1), (1, 1)))
    for options in ({"stride": 1.0}, {"padding": ((1, 1), (1.0, 1))}):
        with pytest.raises(TypeError):
            convcore.conv2d(x, weight, **options)


def test_precision():
    x, weight = arrays((1, 64, 16, 16), (64, 64, 5, 5), np.float32)
    exact = reference.conv2d(x.astype(np.float64), weight.astype(np.float64))

    def error():
        return abs(convcore.conv2d(x, weight) - exact).max() / abs(exact).max()

    before = error()
    convcore.set_float32_precision("high")
    try:
        assert error() != before
    finally:
        convcore.set_float32_precision("highest")
    assert error() == before


def test_more_calls_than_are_kept():
    x, weight = arrays((1, 2, 1, 600), (2, 2, 1, 3))
    for _ in range(2):
        for n in range(3, 600):
            assert convcore.conv2d(x[..., :n].copy(), weight).shape[-1] == n - 2


def test_out():
    x, weight = arrays((1, 3, 8, 7), (3, 3, 1, 1))
    expected = reference.conv2d(x, weight)
    for out in (np.empty_like(x), convcore.channels_last(x), x[..., ::-1].copy(), x):
        assert convcore.conv2d(x.copy(), weight, out=out) is out
        np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-12)
    x, weight = arrays((1, 3, 8, 7), (3, 3, 1, 1))
    assert convcore.conv2d(x, weight, out=x) is x  # computed elsewhere, and copied
    np.testing.assert_allclose(x, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("groups", [1, 40])
def test_images_are_converted_a_few_at_a_time(groups):
    x, weight = arrays((3, 40, 64, 64), (40, 40 // groups, 3, 3), np.float32)
    options = {"stride": 2, "padding": 1, "groups": groups, "algorithm": "direct"}
    y = convcore.conv2d(x, weight, **options)
    dx, *_ = convcore.conv2d_backward(y, x, weight, **options)
    last, channels_last = map(convcore.channels_last, (x, y))
    limit = {"rtol": 0, "atol": 1e-4}
    np.testing.assert_allclose(y, convcore.conv2d(last, weight, **options), **limit)
    expected, *_ = convcore.conv2d_backward(channels_last, last, weight, **options)
    np.testing.assert_allclose(dx, expected, rtol=0, atol=1e-3)
    with convcore.threads(2):
        np.testing.assert_array_equal(convcore.conv2d(x, weight, **options), y)
