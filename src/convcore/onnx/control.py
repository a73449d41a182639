"""Control flow: subgraphs that are chosen or repeated."""

import numpy as np

from .registry import operator
from .shape import concat
from .values import constant, unsqueeze


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


def _stacked(values):
    """Values joined along a new first dimension."""
    return concat(*(unsqueeze(x, {0}, x.ndim + 1) for x in values), axis=0)
