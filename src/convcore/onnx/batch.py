"""Whether a network that a file holds works for batches of any size.

It is traced for one size, with the first dimension of reshapes left open. That
this is right is not guessed but proved.
"""

import numpy as np

from ..derivatives import run_nodes


def check_against(graph, arrays, several, others):
    """Raise unless a graph is, for several samples, what was traced for them.

    Parameters
    ----------
    graph, several : Graph
        Traced for one sample and for several.
    arrays, others : dict of str -> ndarray
        Elements of their parameters.
    """
    _check_shapes(graph)
    scaled = graph.with_batch(several.batch)
    alike = len(scaled.nodes) == len(several.nodes) and all(
        _is_alike(a, b) for a, b in zip(scaled.nodes, several.nodes, strict=False)
    )
    if not alike or any(
        not _is_spread(array, others.get(key)) for key, array in arrays.items()
    ):
        raise ValueError("the network computes differently for one sample and several")


def _is_alike(a, b):
    specs = [list(map(_spec, node.outputs)) for node in (a, b)]
    return a.op is b.op and a.attrs == b.attrs and specs[0] == specs[1]


def _spec(value):
    return None if value is None else value.spec


def _is_spread(array, other):
    """Whether an array is another, or that repeated along dimensions of length 1."""
    if other is None or array.ndim != other.ndim:
        return False
    if any(n not in (1, m) for n, m in zip(array.shape, other.shape, strict=True)):
        return False
    return np.array_equal(np.broadcast_to(array, other.shape), other, equal_nan=True)


def check_samples(graph, arrays):
    """Raise unless each of two samples gives what it gives alone.

    For files that are written for a fixed batch, which cannot be traced for
    another: their graph is run.
    """
    _check_shapes(graph)
    rng = np.random.default_rng(0)
    inputs = [
        rng.standard_normal((2, *x.shape[1:])).astype(x.dtype) for x in graph.inputs
    ]
    both = _run(graph.with_batch(2), arrays, inputs)
    for i in (0, 1):
        alone = _run(graph, arrays, [x[i : i + 1] for x in inputs])
        for y, of_both in zip(alone, both, strict=True):
            scale = np.abs(y).max(initial=0, where=np.isfinite(y))
            part = of_both[i : i + 1]
            if not np.allclose(y, part, rtol=0, atol=1e-3 * scale, equal_nan=True):
                raise ValueError(
                    "the network is written for a batch of one: "
                    "with two samples they change each other's results"
                )


def _run(graph, arrays, inputs):
    values = {x: arrays[key] for key, x in graph.parameters.items()}
    values.update(zip(graph.inputs, inputs, strict=True))
    run_nodes(graph, values)
    return [values[y] for y in graph.outputs.values()]


def _check_shapes(graph):
    """Raise unless the outputs of a graph for one sample are those of each of two."""
    try:
        two = graph.with_batch(2)
    except ValueError as error:
        raise ValueError(f"the network works for one sample only: {error}") from None
    for name, x in graph.outputs.items():
        if two.outputs[name].shape != (2, *x.shape[1:]) or x.shape[:1] != (1,):
            raise ValueError(
                f"the first dimension of output {name!r} is not the batch: for two "
                f"samples its shape is {two.outputs[name].shape}, for one {x.shape}"
            )
