"""Memory of a training step: known ahead, and traded for time."""

import json

import networks
import numpy as np
import pytest

import convcore as cc
from convcore import models, optim
from convcore.memory_plan import machine_bytes


def batch_of(model, n):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, *model.input_shape), np.float32), np.arange(n) % 10


def trained(name, shape, limit=None, steps=2):
    """A network after a few steps, and the plan of these."""
    model = cc.Model(getattr(models, name)(num_classes=10), shape)
    model.memory_limit = limit
    x, y = batch_of(model, 4)
    optimizer = optim.SGD(lr=0.01, momentum=0.9)
    losses = [model.train_step(x, y, optimizer=optimizer) for _ in range(steps)]
    return losses, model.state_dict(), model.memory_plan(4, optimizer=optimizer)


@pytest.mark.parametrize("name", ["resnet18", "googlenet", "mobilenet_v2"])
def test_recomputation_gives_the_same_bits(name):
    """Batch normalisation, dropout, pooling, concatenation, branches."""
    losses, state, plan = trained(name, (3, 64, 64))
    assert plan.recomputed == 0
    for share in (0.95, 0.8):
        limit = plan.peak - int((1 - share) * plan.activations)
        again, found, small = trained(name, (3, 64, 64), limit)
        assert small.peak <= limit and small.recomputed > 0
        assert again == losses
        assert all(np.array_equal(found[key], x) for key, x in state.items())


def test_what_cannot_fit_is_told_before_the_first_step():
    model = networks.model("lenet5")
    before = model.state_dict()
    model.memory_limit = 1000
    optimizer = optim.SGD(lr=0.1)
    with pytest.raises(MemoryError, match=r"memory_limit is 0\.0 MB"):
        model.train_step(*batch_of(model, 8), optimizer=optimizer)
    assert optimizer.steps == 0 and optimizer.state is None
    assert all(np.array_equal(before[k], x) for k, x in model.state_dict().items())
    model.memory_limit = None
    model.train_step(*batch_of(model, 8), optimizer=optimizer)


def test_a_batch_that_no_machine_has_memory_for():
    model = networks.model("lenet5")
    n = machine_bytes() // (28 * 28)
    with pytest.raises(MemoryError, match="use smaller batches"):
        model.memory_plan(n)


def test_plan_counts_what_is_allocated():
    model = networks.model("lenet5")
    plan = model.memory_plan(8, optimizer=optim.Adam())
    parameters = sum(x.nbytes for x in model.state_dict().values())
    assert parameters <= plan.parameters <= parameters + 64 * 10
    assert plan.gradients == plan.parameters and plan.state == 2 * plan.parameters
    assert plan.peak == sum(plan[1:-1])
    assert json.loads(json.dumps(plan.as_dict()))["peak"] == plan.peak
    assert "peak" in str(plan)
    small = model.memory_plan(8, train=False)
    assert small.gradients == 0 and small.activations < plan.activations


def test_a_limit_is_checked():
    with pytest.raises(ValueError, match="memory_limit"):
        networks.model("lenet5").memory_limit = 0
