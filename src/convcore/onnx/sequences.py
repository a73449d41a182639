"""Sequences of tensors: lists; and values that may be left out: None."""

from itertools import accumulate

import numpy as np

from .registry import operator
from .shape import concat
from .values import axis_of, constant, ints, number, reshape, unsqueeze


@operator("SequenceEmpty")
def sequence_empty(*, dtype=1):
    return []


@operator("SequenceConstruct")
def sequence_construct(*inputs):
    return list(inputs)


@operator("SequenceInsert")
def sequence_insert(sequence, tensor, position=None):
    place = len(sequence) if position is None else int(number(position))
    place += len(sequence) if place < 0 else 0
    return [*sequence[:place], tensor, *sequence[place:]]


@operator("SequenceErase")
def sequence_erase(sequence, position=None):
    place = len(sequence) - 1 if position is None else int(number(position))
    place += len(sequence) if place < 0 else 0
    return [*sequence[:place], *sequence[place + 1 :]]


@operator("SequenceAt")
def sequence_at(sequence, position):
    return sequence[int(number(position))]


@operator("SequenceLength")
def sequence_length(sequence):
    return np.array(len(sequence), np.int64)


@operator("ConcatFromSequence")
def concat_from_sequence(sequence, *, axis, new_axis=0):
    if not new_axis:
        return concat(*sequence, axis=axis)
    axis = axis_of(axis, sequence[0].ndim + 1)
    return concat(*(unsqueeze(x, {axis}, x.ndim + 1) for x in sequence), axis=axis)


@operator("SplitToSequence")
def split_to_sequence(x, split=None, *, axis=0, keepdims=1):
    axis = axis_of(axis, x.ndim)
    n, lengths = x.shape[axis], (1,) * x.shape[axis]
    if split is not None:
        lengths = ints(split)
        if np.ndim(constant(split)) == 0:
            (each,) = lengths
            lengths = [min(each, n - start) for start in range(0, n, each)]
    starts = accumulate(lengths, initial=0)
    parts = [
        x[(slice(None),) * axis + (slice(start, start + length),)]
        for start, length in zip(starts, lengths, strict=False)
    ]
    if split is not None or keepdims:
        return parts
    rest = (*x.shape[:axis], *x.shape[axis + 1 :])
    return [reshape(part, rest) for part in parts]


@operator("Optional")
def optional(value=None, *, type=None):
    return value


@operator("OptionalHasElement")
def optional_has_element(value=None):
    return np.array(value is not None)


@operator("OptionalGetElement")
def optional_get_element(value):
    return value
