"""Passes: fusion and dead nodes on a graph, the memory of a list of steps.

The graph passes change the graph given to them.
"""

from .graph import Value
from .ops.base import OPERATORS

ALIGNMENT = 64  # bytes; of every buffer in a space

# Steps whose result may be the same memory as one of these inputs: operands by their
# numbers. Of several results it is the first that is there.
_IN_PLACE = {
    "relu_forward": ((1,), (0,)),
    "relu_backward": ((2,), (0,)),
    "add": ((2,), (0, 1)),
    "batch_norm_forward": ((6,), (5,)),
    "batch_norm_backward": ((10, 7), (0,)),
    "dropout": ((2,), (1,)),
    "function_backward": ((2,), (0,)),
    "function_forward": ((1,), (0,)),
}


def round_up(size):
    """The next multiple of ALIGNMENT."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def updates_last(graph):
    """Compute what buffers will be after all that the network computes."""
    updates = set(graph.updates.values())
    late = [node for node in graph.nodes if updates.intersection(node.outputs)]
    graph.nodes = [node for node in graph.nodes if node not in late] + late


def fuse_relu(graph, keep):
    """Let the operator before a ReLU (or ReLU6) apply it, where only that reads it.

    The gradient of ReLU needs its output only, so this serves training too.
    Values of `keep` are left in the graph.
    """
    users, kept = graph.users(), set(keep)
    fused = set()
    for node in graph.nodes:
        if node.op.name not in ("relu", "relu6"):
            continue
        (x,), (y,) = node.inputs, node.outputs
        if x in kept or len(users[x]) > 1 or x.node is None:
            continue
        applies = node.op.name in x.node.op.activations
        if applies and x.index == 0 and x.node.attrs.get("activation", "") is None:
            x.node.attrs["activation"] = node.op.name
            x.node.outputs, y.node = (y, *x.node.outputs[1:]), x.node
            fused.add(node)
    graph.nodes = [node for node in graph.nodes if node not in fused]


def fuse_add(graph, keep):
    """Let an operator that can add what is added to its result, where only the
    sum is read.

    It moves to the place of the sum: the other summand may be computed between.
    Values of `keep` are left in the graph.
    """
    users, kept = graph.users(), set(keep)
    nodes = []
    for node in graph.nodes:
        if node.op is OPERATORS["add"] and _sums_alike(node):
            for x, other in (node.inputs, node.inputs[::-1]):
                if x in kept or len(users[x]) > 1 or not _takes_residual(x):
                    continue
                adder, (y,) = x.node, node.outputs
                adder.inputs += (other,)
                adder.outputs, y.node = (y, *adder.outputs[1:]), adder
                nodes.remove(adder)
                node = adder
                break
        nodes.append(node)
    graph.nodes = nodes


def _sums_alike(node):
    """Whether both summands are values of one shape."""
    a, b = node.inputs
    return a is not None and b is not None and a.shape == b.shape


def _takes_residual(x):
    node = x.node
    return (
        node is not None
        and x.index == 0
        and node.op.takes_residual == len(node.inputs)
        and node.attrs["activation"] is None
    )


def mask_pooled(graph, keep):
    """Let the gradient of ReLU go before that of the max pooling behind it.

    What ReLU gave is positive in the place of a maximum where the maximum is: so
    dy is masked, which has a part of the elements of dx, and the result of ReLU is
    not kept for it. Values of `keep` are left in the graph.
    """
    users, kept = graph.users(), set(keep)
    nodes = []
    for node in graph.nodes:
        nodes.append(node)
        if node.op.name not in ("relu_backward", "relu6_backward"):
            continue
        dx, y = node.inputs
        if dx in kept or len(users[dx]) > 1 or not _is_unpooled(dx, y):
            continue
        unpool = dx.node
        dy, indices = unpool.inputs
        node.inputs = (dy, indices.node.outputs[0])
        unpool.inputs = (masked := Value(graph, dy.spec, None, node), indices)
        unpool.outputs, node.outputs = node.outputs, (masked,)
        unpool.outputs[0].node = unpool
        nodes.remove(unpool)
        nodes.append(unpool)
    graph.nodes = nodes


def _is_unpooled(dx, y):
    """Whether dx is the gradient of a max pooling of y."""
    if dx.node is None or dx.node.op.name != "max_pool_backward":
        return False
    pool = dx.node.inputs[1].node
    return pool is not None and pool.op.name == "max_pool" and pool.inputs[0] is y


def drop_dead(graph, keep):
    """Drop the nodes that no value of `keep` depends on."""
    needed, nodes = set(keep), []
    for node in reversed(graph.nodes):
        if any(y in needed for y in node.outputs if y is not None):
            nodes.append(node)
            needed.update(x for x in node.inputs if x is not None)
    graph.nodes = nodes[::-1]


def cut(graph, name):
    """Let a graph end at one of its values, which becomes "output".

    Updates of buffers stay where what they are computed from stays.
    """
    value, everything = graph.find(name), graph.nodes
    drop_dead(graph, [value])
    kept, updates = set(graph.nodes), set(graph.updates.values())
    made = {None, *graph.inputs, *graph.parameters.values()}
    graph.nodes = []
    for node in everything:
        if node in kept or (
            updates.intersection(node.outputs) and made >= {*node.inputs}
        ):
            graph.nodes.append(node)
            made.update(node.outputs)
    graph.outputs, graph.auxiliary = {"output": value}, {}
    graph.updates = {x: new for x, new in graph.updates.items() if new in made}
    graph.names = {key: x for key, x in graph.names.items() if x in made}


def drop_unread(graphs):
    """Drop the parameters that none of the graphs of one network reads."""
    read = set()
    for graph in graphs:
        users = graph.users()
        read.update(key for key, x in graph.parameters.items() if x in users)
    for graph in graphs:
        graph.parameters = {k: x for k, x in graph.parameters.items() if k in read}
        graph.buffers.intersection_update(graph.parameters.values())


def lay_out(steps):
    """Give every arena buffer of a list of steps its offset.

    Buffers whose lifetimes overlap get disjoint ranges; a result takes the
    place of an input where the step allows it and nobody reads that input
    later. Larger buffers are placed first, each at the lowest free offset.

    Parameters
    ----------
    steps : list of Step
        A buffer without `space` is one of the arena.

    Returns
    -------
    (offsets, nbytes) : dict of Buffer -> int, and the size of the arena
    """
    slots = _share(steps, _lifetimes(steps))
    offsets, placed, nbytes = {}, [], 0
    for slot in sorted(slots, key=lambda slot: (-slot.nbytes, slot.first)):
        offset = 0
        for start, end, other in placed:
            if other.first <= slot.last and slot.first <= other.last:
                if offset + slot.nbytes <= start:
                    break
                offset = max(offset, end)
        placed.append((offset, offset + slot.nbytes, slot))
        placed.sort(key=lambda entry: entry[0])
        offsets.update(dict.fromkeys(slot.buffers, offset))
        nbytes = max(nbytes, offset + slot.nbytes)
    return offsets, nbytes


class _Slot:
    """A range of the arena, the buffers that hold it in turn, and for how long."""

    def __init__(self, buffer, step):
        self.buffers = [buffer]
        self.nbytes = round_up(buffer.nbytes)
        self.first = self.last = step


def _lifetimes(steps):
    """A slot per arena buffer, from the first to the last step that names it."""
    slots = {}
    for number, step in enumerate(steps):
        for operand in step.operands:
            if operand is not None and operand.buffer.space is None:
                slot = slots.setdefault(operand.buffer, _Slot(operand.buffer, number))
                slot.last = number
    return slots


def _share(steps, slots):
    """Merge slots where a step can work in place; the slots that remain."""
    for number, step in enumerate(steps):
        results, inputs = _IN_PLACE.get(step.kind, ((), ()))
        y = next((step.operands[i] for i in results if step.operands[i]), None)
        for x in (step.operands[i] for i in inputs):
            if x is None or y is None:
                continue
            ours, its = slots.get(y.buffer), slots.get(x.buffer)
            if (
                ours is not None
                and its is not None
                and ours is not its
                and ours.first == number == its.last
                and x.is_whole
                and y.is_whole
            ):
                its.buffers += ours.buffers
                its.last = ours.last
                slots.update(dict.fromkeys(ours.buffers, its))
                break
    return list(dict.fromkeys(slots.values()))
