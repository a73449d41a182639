"""Trained networks of other frameworks, from their ONNX files, on real data.

The files are beside the repository; see the README there.
"""

import runpy
from pathlib import Path

import numpy as np
import pytest

import convcore as cc
from tests.conftest import relative_error

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
MODELS = (
    "cifar10_winml_tutorial",
    "fastestdet_coco",
    "mnist8_cntk",
    "resnet20_cifar10_bn",
    "resnet20_cifar10_folded",
    "speech35_squeezenet",
    "squeezenet11_fp32",
)


def model_file(name):
    path = DATA / "onnx" / name / "model.onnx"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return path


def data_file(name):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path


def tensor(path):
    return onnx.numpy_helper.to_array(onnx.load_tensor(path))


def stored(path):
    """Inputs and outputs that are stored beside a model: list of (x, y)."""
    folders = sorted(path.parent.glob("test_data_set_*"))
    return [(tensor(f / "input_0.pb"), tensor(f / "output_0.pb")) for f in folders]


@pytest.mark.parametrize("name", MODELS)
def test_stored_outputs(name):
    path = model_file(name)
    model, prepared = cc.onnx.load(path), cc.onnx.backend.prepare(onnx.load(path))
    frozen, sets = model.freeze(), stored(path)
    assert sets
    for x, y in sets:
        assert relative_error(model.predict(x), y) <= 1e-4
        assert relative_error(frozen.predict(x), y) <= 1e-4
        assert relative_error(prepared.run([x])[0], y) <= 1e-4
    batch = np.concatenate([x for x, _ in sets] * 2)
    outputs = np.concatenate([y for _, y in sets] * 2)
    assert relative_error(frozen.predict(batch), outputs) <= 1e-4


@pytest.mark.parametrize("name", MODELS)
def test_round_trip(name, tmp_path):
    """Loaded, exported and loaded again: the same network, for onnxruntime too."""
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    path = model_file(name)
    model, file = cc.onnx.load(path), str(tmp_path / "again.onnx")
    model.export_onnx(file)
    onnx.checker.check_model(file, full_check=True)
    again = cc.onnx.load(file)
    assert list(again.state_dict()) == list(model.state_dict())
    x = np.concatenate([x for x, _ in stored(path)[:1]] * 2)
    y = model.predict(x)
    np.testing.assert_array_equal(again.predict(x), y)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(file, options, ["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: x})
    assert relative_error(found, y) <= 2e-5


def test_digits():
    model = cc.onnx.load(model_file("mnist8_cntk")).freeze()
    _, test = cc.data.mnist(data_file("mnist"))
    x = test.take(np.arange(len(test))).astype(np.float32)
    assert np.mean(model.predict(x).argmax(1) == test.y) >= 0.989


@pytest.mark.parametrize("name", ["resnet20_cifar10_bn", "resnet20_cifar10_folded"])
def test_cifar10(name):
    model = cc.onnx.load(model_file(name)).freeze()
    with np.load(data_file("cifar10/cifar10_train_first4000_lossless.npz")) as data:
        images, labels = data["images"].transpose(0, 3, 1, 2), data["labels"]
    mean, deviation = np.float32([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
    x = (np.float32(images) / 255 - mean.reshape(3, 1, 1)) / deviation.reshape(3, 1, 1)
    assert np.mean(model.predict(x).argmax(1) == labels) >= 0.997


@pytest.mark.parametrize(
    ("photo", "number"),
    [("kitten_224.png", 281), ("coffee.png", 967), ("wonnx_bald_eagle.jpeg", 22)],
)
def test_photos(photo, number):
    pytest.importorskip("PIL", reason="the extra images is not installed")
    model = cc.onnx.load(model_file("squeezenet11_fp32")).freeze()
    image = cc.data.load_image(data_file(f"photos/{photo}"), (224, 224))
    blue_first = np.float32(image[::-1]) - np.float32([[[104]], [[117]], [[123]]])
    assert model.predict(blue_first[None]).argmax() == number


def test_detector(tmp_path, monkeypatch, capsys):
    """The example draws the dog, the bicycle and the car."""
    image = pytest.importorskip("PIL.Image", reason="the extra images is not installed")
    program = Path(__file__).resolve().parents[1] / "examples" / "detect_objects.py"
    if not program.is_file():
        pytest.skip(f"{program} is not beside the tests")
    files = model_file("fastestdet_coco"), data_file("photos/dog.jpg")
    arguments = [program, *files, tmp_path / "found.png"]
    monkeypatch.setattr("sys.argv", list(map(str, arguments)))
    runpy.run_path(str(program), run_name="__main__")
    printed = capsys.readouterr().out
    found = {line.split()[0] for line in printed.splitlines()}
    assert found == {"dog", "bicycle", "car"}
    with image.open(tmp_path / "found.png") as drawn:
        assert drawn.size == (768, 576)


@pytest.mark.parametrize("name", ["resnet20_cifar10_bn", "speech35_squeezenet"])
def test_fine_tuning(name, rng):
    """A network that was trained elsewhere learns, and keeps what it learned."""
    model = cc.onnx.load(model_file(name))
    x = rng.standard_normal((8, *model.input_shape)).astype(np.float32)
    y = rng.integers(0, 10, 8)
    optimizer = cc.optim.SGD(lr=0.01, momentum=0.9)
    losses = [model.train_step(x, y, optimizer=optimizer) for _ in range(10)]
    assert losses[-1] < 0.85 * losses[0]
