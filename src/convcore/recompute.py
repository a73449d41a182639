"""Recomputation: values of the forward pass that backward computes again.

What backward reads of the forward pass has to be kept until then; most of the
memory of a training step is that. Computing some of it again when backward gets
there trades time for memory (Chen, Xu, Zhang, Guestrin, 2016). The same steps on
the same values give the same bits.
"""

from math import prod

from .graph import Node, Value

# Operators that take time: their results are the last to be computed again.
_EXPENSIVE = {"conv", "conv_transpose", "linear", "matmul"}


def choices(graph, forward):
    """Sets of values to keep, from those that cost the least time to compute again.

    Parameters
    ----------
    graph : Graph
        With its backward nodes.
    forward : set of Node

    Yields
    ------
    set of Value : of the forward pass
    """
    updates = set(graph.updates.values())
    nodes = [
        node
        for node in graph.nodes
        if node in forward and not updates.intersection(node.outputs)
    ]
    yield {node.outputs[0] for node in nodes if node.op.name in _EXPENSIVE}
    segments = 2
    while segments <= len(nodes):
        yield _boundaries(nodes, segments)
        segments += max(1, segments // 4)


def recompute(graph, forward, kept):
    """Let backward compute again what it reads of the forward pass, but for `kept`.

    Each of these values is computed once more, right before its first reader.
    Second results (the indices of maxima, statistics) are small, and kept.
    The graph is changed.

    Returns
    -------
    int : number of nodes that compute again
    """
    made = {node.outputs[0] for node in forward}
    lost, again = made - set(kept), {}
    nodes, graph.nodes = graph.nodes, []

    def value(x):
        """What stands for a value in backward; its node is added before."""
        if x not in lost:
            return x
        if x not in again:
            old = x.node
            node = Node(old.op, [value(given) for given in old.inputs], old.attrs)
            node.source = old
            node.outputs = tuple(
                None if y is None else Value(graph, y.spec, y.name, node, y.index)
                for y in old.outputs
            )
            again.update(zip(old.outputs, node.outputs, strict=True))
            graph.nodes.append(node)
        return again[x]

    for node in nodes:
        if node not in forward:
            node.inputs = tuple(map(value, node.inputs))
        graph.nodes.append(node)
    return len(graph.nodes) - len(nodes)


def _boundaries(nodes, segments):
    """The values that go from one segment of the forward pass to a later one.

    Segments make about as many bytes each, and end near there where the fewest
    bytes go on.
    """
    last_use = {}
    for i, node in enumerate(nodes):
        last_use.update((x, i) for x in node.inputs if x is not None)
    sizes = [sum(map(_nbytes, node.outputs)) for node in nodes]
    crossing, total = [set()], [0]  # before node i; bytes made before node i
    for i, node in enumerate(nodes):
        alive = {x for x in crossing[-1] | set(node.outputs) if last_use.get(x, i) > i}
        crossing.append(alive)
        total.append(total[-1] + sizes[i])
    kept = set()
    for segment in range(1, segments):
        low, high = ((segment + by) * total[-1] / segments for by in (-0.4, 0.4))
        places = [i for i in range(1, len(nodes)) if low <= total[i] <= high]
        if places:
            kept |= min(
                (crossing[i] for i in places), key=lambda xs: sum(map(_nbytes, xs))
            )
    return kept


def _nbytes(x):
    return 0 if x is None else prod(x.shape) * x.dtype.itemsize
