"""Frozen models: the same results, and no training."""

from concurrent.futures import ThreadPoolExecutor

import networks
import numpy as np
import pytest

import convcore as cc
from convcore import optim


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
