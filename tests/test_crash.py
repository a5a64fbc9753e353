"""Dying at a crash point, without dying."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.crash import VARIABLE, arm, wanted
from mailproxy.errors import ConfigurationError
from mailproxy.interfaces import CRASHPOINTS, crashpoint


class CrashTests(SynchronousTestCase):
    def armed(self, value: str | None) -> list[str]:
        """What happens from now on, with *value* in the environment."""
        happened: list[str] = []
        environ = {} if value is None else {VARIABLE: value}
        self.addCleanup(arm(environ, lambda: happened.append("died")))
        return happened

    def test_nothing_without_the_variable(self) -> None:
        """Without the variable, or with an empty one, crash points do nothing."""
        for value in (None, "", " "):
            happened = self.armed(value)
            for name in CRASHPOINTS:
                crashpoint(name)
            self.assertEqual([], happened)

    def test_at_the_passing_that_was_asked_for(self) -> None:
        """It dies at that passing of that point, and of no other."""
        happened = self.armed("intent:3")
        for name in CRASHPOINTS * 2:
            crashpoint(name)
        self.assertEqual([], happened)
        crashpoint("intent")
        self.assertEqual(["died"], happened)

    def test_the_first_passing(self) -> None:
        """A name alone means the first passing."""
        happened = self.armed("ack-commit")
        crashpoint("ack-commit")
        self.assertEqual(["died"], happened)

    def test_refused(self) -> None:
        """A name that is none, or a count that is none, is refused by the variable's name."""
        for value in ("intend", "intent:", "intent:0", "intent:-1", "intent:x", "intent:1:2", ":1"):
            with self.assertRaises(ConfigurationError) as caught:
                wanted({VARIABLE: value})
            self.assertIn(VARIABLE, str(caught.exception), value)
