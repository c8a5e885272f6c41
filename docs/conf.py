"""Sphinx configuration; `nox -s docs` builds with warnings as errors."""

from importlib.metadata import version as installed_version

project = "vm"
author = "The vm authors"
project_copyright = "2026, the vm authors"
release = installed_version("vm_core")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
html_theme = "furo"
html_title = "vm"
exclude_patterns = ["_build"]
# Several classes have an attribute `bytes` or `name`, and the word in a signature means none of them.
suppress_warnings = ["ref.python"]
