"""Tracing: a module run once on values, which gives its graph."""

from contextlib import contextmanager
from contextvars import ContextVar

from ..graph import Graph, Value, bind

_paths = ContextVar("paths of modules")
_path = ContextVar("path of the module being traced", default="")


def trace(module, inputs):
    """Trace a module once, for a batch of one sample.

    Parameters
    ----------
    module : Module
    inputs : list of (str, tuple of int, dtype)
        Name, shape of one sample and dtype of each input.

    Returns
    -------
    (graph, parameters) : Graph and dict of state_dict key -> Parameter
        The graph's parameters have the dtype of the first input.

    Raises
    ------
    ValueError
        When shapes do not fit, for one sample or for several.
    """
    graph, values, parameters = Graph(), {}, dict(module.named_parameters())
    for key, parameter in parameters.items():
        if id(parameter) in values:
            graph.parameters[key] = values[id(parameter)]
        else:
            value = graph.parameter(parameter.shape, inputs[0][2], key)
            values[id(parameter)] = value
    arguments = [graph.input((1, *shape), dtype, name) for name, shape, dtype in inputs]
    paths = {id(part): path for path, part in reversed([*module.named_modules()])}
    token = _paths.set(paths)
    try:
        with bind(values):
            result = module(*arguments)
    finally:
        _paths.reset(token)
    graph.outputs = _outputs(result)
    _check_any_batch(graph)
    return graph, parameters


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
