"""What a torture run shows while it is under way."""

from __future__ import annotations

import contextlib
import io

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.proving.torture_bar import meanwhile
from tests.cli.test_output import Terminal


class MeanwhileTests(SynchronousTestCase):
    def shown(self, file: io.StringIO, *lines: str) -> str:
        with contextlib.redirect_stderr(file), meanwhile(60.0) as told:
            for line in lines:
                told(line)
        return file.getvalue()

    def test_lines(self) -> None:
        """In a file every line stands as it was told."""
        self.assertEqual("1 kill\n2 kills\n", self.shown(io.StringIO(), "1 kill", "2 kills"))

    def test_bar(self) -> None:
        """At a terminal the last one stands beside a bar, and nothing of it stays."""
        text = self.shown(Terminal(), "1 kill", "2 kills [bold]")
        self.assertIn("2 kills [bold]", text)
        self.assertNotIn("1 kill\n", text)
        self.assertTrue(text.endswith("\x1b[2K"), repr(text[-40:]))
