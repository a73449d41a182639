"""The functions of `convcore.functional` in plain NumPy: their written definition.

Same signatures and checks; the definitions stand in `Operator.reference`.
"""

from . import functional
from .ops import FUNCTIONS
from .ops.base import as_reference

__all__ = FUNCTIONS

globals().update({name: as_reference(getattr(functional, name)) for name in __all__})
