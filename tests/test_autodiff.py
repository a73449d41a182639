"""Gradients: of graphs by definition, and of models, against differences and torch."""

import networks
import numpy as np
import pytest

import convcore as cc
from convcore import nn
from convcore.autodiff import add_gradients
from convcore.passes import drop_dead


def differences(function, array, directions=3, step=1e-6):
    """Derivatives of function() along random directions of an array."""
    generator, start = np.random.default_rng(1), array.copy()
    for _ in range(directions):
        direction = generator.normal(size=array.shape)
        array[...] = start + step * direction
        above = function()
        array[...] = start - step * direction
        below = function()
        array[...] = start
        yield direction, (above - below) / (2 * step)


def with_loss(name, n):
    """Graph of a network with its loss, parameters and inputs."""
    model = networks.model(name, dtype="float64")
    graph = model.engine.graph.with_batch(n)
    x, y = networks.batch(name, n)
    target = graph.input((n,), np.dtype("int64"), "target")
    return graph, cc.cross_entropy(graph.outputs["output"], target), model, [x, y]


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_gradients_by_definition(name):
    """The backward nodes, computed with NumPy, against finite differences."""
    graph, loss, model, inputs = with_loss(name, 3)
    state = model.state_dict()
    plain = graph.copy()  # before the gradients are added
    wrt = [*dict.fromkeys(graph.parameters.values()), graph.inputs[0]]
    gradients = add_gradients(loss, wrt)
    assert list(gradients) == wrt
    values = networks.evaluate(graph, [*inputs, np.ones(())], state)

    def loss_now():
        found = networks.evaluate(plain, inputs, state)
        return found[plain.nodes[-1].outputs[0]]

    arrays = {x: state[key] for key, x in graph.parameters.items()}
    for key, x in graph.parameters.items():
        state[key] = arrays[x]  # keys of one parameter share one array
    arrays[graph.inputs[0]] = inputs[0]
    for x in wrt:
        for direction, expected in differences(loss_now, arrays[x], 2):
            found = (values[gradients[x]] * direction).sum()
            assert found == pytest.approx(expected, rel=1e-5, abs=1e-8), x


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_gradients_of_a_model(name):
    """The compiled plan against finite differences of its own loss."""
    model = networks.model(name, dtype="float64")
    x, y = networks.batch(name, 3)
    loss, gradients, dx = model.gradients(x, y)
    state = model.state_dict()
    assert loss == pytest.approx(model.evaluate((x, y))["loss"], rel=1e-12)

    def loss_now():
        model.load_state_dict(state)
        return model.gradients(x, y)[0]

    seen = {}
    for key, value in model.engine.graph.parameters.items():
        state[key] = seen.setdefault(value, state[key])
    for key, gradient in gradients.items():
        for direction, expected in differences(loss_now, state[key], 1):
            assert (gradient * direction).sum() == pytest.approx(
                expected, rel=1e-5, abs=1e-8
            ), key
    for direction, expected in differences(loss_now, x, 2):
        assert (dx * direction).sum() == pytest.approx(expected, rel=1e-5, abs=1e-8)


def test_several_users_sum_from_the_last_to_the_first():
    class Branches(nn.Module):
        def __init__(self):
            self.layers = nn.ModuleList(nn.Linear(2, 2, bias=False) for _ in range(3))

        def forward(self, x):
            a, b, c = (layer(x) for layer in self.layers)
            return a + b + c

    graph, _ = nn.trace(Branches(), [("input", (2,), np.dtype("float32"))])
    loss = cc.cross_entropy(
        graph.outputs["output"], graph.input((1,), np.dtype("int64"), "target")
    )
    gradient = add_gradients(loss, [graph.inputs[0]])[graph.inputs[0]]
    order = []
    while gradient.node.op.name == "add":
        gradient, last = gradient.node.inputs
        order.append(last.node.inputs[1].name)
    order.append(gradient.node.inputs[1].name)
    assert order == [f"layers.{i}.weight" for i in range(3)]


def test_branches_without_a_wanted_gradient_are_dropped():
    graph, loss, _, _ = with_loss("lenet5", 2)
    weight = graph.parameters["classifier.4.weight"]
    gradients = add_gradients(loss, [weight])
    drop_dead(graph, [loss, *gradients.values()])
    backward = [node.op.name for node in graph.nodes if "backward" in node.op.name]
    assert backward == ["cross_entropy_backward", "linear_backward_weight"]


def test_what_the_loss_does_not_depend_on_has_no_gradient():
    class Idle(nn.Module):
        def __init__(self):
            self.used = nn.Linear(2, 2)
            self.idle = nn.Linear(2, 2)

        def forward(self, x):
            return self.used(x)

    model = cc.Model(Idle(), (2,))
    x, y = np.ones((1, 2), np.float32), np.array([0])
    _, gradients, _ = model.gradients(x, y)
    assert list(gradients) == ["used.weight", "used.bias"]
    before = model.state_dict()
    model.train_step(x, y, optimizer=cc.optim.SGD(0.1, weight_decay=0.1))
    for key in ("idle.weight", "idle.bias"):
        np.testing.assert_array_equal(model.state_dict()[key], before[key])


def test_frozen_parameters_have_no_gradient_and_stay():
    model = networks.model("lenet5")
    x, y = networks.batch("lenet5", 2, np.float32)
    model.set_trainable("features.*", False)
    _, gradients, _ = model.gradients(x, y)
    assert {key.split(".")[0] for key in gradients} == {"classifier"}
    before = model.state_dict()
    model.train_step(x, y, optimizer=cc.optim.SGD(0.1, momentum=0.9))
    for key, tensor in model.state_dict().items():
        assert np.array_equal(tensor, before[key]) == key.startswith("features"), key
    assert "61,706 parameters, 59,134 trainable" in model.summary()
    model.set_trainable("*", False)
    model.train_step(x, y, optimizer=cc.optim.SGD(0.1, momentum=0.9))
    assert model.gradients(x, y)[1] == {}


# ---------------------------------------------------------------------- torch


def torch_network(name, torch):
    """The same network in torch."""
    tnn, functional = torch.nn, torch.nn.functional

    class Residual(tnn.Module):
        def __init__(self, channels):
            super().__init__()
            self.conv1 = tnn.Conv2d(channels, channels, 3, padding=1)
            self.conv2 = tnn.Conv2d(channels, channels, 3, padding=1, bias=False)

        def forward(self, x):
            return functional.relu(self.conv2(functional.relu(self.conv1(x))) + x)

    class Inception(tnn.Module):
        def __init__(self, channels):
            super().__init__()
            self.one = tnn.Conv2d(channels, 3, 1)
            self.three = tnn.Sequential(
                tnn.Conv2d(channels, 4, 1), tnn.ReLU(), tnn.Conv2d(4, 5, 3, padding=1)
            )
            self.pool = tnn.Sequential(
                tnn.MaxPool2d(3, 1, 1), tnn.Conv2d(channels, 2, 1)
            )

        def forward(self, x):
            branches = [self.one(x), self.three(x), self.pool(x)]
            return torch.cat([functional.relu(branch) for branch in branches], 1)

    class LeNet5(tnn.Module):
        def __init__(self):
            super().__init__()
            self.features = tnn.Sequential(
                tnn.Conv2d(1, 6, 5, padding=2), tnn.ReLU(), tnn.MaxPool2d(2),
                tnn.Conv2d(6, 16, 5), tnn.ReLU(), tnn.MaxPool2d(2),
            )  # fmt: skip
            self.classifier = tnn.Sequential(
                tnn.Linear(400, 120), tnn.ReLU(), tnn.Linear(120, 84), tnn.ReLU(),
                tnn.Linear(84, 10),
            )  # fmt: skip

        def forward(self, x):
            return self.classifier(self.features(x).flatten(1))

    head = lambda size: (tnn.Flatten(), tnn.Linear(size, 4))  # noqa: E731
    return {
        "lenet5": LeNet5,
        "residual": lambda: tnn.Sequential(
            tnn.Conv2d(2, 3, 3), Residual(3), *head(3 * 25)
        ),
        "inception": lambda: tnn.Sequential(
            Inception(3), tnn.AvgPool2d(2), *head(10 * 9)
        ),
    }[name]().double()


@pytest.mark.parametrize("name", ["lenet5", "residual", "inception"])
def test_training_as_in_torch(name):
    """Gradients, then several steps with every feature of SGD."""
    torch = pytest.importorskip("torch")
    options = dict(lr=0.05, momentum=0.9, weight_decay=0.01, nesterov=True)
    model, theirs = networks.model(name, dtype="float64"), torch_network(name, torch)
    theirs.load_state_dict(
        {key: torch.from_numpy(x) for key, x in model.state_dict().items()}
    )
    x, y = networks.batch(name, 5)
    tx, ty = torch.tensor(x, requires_grad=True), torch.tensor(y)
    expected = torch.nn.functional.cross_entropy(theirs(tx), ty)
    expected.backward()
    loss, gradients, dx = model.gradients(x, y)
    assert loss == pytest.approx(expected.item(), rel=1e-12)
    np.testing.assert_allclose(dx, tx.grad.numpy(), rtol=1e-9, atol=1e-12)
    for key, parameter in theirs.named_parameters():
        np.testing.assert_allclose(
            gradients[key], parameter.grad.numpy(), rtol=1e-9, atol=1e-12, err_msg=key
        )

    optimizer = cc.optim.SGD(**options)
    their_optimizer = torch.optim.SGD(theirs.parameters(), **options)
    for _ in range(4):
        model.train_step(x, y, optimizer=optimizer)
        their_optimizer.zero_grad()
        torch.nn.functional.cross_entropy(theirs(tx), ty).backward()
        their_optimizer.step()
    for key, tensor in theirs.state_dict().items():
        np.testing.assert_allclose(
            model.state_dict()[key], tensor.numpy(), rtol=1e-9, atol=1e-12, err_msg=key
        )
