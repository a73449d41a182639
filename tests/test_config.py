"""Threads, precision, the description of the build, and what an array may be."""

import os
import signal
import threading
import time

import numpy as np
import pytest
from conftest import run_python

import convcore as cc
from convcore import _core


@pytest.fixture(autouse=True)
def restore():
    threads, precision = _core.default_threads(), cc.get_float32_precision()
    yield
    _core.set_default_threads(threads)
    cc.set_float32_precision(precision)


def test_threads_of_a_block():
    cc.set_num_threads(3)
    assert cc.get_num_threads() == 3
    with cc.threads(2):
        assert cc.get_num_threads() == 2
        with cc.threads(5):
            assert cc.get_num_threads() == 5
        assert cc.get_num_threads() == 2
    assert cc.get_num_threads() == 3


def test_a_block_is_of_one_thread():
    cc.set_num_threads(3)
    seen = []
    with cc.threads(2):
        thread = threading.Thread(target=lambda: seen.append(cc.get_num_threads()))
        thread.start()
        thread.join()
    assert seen == [3]


@pytest.mark.parametrize(
    ("n", "error"),
    [(0, ValueError), (-1, ValueError), (10**6, ValueError), (1.5, TypeError)],
)
def test_bad_threads(n, error):
    with pytest.raises(error, match=f"not {n}"):
        cc.set_num_threads(n)
    with pytest.raises(error, match=f"not {n}"), cc.threads(n):
        pass


def test_threads_from_the_environment():
    run = run_python(
        "-c", "import convcore; print(convcore.get_num_threads())", OMP_NUM_THREADS="3"
    )
    assert run.stdout.strip() == ("3" if _core.has_openmp() else "1")


def test_precision():
    assert cc.get_float32_precision() == "highest"
    cc.set_float32_precision("medium")
    assert cc.get_float32_precision() == "medium"
    with pytest.raises(ValueError, match="not 'low'"):
        cc.set_float32_precision("low")


def test_show_config(capsys):
    cc.show_config()
    text = capsys.readouterr().out
    for fact in (cc.__version__, _core.isa(), "OpenMP", "threads", "compiler", "-O"):
        assert fact in text


def test_forced_isa():
    code = "import convcore; print(convcore._core.isa())"
    for name in _core.isas_available():
        assert run_python("-c", code, CONVCORE_ISA=name).stdout.strip() == name
    run = run_python("-c", code, CONVCORE_ISA="sse9")
    assert run.returncode != 0
    assert run.stderr.splitlines()[-1].endswith("support: 'sse9'")


def test_functions_are_collected():
    names = {name for name in vars(cc.functional) if not name.startswith("_")}
    assert names == set(cc.reference.__all__)
    for name in names:
        function = getattr(cc.functional, name)
        assert function.__name__ == name == getattr(cc.reference, name).__name__
        assert function.__doc__
        assert "{" not in function.__doc__.replace('{"', "").replace("{None", "")
        assert getattr(cc, name) is function


class HasArray:
    """What another library's array may look like."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


class HasDlpack(HasArray):
    def __dlpack__(self, **arguments):
        return self.array.__dlpack__(**arguments)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    __array__ = None


@pytest.mark.parametrize("wrap", [HasArray, HasDlpack])
def test_arrays_of_others(wrap, rng):
    x, w = rng.standard_normal((1, 2, 5, 5)), rng.standard_normal((3, 2, 3, 3))
    assert np.array_equal(cc.conv2d(wrap(x), wrap(w)), cc.conv2d(x, w))
    with pytest.raises(TypeError, match="x has dtype int32"):
        cc.relu(wrap(np.zeros(3, np.int32)))


def test_subclasses_give_arrays():
    y = cc.relu(np.ma.masked_array([1.0, -1.0]))
    assert type(y) is np.ndarray


def test_one_channel_is_channels_first():
    x = cc.channels_last(np.zeros((2, 1, 5, 6)))
    assert cc.conv2d(x, np.zeros((3, 1, 3, 3))).flags.c_contiguous


def test_channels_last():
    x = np.arange(120.0).reshape(2, 3, 4, 5)
    last = cc.channels_last(x)
    assert np.array_equal(last, x)
    assert last.transpose(0, 2, 3, 1).flags.c_contiguous
    assert np.shares_memory(cc.channels_last(last), last)
    with pytest.raises(ValueError, match=r"not shape \(2,\)"):
        cc.channels_last(np.zeros(2))


def test_unbatched_equals_a_batch_of_one(rng):
    x, w = rng.standard_normal((3, 8, 9)), rng.standard_normal((4, 3, 3, 3))
    y = cc.conv2d(x, w, padding=1)
    assert np.array_equal(y, cc.conv2d(x[None], w, padding=1)[0])
    y, indices = cc.max_pool2d(x, 2, return_indices=True)
    dx = cc.max_pool2d_backward(y, indices, x.shape, 2)
    assert dx.shape == x.shape
    assert cc.avg_pool2d_backward(cc.avg_pool2d(x, 2), x.shape, 2).shape == x.shape
    out = np.empty((4, 8, 9))
    assert cc.conv2d(x, w, padding=1, out=out) is out


def test_gradient_mask(rng):
    x, w = rng.standard_normal((1, 2, 5, 5)), rng.standard_normal((3, 2, 3, 3))
    dy = cc.conv2d(x, w)
    full = cc.conv2d_backward(dy, x, w)
    for mask in np.ndindex(2, 2, 2):
        for wanted, part, whole in zip(
            mask, cc.conv2d_backward(dy, x, w, output_mask=mask), full, strict=True
        ):
            assert (part is None) == (not wanted)
            assert part is None or np.array_equal(part, whole)


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as on POSIX")
def test_interrupt():
    # Seconds of work on any machine, in blocks of microseconds.
    x = np.ones((32, 64, 96, 96), np.float32)
    w = np.ones((256, 64, 11, 11), np.float32)
    sent = []

    def interrupt():
        time.sleep(0.3)
        sent.append(time.perf_counter())
        signal.raise_signal(signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    with pytest.raises(KeyboardInterrupt), cc.threads(1):
        thread.start()
        cc.conv2d(x, w)
    seconds = time.perf_counter() - sent[0]
    thread.join()
    # Polled every 10 ms; the rest is for a machine that is busy otherwise.
    assert seconds < 0.25


def test_the_gil_is_released():
    """Other threads run while a convolution does."""
    x = np.ones((8, 32, 96, 96), np.float32)
    w = np.ones((64, 32, 5, 5), np.float32)
    ticks, done = [], threading.Event()

    def tick():
        while not done.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    with cc.threads(1):
        begin = time.perf_counter()
        cc.conv2d(x, w)
        end = time.perf_counter()
    done.set()
    thread.join()
    assert sum(begin < t < end for t in ticks) >= 3
