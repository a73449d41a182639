"""Plans: memory, packing, segments; what they compute against the definitions."""

import networks
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convcore as cc
from convcore import nn, optim
from convcore.autodiff import add_gradients
from convcore.lowering import Buffer, Operand, Step
from convcore.passes import (
    ALIGNMENT,
    drop_dead,
    fuse_add,
    fuse_relu,
    lay_out,
    mask_pooled,
)
from convcore.plan import Plan

# --------------------------------------------------------------------- memory


@st.composite
def programs(draw):
    """Steps on arena buffers, each made by one step and read by later ones."""
    made, steps = [], []
    for _ in range(draw(st.integers(1, 25))):
        kinds = ["conv_forward", "relu_forward", "add"] if made else ["conv_forward"]
        kind = draw(st.sampled_from(kinds))
        if kind == "conv_forward":
            inputs = draw(st.lists(st.sampled_from(made), max_size=3)) if made else []
            size = draw(st.sampled_from([1, 16, 17, 100]))
        else:
            inputs = [draw(st.sampled_from(made))]
            size = inputs[0].size
        if kind == "add":
            equal = [buffer for buffer in made if buffer.size == size]
            inputs.append(draw(st.sampled_from(equal)))
        made.append(Buffer(size, np.float32))
        operands = (Operand(x, 0, x.size) for x in [*inputs, made[-1]])
        steps.append(Step(kind, tuple(operands), None))
    return steps


@settings(max_examples=300, deadline=None)
@given(programs())
def test_every_step_reads_what_was_written(steps):
    """Run the steps on an arena of names: each byte says whose value it holds."""
    offsets, nbytes = lay_out(steps)
    arena = np.full(nbytes, -1)

    def place(operand):
        start = offsets[operand.buffer]
        assert start % ALIGNMENT == 0
        assert start + operand.buffer.nbytes <= nbytes
        return arena[start : start + operand.buffer.nbytes]

    name = {}
    for number, step in enumerate(steps):
        *inputs, result = step.operands
        for operand in inputs:
            assert (place(operand) == name[operand.buffer]).all()
        for operand in inputs:  # a result is where an input is, or apart from all
            there = offsets[operand.buffer], offsets[result.buffer]
            if step.kind == "conv_forward" or there[0] != there[1]:
                assert not np.shares_memory(place(operand), place(result))
        name[result.buffer] = number
        place(result)[:] = number


def test_elementwise_steps_work_in_place():
    x, y, z = (Buffer(100, np.float32) for _ in range(3))
    steps = [
        Step("conv_forward", (Operand(x, 0, 100),), None),
        Step("relu_forward", (Operand(x, 0, 100), Operand(y, 0, 100)), None),
        Step("add", (Operand(y, 0, 100), Operand(y, 0, 100), Operand(z, 0, 100)), None),
    ]
    offsets, nbytes = lay_out(steps)
    assert set(offsets.values()) == {0} and nbytes == 448


def test_memory_is_used_again():
    """A chain of layers needs two buffers at a time, however long it is."""
    layers = [nn.Conv2d(4, 4, 3, padding=1) for _ in range(10)]
    graph = cc.Model(nn.Sequential(*layers), (4, 16, 16)).engine.graph.with_batch(1)
    plan = Plan(graph, list(graph.outputs.values()))
    assert plan.arena_bytes == 2 * 4 * 4 * 16 * 16


# --------------------------------------------------------------------- passes


def test_relu_joins_the_layer_before():
    graph = networks.model("lenet5").engine.graph.copy()
    fuse_relu(graph, graph.outputs.values())
    names = [node.op.name for node in graph.nodes]
    assert "relu" not in names and names.count("conv") == 2
    assert graph.names["features.1"].node.attrs["activation"] == "relu"


def test_relu_stays_where_its_input_is_wanted():
    graph = networks.model("lenet5").engine.graph.copy()
    fuse_relu(graph, [graph.names["features.0"]])
    assert [node.op.name for node in graph.nodes].count("relu") == 1


def test_relu_stays_where_its_input_has_another_user():
    class Block(nn.Module):
        def __init__(self):
            self.conv = nn.Conv2d(1, 1, 1)

        def forward(self, x):
            y = self.conv(x)
            return y.relu() + y

    graph = cc.Model(Block(), (1, 2, 2)).engine.graph.copy()
    fuse_relu(graph, graph.outputs.values())
    assert [node.op.name for node in graph.nodes] == ["conv", "relu", "add"]


class Sums(nn.Module):
    """Convolutions whose results are added to this or that."""

    def __init__(self, forward):
        self.conv, self.other = (nn.Conv2d(2, 2, 3, padding=1) for _ in range(2))
        self.forward = lambda x: forward(x, self.conv, self.other)


@pytest.mark.parametrize(
    ("forward", "names"),
    [
        (lambda x, f, g: f(x) + x, ["conv"]),
        (lambda x, f, g: x + f(x), ["conv"]),
        (lambda x, f, g: (f(x) + g(x)).relu(), ["conv", "conv"]),
        (lambda x, f, g: g(f(x).relu()) + x, ["conv", "conv"]),
        # Computed after the convolution that adds it.
        (lambda x, f, g: f(x) + x.relu(), ["relu", "conv"]),
        (lambda x, f, g: f(x) + x + x, ["conv", "add"]),
        (lambda x, f, g: f(x).relu() + x, ["conv", "add"]),
        (lambda x, f, g: [y := f(x), y + y][1], ["conv", "add"]),
        (lambda x, f, g: [y := f(x), y.relu() + y][1], ["conv", "relu", "add"]),
    ],
    ids=[
        "left", "right", "both", "block", "later", "two sums", "activation", "twice",
        "two readers",
    ],
)  # fmt: skip
def test_sums_join_the_convolution(forward, names):
    model = cc.Model(Sums(forward), (2, 5, 5), dtype="float64")
    graph = model.engine.graph.with_batch(3)
    x = np.random.default_rng(0).normal(size=(3, 2, 5, 5))
    expected = networks.evaluate(graph, [x], model.state_dict())
    (output,) = graph.outputs.values()
    expected = expected[output]
    fuse_add(graph, [output])
    fuse_relu(graph, [output])
    assert [node.op.name for node in graph.nodes] == names
    fused = networks.evaluate(graph, [x], model.state_dict())
    np.testing.assert_allclose(fused[graph.nodes[-1].outputs[0]], expected, rtol=1e-12)
    np.testing.assert_allclose(model.predict(x), expected, rtol=1e-12)


def pooled(activation, **window):
    """A training graph of a pooled activation, and the gradients in it."""
    layers = [nn.Conv2d(2, 3, 3), activation, nn.MaxPool2d(**window), nn.Flatten()]
    graph = cc.Model(nn.Sequential(*layers), (2, 9, 9)).engine.graph.with_batch(3)
    (output,) = graph.outputs.values()
    fuse_relu(graph, [output])
    return graph, [*add_gradients(output, graph.parameters.values()).values()]


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU6()])
@pytest.mark.parametrize(
    "window", [{"kernel_size": 2}, {"kernel_size": 3, "stride": 1}]
)
def test_relu_masks_what_is_pooled(activation, window):
    graph, gradients = pooled(activation, **window)
    x = np.random.default_rng(0).normal(size=(3, 2, 9, 9))
    x[0, 0, 2:5, 2:5] = np.nan
    x[1] *= 9
    dy = np.random.default_rng(1).normal(size=graph.inputs[-1].shape)
    parameters = cc.Model(
        nn.Sequential(nn.Conv2d(2, 3, 3)), (2, 9, 9), dtype="float64"
    ).state_dict()
    parameters = {f"0.{key.split('.')[-1]}": w for key, w in parameters.items()}
    before = networks.evaluate(graph, [x, dy], parameters)
    mask_pooled(graph, gradients)
    names = [node.op.name for node in graph.nodes]
    assert names.index("max_pool_backward") > names.index(
        f"{type(activation).__name__.lower()}_backward"
    )
    after = networks.evaluate(graph, [x, dy], parameters)
    for gradient in gradients:
        np.testing.assert_array_equal(after[gradient], before[gradient])


def test_relu_that_others_read_masks_all():
    class Block(nn.Module):
        def __init__(self):
            self.conv = nn.Conv2d(1, 1, 1)

        def forward(self, x):
            y = self.conv(x).relu()
            return cc.max_pool2d(y, 2).mean() + y.mean()

    graph = cc.Model(Block(), (1, 4, 4)).engine.graph.with_batch(2)
    (output,) = graph.outputs.values()
    gradients = add_gradients(output, graph.parameters.values())
    names = [node.op.name for node in graph.nodes]
    mask_pooled(graph, gradients.values())
    assert [node.op.name for node in graph.nodes] == names


def test_dead_nodes_are_dropped():
    graph = networks.model("lenet5").engine.graph.copy()
    drop_dead(graph, [graph.names["features.2"]])
    assert [node.outputs[0].name for node in graph.nodes][-1] == "features.2"


# ------------------------------------------------------------------- results


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", networks.NETWORKS)
def test_inner_values_by_definition(name, dtype):
    model = networks.model(name, dtype=dtype)
    x, _ = networks.batch(name, 5, dtype)
    graph = model.engine.graph.with_batch(5)
    expected = networks.evaluate(graph, [x], model.state_dict())
    names = [key for key, value in graph.names.items() if value.dtype == dtype]
    found = model.predict(x, outputs=names)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    for key, array in zip(names, found, strict=True):
        np.testing.assert_allclose(
            array,
            expected[graph.names[key]],
            rtol=tolerance,
            atol=tolerance,
            err_msg=key,
        )


class Shapes(nn.Module):
    """Changes of shape between values of several pixels and channels."""

    def forward(self, x):
        y = x.reshape(-1, 6, 4)
        z = cc.cat([y, y.reshape(-1, 2, 12).reshape(-1, 6, 4)], 2)
        return z, cc.cat([z, z + z], 1).flatten(1), x


def test_changes_of_shape():
    x = np.random.default_rng(0).normal(size=(3, 2, 3, 4)).astype(np.float32)
    z, flat, same = cc.Model(Shapes(), (2, 3, 4)).predict(x)
    y = x.reshape(3, 6, 4)
    expected = np.concatenate([y, y], 2)
    np.testing.assert_array_equal(z, expected)
    both = np.concatenate([expected, 2 * expected], 1)
    np.testing.assert_array_equal(flat, both.reshape(3, -1))
    np.testing.assert_array_equal(same, x)


def test_gradient_of_changes_of_shape():
    model = cc.Model(Shapes(), (2, 3, 4), dtype="float64")
    x = np.random.default_rng(0).normal(size=(3, 2, 3, 4))
    y = np.array([0, 47, 5])
    _, _, dx = model.gradients(x, y, lambda outputs, y: cc.cross_entropy(outputs[1], y))
    flat = model.predict(x)[1]
    d = cc.cross_entropy_backward(np.ones(()), flat, y).reshape(3, 12, 8)
    d = d[:, :6] + 2 * d[:, 6:]
    np.testing.assert_allclose(
        dx, (d[..., :4] + d[..., 4:]).reshape(x.shape), rtol=1e-12
    )


# ------------------------------------------------------- segments and packing


def training_plan(optimizer):
    model = networks.model("lenet5")
    graph = model.engine.graph.with_batch(4)
    target = graph.input((4,), np.int64, "target")
    loss = cc.cross_entropy(graph.outputs["output"], target)
    wrt = list(graph.parameters.values())
    return model, Plan(graph, [loss], loss=loss, wrt=wrt, optimizer=optimizer)


def test_segments_in_one_call_or_apart():
    x, y = networks.batch("lenet5", 4, np.float32)
    results = []
    for calls in (
        [("forward", "update")],
        [("forward", "forward"), ("backward", "backward"), ("update", "update")],
    ):
        optimizer = optim.SGD(0.1, momentum=0.9)
        model, plan = training_plan(optimizer)
        optimizer.bind(model.engine)
        with plan.memory([x, y], hyper=optimizer.hyper()) as memory:
            for first, last in calls:
                plan.run(memory, model.engine.space, optimizer.state, first, last)
        results.append(model.state_dict())
    before = networks.model("lenet5").state_dict()
    for key, tensor in results[0].items():
        np.testing.assert_array_equal(tensor, results[1][key])
        assert not np.array_equal(tensor, before[key])


def test_update_uses_the_gradients_as_they_are_then():
    """Between backward and update they may be changed, as in clipping."""
    x, y = networks.batch("lenet5", 4, np.float32)
    model, plan = training_plan(optim.SGD(0.1))
    optimizer, before = optim.SGD(0.1), model.state_dict()
    optimizer.bind(model.engine)
    with plan.memory([x, y], hyper=optimizer.hyper()) as memory:
        plan.run(memory, model.engine.space, None)
        memory.gradients[:] = 0
        plan.run(memory, model.engine.space, None, "update", "update")
    for key, tensor in model.state_dict().items():
        np.testing.assert_array_equal(tensor, before[key])


def test_weights_are_packed_again_when_they_have_changed():
    model = networks.model("residual")
    x, y = networks.batch("residual", 4, np.float32)
    first = model.predict(x)
    np.testing.assert_array_equal(model.predict(x), first)
    model.train_step(x, y, optimizer=optim.SGD(0.5))
    second = model.predict(x)
    assert not np.array_equal(second, first)
    other = networks.model("residual", seed=7)
    other.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(other.predict(x), second)


def test_inference_keeps_no_indices_and_no_gradients():
    graph = networks.model("lenet5").engine.graph.with_batch(1)
    plan = Plan(graph, list(graph.outputs.values()))
    assert plan.segments["backward"] == plan.segments["update"]
    first, last = plan.segments["prepare"]
    assert last - first == 5
    first, last = plan.segments["forward"]
    # conv, pool, conv, pool, transpose (flatten), three linear layers
    assert last - first == 8
