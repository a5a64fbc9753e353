"""Commands that the pages show are commands that there are."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.__main__ import group
from mailproxy.config import VARIABLES
from tests.need import need_program
from tests.pages import DATA, NOT_RUN, Block, blocks, in_prose, pages
from tests.scratch import scratch

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


class BlockTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.blocks = [block for page in pages() for block in blocks(page)]
        self.shell = [block for block in self.blocks if block.language == "sh"]

    def test_languages(self) -> None:
        """A block says what it holds: ``sh`` is run, data is not; nothing is only indented."""
        for block in self.blocks:
            self.assertIn(block.language, {"sh", *DATA}, block)
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
