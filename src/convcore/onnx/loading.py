"""ONNX files as models."""

from ..model import Model
from ..passes import drop_unread
from .batch import check_against, check_samples
from .program import read, shape_of
from .tracing import trace

_SEVERAL = 7  # samples; no usual number of groups, channels or pixels


def load(path, *, input_shape=None):
    """Read an ONNX file as a model.

    Its parameters are the floating-point initialisers of the file, under their
    names; other constants that the network reads are buffers. What can be
    computed without the inputs is computed here. The first dimension of the
    inputs is the batch, which may then be of any size.

    Parameters
    ----------
    path : str or Path
    input_shape : tuple of int, or list of tuples, optional
        Shape of one sample, where the file leaves it open; a list for several
        inputs.

    Returns
    -------
    Model

    Raises
    ------
    ValueError
        When the file is malformed, or the network needs what this package has
        not; the message names the node.

    Examples
    --------
    >>> import convcore as cc
    >>> model = cc.onnx.load("squeezenet.onnx")  # doctest: +SKIP
    >>> model.freeze().predict(images)  # doctest: +SKIP
    """
    program = read(path)
    shapes, is_open = _input_shapes(program, input_shape)
    graph, arrays = trace(program, shapes)
    graph = graph.with_batch(1)
    if is_open:
        several = [(_SEVERAL, *shape[1:]) for shape in shapes]
        check_against(graph, arrays, *trace(program, several))
    else:
        check_samples(graph, arrays)
    training, others = trace(program, shapes, training=True)
    training = training.with_batch(1)
    _agree(graph, training)
    drop_unread([graph, training])
    model = Model.__new__(Model)
    model._setup(graph, training, 0, None)
    for key, tensor in model.engine.tensors.items():
        tensor[...] = (arrays | others)[key]
    return model


def _input_shapes(program, input_shape):
    """Shapes of the inputs, and whether the file leaves open the batch, taken as 1."""
    inputs, given = program.inputs, input_shape
    if not isinstance(given, list):
        given = [given] * len(inputs)
    if not inputs or len(given) != len(inputs):
        raise ValueError(
            f"the network has {len(inputs)} inputs, input_shape is {input_shape}"
        )
    declared = [shape_of(x) or (None,) for x in inputs]
    shapes = []
    for x, known, shape in zip(inputs, declared, given, strict=True):
        shape = known[1:] if shape is None else tuple(shape)
        if not shape or None in shape:
            raise ValueError(
                f"input {x.name!r} has shape {known}: give the shape of a sample as "
                "input_shape"
            )
        shapes.append((known[0] or 1, *shape))
    return shapes, any(known[0] is None for known in declared)


def _agree(first, second):
    """Give two graphs of a network the same parameters in the same order."""
    for graph, other in ((first, second), (second, first)):
        for key, x in other.parameters.items():
            if key not in graph.parameters:
                graph.parameter(x.shape, x.dtype, key)
    second.parameters = {key: second.parameters[key] for key in first.parameters}
    buffers = {
        key
        for graph in (first, second)
        for key, x in graph.parameters.items()
        if x in graph.buffers
    }
    for graph in (first, second):
        graph.buffers = {graph.parameters[key] for key in buffers}
