"""The benchmark of learning curves, a few steps of it."""

import numpy as np
import pytest

from convcore import Model, models
from convcore.data import ArrayDataset

pytest.importorskip("torch")
from benchmarks import cifar_curves


def test_both_sides_do_the_same(rng):
    """From the same weights: the order, augmentation, schedule and optimizer agree."""
    y = np.arange(256) % 10
    x = rng.integers(0, 256, (256, 3, 32, 32), np.uint8)
    train, validation = ArrayDataset(x, y), ArrayDataset(x[:32], y[:32])
    start = Model(models.resnet20_cifar(), train.sample_shape, seed=0)
    ours = cifar_curves.ours(train, validation, 0)
    theirs = cifar_curves.theirs(train, validation, 0, start)
    assert len(ours["loss"]) == cifar_curves.EPOCHS
    for name in ("loss", "val_loss"):
        assert ours[name] == pytest.approx(theirs[name], rel=0.02)
