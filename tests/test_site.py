"""The pages make a site, and nothing in them leads nowhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.scratch import scratch
from tests.test_architecture import ROOT

#: The pages that documents written for this service link to.
NAMES = ("installation", "usage", "architecture_overview", "network_requirements")


def build(pages: Path, into: Path) -> subprocess.CompletedProcess[str]:
    """What ``make docs`` does: every page, with warnings as errors."""
    return subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html",
         "-d", into / "trees", pages, into / "html"],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


class SiteTests(SynchronousTestCase):
    def test_names(self) -> None:
        """The pages that others link to are there under these names."""
        for name in NAMES:
            self.assertTrue((ROOT / "docs" / f"{name}.md").is_file(), name)
        self.assertTrue((ROOT / "TROUBLESHOOTING.md").is_file())

    def test_the_site(self) -> None:
        """Sphinx has no complaint, and every page that there is can be reached and read offline."""
        into = scratch(self)
        done = build(ROOT / "docs", into)
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        made = {page.relative_to(into / "html") for page in (into / "html").rglob("*.html")}
        pages = {page.relative_to(ROOT / "docs") for page in (ROOT / "docs").rglob("*.md")}
        self.assertEqual(set(), {page.with_suffix(".html") for page in pages} - made)
        front = (into / "html" / "index.html").read_text(encoding="utf-8")
        for page in pages - {Path("index.md")}:
            if page.parent != Path("decisions") or page.stem == "README":
                self.assertIn(f'href="{page.with_suffix(".html")}"', front, page)
        for page in made:
            text = (into / "html" / page).read_text(encoding="utf-8")
            self.assertNotRegex(text, r'<(script|img|iframe)[^>]+src="(https?:)?//', page)
            self.assertNotRegex(text, r'<link[^>]+rel="stylesheet"[^>]+href="(https?:)?//', page)
