"""Shapes that nobody thought of, drawn by Hypothesis."""

import numpy as np
import pytest
from conftest import relative_error
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import convcore
from convcore import functional, reference

quick = settings(max_examples=150, deadline=None, derandomize=True)


def arrays_of(*shapes, dtype=np.float64):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


@st.composite
def windows(draw, axes, most_dilation=3):
    """Size, kernel and window arguments whose output is not empty."""
    per_axis = st.tuples(
        st.integers(1, 12),
        st.integers(1, 5),
        st.integers(1, 4),
        st.integers(1, most_dilation),
    )
    size, kernel, stride, dilation = zip(
        *(draw(per_axis) for _ in range(axes)), strict=True
    )
    extents = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    pads = [st.tuples(st.integers(0, e), st.integers(0, e)) for e in extents]
    padding = tuple(draw(pad) for pad in pads)
    for n, e, pair in zip(size, extents, padding, strict=True):
        assume(n + sum(pair) >= e)
    return size, kernel, {"stride": stride, "padding": padding, "dilation": dilation}


@st.composite
def convolutions(draw):
    axes = draw(st.integers(1, 3))
    size, kernel, arguments = draw(windows(axes))
    groups = draw(st.integers(1, 4))
    n, c, k = draw(st.integers(0, 4)), draw(st.integers(1, 9)), draw(st.integers(1, 9))
    shapes = (n, c * groups, *size), (k * groups, c, *kernel)
    arguments["groups"] = groups
    arguments["algorithm"] = draw(st.sampled_from(["auto", "direct", "im2col"]))
    return f"conv{axes}d", shapes, arguments


@quick
@given(convolutions(), st.booleans())
def test_convolution(call, last):
    name, shapes, arguments = call
    x, w = arrays_of(*shapes)
    b = np.arange(float(len(w)))
    expected = getattr(reference, name)(x, w, b, **arguments)
    if last:
        x = convcore.channels_last(x)
    y = getattr(functional, name)(x, w, b, **arguments)
    assert relative_error(y, expected) < 1e-13


@quick
@given(convolutions())
def test_gradients_are_adjoint(call):
    """<conv(x, w), dy> = <x, dx> = <w, dw>, for all dy."""
    name, shapes, arguments = call
    x, w = arrays_of(*shapes)
    y = getattr(functional, name)(x, w, **arguments)
    (dy,) = arrays_of(y.shape)
    dx, dw, db = getattr(functional, f"{name}_backward")(dy, x, w, **arguments)
    product = np.vdot(y, dy)
    scale = np.linalg.norm(y) * np.linalg.norm(dy) + 1
    assert abs(np.vdot(x, dx) - product) < 1e-12 * scale
    assert abs(np.vdot(w, dw) - product) < 1e-12 * scale
    assert np.allclose(db, dy.sum((0, *range(2, dy.ndim))), rtol=1e-12, atol=1e-12)


@st.composite
def poolings(draw):
    axes = draw(st.integers(1, 3))
    size, kernel, arguments = draw(windows(axes, most_dilation=1))
    arguments.pop("dilation")
    arguments["padding"] = tuple(
        (min(before, k // 2), min(after, k // 2))
        for (before, after), k in zip(arguments["padding"], kernel, strict=True)
    )
    for n, k, pair in zip(size, kernel, arguments["padding"], strict=True):
        assume(n + sum(pair) >= k)
    arguments["kernel_size"] = kernel
    arguments["ceil_mode"] = draw(st.booleans())
    shape = draw(st.integers(0, 3)), draw(st.integers(1, 20)), *size
    return axes, shape, arguments


@quick
@given(poolings(), st.booleans())
def test_max_pooling(call, last):
    axes, shape, arguments = call
    # Small integers, so that there are ties: the first element wins.
    x = np.random.default_rng(0).integers(0, 4, shape).astype(np.float64)
    name = f"max_pool{axes}d"
    expected = getattr(reference, name)(x, **arguments, return_indices=True)
    inputs = convcore.channels_last(x) if last else x
    y, indices = getattr(functional, name)(inputs, **arguments, return_indices=True)
    assert np.array_equal(y, expected[0])
    assert np.array_equal(indices, expected[1])
    (dy,) = arrays_of(y.shape)
    gradients = [
        getattr(module, f"{name}_backward")(dy, indices, shape, **arguments)
        for module in (functional, reference)
    ]
    assert relative_error(*gradients) < 1e-14


@quick
@given(poolings(), st.booleans(), st.booleans(), st.sampled_from([None, 3]))
def test_average_pooling(call, last, count_include_pad, divisor):
    axes, shape, arguments = call
    arguments |= {"count_include_pad": count_include_pad, "divisor_override": divisor}
    (x,) = arrays_of(shape)
    name = f"avg_pool{axes}d"
    expected = getattr(reference, name)(x, **arguments)
    inputs = convcore.channels_last(x) if last else x
    y = getattr(functional, name)(inputs, **arguments)
    assert relative_error(y, expected) < 1e-14
    (dy,) = arrays_of(y.shape)
    gradients = [
        getattr(module, f"{name}_backward")(dy, shape, **arguments)
        for module in (functional, reference)
    ]
    assert relative_error(*gradients) < 1e-14


@quick
@given(st.integers(0, 20), st.integers(1, 80), st.integers(1, 80))
def test_linear(n, inputs, outputs):
    x, w, b, dy = arrays_of((n, inputs), (outputs, inputs), (outputs,), (n, outputs))
    assert relative_error(functional.linear(x, w, b), x @ w.T + b) < 1e-13
    actual = functional.linear_backward(dy, x, w)
    for a, e in zip(actual, (dy @ w, dy.T @ x, dy.sum(0)), strict=True):
        assert relative_error(a, e) < 1e-13


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["x", "weight"])
def test_convolution_keeps_what_is_not_finite(value, place):
    """It lands where the definition puts it: products with padding do not exist."""
    arrays = dict(
        zip(("x", "weight"), arrays_of((1, 2, 6, 7), (3, 2, 3, 3)), strict=True)
    )
    arrays[place][0, 1, 2, 1] = value
    expected = reference.conv2d(**arrays, padding=1)
    for algorithm in ("auto", "direct", "im2col"):
        y = functional.conv2d(**arrays, padding=1, algorithm=algorithm)
        assert np.array_equal(np.isnan(y), np.isnan(expected))
        finite = np.isfinite(expected)
        assert np.array_equal(np.isfinite(y), finite)
        assert np.allclose(y[finite], expected[finite], rtol=1e-12)


def test_nan_in_relu_and_max_pooling():
    x = np.array([[[[1.0, np.nan, 2.0, 3.0, -np.inf, -np.inf]]]])
    assert np.array_equal(functional.relu(x), np.maximum(x, 0), equal_nan=True)
    y, indices = functional.max_pool2d(x, (1, 2), return_indices=True)
    assert np.array_equal(y, [[[[np.nan, 3.0, -np.inf]]]], equal_nan=True)
    assert indices.tolist() == [[[[1, 3, 4]]]]


@pytest.mark.parametrize("tiny", [1e-310, 5e-324])
def test_denormals_are_computed(tiny):
    x = np.full((1, 1, 1, 1), tiny)
    assert functional.conv2d(x, np.ones((1, 1, 1, 1)))[0, 0, 0, 0] == tiny
