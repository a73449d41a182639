"""torch's own samples (its OpInfo database): results, errors and gradients.

Every sample of a function in float32 and float64 gives what torch gives, every
input that torch refuses is refused, and the gradients of every sample in
float64 are those of torch's autograd. The numbers are printed at the end.
"""

import warnings

import numpy as np
import pytest

import convcore as cc

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest", reason="torch's samples need expecttest")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_methods_invocations import op_db

# Functions that the samples call by the names of torch.nn.functional.
FUNCTIONS = [
    *(f"{kind}{n}d" for kind in ("conv", "conv_transpose") for n in (1, 2, 3)),
    *(f"{kind}_pool{n}d" for kind in ("max", "avg") for n in (1, 2, 3)),
    *(f"adaptive_{kind}_pool{n}d" for kind in ("max", "avg") for n in (1, 2, 3)),
    *(f"max_unpool{n}d" for n in (1, 2, 3)),
    *(f"{kind}_norm" for kind in ("batch", "group", "instance", "layer")),
    *("local_response_norm", "linear", "matmul", "embedding"),
    *("softmax", "log_softmax", "pad", "interpolate"),
    *("pixel_shuffle", "pixel_unshuffle", "channel_shuffle"),
    *("cross_entropy", "nll_loss", "mse_loss", "l1_loss", "smooth_l1_loss"),
    "binary_cross_entropy_with_logits",
    *("relu", "leaky_relu", "prelu", "elu", "selu", "celu", "gelu", "silu", "mish"),
    *("sigmoid", "tanh", "softplus", "hardtanh", "relu6", "hardsigmoid"),
    *("hardswish", "logsigmoid"),
]

# Arguments that have no like here: another dtype of the result, embeddings that
# are changed as they are read, sparse gradients.
LEFT_OUT = {"dtype", "max_norm", "scale_grad_by_freq", "sparse"}

# Of hardsigmoid's slope, 1/6, torch has the digits of float32.
GRADIENT_LIMIT = {"hardsigmoid": {"rtol": 1e-7}}

counts = {}


def entries(function):
    """The database's entries of a function, its variants included."""
    names = {function, f"nn.functional.{function}"}
    return [op for op in op_db if op.name in names]


def to_numpy(x):
    if isinstance(x, torch.Tensor):
        return x.detach().numpy()
    if isinstance(x, tuple | list):
        return type(x)(map(to_numpy, x))
    return x


def is_supported(sample):
    """Whether a sample asks for nothing that is not there."""
    return not LEFT_OUT & sample.kwargs.keys()


def arguments(function, sample):
    """A sample as (args, kwargs) of ours; in place is nothing to us."""
    kwargs = {key: to_numpy(x) for key, x in sample.kwargs.items() if key != "inplace"}
    args = [to_numpy(sample.input), *map(to_numpy, sample.args)]
    if function == "embedding":
        args[:2] = args[1::-1]  # the database has the table first
    return args, kwargs


def results(x):
    return list(x) if isinstance(x, tuple | list) else [x]


def tolerance(expected):
    """Errors are relative to the largest element: sums have large terms."""
    largest = max(1.0, float(expected.detach().abs().max())) if expected.numel() else 1
    rtol, atol = (2e-5, 3e-6) if expected.dtype == torch.float32 else (1e-9, 1e-13)
    return {"rtol": rtol, "atol": atol * largest}


def count(function, what, tried, failures):
    counts.setdefault(function, {})[what] = (tried - len(failures), tried)
    assert not failures, f"{len(failures)} of {tried}:\n" + "\n".join(failures[:8])


def describe(function, sample, error):
    args, kwargs = arguments(function, sample)
    shown = [a.shape if isinstance(a, np.ndarray) else a for a in args]
    options = {
        k: v.shape if isinstance(v, np.ndarray) else v for k, v in kwargs.items()
    }
    return f"{shown} {options}: {type(error).__name__}: {str(error)[:300]}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_results(function, dtype):
    tried, failures = 0, []
    for op in entries(function):
        if dtype not in op.supported_dtypes("cpu"):
            continue
        for sample in filter(is_supported, op.sample_inputs("cpu", dtype)):
            tried += 1
            args, kwargs = arguments(function, sample)
            try:
                actual = getattr(cc, function)(*args, **kwargs)
                expected = op(sample.input, *sample.args, **sample.kwargs)
                for a, e in zip(results(actual), results(expected), strict=True):
                    assert a.dtype == to_numpy(e).dtype
                    np.testing.assert_allclose(a, to_numpy(e), **tolerance(e))
                    assert a.shape == tuple(e.shape)
            except Exception as error:
                failures.append(describe(function, sample, error))
    count(function, str(dtype).removeprefix("torch."), tried, failures)
    assert tried


@pytest.mark.parametrize("function", FUNCTIONS)
def test_errors(function):
    tried, failures = 0, []
    for op in entries(function):
        if op.error_inputs_func is None:
            continue
        for entry in op.error_inputs("cpu"):
            tried += 1
            args, kwargs = arguments(function, entry.sample_input)
            try:
                getattr(cc, function)(*args, **kwargs)
            except (TypeError, ValueError, IndexError):
                continue
            failures.append(describe(function, entry.sample_input, entry.error_regex))
    count(function, "errors", tried, failures)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_gradients(function):
    tried, failures = 0, []
    for op in entries(function):
        if not op.supports_autograd:
            continue
        for sample in filter(
            is_supported, op.sample_inputs("cpu", torch.float64, requires_grad=True)
        ):
            args, kwargs = arguments(function, sample)
            tensors = [
                x
                for x in (sample.input, *sample.args)
                if isinstance(x, torch.Tensor) and x.is_floating_point()
            ]
            expected = op(sample.input, *sample.args, **sample.kwargs)
            y = results(expected)[0]
            if not y.requires_grad:
                continue
            tried += 1
            try:
                generator = torch.Generator().manual_seed(0)
                dy = torch.randn(y.shape, generator=generator, dtype=y.dtype)
                wanted = [t for t in tensors if t.requires_grad]
                grads = torch.autograd.grad(y, wanted, dy, allow_unused=True)
                seeds = dy.numpy()
                if isinstance(expected, tuple | list):
                    seeds = (seeds, *(None for _ in expected[1:]))
                found = cc.vjp(getattr(cc, function), seeds, *args, **kwargs)
                found = found if isinstance(found, tuple) else (found,)
                by_tensor = dict(zip(map(id, tensors), found, strict=True))
                for t, g in zip(wanted, grads, strict=True):
                    expected_gradient = np.zeros(t.shape) if g is None else g.numpy()
                    np.testing.assert_allclose(
                        by_tensor[id(t)],
                        expected_gradient,
                        **tolerance(y) | GRADIENT_LIMIT.get(function, {}),
                    )
            except Exception as error:
                failures.append(describe(function, sample, error))
    count(function, "gradients", tried, failures)


def test_summary(capsys):
    """Print the samples passed of those tried, by function."""
    with capsys.disabled():
        print("\ntorch's samples, passed of tried")
        for function, found in counts.items():
            numbers = "  ".join(f"{k} {a}/{b}" for k, (a, b) in found.items())
            print(f"  {function:34}{numbers}")
