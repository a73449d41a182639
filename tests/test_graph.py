"""Tracing, names, batch sizes and the JSON form of a graph."""

import json

import networks
import numpy as np
import pytest

import convcore as cc
from convcore import nn
from convcore.graph import Graph

FLOAT64 = np.dtype("float64")


def trace(module, *shapes):
    inputs = [(f"input.{i}", shape, FLOAT64) for i, shape in enumerate(shapes)]
    return nn.trace(module, inputs)[0]


@pytest.fixture(params=networks.NETWORKS)
def graph(request):
    module, shape = networks.NETWORKS[request.param]
    return trace(module(), shape)


def test_with_batch_changes_the_first_dimension_only(graph):
    larger = graph.with_batch(5)
    assert larger.batch == 5 and graph.batch == 1
    for name, value in graph.names.items():
        first, *others = value.shape
        assert larger.names[name].shape == (5 * first, *others)
    assert larger.to_json()["nodes"] == graph.to_json()["nodes"]


def test_json_round_trip(graph):
    data = json.loads(json.dumps(graph.to_json()))
    back = Graph.from_json(data)
    assert json.loads(json.dumps(back.to_json())) == data
    assert [x.shape for x in back.outputs.values()] == [
        x.shape for x in graph.outputs.values()
    ]


def test_json_of_another_format():
    with pytest.raises(ValueError, match="format 2 is unknown"):
        Graph.from_json({"format": 2})


def test_json_with_an_unknown_operator():
    data = trace(nn.ReLU(), (3,)).to_json()
    data["nodes"][0][0] = "levitate"
    with pytest.raises(ValueError, match="unknown operator 'levitate'"):
        Graph.from_json(data)


def test_names_are_paths_of_modules():
    graph = trace(nn.Sequential(nn.Conv2d(2, 3, 1), networks.Residual(3)), (2, 4, 4))
    assert [node.outputs[0].name for node in graph.nodes] == [
        "0",
        "1.conv1",
        "1.relu",
        "1.conv2",
        "1.add",
        "1",
    ]
    assert graph.find("output") is graph.find("1")


def test_a_module_called_twice_has_numbered_names():
    graph = trace(networks.Tied(), (2, 5, 5))
    assert "first" in graph.names and "first_1" in graph.names


def test_unknown_name():
    with pytest.raises(ValueError, match="no value 'nose'; there are output"):
        trace(nn.ReLU(), (3,)).find("nose")


def test_tied_parameters_share_a_value():
    graph = trace(networks.Tied(), (2, 5, 5))
    assert list(graph.parameters) == [
        "first.weight",
        "first.bias",
        "second.weight",
        "second.bias",
        "head.weight",
        "head.bias",
    ]
    assert graph.parameters["first.weight"] is graph.parameters["second.weight"]


def test_values_say_what_they_cannot_do():
    class Module(nn.Module):
        def __init__(self, function):
            self.forward = function

    with pytest.raises(TypeError, match="no truth"):
        trace(Module(lambda x: x if x else None), (3,))
    with pytest.raises(TypeError, match="no elements"):
        trace(Module(lambda x: np.exp(x)), (3,))
    with pytest.raises(TypeError, match="no elements"):
        trace(Module(lambda x: np.ones(3) + x), (3,))
    with pytest.raises(TypeError, match="a must be an array, not str"):
        trace(Module(lambda x: "1" + x), (3,))
    with pytest.raises(TypeError, match="add of a traced value needs traced values"):
        trace(Module(lambda x: cc.add(x, np.zeros((1, 3)))), (3,))
    with pytest.raises(TypeError, match="must return a traced value"):
        trace(Module(lambda x: None), (3,))
    with pytest.raises(ValueError, match="the batch"):
        trace(Module(lambda x: x.reshape(3, 1)), (3,))


def test_values_of_two_graphs():
    kept = []

    class Keep(nn.Module):
        def forward(self, x):
            kept.append(x)
            return x + kept[0]

    trace(Keep(), (3,))
    with pytest.raises(ValueError, match="belongs to another graph"):
        trace(Keep(), (3,))


def test_parameter_of_another_network():
    outside = nn.Parameter([1.0])

    class Borrow(nn.Module):
        def forward(self, x):
            return x + outside

    with pytest.raises(RuntimeError, match="used outside of its network"):
        trace(Borrow(), (1,))


def test_shape_errors_appear_while_tracing():
    with pytest.raises(ValueError, match="channels"):
        trace(nn.Conv2d(3, 4, 3), (2, 8, 8))


def test_a_network_of_a_single_sample_is_refused():
    """The product has the parameter's rows, of which there are as many samples."""

    class Mix(nn.Module):
        def __init__(self):
            self.mix = nn.Parameter(np.ones((1, 1)))

        def forward(self, x):
            return cc.matmul(self.mix, x)

    with pytest.raises(ValueError, match=r"single sample .* b has 2 rows"):
        trace(Mix(), (3,))


@pytest.mark.parametrize("shape", [(6,), 6, [6]], ids=str)
def test_reshape_takes_ints_or_one_sequence(shape):
    class Reshape(nn.Module):
        def forward(self, x):
            if isinstance(shape, int):
                return x.reshape(-1, shape)
            return x.reshape([-1, *shape])

    assert trace(Reshape(), (2, 3)).outputs["output"].shape == (1, 6)
