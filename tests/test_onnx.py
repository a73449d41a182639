"""Models from ONNX files: what is read, folded, refused, and how it goes on."""

import numpy as np
import pytest

import convcore as cc
from tests.conftest import relative_error, run_python

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402


def node(kind, inputs, output, **attributes):
    return helper.make_node(kind, inputs.split(), output.split(), **attributes)


def write(path, nodes, shape, arrays=(), *, opset=13, kind=TensorProto.FLOAT):
    """A file of nodes from x to y; `arrays` are the initialisers by name."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(name, kind, None) for name in "y"],
        [numpy_helper.from_array(a, name) for name, a in dict(arrays).items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    path = path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def loaded(*arguments, **options):
    return cc.onnx.load(write(*arguments, **options))


def operators(model):
    return [node.op.name for node in model.engine.graph.nodes]


def normal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


# ---------------------------------------------------------------------- parameters


def test_initialisers_are_parameters_by_name(tmp_path, rng):
    arrays = {"body.weight": normal(rng, 4, 3, 3, 3), "head": normal(rng, 4, 2)}
    nodes = [
        node("Conv", "x body.weight", "a", pads=[1, 1, 1, 1]),
        node("GlobalAveragePool", "a", "b"),
        node("Flatten", "b", "c"),
        node("Gemm", "c head", "y"),
    ]
    model = loaded(tmp_path, nodes, ["N", 3, 5, 5], arrays)
    state = model.state_dict()
    assert list(state) == ["body.weight", "head"]
    for key, array in arrays.items():
        np.testing.assert_array_equal(state[key], array)
    assert model.input_shape == (3, 5, 5)
    assert list(model.engine.graph.outputs) == ["y"]
    x = normal(rng, 3, 3, 5, 5)
    (features,) = [model.predict(x, "a")]
    expected = features.mean((2, 3)) @ arrays["head"]
    assert relative_error(model.predict(x), expected) < 1e-6
    assert relative_error(model.freeze().predict(x), expected) < 1e-6


def test_what_weights_become_is_frozen(tmp_path, rng):
    """A weight that is reshaped and transposed learns, and is folded when frozen."""
    arrays = {"w": normal(rng, 2, 3, 4), "shape": np.array([6, 4])}
    nodes = [node("Reshape", "w shape", "matrix"), node("MatMul", "x matrix", "y")]
    model = loaded(tmp_path, nodes, ["N", 6], arrays)
    assert model.engine.trainable == {"w"}
    x = normal(rng, 5, 6)
    expected = x @ arrays["w"].reshape(6, 4)
    assert relative_error(model.predict(x), expected) < 1e-6
    frozen = model.freeze()
    assert operators(frozen) == ["linear"]
    assert relative_error(frozen.predict(x), expected) < 1e-6


def test_constants_are_buffers(tmp_path, rng):
    value = numpy_helper.from_array(normal(rng, 1, 3, 1, 1))
    nodes = [node("Constant", "", "shift", value=value), node("Add", "x shift", "y")]
    model = loaded(tmp_path, nodes, ["N", 3, 2, 2])
    assert model.engine.buffers == {"shift"}
    assert not model.engine.trainable


def test_a_network_learns(tmp_path, rng):
    """Batch norm uses the batch in training, and its statistics move."""
    arrays = {
        "w": normal(rng, 16, 1, 3, 3),
        "scale": np.ones(16, np.float32),
        "bias": np.zeros(16, np.float32),
        "mean": np.zeros(16, np.float32),
        "var": np.ones(16, np.float32),
        "fc": normal(rng, 16, 4),
    }
    nodes = [
        node("Conv", "x w", "a"),
        node("BatchNormalization", "a scale bias mean var", "b", momentum=0.5),
        node("Relu", "b", "c"),
        node("ReduceMean", "c", "d", axes=[2, 3], keepdims=0),
        node("Dropout", "d", "e"),
        node("MatMul", "e fc", "y"),
    ]
    model = loaded(tmp_path, nodes, ["N", 1, 6, 6], arrays, opset=11)
    assert model.engine.buffers == {"mean", "var"}
    x, y = normal(rng, 16, 1, 6, 6), rng.integers(0, 4, 16)
    optimizer = cc.optim.Adam(lr=0.05)
    losses = [model.train_step(x, y, optimizer=optimizer) for _ in range(40)]
    assert losses[-1] < losses[0] / 2
    state = model.state_dict()
    batch = cc.conv2d(x, state["w"])
    assert relative_error(state["mean"], batch.mean((0, 2, 3))) < 0.2
    assert relative_error(state["var"], batch.var((0, 2, 3))) < 0.2


def test_saved_without_onnx(tmp_path, rng):
    """A file of our own needs the onnx package no more."""
    nodes = [node("Abs", "x", "a"), node("Ceil", "a", "b"), node("CumSum", "b i", "y")]
    model = loaded(tmp_path, nodes, ["N", 3], {"i": np.array(1)})
    assert operators(model) == ["absolute", "onnx", "onnx"]
    x = normal(rng, 2, 3)
    np.save(tmp_path / "x.npy", x)
    model.save(tmp_path / "model.safetensors")
    result = run_python(
        "-c",
        "import sys; sys.modules['onnx'] = None\n"
        "import numpy as np, convcore as cc\n"
        "model = cc.Model.load(sys.argv[1])\n"
        "print(model.predict(np.load(sys.argv[2])).tolist())",
        str(tmp_path / "model.safetensors"),
        str(tmp_path / "x.npy"),
    )
    assert result.stdout.strip() == str(np.ceil(np.abs(x)).cumsum(1).tolist())


# ------------------------------------------------------------------------- folding


def test_shape_arithmetic_is_folded(tmp_path, rng):
    """x.reshape(x.shape[0], -1), as exporters write it."""
    nodes = [
        node("Shape", "x", "shape"),
        node("Gather", "shape first", "n", axis=0),
        node("Unsqueeze", "n axes", "n1"),
        node("Concat", "n1 rest", "target", axis=0),
        node("Reshape", "x target", "y"),
    ]
    arrays = {"first": np.array(0), "axes": np.array([0]), "rest": np.array([-1])}
    model = loaded(tmp_path, nodes, ["N", 3, 4, 5], arrays)
    assert operators(model) == ["reshape"]
    x = normal(rng, 7, 3, 4, 5)
    np.testing.assert_array_equal(model.predict(x), x.reshape(7, 60))


def test_size_of_resize_is_folded(tmp_path, rng):
    """Twice the height and width, computed from the shape."""
    nodes = [
        node("Shape", "x", "shape"),
        node("Slice", "shape two four zero", "space"),
        node("Cast", "space", "real", to=TensorProto.FLOAT),
        node("Mul", "real factor", "larger"),
        node("Floor", "larger", "whole"),
        node("Cast", "whole", "size", to=TensorProto.INT64),
        node("Slice", "shape zero two zero", "first"),
        node("Concat", "first size", "sizes", axis=0),
        helper.make_node(
            "Resize",
            ["x", "", "", "sizes"],
            ["y"],
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
    ]
    arrays = {
        "zero": np.array([0]),
        "two": np.array([2]),
        "four": np.array([4]),
        "factor": np.array(2, np.float32),
    }
    model = loaded(tmp_path, nodes, ["N", 1, 2, 3], arrays)
    assert operators(model) == ["interpolate"]
    assert model.state_dict() == {}
    x = normal(rng, 3, 1, 2, 3)
    expected = x.repeat(2, 2).repeat(2, 3)
    np.testing.assert_array_equal(model.predict(x), expected)


def test_if_is_folded(tmp_path, rng):
    value = helper.make_tensor_value_info("z", TensorProto.FLOAT, None)
    branches = {
        f"{name}_branch": helper.make_graph([node(kind, "x", "z")], name, [], [value])
        for name, kind in (("then", "Relu"), ("else", "Tanh"))
    }
    nodes = [
        node("Shape", "x", "shape"),
        node("Gather", "shape place", "size", axis=0),
        node("Equal", "size three", "is"),
        node("If", "is", "y", **branches),
    ]
    arrays = {"place": np.array(1), "three": np.array(3)}
    assert operators(loaded(tmp_path, nodes, ["N", 3], arrays)) == ["relu"]
    assert operators(loaded(tmp_path, nodes, ["N", 4], arrays)) == ["tanh"]


def test_response_norm_of_pads_and_pools(tmp_path, rng):
    """What exporters make of torch's local_response_norm."""
    nodes = [
        node("Mul", "x x", "square"),
        node("Unsqueeze", "square one", "planes"),
        node("Pad", "planes pads zero", "padded"),
        node(
            "AveragePool", "padded", "mean", kernel_shape=[5, 1, 1], strides=[1, 1, 1]
        ),
        node("Squeeze", "mean one", "window"),
        node("Mul", "window alpha", "scaled"),
        node("Add", "scaled k", "sum"),
        node("Pow", "sum beta", "power"),
        node("Div", "x power", "y"),
    ]
    arrays = {
        "one": np.array([1]),
        "pads": np.array([0, 0, 2, 0, 0, 0, 0, 2, 0, 0]),
        "zero": np.array(0, np.float32),
        "alpha": np.array(1e-2, np.float32),
        "k": np.array(2, np.float32),
        "beta": np.array(0.75, np.float32),
    }
    model = loaded(tmp_path, nodes, ["N", 8, 3, 3], arrays)
    x = normal(rng, 2, 8, 3, 3)
    expected = cc.local_response_norm(x, 5, 1e-2, 0.75, 2.0)
    assert relative_error(model.predict(x), expected) < 1e-6


# --------------------------------------------------------------------------- batch


def test_a_file_for_one_sample_serves_many(tmp_path, rng):
    nodes = [node("Relu", "x", "a"), node("Reshape", "a shape", "y")]
    model = loaded(tmp_path, nodes, [1, 2, 3], {"shape": np.array([1, 6])})
    x = normal(rng, 5, 2, 3)
    np.testing.assert_array_equal(model.predict(x), np.maximum(x, 0).reshape(5, 6))


def test_samples_that_are_not_apart_are_refused(tmp_path):
    nodes = [
        node("Reshape", "x flat", "a"),
        node("Softmax", "a", "b", axis=0),
        node("Reshape", "b row", "y"),
    ]
    arrays = {"flat": np.array([4]), "row": np.array([1, 4])}
    with pytest.raises(ValueError, match="change each other's results"):
        loaded(tmp_path, nodes, [1, 4], arrays)


def test_arithmetic_with_the_batch_is_refused(tmp_path):
    nodes = [
        node("Shape", "x", "shape"),
        node("Gather", "shape first", "n"),
        node("Cast", "n", "real", to=TensorProto.FLOAT),
        node("Div", "x real", "y"),
    ]
    with pytest.raises(ValueError, match="differently for one sample and several"):
        loaded(tmp_path, nodes, ["N", 4], {"first": np.array(0)})


def test_sum_over_the_batch_is_refused(tmp_path):
    nodes = [node("ReduceSum", "x axes", "y", keepdims=1)]
    with pytest.raises(ValueError, match="is not the batch"):
        loaded(tmp_path, nodes, ["N", 4], {"axes": np.array([0])})


def test_open_shapes_are_given(tmp_path, rng):
    path = write(tmp_path, [node("Relu", "x", "y")], ["N", 3, "H", "W"])
    with pytest.raises(ValueError, match="give the shape of a sample"):
        cc.onnx.load(path)
    assert cc.onnx.load(path, input_shape=(3, 8, 9)).input_shape == (3, 8, 9)


# ------------------------------------------------------------------------- windows


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("kind", ["Conv", "MaxPool"])
def test_auto_pad(kind, auto_pad, tmp_path, rng):
    w, x = normal(rng, 2, 2, 4, 3), normal(rng, 2, 2, 7, 8)
    window = {"auto_pad": auto_pad, "strides": [2, 3], "kernel_shape": [4, 3]}
    inputs = "x w" if kind == "Conv" else "x"
    arrays = {"w": w} if kind == "Conv" else {}
    nodes = [node(kind, inputs, "y", **window)]
    model = loaded(tmp_path, nodes, ["N", *x.shape[1:]], arrays)
    # 7 rows give 4, 8 columns 3: 3 and 1 are missing.
    pads = {"SAME_UPPER": [(1, 2), (0, 1)], "SAME_LOWER": [(2, 1), (1, 0)]}
    padding = pads.get(auto_pad, [(0, 0), (0, 0)])
    if kind == "Conv":
        expected = cc.conv2d(x, w, None, (2, 3), padding)
    else:
        expected = cc.max_pool2d(x, (4, 3), (2, 3), padding)
    assert relative_error(model.predict(x), expected) < 1e-6


# ------------------------------------------------------------------- what is refused


def test_unsupported_operator_is_named(tmp_path):
    nodes = [helper.make_node("StringNormalizer", ["x"], ["y"], name="upper")]
    path = write(tmp_path, nodes, ["N", 3])
    with pytest.raises(ValueError, match=r"'upper' \(StringNormalizer\)") as error:
        cc.onnx.load(path)
    assert "AveragePool, BatchNormalization" in str(error.value)


def test_errors_name_the_node(tmp_path, rng):
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], name="first")]
    with pytest.raises(ValueError, match=r"node 'first' \(Conv\): .* channels"):
        loaded(tmp_path, nodes, ["N", 4, 8, 8], {"w": normal(rng, 4, 3, 3, 3)})


def test_shapes_that_depend_on_data_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\(NonZero\): the shape of its result"):
        loaded(tmp_path, [node("NonZero", "x", "y")], ["N", 3])


def test_newer_opsets_are_refused(tmp_path):
    with pytest.raises(ValueError, match="opset 99"):
        loaded(tmp_path, [node("Relu", "x", "y")], ["N", 3], opset=99)


@pytest.mark.parametrize("content", [b"", b"no protobuf", b"\x08\x07" * 50])
def test_other_files_are_refused(content, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.onnx"):
        cc.onnx.load(path)


def test_cut_files_are_refused(tmp_path, rng):
    """Whatever is missing at the end: a ValueError, or nothing that matters."""
    arrays = {"w": normal(rng, 2, 2, 3, 3)}
    path = write(tmp_path, [node("Conv", "x w", "y")], ["N", 2, 5, 5], arrays)
    whole = path.read_bytes()
    for length in range(1, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError):
            cc.onnx.load(path)


# ------------------------------------------------------------------- external data


def write_external(folder, location, rng):
    w = normal(rng, 2, 3, 1, 1)
    tensor = TensorProto(
        name="w",
        data_type=TensorProto.FLOAT,
        dims=w.shape,
        data_location=TensorProto.EXTERNAL,
    )
    tensor.external_data.add(key="location", value=str(location))
    path = write(folder, [node("Conv", "x w", "y")], ["N", 3, 4, 4], {"w": w})
    model = onnx.load(path)
    model.graph.initializer[0].CopyFrom(tensor)
    path.write_bytes(model.SerializeToString())
    return path, w


def test_external_data(tmp_path, rng):
    path, w = write_external(tmp_path, "weights.bin", rng)
    (tmp_path / "weights.bin").write_bytes(w.tobytes())
    np.testing.assert_array_equal(cc.onnx.load(path).state_dict()["w"], w)


@pytest.mark.parametrize("how", ["parent", "absolute", "link", "absent", "short"])
def test_external_data_stays_in_the_folder(how, tmp_path, rng):
    folder, outside = tmp_path / "model", tmp_path / "secret.bin"
    folder.mkdir()
    location = {"parent": "../secret.bin", "absolute": outside}.get(how, "weights.bin")
    path, w = write_external(folder, location, rng)
    outside.write_bytes(w.tobytes())
    if how == "link":
        (folder / "weights.bin").symlink_to(outside)
    if how == "short":
        (folder / "weights.bin").write_bytes(w.tobytes()[:-1])
    with pytest.raises(ValueError):
        cc.onnx.load(path)


# ---------------------------------------------------------------------------- types


def test_float64(tmp_path, rng):
    w, x = rng.standard_normal((2, 3, 3, 3)), rng.standard_normal((2, 3, 5, 5))
    nodes = [node("Conv", "x w", "a"), node("Sigmoid", "a", "y")]
    shape = ["N", *x.shape[1:]]
    model = loaded(tmp_path, nodes, shape, {"w": w}, kind=TensorProto.DOUBLE)
    assert relative_error(model.predict(x), cc.sigmoid(cc.conv2d(x, w))) < 1e-14


def test_quantised_layers(tmp_path, rng):
    """Weights of 8 bits between layers of floats run, as steps of NumPy's."""
    w = rng.integers(-127, 128, (2, 3, 3, 3), np.int8)
    arrays = {"w": w, "scale": np.array(0.02, np.float32), "zero": np.array(0, np.int8)}
    nodes = [
        node("QuantizeLinear", "x scale zero", "q"),
        node("DequantizeLinear", "q scale zero", "d"),
        node("DequantizeLinear", "w scale zero", "weight"),
        node("Conv", "d weight", "y"),
    ]
    model = loaded(tmp_path, nodes, ["N", 3, 5, 5], arrays)
    x = normal(rng, 2, 3, 5, 5)
    rounded = np.clip(np.rint(x / np.float32(0.02)), -128, 127) * np.float32(0.02)
    expected = cc.conv2d(rounded, w * np.float32(0.02))
    assert relative_error(model.predict(x), expected) < 1e-6


def test_maximum_learns(tmp_path, rng):
    """The larger of two elements: exact, and the gradient goes to it."""
    w = normal(rng, 4)
    nodes = [node("Max", "x w", "a"), node("Min", "a high", "y")]
    arrays = {"w": w, "high": np.float32([0.5])}
    model = loaded(tmp_path, nodes, ["N", 4], arrays)
    x = 1e8 * normal(rng, 3, 4)
    expected = np.minimum(np.maximum(x, w), np.float32(0.5))
    np.testing.assert_array_equal(model.predict(x), expected)
    y = np.zeros((3, 4), np.float32)
    _, gradients, dx = model.gradients(x, y, loss=lambda a, b: (a - b).sum())
    inside = np.maximum(x, w) < 0.5
    np.testing.assert_array_equal(gradients["w"], (inside & (x < w)).sum(0))
    np.testing.assert_array_equal(dx, inside & (x > w))


@pytest.mark.parametrize(
    ("opset", "nodes", "arrays"),
    [
        (13, [node("ArgMax", "x", "y", axis=1)], {}),
        (11, [node("ReduceProd", "x", "y", axes=[1])], {}),
        (13, [node("TopK", "x k", "y places", axis=1)], {"k": np.array([2])}),
        (13, [node("Mod", "x m", "y", fmod=1)], {"m": np.float32([[1, 2, 3, 4]])}),
        (13, [node("Max", "x m", "y")], {"m": np.float32([1, 2, 3, 4])}),
        (13, [node("Gather", "x i", "y", axis=1)], {"i": np.array([3, 0, 1])}),
    ],
    ids=lambda value: value[0].op_type if isinstance(value, list) else "",
)
def test_export_of_any_operator(opset, nodes, arrays, tmp_path, rng):
    """What is not an operator of this package is written as it was read."""
    model = loaded(tmp_path, nodes, ["N", 4], arrays, opset=opset)
    model.export_onnx(tmp_path / "again.onnx")
    onnx.checker.check_model(str(tmp_path / "again.onnx"), full_check=True)
    again = cc.onnx.load(tmp_path / "again.onnx")
    assert operators(again) == operators(model)
    x = normal(rng, 3, 4)
    np.testing.assert_array_equal(again.predict(x), model.predict(x))


def test_export_of_another_meaning_is_refused(tmp_path):
    model = loaded(tmp_path, [node("Hardmax", "x", "y")], ["N", 4], opset=11)
    with pytest.raises(ValueError, match="Hardmax of opset 11 has another meaning"):
        model.export_onnx(tmp_path / "again.onnx")
