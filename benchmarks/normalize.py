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
from .shapes import aligned

NORMS = (
    # ResNet's
    (8, 64, 112), (8, 64, 56), (8, 256, 56), (8, 128, 28), (8, 512, 28), (8, 256, 14),
    (8, 1024, 14), (8, 512, 7), (8, 2048, 7),
    # MobileNetV2's, and one of CIFAR-10
    (8, 96, 112), (8, 144, 56), (8, 960, 7), (128, 16, 32),
)  # fmt: skip
POOLS = (  # n, c, size, kernel, stride, padding, whether the output is rounded up
    (8, 64, 112, 3, 2, 1, False),  # ResNet's
    # VGG's
    (8, 64, 224, 2, 2, 0, False), (8, 128, 112, 2, 2, 0, False),
    (8, 256, 56, 2, 2, 0, False), (8, 512, 28, 2, 2, 0, False),
    (8, 512, 14, 2, 2, 0, False),
    # GoogLeNet's
    (8, 192, 56, 3, 2, 0, True), (8, 192, 28, 3, 1, 1, False),
    (8, 480, 14, 3, 1, 1, False), (8, 832, 7, 3, 1, 1, False),
    (8, 64, 55, 3, 2, 0, False),  # AlexNet's
    (64, 6, 28, 2, 2, 0, False), (64, 16, 10, 2, 2, 0, False),  # LeNet-5's
)  # fmt: skip
LAYOUTS = ("last", "first")
MEAN, LOWEST = {"last": 1.7, "first": 4.0}, 1.15  # targets


def drawn(*shape):
    array = aligned(shape)
    array[...] = np.random.default_rng(0).standard_normal(shape, np.float32)
    return array


def ordered(x, layout):
    """Dense memory of an array (N, C, H, W) as the kernels see it."""
    moved = np.moveaxis(x, 1, -1) if layout == "last" else x
    result = aligned(moved.shape)
    result[...] = moved
    return result


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
    y, dx = aligned(own.shape), aligned(own.shape)
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


def pool_calls(torch, layout, threads, n, c, size, kernel, stride, padding, up):
    from convcore import _core

    room = size + 2 * padding - kernel
    out = (room + (stride - 1) * up) // stride + 1
    after = (out - 1) * stride + kernel - size - padding
    axes = [(1, a, a) for a in (size, out, kernel, stride)]
    before, after = (0, padding, padding), (0, max(after, 0), max(after, 0))
    pool = _core.Pool(
        *("float32", layout, "max", n, c, *axes, before, after, (1, 1, 1)),
        index_dtype="uint8",
    )
    x, dy = drawn(n, c, size, size), drawn(n, c, out, out)
    own, grad = ordered(x, layout), ordered(dy, layout)
    y, dx = aligned(grad.shape), aligned(own.shape)
    indices = np.empty(grad.shape, np.uint8)
    inputs, upstream = tensor(torch, x, layout), tensor(torch, dy, layout).detach()
    max_pool2d = torch.nn.functional.max_pool2d

    def forward():
        return max_pool2d(inputs, kernel, stride, padding, ceil_mode=up)

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


def mean_of(ratios):
    return math.exp(math.fsum(map(math.log, ratios)) / len(ratios))


def print_means(rows):
    """By operator, layout and pass; a target is that of each line."""
    print(f"\n{'ratio to torch':46}{'rows':>6}{'mean':>7} {'target':10}{'lowest':>7}")
    keys = [(r["kind"], r["layout"], r["pass"]) for r in rows]
    keys += [("both", r["layout"], "") for r in rows]
    for kind, layout, pass_ in dict.fromkeys(keys):
        own = [r for r in rows if r["layout"] == layout]
        if pass_:
            own = [r for r in own if (r["kind"], r["pass"]) == (kind, pass_)]
        lowest = min(own, key=lambda r: r["ratio"])
        mean = mean_of([r["ratio"] for r in own])
        cells = "".join(
            f"{value:7.2f} {verdict(value, target):10}"
            for value, target in ((mean, MEAN[layout]), (lowest["ratio"], LOWEST))
        )
        name = f"{kind}, channels {layout} {pass_}"
        print(f"{name:46}{len(own):6}{cells}{lowest['case']} {lowest['pass']}")


def verdict(value, target):
    return f"{target} {'ok' if value >= target else 'SHORT'}"


def parse():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.normalize", description=__doc__
    )
    add = parser.add_argument
    add("--threads", type=int, default=1)
    add("--seconds", type=float, default=0.3, help="time of a row (default: 0.3)")
    add("--match", default="", help="only rows that have this")
    add("--json", metavar="FILE", type=Path, help="write every figure there, too")
    return parser.parse_args()


def main():
    arguments = parse()
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
            text = f"{kind}, channels {layout} {case}"
            if arguments.match not in text:
                continue
            for pass_, sides in calls(torch, layout, threads, *case).items():
                times = measure(sides, 5, arguments.seconds)
                ratio = times["torch"] / times["convcore"]
                row = {"kind": kind, "layout": layout, "pass": pass_, "case": case}
                rows.append(row | {"seconds": times, "ratio": ratio})
                cells = (f"{times[name] * 1e6:10.1f}" for name in ("convcore", "torch"))
                print(f"{f'{text} {pass_}':74}", *cells, f"{ratio:6.2f}", flush=True)
    print_means(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
