"""
The durable queue in one SQLite file, for one process.

Here the parts of the store are put together and given the face of ``IStore``; what each call does
is in the module named after it. Nothing is opened before :meth:`EmbeddedStore.open`, so that a
daemon can fork in between.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger
from zope.interface import implementer

from mailproxy.clock import Names
from mailproxy.crypto import Sealer
from mailproxy.interfaces import IClock, IStore
from mailproxy.metrics import Metrics
from mailproxy.store import upkeep
from mailproxy.store.boot import (
    check_key,
    committed_serial,
    greatest_pk,
    last_serial,
    refuse_moved,
)
from mailproxy.store.burial import bury
from mailproxy.store.database import Connect, Database, connect
from mailproxy.store.migrate import migrate
from mailproxy.store.nodes import Alive
from mailproxy.store.options import StoreOptions
from mailproxy.store.overdue import Expiry
from mailproxy.store.readers import Readers
from mailproxy.store.reseal import Resealing
from mailproxy.store.soundness import left_open, look_through
from mailproxy.store.transaction import Along, Transaction
from mailproxy.store.whole import WholeStore, delivery
from mailproxy.store.writer import Writer
from mailproxy.turns import Sends

_log = Logger()


@implementer(IStore)
class EmbeddedStore(WholeStore):
    """
    :param path: of the SQLite file; its directory must exist.
    :param names: new pks, uuids and tokens; this store's own from now on.
    :param reactor: where answers are delivered; None runs every work at once in the caller's
        thread, as a simulation wants it.
    :param connect: how connections to the file are made.
    :param at_end: see :class:`mailproxy.store.writer.Writer`.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        clock: IClock,
        names: Names,
        sealer: Sealer,
        reactor: IReactorFromThreads | None,
        metrics: Metrics | None = None,
        options: StoreOptions = StoreOptions(),  # noqa: B008 - frozen
        connect: Connect = connect,
        at_end: Sends | None = None,
    ) -> None:
        super().__init__(clock, names, sealer, metrics, options)
        self._steps = (Expiry().step, *upkeep.STEPS, Resealing(sealer).step)
        self._database = Database(Path(path), options.cache_bytes, connect)
        self._connection: sqlite3.Connection | None = None
        self._alive = Alive(self.node_id, 0.0, 0.0)
        self._swept = False
        self._readers = Readers(self._database, reactor, options.reader_threads)
        self._writer = Writer(
            clock,
            delivery(reactor),
            self._told,
            self._transaction,
            self._came_through,
            busy_seconds=options.busy_seconds,
            inline=reactor is None,
            at_end=at_end,
        )
        self._along = Along()

    # --- service ---------------------------------------------------------------------------------

    def open(self) -> None:
        """
        Take the lock, bring the schema up to date, check the key, start to work.

        :raises StoreRefused: another process has the file, its schema is newer than this program,
            its queue was moved away, the key is not the one its secrets were sealed with, or it
            was not closed and is found damaged; nothing was changed.
        """
        if self._connection is not None:
            return
        self._database.lock.acquire()
        connection = None
        try:
            unsure = self._options.check_seconds and left_open(self._database.path)
            connection = self._database.open_writer()
            if unsure:
                look_through(
                    connection,
                    self._database.path,
                    self._options.check_seconds,
                    self._clock.seconds,
                )
            migrate(connection)
            refuse_moved(connection)
            check_key(connection, self._sealer)
            serial = last_serial(connection)
            self._names.after(greatest_pk(connection))
        except BaseException:
            if connection is not None:
                connection.close()
            self._database.lock.release()
            raise
        self._connection = connection
        self._opened_at = self._clock.seconds()
        now = self._clock.now()
        self._alive = Alive(self.node_id, now, now + self._options.lease_seconds)
        self._swept = False
        self._readers.start()
        self._writer.start(connection, serial)

    def close(self) -> Deferred[None]:
        """Do what waits, then give the file back."""
        self._probing.stop()
        return self._writer.stop().addBoth(self._closed)

    def _closed(self, result: Any) -> Deferred[Any]:
        def gone(_: None) -> Any:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            self._database.lock.release()
            return result

        return self._readers.stop().addCallback(gone)

    def _came_through(self, serial: int) -> bool:
        """In the writer's thread: whether a transaction whose COMMIT failed is stored after all."""
        assert self._connection is not None
        if committed_serial(self._database, serial):
            return True
        if not bury(self._connection, serial) and self._writer.healthy:
            _log.error(
                "what is refused now may be found after a loss of power, until the disk takes a "
                "write again"
            )
        return False

    def _transaction(self, cursor: sqlite3.Cursor) -> Transaction:
        return Transaction(
            cursor, self._names, self.node_id, self._options, self._account_ids, self._along
        )
