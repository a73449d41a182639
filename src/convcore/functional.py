"""Every public function on arrays and traced values, collected from `ops`."""

from .ops import FAMILIES

__all__ = sorted(name for family in FAMILIES for name in family.__all__)

globals().update(
    {name: getattr(family, name) for family in FAMILIES for name in family.__all__}
)
