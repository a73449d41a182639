"""Losses of (output, target), for `Model.fit`."""

from .. import functional as F
from .module import FunctionModule

__all__ = [
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "L1Loss",
    "MSELoss",
    "NLLLoss",
    "SmoothL1Loss",
]


class CrossEntropyLoss(FunctionModule):
    """Softmax cross-entropy of (logits, target)."""

    function = F.cross_entropy

    def __init__(self, ignore_index=-100, reduction="mean", label_smoothing=0.0):
        super().__init__(
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=label_smoothing,
        )


class NLLLoss(FunctionModule):
    """Negative log likelihood of (logarithms of probabilities, target)."""

    function = F.nll_loss

    def __init__(self, ignore_index=-100, reduction="mean"):
        super().__init__(ignore_index=ignore_index, reduction=reduction)


class MSELoss(FunctionModule):
    """Squared differences, as torch.nn.MSELoss."""

    function = F.mse_loss

    def __init__(self, reduction="mean"):
        super().__init__(reduction=reduction)


class L1Loss(FunctionModule):
    """Magnitudes of differences, as torch.nn.L1Loss."""

    function = F.l1_loss

    def __init__(self, reduction="mean"):
        super().__init__(reduction=reduction)


class SmoothL1Loss(FunctionModule):
    """Differences, squared where they are small, as torch.nn.SmoothL1Loss."""

    function = F.smooth_l1_loss

    def __init__(self, reduction="mean", beta=1.0):
        super().__init__(reduction=reduction, beta=beta)


class BCEWithLogitsLoss(FunctionModule):
    """Cross-entropy of log odds and probabilities, as torch.nn.BCEWithLogitsLoss."""

    function = F.binary_cross_entropy_with_logits

    def __init__(self, reduction="mean"):
        super().__init__(reduction=reduction)
