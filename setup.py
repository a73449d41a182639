"""Build the C library once: for the extension and for libconvcore.a.

pyproject.toml describes the package; here is what it cannot say: finding out
what the compiler can do, compiling the C library (in parallel, only what has
changed), and putting library and headers into the wheel.
"""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

LIBRARY = Path("convcore")
HEADER = LIBRARY / "include" / "convcore.h"

# gnu11: strict c11 switches the contraction to FMA off. No link-time
# optimization: objects in the archive must suit every compiler.
CFLAGS = [
    "-std=gnu11",
    "-O2",
    "-g0",
    "-ffp-contract=fast",
    "-fvisibility=hidden",
    "-fno-lto",
]

# Flags to compile and to link: those of GCC and Clang, those of Apple's Clang.
OPENMP = [
    (["-fopenmp"], ["-fopenmp"]),
    (["-Xpreprocessor", "-fopenmp"], ["-lomp"]),
]

NO_COMPILER = """\
convcore needs a C compiler (GCC or Clang) and Python's headers.
`{command}` does not compile and link{what}. Install them with:

  Debian, Ubuntu   apt install gcc python3-dev
  Fedora, RHEL     dnf install gcc python3-devel
  macOS            xcode-select --install   (with OpenMP: brew install libomp)
  Windows          wsl --install, then as on Ubuntu; Visual C++ lacks the
                   vector extensions that the kernels are written in

or name another compiler in the environment variable CC.
"""


class Toolchain:
    """What the compiler and linker can do, found out by using them."""

    def __init__(self, compiler, include_dirs):
        if compiler.compiler_type == "msvc":
            raise SystemExit(NO_COMPILER.format(command="cl", what=""))
        self.command = list(compiler.compiler)
        self.headers = [f"-I{path}" for path in include_dirs]
        self._require("int main(void) { return 0; }", "")
        self._require(
            "#include <Python.h>\nint main(void) { return 0; }", " with <Python.h>"
        )

    def builds(self, program, *flags):
        """Whether a program compiles and links."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text(program)
            output = ["-o", str(Path(folder, "probe"))]
            linker = shlex.split(os.environ.get("LDFLAGS", ""))
            command = [*self.command, *CFLAGS, str(source), *output, *linker, *flags]
            try:
                return subprocess.run(command, capture_output=True).returncode == 0
            except OSError:
                return False

    def _require(self, program, what):
        if not self.builds(program, *self.headers):
            command = shlex.join(self.command[:1])
            raise SystemExit(NO_COMPILER.format(command=command, what=what))

    def openmp(self):
        """Flags to compile and to link with OpenMP; None when there is none."""
        program = (
            "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }"
        )
        for compile_flags, link_flags in OPENMP:
            if self.builds(program, *compile_flags, *link_flags):
                return compile_flags, link_flags
        return None

    def has_target(self, features):
        """Whether functions can be compiled for a CPU's features."""
        return self.builds(
            f"""
            #if defined(__clang__)
            #pragma clang attribute push(__attribute__((target("{features}"))), \\
                                         apply_to = function)
            #else
            #pragma GCC target("{features}")
            #endif
            typedef float vector __attribute__((vector_size(64)));
            void step(vector *a, vector *b, vector *c) {{ *c += *a * *b; }}
            #if defined(__clang__)
            #pragma clang attribute pop
            #endif
            int main(void) {{ return 0; }}
            """,
            "-Werror=ignored-attributes",
        )


def isa_targets():
    """The stubs in convcore/isa that name a target: {ISA: the CPU's features}."""
    pragma = re.compile(r'#pragma GCC target\("([^"]+)"\)')
    found = {
        stub.stem: pragma.search(stub.read_text())
        for stub in sorted((LIBRARY / "isa").glob("*.c"))
    }
    return {name: match[1] for name, match in found.items() if match}


def compile_changed(compiler):
    """Replace `compiler.compile`: in parallel, only what is out of date."""
    compile_all = compiler.compile

    def compile(sources, output_dir, depends=(), **options):
        def update(source):
            (name,) = compiler.object_filenames([source], output_dir=output_dir)
            inputs = [source, *depends]
            if not os.path.exists(name) or any(
                os.path.getmtime(path) > os.path.getmtime(name) for path in inputs
            ):
                compile_all([source], output_dir=output_dir, **options)
            return name

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(update, sources))

    compiler.compile = compile


class BuildExtension(build_ext):
    """Compile the C library, archive it, and link it into the extension."""

    def build_extensions(self):
        toolchain = Toolchain(self.compiler, self.compiler.include_dirs)
        openmp = toolchain.openmp()
        if openmp is None:
            print("convcore: the compiler has no OpenMP: building a serial library")
        openmp_compile, openmp_link = openmp or ([], [])
        targets = isa_targets()
        lacking = [name for name in targets if not toolchain.has_target(targets[name])]
        print("convcore: kernels switched off:", ", ".join(lacking) or "none")

        macros = [(f"CVC_NO_{name.upper()}", None) for name in lacking]
        # The caller's flags again, so that they win over those above.
        flags = [*CFLAGS, *openmp_compile, *shlex.split(os.environ.get("CFLAGS", ""))]
        self.build_temp = self._object_folder(macros, flags)
        self.cython_c_in_temp = True
        compile_changed(self.compiler)

        objects = self.compiler.compile(
            sorted(map(str, [*LIBRARY.glob("src/*.c"), *LIBRARY.glob("isa/*.c")])),
            output_dir=self.build_temp,
            macros=macros,
            depends=[str(p) for p in [*LIBRARY.rglob("*.h"), *LIBRARY.rglob("*.inc")]],
            extra_postargs=flags,
        )
        self._archive(objects)
        for extension in self.extensions:
            extension.define_macros.append(
                ("CVC_BUILD_FLAGS", f'"{shlex.join(flags)}"')
            )
            extension.extra_objects = objects
            extension.extra_compile_args = flags
            extension.extra_link_args = openmp_link
            # Linked again every time: cheap, and right for any set of objects.
            Path(self.get_ext_fullpath(extension.name)).unlink(missing_ok=True)
        super().build_extensions()

    def _object_folder(self, macros, flags):
        """A folder per compiler and flags, shared by plain and editable builds."""
        key = repr([self.compiler.compiler_so, macros, flags]).encode()
        digest = hashlib.sha256(key).hexdigest()[:8]
        tag = f"{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
        return os.path.join("build", f"objects.{tag}-{digest}")

    def _archive(self, objects):
        folder = Path(self.build_lib, "convcore", "lib")
        # `ar` would add to an archive that exists.
        shutil.rmtree(folder, ignore_errors=True)
        self.compiler.create_static_lib(objects, "convcore", output_dir=str(folder))

    def copy_extensions_to_source(self):
        super().copy_extensions_to_source()
        package = self.get_finalized_command("build_py").get_package_dir("convcore")
        self.copy_tree(
            os.path.join(self.build_lib, "convcore", "lib"),
            os.path.join(package, "lib"),
        )


class BuildPython(build_py):
    """Copy the package, and the C headers beside it.

    An editable install has no copy of the headers: `convcore.get_include`
    then names the folder of the repository.
    """

    def run(self):
        if self.editable_mode:
            return super().run()
        package = Path(self.build_lib, "convcore")
        # What an earlier build left must not enter the wheel.
        shutil.rmtree(package, ignore_errors=True)
        super().run()
        self.mkpath(str(package / "include"))
        self.copy_file(str(HEADER), str(package / "include"))
        return None


setup(
    ext_modules=[
        Extension(
            "convcore._core",
            ["src/convcore/_core.pyx"],
            include_dirs=[str(HEADER.parent), numpy.get_include()],
            define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
            depends=[str(HEADER)],
            libraries=["m"],
        )
    ],
    cmdclass={"build_ext": BuildExtension, "build_py": BuildPython},
)
