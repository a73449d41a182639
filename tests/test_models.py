"""The networks: published sizes, torchvision's keys, gradients as torch's."""

import numpy as np
import pytest

import convcore as cc
from convcore import models, nn, optim

# Published numbers of parameters, and of torchvision (GoogLeNet with its heads).
PARAMETERS = {
    "lenet5": 61_706,
    "alexnet": 61_100_840,
    "zfnet": 62_357_608,
    "vgg11": 132_863_336,
    "vgg13": 133_047_848,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "vgg11_bn": 132_868_840,
    "vgg13_bn": 133_053_736,
    "vgg16_bn": 138_365_992,
    "vgg19_bn": 143_678_248,
    "googlenet": 13_004_888,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnet20_cifar": 269_722,
    "resnet56_cifar": 853_018,
    "squeezenet1_1": 1_235_496,
    "mobilenet_v2": 3_504_872,
}

BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def norm(path):
    return [f"{path}.{name}" for name in BATCH_NORM]


def conv(path):
    return [f"{path}.weight", f"{path}.bias"]


def residual_keys(stages, convolutions):
    """torchvision's keys of a ResNet."""
    keys = ["conv1.weight", *norm("bn1")]
    for stage, blocks in enumerate(stages, 1):
        for block in range(blocks):
            path = f"layer{stage}.{block}"
            for i in range(1, convolutions + 1):
                keys += [f"{path}.conv{i}.weight", *norm(f"{path}.bn{i}")]
            if block == 0 and (stage > 1 or convolutions == 3):
                keys += [f"{path}.downsample.0.weight", *norm(f"{path}.downsample.1")]
    return [*keys, *conv("fc")]


def googlenet_keys():
    def layer(path):
        return [f"{path}.conv.weight", *norm(f"{path}.bn")]

    keys = [*layer("conv1"), *layer("conv2"), *layer("conv3")]
    for name in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        for branch in ("1", "2.0", "2.1", "3.0", "3.1", "4.1"):
            keys += layer(f"inception{name}.branch{branch}")
    for head in ("aux1", "aux2"):
        keys += [*layer(f"{head}.conv"), *conv(f"{head}.fc1"), *conv(f"{head}.fc2")]
    return [*keys, *conv("fc")]


def mobilenet_keys():
    def layer(path):
        return [f"{path}.0.weight", *norm(f"{path}.1")]

    keys = layer("features.0")
    for i in range(1, 18):
        layers = [layer(f"features.{i}.conv.{j}") for j in range(1 + (i > 1))]
        keys += [key for names in layers for key in names]
        keys.append(f"features.{i}.conv.{len(layers)}.weight")
        keys += norm(f"features.{i}.conv.{len(layers) + 1}")
    return [*keys, *layer("features.18"), *conv("classifier.1")]


def squeezenet_keys():
    fires = (3, 4, 6, 7, 9, 10, 11, 12)
    parts = ("squeeze", "expand1x1", "expand3x3")
    keys = [
        key for i in fires for part in parts for key in conv(f"features.{i}.{part}")
    ]
    return [*conv("features.0"), *keys, *conv("classifier.1")]


def numbered_keys(convolutions, classifier, normalized=False):
    """Keys of features and classifier, by the numbers of their layers."""
    keys = []
    for i in convolutions:
        keys += conv(f"features.{i}")
        keys += norm(f"features.{i + 1}") if normalized else []
    return keys + [key for i in classifier for key in conv(f"classifier.{i}")]


KEYS = {
    "resnet18": residual_keys((2, 2, 2, 2), 2),
    "resnet34": residual_keys((3, 4, 6, 3), 2),
    "resnet50": residual_keys((3, 4, 6, 3), 3),
    "resnet101": residual_keys((3, 4, 23, 3), 3),
    "resnet152": residual_keys((3, 8, 36, 3), 3),
    "googlenet": googlenet_keys(),
    "mobilenet_v2": mobilenet_keys(),
    "squeezenet1_1": squeezenet_keys(),
    "alexnet": numbered_keys((0, 3, 6, 8, 10), (1, 4, 6)),
    "vgg11": numbered_keys((0, 3, 6, 8, 11, 13, 16, 18), (0, 3, 6)),
    "vgg13": numbered_keys((0, 2, 5, 7, 10, 12, 15, 17, 20, 22), (0, 3, 6)),
    "vgg16": numbered_keys((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), (0, 3, 6)),
    "vgg19": numbered_keys(
        (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34), (0, 3, 6)
    ),
    "vgg11_bn": numbered_keys((0, 4, 8, 11, 15, 18, 22, 25), (0, 3, 6), True),
    "vgg16_bn": numbered_keys(
        (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40), (0, 3, 6), True
    ),
}

# Space before the classifier at the size of the design, as in the papers.
SPACES = {
    "alexnet": ("features", (256, 6, 6)),
    "zfnet": ("features", (256, 6, 6)),
    "vgg19": ("features", (512, 7, 7)),
    "googlenet": ("inception5b", (1024, 7, 7)),
    "resnet34": ("layer4", (512, 7, 7)),
    "resnet50": ("layer4", (2048, 7, 7)),
    "squeezenet1_1": ("features", (512, 13, 13)),
    "mobilenet_v2": ("features", (1280, 7, 7)),
}


def test_every_network_is_listed():
    assert sorted(PARAMETERS) == sorted(models.__all__)


@pytest.mark.parametrize("name", PARAMETERS)
def test_number_of_parameters(name):
    module = getattr(models, name)()
    sizes = [np.prod(p.shape, dtype=int) for _, p in module.named_parameters()]
    assert sum(sizes) == PARAMETERS[name]
    assert f"{PARAMETERS[name]:,} parameters" in getattr(models, name).__doc__


@pytest.mark.parametrize("name", KEYS)
def test_keys_are_those_of_torchvision(name):
    assert [key for key, _ in getattr(models, name)().named_state()] == KEYS[name]


@pytest.mark.parametrize("name", SPACES)
def test_sizes_inside(name):
    inputs = [("input", (3, 224, 224), np.dtype("float32"))]
    graph, _ = nn.trace(getattr(models, name)(), inputs)
    inner, shape = SPACES[name]
    assert graph.names[inner].shape == (1, *shape)
    assert graph.outputs["output"].shape == (1, 1000)


SMALL = {
    "lenet5": (1, 28, 28),
    "resnet18": (3, 32, 32),
    "resnet20_cifar": (3, 32, 32),
    "googlenet": (3, 64, 64),
    "squeezenet1_1": (3, 64, 64),
    "mobilenet_v2": (3, 64, 64),
}


def small(name, seed=0, **options):
    """A network without dropout, for ten classes, and a batch."""
    module = getattr(models, name)(num_classes=10)
    for _, layer in module.named_modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0
    model = cc.Model(module, SMALL[name], seed=seed, **options)
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((3, *SMALL[name])).astype(model.dtype)
    return model, x, generator.integers(0, 10, 3)


@pytest.mark.parametrize("name", SMALL)
def test_predict_train_save_load(tmp_path, name):
    model, x, y = small(name)
    optimizer = optim.SGD(0.002, momentum=0.9)
    first = [model.train_step(x, y, optimizer=optimizer) for _ in range(4)]
    assert first[-1] < first[0]
    logits = model.predict(x)
    assert logits.shape == (3, 10) and np.isfinite(logits).all()
    model.save(tmp_path / "m.safetensors")
    again = cc.Model.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.predict(x), logits)
    loss = model.train_step(x, y, optimizer=optim.SGD(0.01))
    assert again.train_step(x, y, optimizer=optim.SGD(0.01)) == loss
    frozen = model.freeze()
    assert not any("running" in key for key in frozen.state_dict())
    logits = model.predict(x)
    error = np.abs(frozen.predict(x) - logits).max() / np.abs(logits).max()
    assert error < 2e-5


def gradients(name, dtypes, seed=0):
    """The loss and gradients of a model, then of its twins of these dtypes."""
    torch = pytest.importorskip("torch")
    from benchmarks import torch_twins

    model, x, y = small(name, seed, dtype=dtypes[0])
    found = [model.gradients(x, y)[:2]]
    for dtype in dtypes[1:]:
        theirs = torch_twins.make(name, num_classes=10)
        for layer in theirs.modules():
            if isinstance(layer, torch.nn.Dropout):
                layer.p = 0
        torch_twins.copy(model, theirs)
        theirs.to(getattr(torch, dtype)).train()
        inputs = torch.tensor(x, dtype=getattr(torch, dtype))
        loss, _ = torch_twins.loss(theirs, inputs, torch.tensor(y))
        loss.backward()
        parameters = theirs.named_parameters()
        found.append((loss.item(), {k: p.grad.double().numpy() for k, p in parameters}))
    return found


def difference(found, expected):
    """Norm of the difference of two sets of gradients, by the norm of one."""
    squares = sum(np.sum((found[k] - g) ** 2) for k, g in expected.items())
    return (squares / sum(np.sum(g**2) for g in expected.values())) ** 0.5


@pytest.mark.parametrize("name", SMALL)
def test_gradients_in_float64(name):
    (loss, ours), (their_loss, theirs) = gradients(name, ["float64"] * 2)
    assert loss == pytest.approx(their_loss, rel=1e-12)
    assert list(ours) == list(theirs)
    assert difference(ours, theirs) < 1e-11
    scale = max(np.abs(g).max() for g in theirs.values())
    for key, gradient in theirs.items():
        np.testing.assert_allclose(
            ours[key], gradient, rtol=1e-10, atol=1e-10 * scale, err_msg=key
        )


@pytest.mark.parametrize("name", ["resnet18", "googlenet", "mobilenet_v2"])
def test_gradients_in_float32(name):
    """Within 8 times torch's own error.

    Where rounding moves an element over the edge of a ReLU or a maximum to a
    neighbour, a gradient changes by far more than that, here as in torch: of
    several batches the one without such an accident counts.
    """
    errors = []
    for seed in range(8):
        found = gradients(name, ["float32", "float32", "float64"], seed)
        errors.append([difference(g, found[2][1]) for _, g in found[:2]])
    ours, theirs = np.min(errors, axis=0)
    assert ours < 8 * theirs


@pytest.mark.parametrize("name", ["resnet18", "googlenet"])
def test_threads_do_not_change_a_bit(name):
    """Nor does a second run. Dropout included."""
    states = []
    for n in (1, 2, 3, 1):
        module = getattr(models, name)(num_classes=10)
        model = cc.Model(module, SMALL[name])
        _, x, y = small(name)
        optimizer = optim.SGD(0.002, momentum=0.9)
        with cc.threads(n):
            for _ in range(10):
                model.train_step(x, y, optimizer=optimizer)
        states.append(model.state_dict())
    for state in states[1:]:
        for key, tensor in state.items():
            assert tensor.tobytes() == states[0][key].tobytes(), key


def test_heads_count_in_training_only():
    model, x, y = small("googlenet", dtype="float64")
    expected = model.engine.training
    assert list(expected.outputs) == ["output", "auxiliary.0", "auxiliary.1"]
    assert list(model.engine.graph.outputs) == ["output"]
    training, _, _ = model.gradients(x, y, training=True)
    inference, without_heads, _ = model.gradients(x, y, training=False)
    assert inference == pytest.approx(model.evaluate((x, y))["loss"])
    assert training > inference
    assert not any(key.startswith("aux") for key in without_heads)
    assert not any("aux" in key for key in model.freeze().state_dict())
