"""What is built and shipped: layout, wheel, sdist, instructions, import time."""

import ast
import email
import inspect
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import convcore

ROOT = Path(__file__).resolve().parents[1]

in_repository = pytest.mark.skipif(
    not (ROOT / "setup.py").is_file(), reason="the tests are not in the repository"
)
on_x86_64 = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="AVX kernels are for x86-64"
)


def python(*arguments, cwd=None, **environment):
    """Run this Python in a fresh process; the completed process."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


# ------------------------------------------------------------------- layout


@in_repository
def test_the_c_library_is_not_a_package():
    # It would hide the installed package from programs started in the root.
    assert not list((ROOT / "convcore").rglob("__init__.py"))


@in_repository
def test_src_is_the_only_package_folder():
    # Any other entry makes editable installs use import hooks, and the root's
    # convcore/ then wins as a namespace package.
    text = (ROOT / "pyproject.toml").read_text()
    (mapping,) = re.findall(r"^package-dir *= *(.*)$", text, flags=re.MULTILINE)
    assert mapping == '{ "" = "src" }'
    assert "package_dir=" not in (ROOT / "setup.py").read_text()


def test_one_version():
    header = Path(convcore.get_include(), "convcore.h").read_text()
    (c_version,) = re.findall(r'#define CVC_VERSION "(.*)"', header)
    assert convcore.__version__ == metadata.version("convcore") == c_version


def test_stub_of_the_extension():
    """_core.pyi has the functions, methods and parameters of the extension."""
    stub = Path(convcore.__file__).with_name("_core.pyi").read_text()

    def signatures(of, definitions):
        for node in definitions:
            if isinstance(node, ast.AnnAssign):
                assert hasattr(of, node.target.id), node.target.id
                continue
            compiled = getattr(of, node.name)
            if isinstance(node, ast.ClassDef):
                yield from signatures(compiled, node.body)
            elif not node.decorator_list and node.name != "__init__":
                given = node.args
                all_of_them = *given.args, given.vararg, *given.kwonlyargs
                stubbed = [argument.arg for argument in all_of_them if argument]
                yield node.name, stubbed, [*inspect.signature(compiled).parameters]

    definitions = [
        node
        for node in ast.parse(stub).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
    ]
    for name, stubbed, compiled in signatures(convcore._core, definitions):
        assert stubbed == compiled, name
    public = {
        name
        for name, value in vars(convcore._core).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    constants = {
        node.target.id
        for node in ast.parse(stub).body
        if isinstance(node, ast.AnnAssign) and not node.target.id.startswith("_")
    }
    assert {node.name for node in definitions} | constants == public


def test_run_time_dependencies():
    requirements = metadata.requires("convcore")
    at_run_time = [r for r in requirements if "extra ==" not in r]
    names = {re.match(r"[\w-]+", requirement)[0] for requirement in at_run_time}
    assert names == {"numpy", "safetensors", "tqdm"}


# ------------------------------------------------------------------- import


def test_import_loads_numpy_and_nothing_else_from_outside():
    listing = python(
        "-c",
        "import sys, numpy; before = set(sys.modules); import convcore; "
        "print(*(set(sys.modules) - before))",
    )
    assert listing.returncode == 0, listing.stderr
    packages = {name.partition(".")[0] for name in listing.stdout.split()}
    outside = packages - {"convcore", "numpy"} - sys.stdlib_module_names
    # What Cython registers for all its extensions.
    assert {p for p in outside if not p.startswith(("_cython_", "cython_"))} == set()


def test_import_time(tmp_path):
    # CPU time, of which other processes take nothing, beside that of NumPy's own
    # import, and the best of several; the first run writes the byte code that an
    # installed package has.
    program = (
        "import time; a = time.process_time(); import numpy; b = time.process_time(); "
        "import convcore; print((time.process_time() - b) / (b - a))"
    )
    cache = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}
    share = min(float(python("-c", program, **cache).stdout) for _ in range(6))
    print(f"import convcore adds {100 * share:.0f} % to import numpy")
    assert share < 0.8


@in_repository
def test_import_from_the_repository_root():
    program = "import convcore; print(convcore.__file__, convcore.relu)"
    done = python("-c", program, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(convcore.__file__)


# ------------------------------------------------------------- instructions


SHOW_ISA = "import convcore; print(convcore._core.isa())"


@pytest.mark.parametrize("name", ["sse9", "AVX2", "avx2,avx512"])
def test_unknown_isa_is_an_error(name):
    done = python("-c", SHOW_ISA, CONVCORE_ISA=name)
    assert done.returncode != 0
    assert "CONVCORE_ISA" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", convcore._core.isas_available())
def test_named_isa_is_used(name):
    done = python("-c", SHOW_ISA, CONVCORE_ISA=name)
    assert done.stdout.strip() == name, done.stderr


@on_x86_64
@pytest.mark.parametrize("isa, register", [("avx2", "%ymm"), ("avx512", "%zmm")])
def test_kernels_contain_fma(isa, register):
    """The tiles multiply and add in one instruction, on the widest registers."""
    if shutil.which("objdump") is None:
        pytest.skip("no objdump (binutils)")
    archive = Path(convcore.get_library_dir(), "libconvcore.a")
    listing = subprocess.run(
        ["objdump", "--disassemble", "--no-show-raw-insn", str(archive)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    _, *parts = re.split(r"^(\w+)\.o: +file format", listing, flags=re.MULTILINE)
    members = dict(zip(parts[::2], parts[1::2], strict=True))
    code = members[isa]
    if f"__{isa}>:" not in code:
        pytest.skip(f"the compiler of this build cannot target {isa}")
    for suffix in ("ps", "pd"):
        fma = rf"vfmadd(?:132|213|231){suffix}\b.*{register}"
        count = len(re.findall(fma, code))
        print(f"{isa}: {count} vfmadd*{suffix} on {register}")
        assert count >= 12
    # The control: the baseline kernels have none.
    assert "vfmadd" not in members["generic"]


# ---------------------------------------------------------- wheel and sdist


def copy_of_the_repository(folder):
    built = shutil.ignore_patterns(".*", "build", "*.egg-info", "*.so", "__pycache__")
    return Path(shutil.copytree(ROOT, folder, ignore=built))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """A source distribution, made from a copy of the repository."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("sdist")
    tree = copy_of_the_repository(folder / "tree")
    program = f"from setuptools import build_meta as b; b.build_sdist({str(folder)!r})"
    done = python("-c", program, cwd=tree)
    assert done.returncode == 0, done.stdout + done.stderr
    (archive,) = folder.glob("*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """A wheel built from the source distribution, offline."""
    pytest.importorskip("Cython", reason="a wheel is built with Cython")
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-build-isolation", "--no-deps", "--no-index"]
    done = python("-m", "pip", "wheel", *options, str(sdist), "-w", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    (archive,) = folder.glob("*.whl")
    return archive


@in_repository
def test_sdist_holds_all_sources(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    sources = {
        path.relative_to(ROOT).as_posix()
        for tree, patterns in {
            "convcore": ["*.c", "*.h", "*.inc", "Makefile"],
            "src": ["*.py", "*.py[ix]", "*.px[di]", "*.xz", "*.txt"],
            "tests": ["*.py"],
        }.items()
        for pattern in patterns
        for path in (ROOT / tree).rglob(pattern)
        if "egg-info" not in str(path) and "build" not in path.parts
    } - {"src/convcore/_core.c"}
    assert "src/convcore/_core.pyx" in sources
    assert sources - names == set()
    assert not [name for name in names if name.endswith((".so", ".o", ".a", ".pyc"))]


@pytest.mark.slow
@in_repository
def test_wheel_contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata_file,) = [n for n in names if n.endswith(".dist-info/METADATA")]
        fields = email.message_from_bytes(archive.read(metadata_file))
    for name in [
        "include/convcore.h", "lib/libconvcore.a", "capi.pxd", "py.typed",
        "_core.pyi", "data/digits.idx.xz", "data/NOTICE-digits.txt",
    ]:  # fmt: skip
        assert f"convcore/{name}" in names
    assert [n for n in names if re.fullmatch(r"convcore/_core\..*(so|pyd)", n)]
    modules = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "convcore").rglob("*.py")
    }
    assert {name for name in names if name.endswith(".py")} == modules
    assert not [name for name in names if name.endswith((".c", ".o"))]

    assert fields["License-Expression"] == "BSD-3-Clause AND CC-BY-SA-3.0"
    assert sorted(fields.get_all("License-File")) == [
        "LICENSE",
        "src/convcore/data/NOTICE-digits.txt",
    ]
    for name in fields.get_all("License-File"):
        assert [n for n in names if n.endswith(f".dist-info/licenses/{name}")]

    megabytes = wheel.stat().st_size / 1e6
    print(f"{wheel.name}: {megabytes:.2f} MB")
    assert megabytes < 4


@pytest.mark.slow
@in_repository
def test_installed_wheel_works_from_the_repository_root(wheel, tmp_path):
    options = ["--quiet", "--no-deps", "--no-index", "--target", str(tmp_path)]
    done = python("-m", "pip", "install", *options, str(wheel))
    assert done.returncode == 0, done.stderr
    program = (
        "import convcore as cc, numpy as np; print(cc.__file__); "
        "cc.relu(np.ones((1, 2), np.float32)); cc.data.digits(); "
        "print(cc.get_include()); print(cc.get_library_dir())"
    )
    done = python("-c", program, cwd=ROOT, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert [Path(line) for line in done.stdout.split()] == [
        tmp_path / "convcore" / "__init__.py",
        tmp_path / "convcore" / "include",
        tmp_path / "convcore" / "lib",
    ]


# ----------------------------------------------------------------- toolchain


@in_repository
def test_without_a_compiler_the_message_says_what_to_install(tmp_path):
    pytest.importorskip("setuptools", minversion="77")
    pytest.importorskip("Cython")
    command = ["setup.py", "build_ext", "--build-lib", str(tmp_path)]
    done = python(*command, cwd=ROOT, CC="no-such-compiler")
    assert done.returncode != 0
    assert "`no-such-compiler`" in done.stderr
    for command in ["apt install", "dnf install", "xcode-select", "wsl --install"]:
        assert command in done.stderr


COMPILER_WITHOUT_OPENMP_AND_AVX512 = r"""#!/bin/sh
for argument in "$@"; do
  case "$argument" in
    -fopenmp | -lomp) exit 1 ;;
    */probe.c) if grep -q avx512f "$argument"; then exit 1; fi ;;
  esac
done
exec cc "$@"
"""


@pytest.mark.slow
@in_repository
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_compiler_without_openmp_and_avx512(tmp_path):
    """Such a compiler gives a serial library without the AVX-512 kernels."""
    pytest.importorskip("setuptools", minversion="77")
    pytest.importorskip("Cython")
    compiler = tmp_path / "cc"
    compiler.write_text(COMPILER_WITHOUT_OPENMP_AND_AVX512)
    compiler.chmod(0o755)
    tree = copy_of_the_repository(tmp_path / "tree")
    done = python("setup.py", "build_ext", "--inplace", cwd=tree, CC=str(compiler))
    assert done.returncode == 0, done.stderr
    assert "building a serial library" in done.stdout
    answer = python(
        "-c",
        "from convcore._core import *; print(has_openmp(), *isas_available())",
        PYTHONPATH=str(tree / "src"),
    )
    assert answer.returncode == 0, answer.stderr
    has_openmp, *isas = answer.stdout.split()
    assert has_openmp == "False"
    assert "generic" in isas
    assert "avx512" not in isas
