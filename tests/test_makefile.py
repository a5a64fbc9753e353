"""What `make test` makes of its parts."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.need import need_program
from tests.scratch import scratch

_ROOT = Path(__file__).parents[1]

#: Programs in the place of those of the virtual environment, by name.
_RUFF = "exit 0"
_TYPES = "echo 'a.py:1: error: of types' >&2; exit {status}"
_TESTS = "sleep 0.2; echo ran $*; exit {status}"


class MakeTestTests(SynchronousTestCase):
    """The file as it is, run with programs that end as they are told."""

    def made(self, types: int, tests: int) -> tuple[int, list[str]]:
        """The exit code of `make test`, and the lines it wrote."""
        make = need_program("make")
        tree = scratch(self)
        shutil.copy(_ROOT / "Makefile", tree)
        programs = {
            "ruff": _RUFF,
            "mypy": _TYPES.format(status=types),
            "python": _TESTS.format(status=tests),
        }
        (tree / ".venv" / "bin").mkdir(parents=True)
        for name, text in programs.items():
            path = tree / ".venv" / "bin" / name
            path.write_text(f"#!/bin/sh\n{text}\n")
            path.chmod(0o755)
        for name in (
            "requirements.lock",
            "requirements-peers.lock",
            "setup.cfg",
            ".venv/.installed",
        ):
            (tree / name).touch()
        done = subprocess.run(
            [make, "test"],
            cwd=tree,
            env={key: text for key, text in os.environ.items() if not key.startswith("MAKE")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        return done.returncode, done.stdout.splitlines()

    def test_types_and_tests(self) -> None:
        """The tests run, and what the type checker says is told after what they say."""
        status, lines = self.made(types=0, tests=0)
        self.assertEqual(0, status, lines)
        self.assertIn("ran -m pytest -n 3 --dist worksteal tests", lines)
        ran = lines.index("ran -m pytest -n 3 --dist worksteal tests")
        self.assertLess(ran, lines.index("a.py:1: error: of types"))

    def test_types_alone_fail(self) -> None:
        """Wrong types fail the whole though every test passes, and are told at its end."""
        status, lines = self.made(types=1, tests=0)
        self.assertNotEqual(0, status)
        self.assertIn("a.py:1: error: of types", lines[-3:])

    def test_tests_alone_fail(self) -> None:
        """So do tests that fail where the types are right, and both together."""
        self.assertNotEqual(0, self.made(types=0, tests=1)[0])
        self.assertNotEqual(0, self.made(types=1, tests=1)[0])
