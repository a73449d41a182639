"""The command `convcore`.

A subcommand is a function `run_<name>(arguments)` that returns its result: a
dict of JSON values, and the lines to print for people. What it says on the way
goes to standard error.
"""

import argparse
import json
import platform
import sys
import time
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Recipe:
    """How a network is trained when the command line does not say otherwise.

    SGD with Nesterov momentum; the learning rate rises during the share
    `warmup` of the time and then falls to 0 along a cosine.
    """

    epochs: int
    batch_size: int = 64
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 1e-3
    warmup: float = 0.1
    augment: tuple[str, ...] = ("shift",)


_CIFAR = Recipe(30, 128, lr=0.1, weight_decay=5e-4, augment=("crop", "flip"))
RECIPES = {
    "lenet5": Recipe(epochs=15),
    "resnet20_cifar": _CIFAR,
    "resnet56_cifar": _CIFAR,
}
DEMO = Recipe(epochs=40)
_CIFAR_SHAPE = (3, 32, 32)
_SHAPES = {  # of networks that are not for images of 224x224
    "lenet5": (1, 28, 28),
    "resnet20_cifar": _CIFAR_SHAPE,
    "resnet56_cifar": _CIFAR_SHAPE,
}


def main(argv=None):
    """Run the command line.

    Returns
    -------
    int
        Exit status: 0, 1 after an error (one line on stderr), 130 after Ctrl-C.
    """
    arguments = _parser().parse_args(argv)
    try:
        if getattr(arguments, "threads", None) is not None:
            from . import set_num_threads

            set_num_threads(arguments.threads)
        result, lines = arguments.run(arguments)
    except KeyboardInterrupt:
        print("convcore: interrupted", file=sys.stderr)
        return 130
    except (ImportError, OSError, TypeError, ValueError) as error:
        print(f"convcore: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    print(json.dumps(result) if arguments.json else "\n".join(lines))
    return 0


# ------------------------------------------------------------------ subcommands


def run_demo(arguments):
    from . import data

    train, test = data.digits()
    _say(f"LeNet-5 learns {len(train)} handwritten digits, a part of MNIST")
    return _train("lenet5", DEMO, train, test, arguments)


def run_train(arguments):
    from . import data

    names = ("epochs", "batch_size", "lr", "weight_decay")
    given = {name: getattr(arguments, name) for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    recipe = replace(RECIPES[arguments.network], **given)
    train, test = data.load(arguments.data)
    return _train(arguments.network, recipe, train, test, arguments)


def run_evaluate(arguments):
    from . import Model, data

    model = Model.load(arguments.model)
    _, test = data.load(arguments.data)
    result = model.evaluate(test)
    return result, [f"test loss {result['loss']:.4f}", _accuracy_line(result)]


def run_predict(arguments):
    import numpy as np

    from . import Model, data

    model = Model.load(arguments.model)
    channels, *size = model.input_shape
    if channels not in (1, 3) or len(size) != 2:
        raise ValueError(
            f"{arguments.model} takes inputs of shape {model.input_shape}, not images"
        )
    mode = "L" if channels == 1 else "RGB"
    images = [data.load_image(path, size, mode) for path in arguments.images]
    x = np.stack(images).astype(np.float32) / 255
    logits = model.predict(1 - x if arguments.invert else x)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    result = [
        {"image": path, "class": int(row.argmax()), "probability": float(row.max())}
        for path, row in zip(arguments.images, probabilities, strict=True)
    ]
    lines = [
        f"{r['image']}: {r['class']} ({100 * r['probability']:.2f} %)" for r in result
    ]
    return result, lines


def run_profile(arguments):
    import numpy as np

    from . import Model, models

    if arguments.network in models.__all__:
        shape = _SHAPES.get(arguments.network, (3, 224, 224))
        model = Model(getattr(models, arguments.network)(), shape)
    else:
        model = Model.load(arguments.network)
    rng, dtype = np.random.default_rng(0), model.dtype
    shapes = model.input_shape
    single = isinstance(shapes, tuple)
    x = [
        rng.standard_normal((arguments.batch_size, *shape)).astype(dtype)
        for shape in ([shapes] if single else shapes)
    ]
    profile = model.profile(x[0] if single else x, train=arguments.train)
    memory = model.memory_plan(arguments.batch_size, train=arguments.train)
    result = profile.as_dict() | {"memory": memory.as_dict()}
    return result, [str(profile), "", "memory:", str(memory)]


def run_info(arguments):
    import numpy as np

    from ._config import config, lines

    facts = config() | {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
    }
    return facts, lines(facts)


# ---------------------------------------------------------------------- helpers


def _train(network, recipe, train, test, arguments):
    from . import Model, models, optim

    shape = train.sample_shape
    module = getattr(models, network)(len(train.classes), in_channels=shape[0])
    model = Model(module, shape, seed=arguments.seed)
    start = time.perf_counter()
    model.fit(
        train,
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        optimizer=optim.SGD(
            recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=True
        ),
        schedule=optim.OneCycleLR(pct_start=recipe.warmup),
        augment=recipe.augment,
        checkpoint=arguments.checkpoint,
        resume=arguments.checkpoint is not None,
        progress=True,
    )
    seconds = time.perf_counter() - start
    result = model.evaluate(test)
    if arguments.save:
        model.save(arguments.save)
    facts = {
        "network": network,
        "seed": arguments.seed,
        "epochs": recipe.epochs,
        "seconds": round(seconds, 3),
        "file": arguments.save,
    }
    lines = [f"trained for {recipe.epochs} epochs in {seconds:.1f} s"]
    if arguments.save:
        lines.append(f"saved as {arguments.save}")
    return facts | result, [*lines, _accuracy_line(result)]


def _accuracy_line(result):
    return f"test accuracy {100 * result['accuracy']:.2f} %"


def _say(line):
    print(line, file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        """One line and status 1, where argparse has a usage and status 2."""
        self.exit(1, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def _parser():
    parser = _Parser(
        prog="convcore", description="Train and use convolutional networks on CPUs."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(run, summary):
        name = run.__name__.removeprefix("run_")
        command = commands.add_parser(name, help=summary, description=summary)
        command.set_defaults(run=run)
        command.add_argument("--json", action="store_true", help="print JSON")
        return command

    demo = add(run_demo, "Train LeNet-5 on the built-in handwritten digits.")
    _add_training(demo)
    train = add(run_train, "Train a network and test it.")
    train.add_argument("network", choices=RECIPES, help=", ".join(RECIPES))
    _add_data(train)
    for option, kind in (
        ("--epochs", int),
        ("--batch-size", int),
        ("--lr", float),
        ("--weight-decay", float),
    ):
        train.add_argument(option, type=kind, help="default: the network's recipe")
    _add_training(train)
    evaluate = add(run_evaluate, "Test a saved network.")
    _add_model(evaluate)
    _add_data(evaluate)
    _add_threads(evaluate)
    predict = add(run_predict, "Name the class of images (needs Pillow).")
    predict.add_argument("images", nargs="+", metavar="IMAGE")
    _add_model(predict)
    predict.add_argument(
        "--invert",
        action="store_true",
        help="swap black and white: MNIST is white on black",
    )
    _add_threads(predict)
    profile = add(run_profile, "Time each operator of a network.")
    profile.add_argument(
        "network", help="a file saved by convcore train --save, or a network's name"
    )
    profile.add_argument("--batch-size", type=int, default=8, help="default: 8")
    profile.add_argument(
        "--train", action="store_true", help="a training step, not a prediction"
    )
    _add_threads(profile)
    add(run_info, "Show versions, instruction set, threads and build.")
    return parser


def _add_data(command):
    command.add_argument(
        "--data",
        required=True,
        metavar="DIR",
        help="folder with the files of MNIST or CIFAR-10, or a folder per class",
    )


def _add_model(command):
    command.add_argument(
        "--model", required=True, metavar="FILE", help="saved by convcore train --save"
    )


def _add_threads(command):
    command.add_argument("--threads", type=int, help="default: every CPU")


def _add_training(command):
    command.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    command.add_argument("--save", metavar="FILE", help="save the model (safetensors)")
    command.add_argument(
        "--checkpoint",
        metavar="DIR",
        help="keep a checkpoint there, and go on from it if there is one",
    )
    _add_threads(command)
