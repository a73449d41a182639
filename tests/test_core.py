"""The extension takes no array and no step that it could not run safely."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import convcore
from convcore import _core

ONE, ZERO = (1, 1, 1), (0, 0, 0)


def small_conv(**options):
    """x (1, 2, 4, 4), w (3, 2, 1, 1) -> y (1, 3, 4, 4), channels-last."""
    return _core.Conv(
        "float32", "last", 1, 2, 3, 1, (1, 4, 4), ONE, ONE, ZERO, ZERO, ONE, **options
    )  # fmt: skip


def f32(size):
    return np.zeros(size, np.float32)


X, W, Y = 32, 6, 48


def test_sizes():
    conv = small_conv()
    assert conv.output_size == (1, 4, 4)
    assert conv.choose("forward") == "direct"
    conv.forward(f32(X), f32(W), f32(3), f32(Y), f32(Y))


@pytest.mark.parametrize(
    "x",
    [
        f32(X + 1),
        f32(2 * X)[::2],
        np.zeros(X),
        f32(X).astype(">f4"),
        np.zeros(4 * X + 1, np.uint8)[1:].view(np.float32),
    ],
    ids=["size", "strides", "dtype", "byte order", "alignment"],
)
def test_arrays_are_checked(x):
    with pytest.raises(ValueError, match="x must be a dense array of 32 float32 elem"):
        small_conv().forward(x, f32(W), None, None, f32(Y))


def test_results_must_be_writable():
    y = f32(Y)
    y.flags.writeable = False
    with pytest.raises(ValueError, match="y must be a dense writable array"):
        small_conv().forward(f32(X), f32(W), None, None, y)
    with pytest.raises(TypeError, match="y must be a NumPy array, not list"):
        small_conv().forward(f32(X), f32(W), None, None, [0.0] * Y)


def test_overlap():
    memory = f32(X + Y)
    with pytest.raises(ValueError, match="overlaps"):
        small_conv().forward(memory[:X], f32(W), None, None, memory[X - 1 : -1])


def test_packed_weights():
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(n).astype(np.float32) for n in (X, W))
    plain, packed_conv = small_conv(), small_conv(packed=True)
    packed = _core.empty_aligned(4 * plain.packed_size("forward")).view(np.float32)
    plain.pack("forward", w, packed)
    expected, y = f32(Y), f32(Y)
    plain.forward(x, w, None, None, expected)
    packed_conv.forward(x, packed, None, None, y)
    assert np.array_equal(y, expected)
    packed[:16] = 0
    with pytest.raises(ValueError, match="packed for another shape, pass or ISA"):
        packed_conv.forward(x, packed, None, None, y)


def test_empty_aligned():
    for nbytes in (0, 1, 64, 1000):
        array = _core.empty_aligned(nbytes)
        assert array.nbytes == nbytes
        assert array.ctypes.data % 64 == 0


def test_scratch_of_calls_at_once():
    """Calls of many sizes, more at once than there are blocks of scratch kept."""
    rng = np.random.default_rng(0)
    layers = [
        [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
        for shapes in (
            ((1, 16, 40, 40), (16, 16, 3, 3)),
            ((2, 3, 9, 9), (4, 3, 5, 5)),
            ((4, 32, 60, 60), (32, 32, 3, 3)),
            ((1, 40, 14, 14), (64, 40, 1, 1)),
        )
    ]

    def run(i):
        x, w = layers[i % len(layers)]
        y = convcore.conv2d(x, w, padding=1, algorithm=("auto", "im2col")[i % 3 == 0])
        return y, *convcore.functional.conv2d_backward(y, x, w, padding=1)

    with convcore.threads(1):
        expected = [run(i) for i in range(12)]

    def check(i):
        with convcore.threads(1 + i // 12 % 2):
            for a, e in zip(run(i % 12), expected[i % 12], strict=True):
                assert a.tobytes() == e.tobytes()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(check, range(96)))


def test_scratch_follows_the_threads():
    """A descriptor asks again how much scratch it needs, also by default."""
    size, before = (1, 64, 64), _core.default_threads()
    conv = _core.Conv(
        "float32", "last", 8, 32, 32, 1, size, (1, 3, 3), ONE, ZERO, ZERO, ONE,
        algorithm="winograd",
    )  # fmt: skip
    x, w = np.ones(8 * 32 * 64 * 64, np.float32), np.ones(32 * 32 * 9, np.float32)
    results = []
    try:
        for threads, default in ((1, 1), (0, 1), (0, 3), (2, 1), (0, 2)):
            _core.set_default_threads(default)
            results.append(np.zeros(8 * 32 * 62 * 62, np.float32))
            conv.forward(x, w, None, None, results[-1], threads)
    finally:
        _core.set_default_threads(before)
    for y in results[1:]:
        assert y.tobytes() == results[0].tobytes()


@pytest.mark.parametrize("width", [160, 161])  # rows of whole lines, and others
@pytest.mark.parametrize("layout", ["first", "last"])
def test_pooling_past_the_caches(layout, width, rng):
    """Images whose arrays the caches would not keep: as one by one."""

    def pool(n):
        sizes = (1, 112, width), (1, 56, (width + 1) // 2), (1, 3, 3), (1, 2, 2)
        return _core.Pool(
            "float32", layout, "max", n, 64, *sizes, (0, 1, 1), (0, 1, 1), ONE,
            index_dtype="uint8",
        )  # fmt: skip

    x = rng.standard_normal((4, 64 * 112 * width), np.float32)
    y = rng.standard_normal((4, 64 * 56 * ((width + 1) // 2)), np.float32)
    results = []
    for n in (4, 1):
        maxima, taps = np.empty_like(y), np.empty(y.shape, np.uint8)
        memory = _core.empty_aligned(x.nbytes).view(np.float32)
        dx = memory.reshape(x.shape)
        for i in range(0, 4, n):
            pool(n).forward(x[i : i + n], maxima[i : i + n], taps[i : i + n], n // 2)
            pool(n).backward(y[i : i + n], taps[i : i + n], dx[i : i + n], n // 2)
        results.append([a.tobytes() for a in (maxima, taps, dx)])
    assert results[0] == results[1]


@pytest.mark.parametrize("rows", [-1, 4, 2**62])
def test_copy_stays_inside(rows):
    with pytest.raises(ValueError, match="exceed arrays of 12 and 12 elements"):
        _core.copy(rows, 3, f32(12), 4, f32(12), 4)


# -------------------------------------------------------------------- plans


def operand(space, offset, size, index=0):
    return (space, index, "float32", offset, size)


def relu_plan():
    """y = relu(x + x), x and y external, x + x in the arena."""
    x, y = operand("external", 0, 8), operand("external", 0, 8, 1)
    inner = operand("arena", 0, 8)
    steps = [("add", (x, x, inner), None), ("relu_forward", (inner, y), None)]
    return _core.Plan(steps, {"arena": 64}, [32, 32])


def run(plan, x, y, arena=None, **options):
    arena = _core.empty_aligned(64) if arena is None else arena
    plan.run(0, 2, arena, None, None, None, (x, y), **options)


def test_a_plan_runs():
    x, y = np.arange(-4, 4, dtype=np.float32), f32(8)
    seconds = np.full(2, -1.0)
    run(relu_plan(), x, y, seconds=seconds)
    assert y.tolist() == [0, 0, 0, 0, 0, 2, 4, 6]
    assert (seconds >= 0).all()


def test_a_plan_only_writes_what_it_says():
    x, y = f32(8), f32(8)
    x.flags.writeable = False
    run(relu_plan(), x, y)
    y.flags.writeable = False
    with pytest.raises(ValueError, match=r"external\[1\] must be a dense writable"):
        run(relu_plan(), x, y)


def test_the_memory_of_a_plan_is_checked():
    plan, x = relu_plan(), f32(8)
    with pytest.raises(ValueError, match=r"external\[1\] must be .* of 32 bytes"):
        run(plan, x, f32(7))
    with pytest.raises(ValueError, match=r"arena must be .* of 64 bytes"):
        run(plan, x, f32(8), arena=_core.empty_aligned(63))
    with pytest.raises(ValueError, match="arena must be 64-byte aligned"):
        run(plan, x, f32(8), arena=_core.empty_aligned(80)[16:])
    with pytest.raises(ValueError, match="2 external arrays are needed, not 1"):
        plan.run(0, 2, _core.empty_aligned(64), None, None, None, (x,))
    with pytest.raises(ValueError, match="seconds must be"):
        run(plan, x, f32(8), seconds=np.zeros(1))
    with pytest.raises(TypeError, match="arena must be a NumPy array, not NoneType"):
        plan.run(0, 2, None, None, None, None, (x, x))


@pytest.mark.parametrize(
    ("step", "error", "message"),
    [
        (("sub", (), None), ValueError, "unknown kind of step: 'sub'"),
        (("add", (None,) * 12, None), ValueError, "at most 11 operands"),
        (("conv_forward", (), None), TypeError, "conv_forward needs a Conv, not None"),
        (("relu_forward", (operand("stack", 0, 8),) * 2, None), ValueError, "'stack'"),
        (("relu_forward", (operand("arena", 9, 8),) * 2, None), ValueError, "step 0"),
        (("relu_forward", (operand("arena", -1, 8),) * 2, None), ValueError, "step 0"),
        (("copy", (operand("arena", 0, 8),) * 2, (9, 1, 1, 1)), ValueError, "step 0"),
    ],
)
def test_bad_steps(step, error, message):
    with pytest.raises(error, match=message):
        _core.Plan([step], {"arena": 64}, [])
