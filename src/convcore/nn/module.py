"""The base classes of modules."""

from ..graph import Buffer, Parameter, Value
from .tracing import is_training, join, scope

__all__ = ["Module"]


class Module:
    """A network or a part of one.

    A subclass sets modules and parameters as attributes in ``__init__`` (which
    need not call this one's) and defines ``forward``.

    Examples
    --------
    >>> from convcore import nn
    >>> class Block(nn.Module):
    ...     def __init__(self, channels):
    ...         self.conv = nn.Conv2d(channels, channels, 3, padding=1)
    ...         self.relu = nn.ReLU()
    ...     def forward(self, x):
    ...         return self.relu(self.conv(x) + x)
    >>> [name for name, _ in Block(8).named_parameters()]
    ['conv.weight', 'conv.bias']
    """

    def forward(self, *inputs):
        """Compute the output from traced values."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward()")

    def __call__(self, *inputs, **options):
        value = next((v for v in map(_find_value, inputs) if v is not None), None)
        if value is None:
            raise TypeError(
                f"{type(self).__name__} is called on traced values only: make a "
                "Model of the network and call its predict()"
            )
        with scope(self, value.graph) as name_result:
            return name_result(self.forward(*inputs, **options))

    @property
    def training(self):
        """Whether what is traced is for training: a module is traced for each use."""
        return is_training()

    def children(self):
        """Modules set as attributes, in order: an iterator of (name, module)."""
        return _attributes(self, Module)

    def named_modules(self, prefix=""):
        """This module and all inside it: an iterator of (path, module)."""
        yield prefix, self
        for name, module in self.children():
            yield from module.named_modules(join(prefix, name))

    def named_parameters(self):
        """All parameters in state_dict order: an iterator of (key, Parameter)."""
        return ((k, x) for k, x in self.named_state() if isinstance(x, Parameter))

    def named_buffers(self):
        """All buffers in state_dict order: an iterator of (key, Buffer)."""
        return ((k, x) for k, x in self.named_state() if isinstance(x, Buffer))

    def named_state(self):
        """All parameters and buffers in state_dict order, by key."""
        for path, module in self.named_modules():
            for kind in (Parameter, Buffer):
                for name, tensor in _attributes(module, kind):
                    yield join(path, name), tensor


def _find_value(x):
    """The traced value that x is, or the first in a list."""
    if isinstance(x, list | tuple):
        return next((value for value in x if isinstance(value, Value)), None)
    return x if isinstance(x, Value) else None


def _attributes(module, kind):
    return ((n, value) for n, value in vars(module).items() if isinstance(value, kind))


class FunctionModule(Module):
    """Calls `function` with the arguments that the constructor gives; it has no
    parameters."""

    function = None

    def __init__(self, **arguments):
        self.arguments = arguments

    def forward(self, *inputs):
        return type(self).function(*inputs, **self.arguments)
