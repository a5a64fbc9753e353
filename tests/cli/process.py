"""A child process whose output a test waits for, line by line."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase


class Running(ProcessProtocol):
    """
    A running ``python -m mailproxy`` (or another command); it ends with the test.

    :param arguments: of the command.
    :param env: on top of an environment without any of our variables.
    """

    def __init__(
        self,
        test: TestCase,
        arguments: Sequence[str],
        env: dict[str, str] | None = None,
        command: Sequence[str] = (sys.executable, "-m", "mailproxy"),
        cwd: str | None = None,
    ) -> None:
        from twisted.internet import reactor

        self.out = ""
        self.status: int | None = None
        self.ended: Deferred[int | None] = Deferred()
        self._awaited: list[tuple[re.Pattern[str], Deferred[re.Match[str]]]] = []
        launcher: Any = reactor
        argv = [*command, *arguments]
        self.process = launcher.spawnProcess(self, argv[0], argv, clean_env(env), cwd)
        test.addCleanup(self._kill)

    def outReceived(self, data: bytes) -> None:
        self.out += data.decode("utf-8", "replace")
        for waiting in list(self._awaited):
            found = waiting[0].search(self.out)
            if found:
                self._awaited.remove(waiting)
                waiting[1].callback(found)

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        self.status = reason.value.exitCode  # type: ignore[union-attr]
        for pattern, waiting in self._awaited:
            waiting.errback(AssertionError(f"ended without {pattern.pattern!r}: {self.out}"))
        self.ended.callback(self.status)

    def says(self, pattern: str) -> Deferred[re.Match[str]]:
        """Fires when the output has something that matches *pattern*."""
        waiting: Deferred[re.Match[str]] = Deferred()
        self._awaited.append((re.compile(pattern), waiting))
        self.outReceived(b"")
        return waiting

    def terminate(self) -> Deferred[int | None]:
        """Send SIGTERM; fires with the exit status, None if the signal ended the process."""
        self.process.signalProcess("TERM")
        return self.ended

    def _kill(self) -> Deferred[int | None] | None:
        if self.ended.called:
            return None
        os.kill(self.process.pid, signal.SIGKILL)
        return self.ended


def clean_env(extra: dict[str, str] | None = None) -> dict[str, str]:
    """This environment without any variable of ours, and with *extra*."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("GMP_")}
    return {**own, "PYTHONUNBUFFERED": "1", **(extra or {})}
