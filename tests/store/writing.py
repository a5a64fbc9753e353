"""A writer on a small database, and a reactor whose calls a test lets through by hand."""

from __future__ import annotations

import queue
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from mailproxy.clock import Names
from mailproxy.store.options import StoreOptions
from mailproxy.store.transaction import Transaction
from mailproxy.store.works import Committed, Kind, alone
from mailproxy.store.writer import Writer
from mailproxy.turns import Sends
from tests.fakes import FakeClock

#: Seconds after which a test gives up waiting for another thread.
PATIENCE = 20.0


class HandReactor:
    """``callFromThread`` puts calls aside; :meth:`turn` runs the next one."""

    def __init__(self) -> None:
        self._calls: queue.Queue[tuple[Callable[..., Any], tuple[Any, ...]]] = queue.Queue()

    def callFromThread(self, function: Callable[..., Any], *args: Any) -> None:
        self._calls.put((function, args))

    def turn(self) -> None:
        function, args = self._calls.get(timeout=PATIENCE)
        function(*args)


class Gate:
    """A work that keeps the writer's thread until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._opened = threading.Event()
        self.answer: Deferred[None] = Deferred()
        self.kind: Kind[None, None] = alone(self._hold)

    def _hold(self, _tx: Transaction, _call: None) -> None:
        self.reached.set()
        assert self._opened.wait(PATIENCE), "nobody opened the gate"

    def open(self) -> None:
        self._opened.set()


def put(tx: Transaction, name: str) -> str:
    """Store *name*; "bad" raises after it was stored, "twice" breaks a constraint."""
    tx.cursor.execute("INSERT INTO kept (name) VALUES (?)", (name,))
    if name == "bad":
        raise ValueError("bad")
    if name == "twice":
        tx.cursor.execute("INSERT INTO kept (name) VALUES (?)", (name,))
    return name.upper()


PUT: Kind[str, str] = alone(put, "outcome-commit")


class Merging:
    """A kind that stores all its names at once, and keeps how it was called."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.kind: Kind[str, str] = Kind(self._run)

    def _run(self, tx: Transaction, calls: Sequence[str]) -> list[str]:
        self.calls.append(list(calls))
        return [put(tx, name) for name in calls]


class Writing:
    """
    A started writer.

    :param inline: no thread; works are done when they are submitted.
    """

    def __init__(
        self,
        path: Path,
        *,
        inline: bool = False,
        busy_seconds: float = 5.0,
        factory: type[sqlite3.Connection] = sqlite3.Connection,
        at_end: Sends | None = None,
    ) -> None:
        self.path = path
        self.clock = FakeClock()
        self.reactor = HandReactor()
        self.told: list[Committed] = []
        self.connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=0.01, factory=factory
        )
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("CREATE TABLE kept (name TEXT PRIMARY KEY)")
        self.connection.execute("CREATE TABLE settings (name TEXT PRIMARY KEY, value)")
        self.connection.execute("INSERT INTO settings VALUES ('serial', 0)")
        names = Names(random.Random(3))
        self.writer = Writer(
            self.clock,
            self._at_once if inline else self.reactor.callFromThread,
            self.told.append,
            lambda cursor: Transaction(cursor, names, "node", StoreOptions()),
            self._committed,
            busy_seconds=busy_seconds,
            inline=inline,
            at_end=at_end,
        )
        self.writer.start(self.connection, 0)

    @staticmethod
    def _at_once(function: Callable[..., None], *args: Any) -> None:
        function(*args)

    def _committed(self, serial: int) -> bool:
        ((value,),) = self.see("SELECT value FROM settings")
        return bool(value >= serial)

    def see(self, statement: str) -> list[Any]:
        """What another connection sees."""
        other = sqlite3.connect(self.path)
        try:
            return other.execute(statement).fetchall()
        finally:
            other.close()

    @property
    def kept(self) -> list[str]:
        return [row[0] for row in self.see("SELECT name FROM kept ORDER BY rowid")]

    def gate(self) -> Gate:
        """Ask for a work that keeps the thread busy once it begins."""
        gate = Gate()
        gate.answer = self.writer.submit(gate.kind, None)
        return gate

    def hold(self) -> Gate:
        """Keep the thread busy, so that what is submitted now waits together."""
        gate = self.gate()
        assert gate.reached.wait(PATIENCE), "the writer does not come to the gate"
        return gate

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait for the writer's thread to bring *condition* about."""
        ends = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < ends, "it does not come about"

    def close(self) -> None:
        stopped = self.writer.stop()
        while not stopped.called:
            self.reactor.turn()
        self.connection.close()
