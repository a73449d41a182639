"""The examples in docstrings, in the README and in examples/ run."""

import doctest
import importlib
import importlib.util
import pkgutil
import re
import runpy
from pathlib import Path

import pytest

import convcore

ROOT = Path(__file__).resolve().parents[1]

# Only the extra onnx has what these modules import.
_WITHOUT = () if importlib.util.find_spec("onnx") else ("convcore.onnx.",)

MODULES = [
    importlib.import_module(module.name)
    for module in pkgutil.walk_packages(convcore.__path__, "convcore.")
    if not module.name.endswith("__main__") and not module.name.startswith(_WITHOUT)
]
EXAMPLES = [
    example
    for module in MODULES
    for example in doctest.DocTestFinder(exclude_empty=True).find(module)
    if example.examples
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_example(example, capsys):
    results = doctest.DocTestRunner().run(example)
    assert results.failed == 0, capsys.readouterr().out


def test_examples_are_found():
    assert {"convcore.model.Model", "convcore.nn.module.Module"} <= {
        e.name for e in EXAMPLES
    }


def test_readme(tmp_path, monkeypatch, capsys):
    """The first example trains a network and saves it."""
    if not (ROOT / "README.md").is_file():
        pytest.skip("README.md is not beside the tests")
    text = (ROOT / "README.md").read_text()
    example = re.search(r"```python\n(.*?)```", text, flags=re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    accuracy = re.search(r"'accuracy': ([0-9.]+)", capsys.readouterr().out)[1]
    assert float(accuracy) > 0.9
    (file,) = tmp_path.iterdir()
    assert convcore.Model.load(file).input_shape == (1, 28, 28)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train_digits", "residual_block"])
def test_example_program(name, capsys):
    file = ROOT / "examples" / f"{name}.py"
    if not file.is_file():
        pytest.skip(f"examples/{name}.py is not beside the tests")
    runpy.run_path(str(file))
    accuracy = re.search(r"test accuracy ([0-9.]+) %", capsys.readouterr().out)[1]
    assert float(accuracy) > 95
