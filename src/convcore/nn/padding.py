"""Padding."""

from .. import functional as F
from .module import FunctionModule

__all__ = [
    f"{mode}Pad{axes}d"
    for mode in ("Constant", "Zero", "Reflection", "Replication", "Circular")
    for axes in (1, 2, 3)
]


class _Pad(FunctionModule):
    function = F.pad
    axes: int
    mode = "constant"

    def __init__(self, padding, value=0.0):
        if not hasattr(padding, "__iter__"):
            padding = (padding,) * (2 * self.axes)
        super().__init__(pad=tuple(padding), mode=self.mode, value=value)


class _Mirror(_Pad):
    def __init__(self, padding):
        super().__init__(padding)


def _make(name, base, mode, axes):
    space = ("L", "H, W", "D, H, W")[axes - 1]
    return type(
        name,
        (base,),
        {
            "__doc__": f"Pad (N, C, {space}), as torch.nn.{name}.",
            "__module__": __name__,
            "axes": axes,
            "mode": mode,
        },
    )


for _axes in (1, 2, 3):
    for _prefix, _base, _mode in (
        ("Constant", _Pad, "constant"),
        ("Zero", _Mirror, "constant"),
        ("Reflection", _Mirror, "reflect"),
        ("Replication", _Mirror, "replicate"),
        ("Circular", _Mirror, "circular"),
    ):
        _name = f"{_prefix}Pad{_axes}d"
        globals()[_name] = _make(_name, _base, _mode, _axes)
