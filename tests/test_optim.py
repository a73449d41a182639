"""Optimizers and schedules, against their formulas and torch."""

import networks
import numpy as np
import pytest

from convcore import optim


def sgd(p, g, m, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False):
    """One step with a learning rate of 0.1: (p, m); m is None on the first."""
    g = g + weight_decay * p
    if momentum:
        m = g if m is None else momentum * m + (1 - dampening) * g
        g = g + momentum * m if nesterov else m
    return p - 0.1 * g, m


@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(weight_decay=0.1),
        dict(momentum=0.9),
        dict(momentum=0.9, dampening=0.3, weight_decay=0.05),
        dict(momentum=0.9, nesterov=True, weight_decay=0.05),
    ],
)
def test_sgd_by_its_formula(options):
    model = networks.model("residual", dtype="float64")
    x, y = networks.batch("residual", 3)
    optimizer = optim.SGD(0.1, **options)
    expected = {key: (p, None) for key, p in model.state_dict().items()}
    for _ in range(3):
        _, gradients, _ = model.gradients(x, y)
        for key, (p, m) in expected.items():
            expected[key] = sgd(p, gradients[key], m, **options)
        model.train_step(x, y, optimizer=optimizer)
        for key, p in model.state_dict().items():
            np.testing.assert_allclose(p, expected[key][0], rtol=1e-12, atol=1e-14)
    assert optimizer.steps == 3


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Adam", dict(lr=0.01)),
        ("Adam", dict(lr=0.01, betas=(0.8, 0.99), eps=1e-4, weight_decay=0.1)),
        ("AdamW", dict(lr=0.01, weight_decay=0.1)),
        ("RMSprop", dict(lr=0.01)),
        ("RMSprop", dict(lr=0.01, alpha=0.9, weight_decay=0.1, momentum=0.9)),
        ("SGD", dict(lr=0.1, momentum=0.9)),
    ],
)
@pytest.mark.parametrize("clip_norm", [None, 0.05])
def test_steps_as_in_torch(name, options, clip_norm):
    torch = pytest.importorskip("torch")
    model = networks.model("residual", dtype="float64")
    x, y = networks.batch("residual", 3)
    parameters = {
        key: torch.tensor(tensor, requires_grad=True)
        for key, tensor in model.state_dict().items()
    }
    theirs = getattr(torch.optim, name)(parameters.values(), **options)
    optimizer = getattr(optim, name)(**options)
    for _ in range(3):
        _, gradients, _ = model.gradients(x, y)
        for key, parameter in parameters.items():
            parameter.grad = torch.tensor(gradients[key])
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters.values(), clip_norm)
        theirs.step()
        model.train_step(x, y, optimizer=optimizer, clip_norm=clip_norm)
        for key, tensor in model.state_dict().items():
            expected = parameters[key].detach().numpy()
            np.testing.assert_allclose(tensor, expected, rtol=1e-9, atol=1e-12)


def test_learning_rate_may_change_between_steps():
    model = networks.model("linear", dtype="float64")
    x, y = networks.batch("linear", 3)
    optimizer, before = optim.SGD(0.1), model.state_dict()
    optimizer.lr = 0.0
    model.train_step(x, y, optimizer=optimizer)
    for key, tensor in model.state_dict().items():
        np.testing.assert_array_equal(tensor, before[key])


def test_one_optimizer_trains_one_model():
    optimizer = optim.SGD(0.1)
    x, y = networks.batch("linear", 3, np.float32)
    networks.model("linear")
    kept = networks.model("linear")
    kept.train_step(x, y, optimizer=optimizer)
    with pytest.raises(ValueError, match="make a new optimizer"):
        networks.model("linear").train_step(x, y, optimizer=optimizer)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(lr=-1), "lr must be finite and >= 0, got -1"),
        (dict(momentum=float("nan")), "momentum must be finite and >= 0, got nan"),
        (dict(weight_decay=float("inf")), "weight_decay must be finite"),
        (dict(nesterov=True), "nesterov needs momentum > 0"),
        (dict(nesterov=True, momentum=0.9, dampening=0.1), "dampening = 0"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        optim.SGD(**options)


def test_bad_arguments_of_others():
    with pytest.raises(ValueError, match="betas must be two numbers"):
        optim.Adam(betas=(0.9, 1.0))
    with pytest.raises(ValueError, match="eps must be finite"):
        optim.RMSprop(eps=-1)
    x, y = networks.batch("linear", 3, np.float32)
    with pytest.raises(ValueError, match="clip_norm must be > 0, got 0"):
        networks.model("linear").train_step(x, y, optimizer=optim.AdamW(), clip_norm=0)


def test_step_schedule():
    schedule = optim.StepLR(2, gamma=0.5)
    assert [schedule(epoch, 9) for epoch in (0, 1.99, 2, 4.5)] == [1, 1, 0.5, 0.25]


def test_cosine_schedule():
    schedule = optim.CosineAnnealingLR(final=0.2)
    assert [schedule(epoch, 4) for epoch in (0, 2, 4)] == pytest.approx([1, 0.6, 0.2])


def test_one_cycle_schedule_as_in_torch():
    torch = pytest.importorskip("torch")
    theirs = torch.optim.SGD([torch.zeros(1)], lr=1.0, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        theirs, max_lr=1.0, total_steps=101, pct_start=0.41, cycle_momentum=False
    )
    schedule = optim.OneCycleLR(pct_start=0.4)
    for step in range(100):
        # torch rises for pct_start * total_steps - 1 of its total_steps - 1 steps
        expected = scheduler.get_last_lr()[0]
        assert schedule(step, 100) == pytest.approx(expected, rel=0.02)
        theirs.step()
        scheduler.step()


def test_warmup_comes_before_a_schedule():
    schedule = optim.Warmup(2, optim.StepLR(1))
    factors = [schedule(epoch, 9) for epoch in (0, 1, 2, 2.5, 3)]
    assert factors == pytest.approx([0, 0.5, 1, 1, 0.1])
    assert optim.Warmup(1)(5, 9) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optim.StepLR(0), "step_size must be > 0"),
        (lambda: optim.OneCycleLR(pct_start=1.0), "pct_start must be between 0 and 1"),
        (lambda: optim.OneCycleLR(div_factor=0), "div_factor must be > 0, got 0"),
        (lambda: optim.Warmup(0), "warmup must be > 0"),
    ],
)
def test_bad_schedules(make, message):
    with pytest.raises(ValueError, match=message):
        make()
