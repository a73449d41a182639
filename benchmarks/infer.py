"""Inference of whole networks beside torch, onnxruntime and OpenVINO."""

import argparse
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import NamedTuple

from .comparison import cpus_of, in_fair_environment

DESCRIPTION = """\
Inference of whole networks at float32. A ratio is the time of the fastest peer
divided by that of convcore: above 1, convcore is faster. All sides have the same
weights, threads and CPUs, take NumPy arrays and give new ones, take turns in one
process, and a figure is the median of 5 samples or more, each after a call that
does not count.
"""
LEGEND = """\
ms: convcore: model.freeze().predict(x); t.first, t.last: torch, channels first and
last; t.fr.first, t.fr.last: the same by torch.jit.optimize_for_inference; ort:
onnxruntime, session.run; openvino: latency hint, shared arrays
best: fastest peer / convcore; error: of convcore, beside the peers', by the largest
output; CPUs: kept busy
"""
COLUMNS = {
    "convcore": "convcore",
    "torch first": "t.first",
    "torch last": "t.last",
    "torch frozen first": "t.fr.first",
    "torch frozen last": "t.fr.last",
    "onnxruntime": "ort",
    "openvino": "openvino",
}
LARGEST_ERROR = 1e-4
RESIDENT = "resnet50"  # whose peak memory is measured


class Network(NamedTuple):
    """A network of `convcore.models`, and the mean ratio that it is to reach."""

    name: str
    shape: tuple[int, int, int]
    target: float
    batches: tuple[int, ...] | None = None  # where not those asked for


IMAGE = (3, 224, 224)
NETWORKS = (
    Network("lenet5", (1, 28, 28), 2.0, (1,)),
    Network("alexnet", IMAGE, 1.3),
    Network("zfnet", IMAGE, 1.5),
    Network("vgg16", IMAGE, 2.1),
    Network("googlenet", IMAGE, 1.5),
    Network("resnet18", IMAGE, 1.7),
    Network("resnet50", IMAGE, 1.3),
    Network("squeezenet1_1", IMAGE, 1.4),
    Network("mobilenet_v2", IMAGE, 1.2),
)


# -------------------------------------------------------------------- measuring


def rows(network, arguments):
    """A row for each batch size and number of threads."""
    import numpy as np

    from .measure import measure
    from .runtimes import makers, unbound, write

    with TemporaryDirectory() as folder:
        write(Path(folder), network)
        for batch in network.batches or arguments.batch:
            rng = np.random.default_rng(batch)
            x = rng.standard_normal((batch, *network.shape), np.float32)
            for threads in arguments.threads:
                with unbound(arguments.cpus):
                    calls = {
                        name: make(threads).load(Path(folder), x)
                        for name, make in makers(arguments.cpus).items()
                    }
                    found = errors(calls)
                begin, busy = perf_counter(), process_time()
                seconds = measure(
                    calls, arguments.repeats, arguments.seconds, warm=True
                )
                yield {
                    "network": network.name,
                    "batch": batch,
                    "threads": threads,
                    "cpus": (process_time() - busy) / (perf_counter() - begin),
                    "errors": found,
                    "seconds": seconds,
                }


def errors(calls):
    """Largest difference of each side to the median of all, by the largest output."""
    import numpy as np

    results = {name: np.array(call()) for name, call in calls.items()}
    middle = np.median(list(results.values()), axis=0)
    largest = np.abs(middle).max()
    return {
        name: float(np.abs(y - middle).max() / largest) for name, y in results.items()
    }


def residents():
    """Peak memory in MB of each side, in a process of its own."""
    from .runtimes import makers, write

    network = next(n for n in NETWORKS if n.name == RESIDENT)
    # Freed memory goes back, as it does for users.
    environment = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    found = {}
    with TemporaryDirectory() as folder:
        write(Path(folder), network)
        for name in makers():
            program = [sys.executable, "-m", "benchmarks.resident", name, folder]
            shape = [str(n) for n in network.shape]
            done = subprocess.run(
                [*program, *shape], capture_output=True, text=True, env=environment
            )
            if done.returncode:
                raise RuntimeError(f"{name}: {done.stderr}")
            found[name] = float(done.stdout)
    return found


# --------------------------------------------------------------------- printing


def best_ratio(row):
    peers = (s for name, s in row["seconds"].items() if name != "convcore")
    return min(peers) / row["seconds"]["convcore"]


def print_header(versions):
    print(", ".join(versions))
    bound = "" if "OMP_PLACES" in os.environ else "not "
    print(f"OMP_WAIT_POLICY=PASSIVE; threads {bound}bound to CPUs; freed memory reused")
    print(LEGEND)
    print(f"{'network':14} {'n':>2} {'thr':>3}", end=" ")
    print(*(f"{title:>10}" for title in COLUMNS.values()), end=" ")
    print(f"{'best':>6} {'error':>8} {'CPUs':>5}", flush=True)


def print_row(row):
    millis = (row["seconds"].get(name) for name in COLUMNS)
    print(
        f"{row['network']:14} {row['batch']:2} {row['threads']:3}",
        *(f"{s * 1e3:10.3f}" if s else f"{'':10}" for s in millis),
        f"{best_ratio(row):6.2f} {row['errors']['convcore']:8.1e} {row['cpus']:5.1f}",
        flush=True,
    )
    for name, error in row["errors"].items():
        if not error <= LARGEST_ERROR:
            print(f"  error of {name}: {error:.1e}", flush=True)


def print_table(found):
    """Geometric means over threads and batches; returns them as data."""
    print(f"\n{'network':14}  rows     mean   lowest  target")
    table = []
    for network in NETWORKS:
        ratios = [best_ratio(r) for r in found if r["network"] == network.name]
        if not ratios:
            continue
        mean = math.exp(math.fsum(map(math.log, ratios)) / len(ratios))
        verdict = "ok" if mean >= network.target else "SHORT"
        print(
            f"{network.name:14} {len(ratios):5} {mean:8.2f} {min(ratios):8.2f}"
            f"  {network.target} {verdict}"
        )
        table.append(
            {
                "network": network.name,
                "rows": len(ratios),
                "mean": mean,
                "lowest": min(ratios),
                "target": network.target,
            }
        )
    return table


def print_residents(found):
    print(f"\nPeak resident memory, {RESIDENT}, batch 1, 1 thread: MB")
    for name, size in sorted(found.items(), key=lambda entry: entry[1]):
        print(f"{name:20} {size:8.1f}")


# ------------------------------------------------------------------ command line


def parse():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.infer", description=DESCRIPTION
    )

    def numbers(text):
        return [int(number) for number in text.split(",")]

    add = parser.add_argument
    add("--threads", type=numbers, default=[1, 2], help="thread counts (default: 1,2)")
    add("--batch", type=numbers, default=[1, 8], help="batch sizes (default: 1,8)")
    add("--seconds", type=float, default=4.0, help="time of a row (default: 4)")
    add("--repeats", type=int, default=5, help="samples of a figure at least")
    add("--quick", action="store_true", help="batch 1, half a second a row")
    add("--match", default="", help="only networks whose name has this")
    add("--no-memory", action="store_true", help="do not measure the peak memory")
    add("--json", metavar="FILE", type=Path, help="write every figure there, too")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.batch, arguments.seconds = [1], 0.5
    arguments.isa = None
    return arguments


def main():
    arguments = parse()
    arguments.cpus = cpus_of(max(arguments.threads))
    in_fair_environment("benchmarks.infer", arguments, arguments.cpus)
    from .runtimes import makers

    versions = list(dict.fromkeys(make(1).version for make in makers().values()))
    print_header(versions)
    found, memory = [], {}
    try:
        for network in NETWORKS:
            if arguments.match in network.name:
                for row in rows(network, arguments):
                    print_row(row)
                    found.append(row)
        if not arguments.no_memory:
            memory = residents()
    except KeyboardInterrupt:
        print("\ninterrupted: the tables are not complete")
    table = print_table(found)
    if memory:
        print_residents(memory)
    if arguments.json:
        result = {"versions": versions, "table": table, "resident MB": memory}
        arguments.json.write_text(json.dumps(result | {"rows": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
