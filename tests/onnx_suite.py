"""The backend test suite of the ONNX project, run against `convcore.onnx`.

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

import numpy as np


def run(pattern=""):
    """Run the suite against the backend.

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
                name.removesuffix("_cpu"): _reason(case(name).debug)
                for name in dir(case)
                if name.endswith("_cpu") and re.search(pattern, name)
            }
    return results


def run_networks(pattern=""):
    """Run the node tests that have a float input as networks: traced, in a plan.

    Returns
    -------
    dict of str -> str or None
        By name of the test, why it failed; without those that hold nothing to
        trace, or operators that are not supported at all.
    """
    from onnx.backend.test.loader import load_model_tests

    results = {}
    for case in load_model_tests(kind="node"):
        inputs, outputs = case.data_sets[0]
        if re.search(pattern, case.name) and any(map(_is_real, inputs)):
            reason = _reason(lambda c=case, x=inputs, y=outputs: _compare(c, x, y))
            if reason != "nothing to compare":
                results[case.name] = reason
    return results


def _is_real(x):
    return getattr(x, "dtype", None) in (np.float32, np.float64)


class _Nothing(Exception):  # noqa: N818
    """There is nothing to compare."""


def _compare(case, inputs, outputs):
    """Trace a model, its first float input as input, others as parameters; run it."""
    from onnx import TensorProto, numpy_helper
    from onnx.backend.test.runner import Runner

    from convcore.onnx.program import program
    from convcore.onnx.registry import UnsupportedError
    from convcore.onnx.tracing import Tracing
    from convcore.onnx.values import is_traced, varies
    from convcore.plan import Plan, allocate

    try:
        code = program(case.model)
    except UnsupportedError:
        raise _Nothing from None
    tracing = Tracing(training=False)
    graph, fed = tracing.graph, []
    graph.batched = False
    given = {}
    inputs, outputs = (
        [numpy_helper.to_array(x) if isinstance(x, TensorProto) else x for x in part]
        for part in (inputs, outputs)
    )
    for info, x in zip(code.inputs, inputs, strict=False):
        given[info.name] = np.asarray(x) if isinstance(x, np.generic) else x
        if _is_real(x) and fed:
            given[info.name] = graph.learned(info.name, np.asarray(x))
        elif _is_real(x):
            given[info.name] = graph.input(x.shape, x.dtype, info.name)
            fed.append(np.asarray(x))
    results = [y if is_traced(y) else None for y in code.run(given, tracing)]
    made = {y for node in graph.nodes for y in node.outputs}
    wanted = [y for y in dict.fromkeys(results) if varies(y) and y in made]
    if not wanted:
        raise _Nothing
    plan = Plan(graph, wanted)
    space = allocate(plan.layout.nbytes)
    for x in plan.layout.offsets:
        plan.layout.view(space, x)[...] = graph.arrays[x]
    with plan.memory(fed) as memory:
        plan.run(memory, space, plan.packed(memory, space, 0), last="forward")
        found = dict(zip(wanted, memory.outputs, strict=True))
    pairs = [(y, found[r]) for y, r in zip(outputs, results, strict=True) if r in found]
    Runner.assert_similar_outputs(*zip(*pairs, strict=True), case.rtol, case.atol)


def _reason(test):
    """Why a test fails; None when it passes."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            test()
    except _Nothing:
        return "nothing to compare"
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
    found = run(*sys.argv[1:2])
    found["Node tests as networks"] = run_networks(*sys.argv[1:2])
    print(report(found))
