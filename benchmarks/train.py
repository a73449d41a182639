"""Training steps of whole networks beside torch."""

import argparse
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter, process_time
from typing import NamedTuple

from .comparison import cpus_of, in_fair_environment

DESCRIPTION = """\
Training steps of whole networks at float32: forward, backward and SGD with momentum.
A ratio is the time of the fastest peer divided by that of convcore: above 1, convcore
is faster. All sides have the same images, threads and CPUs, take turns in one process,
and a figure is the median of 5 samples or more.
"""
LEGEND = """\
ms: convcore: model.train_step(x, y); t.first, t.last: torch, eager, channels first and
last, with fused SGD
best: fastest peer / convcore; loss: of convcore, after the last step; CPUs: kept busy
"""
COLUMNS = {"convcore": "convcore", "torch first": "t.first", "torch last": "t.last"}


class Case(NamedTuple):
    """A network of `convcore.models`, its batch, and the ratio it is to reach."""

    network: str
    batch: int
    target: float


CASES = (
    Case("lenet5", 64, 2.5),
    Case("lenet5", 128, 2.5),
    Case("resnet18", 8, 2.2),
    Case("resnet50", 8, 1.7),
    Case("vgg16", 4, 2.4),
    Case("mobilenet_v2", 8, 1.5),
)
RESIDENT = ("vgg16", "resnet50")  # whose peak memory is measured


# -------------------------------------------------------------------- measuring


def row_of(case, threads, arguments):
    from .measure import measure
    from .trainers import makers

    calls = {
        name: make(threads).load(case.network, case.batch)
        for name, make in makers().items()
    }
    begin, busy = perf_counter(), process_time()
    seconds = measure(calls, arguments.repeats, arguments.seconds)
    cpus = (process_time() - busy) / (perf_counter() - begin)
    return {
        "network": case.network,
        "batch": case.batch,
        "threads": threads,
        "target": case.target,
        "cpus": cpus,
        "losses": {name: call() for name, call in calls.items()},
        "seconds": seconds,
    }


def resident(case):
    """Peak memory in MB of each side, in a process of its own."""
    from .trainers import makers

    found = {}
    for name in makers():
        case_of = [name, case.network, str(case.batch)]
        program = [sys.executable, "-m", "benchmarks.trainers", *case_of]
        done = subprocess.run(program, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{name}: {done.stderr}")
        found[name] = float(done.stdout)
    return {"network": case.network, "batch": case.batch, "MB": found}


# --------------------------------------------------------------------- printing


def best_ratio(row):
    peers = [s for name, s in row["seconds"].items() if name != "convcore"]
    return min(peers, default=math.nan) / row["seconds"]["convcore"]


def print_header(versions):
    print(", ".join(versions))
    bound = "" if "OMP_PLACES" in os.environ else "not "
    print(f"OMP_WAIT_POLICY=PASSIVE; threads {bound}bound to CPUs; freed memory reused")
    print(LEGEND)
    print(f"{'network':14} {'n':>3} {'thr':>3}", end=" ")
    print(*(f"{title:>10}" for title in COLUMNS.values()), end=" ")
    print(f"{'best':>6} {'target':>6} {'loss':>8} {'CPUs':>5}", flush=True)


def print_row(row):
    millis = (row["seconds"].get(name) for name in COLUMNS)
    print(
        f"{row['network']:14} {row['batch']:3} {row['threads']:3}",
        *(f"{s * 1e3:10.3f}" if s else f"{'':10}" for s in millis),
        f"{best_ratio(row):6.2f} {row['target']:6}",
        f"{row['losses']['convcore']:8.2g} {row['cpus']:5.1f}",
        flush=True,
    )


def print_resident(found):
    title = f"Peak resident memory, {found['network']}, batch {found['batch']}"
    print(f"\n{title}, 1 thread: MB")
    for name, size in sorted(found["MB"].items(), key=lambda entry: entry[1]):
        print(f"{name:20} {size:8.1f}", flush=True)


# ------------------------------------------------------------------ command line


def parse():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.train", description=DESCRIPTION
    )

    def numbers(text):
        return [int(number) for number in text.split(",")]

    add = parser.add_argument
    add("--threads", type=numbers, default=[1, 2], help="thread counts (default: 1,2)")
    add("--seconds", type=float, default=5.0, help="time of a row (default: 5)")
    add("--repeats", type=int, default=5, help="samples of a figure at least")
    add("--quick", action="store_true", help="LeNet-5 only, half a second a row")
    add("--match", default="", help="only networks whose name has this")
    add("--no-memory", action="store_true", help="do not measure the peak memory")
    add("--json", metavar="FILE", type=Path, help="write every figure there, too")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.match, arguments.seconds = "lenet5", 0.5
    arguments.isa = None
    return arguments


def main():
    arguments = parse()
    in_fair_environment("benchmarks.train", arguments, cpus_of(max(arguments.threads)))
    from .trainers import makers

    versions = list(dict.fromkeys(make(1).version for make in makers().values()))
    print_header(versions)
    cases = [case for case in CASES if arguments.match in case.network]
    found, memory = [], []
    try:
        for case in cases:
            for threads in arguments.threads:
                found.append(row_of(case, threads, arguments))
                print_row(found[-1])
        for case in cases:
            if case.network in RESIDENT and not arguments.no_memory:
                memory.append(resident(case))
                print_resident(memory[-1])
    except KeyboardInterrupt:
        print("\ninterrupted: the table is not complete")
    if arguments.json:
        result = {"versions": versions, "rows": found, "resident": memory}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
