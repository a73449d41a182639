"""The operators, one family per file; importing this enters them in `OPERATORS`."""

from . import add, cat, conv, flatten, linear, loss, pool, relu

FAMILIES = (conv, pool, linear, relu, add, cat, flatten, loss)
