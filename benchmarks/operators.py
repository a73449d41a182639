"""Operators and their gradients beside torch's best layout.

A ratio is the time of torch divided by that of convcore, each in the faster of
its memory layouts: above 1, convcore is faster. The sides take turns in one
process; a figure is the median of 5 samples or more. Results are compared
before they are timed. Gradients are of all arrays; torch's are those of
autograd, whose forward pass is not timed.
"""

import argparse
import json
import math
import os
import sys
from pathlib import Path

import numpy as np

from .comparison import MEMORY, cpus_of
from .environment import fair_environment
from .operator_rows import ARITHMETIC, own_call, rows, torch_call

COLUMNS = ("convcore first", "convcore last", "torch first", "torch last")


def sides(row, direction):
    """Calls by name of the side; what takes no channels-last has no such side."""
    import torch

    import convcore

    arrays = row.arrays()
    layouts = ["first", "last"] if 2 < arrays[0].ndim < 6 else ["first"]
    given = {}
    for layout in layouts:
        own = list(arrays)
        if layout == "last":
            # Weights have the order of their shape; another operand that of the first.
            for i in range(len(own) if row.family is ARITHMETIC else 1):
                own[i] = convcore.channels_last(own[i])
        peers = [torch.from_numpy(a) for a in own]
        if layout == "last":
            peers[1:] = [
                torch.from_numpy(convcore.channels_last(a)) if a.ndim > 2 else t
                for a, t in zip(own[1:], peers[1:], strict=True)
            ]
        given[layout] = own, peers
    if direction == "forward":
        with torch.inference_mode():
            own = {f"convcore {k}": own_call(row, a) for k, (a, _) in given.items()}
            return own | {
                f"torch {k}": torch_call(row, t) for k, (_, t) in given.items()
            }
    calls = {}
    shape = np.shape(own_call(row, arrays)())
    dy = np.random.default_rng(1).standard_normal(shape, np.float32)
    for layout, (own, peers) in given.items():
        own_dy = convcore.channels_last(dy) if layout == "last" else dy
        calls[f"convcore {layout}"] = own_call(row, own, own_dy)
        calls[f"torch {layout}"] = torch_call(row, peers, torch.from_numpy(own_dy))
    return calls


def results_of(call):
    results = call()
    if not isinstance(results, tuple | list):
        results = (results,)
    return [np.asarray(result) for result in results]


def check(row, calls):
    """Every side must give what torch gives."""
    expected = results_of(calls["torch first"])
    for name, call in calls.items():
        for actual, wanted in zip(results_of(call), expected, strict=True):
            error = np.linalg.norm(actual - wanted) / (np.linalg.norm(wanted) or 1)
            if not error <= row.family.error:
                raise ArithmeticError(f"{row}: {name} is off by {error:.1e}")


def measured(chosen, arguments):
    import torch

    import convcore

    from .measure import measure

    for row, direction in chosen:
        calls = sides(row, direction)
        with torch.inference_mode(direction == "forward"):
            check(row, calls)
            for threads in arguments.threads:
                torch.set_num_threads(threads)
                convcore.set_num_threads(threads)
                seconds = measure(calls, 5, arguments.seconds)
                yield {
                    "family": row.family.name,
                    "call": str(row),
                    "direction": direction,
                    "threads": threads,
                    "seconds": seconds,
                }


# ---------------------------------------------------------------------- printing


def ratio(row):
    def best(side):
        times = row["seconds"].items()
        return min(s for name, s in times if name.startswith(side))

    return best("torch") / best("convcore")


def print_row(row):
    times = (row["seconds"].get(name) for name in COLUMNS)
    cells = "".join(f"{s * 1e6:10.1f}" if s else f"{'':10}" for s in times)
    call = f"{row['direction']:8} {row['call']}"
    print(f"{row['threads']} {call:88}{cells}{ratio(row):7.2f}", flush=True)


def print_means(found, families):
    """By family and direction; returns the table as data."""
    table = []
    head = f"{'rows':>6}{'mean':>7} {'target':10}{'lowest':>7} {'target':10}"
    print(f"\nGeometric mean of torch / convcore\n{'':38}{head}")
    for family in families:
        for direction in ("forward", "backward"):
            own = [r for r in found if r["family"] == family.name]
            own = [r for r in own if r["direction"] == direction]
            if not own:
                continue
            values = [ratio(row) for row in own]
            mean = math.exp(math.fsum(map(math.log, values)) / len(values))
            lowest = own[values.index(min(values))]
            cells = "".join(
                f"{value:7.2f} {verdict(value, target):10}"
                for value, target in ((mean, family.mean), (min(values), family.lowest))
            )
            where = f"{lowest['call']}, {lowest['threads']} thread(s)"
            print(f"{family.name:29}{direction:9}{len(own):6}{cells}{where}")
            table.append(
                {
                    "family": family.name,
                    "direction": direction,
                    "rows": len(own),
                    "mean": mean,
                    "mean target": family.mean,
                    "lowest": min(values),
                    "lowest target": family.lowest,
                    "lowest at": where,
                }
            )
    return table


def verdict(value, target):
    return f"{target} {'ok' if value >= target else 'SHORT'}" if target else ""


# ------------------------------------------------------------------ command line


def parse():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.operators", description=__doc__
    )

    def numbers(text):
        return [int(number) for number in text.split(",")]

    add = parser.add_argument
    add("--threads", type=numbers, default=[1, 2], help="thread counts (default: 1,2)")
    add("--seconds", type=float, default=0.5, help="time of a row (default: 0.5)")
    add("--quick", action="store_true", help="two rows of every family only")
    add("--match", default="", help="only rows whose family or call has this")
    add("--direction", choices=["forward", "backward"], help="only these")
    add("--json", metavar="FILE", type=Path, help="write every figure there, too")
    return parser.parse_args()


def chosen_rows(arguments):
    """Rows and directions that the arguments ask for."""
    seen = {}
    for row in rows():
        if arguments.match not in f"{row.family.name} {row}":
            continue
        seen[row.family] = seen.get(row.family, 0) + 1
        if arguments.quick and seen[row.family] > 2:
            continue
        for direction in row.directions:
            if arguments.direction in (None, direction):
                yield row, direction


def in_fair_environment(arguments):
    """Start again where the environment, which libraries read once, is another."""
    threads = max(arguments.threads)
    wanted = fair_environment(threads)
    wanted["GLIBC_TUNABLES"] = ":".join(f"glibc.malloc.{s}" for s in MEMORY.split())
    cpus = cpus_of(threads)
    if cpus:
        wanted["OMP_PROC_BIND"] = "true"
        wanted["OMP_PLACES"] = ",".join(f"{{{cpu}}}" for cpu in cpus)
    if wanted != dict(os.environ):
        command = [sys.executable, "-m", "benchmarks.operators", *sys.argv[1:]]
        os.execve(sys.executable, command, wanted)


def main():
    arguments = parse()
    in_fair_environment(arguments)
    import torch

    from convcore._config import config

    chosen = list(chosen_rows(arguments))
    isa, version = config()["isa"], torch.__version__
    print(f"torch {version}; ISA {isa}; {len(chosen)} calls; us")
    titles = "".join(f"{t:>10}" for t in ("first", "last", "torch", "t.last"))
    print(f"{'':90}{titles}{'ratio':>7}")
    found = []
    try:
        for row in measured(chosen, arguments):
            print_row(row)
            found.append(row)
    except KeyboardInterrupt:
        print("\ninterrupted: the tables are not complete")
    table = print_means(found, dict.fromkeys(row.family for row, _ in chosen))
    if arguments.json:
        result = {"torch": version, "isa": isa, "table": table, "rows": found}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
