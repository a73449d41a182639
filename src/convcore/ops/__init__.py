"""The operators, one family per file; importing this enters them in `OPERATORS`."""

from . import add, cat, conv, flatten, linear, loss, pool, relu

FUNCTIONS = sorted(
    name
    for family in (conv, pool, linear, relu, add, cat, flatten, loss)
    for name in family.__all__
)
