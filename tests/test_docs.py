"""What the documents say is so."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import click
import yaml
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.__main__ import group
from mailproxy.config import VARIABLES
from mailproxy.metrics import Metrics
from mailproxy.states import MessageState, OnUncertain, TlsMode
from tests.api.door import Door
from tests.need import need_program
from tests.pages import DATA, NOT_RUN, Block, blocks, in_prose, pages
from tests.scratch import scratch
from tests.test_architecture import ROOT

PAGES = pages()


#: What is wrong with a block.
FENCE = (
    "fence it and say what it holds: sh is run by tests/scenarios/test_guides.py, or has a reason "
    "in tests/pages.py why not; for what is no command see DATA there"
)

VARIABLE = re.compile(r"\b(GMP_[A-Z_]+)=(\"[^\"]*\"|'[^']*'|[^\s#]*)")


def wrong_options(words: list[str]) -> Iterator[str]:
    """What ``mailproxy`` would not understand of *words*, its own name being the first."""
    command: click.Command = group()
    with click.Context(command) as context:
        for word in words[1:]:
            if isinstance(command, click.Group) and not word.startswith("-"):
                found = command.get_command(context, word)
                if found is None:
                    yield word
                    return
                command = found
            elif word.startswith("--") and not command.context_settings.get(
                "ignore_unknown_options"
            ):
                known = [name for each in command.get_params(context) for name in each.opts]
                known += [n for each in command.get_params(context) for n in each.secondary_opts]
                if word.partition("=")[0] not in known:
                    yield word


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
            named = re.findall(r"`((?:gmp|mailproxy)_[a-z_]+)`", text)
            for block in blocks(page):
                if block.language == "promql":
                    named += re.findall(r"\b((?:gmp|mailproxy)_[a-z_]+)", block.text)
            for name in named:
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

    def test_endpoints_exist(self) -> None:
        """Every endpoint that a sentence names is there; the sink's own are another matter."""
        known = [re.sub(r"\\{.*?\\}", "[^/]+", re.escape(route)) for route in self.routes()]
        known += ["GET /console.*", "POST /console.*"]
        named = {
            (page.name, text.partition("?")[0])
            for page in PAGES
            for text in in_prose(page)
            if re.fullmatch(r"(GET|POST|PUT|PATCH|DELETE) /[^ ]*", text) and "..." not in text
        }
        self.assertGreater(len(named), 50)
        for where, text in named:
            if where != "sink.md":
                found = any(re.fullmatch(each, text) for each in known)
                self.assertTrue(found, f"{where}: {text}")

    def test_every_endpoint_has_its_fields(self) -> None:
        """The page of fields, too, has a section for each endpoint."""
        text = (ROOT / "docs/reference/openapi.md").read_text(encoding="utf-8")
        described = re.findall(r"(?m)^### `([A-Z]+ [^`]+)`$", text)
        self.assertEqual(sorted(self.routes()), sorted(described))

    def test_every_field_is_described(self) -> None:
        """The reference names every field of a message and of an account."""
        import msgspec

        from mailproxy.api.account_fields import FIELDS
        from mailproxy.api.wire import Element

        text = (ROOT / "docs/reference/api.md").read_text(encoding="utf-8")
        named = set(re.findall(r"[`\"](\w+)[`\"]", text))
        fields = {field.encode_name for field in msgspec.structs.fields(Element)}
        self.assertEqual(set(), (fields | set(FIELDS)) - named)

    def test_examples_are_what_they_say(self) -> None:
        """Every example in the documents is of its language."""
        readers: dict[str, Callable[[str], object]] = {
            "yaml": lambda text: list(yaml.safe_load_all(text)),
            "toml": tomllib.loads,
            "python": ast.parse,
            "xml": ElementTree.fromstring,
        }
        for page in PAGES:
            for block in blocks(page):
                if block.language in readers:
                    try:
                        readers[block.language](block.text)
                    except Exception as error:
                        self.fail(f"{block}: {error}")

    def test_examples_are_json(self) -> None:
        """Every JSON example in the documents is JSON."""
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


class BlockTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.blocks = [block for page in pages() for block in blocks(page)]
        self.shell = [block for block in self.blocks if block.language == "sh"]

    def test_languages(self) -> None:
        """A block says what it holds: ``sh`` is run, data is not; nothing is only indented."""
        for block in self.blocks:
            self.assertIn(block.language, {"sh", *DATA}, f"{block}: {FENCE}")
            if block.language == "text":
                self.assertNotRegex(block.text, r"(?m)^(\$ |(curl|docker|mailproxy) [^:]*$)", block)

    def test_syntax(self) -> None:
        """What is not run is at least a shell's language."""
        bash = need_program("bash")
        self.assertGreater(len(self.shell), 20)
        for block in self.shell:
            done = subprocess.run(
                [bash, "-n"], input=block.text, capture_output=True, text=True, timeout=10
            )
            self.assertEqual((0, ""), (done.returncode, done.stderr), block)

    def test_our_own_commands(self) -> None:
        """Every command and option of ours that is shown exists."""
        shown = [(str(b), words) for b in self.shell for words in b.commands()]
        for page in pages():
            shown += [
                (page.name, text.split())
                for text in in_prose(page)
                if re.match(r"mailproxy [a-z]", text)
            ]
        ours = [(where, words) for where, words in shown if Path(words[0]).name == "mailproxy"]
        self.assertGreater(len(ours), 20)
        for where, words in ours:
            self.assertEqual([], list(wrong_options(words)), f"{where}: {' '.join(words)}")
        self.assertEqual(["--nonsense"], list(wrong_options(["mailproxy", "sink", "--nonsense"])))
        self.assertEqual(["nonsense"], list(wrong_options(["mailproxy", "nonsense"])))

    def test_settings(self) -> None:
        """Every value that a variable is given in a block would be taken."""
        kinds = {variable.name: variable.kind for variable in VARIABLES}
        tried = 0
        for block in self.blocks:
            for name, value in VARIABLE.findall(block.text):
                text = value.strip("\"'")
                if name in kinds and text and "$" not in text:
                    tried += 1
                    try:
                        kinds[name].read(text, scratch(self))
                    except ValueError as error:
                        # Files and sockets are on another machine.
                        if not re.search("No such file|no such socket", str(error)):
                            self.fail(f"{block}: {name}={text}: {error}")
        self.assertGreater(tried, 10)

    def test_queries(self) -> None:
        """Every query for Prometheus is one that it understands."""
        queries = [block.text.strip() for block in self.blocks if block.language == "promql"]
        self.assertGreater(len(queries), 3)
        rules = [{"alert": f"Shown{n}", "expr": query} for n, query in enumerate(queries)]
        file = scratch(self) / "rules.yml"  # JSON is YAML, too
        file.write_text(json.dumps({"groups": [{"name": "shown", "rules": rules}]}))
        done = subprocess.run(
            [need_program("promtool"), "check", "rules", file],
            capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        self.assertEqual(0, done.returncode, done.stdout + done.stderr)

    def test_reasons_are_for_something(self) -> None:
        """What is said not to be run stands in its page."""
        for page, reasons in NOT_RUN.items():
            first = {block.first for block in self.shell if block.page == page}
            self.assertEqual(set(), set(reasons) - first, page)

    def test_a_block_is_read(self) -> None:
        """Words, comments, continued lines, and commands within others."""
        text = (
            "A=1 mailproxy token | cat  # don't\nTOKEN=$(mailproxy status)\n"
            "curl -d '{\n \"a\": 1}' \\\n  x:1/ && docker run"
        )
        block = Block("x", 1, "sh", text)
        self.assertEqual(
            [["mailproxy", "token"], ["cat"], ["mailproxy", "status"],
             ["curl", "-d", '{\n "a": 1}', "x:1/"], ["docker", "run"]],
            block.commands(),
        )  # fmt: skip
        self.assertEqual("needs Docker", block.why_not_run())
