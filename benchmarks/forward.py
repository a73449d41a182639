"""Forward convolution of well-known networks beside every peer at its best."""

from functools import partial

from .comparison import Class, Comparison, main

COLUMNS = {
    "convcore packed": "convcore",
    "convcore first": "plain",
    "torch first": "torch",
    "torch last": "t.last",
    "torch packed": "t.packed",
    "torch mkldnn": "t.mkldnn",
    "onnxruntime": "ort",
}
LEGEND = """\
us: convcore with packed weights, channels last, given output; plain: conv2d(x, w, b),
channels first; torch: the same; t.last: channels last; t.packed: channels last, packed
weights; t.mkldnn: packed weights, opaque tensors; ort: onnxruntime, bound arrays (it
cannot be held to an ISA and is left out then)
best: fastest peer / convcore; plain: torch / plain; CPUs: kept busy
LeNet layers come twice. As calls that users make, with arrays in and a new array out:
best is fastest peer / plain, ort is session.run(None, {"x": x}). Then prepared, as all
the others.
"""
PREPARED, CALL = "convcore packed", "convcore first"
LIKE_ALL = partial(Class, mean_avx2=0.95, own=PREPARED)
CLASSES = (
    LIKE_ALL("3x3 stride 1, C and K >= 32", "3x3", 2.5, 1.3, mean_avx2=1.5),
    LIKE_ALL("5x5 stride 1", "5x5", 1.6, 1.2),
    LIKE_ALL(
        "5x5 stride 1, precision high",
        "5x5",
        2.8,
        1.5,
        precision="high",
        mark="high",
        again=True,
    ),
    LIKE_ALL("1x1, and strided", "1x1, strided", 1.0, 0.85),
    LIKE_ALL("3 input channels", "3 channels", 1.05, 0.9),
    LIKE_ALL("depthwise", "depthwise", 1.1, 0.9),
    LIKE_ALL("LeNet-size call", "LeNet", 4.0, 3.0, own=CALL, mark="call", batches=(1,)),
    LIKE_ALL("LeNet-size call, prepared", "LeNet", again=True, batches=(1,)),
    LIKE_ALL("other layers", "other", mean_avx2=None),
)


def sides(class_, arguments, threads, cpus):
    from .prepacked import forward_sides

    runtime = "bound" if class_.own == PREPARED else "run"
    return forward_sides(
        threads, class_.precision, cpus, None if arguments.isa else runtime
    )


if __name__ == "__main__":
    main(
        Comparison(
            "benchmarks.forward",
            "Forward convolution",
            LEGEND,
            CLASSES,
            COLUMNS,
            sides,
            "convcore.conv2d beside torch.conv2d",
            1.5,
        )
    )
