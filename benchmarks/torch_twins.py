"""The networks of `convcore.models` in torch: their own source, run on torch.nn."""

import importlib
import inspect
import types

import numpy as np
import torch
import torch.nn.functional


class _Module(torch.nn.Module):
    """A module whose ``__init__`` need not call this one's."""

    def __new__(cls, *args, **kwargs):
        module = super().__new__(cls)
        torch.nn.Module.__init__(module)
        return module

    def __init__(self, *args, **kwargs):
        pass


def _namespace(module, **changes):
    return types.SimpleNamespace(**(vars(module) | changes))


_NN = _namespace(
    torch.nn,
    Module=_Module,
    Auxiliary=lambda output, others, weight: (weight, output, *others),
)
_F = _namespace(torch.nn.functional, cat=torch.cat)


def make(name, **arguments):
    """A network by its name in `convcore.models`, in float64."""
    models = importlib.import_module("convcore.models")
    module = inspect.getmodule(getattr(models, name))
    ours = types.ModuleType(module.__name__, module.__doc__)
    source = inspect.getsource(module)
    lines = [line for line in source.splitlines() if not line.startswith("from ..")]
    lines = [line for line in lines if not line.startswith("from .initial")]
    vars(ours).update(nn=_NN, F=_F, small=_leave, kaiming=_leave, begin=_leave)
    exec("\n".join(lines), vars(ours))
    return getattr(ours, name)(**arguments).double()


def _leave(*_args):
    """In place of what draws the first weights: they are copied."""


def copy(model, theirs):
    """Give a twin the parameters and buffers of a model."""
    state = {
        key: torch.from_numpy(np.array(x)) for key, x in model.state_dict().items()
    }
    theirs.load_state_dict(state)


def loss(theirs, x, y):
    """Cross-entropy, auxiliary heads included, and the logits."""
    result = theirs(x)
    function = torch.nn.functional.cross_entropy
    if not isinstance(result, tuple):
        return function(result, y), result
    weight, output, *others = result
    total = function(output, y) + weight * sum(function(other, y) for other in others)
    return total, output
