"""Control flow: subgraphs that are chosen or repeated."""

import numpy as np

from .registry import operator
from .shape import concat, gather
from .values import axis_of, constant, unsqueeze


@operator("If")
def if_node(condition, *, then_branch, else_branch, run=None):
    chosen = bool(np.reshape(constant(condition, "the condition"), -1)[0])
    return tuple(run(then_branch if chosen else else_branch))


@operator("Loop")
def loop(count, condition, *carried, body, run=None):
    carried, collected = list(carried), None
    limit = None if count is None else int(constant(count, "the count").item())
    going = condition is None or bool(constant(condition, "the condition").item())
    step = 0
    while going and (limit is None or step < limit):
        going, *results = run(body, np.array(step), np.array(True), *carried)
        going = bool(constant(going, "the condition").item())
        carried, scanned = results[: len(carried)], results[len(carried) :]
        collected = collected or [[] for _ in scanned]
        for values, value in zip(collected, scanned, strict=True):
            values.append(value)
        step += 1
    return (*carried, *(_stacked(values) for values in collected or ()))


def _stacked(values, axis=0):
    """Values joined along a new dimension."""
    axis = axis_of(axis, values[0].ndim + 1)
    return concat(*(unsqueeze(x, {axis}, x.ndim + 1) for x in values), axis=axis)


@operator("Scan")
def scan(
    *inputs,
    body,
    num_scan_inputs,
    scan_input_axes=None,
    scan_input_directions=None,
    scan_output_axes=None,
    scan_output_directions=None,
    run=None,
    opset=9,
):
    if opset < 9:
        raise ValueError("in opset 8 it has a batch, which is not supported")
    count = len(inputs) - num_scan_inputs
    state, scanned = inputs[:count], inputs[count:]
    axes = scan_input_axes or (0,) * num_scan_inputs
    turned = scan_input_directions or (0,) * num_scan_inputs
    length = scanned[0].shape[axes[0]]
    collected = []
    for step in range(length):
        places = (length - 1 - step if turn else step for turn in turned)
        parts = [
            gather(x, np.array(place), axis=axis)
            for x, place, axis in zip(scanned, places, axes, strict=True)
        ]
        results = run(body, *state, *parts)
        state = results[:count]
        collected.append(results[count:])
    found = []
    for i, values in enumerate(zip(*collected, strict=True)):
        backwards = scan_output_directions and scan_output_directions[i]
        axis = scan_output_axes[i] if scan_output_axes else 0
        found.append(_stacked(values[::-1] if backwards else values, axis))
    return (*state, *found)
