"""The table against torch, where it is installed: values and gradients."""

import numpy as np
import pytest
from conftest import relative_error
from table import OPS

import convcore

torch = pytest.importorskip("torch")
F = torch.nn.functional


@pytest.fixture(autouse=True, scope="module")
def one_torch_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pads_in_pairs(row) -> bool:
    padding = row.arguments.get("padding", 0)
    return not isinstance(padding, str) and any(
        hasattr(entry, "__iter__") for entry in np.atleast_1d(np.array(padding, object))
    )


def torch_call(row, tensors):
    """The same call in torch, which has neither `activation` nor padding by pairs."""
    arguments = dict(row.arguments)
    activation = arguments.pop("activation", None)
    name = row.function
    if name in ("conv1d", "conv2d", "conv3d") and pads_in_pairs(row):
        pairs = arguments.pop("padding")
        amounts = [p for pair in reversed(pairs) for p in pair]
        tensors = [F.pad(tensors[0], amounts), *tensors[1:]]
    if name == "cat":
        return torch.cat(tensors, **arguments)
    if name == "layer_norm":  # torch takes no int
        x, shape, *affine = tensors
        tensors = [x, (shape,) if isinstance(shape, int) else shape, *affine]
    function = getattr(F, name, None) or getattr(torch, name)
    y = function(*tensors, **arguments)
    return torch.relu(y) if activation else y


@pytest.mark.parametrize("row", OPS, ids=str)
def test_against_torch(row):
    named = isinstance(row.arguments.get("padding"), str)
    if ("pool" in row.function and (pads_in_pairs(row) or named)) or (
        "transpose" in row.function and pads_in_pairs(row)
    ):
        pytest.skip("torch pads both sides alike")
    if row.function == "dropout":
        pytest.skip("torch draws other numbers")
    if row.function == "binary_cross_entropy_with_logits" and len(row.shapes) > 2:
        pytest.skip("torch has no gradient of the weight")
    arrays = row.arrays(np.float64)
    tensors = [
        torch.from_numpy(a.copy()) if isinstance(a, np.ndarray) else a for a in arrays
    ]
    learned = [t for t in tensors if torch.is_tensor(t) and t.is_floating_point()]
    if row.function in ("cross_entropy", "nll_loss"):
        del learned[1:]  # weights of the classes
    for tensor in learned:
        tensor.requires_grad_()

    expected = torch_call(row, tensors)
    y = row.call(convcore, arrays)
    # Of 1 / 6, the slope of hardsigmoid, torch has the digits of float32.
    limit = 1e-7 if row.function == "hardsigmoid" else 1e-12
    assert relative_error(y, expected.detach().numpy()) < limit

    if row.arguments.get("activation"):
        return  # the backward call is that of the convolution alone
    dy = np.random.default_rng(1).standard_normal(y.shape)
    expected.backward(torch.from_numpy(dy))
    gradients = row.gradients(convcore.functional, dy, arrays)
    for actual, tensor in zip(gradients, learned, strict=True):
        assert relative_error(actual, tensor.grad.numpy()) < limit


@pytest.mark.parametrize(
    "row", [row for row in OPS if row.function.startswith("max_pool")], ids=str
)
def test_indices_are_those_of_torch(row):
    if pads_in_pairs(row) or isinstance(row.arguments.get("padding"), str):
        pytest.skip("torch pads pooling on both sides alike")
    arrays = row.arrays(np.float32)
    _, indices = row.call(convcore, arrays, return_indices=True)
    function = getattr(F, row.function)
    _, expected = function(
        torch.from_numpy(arrays[0]), **row.arguments, return_indices=True
    )
    assert indices.dtype == np.int64
    assert np.array_equal(indices, expected.numpy())


def test_dlpack_tensors_are_accepted():
    x, w = torch.randn(1, 2, 5, 6), torch.randn(3, 2, 3, 3)
    y = convcore.conv2d(x, w)
    assert isinstance(y, np.ndarray)
    assert relative_error(y, F.conv2d(x.double(), w.double()).numpy()) < 3e-6
