"""
Connections that read beside the writer, each statement of the last commit.

A read that needs several statements sees one commit in all of them (:func:`snapshot`).
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailproxy.errors import StoreUnavailable
from mailproxy.store.database import Database, available
from mailproxy.store.refusals import DATABASE_ERRORS
from mailproxy.threads import Threads, inline

T = TypeVar("T")

#: Seconds for which a closing store waits for reads: much longer than any usual one takes.
LAST_READS = 10.0

_log = Logger()


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

    def stop(self) -> Deferred[None]:
        """
        Begin no more reads; fires when those that run are done, and the connections closed.

        A connection is not closed under a read, which would take the process with it: one that
        does not end within :data:`LAST_READS` is left as it is.
        """
        self._open = False
        threads, self._threads = self._threads, None
        if self._reactor is None:
            self._close()
        if threads is None:
            return succeed(None)
        ended = threads.stopService().addTimeout(LAST_READS, cast("IReactorTime", self._reactor))
        return ended.addCallbacks(self._close, self._left)

    def _close(self, _: None = None) -> None:
        for connection in self._opened:
            connection.close()
        self._opened.clear()

    def _left(self, failure: Failure) -> None:
        failure.trap(DeferredTimeout)
        self._opened.clear()  # nor is it closed at a later stop
        _log.error("a read of the store does not end; it is left alone")

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
        """:raises StoreUnavailable: the store was closed before this read had its turn."""
        if not self._open:
            raise StoreUnavailable("the store is closed")
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._database.open_reader()
            self._local.connection = connection
            self._opened.append(connection)
        return connection
