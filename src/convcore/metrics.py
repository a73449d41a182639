"""Losses by name, and figures of merit."""

import numpy as np

from . import functional as F

LOSSES = {
    "cross_entropy": F.cross_entropy,
    "nll": F.nll_loss,
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "smooth_l1": F.smooth_l1_loss,
    "binary_cross_entropy_with_logits": F.binary_cross_entropy_with_logits,
}


def loss_function(loss):
    """The function (output, target) of a name; a function is its own."""
    if callable(loss):
        return loss
    if loss not in LOSSES:
        names = ", ".join(map(repr, LOSSES))
        raise ValueError(f"loss must be a function or among {names}, got {loss!r}")
    return LOSSES[loss]


def correct(output, target):
    """Number of rows whose largest output is the target's; None where rows have
    no class.

    Parameters
    ----------
    output : (N, classes) ndarray
    target : (N,) ndarray of int
    """
    if output.ndim != 2 or target.ndim != 1 or target.dtype.kind != "i":
        return None
    return int(np.count_nonzero(output.argmax(axis=1) == target))


class Mean:
    """Loss and accuracy over the samples of several batches."""

    def __init__(self, samples=0, loss=0.0, correct=0):
        self.samples = samples
        self.loss = loss
        self.correct = correct

    def add(self, loss, output, target):
        """Count a batch with this mean loss."""
        n = len(target)
        self.samples += n
        self.loss += float(loss) * n
        hits = correct(output, target)
        self.correct = None if hits is None else self.correct + hits

    def result(self):
        """The means: {"loss": ..., "accuracy": ...}, NaN without samples.

        The accuracy is left out where samples have no class.
        """
        n = self.samples or float("nan")
        if self.correct is None:
            return {"loss": self.loss / n}
        return {"loss": self.loss / n, "accuracy": self.correct / n}
