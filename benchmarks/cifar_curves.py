"""Learning curves of ResNet-20 on CIFAR-10, convcore's beside torch's.

`python -m benchmarks.cifar_curves FOLDER --json FILE`: the same recipe with several
seeds on both sides. Order and augmentation of the images are the same for one seed;
the first weights are drawn by each side as it does it. FOLDER holds a folder of
images per class, the last tenth of each of which is validation, or CIFAR-10's files.
"""

import argparse
import json
from pathlib import Path

import numpy as np

EPOCHS, BATCH, LR, MOMENTUM, DECAY = 3, 128, 0.1, 0.9, 5e-4
AUGMENT = ("crop", "flip")
COLUMNS = ("loss", "accuracy", "val_loss", "val_accuracy")


def ours(train, validation, seed):
    """Figures of each epoch: dict of name -> list."""
    from convcore import Model, models, optim

    model = Model(models.resnet20_cifar(), train.sample_shape, seed=seed)
    return model.fit(
        train,
        validation=validation,
        epochs=EPOCHS,
        batch_size=BATCH,
        optimizer=optim.SGD(LR, MOMENTUM, weight_decay=DECAY, nesterov=True),
        schedule=optim.OneCycleLR(),
        augment=AUGMENT,
        progress=False,
    )


def theirs(train, validation, seed, start=None):
    """The same by torch; without a model to start from, with weights that it draws."""
    import torch

    from convcore import optim

    from . import torch_twins

    torch.manual_seed(seed)
    twin = torch_twins.make("resnet20_cifar")
    for layer in twin.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight, mode="fan_out")
    if start is not None:
        torch_twins.copy(start, twin)
    twin = twin.float().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        twin.parameters(), LR, MOMENTUM, weight_decay=DECAY, nesterov=True
    )
    schedule, steps = optim.OneCycleLR(), train.steps(BATCH)
    history = {name: [] for name in COLUMNS}

    def means(dataset, learn, **options):
        sums = np.zeros(2)
        for step, (x, y) in enumerate(dataset.batches(BATCH, **options)):
            x, y = torch.from_numpy(x), torch.from_numpy(y)
            x = x.contiguous(memory_format=torch.channels_last)
            with torch.set_grad_enabled(learn):
                loss, output = torch_twins.loss(twin.train(learn), x, y)
            sums += len(y) * loss.item(), (output.argmax(1) == y).sum().item()
            if learn:
                time = options["epoch"] + step / steps
                optimizer.param_groups[0]["lr"] = LR * schedule(time, EPOCHS)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return sums / len(dataset)

    for epoch in range(EPOCHS):
        options = {"seed": seed, "epoch": epoch, "augment": AUGMENT}
        figures = (*means(train, True, **options), *means(validation, False))
        for name, figure in zip(COLUMNS, figures, strict=True):
            history[name].append(float(figure))
    return history


def parts(folder, samples):
    """Training and validation set; `samples` limits the first, evenly."""
    from convcore import data

    train, validation = data.load(folder)
    if samples and samples < len(train):
        train = train.subset(np.arange(samples) * len(train) // samples)
    return train, validation


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cifar_curves")
    add = parser.add_argument
    add("folder", type=Path)
    add("--seeds", type=int, default=3, help="seeds of each side (default: 3)")
    add("--samples", type=int, help="train on so many images (default: all)")
    add("--json", type=Path, metavar="FILE", help="write the curves there, too")
    arguments = parser.parse_args()
    train, validation = parts(arguments.folder, arguments.samples)
    print(f"{len(train)} training images, {len(validation)} of validation")
    print(f"{'side':10} {'seed':>4} {'epoch':>5}", *(f"{n:>12}" for n in COLUMNS))
    curves = []
    for seed in range(arguments.seeds):
        for side, run in (("convcore", ours), ("torch", theirs)):
            history = run(train, validation, seed)
            figures = {name: history[name] for name in COLUMNS}
            curves.append({"side": side, "seed": seed} | figures)
            for epoch, values in enumerate(zip(*figures.values(), strict=True), 1):
                texts = (f"{value:12.4f}" for value in values)
                print(f"{side:10} {seed:4} {epoch:5}", *texts, flush=True)
            if arguments.json:
                recipe = f"ResNet-20, {EPOCHS} epochs, batch {BATCH}, SGD {LR} Nesterov"
                result = {"recipe": recipe, "images": len(train), "curves": curves}
                arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
