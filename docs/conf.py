"""How Sphinx makes the pages of this directory into a site: ``make docs``, into build/docs."""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

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


def only_what_is_there(app: Sphinx, page: str, source: list[str]) -> None:
    """Leave pages out of the navigation that this tree does not have."""
    if page == "index":
        head, fence, navigation = source[0].partition("```{toctree}")
        lines = [
            line
            for line in navigation.splitlines()
            if re.fullmatch(r"[\w/-]+", line) is None or (Path(app.srcdir) / f"{line}.md").exists()
        ]
        source[0] = head + fence + "\n".join(lines)


def setup(app: Sphinx) -> None:
    """What Sphinx calls first."""
    app.connect("source-read", only_what_is_there)
