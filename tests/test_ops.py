"""Every row of the table: values, gradients, memory layouts, threads, ISAs."""

import inspect
from dataclasses import replace

import numpy as np
import pytest
from conftest import relative_error, run_python
from table import LARGE, OPS, conv

import convcore
from convcore import reference
from convcore.ops.base import OPERATORS, apply

FLOAT32_LIMIT = 3e-6  # of the precision class "highest"

rows = pytest.mark.parametrize("row", OPS, ids=str)
rows_of_arrays = pytest.mark.parametrize(
    "row", [row for row in OPS if row not in LARGE], ids=str
)


def gradient_of_result(row, y):
    """An array to send backward."""
    return np.random.default_rng(1).standard_normal(y.shape).astype(y.dtype)


def results(row, module, arrays):
    """The result and all gradients."""
    y = row.call(module, arrays)
    return [y, *row.gradients(module, gradient_of_result(row, y), arrays)]


def is_convolution(row):
    return row.function in ("conv1d", "conv2d", "conv3d")


def is_real(a):
    return isinstance(a, np.ndarray) and a.dtype.kind == "f"


@rows
def test_float64_against_reference(row):
    arrays = row.arrays(np.float64)
    for actual, expected in zip(
        results(row, convcore.functional, arrays),
        results(row, reference, arrays),
        strict=True,
    ):
        assert actual.dtype == np.float64
        assert relative_error(actual, expected) < 1e-13


@rows
def test_float32_against_float64_reference(row):
    arrays = row.arrays(np.float32)
    wide = [a.astype(float) if is_real(a) else a for a in arrays]
    y = row.call(convcore, arrays)
    dy = gradient_of_result(row, y)
    actual = [y, *row.gradients(convcore.functional, dy, arrays)]
    expected = [
        row.call(reference, wide),
        *row.gradients(reference, dy.astype(float), wide),
    ]
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == np.float32
        assert relative_error(a, e) < FLOAT32_LIMIT


@rows_of_arrays
def test_gradient_against_finite_differences(row):
    arrays = row.arrays(np.float64)
    y = row.call(convcore, arrays)
    dy = gradient_of_result(row, y)
    # Fused or not, ReLU has its own gradient, and the backward call none of it.
    arguments = {k: v for k, v in row.arguments.items() if k != "activation"}
    row = replace(row, arguments=arguments)
    gradients = row.gradients(convcore.functional, dy, arrays)
    differentiable = [i for i, a in enumerate(arrays) if is_real(a)]
    step = 1e-6
    for i, gradient in zip(differentiable, gradients, strict=False):
        direction = np.random.default_rng(2).standard_normal(arrays[i].shape)

        def loss(shift, i=i, direction=direction):
            moved = [*arrays[:i], arrays[i] + shift * direction, *arrays[i + 1 :]]
            return np.sum(row.call(convcore, moved) * dy)

        slope = (loss(step) - loss(-step)) / (2 * step)
        scale = np.linalg.norm(dy) * np.linalg.norm(direction) + 1
        assert abs(np.sum(gradient * direction) - slope) < 1e-7 * scale


def sliced(a):
    """The same elements, every other one of a larger array."""
    wide = np.zeros([2 * n + 1 for n in a.shape], a.dtype)
    part = wide[(..., *(slice(1, None, 2) for _ in a.shape))]
    part[...] = a
    return part


def reversed_memory(a):
    """The same elements, stored from the last to the first."""
    flip = (slice(None, None, -1),) * a.ndim
    return a[flip].copy()[flip]


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def unaligned(a):
    """The same elements at an odd address."""
    memory = np.zeros(a.nbytes + 1, np.uint8)[1:]
    shifted = memory[: a.nbytes].view(a.dtype).reshape(a.shape)
    shifted[...] = a
    return shifted


@pytest.mark.parametrize("change", [sliced, reversed_memory, read_only, unaligned])
@rows_of_arrays
def test_any_strides(row, change):
    arrays = row.arrays(np.float32)
    changed = [change(a) if isinstance(a, np.ndarray) else a for a in arrays]
    before = [a.copy() if isinstance(a, np.ndarray) else a for a in changed]
    for actual, expected in zip(
        results(row, convcore.functional, changed),
        results(row, convcore.functional, arrays),
        strict=True,
    ):
        assert np.array_equal(actual, expected)
    for a, b in zip(changed, before, strict=True):
        assert np.array_equal(a, b) if isinstance(a, np.ndarray) else a is b


@rows_of_arrays
def test_broadcast_input(row):
    arrays = row.arrays(np.float64)
    if arrays[0].ndim == 0 or arrays[0].shape[0] == 0 or row.function == "cat":
        pytest.skip("nothing to broadcast")
    shape = arrays[0].shape
    arrays[0] = np.broadcast_to(arrays[0][:1], shape)
    dense = [arrays[0].copy(), *arrays[1:]]
    for actual, expected in zip(
        results(row, convcore.functional, arrays),
        results(row, convcore.functional, dense),
        strict=True,
    ):
        assert np.array_equal(actual, expected)


# Results are in whatever order is easiest to make.
LOSE_LAYOUT = {
    *("amax", "mean", "sum", "matmul", "permute", "transpose", "squeeze", "unsqueeze"),
    *("pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "layer_norm", "pad"),
    *("nll_loss", "cross_entropy", "max_unpool1d", "max_unpool2d", "max_unpool3d"),
    *("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"),
}


@rows
def test_channels_last(row):
    arrays = row.arrays(np.float32)
    ndim = int(row.function[-2]) + 2 if row.function[-2:-1].isdigit() else 4
    if arrays[0].ndim != ndim or row.function in ("flatten", "embedding"):
        pytest.skip("not a batch (N, C, space)")
    # Weights are the second array; functions of several inputs have them all.
    several = row.function in ("add", "sub", "mul", "div", "cat")
    inputs = arrays if several or "loss" in row.function else arrays[:1]
    last = [
        convcore.channels_last(a)
        if i < len(inputs) and is_real(a) and a.ndim == ndim
        else a
        for i, a in enumerate(arrays)
    ]
    y = row.call(convcore, last)
    dy = gradient_of_result(row, y)
    last_dy = convcore.channels_last(dy) if 2 < dy.ndim < 6 else dy
    actual = [y, *row.gradients(convcore.functional, last_dy, last)]
    expected = [
        row.call(convcore, arrays),
        *row.gradients(convcore.functional, dy, arrays),
    ]
    for a, e in zip(actual, expected, strict=True):
        assert relative_error(a, e.astype(float)) < FLOAT32_LIMIT
    keeps = row.function not in LOSE_LAYOUT and y.ndim > 2
    if keeps and not last[0].flags.c_contiguous:
        assert np.moveaxis(y, 1, -1).flags.c_contiguous


@pytest.mark.parametrize("algorithm", ["direct", "im2col"])
@pytest.mark.parametrize("row", [row for row in OPS if is_convolution(row)], ids=str)
def test_algorithms(row, algorithm):
    arrays = row.arrays(np.float64)
    y = row.call(convcore, arrays, algorithm=algorithm)
    dy = gradient_of_result(row, y)
    gradients = row.gradients(convcore.functional, dy, arrays, algorithm=algorithm)
    expected = results(row, reference, arrays)
    for a, e in zip([y, *gradients], expected, strict=True):
        assert relative_error(a, e) < 1e-13


def is_for_winograd(row):
    """One stride and dilation, 3 or 5 taps along each of one or two axes."""
    return (
        is_convolution(row)
        and row.shapes[1][2:] in ((3,), (5,), (3, 3), (5, 5))
        and row.arguments.get("stride", 1) == row.arguments.get("dilation", 1) == 1
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "row",
    [
        *filter(is_for_winograd, OPS),
        # More than one block of tiles, and a last one that is not full.
        conv(2, 3, 17, 33, (31, 30), 3, padding=1),
        conv(2, 2, 16, 32, (26, 29), 5, padding=2),
        conv(2, 3, 17, 33, (61, 58), 3, padding=1, stride=2),
    ],
    ids=str,
)
def test_winograd(row, dtype):
    limit = FLOAT32_LIMIT if dtype is np.float32 else 1e-13
    x, w, bias = row.arrays(dtype)
    wide = [None if a is None else a.astype(float) for a in (x, w, bias)]
    y = row.call(convcore, [x, w, bias], algorithm="winograd")
    assert relative_error(y, row.call(reference, wide)) < limit
    arguments = {k: v for k, v in row.arguments.items() if k != "activation"}
    dy = gradient_of_result(row, y)
    backward = f"{row.function}_backward"
    gradients = getattr(convcore.functional, backward)(
        dy, x, w, **arguments, algorithm="winograd"
    )
    expected = getattr(reference, backward)(dy.astype(float), *wide[:2], **arguments)
    for gradient, e in zip(gradients, expected, strict=True):
        assert relative_error(gradient, e) < limit


@pytest.mark.parametrize("algorithm", ["direct", "im2col", "winograd"])
@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_residual(algorithm, last):
    """What networks add within a convolution, in every algorithm."""
    row = conv(2, 2, 6, 17, (9, 10), 3, padding=1)
    residual = np.random.default_rng(3).standard_normal((2, 17, 9, 10))
    arrays = [*row.arrays(np.float32), residual.astype(np.float32)]
    attrs = dict(
        stride=(1, 1), padding=((1, 1),) * 2, dilation=(1, 1), groups=1,
        algorithm=algorithm, activation="relu",
    )  # fmt: skip
    operator = OPERATORS["conv"]
    expected = operator.reference(*(a.astype(float) for a in arrays), **attrs)
    if last:
        arrays[0] = convcore.channels_last(arrays[0])
    assert relative_error(apply(operator, *arrays, **attrs), expected) < FLOAT32_LIMIT
    with pytest.raises(ValueError, match=r"residual must have shape \(2, 17, 9, 10\)"):
        apply(operator, *arrays[:3], arrays[3][1:], **attrs)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@rows
def test_threads_do_not_change_a_bit(row, dtype):
    arrays = row.arrays(dtype)
    with convcore.threads(1):
        expected = results(row, convcore.functional, arrays)
    for n in (2, 3):
        with convcore.threads(n):
            actual = results(row, convcore.functional, arrays)
        for a, e in zip(actual, expected, strict=True):
            assert a.tobytes() == e.tobytes()


@rows_of_arrays
def test_result_is_new_or_out(row):
    arrays = row.arrays(np.float64)
    y = row.call(convcore, arrays)
    given = [a for a in arrays if isinstance(a, np.ndarray)]
    assert not any(np.shares_memory(y, a) for a in given)
    if "out" not in inspect.signature(getattr(convcore, row.function)).parameters:
        pytest.skip("has no out")
    for out in (np.empty_like(y), sliced(y), np.empty_like(y, order="F")):
        out.fill(np.nan)
        assert row.call(convcore, arrays, out=out) is out
        assert np.array_equal(out, y)


def test_isa(other_isa):
    run = run_python(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__,
        "-k", "reference or threads or algorithms or winograd",
        CONVCORE_ISA=other_isa,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout
