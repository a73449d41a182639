"""Write the list of ONNX operators in the manual, from the table in the code.

    python tools/onnx_operators.py

Needs the onnx package: it knows in which opsets an operator changed.
"""

import argparse
from itertools import groupby
from pathlib import Path
from textwrap import fill

import onnx

from convcore.onnx import operators  # noqa: F401 (enters them in the table)
from convcore.onnx.program import has_definition
from convcore.onnx.registry import OPSETS, TABLE

TARGET = Path(__file__).parents[1] / "docs/onnx-operators.md"

HEAD = """\
<!-- Written by tools/onnx_operators.py from the code. -->
# ONNX operators

Opsets {first} to {last}. The numbers are the opsets in which the operator was
defined anew: from the first of them on every opset is read. *In networks* says
what `convcore.onnx.load` makes of it where it depends on the input. **traced**:
operators of this package, compiled and with gradients where these are. **NumPy**: a
step of NumPy's, without a gradient. **folded**: refused, because the shape of the
result would depend on the data. Whatever does not depend on the input is computed
once, when the file is read. The backend runs all of them, on arrays.

| operator | opsets | in networks |
|---|---|---|
"""

COMPOSED = """
## Composed of these

The ONNX standard defines further operators by others. They are replaced by that
definition when a file is read:
{names}.
"""


def table():
    """The page, as text."""
    of_onnx = sorted(
        (s for s in onnx.defs.get_all_schemas_with_history() if not s.domain),
        key=lambda schema: (schema.name, schema.since_version),
    )
    rows, composed = [], []
    for name, schemas in groupby(of_onnx, lambda schema: schema.name):
        versions = [s.since_version for s in schemas]
        # The one that was in force in the first opset, and all later ones.
        before = [n for n in versions if n <= OPSETS[0]][-1:]
        later = [n for n in versions if OPSETS[0] < n <= OPSETS[-1]]
        known = [max(n, OPSETS[0]) for n in before] + later
        if name in TABLE and known:
            form = TABLE[name].form
            rows.append(f"| {name} | {', '.join(map(str, known))} | {form} |")
        elif known and has_definition(name, "", OPSETS[-1]):
            composed.append(name)
    head = HEAD.format(first=OPSETS[0], last=OPSETS[-1])
    names = fill(", ".join(composed), 80)
    return head + "\n".join(rows) + "\n" + COMPOSED.format(names=names)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default=TARGET, type=Path)
    parser.parse_args().output.write_text(table())


if __name__ == "__main__":
    main()
