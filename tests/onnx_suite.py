"""The backend test suite of the ONNX project, run against `convcore.onnx.backend`.

``python -m tests.onnx_suite [PATTERN]`` runs the tests whose name holds the regular
expression, prints how many of each kind passed, and of the others the reason.
"""

import os
import re
import sys
import tempfile
import unittest
import warnings
from unittest.mock import patch


def run(pattern=""):
    """Run the suite.

    A test counts as passed only when its outputs were compared: what the suite's
    own runner calls success, a backend that declines, is a failure here.

    Returns
    -------
    dict of str -> dict of str -> str or None
        By kind and name of the test, why it failed.
    """
    from onnx.backend.test import BackendTest, runner

    from convcore.onnx import backend

    class Declined(Exception):  # noqa: N818
        """Stands for the exception that the runner takes as success."""

    results = {}
    with (
        patch.object(runner, "BackendIsNotSupposedToImplementIt", Declined),
        tempfile.TemporaryDirectory() as folder,
        patch.dict(os.environ, {"ONNX_MODELS": folder}),
    ):
        for case_name, case in BackendTest(backend, __name__).test_cases.items():
            kind = re.fullmatch("OnnxBackend(.*)ModelTest", case_name)[1]
            results[kind] = {
                name.removesuffix("_cpu"): _reason(case(name))
                for name in dir(case)
                if name.endswith("_cpu") and re.search(pattern, name)
            }
    return results


def _reason(test):
    """Why a test fails; None when it passes."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            test.debug()
    except (Exception, unittest.SkipTest) as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return None


def report(results):
    """Counts, and each failure with its reason, as lines of text."""
    lines = []
    for kind, tests in results.items():
        for name, reason in tests.items():
            if reason is not None:
                lines.append(f"{kind} {name}: {reason}")
    for kind, tests in results.items():
        passed = list(tests.values()).count(None)
        lines.append(f"{kind}: {passed} of {len(tests)} tests pass")
    return "\n".join(lines)


if __name__ == "__main__":
    print(report(run(*sys.argv[1:2])))
