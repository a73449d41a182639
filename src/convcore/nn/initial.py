"""How parameters begin."""

from ..graph import Parameter


def uniform(shape, fan_in):
    """A parameter drawn as torch does: uniform within 1 / sqrt(fan_in).

    For weights that is Kaiming's rule with a = sqrt(5) (He et al., 2015).
    """
    return Parameter(shape=shape, bound=fan_in**-0.5)
