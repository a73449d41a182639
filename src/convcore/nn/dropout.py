"""Dropout."""

from .. import functional as F
from .module import Module

__all__ = ["Dropout"]


class Dropout(Module):
    """Set elements to 0 with probability p in training, as torch.nn.Dropout."""

    def __init__(self, p=0.5, inplace=False):
        self.p = p

    def forward(self, x):
        return F.dropout(x, self.p, self.training)
