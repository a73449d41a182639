"""Folding: what is known before a network runs is computed before.

Normalisation with known statistics becomes part of the layer before it, and what
is computed of parameters alone becomes a parameter.
"""

from functools import partial

import numpy as np

from .ops.base import OPERATORS, call

_LAYERS = ("conv", "linear")


def fold_batch_norm(graph, tensors):
    """Let convolutions and linear layers do the batch normalisation after them.

    With the running statistics it is a factor and a summand per channel: the
    layer's weights are scaled, and its bias is changed or begins to exist. That
    is computed in float64. Nobody else may read the layer's result, which is no
    value of the graph any more, nor use its weights.

    Parameters
    ----------
    graph : Graph
        For inference; changed.
    tensors : dict of str -> ndarray
        The parameters of the graph.

    Returns
    -------
    dict of str -> function
        That computes a parameter of the changed graph, and maybe of others. None
        is kept, so that the largest network needs no memory beside its own.
    """
    users = graph.users()
    tensors = {key: partial(np.asarray, x) for key, x in tensors.items()}
    keys = {value: key for key, value in graph.parameters.items()}
    wanted = {*graph.outputs.values()}
    for node in list(graph.nodes):
        if _is_foldable(node, users, keys, wanted):
            _fold(graph, node, tensors, keys)
    return tensors


def _is_foldable(node, users, keys, wanted):
    if node.op is not OPERATORS["batch_norm"] or node.attrs["training"]:
        return False
    x, *channels = node.inputs
    layer = x.node
    if layer is None or layer.op.name not in _LAYERS or x in wanted:
        return False
    # Of a linear layer's result the features are the last dimension.
    if layer.op.name == "linear" and x.ndim != 2:
        return False
    _, *parameters = [value for value in layer.inputs if value is not None]
    return (
        len(users[x]) == 1
        and len(layer.inputs) == 3
        and layer.attrs["activation"] is None
        and all(value is None or value in keys for value in channels)
        and all(value in keys and len(users[value]) == 1 for value in parameters)
    )


def _fold(graph, node, tensors, keys):
    x, *channels = node.inputs
    layer = x.node
    weight, bias = layer.inputs[1:]

    def read(value, absent):
        return absent if value is None else tensors[keys[value]]().astype(np.float64)

    gain, shift, mean, var = map(read, channels, (1.0, 0.0, None, None))
    scale = gain / np.sqrt(var + node.attrs["eps"])
    columns = scale.reshape(-1, *(1,) * (weight.ndim - 1))
    tensors[keys[weight]] = partial(_scaled, tensors[keys[weight]], columns)
    shift = (read(bias, 0.0) - mean) * scale + shift
    if bias is None:
        key = f"{keys[weight].removesuffix('weight')}bias"
        bias = graph.parameter(shift.shape, weight.dtype, key)
        keys[bias] = key
    tensors[keys[bias]] = partial(np.asarray, shift)

    y = node.outputs[0]
    layer.inputs = (layer.inputs[0], weight, bias)
    layer.outputs, y.node, y.index = (y,), layer, 0
    graph.nodes.remove(node)
    graph.names = {name: value for name, value in graph.names.items() if value is not x}


def _scaled(tensor, factor):
    return tensor() * factor


def fold_constants(graph, tensors):
    """Let what is computed of parameters alone be parameters.

    Parameters
    ----------
    graph : Graph
        For inference; changed.
    tensors : dict of str -> function
        That computes a parameter of the graph, as `fold_batch_norm` gives them;
        changed: those of the changed graph, and maybe others.
    """
    keys = {value: key for key, value in graph.parameters.items()}
    for node in list(graph.nodes):
        given = [x for x in node.inputs if x is not None]
        if not given or any(x not in keys for x in given):
            continue
        arrays = tuple(None if x is None else tensors[keys[x]]() for x in node.inputs)
        results = call(node.op, arrays, node.attrs)
        results = results if isinstance(results, tuple) else (results,)
        for y, array in zip(node.outputs, results, strict=True):
            if y is not None:
                key = _new_key(graph, y.name or "constant")
                y.name, y.node, graph.parameters[key] = key, None, y
                keys[y], tensors[key] = key, partial(np.asarray, array)
        graph.nodes.remove(node)
    # Parameters are no inner values.
    graph.names = {name: x for name, x in graph.names.items() if x not in keys}


def _new_key(graph, stem):
    key, count = stem, 0
    while key in graph.parameters:
        count += 1
        key = f"{stem}.{count}"
    return key
