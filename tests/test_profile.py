"""Profiles: what they count, and that they change nothing."""

import json

import networks
import numpy as np
import pytest

import convcore as cc
from convcore import nn


@pytest.fixture
def x(rng):
    return rng.standard_normal((4, 1, 28, 28), np.float32)


def test_training_step(x):
    model = networks.model("lenet5")
    before = model.state_dict()
    profile = model.profile(x, train=True, repeats=1)
    assert all(np.array_equal(before[k], v) for k, v in model.state_dict().items())
    rows = profile.rows
    assert {row.segment for row in rows} == {"forward", "backward", "update"}
    first = rows[0]
    assert (first.layer, first.operator) == ("features.0", "conv_forward")
    assert first.shape == (4, 6, 28, 28) and first.parameters == 6 * 25 + 6
    assert first.flops == 2 * 4 * 6 * 28 * 28 * 25
    # Every convolution and linear layer three times, the first twice.
    flops = {row.layer: 0 for row in rows}
    for row in rows:
        flops[row.layer] += row.flops
    assert flops["features.0"] == 2 * first.flops
    assert flops["classifier.0"] == 3 * 2 * 4 * 400 * 120
    assert all(row.seconds >= 0 and row.share >= 0 for row in rows)
    assert profile.seconds == pytest.approx(sum(row.seconds for row in rows))


def test_prediction(x):
    profile = networks.model("lenet5").profile(x, repeats=1)
    assert {row.segment for row in profile.rows} == {"forward"}


def test_table_and_json(x):
    profile = networks.model("lenet5").profile(x, train=True, repeats=1)
    text = str(profile)
    assert "features.3" in text and "GFLOP/s" in text and "GB/s" in text
    data = json.loads(json.dumps(profile.as_dict()))
    assert len(data["rows"]) == len(profile.rows) and data["limits"]["flops"] > 0


def test_a_step_of_python_has_the_name_of_its_operator(rng):
    model = cc.Model(nn.Sequential(nn.Conv2d(1, 2, 3), nn.PReLU()), (1, 8, 8))
    x = rng.standard_normal((2, 1, 8, 8), np.float32)
    profile = model.profile(x, train=True, loss="mse", repeats=1)
    assert "numpy" not in {row.operator for row in profile.rows}
