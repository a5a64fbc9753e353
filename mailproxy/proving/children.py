"""Processes of our own: started, waited for, killed, and never left behind."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from mailproxy.errors import MailProxyError

#: Ports that :func:`free_port` draws from; clients get theirs from 32768 on.
PORTS = (12000, 32000)
_ports = random.SystemRandom()

#: Seconds a process may take to end.
PATIENCE = 30.0

#: Seconds between two looks at something that is waited for.
STEP = 0.02


class NotProven(MailProxyError):
    """What was to be proven could not be tried to its end; the text says why."""


class Stopped(NotProven):
    """Whoever waits is to wait no more."""


def free_port() -> int:
    """
    A TCP port of the loopback that nobody listened on a moment ago.

    It stays free while its service is restarted: it lies below the ports that the system gives
    to clients and to port 0, and is drawn, so that others who draw at this time get others.
    """
    while True:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", _ports.randrange(*PORTS)))
            except OSError:
                continue
            return int(probe.getsockname()[1])


@attrs.define
class Child:
    """
    A child process in a session of its own, whose output is appended to a file.

    :param environment: of the process, in place of ours.
    """

    name: str
    command: Sequence[str]
    directory: Path
    environment: Mapping[str, str] = attrs.Factory(lambda: clean_environment())
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.directory / f"{self.name}.log"

    def spawn(self, **more: str) -> None:
        """Start it, with *more* in its environment."""
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.directory,
                env={**self.environment, **more},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(PATIENCE)

    def ask_to_end(self) -> None:
        """SIGTERM."""
        if self.process is not None:
            self.process.terminate()

    def terminate(self, patience: float = PATIENCE) -> int | None:
        """SIGTERM; kill -9 if it has not ended after *patience*. :return: its exit status."""
        if self.process is None:
            return None
        self.process.terminate()
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def tail(self, most: int = 2000) -> str:
        """The end of what it has written."""
        return self.log.read_text(errors="replace")[-most:] if self.log.exists() else ""


def clean_environment() -> dict[str, str]:
    """Our environment without what configures the service."""
    ours = ("GMP_", "MAILPROXY_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"PYTHONUNBUFFERED": "1"}


@attrs.frozen
class Pause:
    """Waiting that can be called off, by *stopped*."""

    stopped: threading.Event

    def pause(self, seconds: float) -> None:
        """:raises Stopped: it was called off."""
        if self.stopped.wait(max(0.0, seconds)):
            raise Stopped("it was stopped")
