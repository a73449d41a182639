"""Losses of (output, target), for `Model.fit`."""

from .. import functional as F
from .module import FunctionModule

__all__ = ["CrossEntropyLoss"]


class CrossEntropyLoss(FunctionModule):
    """Softmax cross-entropy of (logits, target)."""

    function = F.cross_entropy

    def __init__(self, ignore_index=-100, reduction="mean", label_smoothing=0.0):
        super().__init__(
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=label_smoothing,
        )
