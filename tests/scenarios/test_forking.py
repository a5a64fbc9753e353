"""A process that is forked does what one that is started does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from mailproxy import __version__
from tests.scenarios import forking
from tests.scenarios.forking import ROOT, Forked, forkable
from tests.scenarios.processes import Process, Service
from tests.scenarios.test_crashpoints import Crasher
from tests.scratch import scratch


class Command(Process):
    """``mailproxy`` with *arguments*."""

    name = "command"
    arguments: tuple[str, ...] = ()

    def command(self) -> list[str]:
        return [sys.executable, "-m", "mailproxy", *self.arguments]


class ForkingTests(SynchronousTestCase):
    def ran(self, *arguments: str) -> tuple[int, str]:
        """How the command ended, and what it wrote."""
        command = Command(scratch(self))
        command.arguments = arguments
        command.spawn()
        assert isinstance(command.process, Forked)
        return command.process.wait(30.0), command.output()

    def test_output_and_exit_status(self) -> None:
        """What is written is in the log, and the exit status is the command's."""
        self.assertEqual((0, f"mailproxy, version {__version__}\n"), self.ran("--version"))
        status, said = self.ran("serve", "--port", "none")
        self.assertEqual(2, status)
        self.assertIn("GMP_PORT", said)

    def test_each_of_its_own(self) -> None:
        """Services that run at once have each their own process, directory and settings."""
        both = [Service(scratch(self), GMP_LOG_LEVEL="debug") for _ in range(2)]
        for service in both:
            self.addCleanup(service.end)
            service.start()
        first, second = (each.process for each in both)
        assert isinstance(first, Forked)
        assert isinstance(second, Forked)
        self.assertNotEqual(first.pid, second.pid)
        for process, service in zip((first, second), both, strict=True):
            self.assertEqual(str(service.directory), os.readlink(f"/proc/{process.pid}/cwd"))
        self.assertRaises(subprocess.TimeoutExpired, first.wait, 0.0)
        first.kill()
        self.assertEqual(-signal.SIGKILL, first.wait(30.0))
        self.assertEqual([False, True], [each.alive for each in both])
        self.assertEqual(200, both[1].call("GET", "/status").status)
        self.assertEqual(-signal.SIGTERM, both[1].terminate())

    def test_what_is_started(self) -> None:
        """Whatever is another program, or heeded at a start, is started from nothing."""
        command, env = [sys.executable, "-m", "mailproxy", "serve"], dict(os.environ)
        self.assertTrue(forkable(command, env))
        self.assertTrue(forkable(command, env | {"GMP_PORT": "1"}))
        self.assertTrue(forkable(command, Crasher(ROOT).environment()))
        self.assertFalse(forkable(command, env | {"LD_PRELOAD": "disk.so"}))
        self.assertFalse(forkable(command, env | {"TZ": "UTC-1"}))
        self.assertFalse(forkable([*command, "--reactor", "asyncio"], env))
        self.assertFalse(forkable(["strace", *command], env))
        self.assertFalse(forkable([sys.executable, "-m", "tests.scenarios.named"], env))
        self.patch(forking, "allowed", False)
        self.assertFalse(forkable(command, env), "not where it is measured")
