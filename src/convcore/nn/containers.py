"""Modules made of modules."""

from .module import Module

__all__ = ["Identity", "ModuleList", "Sequential"]


class Sequential(Module):
    """Modules applied one after the other; an OrderedDict gives them names."""

    def __init__(self, *modules):
        if len(modules) == 1 and isinstance(modules[0], dict):
            named = modules[0].items()
        else:
            named = ((str(i), module) for i, module in enumerate(modules))
        for name, module in named:
            setattr(self, name, _check_module(module))

    def forward(self, x):
        for _, module in self.children():
            x = module(x)
        return x

    def __len__(self):
        return len(vars(self))

    def __iter__(self):
        return iter(vars(self).values())

    def __getitem__(self, index):
        modules = list(self)[index]
        return Sequential(*modules) if isinstance(index, slice) else modules


class ModuleList(Module):
    """A list of modules, to be applied by the module that holds it."""

    def __init__(self, modules=()):
        for module in modules:
            self.append(module)

    def append(self, module):
        setattr(self, str(len(self)), _check_module(module))
        return self

    def __len__(self):
        return len(vars(self))

    def __iter__(self):
        return iter(vars(self).values())

    def __getitem__(self, index):
        modules = list(self)[index]
        return ModuleList(modules) if isinstance(index, slice) else modules


def _check_module(module):
    if not isinstance(module, Module):
        raise TypeError(f"expected a Module, got {type(module).__name__}")
    return module


class Identity(Module):
    def forward(self, x):
        return x
