"""Gradients of convolutions of well-known networks beside torch's best layout."""

from .comparison import Class, Comparison, main

COLUMNS = {
    "convcore": "convcore",
    "convcore first": "plain",
    "torch first": "torch",
    "torch last": "t.last",
}
LEGEND = """\
data: gradient of the images; weight: of the weights and the bias
us: convcore as a training step runs it: channels last, plain weights, given result;
plain: conv2d_backward(dy, x, w), channels first; torch: convolution_backward, the same;
t.last: channels last, weights too
best: faster torch / convcore; plain: torch / plain; CPUs: kept busy
"""
TARGETS = {  # of data, of weight
    "3x3": (2.6, 2.3),
    "1x1, strided": (1.05, 1.05),
    "3 channels": (None, 1.3),
    "LeNet": (1.8, 1.8),
    "depthwise": (1.2, 1.2),
    "5x5": (None, None),
    "other": (None, None),
}
CLASSES = tuple(
    Class(
        f"{kind}: gradient of {of}",
        kind,
        means[i],
        direction=f"backward_{of}",
        mark=of,
        batches=(1, 8, 64) if kind == "LeNet" else None,
    )
    for i, of in enumerate(("data", "weight"))
    for kind, means in TARGETS.items()
)


def sides(class_, arguments, threads, cpus):
    from .peers import Convcore, Torch
    from .prepacked import ConvcoreStep

    return [
        ConvcoreStep(threads, class_.precision),
        Convcore("first", threads),
        Torch("first", threads),
        Torch("last", threads),
    ]


if __name__ == "__main__":
    main(
        Comparison(
            "benchmarks.backward",
            "Gradients of convolutions",
            LEGEND,
            CLASSES,
            COLUMNS,
            sides,
            "conv2d_backward beside torch's convolution_backward",
        )
    )
