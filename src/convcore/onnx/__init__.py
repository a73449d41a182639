"""Networks in ONNX files (extra ``convcore[onnx]``).

`load` reads a file as a `Model`; `backend` runs models as the interface of the
ONNX project asks for it.
"""

import importlib

__all__ = ["backend", "load"]


def __getattr__(name):
    if name == "backend":
        return importlib.import_module(".backend", __name__)
    if name == "load":
        from .loading import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__
