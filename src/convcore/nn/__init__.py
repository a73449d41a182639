"""Modules, written as in torch.nn: names, arguments and state_dict keys are its.

A module describes a network and holds no numbers: `forward` is run once, on
traced values, when a `convcore.Model` is made of it.
"""

from ..graph import Buffer, Parameter
from . import (
    activation,
    containers,
    conv,
    conv_transpose,
    dropout,
    embedding,
    group_norm,
    linear,
    loss,
    module,
    norm,
    padding,
    pooling,
    shape,
)
from .activation import *  # noqa: F403
from .containers import *  # noqa: F403
from .conv import *  # noqa: F403
from .conv_transpose import *  # noqa: F403
from .dropout import *  # noqa: F403
from .embedding import *  # noqa: F403
from .group_norm import *  # noqa: F403
from .linear import *  # noqa: F403
from .loss import *  # noqa: F403
from .module import *  # noqa: F403
from .norm import *  # noqa: F403
from .padding import *  # noqa: F403
from .pooling import *  # noqa: F403
from .shape import *  # noqa: F403
from .tracing import Auxiliary
from .tracing import trace as trace

_FAMILIES = (
    module,
    containers,
    conv,
    conv_transpose,
    linear,
    embedding,
    pooling,
    group_norm,
    activation,
    padding,
    norm,
    dropout,
    shape,
    loss,
)

__all__ = [
    "Auxiliary",
    "Buffer",
    "Parameter",
    *(name for family in _FAMILIES for name in family.__all__),
]
