"""Exported models: what onnxruntime computes from the file is what we compute."""

import numpy as np
import pytest
from conftest import relative_error

import convcore as cc
from convcore import functional as F
from convcore import models, nn

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnx.reference")
runtime = pytest.importorskip("onnxruntime")

# The smallest images of each network; some are not as large as by design.
SIZES = {"lenet5": 28, "alexnet": 63, "zfnet": 63, "mobilenet_v2": 33}


def run(path, *arrays):
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = (x.name for x in session.get_inputs())
    return session.run(None, dict(zip(names, arrays, strict=True)))


def check(model, path, x, limit=2e-5):
    """Export, check, and compare with onnxruntime for two batch sizes."""
    model.export_onnx(path)
    onnx.checker.check_model(str(path), full_check=True)
    for part in (x, x[:1]):
        expected = model.predict(part)
        (found,) = run(path, part)
        assert found.dtype == expected.dtype
        assert relative_error(found, expected) <= limit


def draw(model, rng):
    """Parameters with which no layer's result is lost beside another's."""
    state = {}
    for key, x in model.state_dict().items():
        if x.ndim > 1:
            scale = (2 * len(x) / x.size) ** 0.5
            state[key] = scale * rng.standard_normal(x.shape, x.dtype)
        elif "var" in key:
            state[key] = rng.uniform(0.5, 1.5, x.shape)
        elif x.dtype.kind == "f":
            state[key] = x + 0.1 * rng.standard_normal(x.shape)
        else:
            state[key] = x
    model.load_state_dict(state)
    return model


# Another of the same family, with parameters by the hundred megabytes.
SLOW = {"vgg11", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn"}
NAMES = [
    pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW))
    for name in models.__all__
]


@pytest.mark.parametrize("name", NAMES)
def test_architecture(name, tmp_path, rng):
    size = SIZES.get(name, 32)
    channels = 1 if name == "lenet5" else 3
    network = getattr(models, name)(num_classes=10)
    model = draw(cc.Model(network, (channels, size, size)), rng)
    x = rng.standard_normal((2, channels, size, size)).astype(np.float32)
    check(model, tmp_path / "model.onnx", x)


class Calls(nn.Module):
    """A function of the input, and of some parameters."""

    def __init__(self, function, **parameters):
        self.function = function
        for name, data in parameters.items():
            setattr(self, name, nn.Parameter(data))
        self.names = list(parameters)

    def forward(self, x):
        return self.function(x, *(getattr(self, name) for name in self.names))


def random(*shape):
    return np.random.default_rng(len(shape)).standard_normal(shape)


IMAGE, ROWS = (6, 9, 8), (12,)
WAYS = {
    "max pool, ceil": (IMAGE, lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True)),
    "max pool, dilated": (IMAGE, lambda x: F.max_pool2d(x, 2, 1, dilation=3)),
    "mean pool, ceil": (
        IMAGE,
        lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True),
    ),
    "mean pool, ceil, unpadded": (
        IMAGE,
        lambda x: F.avg_pool2d(x, 3, 2, 1, True, False),
    ),
    "mean pool, divisor": (
        IMAGE,
        lambda x: F.avg_pool2d(x, 2, 2, 1, divisor_override=3),
    ),
    "adaptive mean": (IMAGE, lambda x: F.adaptive_avg_pool2d(x, (4, 5))),
    "adaptive mean, divided": (IMAGE, lambda x: F.adaptive_avg_pool2d(x, (3, 2))),
    "adaptive max": (IMAGE, lambda x: F.adaptive_max_pool2d(x, (4, 5))),
    "odd lrn": (IMAGE, lambda x: F.local_response_norm(x, 5, alpha=1.0)),
    "even lrn": (IMAGE, lambda x: F.local_response_norm(x, 4, alpha=1.0)),
    "group norm": (IMAGE, lambda x: F.group_norm(x, 3)),
    "layer norm": (IMAGE, lambda x: F.layer_norm(x, 8)),
    "softmax": (IMAGE, lambda x: F.softmax(x, 1)),
    "log_softmax": (IMAGE, lambda x: F.log_softmax(x, -1)),
    "scalars": (IMAGE, lambda x: (2.0 - x * 3.0) / 7.0 + 1.0),
    "mean of dimensions": (IMAGE, lambda x: F.mean(x, (2, 3))),
    "largest": (IMAGE, lambda x: F.amax(x, 1, keepdim=True)),
    "reshape": (IMAGE, lambda x: F.flatten(x, 1).reshape(-1, 8, 54)),
    "permute": (IMAGE, lambda x: F.permute(x, (0, 2, 3, 1))),
    "pixel shuffle": ((8, 3, 5), lambda x: F.pixel_shuffle(x, 2)),
    "channel shuffle": (IMAGE, lambda x: F.channel_shuffle(x, 3)),
    "slices": (IMAGE, lambda x: F.cat([x[:, 4:, 1:6], x[:, :2, ::2]], 2)[..., 1:]),
    "zeros": (IMAGE, lambda x: F.pad(x, (1, 2, 0, 1, 1, 1), value=0.5)),
    "cropped": (IMAGE, lambda x: F.pad(x, (-1, 2))),
    "reflected": (IMAGE, lambda x: F.pad(x, (1, 2, 3, 0), mode="reflect")),
    "repeated": (IMAGE, lambda x: F.pad(x, (1, 2, 3, 0), mode="replicate")),
    "circular": (IMAGE, lambda x: F.pad(x, (1, 2, 3, 0), mode="circular")),
    "nearest": (IMAGE, lambda x: F.interpolate(x, scale_factor=2)),
    "nearest-exact": (IMAGE, lambda x: F.interpolate(x, (5, 11), mode="nearest-exact")),
    "bilinear": (IMAGE, lambda x: F.interpolate(x, (13, 5), mode="bilinear")),
    "corners": (
        IMAGE,
        lambda x: F.interpolate(x, (13, 5), mode="bilinear", align_corners=True),
    ),
    "by factor": (
        IMAGE,
        lambda x: F.interpolate(x, scale_factor=1.7, mode="bilinear"),
    ),
    "bicubic": (IMAGE, lambda x: F.interpolate(x, (13, 5), mode="bicubic")),
    "relu6": (IMAGE, lambda x: F.relu6(4 * x)),
    "hardtanh": (IMAGE, F.hardtanh),
    "leaky_relu": (IMAGE, lambda x: F.leaky_relu(x, 0.2)),
    "elu": (IMAGE, lambda x: F.elu(x, 1.5)),
    "celu": (IMAGE, lambda x: F.celu(x, 1.5)),
    "selu": (IMAGE, F.selu),
    "gelu": (IMAGE, F.gelu),
    "gelu by tanh": (IMAGE, lambda x: F.gelu(x, "tanh")),
    "silu": (IMAGE, F.silu),
    "mish": (IMAGE, F.mish),
    "sigmoid": (IMAGE, F.sigmoid),
    "logsigmoid": (IMAGE, F.logsigmoid),
    "softplus": (IMAGE, lambda x: F.softplus(20 * x, 2.0)),
    "hardsigmoid": (IMAGE, lambda x: F.hardsigmoid(3 * x)),
    "hardswish": (IMAGE, lambda x: F.hardswish(3 * x)),
    "identity": (IMAGE, lambda x: x),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_operator(way, tmp_path, rng):
    shape, function = WAYS[way]
    model = cc.Model(Calls(function), shape)
    x = rng.standard_normal((2, *shape)).astype(np.float32)
    check(model, tmp_path / "model.onnx", x, 1e-6)


LAYERS = {
    "conv1d": ((4, 20), lambda: nn.Conv1d(4, 6, 3, 2, 1)),
    "conv3d": ((2, 5, 6, 7), lambda: nn.Conv3d(2, 4, (1, 2, 3), padding=1)),
    "groups": ((6, 9, 8), lambda: nn.Conv2d(6, 6, 3, groups=3, dilation=2)),
    "same": ((6, 9, 8), lambda: nn.Conv2d(6, 4, 4, padding="same")),
    "transposed": (
        (6, 9, 8),
        lambda: nn.ConvTranspose2d(6, 4, 3, 2, 1, output_padding=(1, 0), groups=2),
    ),
    "linear": (ROWS, lambda: nn.Linear(12, 5)),
    "linear of rows": ((3, 12), lambda: nn.Linear(12, 5, bias=False)),
    "norm of one dimension": (ROWS, lambda: nn.BatchNorm1d(12)),
    "norm without weights": (IMAGE, lambda: nn.BatchNorm2d(6, affine=False)),
    "slopes": (IMAGE, lambda: nn.PReLU(6)),
}


@pytest.mark.parametrize("way", LAYERS)
def test_layer(way, tmp_path, rng):
    shape, layer = LAYERS[way]
    model = draw(cc.Model(layer(), shape), rng)
    x = rng.standard_normal((2, *shape)).astype(np.float32)
    check(model, tmp_path / "model.onnx", x, 3e-6)


def test_float64(tmp_path, rng):
    layers = nn.Conv2d(6, 4, 3), nn.BatchNorm2d(4), nn.ReLU6(), nn.Flatten()
    network = nn.Sequential(*layers, nn.Linear(168, 3))
    model = draw(cc.Model(network, IMAGE, dtype="float64"), rng)
    model.export_onnx(tmp_path / "model.onnx")
    # onnxruntime has no convolution of this dtype.
    session = onnx.reference.ReferenceEvaluator(str(tmp_path / "model.onnx"))
    x = rng.standard_normal((2, *IMAGE))
    (found,) = session.run(None, {"input": x})
    assert found.dtype == np.float64
    assert relative_error(found, model.predict(x)) < 1e-12


def test_shared_parameters_and_several_outputs(tmp_path, rng):
    weight = random(6, 6, 1, 1)

    def forward(x, w):
        y = F.conv2d(x, w, activation="relu")
        return y, F.conv2d(y, w) + y

    model = cc.Model(Calls(forward, weight=weight), IMAGE)
    model.export_onnx(tmp_path / "model.onnx")
    x = rng.standard_normal((3, *IMAGE)).astype(np.float32)
    found = run(tmp_path / "model.onnx", x)
    for a, b in zip(found, model.predict(x), strict=True):
        assert relative_error(a, b) < 1e-6


def test_frozen_models_and_several_inputs(tmp_path, rng):
    network = nn.Sequential(nn.Conv2d(6, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
    model = draw(cc.Model(network, IMAGE), rng)
    x = rng.standard_normal((3, *IMAGE)).astype(np.float32)
    model.freeze().export_onnx(tmp_path / "frozen.onnx")
    (found,) = run(tmp_path / "frozen.onnx", x)
    assert relative_error(found, model.predict(x)) < 1e-6
    kinds = [n.op_type for n in onnx.load(tmp_path / "frozen.onnx").graph.node]
    assert kinds == ["Conv", "Relu"]

    class Sum(nn.Module):
        def forward(self, a, b):
            return a + b

    two = cc.Model(Sum(), [(4,), (4,)])
    two.export_onnx(tmp_path / "two.onnx")
    a, b = rng.standard_normal((2, 3, 4)).astype(np.float32)
    np.testing.assert_array_equal(run(tmp_path / "two.onnx", a, b)[0], a + b)


def test_what_onnx_has_not(tmp_path):
    model = cc.Model(Calls(lambda x: F.dropout(x)), IMAGE)
    with pytest.raises(ValueError, match=r"dropout \(.*\) has no operator in ONNX"):
        model.export_onnx(tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()
