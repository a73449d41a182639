"""ONNX's own test suite, through `convcore.onnx.backend`."""

import runpy
from pathlib import Path

import numpy as np
import pytest

import convcore as cc

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")

from convcore.onnx import backend  # noqa: E402
from convcore.onnx.registry import OPSETS  # noqa: E402
from tests import onnx_suite  # noqa: E402
from tests.conftest import relative_error  # noqa: E402

# Of these every node test of the suite passes.
# fmt: off
COMPLETE = (
    "Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool",
    "GlobalMaxPool", "LpPool", "BatchNormalization", "InstanceNormalization",
    "GroupNormalization", "LayerNormalization", "LRN", "Relu", "LeakyRelu", "PRelu",
    "Elu", "Selu", "Sigmoid", "Tanh", "Softmax", "LogSoftmax", "Gemm", "MatMul",
    "Flatten", "Reshape", "Concat", "Clip", "Pad", "Transpose", "ReduceMean",
    "Resize", "Squeeze", "Unsqueeze", "Constant", "Shape", "Gather", "QLinearConv",
    "ConvInteger", "QuantizeLinear", "DequantizeLinear", "MatMulInteger",
    "QLinearMatMul", "DynamicQuantizeLinear",
)
# fmt: on


@pytest.fixture(scope="module")
def results():
    return onnx_suite.run()


@pytest.fixture(scope="module")
def tests_of():
    """Names of the suite's tests of a single node, by operator."""
    from onnx.backend.test.loader import load_model_tests

    names = {}
    for case in load_model_tests(kind="node"):
        if len(case.model.graph.node) == 1:
            names.setdefault(case.model.graph.node[0].op_type, []).append(case.name)
    return names


def test_counts(results, capsys):
    with capsys.disabled():
        print("\n" + onnx_suite.report(results))
    passed = {kind: list(tests.values()).count(None) for kind, tests in results.items()}
    assert passed["Node"] >= 1780
    assert passed["PyTorchConverted"] == len(results["PyTorchConverted"])
    assert passed["PyTorchOperator"] == len(results["PyTorchOperator"])
    assert passed["Real"] == len(results["Real"]) == 9


@pytest.mark.parametrize("operator", COMPLETE)
def test_operator_is_complete(operator, results, tests_of):
    reasons = {name: results["Node"][name] for name in tests_of[operator]}
    assert {name: reason for name, reason in reasons.items() if reason} == {}


def test_run_node(rng):
    x = rng.standard_normal((2, 3)).astype(np.float32)
    node = onnx.helper.make_node("Softmax", ["x"], ["y"], axis=1)
    (y,) = backend.run_node(node, [x])
    np.testing.assert_allclose(y.sum(1), 1, rtol=1e-6)
    (old,) = backend.run_node(
        onnx.helper.make_node("Softmax", ["x"], ["y"], axis=0), [x], opset_version=11
    )
    assert old.sum() == pytest.approx(1)


def test_run_model_by_names(rng):
    x = rng.standard_normal((2, 3)).astype(np.float32)
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Sub", ["a", "b"], ["c"])],
        "difference",
        [value("a", 1, [2, 3]), value("b", 1, [2, 3])],
        [value("c", 1, [2, 3])],
    )
    model = onnx.helper.make_model(graph)
    (y,) = backend.run_model(model, {"b": x, "a": 3 * x})
    np.testing.assert_allclose(y, 2 * x, rtol=1e-6)


def test_devices():
    assert backend.supports_device("CPU")
    assert not backend.supports_device("CUDA")


# What no network can have: results whose shape depends on data, second outputs that
# this package does not compute, statistics as outputs, loops of unknown length.
REFUSED = (
    "the shape of its result depends on the input's data",
    "cannot be an output",
    "only 1 outputs are supported",
    "the count must be constant",
    "in opset 8",
    "out has shape",  # the depth of OneHot as the only input
)


def test_node_tests_as_networks(capsys):
    """Traced and run in a plan, operators give what they give on arrays."""
    reasons = onnx_suite.run_networks()
    with capsys.disabled():
        print("\n" + onnx_suite.report({"Node tests as networks": reasons}))
    assert list(reasons.values()).count(None) >= 1190
    failed = {name: reason for name, reason in reasons.items() if reason}
    assert [r for r in failed.values() if not any(s in r for s in REFUSED)] == []


LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


@pytest.mark.slow
@pytest.mark.parametrize("file", sorted(LIGHT.glob("*.onnx")), ids=lambda f: f.stem)
def test_large_networks(file):
    """The suite's real networks as models, and frozen."""
    model = cc.onnx.load(file)
    expected = onnx.load_tensor(LIGHT / f"{file.stem}_output_0.pb")
    y = onnx.numpy_helper.to_array(expected)
    size = np.prod(model.input_shape)
    x = (np.arange(size) / size).astype(np.float32).reshape(1, *model.input_shape)
    assert relative_error(model.predict(x), y) <= 1e-5
    frozen = model.freeze()
    assert relative_error(frozen.predict(np.concatenate([x, x]))[1:], y) <= 1e-5


def test_list_of_operators_is_up_to_date():
    """docs/onnx-operators.md is what tools/onnx_operators.py writes."""
    root = Path(__file__).resolve().parents[1]
    tool, page = root / "tools/onnx_operators.py", root / "docs/onnx-operators.md"
    if not (tool.is_file() and page.is_file()):
        pytest.skip("tools/ and docs/ are not beside the tests")
    if onnx.defs.onnx_opset_version() != OPSETS[-1]:
        pytest.skip(f"the list is written with an onnx package of opset {OPSETS[-1]}")
    assert runpy.run_path(str(tool))["table"]() == page.read_text()
