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
    if name.startswith("conv") and pads_in_pairs(row):
        pairs = arguments.pop("padding")
        amounts = [p for pair in reversed(pairs) for p in pair]
        tensors = [F.pad(tensors[0], amounts), *tensors[1:]]
    if name == "cat":
        return torch.cat(tensors, **arguments)
    function = getattr(F, name, None) or getattr(torch, name)
    y = function(*tensors, **arguments)
    return torch.relu(y) if activation else y


@pytest.mark.parametrize("row", OPS, ids=str)
def test_against_torch(row):
    if "pool" in row.function and (
        pads_in_pairs(row) or isinstance(row.arguments.get("padding"), str)
    ):
        pytest.skip("torch pads pooling on both sides alike")
    arrays = row.arrays(np.float64)
    tensors = [None if a is None else torch.from_numpy(a.copy()) for a in arrays]
    for tensor in tensors:
        if tensor is not None and tensor.is_floating_point():
            tensor.requires_grad_()
    if row.function == "cross_entropy" and tensors[2] is not None:
        tensors[2].requires_grad_(False)

    expected = torch_call(row, tensors)
    y = row.call(convcore, arrays)
    assert relative_error(y, expected.detach().numpy()) < 1e-12

    if row.arguments.get("activation"):
        return  # the backward call is that of the convolution alone
    dy = np.random.default_rng(1).standard_normal(y.shape)
    expected.backward(torch.from_numpy(dy))
    gradients = row.gradients(convcore.functional, dy, arrays)
    wanted = [t.grad.numpy() for t in tensors if t is not None and t.requires_grad]
    for actual, gradient in zip(gradients, wanted, strict=True):
        assert relative_error(actual, gradient) < 1e-12


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
