"""``mailproxy torture`` as a command: what it refuses, what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.proving.torture_command import torture
from tests.scenarios.processes import wait_until
from tests.scratch import scratch


class UsageTests(SynchronousTestCase):
    def call(self, *arguments: str) -> Result:
        return CliRunner().invoke(torture, arguments)

    def test_wrong_use(self) -> None:
        """What cannot be carried out is refused by the option's name, with exit status 2."""
        directory = scratch(self)
        there = directory / "there.db"
        there.touch()
        for arguments, words in (
            (["--nodes", "2"], "--nodes"),
            (["--nodes", "2"], "cannot share an SQLite file"),
            (["--nodes", "2", "--db", str(directory / "x.db")], "cannot share an SQLite file"),
            (["--db", "mysql://localhost/mail"], "mysql is not served"),
            (["--db", "postgresql://localhost"], "the database is missing"),
            (["--restart", "true", "--db", "embedded"], "--restart is for a server"),
            (["--restart", "true"], "--restart is for a server"),
            (["--restart-every", "0"], "--restart-every"),
            (["--lease", "1"], "--lease"),
            (["--db", str(there)], "is there already"),
            (["--db", str(directory / "no" / "mail.db")], "there is no directory"),
            (["--db", "sqlite:///"], "names no file"),
            (["--keep", str(directory)], "is not empty"),
            (["--json", str(directory / "no" / "x.json")], "there is no directory"),
            (["--kill-every", "often"], "--kill-every"),
            (["--kill-every", "0"], "--kill-every"),
            (["--minutes", "0"], "--minutes"),
            (["--minutes", "nan"], "--minutes"),
            (["--seed", "-1"], "--seed"),
            (["--rate", "0"], "--rate"),
            (["--rate", "nan"], "--rate"),
        ):
            result = self.call(*arguments)
            self.assertEqual(2, result.exit_code, (arguments, result.output))
            self.assertIn(words, result.output, arguments)


class ProcessTests(SynchronousTestCase):
    """The command as a process of its own."""

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "mailproxy", "torture", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(self.scratch)},
            # Who runs the tests in the background ignores SIGINT, and so would the program.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self.addCleanup(process.wait, 30)
        self.addCleanup(process.kill)
        return process

    def setUp(self) -> None:
        self.scratch = scratch(self)

    def named(self, word: str) -> list[int]:
        """The processes of this user with *word* in their command line or environment."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    said = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                except OSError:
                    continue
                if word.encode() in said:
                    found.append(int(entry.name))
        return found

    def test_a_short_run(self) -> None:
        """It prints its certificate, writes it as JSON, and leaves nothing else behind."""
        out, db = self.scratch / "certificate.json", self.scratch / "mail.db"
        process = self.start(
            *("--minutes", "0.05", "--seed", "7", "--json", str(out), "--db", f"sqlite:///{db}")
        )
        printed, told = process.communicate(timeout=120)
        self.assertEqual(0, process.returncode, told)
        self.assertIn("verdict             passed", printed)
        self.assertIn("mailproxy torture --minutes 0.05 --kill-every 200ms --seed 7", printed)
        data = json.loads(out.read_text())
        self.assertEqual((True, 7), (data["passed"], data["seed"]))
        self.assertEqual([out], list(self.scratch.iterdir()))
        self.assertEqual([], self.named(str(self.scratch)))

    def test_interrupted(self) -> None:
        """SIGINT ends it with its processes and its directory."""
        process = self.start("--minutes", "5")

        def serves() -> bool:
            return any(
                "serve" in Path(f"/proc/{each}/cmdline").read_text().split("\0")
                for each in self.named(str(self.scratch))
                if Path(f"/proc/{each}/cmdline").exists()
            )

        wait_until(serves, what="the service")
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        self.assertEqual(1, process.returncode)
        self.assertEqual([], self.named(str(self.scratch)))
        self.assertEqual([], list(self.scratch.iterdir()))
