"""Tracing: a module run once on values, which gives its graph."""

from contextlib import contextmanager
from contextvars import ContextVar

from ..graph import Buffer, Graph, Value, bind
from ..ops.base import INT64

_paths = ContextVar("paths of modules")
_path = ContextVar("path of the module being traced", default="")


_training = ContextVar("whether a network is traced for training", default=False)


def is_training():
    """Whether a network is being traced for training."""
    return _training.get()


def trace(module, inputs, training=False):
    """Trace a module once, for a batch of one sample.

    Parameters
    ----------
    module : Module
    inputs : list of (str, tuple of int, dtype)
        Name, shape of one sample and dtype of each input.
    training : bool
        What `Module.training` is.

    Returns
    -------
    (graph, state) : Graph and dict of state_dict key -> Parameter or Buffer
        The graph's parameters have the dtype of the first input.

    Raises
    ------
    ValueError
        When shapes do not fit, for one sample or for several.
    """
    graph, values, state = Graph(), {}, dict(module.named_state())
    for key, tensor in state.items():
        if id(tensor) in values:
            graph.parameters[key] = values[id(tensor)]
            continue
        is_integer = isinstance(tensor, Buffer) and tensor.data.dtype.kind in "iu"
        dtype = INT64 if is_integer else inputs[0][2]
        values[id(tensor)] = value = graph.parameter(tensor.shape, dtype, key)
        if isinstance(tensor, Buffer):
            graph.buffers.add(value)
    arguments = [graph.input((1, *shape), dtype, name) for name, shape, dtype in inputs]
    paths = {id(part): path for path, part in reversed([*module.named_modules()])}
    tokens = _paths.set(paths), _training.set(training)
    try:
        with bind(values):
            result = module(*arguments)
    finally:
        _paths.reset(tokens[0])
        _training.reset(tokens[1])
    if isinstance(result, Auxiliary):
        outputs = [(f"auxiliary.{i}", x) for i, x in enumerate(result.others)]
        graph.outputs = _outputs(result.output) | dict(outputs)
        graph.auxiliary = {name: result.weight for name, _ in outputs}
    else:
        graph.outputs = _outputs(result)
    _check_any_batch(graph)
    return graph, state


def _check_any_batch(graph):
    """Raise where shapes fit for one sample only: a parameter may be added to it."""
    try:
        graph.with_batch(2)
    except ValueError as error:
        raise ValueError(f"forward() works for a single sample only: {error}") from None


def _outputs(result):
    """Outputs by name: "output", or "output.0", ... for a tuple."""
    results = result if isinstance(result, tuple) else (result,)
    for value in results:
        if not isinstance(value, Value):
            raise TypeError(
                "forward() must return a traced value or a tuple of them, "
                f"not {type(value).__name__}"
            )
    if not isinstance(result, tuple):
        return {"output": result}
    return {f"output.{i}": value for i, value in enumerate(results)}


class Auxiliary:
    """What forward() returns for an output with auxiliary ones.

    Those serve training only: to the loss of the output, that of each of them
    is added, multiplied by a weight (Szegedy et al., CVPR 2015).

    Parameters
    ----------
    output : Value
    others : sequence of Value
        The auxiliary outputs.
    weight : float
    """

    def __init__(self, output, others, weight):
        self.output = output
        self.others = others
        self.weight = float(weight)


@contextmanager
def scope(module, graph):
    """Name what is traced inside: the module's result after its path, the
    results of functions called by it after path and operator."""
    path = _paths.get({}).get(id(module), _path.get())
    first, token = len(graph.nodes), _path.set(path)

    def name_result(result):
        if path and isinstance(result, Value):
            graph.name(result, path)
        for node in graph.nodes[first:]:
            for value in node.outputs:
                if value is not None and value.name is None:
                    graph.name(value, join(path, node.op.name))
        return result

    try:
        yield name_result
    finally:
        _path.reset(token)


def join(prefix, name):
    """The path of what has this name in the module at `prefix`."""
    return f"{prefix}.{name}" if prefix else name
