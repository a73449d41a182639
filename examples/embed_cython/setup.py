"""Build with `python setup.py build_ext --inplace`; convcore must be installed."""

from Cython.Build import cythonize
from setuptools import Extension, setup

import convcore

# A library built with OpenMP needs its run time.
openmp = ["-fopenmp"] if convcore._core.has_openmp() else []

setup(
    name="edges",
    ext_modules=cythonize(
        Extension(
            "edges",
            ["edges.pyx"],
            include_dirs=[convcore.get_include()],
            library_dirs=[convcore.get_library_dir()],
            libraries=["convcore", "m"],
            extra_link_args=openmp,
        )
    ),
)
