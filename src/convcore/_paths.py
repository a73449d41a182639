"""Where the C header and the static library are, for those who embed them."""

# Not pathlib: loading it takes 3 ms, as long as all of convcore.
from os.path import abspath, dirname, isdir, join

_PACKAGE = dirname(abspath(__file__))


def get_include() -> str:
    """Folder of the C header ``convcore.h``, for the compiler's ``-I``.

    Returns
    -------
    str
        Absolute path.
    """
    installed = join(_PACKAGE, "include")
    # An editable install uses the header where it is written.
    repository = join(dirname(dirname(_PACKAGE)), "convcore", "include")
    return installed if isdir(installed) else repository


def get_library_dir() -> str:
    """Folder of the static library ``libconvcore.a``, for the linker's ``-L``.

    A program that links it needs the compiler's OpenMP flag where the library
    was built with OpenMP (see `convcore.show_config`), and ``-lm``.

    Returns
    -------
    str
        Absolute path.
    """
    return join(_PACKAGE, "lib")
