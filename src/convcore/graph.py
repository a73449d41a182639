"""A network traced once: values, and the nodes that make them, shapes known."""

from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from . import functional as F
from .ops.base import OPERATORS, Spec, Traced
from .ops.slices import index

_FORMAT = 1
_DRAWN_AT_ONCE = 1 << 16  # random elements, each 8 bytes until it is rounded


class Tensor(Traced):
    """What a traced value and a parameter have in common: methods make nodes.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    ndim : int
    graph : Graph
    """

    def trace(self, operator, inputs, attrs):
        return self.graph.add(operator, inputs, attrs)

    @property
    def ndim(self):
        return len(self.shape)

    @property
    def position(self):
        return len(self.graph.nodes)

    @property
    def batched(self):
        return self.graph.batched

    def size(self, dim=None):
        """The shape, or its entry `dim`, as in torch."""
        return self.shape if dim is None else self.shape[dim]

    def __add__(self, other):
        return F.add(self, other)

    def __radd__(self, other):
        return F.add(other, self)

    def __sub__(self, other):
        return F.sub(self, other)

    def __rsub__(self, other):
        return F.sub(other, self)

    def __mul__(self, other):
        return F.mul(self, other)

    def __rmul__(self, other):
        return F.mul(other, self)

    def __truediv__(self, other):
        return F.div(self, other)

    def __rtruediv__(self, other):
        return F.div(other, self)

    def __neg__(self):
        return F.mul(self, -1.0)

    def __matmul__(self, other):
        return F.matmul(self, other)

    def __getitem__(self, key):
        """Parts by ints, slices, None and ..., as of a NumPy array."""
        return index(self, key)

    def relu(self):
        return F.relu(self)

    def sigmoid(self):
        return F.sigmoid(self)

    def tanh(self):
        return F.tanh(self)

    def softmax(self, dim):
        return F.softmax(self, dim)

    def mean(self, dim=None, keepdim=False):
        return F.mean(self, dim, keepdim)

    def sum(self, dim=None, keepdim=False):
        return F.sum(self, dim, keepdim)

    def amax(self, dim=None, keepdim=False):
        return F.amax(self, dim, keepdim)

    def permute(self, *dims):
        """Dimensions in another order, as ints or one tuple."""
        return F.permute(self, _as_one(dims))

    def transpose(self, dim0, dim1):
        return F.transpose(self, dim0, dim1)

    def squeeze(self, dim=None):
        return F.squeeze(self, dim)

    def unsqueeze(self, dim):
        return F.unsqueeze(self, dim)

    def split(self, split_size_or_sections, dim=0):
        return F.split(self, split_size_or_sections, dim)

    def chunk(self, chunks, dim=0):
        return F.chunk(self, chunks, dim)

    def flatten(self, start_dim=0, end_dim=-1):
        return F.flatten(self, start_dim, end_dim)

    def reshape(self, *shape):
        """Another shape, as ints or one tuple; the batch comes first."""
        return F.reshape(self, _as_one(shape))

    view = reshape

    def __bool__(self):
        raise TypeError(
            "a traced value has no truth: forward() is run once, with shapes only"
        )

    def __array__(self, *_args, **_kwargs):
        raise TypeError(
            "a traced value has no elements: forward() is run once, with shapes only"
        )

    __array_ufunc__ = __array__  # array + value too


def _as_one(ints):
    """Ints that were given one by one, or as one sequence."""
    return ints[0] if len(ints) == 1 and hasattr(ints[0], "__iter__") else ints


class Value(Tensor):
    """A tensor of a graph: an input, a parameter or the result of a node.

    Attributes
    ----------
    shape : tuple of int
        Logical: (N, C, space...).
    dtype : numpy.dtype
    name : str or None
        The path of the module that gives it, as in "features.0".
    node : Node or None
        Where it comes from; None for inputs and parameters.
    index : int
        Its place among the node's outputs.
    graph : Graph
    """

    def __init__(self, graph, spec, name=None, node=None, index=0):
        self.graph = graph
        self.shape = tuple(map(int, spec.shape))
        self.dtype = np.dtype(spec.dtype)
        self.name = name
        self.node = node
        self.index = index

    @property
    def spec(self):
        return Spec(self.shape, self.dtype)

    def __repr__(self):
        return f"<Value {self.name or '?'} {self.shape} {self.dtype}>"


class Node:
    """One application of an operator.

    Inputs and outputs that are left out are None.

    Attributes
    ----------
    source : Node or None
        The node of the forward pass whose gradient this one computes, or that it
        computes again.
    """

    def __init__(self, op, inputs, attrs):
        self.op = op
        self.inputs = tuple(inputs)
        self.attrs = attrs
        self.outputs = ()
        self.source = None

    def __repr__(self):
        return f"<Node {self.op.name} {self.attrs}>"


class State(Tensor):
    """A tensor of the `state_dict`.

    It holds no elements: they belong to the `Model`. During tracing it stands
    for a value of the graph.
    """

    def __init__(self, data):
        self.data = np.asarray(data)
        self.shape = self.data.shape

    def fill(self, tensor, seed):
        """Write the elements before training; seed is a numpy SeedSequence."""
        tensor[...] = self.data

    @property
    def source(self):
        """The value that this tensor is before a step, in the current trace."""
        value = _bound.get({}).get(id(self))
        if value is None:
            kind = type(self).__name__.lower()
            raise RuntimeError(
                f"a {kind} of shape {self.shape} is used outside of its network: "
                f"modules run inside a Model, whose {kind}s are attributes of "
                "its modules"
            )
        return value

    @property
    def value(self):
        """The value that this tensor stands for in the current trace."""
        return self.source

    @property
    def graph(self):
        return self.source.graph

    @property
    def dtype(self):
        return self.source.dtype


class Parameter(State):
    """A tensor that is learned.

    Parameters
    ----------
    data : array_like, optional
        Initial elements.
    shape, bound : optional
        Without `data`: draw the elements from the uniform distribution on
        (-bound, bound).

    Examples
    --------
    >>> from convcore import nn
    >>> nn.Parameter([1.0, 2.0]).shape
    (2,)
    """

    def __init__(self, data=None, *, shape=None, bound=None):
        super().__init__(np.broadcast_to(0.0, shape) if data is None else data)
        self.bound = bound

    def fill(self, tensor, seed):
        if self.bound is None:
            super().fill(tensor, seed)
            return
        # Of NumPy's generators the bits are the same in every version.
        generator, elements = np.random.PCG64(seed), tensor.reshape(-1)
        for first in range(0, elements.size, _DRAWN_AT_ONCE):
            part = elements[first : first + _DRAWN_AT_ONCE]
            bits = generator.random_raw(part.size)
            part[...] = self.bound * ((bits >> np.uint64(11)) * 2.0**-52 - 1)


class Buffer(State):
    """A tensor that is kept and saved with the parameters, but not learned.

    Integers stay int64; floats get the network's dtype.

    Parameters
    ----------
    data : array_like
        Initial elements.
    """

    @property
    def value(self):
        source = self.source
        return source.graph.updates.get(source, source)

    def assign(self, value):
        """Let the buffer be this value after a training step, and from here on
        in this trace."""
        self.graph.updates[self.source] = value


_bound = ContextVar("values that parameters stand for")


@contextmanager
def bind(values):
    """Let parameters and buffers stand for values: a dict by their id."""
    token = _bound.set(values)
    try:
        yield
    finally:
        _bound.reset(token)


class Graph:
    """Values and nodes in an order in which they can be computed.

    Attributes
    ----------
    batched : bool
        Whether first dimensions are the batch, of which a network knows no size.
    inputs : list of Value
    parameters : dict of str -> Value
        By `state_dict` key, buffers too; keys of one shared parameter have the
        same value.
    buffers : set of Value
        Those of the parameters that are not learned.
    updates : dict of Value -> Value
        What buffers are after a training step.
    nodes : list of Node
    outputs : dict of str -> Value
    auxiliary : dict of str -> float
        Outputs for training only, and what their loss counts.
    names : dict of str -> Value
        Inner values by the path of their module.
    """

    def __init__(self, batched=True):
        self.batched = batched
        self.inputs = []
        self.parameters = {}
        self.buffers = set()
        self.updates = {}
        self.auxiliary = {}
        self.nodes = []
        self.outputs = {}
        self.names = {}

    # ------------------------------------------------------------- building

    def input(self, shape, dtype, name):
        """Add an input and return its value."""
        self.inputs.append(Value(self, Spec(shape, dtype), name))
        return self.inputs[-1]

    def parameter(self, shape, dtype, key):
        """Add a parameter under a state_dict key and return its value."""
        self.parameters[key] = Value(self, Spec(shape, dtype), key)
        return self.parameters[key]

    def add(self, op, inputs, attrs):
        """Add a node: its value, or a tuple where the operator has several.

        Inputs are Values, Parameters, Buffers or None.
        """
        inputs = [x.value if isinstance(x, State) else x for x in inputs]
        for x in inputs:
            if x is not None and not isinstance(x, Value):
                raise TypeError(
                    f"{op.name} of a traced value needs traced values, "
                    f"got {type(x).__name__}"
                )
            if x is not None and x.graph is not self:
                raise ValueError(f"{op.name}: {x!r} belongs to another graph")
        node = Node(op, inputs, dict(attrs))
        specs = op.infer(*(x if x is None else x.spec for x in inputs), **attrs)
        single = isinstance(specs, Spec)
        node.outputs = tuple(
            spec and Value(self, spec, None, node, index)
            for index, spec in enumerate([specs] if single else specs)
        )
        self.nodes.append(node)
        return node.outputs[0] if single else node.outputs

    def name(self, value, name):
        """Name a value; a name taken already gets a number."""
        unique, count = name, 0
        while unique in self.names:
            count += 1
            unique = f"{name}_{count}"
        self.names[unique] = value
        if value.name is None:
            value.name = unique

    # -------------------------------------------------------------- reading

    @property
    def batch(self):
        """The first dimension of the first input."""
        return self.inputs[0].shape[0]

    def find(self, name):
        """An output, or an inner value, by name."""
        value = self.outputs.get(name, self.names.get(name))
        if value is None:
            known = ", ".join([*self.outputs, *self.names])
            raise ValueError(f"there is no value {name!r}; there are {known}")
        return value

    def users(self):
        """The nodes that read each value, in order: dict of Value -> list."""
        users = {}
        for node in self.nodes:
            for x in node.inputs:
                if x is not None:
                    users.setdefault(x, []).append(node)
        return users

    def with_batch(self, n):
        """The same network for another batch size, its shapes inferred anew."""
        graph, new = Graph(), {None: None}
        for x in self.inputs:
            new[x] = graph.input((n, *x.shape[1:]), x.dtype, x.name)
        for key, x in self.parameters.items():
            if x not in new:
                new[x] = Value(graph, x.spec, x.name)
            graph.parameters[key] = new[x]
        for node in self.nodes:
            added = graph.add(node.op, [new[x] for x in node.inputs], node.attrs)
            outputs = added if isinstance(added, tuple) else (added,)
            for x, y in zip(node.outputs, outputs, strict=True):
                if x is not None:
                    y.name, new[x] = x.name, y
        graph.buffers = {new[x] for x in self.buffers}
        graph.updates = {new[x]: new[y] for x, y in self.updates.items()}
        graph.outputs = {name: new[x] for name, x in self.outputs.items()}
        graph.auxiliary = dict(self.auxiliary)
        graph.names = {name: new[x] for name, x in self.names.items()}
        return graph

    def copy(self):
        return self.with_batch(self.batch)

    # ----------------------------------------------------------------- JSON

    def to_json(self):
        """The graph as JSON values (dict, list, str, numbers)."""
        values = [*self.inputs, *dict.fromkeys(self.parameters.values())]
        values += [y for node in self.nodes for y in node.outputs]
        number = {x: i for i, x in enumerate(values)} | {None: None}
        return {
            "format": _FORMAT,
            "inputs": [[x.name, list(x.shape), x.dtype.name] for x in self.inputs],
            "parameters": [
                [key, number[x], list(x.shape), x.dtype.name]
                for key, x in self.parameters.items()
            ],
            "nodes": [
                [node.op.name, [number[x] for x in node.inputs], node.attrs]
                for node in self.nodes
            ],
            "buffers": [key for key, x in self.parameters.items() if x in self.buffers],
            "updates": [[number[x], number[y]] for x, y in self.updates.items()],
            "outputs": {name: number[x] for name, x in self.outputs.items()},
            "auxiliary": self.auxiliary,
            "names": {name: number[x] for name, x in self.names.items()},
        }

    @classmethod
    def from_json(cls, data):
        """The inverse of `to_json`; ValueError when it is not such a graph."""
        if data.get("format") != _FORMAT:
            raise ValueError(
                f"graph format {data.get('format')!r} is unknown, expected {_FORMAT}"
            )
        graph, values, shared = cls(), [], {}
        for name, shape, dtype in data["inputs"]:
            values.append(graph.input(shape, dtype, name))
        for key, number, shape, dtype in data["parameters"]:
            if number in shared:
                graph.parameters[key] = shared[number]
            else:
                shared[number] = graph.parameter(shape, dtype, key)
                values.append(shared[number])
        for name, inputs, attrs in data["nodes"]:
            added = graph.add(
                _operator(name),
                [None if i is None else values[i] for i in inputs],
                {key: _tuples(value) for key, value in attrs.items()},
            )
            values += added if isinstance(added, tuple) else (added,)
        graph.buffers = {graph.parameters[key] for key in data["buffers"]}
        graph.updates = {values[x]: values[y] for x, y in data["updates"]}
        graph.outputs = {name: values[i] for name, i in data["outputs"].items()}
        graph.auxiliary = data["auxiliary"]
        for name, i in data["names"].items():
            graph.name(values[i], name)
        return graph


def _operator(name):
    """An operator by name; that of ONNX nodes is loaded on first use."""
    if name == "onnx":
        from .onnx.generic import ONNX_NODE

        return ONNX_NODE
    if name not in OPERATORS:
        raise ValueError(f"the graph has an unknown operator {name!r}")
    return OPERATORS[name]


def _tuples(value):
    """JSON lists as the tuples that they were."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
