"""The pages of the repository, and the commands that they show."""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import attrs
from markdown_it import MarkdownIt

from tests.test_architecture import ROOT

#: What a block holds that has no commands in it. ``text`` is what a program prints, or a drawing.
DATA = {
    *("text", "json", "ini", "yaml", "toml", "nginx", "python", "http", "dockerfile"),
    *("promql", "sql", "email", "xml"),
}

#: What does not return, changes the machine, or needs one of another kind, by its first word or
#: two: such blocks are parsed, not run.
NOT_HERE = {
    "apt-get": "needs root, and changes the machine",
    "docker": "needs Docker",
    "install": "writes to the system's directories, as root",
    "iptables": "needs root, and changes the machine's firewall",
    "journalctl": "needs systemd",
    "kubectl": "needs a cluster",
    "mailproxy container": "does not return; tests/cli/test_container.py",
    "mailproxy serve": "does not return; the test has one running",
    "mailproxy sink": "does not return; the test has one running",
    "mailproxy torture": "runs for minutes; tests/scenarios/test_torture.py",
    "make": "makes an environment, or runs for minutes; CI does it",
    "nft": "needs root, and changes the machine's firewall",
    "nginx": "needs root; tests/test_nginx.py starts one",
    "sudo": "needs root",
    "systemctl": "needs systemd",
    "twistd": "forks; tests/test_packaging_run.py starts it",
    "useradd": "needs root, and changes the machine",
}

#: Blocks that are not run for another reason: by page and first line.
NOT_RUN = {
    "docs/nodes.md": {
        "mailproxy copy --from sqlite:/data/mail_service.db "
        "--to postgresql://user:password@host/mail": "needs a server; tests/cli/test_copy.py",
    },
    "docs/operations.md": {
        "mailproxy restore copy.db": "the database is in use; tests/store has it",
    },
    "docs/smtp.md": {
        "printf '#!/bin/sh\\nexec mailproxy sendmail \"$@\"\\n' > /usr/sbin/sendmail && "
        "chmod 755 /usr/sbin/sendmail": "needs root, and changes the machine",
    },
}

#: What stands before a command, and is none.
_BEFORE = frozenset(("if", "then", "else", "do", "while", "until", "!", "time", "exec", "export"))

_SEPARATORS = ";|&()\n"


@attrs.frozen
class Block:
    """
    One block of a page.

    :param page: from the root of the repository on.
    :param line: of the page, from 1; *end* is the first one behind it.
    :param language: None for text that is only indented.
    """

    page: str
    line: int
    language: str | None
    text: str
    end: int = 0

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def first(self) -> str:
        """The first line, without what stands behind a comment sign."""
        return self.text.partition("\n")[0].partition(" #")[0].strip()

    def commands(self) -> list[list[str]]:
        """
        The words of every simple command, also of those in ``$( )``.

        :raises ValueError: a quotation does not end.
        """
        found: list[list[str]] = []
        words: list[str] = []
        for word in [*_words(self.text.replace("\\\n", " ")), "\n"]:
            if not word.strip(_SEPARATORS):
                if words:
                    found.append(words)
                words = []
            elif words or not (word in _BEFORE or re.match(r"\w+=", word)):
                words.append(word)
        return found

    def why_not_run(self) -> str | None:
        """Why these commands are only parsed; None where they are run."""
        for page, reasons in NOT_RUN.items():
            if page == self.page and self.first in reasons:
                return reasons[self.first]
        for words in self.commands():
            name = Path(words[0]).name
            for start in (name, f"{name} {words[1]}" if len(words) > 1 else ""):
                if start in NOT_HERE:
                    return NOT_HERE[start]
        return None


class _Text:
    """A file in which a comment ends before the end of its line."""

    def __init__(self, text: str) -> None:
        self._file = io.StringIO(text)

    def read(self, size: int = -1) -> str:
        return self._file.read(size)

    def readline(self) -> str:
        line = self._file.readline()
        if line.endswith("\n"):
            self._file.seek(self._file.tell() - 1)
        return line

    def close(self) -> None:
        self._file.close()


def _words(text: str) -> Iterator[str]:
    lexer = shlex.shlex(_Text(text), posix=True, punctuation_chars=_SEPARATORS + "<>")
    lexer.whitespace = " \t\r"
    lexer.whitespace_split = True
    return iter(lexer)


def pages() -> list[Path]:
    """Every page, those first that are read first."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    for folder in ("benchmarks", "deploy", "examples"):
        found += (ROOT / folder).rglob("*.md")
    return sorted(found, key=lambda page: (page.parent != ROOT, page))


def blocks(page: Path) -> list[Block]:
    """Every block of *page*, also within lists."""
    name, text = str(page.relative_to(ROOT)), page.read_text(encoding="utf-8")
    return [
        Block(
            name,
            token.map[0] + 1 if token.map else 0,
            token.info.strip() if token.type == "fence" else None,
            token.content,
            token.map[1] + 1 if token.map else 0,
        )
        for token in MarkdownIt().enable("table").parse(text)
        if token.type in ("fence", "code_block") and not token.info.startswith("{")
    ]


def in_prose(page: Path) -> list[str]:
    """Every text between backquotes that stands in a sentence."""
    text = re.sub(r"(?ms)^ *```.*?^ *```", "", page.read_text(encoding="utf-8"))
    return [" ".join(each.split()) for each in re.findall(r"`([^`]+)`", text)]


def shown_by(found: Sequence[Block]) -> dict[Block, Block]:
    """What commands print, as it is shown: in JSON, behind them, with nothing in between."""
    return {
        before: after
        for before, after in pairwise(found)
        if (before.language, after.language) == ("sh", "json") and after.line == before.end + 1
    }


def run_of(found: Sequence[Block]) -> list[Block]:
    """Those of *found* that are run: not what only sets variables, which others look at."""
    shell = [each for each in found if each.language == "sh" and each.commands()]
    return [each for each in shell if each.why_not_run() is None]
