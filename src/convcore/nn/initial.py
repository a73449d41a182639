"""How parameters begin."""

from ..graph import Parameter


def uniform(shape, fan_in):
    """A parameter drawn as torch does: uniform within 1 / sqrt(fan_in).

    For weights that is Kaiming's rule with a = sqrt(5) (He et al., 2015).
    """
    return Parameter(shape=shape, bound=fan_in**-0.5)


def spread(shape, deviation):
    """A parameter drawn from the uniform distribution of mean 0 and this standard
    deviation: of normal ones the last bits would differ between machines."""
    return Parameter(shape=shape, bound=3**0.5 * deviation)


def zeros(shape):
    """A parameter that begins as 0."""
    return Parameter(shape=shape)
