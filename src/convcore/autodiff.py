"""Reverse-mode differentiation: adds backward nodes to the same graph."""

from .ops.base import OPERATORS


def add_gradients(loss, wrt):
    """Add the nodes that compute the gradients of a loss.

    Contributions to a value with several users are summed in the order in
    which the backward pass meets them: from the last user to the first.

    Parameters
    ----------
    loss : Value
    wrt : sequence of Value

    Returns
    -------
    dict of Value -> Value
        The gradients, in the order of `wrt`, of those that the loss depends
        on. They start from a new input of the graph, the last one: the
        gradient of the loss itself (1 for a plain gradient).
    """
    seed = loss.graph.input(loss.shape, loss.dtype, "loss_gradient")
    return backpropagate(loss.graph, {loss: seed}, wrt)


def backpropagate(graph, seeds, wrt):
    """Add the nodes that carry gradients back from several values.

    Parameters
    ----------
    graph : Graph
    seeds : dict of Value -> Value
        The gradients to begin with.
    wrt : sequence of Value

    Returns
    -------
    dict of Value -> Value
        As `add_gradients` gives.
    """
    forward = list(graph.nodes)
    active = _depends_on(forward, wrt)
    gradients = dict(seeds)
    for node in reversed(forward):
        grads = [gradients.get(y) for y in node.outputs]
        if all(grad is None for grad in grads):
            continue
        if not any(x in active for x in node.inputs):
            continue
        first = len(graph.nodes)
        found = node.op.backward(node, *grads)
        for added in graph.nodes[first:]:
            added.source = node
        for x, grad in zip(node.inputs, found, strict=True):
            if grad is None or x not in active:
                continue
            if x in gradients:
                grad = graph.add(OPERATORS["add"], (gradients[x], grad), {})
            gradients[x] = grad
    return {x: gradients[x] for x in wrt if x in gradients}


def _depends_on(nodes, values):
    """The values that depend on the given ones, these included."""
    active = set(values)
    for node in nodes:
        if any(x in active for x in node.inputs):
            active.update(node.outputs)
    return active
