"""Convolutional networks on CPUs: fast kernels in C, NumPy arrays in Python.

The most used functions stand here, all of them in `convcore.functional`, and
their plain NumPy definitions in `convcore.reference`. Networks are written
with `convcore.nn` as in torch.nn and run by `convcore.Model`.
"""

import importlib
from typing import TYPE_CHECKING

from . import _openmp, functional  # noqa: F401 (_openmp first: it loads _core)
from ._config import (
    get_float32_precision,
    get_num_threads,
    set_float32_precision,
    set_num_threads,
    show_config,
    threads,
)
from ._core import version as _version
from ._paths import get_include, get_library_dir
from .explain import explain_conv
from .functional import *  # noqa: F403
from .ops import FUNCTIONS as _FUNCTIONS
from .ops.memory import channels_last

__version__ = _version()

# Loaded on first use, which keeps `import convcore` quick.
_MODULES = ("data", "metrics", "models", "nn", "onnx", "optim", "reference")

__all__ = [
    "Model",
    "channels_last",
    "explain_conv",
    "functional",
    "get_float32_precision",
    "get_include",
    "get_library_dir",
    "get_num_threads",
    "set_float32_precision",
    "set_num_threads",
    "show_config",
    "threads",
    "vjp",
    *_MODULES,
    *_FUNCTIONS,
]

if TYPE_CHECKING:  # what __getattr__ gives
    from . import data as data
    from . import metrics as metrics
    from . import models as models
    from . import nn as nn
    from . import onnx as onnx
    from . import optim as optim
    from . import reference as reference
    from .derivatives import vjp as vjp
    from .model import Model


def __getattr__(name):
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name == "Model":
        from .model import Model

        return Model
    if name == "vjp":
        from .derivatives import vjp

        return vjp
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__
