"""Forward convolution of well-known networks beside every peer at its best.

A ratio is the time of the fastest peer divided by that of convcore: above 1,
convcore is faster. All sides have the same data, threads and CPUs, take turns in
one process, and a figure is the median of 5 samples or more. Ctrl-C ends the
measuring, not the program: the tables show what there is.
"""

import argparse
import json
import math
import os
import sys
from pathlib import Path
from time import perf_counter, process_time
from typing import NamedTuple

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
COLUMNS = {  # of the sides
    "convcore packed": "convcore",
    "convcore first": "plain",
    "torch first": "torch",
    "torch last": "t.last",
    "torch packed": "t.packed",
    "torch mkldnn": "t.mkldnn",
    "onnxruntime": "ort",
}
ROW = "{:12} {:42} {:34} {:>3} {:8}" + " {:>9}" * len(COLUMNS) + " {:>6} {:>6} {:>5}"
LEGEND = """\
us: convcore with packed weights, channels last, given output; plain: conv2d(x, w, b),
channels first; torch: the same; t.last: channels last; t.packed: channels last, packed
weights; t.mkldnn: packed weights, opaque tensors; ort: onnxruntime, bound arrays
best: fastest peer / convcore; plain: torch / plain; CPUs: kept busy
LeNet layers come twice. As calls that users make, with arrays in and a new array out:
best is fastest peer / plain, ort is session.run(None, {"x": x}). Then prepared, as all
the others.
"""
LARGEST_ERROR = {"highest": 3e-6, "high": 2e-5}
PLAIN_MEAN = 1.5


class Class(NamedTuple):
    """Layers of a kind, and the ratios they are to reach: mean, lowest, with AVX2."""

    title: str
    kind: str
    mean: float | None = None
    lowest: float | None = None
    mean_avx2: float | None = 0.95
    precision: str = "highest"
    prepared: bool = True  # or as users call it, with a new array as result

    @property
    def own(self):
        return "convcore packed" if self.prepared else "convcore first"

    @property
    def short(self):
        high = " high" if self.precision == "high" else ""
        return self.kind + high + ("" if self.prepared else " call")


CLASSES = (
    Class("3x3 stride 1, C and K >= 32", "3x3", 2.5, 1.3, 1.5),
    Class("5x5 stride 1", "5x5", 1.6, 1.2),
    Class("5x5 stride 1, precision high", "5x5", 2.8, 1.5, precision="high"),
    Class("1x1, and strided", "1x1, strided", 1.0, 0.85),
    Class("3 input channels", "3 channels", 1.05, 0.9),
    Class("depthwise", "depthwise", 1.1, 0.9),
    Class("LeNet-size call", "LeNet", 4.0, 3.0, prepared=False),
    Class("LeNet-size call, prepared", "LeNet"),
    Class("other layers", "other", mean_avx2=None),
)
BY_TITLE = {class_.title: class_ for class_ in CLASSES}


# -------------------------------------------------------------------- measuring


def cases(layers, batches):
    """Class and layer with its batch size, class by class."""
    from .networks import kind_of

    return [
        (class_, layer._replace(n=n))
        for class_ in CLASSES
        for layer in layers
        if kind_of(layer) == class_.kind
        for n in (batches if class_.kind != "LeNet" else [1])
    ]


def rows(arguments, chosen, cpus):
    from .measure import measure
    from .prepacked import errors, exact_images, forward_sides

    for class_, layer in chosen:
        exact = exact_images(layer)
        for threads in arguments.threads:
            # onnxruntime cannot be held to an ISA.
            runtime = None if arguments.isa else "bound" if class_.prepared else "run"
            sides = forward_sides(threads, class_.precision, cpus, runtime)
            calls = {side.name: side.prepare(layer, "forward") for side in sides}
            found = errors(calls, *exact)
            begin, busy = perf_counter(), process_time()
            seconds = measure(calls, arguments.repeats, arguments.seconds)
            yield {
                "class": class_.title,
                "layer": f"{layer.net} {layer.name}",
                "shape": str(layer),
                "threads": threads,
                "flops": layer.flops,
                "algorithm": sides[0].describe(layer).choose("forward"),
                "cpus": (process_time() - busy) / (perf_counter() - begin),
                "errors": found,
                "seconds": seconds,
            }


def best_ratio(row):
    peers = [s for name, s in row["seconds"].items() if not name.startswith("convcore")]
    return min(peers) / row["seconds"][BY_TITLE[row["class"]].own]


def plain_ratio(row):
    return row["seconds"]["torch first"] / row["seconds"]["convcore first"]


# ---------------------------------------------------------------------- printing


def print_header(arguments, count, conditions):
    print(", ".join(conditions["versions"]))
    print(f"ISA {conditions['isa']}; layers of {conditions['shapes']}, with bias")
    if arguments.isa:
        print("onnxruntime cannot be held to an ISA: left out")
    print(
        f"{count} rows of {arguments.seconds} s: {count * arguments.seconds / 60:.0f}"
        f" min, more where {arguments.repeats} samples of each side take longer"
    )
    bound = "" if "OMP_PLACES" in os.environ else "not "
    print(f"OMP_WAIT_POLICY=PASSIVE; threads {bound}bound to CPUs; freed memory reused")
    print(LEGEND)
    titles = *COLUMNS.values(), "best", "plain", "CPUs"
    print(ROW.format("class", "layer", "shape", "thr", "runs", *titles))


def print_row(row):
    class_ = BY_TITLE[row["class"]]
    micros = (row["seconds"].get(name) for name in COLUMNS)
    print(
        ROW.format(
            class_.short,
            row["layer"],
            row["shape"],
            row["threads"],
            row["algorithm"],
            *(f"{s * 1e6:.1f}" if s else "" for s in micros),
            f"{best_ratio(row):.2f}",
            f"{plain_ratio(row):.2f}",
            f"{row['cpus']:.1f}",
        ),
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
        f"{title:30} {len(rows):5} {mean:8.2f}  {verdict(mean, mean_target):10}"
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


def print_tables(rows, isa):
    """By class: beside the best peer, then plain calls. Returns them as data."""
    head = f"\n{'':30}  rows     mean  target       lowest  target"
    by_class = {}
    for row in rows:
        by_class.setdefault(row["class"], []).append(row)

    print(f"\nGeometric mean, and lowest ratio to the best peer{head}")
    best = []
    for title, own in by_class.items():
        class_ = BY_TITLE[title]
        targets = (class_.mean_avx2,) if isa else (class_.mean, class_.lowest)
        best.append(summary(title, own, best_ratio, *targets))

    print(f"\nconvcore.conv2d beside torch.conv2d, nothing prepared{head}")
    for again in ("5x5 stride 1, precision high", "LeNet-size call, prepared"):
        by_class.pop(again, None)  # the same layers
    plain = [summary(title, own, plain_ratio) for title, own in by_class.items()]
    if all_rows := [row for own in by_class.values() for row in own]:
        target = None if isa else PLAIN_MEAN
        plain.append(summary("all layers", all_rows, plain_ratio, target))

    # Small layers sleep and wake; large ones keep their CPUs busy.
    idle = [r for r in rows if r["flops"] > 1e8 and r["cpus"] < 0.8 * r["threads"]]
    if idle:
        print(f"\n{len(idle)} of {len(rows)} rows had too little CPU: a busy machine?")
    return {"best": best, "plain": plain}


# ------------------------------------------------------------------ command line


def parse():
    from .networks import SHAPES

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.forward", description=__doc__
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


def in_fair_environment(arguments, cpus):
    """Start again where the environment, which libraries read once, is another."""
    wanted = fair_environment(max(arguments.threads))
    wanted["GLIBC_TUNABLES"] = ":".join(f"glibc.malloc.{s}" for s in MEMORY.split())
    if cpus:  # a scheduler may keep threads that sleep between calls on one CPU
        wanted["OMP_PROC_BIND"] = "true"
        wanted["OMP_PLACES"] = ",".join(f"{{{cpu}}}" for cpu in cpus)
    if arguments.isa:
        wanted |= AVX2
    if wanted != dict(os.environ):
        module = [sys.executable, "-m", "benchmarks.forward"]
        os.execve(sys.executable, [*module, *sys.argv[1:]], wanted)


def main():
    arguments = parse()
    cpus = cpus_of(max(arguments.threads))
    in_fair_environment(arguments, cpus)
    try:
        import torch
    except ImportError:
        raise SystemExit("this compares with torch, which is not installed") from None
    from convcore._config import config

    from .networks import kind_of, network_layers, quick
    from .prepacked import forward_sides

    layers = network_layers(arguments.shapes)
    layers = [
        layer
        for layer in (quick(layers) if arguments.quick else layers)
        if arguments.match in f"{layer.net} {layer.name} {kind_of(layer)}"
    ]
    chosen = cases(layers, arguments.batch)
    absent = f"the built-in list ({arguments.shapes} is absent)"
    sides = forward_sides(1, "highest", cpus, None if arguments.isa else "bound")
    conditions = {
        "isa": config()["isa"],
        "shapes": str(arguments.shapes) if arguments.shapes.exists() else absent,
        "versions": list(dict.fromkeys(side.version for side in sides)),
    }
    print_header(arguments, len(chosen) * len(arguments.threads), conditions)
    found = []
    try:
        with torch.inference_mode():
            for row in rows(arguments, chosen, cpus):
                print_row(row)
                found.append(row)
    except KeyboardInterrupt:
        print("\ninterrupted: the tables are not complete")
    tables = print_tables(found, arguments.isa)
    if arguments.json:
        result = conditions | {"tables": tables, "rows": found}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
