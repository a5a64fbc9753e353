"""How Sphinx makes the pages of this directory into a site: ``make docs``, into build/docs."""

from __future__ import annotations

from mailproxy import __version__

project = "mailproxy"
release = version = __version__
html_title = f"mailproxy {release}"
author = ""
copyright = ""
language = "en"

extensions = ["myst_parser"]
myst_enable_extensions = ["deflist"]
root_doc = "index"
exclude_patterns: list[str] = []

# Headings down to this level can be linked to, by the anchors that GitHub gives them.
myst_heading_anchors = 4

html_theme = "furo"
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False

# Nothing is fetched: neither when the site is built nor when it is read.
nitpicky = True
