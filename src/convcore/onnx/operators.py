"""The operators, one family per file; importing this enters them in the table."""

from . import (  # noqa: F401
    arithmetic,
    cast,
    control,
    conv,
    elementwise,
    linear,
    norm,
    numpy_table,
    pool,
    quantize,
    recurrent,
    reduce,
    resize,
    sampling,
    sequences,
    shape,
    signal,
)
