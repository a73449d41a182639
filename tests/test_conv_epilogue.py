"""What convolutions do with their results: activations, and parts of larger arrays."""

import numpy as np
import pytest

import convcore as cc
from convcore import _core, nn
from convcore import functional as F

# c, k, groups, kernel, algorithm; few channels at 24 pixels are computed by planes.
LAYERS = [
    (16, 24, 1, 3, "direct"),
    (5, 7, 1, 3, "direct"),
    (1, 3, 1, 5, "direct"),
    (8, 6, 2, 3, "direct"),
    (12, 12, 12, 3, "direct"),
    (16, 24, 1, 1, "direct"),
    (6, 10, 1, 3, "im2col"),
    (20, 24, 1, 3, "winograd"),
    (5, 7, 1, 3, "winograd"),
]


def layer(c, k, groups, kernel, algorithm, dtype, **options):
    size, pad = (1, 13, 24), (0, kernel // 2, kernel // 2)
    one = (1, 1, 1)
    return _core.Conv(
        *(dtype, "last", 2, c, k, groups, size, (1, kernel, kernel)),
        *(one, pad, pad, one),
        algorithm=algorithm,
        precision="high",
        **options,
    )


def arrays(c, k, groups, kernel, dtype):
    rng = np.random.default_rng(k)
    x = 3 * rng.standard_normal((2, 13, 24, c))
    w = rng.standard_normal((k, c // groups, kernel, kernel))
    return x.astype(dtype), w.astype(dtype), rng.standard_normal(k).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", LAYERS, ids=str)
def test_channels_of_a_larger_array(shape, dtype):
    sizes = shape[:-1]
    c, k, groups, _ = sizes
    if groups == c > 1:
        with pytest.raises(ValueError, match="algorithm"):
            layer(*shape, dtype, y_stride=k + 9)
        return
    x, w, bias = arrays(*sizes, dtype)
    dense = np.empty((2, 13, 24, k), dtype)
    layer(*shape, dtype, activation="relu").forward(x, w, bias, None, dense)
    whole = np.full((2, 13, 24, k + 9), 7.0, dtype)
    part = whole.reshape(-1)[4 : 4 + whole.size - 9]
    conv = layer(*shape, dtype, activation="relu", y_stride=k + 9)
    for threads in (1, 3):
        whole[..., 4 : 4 + k] = np.nan
        conv.forward(x, w, bias, None, part, threads)
        np.testing.assert_array_equal(whole[..., 4 : 4 + k], dense)
        assert (whole[..., :4] == 7).all()
        assert (whole[..., 4 + k :] == 7).all()
    with pytest.raises(ValueError, match="algorithm"):
        conv.forward(x, w, bias, np.empty_like(part), part)


def test_stride_of_a_pixel_is_checked():
    with pytest.raises(ValueError, match="sizes"):
        layer(4, 8, 1, 3, "direct", "float32", y_stride=7)
    with pytest.raises(ValueError, match="algorithm"):
        one, none = (1, 1, 1), (0, 0, 0)
        _core.Conv(
            *("float32", "first", 1, 4, 8, 1, one, one, one, none, none, one),
            y_stride=9,
        )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", LAYERS, ids=str)
@pytest.mark.parametrize("adds", [False, True], ids=["", "residual"])
def test_relu6(shape, dtype, adds):
    sizes = shape[:-1]
    x, w, bias = arrays(*sizes, dtype)
    residual = x[..., :1] * np.ones(sizes[1], dtype) if adds else None
    x[0, 0, 0, 0] = np.nan
    y, clipped = np.empty((2, 2, 13, 24, sizes[1]), dtype)
    layer(*shape, dtype).forward(x, w, bias, residual, y)
    layer(*shape, dtype, activation="relu6").forward(x, w, bias, residual, clipped)
    assert np.isnan(y).any()
    assert (y > 6).any()
    np.testing.assert_array_equal(clipped, np.clip(y, 0, 6))


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_public_relu6(last, rng):
    x = 3 * rng.standard_normal((2, 3, 9, 8)).astype(np.float32)
    w = rng.standard_normal((5, 3, 3, 3)).astype(np.float32)
    x = cc.channels_last(x) if last else x
    y = F.conv2d(x, w, activation="relu6")
    np.testing.assert_array_equal(y, np.clip(F.conv2d(x, w), 0, 6))


class Branches(nn.Module):
    """Convolutions whose results are joined, one of them used elsewhere too."""

    def __init__(self):
        self.one = nn.Conv2d(4, 5, 1)
        self.two = nn.Conv2d(4, 8, 3, padding=1)
        self.deep = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.shared = nn.Conv2d(4, 3, 1)

    def forward(self, x):
        shared = self.shared(x)
        parts = [self.one(x).relu(), x, self.two(x), self.deep(x), shared]
        return F.cat(parts, 1), F.cat([self.one(shared_input(x)), shared], 1)


def shared_input(x):
    return x * 2.0


@pytest.mark.parametrize("n", [1, 3])
def test_joined_in_place(n, rng):
    model = cc.Model(Branches(), (4, 7, 6), seed=1)
    x = rng.standard_normal((n, 4, 7, 6)).astype(np.float32)
    state = model.state_dict()

    def conv(name, x, **options):
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        return F.conv2d(x, weight, bias, **options)

    shared = conv("shared", x)
    expected = (
        [
            F.relu(conv("one", x)),
            x,
            conv("two", x, padding=1),
            conv("deep", x, padding=1, groups=4),
            shared,
        ],
        [conv("one", 2 * x), shared],
    )
    for y, parts in zip(model.predict(x), expected, strict=True):
        np.testing.assert_allclose(y, np.concatenate(parts, 1), rtol=0, atol=1e-5)
