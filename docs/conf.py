"""Sphinx settings of the manual; `make docs` builds it, warnings are errors."""

from importlib import metadata

project = "convcore"
author = "convcore developers"
copyright = f"2026, {author}"
release = metadata.version("convcore")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build"]
default_role = "code"
html_theme = "furo"
html_title = f"convcore {release}"

autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
myst_heading_anchors = 3
