"""The command line, in this process and as a command."""

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from convcore import Model, data, nn
from convcore.cli import main
from convcore.data.idx import encode_idx

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="module")
def mnist_folder(tmp_path_factory):
    """The built-in digits, fewer, as MNIST files."""
    folder = tmp_path_factory.mktemp("mnist")
    for part, digits in zip(("train", "t10k"), data.digits(), strict=True):
        count = 640 if part == "train" else 200
        images = encode_idx(digits.x[:count, 0])
        labels = encode_idx(digits.y[:count].astype(np.uint8))
        (folder / f"{part}-images-idx3-ubyte").write_bytes(images)
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    return folder


@pytest.fixture(scope="module")
def trained(mnist_folder):
    """A saved model, and what `train` printed."""
    file = mnist_folder / "lenet5.safetensors"
    command = ["train", "lenet5", "--data", mnist_folder, "--epochs", "6"]
    result = convcore(*command, "--lr", "0.1", "--batch-size", "32", "--save", file)
    assert result.returncode == 0, result.stderr
    return file, result.stdout


def convcore(*arguments):
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "convcore", *map(str, arguments)],
        capture_output=True,
        text=True,
    )


def test_train_ends_with_the_accuracy(trained):
    _, output = trained
    match = re.fullmatch(r"test accuracy (\d+\.\d\d) %", output.splitlines()[-1])
    assert float(match[1]) > 80


def test_evaluate_repeats_the_accuracy(trained, mnist_folder, capsys):
    file, output = trained
    assert main(["evaluate", "--model", str(file), "--data", str(mnist_folder)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == output.splitlines()[-1]


def test_train_json_and_seed(mnist_folder, capsys):
    def train(seed, threads):
        options = ["--epochs", "1", "--seed", str(seed), "--threads", str(threads)]
        folder = ["--data", str(mnist_folder)]
        assert main(["train", "lenet5", *folder, *options, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    first = train(0, 1)
    assert first["network"] == "lenet5"
    assert 0 <= first["accuracy"] <= 1
    assert train(0, 2)["loss"] == first["loss"] != train(1, 1)["loss"]


def test_images_in_a_folder_per_class(tmp_path, capsys):
    image_module = pytest.importorskip("PIL.Image", reason="Pillow is absent")
    for number, name in enumerate(["dark", "light"]):
        (tmp_path / name).mkdir()
        for i in range(20):
            image = image_module.new("RGB", (12, 12), (200 * number + i, 90, i))
            image.save(tmp_path / name / f"{i:02}.png")
    options = ["--data", str(tmp_path), "--epochs", "2", "--batch-size", "12"]
    file = ["--save", str(tmp_path / "m.safetensors")]
    assert main(["train", "resnet20_cifar", *options, *file]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    model = Model.load(tmp_path / "m.safetensors")
    assert model.predict(np.zeros((1, 3, 12, 12), np.float32)).shape == (1, 2)
    options = ["--model", file[1], "--data", str(tmp_path)]
    assert main(["evaluate", *options]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == last


def test_checkpoint_is_gone_on_from(mnist_folder, tmp_path, capsys):
    run = tmp_path / "run"
    options = ["--data", str(mnist_folder), "--epochs", "2", "--checkpoint", str(run)]
    losses = []
    for _ in range(2):
        assert main(["train", "lenet5", *options, "--json"]) == 0
        losses.append(json.loads(capsys.readouterr().out)["loss"])
    assert any(run.iterdir())
    assert losses[0] == losses[1]


def test_predict(trained, tmp_path, capsys):
    image_module = pytest.importorskip("PIL.Image", reason="Pillow is absent")
    file, _ = trained
    _, test = data.digits()
    model = Model.load(str(file))
    ((x, _),) = test.batches(1000)
    logits = model.predict(x)
    chosen = logits.max(axis=1).argsort()[-3:]
    names = []
    for number, pixels in enumerate(test.x[chosen, 0]):
        # Black on white, and twice the size: --invert and scaling undo it.
        large = np.kron(255 - pixels, np.ones((2, 2), np.uint8))
        names.append(str(tmp_path / f"{number}.png"))
        image_module.fromarray(large).save(names[-1])
    command = ["predict", *names, "--model", str(file), "--invert"]
    assert main([*command, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [r["image"] for r in result] == names
    assert [r["class"] for r in result] == logits[chosen].argmax(axis=1).tolist()
    assert all(0.1 <= r["probability"] <= 1 for r in result)
    assert main(command) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert re.fullmatch(rf"{re.escape(names[0])}: \d \(\d+\.\d\d %\)", first)


def test_info(capsys):
    assert main(["info"]) == 0
    assert "isa:" in capsys.readouterr().out
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["isa"] in facts["isas available"]
    assert facts["threads"] >= 1


def test_profile(tmp_path, capsys):
    file = str(tmp_path / "m.safetensors")
    Model(nn.Linear(4, 2), (4,)).save(file)
    assert main(["profile", file, "--batch-size", "2"]) == 0
    assert "conv_forward" in capsys.readouterr().out
    assert main(["profile", "lenet5", "--train", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["rows"][0]["shape"] == [8, 6, 28, 28]
    assert result["memory"]["peak"] > result["memory"]["activations"]


def test_predict_needs_a_model_of_images(tmp_path, capsys):
    file = str(tmp_path / "m.safetensors")
    Model(nn.Linear(4, 2), (4,)).save(file)
    assert main(["predict", "image.png", "--model", file]) == 1
    assert "takes inputs of shape (4,), not images" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["", "demo", "train", "evaluate", "predict", "profile", "info"]
)
def test_help(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"] if name else ["--help"])
    assert stopped.value.code == 0
    assert f"usage: convcore {name}".rstrip() in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["paint"], "invalid choice: 'paint'"),
        (["train", "resnet", "--data", "."], "invalid choice: 'resnet'"),
        (["train", "lenet5"], "the following arguments are required: --data"),
        (["train", "lenet5", "--data", "absent"], "absent/train-images-idx3-ubyte"),
        (["demo", "--threads", "0"], "between 1 and"),
        (["demo", "--threads", "many"], "invalid int value: 'many'"),
        (["evaluate", "--model", "absent", "--data", "."], "absent"),
    ],
)
def test_errors_are_one_line(arguments, message):
    result = convcore(*arguments)
    assert result.returncode == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert message in result.stderr


def test_bad_model_file(tmp_path, mnist_folder):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"not safetensors")
    result = convcore("evaluate", "--model", file, "--data", mnist_folder)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "model.safetensors" in result.stderr


def test_image_that_is_none(tmp_path, trained):
    pytest.importorskip("PIL", reason="Pillow is absent")
    file = tmp_path / "text.png"
    file.write_text("no image")
    result = convcore("predict", file, "--model", trained[0])
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "text.png" in result.stderr


def test_interrupt_exits_with_130():
    command = [sys.executable, "-m", "convcore", "demo"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert "LeNet-5 learns" in process.stderr.readline()
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert errors.splitlines()[-1] == "convcore: interrupted"
    assert output == ""


@pytest.mark.slow
def test_demo_learns():
    result = convcore("demo")
    assert result.returncode == 0, result.stderr
    match = re.fullmatch(r"test accuracy (\d+\.\d\d) %", result.stdout.splitlines()[-1])
    assert float(match[1]) >= 97.5


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_default_recipe_on_mnist(seed):
    if not os.environ.get("CONVCORE_TEST_MNIST"):
        pytest.skip("takes a minute: set CONVCORE_TEST_MNIST=1")
    folder = SHARED / "mnist"
    if not folder.is_dir():
        pytest.skip("../shared/data/mnist is absent")
    result = convcore("train", "lenet5", "--data", folder, "--seed", seed, "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["accuracy"] >= 0.992
