"""Batch normalisation with running statistics, dropout: what no table row says."""

import itertools

import numpy as np
import pytest
from conftest import relative_error

import convcore as cc
from convcore import functional as F
from convcore import nn, optim, reference

SHAPES = [(4, 3, 5, 6), (2, 70, 7, 7), (9, 16, 31, 33), (5, 130), (3, 33, 4)]


def arrays(shape, dtype):
    """x, running mean and variance, weight, bias, dy."""
    rng = np.random.default_rng(0)
    channels = [rng.standard_normal(shape[1]) for _ in range(4)]
    channels[1] = np.abs(channels[1]) + 0.5
    x = 3 * rng.standard_normal(shape) + 10
    return [a.astype(dtype) for a in (x, *channels, rng.standard_normal(shape))]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_batch_norm_as_in_torch(shape, dtype, training):
    """Results, gradients and running statistics, against torch in float64."""
    torch = pytest.importorskip("torch")
    x, mean, var, weight, bias, dy = arrays(shape, dtype)
    theirs = [torch.tensor(a.astype(float)) for a in (x, mean, var, weight, bias)]
    differentiated = [theirs[i].requires_grad_() for i in (0, 3, 4)]
    expected = torch.nn.functional.batch_norm(*theirs, training)
    expected.backward(torch.tensor(dy.astype(float)))
    gradients = F.batch_norm_backward(dy, x, mean, var, weight, training)
    y = F.batch_norm(x, mean, var, weight, bias, training)
    limit = 1e-6 if dtype is np.float32 else 1e-13
    found = [y, mean, var, *gradients]
    wanted = [expected.detach(), *theirs[1:3], *(t.grad for t in differentiated)]
    for a, e in zip(found, wanted, strict=True):
        assert a.dtype == dtype
        assert relative_error(a, e.numpy()) < limit


def test_variance_far_from_zero():
    """No digits are lost to a mean that is large."""
    rng = np.random.default_rng(1)
    for offset, last in itertools.product((1e3, -1e4), (False, True)):
        x = (rng.standard_normal((8, 16, 28, 28)) + offset).astype(np.float32)
        x[0, :, 0] = 0  # and no sample of x shows all of it
        expected = reference.batch_norm(x.astype(float), None, None, training=True)
        given = cc.channels_last(x) if last else x
        y = F.batch_norm(given, None, None, training=True)
        assert np.abs(y - expected).max() < 1e-3


def test_running_statistics_without_momentum_are_means():
    module = nn.BatchNorm2d(3, momentum=None)
    model = cc.Model(nn.Sequential(module, nn.Flatten(), nn.Linear(48, 2)), (3, 4, 4))
    rng = np.random.default_rng(2)
    optimizer, means = optim.SGD(0.1), []
    for _ in range(4):
        x = rng.standard_normal((5, 3, 4, 4)).astype(np.float32)
        model.train_step(x, np.zeros(5, int), optimizer=optimizer)
        means.append(x.mean((0, 2, 3)))
    state = model.state_dict()
    assert state["0.num_batches_tracked"] == 4
    np.testing.assert_allclose(state["0.running_mean"], np.mean(means, 0), atol=1e-6)


def network():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(4 * 9, 6),
        nn.BatchNorm1d(6),
        nn.Linear(6, 3),
    )


def batch(seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((6, 2, 5, 5)).astype(np.float32), rng.integers(0, 3, 6)


def test_training_and_inference_differ():
    model = cc.Model(network(), (2, 5, 5))
    x, y = batch()
    before = model.state_dict()
    model.predict(x), model.evaluate((x, y)), model.gradients(x, y)
    for key, tensor in model.state_dict().items():
        np.testing.assert_array_equal(tensor, before[key])
    np.testing.assert_array_equal(model.predict(x), model.predict(x))
    training, _, _ = model.gradients(x, y, training=True)
    inference, _, _ = model.gradients(x, y, training=False)
    assert inference == pytest.approx(model.evaluate((x, y))["loss"])
    assert training != inference
    model.train_step(x, y, optimizer=optim.SGD(0.1))
    after = model.state_dict()
    assert after["1.num_batches_tracked"] == 1
    assert not np.array_equal(after["1.running_mean"], before["1.running_mean"])


def test_a_failed_step_changes_no_buffer():
    model = cc.Model(network(), (2, 5, 5))
    x, y = batch()
    before = model.state_dict()
    with pytest.raises(ValueError, match="target"):
        model.train_step(x, y + 9, optimizer=optim.SGD(0.1))
    for key, tensor in model.state_dict().items():
        np.testing.assert_array_equal(tensor, before[key])


def test_buffers_do_not_learn():
    model = cc.Model(network(), (2, 5, 5))
    _, gradients, _ = model.gradients(*batch())
    assert not any("running" in key or "tracked" in key for key in gradients)
    with pytest.raises(ValueError, match="no parameter matches"):
        model.set_trainable("*running_mean", False)
    assert "98 parameters" not in model.summary()


def test_dropout_draws_by_seed_and_step():
    x, y = batch()

    def train(seed, steps):
        model, optimizer = cc.Model(network(), (2, 5, 5), seed=seed), optim.SGD(0.0)
        return [model.train_step(x, y, optimizer=optimizer) for _ in range(steps)]

    first = train(3, 3)
    assert first == train(3, 3)
    assert len(set(first)) == 3  # the parameters do not change, what is dropped does


def test_two_dropouts_drop_different_elements():
    class Pair(nn.Module):
        def __init__(self):
            self.one, self.two = nn.Dropout(), nn.Dropout()

        def forward(self, x):
            return (
                self.one(x),
                self.two(x),
                cc.dropout(x, seed=1),
                cc.dropout(x, seed=1),
            )

    model = cc.Model(Pair(), (1000,))
    graph = model.engine.training
    streams = [
        node.attrs["stream"] for node in graph.nodes if node.op.name == "dropout"
    ]
    assert len(set(streams)) == 3 and streams[2] == streams[3]


def test_gradient_of_dropout_in_a_network():
    model = cc.Model(nn.Sequential(nn.Dropout(0.4), nn.Linear(50, 1)), (50,))
    x = np.ones((8, 50), np.float32)
    _, gradients, dx = model.gradients(
        x, np.zeros((8, 1), np.float32), loss=lambda output, target: output.sum()
    )
    weight = model.state_dict()["1.weight"]
    dropped = dx == 0
    assert 0.3 < dropped.mean() < 0.5
    expected = np.where(dropped, 0, weight / np.float32(0.6))
    np.testing.assert_allclose(dx, expected, rtol=1e-6)
    kept = (~dropped).sum(0) / np.float32(0.6)
    np.testing.assert_allclose(gradients["1.weight"][0], kept, rtol=1e-6)


def test_cut_keeps_the_statistics_of_what_remains():
    model = cc.Model(network(), (2, 5, 5))
    x, y = batch()
    part = model.cut("4")
    assert [k for k in part.state_dict() if "running" in k] == [
        "1.running_mean",
        "1.running_var",
    ]
    part.train_step(x, y, optimizer=optim.SGD(0.1))
    assert part.state_dict()["1.num_batches_tracked"] == 1


def test_frozen_models_have_no_batch_norm():
    model = cc.Model(network(), (2, 5, 5))
    x, y = batch()
    for _ in range(3):
        model.train_step(x, y, optimizer=optim.SGD(0.1))
    frozen = model.freeze()
    assert sorted(frozen.state_dict()) == [
        "0.bias", "0.weight", "5.bias", "5.weight", "7.bias", "7.weight",
    ]  # fmt: skip
    assert relative_error(frozen.predict(x), model.predict(x).astype(float)) < 1e-5


def test_what_cannot_be_folded_stays():
    class Shared(nn.Module):
        """A layer with two norms, a norm of a sum, a result that two read."""

        def __init__(self):
            self.conv = nn.Conv2d(2, 2, 1)
            self.norms = nn.ModuleList([nn.BatchNorm2d(2) for _ in range(4)])

        def forward(self, x):
            x = self.norms[0](self.conv(x)) + self.norms[1](self.conv(x))
            x = self.norms[2](x)
            return self.norms[3](x) + x

    model = cc.Model(nn.Sequential(Shared(), nn.Flatten()), (2, 5, 5))
    x, y = batch()
    model.train_step(x, y, optimizer=optim.SGD(0.1))
    frozen = model.freeze()
    assert list(frozen.state_dict()) == [
        k for k in model.state_dict() if "num" not in k
    ]
    np.testing.assert_array_equal(frozen.predict(x), model.predict(x))


def test_one_value_per_channel():
    message = "one value per channel"
    with pytest.raises(ValueError, match=message):
        F.batch_norm(np.zeros((1, 3)), None, None, training=True)
    model = cc.Model(nn.Sequential(nn.BatchNorm1d(4)), (4,))
    x, y = np.zeros((1, 4), np.float32), np.zeros(1, int)
    assert model.predict(x).shape == (1, 4)
    with pytest.raises(ValueError, match=message):
        model.train_step(x, y, optimizer=optim.SGD(0.1))


def test_modules_take_their_ranks():
    with pytest.raises(ValueError, match="BatchNorm2d takes 4 dimensions"):
        cc.Model(nn.BatchNorm2d(3), (3,))
    with pytest.raises(ValueError, match="BatchNorm1d takes 2 or 3 dimensions"):
        cc.Model(nn.BatchNorm1d(3), (3, 4, 4))


def test_relu6_joins_batch_norm_alone():
    layers = [nn.Conv2d(2, 3, 1), nn.ReLU6(), nn.BatchNorm2d(3), nn.ReLU6()]
    module = nn.Sequential(*layers, nn.Flatten(), nn.Linear(3 * 4, 2))
    model = cc.Model(module, (2, 2, 2), dtype="float64")
    state = {k: v if "num" in k else 9 * v + 1 for k, v in model.state_dict().items()}
    model.load_state_dict(state)
    x = np.random.default_rng(0).standard_normal((3, 2, 2, 2))
    y = np.clip(reference.conv2d(x, state["0.weight"], state["0.bias"]), 0, 6)
    running = state["2.running_mean"], state["2.running_var"]
    y = reference.batch_norm(y, *running, state["2.weight"], state["2.bias"])
    found = model.predict(x, "3")
    assert relative_error(found, np.clip(y, 0, 6)) < 1e-13
    assert (found == 6).any() and (found == 0).any()
