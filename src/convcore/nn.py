"""Modules, written as in torch.nn: names, arguments and state_dict keys are its.

A module describes a network and holds no numbers: `forward` is run once, on
traced values, when a `convcore.Model` is made of it.
"""

from contextlib import contextmanager
from contextvars import ContextVar
from math import prod

from . import functional as F
from .graph import Graph, Parameter, Value, bind
from .ops.window import integer, per_axis

__all__ = [
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "CrossEntropyLoss",
    "Flatten",
    "Identity",
    "Linear",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "Module",
    "ModuleList",
    "Parameter",
    "ReLU",
    "Sequential",
]


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
        with _scope(self, value.graph) as name_result:
            return name_result(self.forward(*inputs, **options))

    def children(self):
        """Modules set as attributes, in order: an iterator of (name, module)."""
        return _attributes(self, Module)

    def named_modules(self, prefix=""):
        """This module and all inside it: an iterator of (path, module)."""
        yield prefix, self
        for name, module in self.children():
            yield from module.named_modules(_join(prefix, name))

    def named_parameters(self):
        """All parameters in state_dict order: an iterator of (key, Parameter)."""
        for path, module in self.named_modules():
            for name, parameter in _attributes(module, Parameter):
                yield _join(path, name), parameter


def _find_value(x):
    """The traced value that x is, or the first in a list."""
    if isinstance(x, list | tuple):
        return next((value for value in x if isinstance(value, Value)), None)
    return x if isinstance(x, Value) else None


def _attributes(module, kind):
    return ((n, value) for n, value in vars(module).items() if isinstance(value, kind))


def _join(prefix, name):
    return f"{prefix}.{name}" if prefix else name


# -------------------------------------------------------------------- tracing

_paths = ContextVar("paths of modules")
_path = ContextVar("path of the module being traced", default="")


def trace(module, inputs):
    """Trace a module once, for a batch of one sample.

    Parameters
    ----------
    module : Module
    inputs : list of (str, tuple of int, dtype)
        Name, shape of one sample and dtype of each input.

    Returns
    -------
    (graph, parameters) : Graph and dict of state_dict key -> Parameter
        The graph's parameters have the dtype of the first input.

    Raises
    ------
    ValueError
        When shapes do not fit, for one sample or for several.
    """
    graph, values, parameters = Graph(), {}, dict(module.named_parameters())
    for key, parameter in parameters.items():
        if id(parameter) in values:
            graph.parameters[key] = values[id(parameter)]
        else:
            value = graph.parameter(parameter.shape, inputs[0][2], key)
            values[id(parameter)] = value
    arguments = [graph.input((1, *shape), dtype, name) for name, shape, dtype in inputs]
    paths = {id(part): path for path, part in reversed([*module.named_modules()])}
    token = _paths.set(paths)
    try:
        with bind(values):
            result = module(*arguments)
    finally:
        _paths.reset(token)
    graph.outputs = _outputs(result)
    _check_any_batch(graph)
    return graph, parameters


def _check_any_batch(graph):
    """Raise where shapes fit for one sample only: a parameter may be added to it."""
    try:
        graph.with_batch(2)
    except ValueError as error:
        raise ValueError(f"forward() works for a single sample only: {error}") from None


def _outputs(result):
    """Outputs by name: "output", or "output.0", ... for a tuple."""
    results = result if isinstance(result, tuple) else (result,)
    for value in results:
        if not isinstance(value, Value):
            raise TypeError(
                "forward() must return a traced value or a tuple of them, "
                f"not {type(value).__name__}"
            )
    if not isinstance(result, tuple):
        return {"output": result}
    return {f"output.{i}": value for i, value in enumerate(results)}


@contextmanager
def _scope(module, graph):
    """Name what is traced inside: the module's result after its path, the
    results of functions called by it after path and operator."""
    path = _paths.get({}).get(id(module), _path.get())
    first, token = len(graph.nodes), _path.set(path)

    def name_result(result):
        if path and isinstance(result, Value):
            graph.name(result, path)
        for node in graph.nodes[first:]:
            for value in node.outputs:
                if value is not None and value.name is None:
                    graph.name(value, _join(path, node.op.name))
        return result

    try:
        yield name_result
    finally:
        _path.reset(token)


# ----------------------------------------------------------------- containers


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


# ------------------------------------------------- convolution, linear layers


def _uniform(shape, fan_in):
    """A parameter drawn as torch does: uniform within 1 / sqrt(fan_in).

    For weights that is Kaiming's rule with a = sqrt(5) (He et al., 2015).
    """
    return Parameter(shape=shape, bound=fan_in**-0.5)


class _Conv(Module):
    axes: int

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=1,
        padding=0,
        dilation=1,
        groups=1,
        bias=True,
    ):
        in_channels = integer(in_channels, "in_channels", 1)
        out_channels = integer(out_channels, "out_channels", 1)
        groups = integer(groups, "groups", 1)
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"groups={groups} must divide in_channels={in_channels} and "
                f"out_channels={out_channels}"
            )
        kernel = per_axis(kernel_size, self.axes, "kernel_size", 1)
        shape = (out_channels, in_channels // groups, *kernel)
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.groups = groups
        self.weight = _uniform(shape, prod(shape[1:]))
        self.bias = _uniform((out_channels,), prod(shape[1:])) if bias else None

    def forward(self, x):
        convolve = (F.conv1d, F.conv2d, F.conv3d)[self.axes - 1]
        return convolve(
            x,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
        )


class Conv1d(_Conv):
    """Convolution of (N, C, L), as torch.nn.Conv1d."""

    axes = 1


class Conv2d(_Conv):
    """Convolution of (N, C, H, W), as torch.nn.Conv2d."""

    axes = 2


class Conv3d(_Conv):
    """Convolution of (N, C, D, H, W), as torch.nn.Conv3d."""

    axes = 3


class Linear(Module):
    """``x @ weight.T + bias`` of x (N, ..., in_features), as torch.nn.Linear."""

    def __init__(self, in_features, out_features, bias=True):
        in_features = integer(in_features, "in_features", 1)
        out_features = integer(out_features, "out_features", 1)
        self.weight = _uniform((out_features, in_features), in_features)
        self.bias = _uniform((out_features,), in_features) if bias else None

    def forward(self, x):
        return F.linear(x, self.weight, self.bias)


# ----------------------------------------------------- layers without numbers


class ReLU(Module):
    """max(x, 0). `inplace` is accepted, and of no effect: plans see to it."""

    def __init__(self, inplace=False):
        pass

    def forward(self, x):
        return F.relu(x)


class Flatten(Module):
    """Make dimensions start_dim..end_dim one."""

    def __init__(self, start_dim=1, end_dim=-1):
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, x):
        return F.flatten(x, self.start_dim, self.end_dim)


class _MaxPool(Module):
    axes: int

    def __init__(
        self,
        kernel_size,
        stride=None,
        padding=0,
        dilation=1,
        return_indices=False,
        ceil_mode=False,
    ):
        self.arguments = (
            kernel_size,
            stride,
            padding,
            dilation,
            ceil_mode,
            return_indices,
        )

    def forward(self, x):
        pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[self.axes - 1]
        return pool(x, *self.arguments)


class MaxPool1d(_MaxPool):
    """Maximum over windows of (N, C, L), as torch.nn.MaxPool1d."""

    axes = 1


class MaxPool2d(_MaxPool):
    """Maximum over windows of (N, C, H, W), as torch.nn.MaxPool2d."""

    axes = 2


class MaxPool3d(_MaxPool):
    """Maximum over windows of (N, C, D, H, W), as torch.nn.MaxPool3d."""

    axes = 3


class _AvgPool(Module):
    axes: int

    def __init__(
        self,
        kernel_size,
        stride=None,
        padding=0,
        ceil_mode=False,
        count_include_pad=True,
        divisor_override=None,
    ):
        self.arguments = (
            kernel_size,
            stride,
            padding,
            ceil_mode,
            count_include_pad,
            divisor_override,
        )

    def forward(self, x):
        pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[self.axes - 1]
        return pool(x, *self.arguments)


class AvgPool1d(_AvgPool):
    """Mean over windows of (N, C, L), as torch.nn.AvgPool1d."""

    axes = 1


class AvgPool2d(_AvgPool):
    """Mean over windows of (N, C, H, W), as torch.nn.AvgPool2d."""

    axes = 2


class AvgPool3d(_AvgPool):
    """Mean over windows of (N, C, D, H, W), as torch.nn.AvgPool3d."""

    axes = 3


class CrossEntropyLoss(Module):
    """Softmax cross-entropy, as a loss of (logits, target) for `Model.fit`."""

    def __init__(self, ignore_index=-100, reduction="mean", label_smoothing=0.0):
        self.arguments = dict(
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=label_smoothing,
        )

    def forward(self, logits, target):
        return F.cross_entropy(logits, target, **self.arguments)
