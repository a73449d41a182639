"""Modules: names, order and start of parameters; layers against torch."""

from collections import OrderedDict

import networks
import numpy as np
import pytest

import convcore as cc
from convcore import nn


def test_lenet5_has_the_published_number_of_parameters():
    state = cc.Model(cc.models.lenet5(), (1, 28, 28)).state_dict()
    assert sum(x.size for x in state.values()) == 61_706


def test_parameter_names_as_in_torch():
    torch = pytest.importorskip("torch")

    class Both:
        def build(self, nn):
            return nn.Sequential(
                OrderedDict(
                    stem=nn.Conv2d(1, 4, 3, bias=False),
                    layers=nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU()),
                    head=nn.Linear(4, 2),
                )
            )

    ours = [key for key, _ in Both().build(nn).named_parameters()]
    assert ours == list(Both().build(torch.nn).state_dict())


def test_own_parameters_come_before_those_of_children():
    class Scaled(nn.Module):
        def __init__(self):
            self.inner = nn.Linear(2, 2)
            self.scale = nn.Parameter([1.0, 2.0])

    keys = [key for key, _ in Scaled().named_parameters()]
    assert keys == ["scale", "inner.weight", "inner.bias"]


def test_parameter_with_data_starts_there():
    class Shift(nn.Module):
        def __init__(self):
            self.bias = nn.Parameter([1.0, -2.0])
            self.linear = nn.Linear(2, 2, bias=False)

        def forward(self, x):
            return cc.linear(x, self.linear.weight, self.bias)

    model = cc.Model(Shift(), (2,))
    np.testing.assert_array_equal(model.state_dict()["bias"], np.float32([1, -2]))
    np.testing.assert_array_equal(
        model.predict(np.zeros((1, 2), np.float32)), np.float32([[1, -2]])
    )


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(nn.Linear(400, 500), (400,)), (nn.Conv2d(40, 50, 3), (40, 3, 3))],
)
def test_start_is_uniform_within_the_root_of_the_fan_in(layer, shape):
    state = cc.Model(layer, shape, dtype="float64").state_dict()
    bound = np.prod(shape) ** -0.5
    weight = state["weight"]
    assert abs(weight).max() <= bound and abs(state["bias"]).max() <= bound
    assert abs(weight).max() > 0.99 * bound
    assert weight.std() == pytest.approx(bound / 3**0.5, rel=0.03)


def test_each_parameter_has_a_stream_of_its_own():
    short = cc.Model(nn.Sequential(nn.Linear(3, 3)), (3,), seed=5)
    long = cc.Model(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), (3,), seed=5)
    for key, tensor in short.state_dict().items():
        np.testing.assert_array_equal(tensor, long.state_dict()[key])
    assert not np.array_equal(
        long.state_dict()["0.weight"], long.state_dict()["1.weight"]
    )


def test_module_list_and_slices():
    layers = nn.ModuleList([nn.Linear(2, 2)]).append(nn.Linear(2, 3))
    assert len(layers) == 2 and list(layers)[1] is layers[-1]
    assert len(nn.Sequential(*layers)[1:]) == 1
    with pytest.raises(TypeError, match="expected a Module, got function"):
        nn.Sequential(cc.relu)


def test_modules_are_called_on_traced_values_only():
    with pytest.raises(TypeError, match="make a Model"):
        nn.ReLU()(np.zeros((1, 2)))


def test_module_without_forward():
    class Empty(nn.Module):
        pass

    with pytest.raises(NotImplementedError, match="Empty does not define forward"):
        cc.Model(Empty(), (1,))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: nn.Conv2d(3, 4, 3, groups=2),
            ValueError,
            "groups=2 must divide in_channels=3",
        ),
        (
            lambda: nn.Conv1d(0, 4, 3),
            ValueError,
            "in_channels must be at least 1, not 0",
        ),
        (
            lambda: nn.Conv2d(3, 4.0, 3),
            TypeError,
            r"out_channels must be an int, not 4\.0",
        ),
        (lambda: nn.Linear(2, -1), ValueError, "out_features must be at least 1"),
    ],
)
def test_bad_sizes(call, error, message):
    with pytest.raises(error, match=message):
        call()


CHANNELS = dict(in_channels=2, out_channels=3)
LAYERS = [
    ("Conv1d", dict(in_channels=4, out_channels=6, kernel_size=3, groups=2), (4, 9)),
    ("Conv2d", CHANNELS | dict(kernel_size=3, padding="same"), (2, 5, 6)),
    ("Conv2d", CHANNELS | dict(kernel_size=(3, 1), stride=2), (2, 5, 6)),
    ("Conv3d", CHANNELS | dict(kernel_size=2, dilation=2), (2, 4, 5, 6)),
    ("Linear", dict(in_features=5, out_features=3, bias=False), (5,)),
    ("Linear", dict(in_features=5, out_features=3), (2, 5)),
    ("Linear", dict(in_features=5, out_features=3), (2, 4, 5)),
    ("ReLU", dict(inplace=True), (2, 3)),
    ("MaxPool1d", dict(kernel_size=3, stride=1, padding=1), (2, 7)),
    ("MaxPool2d", dict(kernel_size=(2, 3), ceil_mode=True), (2, 5, 7)),
    ("MaxPool3d", dict(kernel_size=2, dilation=2, stride=1), (2, 4, 5, 6)),
    ("AvgPool1d", dict(kernel_size=3, stride=2), (2, 7)),
    ("AvgPool2d", dict(kernel_size=3, padding=1, count_include_pad=False), (2, 5, 7)),
    ("AvgPool3d", dict(kernel_size=2, divisor_override=3), (2, 4, 5, 6)),
    ("Flatten", dict(), (2, 3, 4)),
    ("Flatten", dict(start_dim=2), (2, 3, 4)),
    ("Identity", dict(), (2, 3)),
]


@pytest.mark.parametrize(("name", "arguments", "shape"), LAYERS)
def test_layers_as_in_torch(name, arguments, shape):
    torch = pytest.importorskip("torch")
    model = cc.Model(getattr(nn, name)(**arguments), shape, dtype="float64")
    theirs = getattr(torch.nn, name)(**arguments).double()
    state = {key: torch.from_numpy(x) for key, x in model.state_dict().items()}
    theirs.load_state_dict(state)
    x = np.random.default_rng(0).normal(size=(3, *shape))
    with torch.no_grad():
        expected = theirs(torch.from_numpy(x.copy())).numpy()
    np.testing.assert_allclose(model.predict(x), expected, rtol=1e-12, atol=1e-12)


def test_max_pooling_with_indices():
    class Both(nn.Module):
        def __init__(self):
            self.pool = nn.MaxPool2d(2, return_indices=True)

        def forward(self, x):
            return self.pool(x)

    x = np.random.default_rng(0).normal(size=(3, 2, 4, 6)).astype(np.float32)
    y, indices = cc.Model(Both(), (2, 4, 6)).predict(x)
    expected, positions = cc.max_pool2d(x, 2, return_indices=True)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(indices, positions)


def test_network_of_two_inputs():
    model = cc.Model(networks.TwoInputs(), [(1, 5, 5), (4,)])
    image, features = np.ones((3, 1, 5, 5), np.float32), np.ones((3, 4), np.float32)
    assert model.predict((image, features)).shape == (3, 3)
    with pytest.raises(ValueError, match="2 inputs, x has 1 arrays"):
        model.predict((image,))
    with pytest.raises(ValueError, match="as many samples"):
        model.predict((image, features[:2]))
