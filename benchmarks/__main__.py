"""Print one table: convcore beside NumPy, torch and onnxruntime, layer by layer."""

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path

from .environment import dropped_settings, fair_environment

PEERS = ("numpy", "torch", "onnxruntime")
ROW = "{:24} {:32} {:15} {:>9} {:>8} {:>9}" + " {:>11}" * len(PEERS)


def best(seconds, peer):
    """Time of a peer: the faster of its memory layouts; None where it has none."""
    return min(
        (s for name, s in seconds.items() if name.split()[0] == peer), default=None
    )


def ratio(row, peer):
    """How many times as long the peer takes; None where it has no figure."""
    seconds = best(row["seconds"], peer)
    return seconds and seconds / row["seconds"]["convcore last"]


def print_row(row):
    own = row["seconds"]["convcore last"]
    print(
        ROW.format(
            row["layer"],
            row["shape"],
            row["pass"],
            f"{own * 1e3:.3f}",
            f"{row['flops'] / own / 1e9:.1f}" if row["flops"] else "",
            f"{row['seconds']['convcore first'] * 1e3:.3f}",
            *(f"{r:.2f}" if (r := ratio(row, peer)) else "" for peer in PEERS),
        ),
        flush=True,
    )


def print_means(rows):
    for kind in ("conv", "pool"):
        for pass_ in dict.fromkeys(row["pass"] for row in rows if row["kind"] == kind):
            chosen = [r for r in rows if (r["kind"], r["pass"]) == (kind, pass_)]
            _print_mean(f"geometric mean, {kind}", pass_, chosen)
        chosen = [row for row in rows if row["kind"] == kind]
        _print_mean(f"geometric mean, {kind}", "all passes", chosen)
        _print_mean(f"lowest, {kind}", "all passes", chosen, summary=min)


def _geometric_mean(values):
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def _print_mean(title, pass_, rows, summary=_geometric_mean):
    cells = []
    for peer in PEERS:
        ratios = [r for row in rows if (r := ratio(row, peer))]
        cells.append(f"{summary(ratios):.2f}" if ratios else "")
    print(ROW.format(title, f"{len(rows)} rows", pass_, "", "", "", *cells))


def run(threads, repeats, quick):
    """Measure in a process of its own; print and return what it finds."""
    command = [sys.executable, "-m", "benchmarks.measure"]
    process = subprocess.Popen(
        [*command, str(threads), str(repeats), str(int(quick))],
        env=fair_environment(threads),
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        lines = map(json.loads, process.stdout)
        conditions = next(lines, None)
        rows = []
        if conditions:
            print_header(conditions)
        for row in lines:
            print_row(row)
            rows.append(row)
    if process.returncode:
        raise SystemExit(f"measuring with {threads} threads failed")
    print_means(rows)
    print()
    return conditions | {"rows": rows}


def print_header(conditions):
    print(", ".join(conditions["versions"]))
    print(
        f"{conditions['threads']} thread(s), ISA {conditions['isa']}, median of"
        f" {conditions['repeats']}, sides taking turns, OMP_WAIT_POLICY=PASSIVE"
    )
    if dropped := dropped_settings():
        print("left out of the environment, for NumPy's sake:", ", ".join(dropped))
    print(
        "ms: convcore, channels last (GFLOP/s) and channels first; then time of the"
        " peer, in the faster\nof its layouts, divided by that of convcore, channels"
        " last: above 1, convcore is faster\n"
    )
    print(ROW.format("layer", "shape", "pass", "ms", "GFLOP/s", "ms first", *PEERS))


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--threads",
        default="1",
        help="thread counts, separated by commas (default: %(default)s)",
    )
    parser.add_argument(
        "--repeats", type=int, default=7, help="samples per figure, 5 or more"
    )
    parser.add_argument("--quick", action="store_true", help="six layers only")
    parser.add_argument("--json", metavar="FILE", help="write every figure there, too")
    arguments = parser.parse_args()
    if arguments.repeats < 5:
        parser.error(f"--repeats must be 5 or more, got {arguments.repeats}")
    results = [
        run(int(threads), arguments.repeats, arguments.quick)
        for threads in arguments.threads.split(",")
    ]
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
