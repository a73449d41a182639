"""The C library as others use it: from C, and from Cython by capi.pxd."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import convcore

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"


def copy_example(name, folder):
    if not (EXAMPLES / name).is_dir():
        pytest.skip(f"examples/{name} is not beside the tests")
    return Path(shutil.copytree(EXAMPLES / name, folder / name))


def run(*command, cwd):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_header_and_library_are_installed():
    assert Path(convcore.get_include(), "convcore.h").is_file()
    assert Path(convcore.get_library_dir(), "libconvcore.a").is_file()


def test_pxd_declares_the_whole_header():
    header = Path(convcore.get_include(), "convcore.h").read_text()
    header = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    pxd = Path(convcore.__file__).with_name("capi.pxd").read_text()
    name = re.compile(r"\b(?:cvc|CVC)_\w+")
    declared = set(name.findall(pxd))
    # The include guard, and the types that C leaves without a name.
    assert set(name.findall(header)) - declared == {"CVC_CONVCORE_H"}
    assert declared - set(name.findall(header)) == {
        "cvc_step_of",
        "cvc_step_transpose",
        "cvc_step_copy",
        "cvc_step_running",
    }


def test_header_is_plain_c_and_cxx(tmp_path):
    for language, standard in [("c", "c99"), ("c++", "c++11")]:
        compiler = shutil.which("cc" if language == "c" else "c++")
        if compiler is None:
            pytest.skip(f"no compiler for {language}")
        source = tmp_path / "include.c"
        source.write_text('#include "convcore.h"\nint main(void) { return 0; }\n')
        include = f"-I{convcore.get_include()}"
        strict = ["-pedantic-errors", "-Wall", "-Wextra", "-Werror", f"-std={standard}"]
        run(
            *(compiler, "-x", language, *strict, include, "-fsyntax-only"),
            str(source),
            cwd=tmp_path,
        )


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_c_program_links_the_static_library(tmp_path):
    folder = copy_example("embed_c", tmp_path)
    printed = run("make", "run", f"PYTHON={sys.executable}", "CC=cc", cwd=folder)
    isa = convcore._core.isa()
    assert f"convcore {convcore.__version__}, kernels for {isa}\n" in printed
    rows = [line for line in printed.splitlines() if line and set(line) <= set("#.")]
    drawn = np.array([list(row) for row in rows])

    axis = np.arange(24) - 12
    disc = np.hypot(axis[:, None], axis) < 8
    assert np.array_equal(drawn == "#", sobel(disc.astype(np.float32)) > 1)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_cython_extension_calls_the_kernels(tmp_path):
    pytest.importorskip("Cython")
    pytest.importorskip("setuptools")
    folder = copy_example("embed_cython", tmp_path)
    run(sys.executable, "setup.py", "build_ext", "--inplace", cwd=folder)

    image = np.random.default_rng(0).standard_normal((37, 50), dtype=np.float32)
    np.save(folder / "image.npy", image)
    run(
        *(sys.executable, "-c"),
        "import numpy as np; from edges import edges; "
        "np.save('edges.npy', edges(np.load('image.npy')))",
        cwd=folder,
    )
    # Sobel of N(0, 1) is about 10: float32 rounding of sums of nine terms.
    np.testing.assert_allclose(
        np.load(folder / "edges.npy"), sobel(image), rtol=1e-5, atol=1e-5
    )


def sobel(image):
    """Sobel gradient magnitude with zero padding, from its definition."""
    padded = np.pad(image, 1).astype(np.float64)
    smooth = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    across = smooth[:, 2:] - smooth[:, :-2]
    smooth = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    down = smooth[2:] - smooth[:-2]
    return np.hypot(across, down)
