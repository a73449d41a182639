"""What explain_conv tells is what runs."""

from math import prod

import numpy as np
import pytest
from table import CONV, LARGE

import convcore as cc
from convcore.ops.base import Spec
from convcore.ops.conv import CONV as OPERATOR
from convcore.ops.conv import attributes

SHAPES = (1, 64, 56, 56), (64, 64, 3, 3)


def explained(row, **options):
    """The explanation of a row, and the descriptor of the same call."""
    arguments = {k: v for k, v in row.arguments.items() if k != "activation"}
    x_shape, weight_shape, _ = row.shapes
    why = cc.explain_conv(x_shape, weight_shape, **arguments, **options)
    names = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
    specs = [Spec(shape, np.dtype(np.float32)) for shape in (x_shape, weight_shape)]
    attrs = attributes(
        len(weight_shape) - 2,
        specs[1],
        *(arguments.get(name, default) for name, default in names.items()),
        "auto",
    )
    conv = OPERATOR.describe(
        *specs, last=False, precision="highest", activation=None, **attrs
    )
    return why, conv


@pytest.mark.parametrize("direction", ["forward", "backward_data", "backward_weight"])
def test_every_row_runs_what_is_explained(direction):
    seen = set()
    for row in [*CONV, *LARGE]:
        of_this_family = row.function in ("conv1d", "conv2d", "conv3d")
        if not of_this_family or len(row.shapes[0]) < len(row.shapes[1]):
            continue  # another operator, or unbatched
        why, conv = explained(row, direction=direction)
        assert why.chosen.algorithm == conv.choose(direction), row
        seen.add(why.chosen.algorithm)
        cycles = [candidate.cycles for candidate in why.candidates]
        assert cycles == sorted(cycles) and why.chosen.time == 1
    assert {"direct", "winograd"} <= seen


def test_facts_of_a_layer():
    why = cc.explain_conv(*SHAPES, padding=1)
    by_tile = {c.tile: c for c in why.candidates if not c.planar}
    assert by_tile.keys() == {(), (2, 2), (4, 4)}
    channels = 64 * 64
    assert by_tile[()].multiplications == 56**2 * 9 * channels
    assert by_tile[2, 2].multiplications == 28**2 * 4**2 * channels
    assert by_tile[4, 4].multiplications == 14**2 * 6**2 * channels
    for candidate in why.candidates:
        assert candidate.time == candidate.cycles / why.chosen.cycles


def test_table():
    lines = str(cc.explain_conv(*SHAPES, padding=1)).splitlines()
    assert lines[0].startswith("forward (1, 64, 56, 56) * (64, 64, 3, 3) ->")
    assert lines[1].split() == [
        "algorithm", "form", "multiplications", "cycles", "time",
    ]  # fmt: skip
    assert lines[2].split()[:5] == ["->", "winograd", "F(4x4,", "3x3)", "28.901"]
    assert [i for i, line in enumerate(lines) if line.startswith("->")] == [2]
    assert len(lines) == 2 + len(cc.explain_conv(*SHAPES, padding=1).candidates)


def test_few_output_channels_are_planar():
    why = cc.explain_conv((1, 1, 28, 28), (6, 1, 5, 5), padding=2)
    assert why.chosen.algorithm == "direct" and why.chosen.planar
    assert "planar" in str(why).splitlines()[2]


def test_few_pixels_take_plain_weights():
    shapes = (64, 512, 1, 1), (128, 512, 1, 1)
    why = cc.explain_conv(*shapes)
    assert why.chosen.algorithm == "direct" and why.chosen.linear
    assert "linear" in str(why).splitlines()[2]
    assert not cc.explain_conv(*shapes, packed=True).chosen.linear


def test_precision_and_packing_count():
    shapes = (8, 32, 28, 28), (96, 32, 5, 5)
    high = cc.explain_conv(*shapes, padding=2, precision="high")
    assert high.chosen.tile == (4, 4)
    highest = cc.explain_conv(*shapes, padding=2)
    assert highest.chosen.tile == (2, 2)
    packed = cc.explain_conv(*shapes, padding=2, packed=True)
    assert packed.chosen.cycles < highest.chosen.cycles


def test_one_axis():
    """Speech: kernels of 3 taps run Winograd in one dimension."""
    why = cc.explain_conv((1, 80, 1000), (256, 80, 3), padding=1)
    assert why.chosen.tile == (4,) and "F(4, 3)" in str(why)
    assert why.chosen.multiplications == 250 * 6 * 80 * 256


def test_short_tiles_and_stride_two():
    shapes = (1, 64, 14, 14), (64, 64, 3, 3)
    by_tile = {c.tile: c for c in cc.explain_conv(*shapes, padding=1).candidates}
    # 14 = 4 + 4 + 3 + 3, and a tile of 3 does without the point at infinity.
    assert by_tile[4, 4].multiplications == (2 * 6 + 2 * 5) ** 2 * 64 * 64
    for direction in ("forward", "backward_data", "backward_weight"):
        why = cc.explain_conv(
            (1, 64, 56, 56), shapes[1], stride=2, padding=1, direction=direction
        )
        tile = next(c for c in why.candidates if c.tile)
        assert tile.multiplications == (4 * 11 + 2 * 9) ** 2 * 64 * 64
        assert "F(5x5, 3x3)" in str(why)


@pytest.mark.parametrize(
    ("shapes", "options"),
    [
        (((1, 32, 8, 56, 56), (64, 32, 3, 3, 3)), {"padding": 1}),
        (SHAPES, {"dtype": "float64"}),
        (SHAPES, {"stride": 3}),
        (((1, 64, 56, 56), (64, 1, 3, 3)), {"groups": 64}),
    ],
    ids=["three axes", "float64", "stride", "depthwise"],
)
def test_where_winograd_does_not_apply(shapes, options):
    why = cc.explain_conv(*shapes, **options)
    assert why.chosen.algorithm == "direct"
    assert "Winograd does not apply" in str(why)


def test_backward_data_counts_the_forward_products():
    why = cc.explain_conv((2, 3, 9, 9), (5, 3, 4, 4), stride=2, direction="forward")
    back = cc.explain_conv(
        (2, 3, 9, 9), (5, 3, 4, 4), stride=2, direction="backward_data"
    )
    products = 2 * prod((5, 3, 4, 4)) * 3**2
    assert why.chosen.multiplications == back.chosen.multiplications == products


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: cc.explain_conv(*SHAPES, direction="sideways"), ValueError, "sidew"),
        (lambda: cc.explain_conv(*SHAPES, precision="low"), ValueError, "low"),
        (lambda: cc.explain_conv(*SHAPES, dtype="int8"), TypeError, "int8"),
        (lambda: cc.explain_conv((1, 63, 9, 9), SHAPES[1]), ValueError, "63 channels"),
        (lambda: cc.explain_conv((1, 6, 9), SHAPES[1]), ValueError, "4 dimensions"),
        (lambda: cc.explain_conv((1, 6), (6, 6)), ValueError, r"\(6, 6\)"),
    ],
)
def test_bad_calls(call, error, message):
    with pytest.raises(error, match=message):
        call()
