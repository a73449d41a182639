"""Other shapes of the same elements."""

from .. import functional as F
from .module import FunctionModule

__all__ = ["Flatten"]


class Flatten(FunctionModule):
    """Make dimensions start_dim..end_dim one."""

    function = F.flatten

    def __init__(self, start_dim=1, end_dim=-1):
        super().__init__(start_dim=start_dim, end_dim=end_dim)
