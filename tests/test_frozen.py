"""Frozen models: the same results, and no training."""

from concurrent.futures import ThreadPoolExecutor

import networks
import numpy as np
import pytest

import convcore as cc
from convcore import functional as F
from convcore import nn, optim
from convcore.frozen import _RELEASES, FrozenModel


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_same_bits(name):
    model = networks.model(name, seed=3)
    frozen = model.freeze()
    x, y = networks.batch(name, 5, np.float32)
    np.testing.assert_array_equal(frozen.predict(x), model.predict(x))
    assert frozen.evaluate((x, y)) == model.evaluate((x, y))
    inner = next(iter(model.engine.graph.names))
    np.testing.assert_array_equal(frozen.predict(x, inner), model.predict(x, inner))


def test_training_goes_on_without_it():
    model = networks.model("residual")
    x, y = networks.batch("residual", 4, np.float32)
    frozen, before = model.freeze(), model.predict(x)
    model.train_step(x, y, optimizer=optim.SGD(0.5))
    np.testing.assert_array_equal(frozen.predict(x), before)
    assert not np.array_equal(model.predict(x), before)


@pytest.mark.parametrize(
    "call",
    [
        lambda model, x, y: model.fit((x, y)),
        lambda model, x, y: model.train_step(x, y, optimizer=optim.SGD(0.1)),
        lambda model, x, y: model.gradients(x, y),
        lambda model, x, y: model.set_trainable("*", False),
        lambda model, x, y: model.load_state_dict(model.state_dict()),
    ],
    ids=["fit", "train_step", "gradients", "set_trainable", "load_state_dict"],
)
def test_it_does_not_learn(call):
    frozen = networks.model("linear").freeze()
    x, y = networks.batch("linear", 4, np.float32)
    before = frozen.predict(x)
    with pytest.raises(TypeError, match="a frozen model does not learn"):
        call(frozen, x, y)
    np.testing.assert_array_equal(frozen.predict(x), before)


def test_files(tmp_path):
    frozen = networks.model("inception", seed=5, input_dtype="uint8").freeze()
    x, y = networks.batch("inception", 3, np.float32)
    frozen.save(tmp_path / "m.safetensors")
    model = cc.Model.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(model.predict(x), frozen.predict(x))
    assert model.input_dtype == np.uint8
    model.train_step(x, y, optimizer=optim.SGD(0.1))
    again = type(frozen).load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.predict(x), frozen.predict(x))


def test_many_threads():
    frozen = networks.model("residual").freeze()
    # Sizes that are new to it: plans are made and packed while others run.
    batches = [
        networks.batch("residual", 1 + i % 3, np.float32, i)[0] for i in range(9)
    ]
    model = networks.model("residual")
    expected = [model.predict(x) for x in batches]
    with ThreadPoolExecutor(6) as pool:
        for _ in range(5):
            for y, e in zip(pool.map(frozen.predict, batches), expected, strict=True):
                np.testing.assert_array_equal(y, e)


class Wide(nn.Module):
    """Weights of many pages, one of them computed, one used twice."""

    def __init__(self):
        self.first = nn.Conv2d(8, 96, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(96)
        self.again = nn.Conv2d(96, 96, 3, padding=1)
        self.turned = nn.Parameter(shape=(96, 96, 3, 3), bound=0.03)
        self.last = nn.Linear(96, 50)

    def forward(self, x):
        x = self.again(self.again(self.norm(self.first(x)).relu()))
        x = F.conv2d(x, self.turned * 2.0, activation="relu6")
        return self.last(F.mean(x, (2, 3)))


def wide(seed=0):
    model = cc.Model(Wide(), (8, 9, 10), seed=seed)
    x = np.random.default_rng(seed).standard_normal((7, 8, 9, 10), np.float32)
    return model, x


def test_weights_come_back(tmp_path):
    model, x = wide()
    frozen = model.freeze()
    expected = model.predict(x)

    def check(some):
        for n in some:
            error = np.abs(frozen.predict(x[:n]) - expected[:n]).max()
            assert error <= 1e-5 * np.abs(expected).max()

    check((1, 7, 2, 1))
    assert frozen.engine._released or not _RELEASES
    state = frozen.state_dict()
    assert not frozen.engine._released
    for key in ("again.weight", "last.weight", "last.bias"):
        np.testing.assert_array_equal(state[key], model.state_dict()[key])
    assert "turned" not in state  # what is computed of it is
    frozen.save(tmp_path / "m.safetensors")
    check((1, 5, 7))
    for loaded in (cc.Model, FrozenModel):
        again = loaded.load(tmp_path / "m.safetensors")
        np.testing.assert_array_equal(again.predict(x[:3]), frozen.predict(x[:3]))


def test_threads_read_weights_that_others_release():
    model, x = wide(1)
    expected, state = model.predict(x), model.freeze().state_dict()
    for _ in range(5):
        frozen = model.freeze()

        def work(i, frozen=frozen):
            if i == 4:
                for key, array in frozen.state_dict().items():
                    np.testing.assert_array_equal(array, state[key])
            n = 1 + i % 5
            error = np.abs(frozen.predict(x[:n]) - expected[:n]).max()
            assert error <= 1e-5 * np.abs(expected).max()

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(10)))


def test_arrays_of_every_kind():
    model = networks.model("lenet5", input_dtype="uint8")
    frozen = model.freeze()
    x, _ = networks.batch("lenet5", 6, np.float32)
    expected = model.predict(x)
    for _ in range(2):  # the second time by a runner, where it can be
        np.testing.assert_array_equal(frozen.predict(x), expected)
        np.testing.assert_array_equal(frozen.predict(x[::2]), model.predict(x[::2]))
        np.testing.assert_array_equal(frozen.predict(x[:0]), expected[:0])
        np.testing.assert_array_equal(frozen.predict(x, batch_size=4), expected)
        np.testing.assert_array_equal(frozen.predict(cc.channels_last(x)), expected)
        turned = np.asfortranarray(x)
        np.testing.assert_array_equal(frozen.predict(turned), expected)
        bytes_ = np.zeros(x.shape, np.uint8)
        np.testing.assert_array_equal(frozen.predict(bytes_), model.predict(bytes_))
        with pytest.raises(TypeError, match="x has dtype float64"):
            frozen.predict(x.astype(np.float64))
        with pytest.raises(ValueError, match="x must have shape"):
            frozen.predict(x[0])
    assert frozen.predict(x) is not frozen.predict(x)
    with cc.threads(2):
        np.testing.assert_array_equal(frozen.predict(x), expected)


def test_results_of_runs_are_apart():
    frozen = networks.model("lenet5").freeze()
    x, _ = networks.batch("lenet5", 2, np.float32)
    frozen.predict(x)
    first = frozen.predict(x)
    kept = first.copy()
    frozen.predict(-x)
    np.testing.assert_array_equal(first, kept)
