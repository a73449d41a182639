"""Tables of learned rows."""

import numpy as np

from .. import functional as F
from ..graph import Parameter
from ..ops.window import integer
from .module import Module

__all__ = ["Embedding"]


class Embedding(Module):
    """Rows of a table by their numbers, as torch.nn.Embedding.

    The rows are drawn from the uniform distribution whose variance is 1.
    """

    def __init__(self, num_embeddings, embedding_dim, padding_idx=None):
        num_embeddings = integer(num_embeddings, "num_embeddings", 1)
        embedding_dim = integer(embedding_dim, "embedding_dim", 1)
        self.padding_idx = padding_idx
        self.weight = Parameter(
            shape=(num_embeddings, embedding_dim), bound=float(np.sqrt(3))
        )

    def forward(self, x):
        return F.embedding(x, self.weight, self.padding_idx)
