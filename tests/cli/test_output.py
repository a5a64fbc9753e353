"""What commands print, for people, for programs, and as JSON."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.cli.output import Output, clean, progress, shown, when


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def printed(function: Callable[[], Any], file: io.StringIO | None = None) -> str:
    """What *function* writes to the standard output."""
    file = io.StringIO() if file is None else file
    with contextlib.redirect_stdout(file):
        function()
    return file.getvalue()


ROWS = [("m1", 3, None), ("m2", True, "[bold]x[/bold]")]


class CellTests(SynchronousTestCase):
    def test_values(self) -> None:
        """Nothing is a dash, a flag a word, anything else its text."""
        self.assertEqual(
            ["-", "-", "yes", "no", "0", "1.5", "a b"],
            [shown(each) for each in (None, "", True, False, 0, 1.5, "a b")],
        )

    def test_no_control_sequence_comes_through(self) -> None:
        """What moves a cursor, breaks a line, or turns the text around is written as an escape."""
        self.assertEqual("\\x1b[2Jgone", clean("\x1b[2Jgone"))
        self.assertEqual("a\\x09b\\x0ac\\x0d", clean("a\tb\nc\r"))
        self.assertEqual("\\x9b1m \\u202eevil \\u2066", clean("\x9b1m \u202eevil \u2066"))
        self.assertEqual("\\ud800", clean("\ud800"))
        self.assertEqual("Grüße 漢字 🎉", clean("Grüße 漢字 🎉"))

    def test_instants(self) -> None:
        """Unix seconds and ISO 8601 alike are shown in UTC."""
        self.assertEqual("2025-01-01 00:00:00Z", when(1735689600))
        self.assertEqual("2025-01-01 00:00:00Z", when("2025-01-01T01:00:00+01:00"))
        self.assertEqual("soon", when("soon"))
        self.assertEqual([None, None], [when(None), when("")])


class ColumnsTests(SynchronousTestCase):
    def test_table(self) -> None:
        """Elsewhere than on a terminal: a line for each row, TABs between its columns."""
        text = printed(lambda: Output().table(("id", "n", "says"), ROWS))
        self.assertEqual("id\tn\tsays\nm1\t3\t-\nm2\tyes\t[bold]x[/bold]\n", text)

    def test_fields(self) -> None:
        """A line for each field."""
        text = printed(lambda: Output().fields([("id", "m1"), ("subject", "a\tb")]))
        self.assertEqual("id\tm1\nsubject\ta\\x09b\n", text)

    def test_one_line_each(self) -> None:
        """What has a line break in it is still one line."""
        text = printed(lambda: Output().say("it said: 550\r\nno"))
        self.assertEqual("it said: 550\\x0d\\x0ano\n", text)


class TerminalTests(SynchronousTestCase):
    def test_table(self) -> None:
        """A heading, aligned columns, and no text that is taken for markup."""
        text = printed(lambda: Output(width=60).table(("id", "n", "says"), ROWS))
        heading, first, second = (line.rstrip() for line in text.splitlines())
        self.assertEqual(["ID", "N", "SAYS"], heading.split())
        self.assertEqual(["m1", "3", "-"], first.split())
        self.assertEqual(["m2", "yes", "[bold]x[/bold]"], second.split())
        self.assertEqual(first.index("3"), second.index("yes"))

    def test_narrow(self) -> None:
        """What does not fit is folded, and not lost."""
        said = "550 5.1.1 no such user here, nor anywhere else on this host"
        text = printed(lambda: Output(width=30).fields([("reply", said)]))
        self.assertTrue(all(len(line) <= 30 for line in text.splitlines()))
        self.assertEqual(["reply", *said.split()], text.split())


class JsonTests(SynchronousTestCase):
    def test_value(self) -> None:
        """It can be read again, and holds no character that a terminal takes for a command."""
        value = {"ok": True, "text": "Grüße \x1b[0m \x9b2J \u202e \x7f"}
        text = printed(lambda: Output(json=True).json(value))
        self.assertEqual(value, json.loads(text))
        self.assertIn("Grüße", text)
        for char in "\x1b\x9b\u202e\x7f":
            self.assertNotIn(char, text)

    def test_line(self) -> None:
        """A step of something that goes on is one line."""
        text = printed(lambda: Output(json=True).line({"a": [1, "\x85"]}))
        self.assertEqual('{"a":[1,"\\u0085"]}\n', text)


class ProgressTests(SynchronousTestCase):
    def bar(self, file: io.StringIO, output: Output) -> str:
        with contextlib.redirect_stderr(file), progress("copying", "pages", output) as bar:
            bar.to(1, 2)
            bar.so_far(2)
        return file.getvalue()

    def test_only_on_a_terminal(self) -> None:
        """Neither in a file, nor where JSON is asked for."""
        self.assertEqual("", self.bar(io.StringIO(), Output()))
        self.assertEqual("", self.bar(Terminal(), Output(json=True)))
        self.assertIn("copying", self.bar(Terminal(), Output()))
