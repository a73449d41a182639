"""Operators in networks: plans of compiled steps and of steps of NumPy's."""

import numpy as np
import pytest
from conftest import relative_error

import convcore as cc
from convcore import nn


class Call(nn.Module):
    """A function as a module, with parameters as further arguments."""

    def __init__(self, function, *parameters):
        self.function = function
        for i, data in enumerate(parameters):
            setattr(self, f"parameter{i}", nn.Parameter(data))

    def forward(self, x):
        return self.function(x, *(p for _, p in self.named_parameters()))


def ones(*shape):
    return np.linspace(0.5, 1.5, int(np.prod(shape))).reshape(shape)


IMAGE = (6, 4, 5)

# (function of x and parameters, shapes of the parameters), on images (N, 6, 4, 5).
CASES = {
    "activations": (lambda x: cc.gelu(cc.silu(x)) + cc.hardswish(x) * 0.5 - 1, ()),
    "scalars": (lambda x: 1 / (2 - x * 0.125) + (x - 0.5) / 3, ()),
    "prelu": (cc.prelu, ((6,),)),
    "channels": (lambda x, w, b: x * w + b, ((6, 1, 1), (1, 6, 1, 1))),
    "every element": (lambda x, w: x * w, (IMAGE,)),
    "of a row": (lambda x, w: x / w, ((5,),)),
    "squeeze and excite": (
        lambda x: x * cc.sigmoid(x.mean((2, 3), keepdim=True)),
        (),
    ),
    "reductions": (lambda x: x.sum(1) + x.amax((1,)) * x.mean(1), ()),
    "softmax": (lambda x: x.softmax(1) + cc.log_softmax(x, -1), ()),
    "group norm": (lambda x, w, b: cc.group_norm(x, 3, w, b), ((6,), (6,))),
    "instance norm": (lambda x: cc.instance_norm(x), ()),
    "layer norm": (lambda x, w, b: cc.layer_norm(x, (4, 5), w, b), ((4, 5), (4, 5))),
    "layer norm of rows": (lambda x, w: cc.layer_norm(x, 5, w), ((5,),)),
    "transposed convolution": (
        lambda x, w, b: cc.conv_transpose2d(x, w, b, 2, 1),
        ((6, 3, 4, 4), (3,)),
    ),
    "standardised weights": (
        lambda x, w: cc.conv2d(x, w - w.mean((1, 2, 3), keepdim=True)),
        ((3, 6, 2, 2),),
    ),
    "shared weights": (
        lambda x, w: cc.conv2d(cc.conv2d(cc.conv2d(x, w), w), w),
        ((6, 6, 1, 2),),
    ),
    "shuffles": (
        lambda x: cc.pixel_unshuffle(
            cc.pixel_shuffle(cc.channel_shuffle(x[:, :4], 2), 2), 2
        ),
        (),
    ),
    "slices": (lambda x: x[:, 1:-1, ::2, 3] + x[:, 2:, 1::-1, None, 0][:, :, :, 0], ()),
    "split": (lambda x: cc.cat(x.split([2, 4], 1)[::-1], 1) + cc.cat(x.chunk(3, 1), 1),
              ()),
    "permute": (lambda x: x.permute(0, 2, 3, 1).transpose(1, 2).unsqueeze(1), ()),
    "matmul": (lambda x, w: (x @ w).flatten(1), ((5, 3),)),
    "padding": (
        lambda x: cc.pad(cc.pad(x, (1, 2, 1, 0), "reflect"), (1, 1, 0, 2), "circular"),
        (),
    ),
    "interpolation": (
        lambda x: cc.interpolate(x, scale_factor=2, mode="bilinear")
        + cc.interpolate(cc.interpolate(x, (3, 4), mode="bicubic"), (8, 10)),
        (),
    ),
    "pooling": (
        lambda x: cc.adaptive_max_pool2d(x, (2, 3))
        + cc.lp_pool2d(x * x, 2.0, (2, 2), (2, 1))[:, :, :, :3],
        (),
    ),
    "unpooling": (
        lambda x: cc.max_unpool2d(
            *cc.max_pool2d(x, (2, 1), return_indices=True), (2, 1)
        ),
        (),
    ),
}  # fmt: skip


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_network_is_its_function(name, n):
    function, shapes = CASES[name]
    parameters = [ones(*shape) for shape in shapes]
    model = cc.Model(Call(function, *parameters), IMAGE, dtype="float64")
    x = np.random.default_rng(4).standard_normal((n, *IMAGE))
    expected = in_pieces(function, x, *parameters)
    assert relative_error(model.predict(x), expected) < 1e-13
    assert relative_error(model.freeze().predict(x), expected) < 1e-13

    def loss(y, target):
        return (y * target).sum()

    dy = np.random.default_rng(5).standard_normal(expected.shape)
    _, gradients, dx = model.gradients(x, dy, loss)
    found = cc.vjp(function, dy, x, *parameters)
    found = found if isinstance(found, tuple) else (found,)
    for actual, wanted in zip([dx, *gradients.values()], found, strict=True):
        assert relative_error(actual, wanted) < 1e-12


def in_pieces(function, x, *parameters):
    """The function computed on arrays: traced, for its operators on values."""
    from convcore.derivatives import evaluate

    return evaluate(function, x, *parameters)


def test_steps_of_numpy_are_a_few():
    """What networks spend time in is compiled."""
    network = nn.Sequential(
        nn.Conv2d(3, 16, 3),
        nn.GroupNorm(4, 16),
        nn.SiLU(),
        nn.Upsample(scale_factor=2),
        nn.ConvTranspose2d(16, 8, 2, stride=2),
        nn.GELU(),
        nn.Softmax(1),
    )
    model = cc.Model(network, (3, 10, 10))
    plan = model.engine._plan([np.zeros((2, 3, 10, 10), "f4")], ("output",))
    assert not plan._numpy
