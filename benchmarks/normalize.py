"""Batch norm + ReLU and max pooling beside torch: `python -m benchmarks.normalize`.

Training, forward and backward, as the steps of a plan compute them: into arrays that
are there, with one-byte indices of the maxima; the ReLU of torch works in place. A
ratio is the time of torch divided by that of convcore, in the same memory layout. The
sides take turns; a figure is the median of 5 samples or more.
"""

import argparse
import json
import math
from itertools import product
from pathlib import Path

import numpy as np

from .comparison import cpus_of, in_fair_environment

NORMS = (
    (8, 64, 112), (8, 64, 56), (8, 256, 56), (8, 128, 28), (8, 512, 28), (8, 256, 14),
    (8, 1024, 14), (8, 512, 7), (8, 2048, 7), (128, 16, 32),
)  # fmt: skip
POOLS = (  # n, c, size, kernel, stride, padding
    (64, 6, 28, 2, 2, 0), (64, 16, 10, 2, 2, 0), (8, 64, 112, 3, 2, 1),
    (4, 64, 224, 2, 2, 0), (4, 256, 56, 2, 2, 0), (8, 192, 56, 3, 2, 0),
    (8, 480, 14, 3, 1, 1), (8, 64, 55, 3, 2, 0),
)  # fmt: skip
LAYOUTS = ("last", "first")


def drawn(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def ordered(x, layout):
    """Dense memory of an array (N, C, H, W) as the kernels see it."""
    return np.ascontiguousarray(np.moveaxis(x, 1, -1) if layout == "last" else x)


def tensor(torch, x, layout):
    order = torch.channels_last if layout == "last" else torch.contiguous_format
    return torch.from_numpy(x).contiguous(memory_format=order).requires_grad_()


def norm_calls(torch, layout, threads, n, c, size):
    """Forward and backward of both sides."""
    from convcore import _core

    shape = n, c, size, size
    x, dy = drawn(*shape), drawn(*shape)
    weight, bias, mean, var, dw, db = np.ones((6, c), np.float32)
    options = {"training": True, "eps": 1e-5, "activation": "relu"}
    norm = _core.BatchNorm("float32", layout, n, c, size * size, **options)
    own, grad = ordered(x, layout), ordered(dy, layout)
    y, dx = np.empty_like(own), np.empty_like(own)
    parameters = [torch.ones(c).requires_grad_() for _ in range(2)]
    batch_norm = torch.nn.functional.batch_norm
    inputs, upstream = tensor(torch, x, layout), tensor(torch, dy, layout).detach()

    def forward():
        return torch.relu_(batch_norm(inputs, None, None, *parameters, True))

    result = forward()
    variables = (inputs, *parameters)
    backward = norm.backward
    return {
        "forward": {
            "convcore": lambda: norm.forward(
                own, weight, bias, None, None, None, y, mean, var, threads
            ),
            "torch": forward,
        },
        "backward": {
            "convcore": lambda: backward(
                grad, own, None, weight, bias, mean, var, dx, dw, db, None, threads
            ),
            "torch": lambda: torch.autograd.grad(
                result, variables, upstream, retain_graph=True
            ),
        },
    }


def pool_calls(torch, layout, threads, n, c, size, kernel, stride, padding):
    from convcore import _core

    out = (size + 2 * padding - kernel) // stride + 1
    axes = [(1, a, a) for a in (size, out, kernel, stride)]
    padded = (0, padding, padding)
    pool = _core.Pool(
        *("float32", layout, "max", n, c, *axes, padded, padded, (1, 1, 1)),
        index_dtype="uint8",
    )
    x, dy = drawn(n, c, size, size), drawn(n, c, out, out)
    own, grad = ordered(x, layout), ordered(dy, layout)
    y, indices, dx = (
        np.empty_like(grad),
        np.empty(grad.shape, np.uint8),
        np.empty_like(own),
    )
    inputs, upstream = tensor(torch, x, layout), tensor(torch, dy, layout).detach()

    def forward():
        return torch.nn.functional.max_pool2d(inputs, kernel, stride, padding)

    result = forward()
    return {
        "forward": {
            "convcore": lambda: pool.forward(own, y, indices, threads),
            "torch": forward,
        },
        "backward": {
            "convcore": lambda: pool.backward(grad, indices, dx, threads),
            "torch": lambda: torch.autograd.grad(
                result, inputs, upstream, retain_graph=True
            ),
        },
    }


def main():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.normalize", description=__doc__
    )
    add = parser.add_argument
    add("--threads", type=int, default=1)
    add("--seconds", type=float, default=0.3, help="time of a row (default: 0.3)")
    add("--json", metavar="FILE", type=Path, help="write every figure there, too")
    arguments = parser.parse_args()
    threads, arguments.isa = arguments.threads, None
    arguments.threads = [threads]
    in_fair_environment("benchmarks.normalize", arguments, cpus_of(threads))
    import torch

    from .measure import measure

    torch.set_num_threads(threads)
    kinds = (("batch norm + ReLU", norm_calls, NORMS), ("max pool", pool_calls, POOLS))
    rows = []
    print(f"{threads} thread(s); us{'convcore':>70}{'torch':>10}{'ratio':>7}")
    for (kind, calls, cases), layout in product(kinds, LAYOUTS):
        for case in cases:
            for pass_, sides in calls(torch, layout, threads, *case).items():
                times = measure(sides, 5, arguments.seconds)
                ratio = times["torch"] / times["convcore"]
                row = {"kind": kind, "layout": layout, "pass": pass_, "case": case}
                rows.append(row | {"seconds": times, "ratio": ratio})
                text = f"{kind}, channels {layout}, {pass_} {case}"
                cells = (f"{times[name] * 1e6:10.1f}" for name in ("convcore", "torch"))
                print(f"{text:74}", *cells, f"{ratio:6.2f}", flush=True)
    print(f"\n{'ratio to torch':48}{'mean':>8}{'lowest':>8}")
    keys = dict.fromkeys((r["kind"], r["layout"], r["pass"]) for r in rows)
    for key in keys:
        found = [r["ratio"] for r in rows if (r["kind"], r["layout"], r["pass"]) == key]
        mean = math.exp(math.fsum(map(math.log, found)) / len(found))
        print(f"{', channels '.join(key[:2]) + ', ' + key[2]:48}", end="")
        print(f"{mean:8.2f}{min(found):8.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
