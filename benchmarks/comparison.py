"""Convolution layers of well-known networks beside every peer at its best.

What the programs have in common that measure this: conditions, tables and the
command line. A program is a `Comparison`.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, NamedTuple

from .environment import fair_environment

# Freed memory is used again, and lies in huge pages, for every side: else the
# sides that allocate their results would pay for fresh pages on each call.
MEMORY = "mmap_max=0 trim_threshold=1099511627776 hugetlb=1"
AVX2 = {
    "CONVCORE_ISA": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}
METHOD = """\
A ratio is the time of the fastest peer divided by that of convcore: above 1,
convcore is faster. All sides have the same data, threads and CPUs, take turns in
one process, and a figure is the median of 5 samples or more. Ctrl-C ends the
measuring, not the program: the tables show what there is.
"""
ROW = "{:19} {:42} {:34} {:>3} {:8}"
LARGEST_ERROR = {"highest": 3e-6, "high": 2e-5}


class Class(NamedTuple):
    """Layers of a kind, and the ratios they are to reach: mean, lowest, with AVX2."""

    title: str
    kind: str
    mean: float | None = None
    lowest: float | None = None
    mean_avx2: float | None = None
    precision: str = "highest"
    direction: str = "forward"
    own: str = "convcore"  # the side whose time counts
    mark: str = ""  # behind the kind, in a row
    again: bool = False  # the layers of another class
    batches: tuple[int, ...] | None = None  # where not those asked for


class Comparison(NamedTuple):
    """A program that compares."""

    module: str
    title: str
    legend: str
    classes: tuple[Class, ...]
    columns: dict[str, str]  # of the sides, by their names
    sides: Callable[[Class, Any, int, list[int]], list]  # arguments, threads, CPUs
    plain_title: str
    plain_mean: float | None = None

    def class_of(self, row):
        return next(c for c in self.classes if c.title == row["class"])

    def best_ratio(self, row):
        times = row["seconds"].items()
        peers = (s for name, s in times if not name.startswith("convcore"))
        return min(peers) / row["seconds"][self.class_of(row).own]

    def plain_ratio(self, row):
        return row["seconds"]["torch first"] / row["seconds"]["convcore first"]


# -------------------------------------------------------------------- measuring


def cases(classes, layers, batches):
    """Class and layer with its batch size, class by class."""
    from .networks import kind_of

    return [
        (class_, layer._replace(n=n))
        for class_ in classes
        for layer in layers
        if kind_of(layer) == class_.kind
        for n in class_.batches or batches
    ]


def rows(comparison, arguments, chosen, cpus):
    from .exact import errors, exact_part
    from .measure import measure

    for class_, layer in chosen:
        direction = class_.direction
        exact = exact_part(layer, direction)
        for threads in arguments.threads:
            sides = comparison.sides(class_, arguments, threads, cpus)
            calls = {side.name: side.prepare(layer, direction) for side in sides}
            found = errors(calls, *exact)
            begin, busy = perf_counter(), process_time()
            seconds = measure(calls, arguments.repeats, arguments.seconds)
            yield {
                "class": class_.title,
                "layer": f"{layer.net} {layer.name}",
                "shape": str(layer),
                "threads": threads,
                "flops": layer.flops,
                "algorithm": sides[0].describe(layer).choose(direction),
                "cpus": (process_time() - busy) / (perf_counter() - begin),
                "errors": found,
                "seconds": seconds,
            }


# ---------------------------------------------------------------------- printing


def print_header(comparison, arguments, count, conditions):
    print(", ".join(conditions["versions"]))
    print(f"ISA {conditions['isa']}; layers of {conditions['shapes']}, with bias")
    print(
        f"{count} rows of {arguments.seconds} s: {count * arguments.seconds / 60:.0f}"
        f" min, more where {arguments.repeats} samples of each side take longer"
    )
    bound = "" if "OMP_PLACES" in os.environ else "not "
    print(f"OMP_WAIT_POLICY=PASSIVE; threads {bound}bound to CPUs; freed memory reused")
    print(comparison.legend)
    first = ROW.format("class", "layer", "shape", "thr", "runs")
    print(first, *(f"{title:>9}" for title in comparison.columns.values()), end=" ")
    print(f"{'best':>6} {'plain':>6} {'CPUs':>5}")


def print_row(comparison, row):
    class_ = comparison.class_of(row)
    kind = f"{class_.kind} {class_.mark}"
    names = ("layer", "shape", "threads", "algorithm")
    micros = (row["seconds"].get(name) for name in comparison.columns)
    print(
        ROW.format(kind, *(row[name] for name in names)),
        *(f"{s * 1e6:9.1f}" if s else f"{'':9}" for s in micros),
        f"{comparison.best_ratio(row):6.2f} {comparison.plain_ratio(row):6.2f}",
        f"{row['cpus']:5.1f}",
        flush=True,
    )
    limit = LARGEST_ERROR[class_.precision]
    for name, error in row["errors"].items():
        if not error <= limit:
            print(f"  error of {name}: {error:.1e}, above {limit:.0e}", flush=True)


def summary(title, rows, ratio, mean_target=None, lowest_target=None):
    """A line of a table: printed, and returned as data."""

    def verdict(value, target):
        return f"{target} {'ok' if value >= target else 'SHORT'}" if target else ""

    values = [ratio(row) for row in rows]
    mean, lowest = math.exp(math.fsum(map(math.log, values)) / len(values)), min(values)
    row = rows[values.index(lowest)]
    where = f"{row['layer']} {row['shape']}, {row['threads']} thread(s)"
    print(
        f"{title:40} {len(rows):5} {mean:8.2f}  {verdict(mean, mean_target):10}"
        f" {lowest:8.2f}  {verdict(lowest, lowest_target):10} {where}"
    )
    return {
        "class": title,
        "rows": len(rows),
        "mean": mean,
        "mean target": mean_target,
        "lowest": lowest,
        "lowest target": lowest_target,
        "lowest at": where,
    }


def print_tables(comparison, rows, isa):
    """By class: beside the best peer, then plain calls. Returns them as data."""
    head = f"\n{'':40}  rows     mean  target       lowest  target"
    by_class = {}
    for row in rows:
        by_class.setdefault(comparison.class_of(row), []).append(row)

    print(f"\nGeometric mean, and lowest ratio to the best peer{head}")
    best = []
    for class_, own in by_class.items():
        targets = (class_.mean_avx2,) if isa else (class_.mean, class_.lowest)
        best.append(summary(class_.title, own, comparison.best_ratio, *targets))

    print(f"\n{comparison.plain_title}, nothing prepared{head}")
    plain, all_rows = [], []
    for class_, own in by_class.items():
        if not class_.again:
            plain.append(summary(class_.title, own, comparison.plain_ratio))
            all_rows += own
    if all_rows:
        target = None if isa else comparison.plain_mean
        ratio = comparison.plain_ratio
        plain.append(summary("all layers", all_rows, ratio, target))

    # Small layers sleep and wake; large ones keep their CPUs busy.
    idle = [r for r in rows if r["flops"] > 1e8 and r["cpus"] < 0.8 * r["threads"]]
    if idle:
        print(f"\n{len(idle)} of {len(rows)} rows had too little CPU: a busy machine?")
    return {"best": best, "plain": plain}


# ------------------------------------------------------------------ command line


def parse(comparison):
    from .networks import SHAPES

    parser = argparse.ArgumentParser(
        prog=f"python -m {comparison.module}",
        description=f"{comparison.title}. {METHOD}",
    )

    def numbers(text):
        return [int(number) for number in text.split(",")]

    add = parser.add_argument
    add("--threads", type=numbers, default=[1, 2], help="thread counts (default: 1,2)")
    add("--batch", type=numbers, default=[1, 8], help="batch sizes (default: 1,8)")
    add("--seconds", type=float, default=0.5, help="time of a row (default: 0.5)")
    add("--repeats", type=int, default=5, help="samples of a figure at least, >= 5")
    add("--quick", action="store_true", help="three layers of every class only")
    add("--match", default="", help="only layers whose net, name or class has this")
    add("--isa", choices=["avx2"], help="hold convcore and torch to this")
    add("--shapes", type=Path, default=SHAPES, help="file (default: %(default)s)")
    add("--json", metavar="FILE", type=Path, help="write every figure there, too")
    arguments = parser.parse_args()
    if arguments.repeats < 5:
        parser.error(f"--repeats must be 5 or more, got {arguments.repeats}")
    return arguments


def cpus_of(threads):
    """A CPU for every thread; none where there are fewer, or nobody can tell."""
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return cpus[:threads] if len(cpus) >= threads else []


def in_fair_environment(module, arguments, cpus):
    """Start again where the environment, which libraries read once, is another."""
    wanted = fair_environment(max(arguments.threads))
    wanted["GLIBC_TUNABLES"] = ":".join(f"glibc.malloc.{s}" for s in MEMORY.split())
    if cpus:  # a scheduler may keep threads that sleep between calls on one CPU
        wanted["OMP_PROC_BIND"] = "true"
        wanted["OMP_PLACES"] = ",".join(f"{{{cpu}}}" for cpu in cpus)
    if arguments.isa:
        wanted |= AVX2
    if wanted != dict(os.environ):
        program = [sys.executable, "-m", module]
        os.execve(sys.executable, [*program, *sys.argv[1:]], wanted)


def main(comparison):
    arguments = parse(comparison)
    cpus = cpus_of(max(arguments.threads))
    in_fair_environment(comparison.module, arguments, cpus)
    try:
        import torch
    except ImportError:
        raise SystemExit("this compares with torch, which is not installed") from None
    from convcore._config import config

    from .networks import kind_of, network_layers, quick

    layers = network_layers(arguments.shapes)
    layers = [
        layer
        for layer in (quick(layers) if arguments.quick else layers)
        if arguments.match in f"{layer.net} {layer.name} {kind_of(layer)}"
    ]
    chosen = cases(comparison.classes, layers, arguments.batch)
    absent = f"the built-in list ({arguments.shapes} is absent)"
    sides = comparison.sides(comparison.classes[0], arguments, 1, cpus)
    conditions = {
        "isa": config()["isa"],
        "shapes": str(arguments.shapes) if arguments.shapes.exists() else absent,
        "versions": list(dict.fromkeys(side.version for side in sides)),
    }
    count = len(chosen) * len(arguments.threads)
    print_header(comparison, arguments, count, conditions)
    found = []
    try:
        with torch.inference_mode():
            for row in rows(comparison, arguments, chosen, cpus):
                print_row(comparison, row)
                found.append(row)
    except KeyboardInterrupt:
        print("\ninterrupted: the tables are not complete")
    tables = print_tables(comparison, found, arguments.isa)
    if arguments.json:
        result = conditions | {"tables": tables, "rows": found}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
