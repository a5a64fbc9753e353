"""What a missing program does to a test."""

from __future__ import annotations

import os

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.need import need_program


class NeedTests(SynchronousTestCase):
    def in_ci(self, value: str | None) -> None:
        """Let ``CI`` be *value* for this test; None: not set."""
        before = os.environ.pop("CI", None)
        self.addCleanup(lambda: os.environ.pop("CI", None))
        if before is not None:
            self.addCleanup(os.environ.__setitem__, "CI", before)
        if value is not None:
            os.environ["CI"] = value

    def test_found(self) -> None:
        """A program that is installed is found, in CI and elsewhere."""
        self.in_ci("true")
        self.assertTrue(os.access(need_program("sh"), os.X_OK))

    def test_skipped_on_a_person_s_machine(self) -> None:
        """A program that is not installed skips the test."""
        for value in (None, "", "0", "false"):
            self.in_ci(value)
            with self.assertRaises(SkipTest):
                need_program("no-such-program-anywhere")

    def test_fails_in_ci(self) -> None:
        """In CI the same is a failure, and names the program."""
        self.in_ci("true")
        with self.assertRaisesRegex(AssertionError, "no-such-program-anywhere"):
            need_program("no-such-program-anywhere")
