"""What the documents say is so."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.config import VARIABLES
from mailproxy.metrics import Metrics
from mailproxy.states import MessageState, OnUncertain, TlsMode
from tests.api.door import Door
from tests.pages import pages
from tests.scratch import scratch
from tests.test_architecture import ROOT

PAGES = pages()


def heading_anchor(heading: str) -> str:
    """What a heading is linked by."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


class GeneratedTests(SynchronousTestCase):
    def check(self, *argv: object) -> int:
        done = subprocess.run(
            [sys.executable, *map(str, argv)], cwd=ROOT, capture_output=True, timeout=60
        )
        return done.returncode

    def test_pages_are_up_to_date(self) -> None:
        """The generated pages are as the program would write them now."""
        self.assertEqual(0, self.check("docs/generate.py", "--check"))
        self.assertEqual(0, self.check("-m", "mailproxy.cli.reference", "--check", "docs"))

    def test_a_stale_page_is_found(self) -> None:
        """A page that was changed by hand fails the check, and is made anew."""
        docs = scratch(self) / "docs"
        shutil.copytree(ROOT / "docs", docs)
        page = docs / "reference" / "metrics.md"
        page.write_text(page.read_text().replace("gmp_sent_total", "gmp_send_total"))
        self.assertEqual(1, self.check(docs / "generate.py", "--check"))
        self.assertEqual(0, self.check(docs / "generate.py"))
        self.assertEqual(0, self.check(docs / "generate.py", "--check"))


class PageTests(SynchronousTestCase):
    def test_links_lead_somewhere(self) -> None:
        """Every relative link leads to a file that is there, and to a heading in it."""
        for page in PAGES:
            for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
                if re.match(r"[a-z]+:", target):
                    continue
                name, _, anchor = target.partition("#")
                where = (page.parent / name) if name else page
                self.assertTrue(where.exists(), f"{page.name}: {target}")
                if anchor:
                    text = where.read_text(encoding="utf-8")
                    headings = re.findall(r"(?m)^#+ (.*)$", text)
                    self.assertIn(anchor, map(heading_anchor, headings), f"{page.name}: {target}")

    def test_variables_exist(self) -> None:
        """Every GMP_ name in the documents is a variable; every variable is in the reference."""
        known = {"GMP_", "GMP_CONFIG"}
        for variable in VARIABLES:
            known |= (
                {variable.name, f"{variable.name}_FILE"} if variable.in_file else {variable.name}
            )
        for page in PAGES:
            names = set(re.findall(r"GMP_[A-Z_]*", page.read_text(encoding="utf-8")))
            self.assertEqual(set(), names - known, page.name)
        reference = (ROOT / "docs/reference/configuration.md").read_text(encoding="utf-8")
        for variable in VARIABLES:
            self.assertIn(f"| `{variable.name}` |", reference)

    def test_metrics_exist(self) -> None:
        """Every metric the documents name is one of ours."""
        families = [family.name for family in Metrics().registry.collect()]
        for page in PAGES:
            text = page.read_text(encoding="utf-8")
            for name in re.findall(r"`((?:gmp|mailproxy)_[a-z_]+)`", text):
                self.assertIn(name.removesuffix("_total"), [*families, "gmp_"], page.name)

    def test_modules_exist(self) -> None:
        """CONTRIBUTING names files that are there."""
        text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
        for stage, names in re.findall(r"(?m)^(\w+)/ .*  (\w+(?:, \w+)+)$", text):
            for name in names.split(", "):
                self.assertTrue((ROOT / "mailproxy" / stage / f"{name}.py").exists(), name)
        for name in re.findall(r"`(tests/[\w/]+\.py|mailproxy/[\w/]+\.py|[.]ci/run)`", text):
            self.assertTrue((ROOT / name).exists(), name)

    def test_words(self) -> None:
        """The pages explain every state, policy and TLS mode by its own name."""
        life = (ROOT / "docs/message-life.md").read_text(encoding="utf-8")
        for state in MessageState:
            self.assertIn(f"| `{state}` |", life)
        for policy in OnUncertain:
            self.assertIn(f"| `{policy}`", life)
        network = (ROOT / "docs/network_requirements.md").read_text(encoding="utf-8")
        for mode in TlsMode:
            self.assertIn(f"`{mode}`", network)


class ApiTests(SynchronousTestCase):
    def routes(self) -> set[str]:
        """Every endpoint there is, as the reference spells it."""
        return {
            route.method + " " + re.sub(r"<(?:path:)?(.*?)>", r"{\1}", route.path)
            for route in Door().api.routes
        }

    def test_every_endpoint_is_described(self) -> None:
        """The reference has a section for each endpoint, and for none that is not there."""
        text = (ROOT / "docs/reference/api.md").read_text(encoding="utf-8")
        described = set(re.findall(r"(?m)^### `([A-Z]+ [^`]+)`$", text))
        self.assertEqual(self.routes(), described)

    def test_every_field_is_described(self) -> None:
        """The reference names every field of a message and of an account."""
        import msgspec

        from mailproxy.api.account_fields import FIELDS
        from mailproxy.api.wire import Element

        text = (ROOT / "docs/reference/api.md").read_text(encoding="utf-8")
        named = set(re.findall(r"[`\"](\w+)[`\"]", text))
        fields = {field.encode_name for field in msgspec.structs.fields(Element)}
        self.assertEqual(set(), (fields | set(FIELDS)) - named)

    def test_examples_are_json(self) -> None:
        """Every JSON example in the documents is JSON."""
        import json

        for page in PAGES:
            for example in re.findall(r"(?s)```json\n(.*?)```", page.read_text(encoding="utf-8")):
                json.loads(example)


class LimitsTests(SynchronousTestCase):
    def test_f44_what_cannot_be_seen_is_said(self) -> None:
        """F44: that a server may accept mail and lose it is written down, with what is kept."""
        page = (ROOT / "docs" / "message-life.md").read_text(encoding="utf-8")
        section = page.partition("## What cannot be seen")[2].partition("\n## ")[0]
        for word in ("250", "queue id", "sent"):
            self.assertIn(word, section)
