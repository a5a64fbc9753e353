"""
Connections that read beside the writer, each statement of the last commit.

A read that needs several statements sees one commit in all of them (:func:`snapshot`).
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads

from mailproxy.errors import StoreUnavailable
from mailproxy.store.database import Database, available
from mailproxy.store.refusals import DATABASE_ERRORS
from mailproxy.threads import Threads, inline

T = TypeVar("T")


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[sqlite3.Cursor]:
    """A cursor all of whose statements see the same commit."""
    cursor = connection.cursor()
    cursor.execute("BEGIN")
    try:
        yield cursor
    finally:
        if connection.in_transaction:
            cursor.execute("ROLLBACK")


class Readers:
    """
    :param reactor: where answers are delivered; None reads at once, in the caller's thread.
    :param threads: how many read at the same time.
    """

    def __init__(
        self, database: Database, reactor: IReactorFromThreads | None, threads: int
    ) -> None:
        self._database = database
        self._reactor = reactor
        self._size = threads
        self._threads: Threads | None = None
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._open = False

    def start(self) -> None:
        """Connections are opened when they are first needed."""
        self._local = threading.local()
        self._open = True
        if self._reactor is not None:
            self._threads = Threads(self._reactor, "store-read", self._size)
            self._threads.startService()

    def stop(self) -> None:
        """Blocks until the reads that run are done."""
        self._open = False
        if self._threads is not None:
            self._threads.stopService()
            self._threads = None
        for connection in self._opened:
            connection.close()
        self._opened.clear()

    def read(self, function: Callable[..., T], *args: Any) -> Awaitable[T]:
        """
        Run ``function(cursor, *args)`` on one snapshot.

        :raises StoreUnavailable: the database refused, or is closed.
        """
        if not self._open:
            closed: Deferred[T] = Deferred()
            closed.errback(StoreUnavailable("the store is closed"))
            return closed
        runner = inline if self._threads is None else self._threads
        return runner(self._run, function, args)

    def _run(self, function: Callable[..., T], args: tuple[Any, ...]) -> T:
        try:
            with snapshot(self._connection()) as cursor:
                return function(cursor, *args)
        except DATABASE_ERRORS as error:
            raise available(error) from error

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._database.open_reader()
            self._local.connection = connection
            self._opened.append(connection)
        return connection
