"""Programs: the nodes of an ONNX graph, and how they are run one by one."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnx.inliner
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from . import operators  # noqa: F401 (enters them in the table)
from .registry import OPSETS, TABLE, UnsupportedError


class Node(NamedTuple):
    """A node of a graph; names are empty where something is left out."""

    name: str
    operator: str
    opset: int
    inputs: tuple
    outputs: tuple
    attributes: dict

    def __str__(self):
        name = self.name or next(iter(self.outputs), "")
        return f"node {name!r} ({self.operator})"


class Program:
    """A graph: its nodes in the order of the file, and its tensors as arrays.

    Parameters
    ----------
    graph : onnx.GraphProto
    opsets : dict of str -> int
        Version of the operator set, by domain.
    folder : Path or None
        From which external data may be read.

    Attributes
    ----------
    inputs : list of onnx.ValueInfoProto
        Those that no initialiser gives.
    arrays : dict of str -> ndarray
        The initialisers.
    outputs : list of str
    """

    def __init__(self, graph, opsets, folder):
        self._opsets, self._folder = opsets, folder
        self.arrays = {x.name: self._array(x) for x in graph.initializer}
        for x in graph.sparse_initializer:
            self.arrays[x.values.name] = self._dense(x)
        self.inputs = [x for x in graph.input if x.name not in self.arrays]
        self.outputs = [x.name for x in graph.output]
        self._nodes = [self._node(node) for node in graph.node]
        self._check_names()
        self.reads = {*self.outputs}.union(*map(_reads, self._nodes))

    def _check_names(self):
        """Raise where a name is given twice."""
        taken = {x.name for x in self.inputs} | self.arrays.keys()
        for node in self._nodes:
            for name in filter(None, node.outputs):
                if name in taken:
                    raise ValueError(f"{node} gives {name!r}, which there is already")
                taken.add(name)

    def _node(self, proto):
        operator = operator_name(proto)
        opset = self._opsets.get(operator.rpartition(".")[0], 1)
        node = Node(
            proto.name,
            operator,
            opset,
            tuple(proto.input),
            tuple(proto.output),
            {a.name: self._attribute(a) for a in proto.attribute},
        )
        if operator not in TABLE:
            raise UnsupportedError(
                f"{node} of opset {opset} is not supported; "
                f"supported are {', '.join(sorted(TABLE))}"
            )
        return node

    def _attribute(self, proto):
        value = helper.get_attribute_value(proto)
        if proto.type == AttributeProto.GRAPH:
            return Program(value, self._opsets, self._folder)
        if proto.type == AttributeProto.TENSOR:
            return self._array(value)
        if proto.type == AttributeProto.SPARSE_TENSOR:
            return self._dense(value)
        if proto.type == AttributeProto.STRING:
            return value.decode()
        if proto.type == AttributeProto.STRINGS:
            return tuple(text.decode() for text in value)
        if proto.type in (AttributeProto.INTS, AttributeProto.FLOATS):
            return tuple(value)
        return value

    def _array(self, tensor):
        """The elements of a tensor; those elsewhere lie in the model's folder."""
        if tensor.data_location == TensorProto.EXTERNAL:
            tensor = _with_data(tensor, self._folder)
        return numpy_helper.to_array(tensor)

    def _dense(self, sparse):
        array = np.zeros(tuple(sparse.dims), self._array(sparse.values).dtype)
        indices = self._array(sparse.indices)
        values = self._array(sparse.values)
        if indices.ndim == 1:
            array.reshape(-1)[indices] = values
        else:
            array[tuple(indices.T)] = values
        return array

    def run(self, inputs, runner, outer=None):
        """The outputs: list of values.

        Parameters
        ----------
        inputs : dict of str -> value
        runner : object
            With ``call(node, inputs, run, context)``, the results of a node, and
            ``give(name, value)``, the value that gets a name.
        outer : dict of str -> value, optional
            What a subgraph may read of the graphs around it.
        """
        values = {**(outer or {}), "": None}
        for name, value in [*self.arrays.items(), *inputs.items()]:
            values[name] = runner.give(name, value)

        def run(program, *arguments):
            named = zip((x.name for x in program.inputs), arguments, strict=True)
            return program.run(dict(named), runner, values)

        for node in self._nodes:
            missing = [name for name in node.inputs if name not in values]
            if missing:
                raise ValueError(f"{node} reads {missing[0]!r}, which nothing gives")
            arguments = [values[name] for name in node.inputs]
            while arguments and arguments[-1] is None:
                arguments.pop()
            wanted = [i for i, name in enumerate(node.outputs, 1) if name in self.reads]
            context = {
                "opset": node.opset,
                "declared": len(node.outputs),
                "wanted": max(wanted, default=1),
            }
            results = _explained(node, runner.call, arguments, run, context)
            if len(results) < context["wanted"]:
                raise ValueError(f"{node}: only {len(results)} outputs are supported")
            for name, value in zip(node.outputs, results, strict=False):
                if name:
                    values[name] = runner.give(name, value)
        missing = [name for name in self.outputs if name not in values]
        if missing:
            raise ValueError(f"nothing gives the output {missing[0]!r}")
        return [values[name] for name in self.outputs]


def _reads(node):
    """The names that a node or its subgraphs read."""
    parts = [x.reads for x in node.attributes.values() if isinstance(x, Program)]
    return {*node.inputs}.union(*parts)


def _explained(node, call, *arguments):
    """The results of a node; errors name it."""
    try:
        return call(node, *arguments)
    except UnsupportedError:
        raise
    except (ValueError, TypeError, IndexError, KeyError, OverflowError) as error:
        text = str(error)
        if text.startswith("node "):  # one of a subgraph
            raise
        raise ValueError(f"{node}: {text}") from error


class Eager:
    """Runs nodes on arrays."""

    def call(self, node, inputs, run, context):
        entry = TABLE[node.operator]
        with np.errstate(all="ignore"):
            return entry.call(inputs, node.attributes, run=run, **context)

    def give(self, name, value):
        return value


def read(path):
    """The program of a file.

    Raises
    ------
    ValueError
        When it is no ONNX model.
    UnsupportedError
        When there is an operator that this package has not.
    """
    path = Path(path)
    try:
        model = onnx.load(path, load_external_data=False)
    except OSError:
        raise
    except Exception as error:  # protobuf has several
        raise ValueError(f"{path} is not an ONNX model: {error}") from None
    if not model.graph.output:
        raise ValueError(f"{path} is not an ONNX model: it has no outputs")
    try:
        return program(model, path.parent)
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"{path} is malformed: {error!r}") from error


def program(model, folder=None):
    """The program of a model in memory; external data is read from the folder."""
    opsets = {
        "" if x.domain == "ai.onnx" else x.domain: x.version for x in model.opset_import
    }
    if not opsets:
        raise ValueError("the model names no operator set")
    version = opsets.get("", OPSETS[-1])
    if version not in OPSETS:
        raise UnsupportedError(
            f"the model is of opset {version}; known are {OPSETS[0]} to {OPSETS[-1]}"
        )
    return Program(_inlined(model).graph, opsets, folder)


def _inlined(model):
    """The model without functions: its own, and operators composed of others."""
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    while composed := {
        (node.domain, node.op_type)
        for node in model.graph.node
        if _is_composed(node, model)
    }:
        try:
            model = onnx.inliner.inline_selected_functions(
                model, sorted(composed), inline_schema_functions=True
            )
        except (RuntimeError, TypeError):  # types it does not find, an older onnx
            break
    return model


def _is_composed(node, model):
    """Whether an operator that is not in the table has a definition by others."""
    if operator_name(node) in TABLE:
        return False
    versions = {x.domain: x.version for x in model.opset_import}
    return has_definition(node.op_type, node.domain, versions.get(node.domain, 1))


def has_definition(name, domain, version):
    """Whether the standard defines an operator by others."""
    try:
        schema = onnx.defs.get_schema(name, version, domain)
    except onnx.defs.SchemaError:
        return False
    return schema.has_function or schema.has_context_dependent_function


def operator_name(node):
    """The name of a node's operator in the table."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    return f"{domain}.{node.op_type}" if domain else node.op_type


def _with_data(tensor, folder):
    """The tensor with its external data, which must lie in the folder."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if folder is None:
        raise ValueError(f"tensor {tensor.name!r} is in a file: give the model's path")
    root = Path(folder).resolve()
    path = (root / location).resolve()
    if not location or not path.is_relative_to(root) or not path.is_file():
        raise ValueError(
            f"tensor {tensor.name!r} has its data in {location!r}, which is no file "
            "in the model's folder"
        )
    offset, length = int(entries.get("offset", 0)), entries.get("length")
    with open(path, "rb") as file:
        file.seek(offset)
        data = file.read() if length is None else file.read(int(length))
    copy = TensorProto()
    copy.CopyFrom(tensor)
    copy.data_location = TensorProto.DEFAULT
    copy.raw_data = data
    return copy


def dtype_of(info):
    """The dtype of an input."""
    number = info.type.tensor_type.elem_type
    try:
        return helper.tensor_dtype_to_np_dtype(number)
    except KeyError:
        raise ValueError(f"input {info.name!r} has dtype number {number}") from None


def shape_of(info):
    """The shape of an input, None where it is open, or as a whole."""
    if not info.type.tensor_type.HasField("shape"):
        return None
    return tuple(
        d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None
        for d in info.type.tensor_type.shape.dim
    )
