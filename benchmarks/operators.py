"""Operators beside torch: `python -m benchmarks.operators`.

A ratio is the time of torch divided by that of convcore, each in the faster of
its memory layouts: above 1, convcore is faster. The sides take turns in one
process; a figure is the median of 5 samples or more. Results are compared
before they are timed.
"""

import argparse
import json
import math
import os
import sys
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from .environment import fair_environment

LIMIT = 1e-4  # of errors, relative to the largest result


class Row(NamedTuple):
    """A call: of convcore and of torch.nn.functional, by the same name."""

    family: str
    function: str
    shapes: tuple[tuple[int, ...], ...]
    arguments: dict[str, Any] = MappingProxyType({})

    def __str__(self):
        shapes = " ".join("x".join(map(str, shape)) for shape in self.shapes)
        rest = " ".join(f"{name}={value}" for name, value in self.arguments.items())
        return f"{self.function} {shapes} {rest}".strip()


def conv(family, function, x, w, **arguments):
    transposed = function.startswith("conv_transpose")
    filters = w[1] * arguments.get("groups", 1) if transposed else w[0]
    return Row(family, function, (x, w, (filters,)), arguments)


IMAGE = (8, 64, 56, 56)
ACTIVATIONS = (
    *("relu6", "leaky_relu", "elu", "silu", "mish", "sigmoid", "tanh", "softplus"),
    *("hardswish", "hardsigmoid"),
)

ROWS = [
    conv("1-D", "conv1d", (8, 80, 3000), (384, 80, 3), padding=1),
    conv("1-D", "conv1d", (8, 384, 3000), (384, 384, 3), stride=2, padding=1),
    conv("1-D", "conv1d", (8, 1, 16000), (64, 1, 9), stride=4),
    conv("3-D", "conv3d", (1, 3, 16, 112, 112), (64, 3, 3, 7, 7), stride=(1, 2, 2),
         padding=(1, 3, 3)),
    conv("3-D", "conv3d", (1, 64, 8, 56, 56), (64, 64, 3, 3, 3), padding=1),
    conv("3-D", "conv3d", (1, 64, 8, 56, 56), (128, 64, 3, 3, 3), stride=2, padding=1),
    conv("3-D", "conv3d", (2, 256, 4, 14, 14), (256, 256, 3, 3, 3), padding=1),
    conv("transposed", "conv_transpose2d", (8, 256, 8, 8), (256, 128, 4, 4), stride=2,
         padding=1),
    conv("transposed", "conv_transpose2d", (8, 64, 32, 32), (64, 32, 4, 4), stride=2,
         padding=1),
    conv("transposed", "conv_transpose2d", (4, 128, 28, 28), (128, 64, 2, 2), stride=2),
    conv("transposed", "conv_transpose2d", (1, 512, 28, 28), (512, 256, 2, 2),
         stride=2),
    conv("transposed", "conv_transpose2d", (4, 64, 32, 32), (64, 32, 3, 3), stride=2,
         padding=1, output_padding=1),
    conv("transposed", "conv_transpose2d", (1, 21, 32, 32), (21, 21, 16, 16), stride=8,
         padding=4),
    conv("transposed", "conv_transpose1d", (8, 128, 500), (128, 64, 16), stride=8,
         padding=4),
    conv("transposed", "conv_transpose3d", (1, 64, 8, 14, 14), (64, 32, 2, 2, 2),
         stride=2),
    *(
        Row("linear", "linear", ((n, 25088), (4096, 25088), (4096,)))
        for n in (1, 2, 4, 8, 16, 32, 64)
    ),
    *(
        Row("group norm", "group_norm", (shape, (), shape[1:2], shape[1:2]),
            {"num_groups": groups})
        for shape, groups in (
            (IMAGE, 32), ((8, 256, 28, 28), 32), ((32, 512, 7, 7), 32), (IMAGE, 1),
            ((1, 128, 64, 64), 8),
        )
    ),
    *(
        Row("bilinear", "interpolate", (shape,),
            {"size": size, "mode": "bilinear", "align_corners": corners})
        for shape, size, corners in (
            ((8, 64, 28, 28), (56, 56), False),
            ((8, 256, 14, 14), (28, 28), True),
            ((1, 3, 224, 224), (512, 512), False),
            ((4, 21, 64, 64), (512, 512), False),
            ((1, 512, 32, 32), (64, 64), False),
            ((1, 3, 512, 512), (224, 224), False),
        )
    ),
    *(Row("activation", name, (IMAGE,)) for name in ACTIVATIONS),
    Row("activation", "gelu", (IMAGE,)),
    Row("activation", "gelu", (IMAGE,), {"approximate": "tanh"}),
    *(
        Row("softmax", name, (shape,), {"dim": dim})
        for name in ("softmax", "log_softmax")
        for shape, dim in (((64, 1000), 1), ((4, 21, 128, 128), 1), ((512, 10), 1))
    ),
    Row("layer norm", "layer_norm", ((8, 197, 768), (), (768,), (768,)),
        {"normalized_shape": (768,)}),
    Row("layer norm", "instance_norm", (IMAGE,)),
    *(
        Row("arithmetic", name, (IMAGE, other))
        for name in ("add", "mul")
        for other in (IMAGE, (8, 64, 1, 1), (1, 64, 1, 1))
    ),
]  # fmt: skip


def arrays_of(row):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, np.float32) for shape in row.shapes]


def positional(row, arrays):
    """Arrays and options in the order of the call: the second may be an option."""
    arguments = dict(row.arguments)
    if len(row.shapes) > 1 and row.shapes[1] == ():
        first = next(iter(arguments))
        arrays = [arrays[0], arguments.pop(first), *arrays[2:]]
    return arrays, arguments


def sides(row, torch):
    """Calls by name of the side; what takes no channels-last has no such side."""
    import convcore

    arrays = arrays_of(row)
    layouts = ["first", "last"] if 2 < arrays[0].ndim < 6 else ["first"]
    calls = {}
    for layout in layouts:
        own = [convcore.channels_last(arrays[0]) if layout == "last" else arrays[0]]
        own += arrays[1:]
        peers = [torch.from_numpy(a) for a in own]
        if layout == "last":
            # A second operand of the same rank has the same layout.
            for i, a in enumerate(own[1:], 1):
                if a.ndim == own[0].ndim:
                    if row.family == "arithmetic":
                        own[i] = convcore.channels_last(a)
                    peers[i] = torch.from_numpy(convcore.channels_last(a))
        calls[f"convcore {layout}"] = call(convcore, row, own)
        module = torch if row.family == "arithmetic" else torch.nn.functional
        calls[f"torch {layout}"] = call(module, row, peers)
    return calls


def call(module, row, arrays):
    function = getattr(module, row.function)
    given, arguments = positional(row, arrays)
    return lambda: function(*given, **arguments)


def check(row, calls):
    """Every side must give what torch gives."""
    expected = np.asarray(calls["torch first"]())
    largest = np.abs(expected).max()
    for name, run in calls.items():
        error = np.abs(np.asarray(run()) - expected).max() / largest
        if not error <= LIMIT:
            raise ArithmeticError(f"{row}: {name} is off by {error:.1e}")


def measured(chosen, threads, seconds):
    import torch

    import convcore

    from .measure import measure

    torch.set_num_threads(threads)
    convcore.set_num_threads(threads)
    with torch.inference_mode():
        for row in chosen:
            calls = sides(row, torch)
            check(row, calls)
            times = measure(calls, 5, seconds)
            yield {"family": row.family, "row": str(row), "seconds": times}


def best(row, side):
    return min(s for name, s in row["seconds"].items() if name.startswith(side))


def ratio(row):
    return best(row, "torch") / best(row, "convcore")


def print_row(row):
    names = ("convcore first", "convcore last", "torch first", "torch last")
    times = (row["seconds"].get(name) for name in names)
    cells = "".join(f"{s * 1e6:11.1f}" if s else f"{'':11}" for s in times)
    print(f"{row['row']:76}{cells}{ratio(row):8.2f}", flush=True)


def print_means(rows):
    print(f"\n{'ratio to torch':24}{'rows':>6}{'mean':>8}{'lowest':>8}")
    for family in [*dict.fromkeys(row["family"] for row in rows), "all"]:
        values = [ratio(row) for row in rows if family in (row["family"], "all")]
        mean = math.exp(math.fsum(map(math.log, values)) / len(values))
        print(f"{family:24}{len(values):6}{mean:8.2f}{min(values):8.2f}")


def main():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.operators", description=__doc__
    )
    add = parser.add_argument
    add("--threads", type=int, default=1)
    add("--seconds", type=float, default=0.5, help="time of a row (default: 0.5)")
    add("--match", default="", help="only rows whose family or call has this")
    add("--json", metavar="FILE", type=Path, help="write every figure there, too")
    arguments = parser.parse_args()
    wanted = fair_environment(arguments.threads)
    wanted["GLIBC_TUNABLES"] = (
        "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1099511627776"
    )
    if wanted != dict(os.environ):
        command = [sys.executable, "-m", "benchmarks.operators", *sys.argv[1:]]
        os.execve(sys.executable, command, wanted)
    chosen = [r for r in ROWS if arguments.match in f"{r.family} {r}"]
    print(f"{arguments.threads} thread(s); us")
    titles = ("first", "last", "torch", "torch last")
    print(f"{'':76}" + "".join(f"{t:>11}" for t in titles) + f"{'ratio':>8}")
    rows = []
    for row in measured(chosen, arguments.threads, arguments.seconds):
        print_row(row)
        rows.append(row)
    print_means(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
