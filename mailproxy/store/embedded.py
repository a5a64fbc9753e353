"""
The durable queue in one SQLite file, for one process.

Here the parts of the store are put together and given the face of ``IStore``; what each call does
is in the module named after it. Nothing is opened before :meth:`EmbeddedStore.open`, so that a
daemon can fork in between.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger
from zope.interface import implementer

from mailproxy.clock import Names
from mailproxy.crypto import Sealer
from mailproxy.interfaces import IClock, IStore, IStoreObserver
from mailproxy.limits import Use
from mailproxy.metrics import Metrics
from mailproxy.model import Account
from mailproxy.records import AccountSpec
from mailproxy.store import accounts, rates, upkeep
from mailproxy.store.boot import check_key, committed_serial, greatest_pk, last_serial
from mailproxy.store.database import Connect, Database, connect
from mailproxy.store.face import DEADLINE
from mailproxy.store.face_acts import ActsFace
from mailproxy.store.face_bounces import BouncesFace
from mailproxy.store.face_intake import IntakeFace
from mailproxy.store.face_queue import QueueFace
from mailproxy.store.face_removal import RemovalFace
from mailproxy.store.face_reports import ReportsFace
from mailproxy.store.face_tenants import TenantsFace
from mailproxy.store.files import FilesFace
from mailproxy.store.migrate import migrate
from mailproxy.store.options import StoreOptions
from mailproxy.store.overdue import Expiry
from mailproxy.store.readers import Readers
from mailproxy.store.reseal import Resealing
from mailproxy.store.transaction import Transaction
from mailproxy.store.works import Committed, Kind
from mailproxy.store.writer import Writer
from mailproxy.turns import AtEnd

C = TypeVar("C")
R = TypeVar("R")
T = TypeVar("T")

_log = Logger()


@implementer(IStore)
class EmbeddedStore(
    TenantsFace,
    IntakeFace,
    QueueFace,
    ReportsFace,
    RemovalFace,
    FilesFace,
    BouncesFace,
    ActsFace,
    Service,
):
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
        at_end: AtEnd | None = None,
    ) -> None:
        self.setName("store")
        self.node_id = names.uuid().replace("-", "")
        self._clock = clock
        self._names = names
        self._sealer = sealer
        self._metrics = metrics or Metrics()
        self._options = options
        self._steps = (Expiry().step, *upkeep.STEPS, Resealing(sealer).step)
        self._database = Database(Path(path), options.cache_bytes, connect)
        self._connection: sqlite3.Connection | None = None
        self._observers: list[IStoreObserver] = []
        self._opened_at = 0.0
        self._swept = False
        self._account_ids: dict[int, str] = {}
        self._keys: dict[tuple[str, str], DeferredLock] = {}
        self._readers = Readers(self._database, reactor, options.reader_threads)
        self._writer = Writer(
            clock,
            _at_once if reactor is None else reactor.callFromThread,
            self._told,
            self._transaction,
            lambda serial: committed_serial(self._database, serial),
            busy_seconds=options.busy_seconds,
            inline=reactor is None,
            at_end=at_end,
        )

    # --- service ---------------------------------------------------------------------------------

    def startService(self) -> None:
        """:raises StoreRefused: see :meth:`open`."""
        self.open()
        super().startService()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return self.close()

    def open(self) -> None:
        """
        Take the lock, bring the schema up to date, check the key, start to work.

        :raises StoreRefused: another process has the file, its schema is newer than this program,
            or the key is not the one its secrets were sealed with; nothing was changed.
        """
        if self._connection is not None:
            return
        self._database.lock.acquire()
        connection = None
        try:
            connection = self._database.open_writer()
            migrate(connection)
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
        self._swept = False
        self._readers.start()
        self._writer.start(connection, serial)

    def close(self) -> Deferred[None]:
        """Do what waits, then give the file back."""
        return self._writer.stop().addBoth(self._closed)

    def _closed(self, result: Any) -> Any:
        self._readers.stop()
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._database.lock.release()
        return result

    def subscribe(self, observer: IStoreObserver) -> Callable[[], None]:
        self._observers.append(observer)
        return lambda: self._observers.remove(observer)

    def healthy(self) -> bool:
        return self._connection is not None and self._writer.healthy

    @property
    def closing(self) -> bool:
        return self._connection is None or self._writer.closing

    def _transaction(self, cursor: sqlite3.Cursor) -> Transaction:
        return Transaction(cursor, self._names, self.node_id, self._options, self._account_ids)

    def _told(self, committed: Committed) -> None:
        """In the reactor, after the Deferreds of a commit fired."""
        if not self._writer.healthy:
            self._metrics.store_failures.inc()
        else:
            self._metrics.commit_seconds.observe(committed.seconds)
            self._metrics.commit_works.observe(len(committed.works))
        for (tenant_id, account_id, sent), count in Counter(committed.finished).items():
            metric = self._metrics.sent if sent else self._metrics.errors
            metric.labels(tenant_id, account_id).inc(count)
        for each in committed.limited:
            if each.messages:
                labels = (each.tenant_id, each.account_id)
                self._metrics.rate_limited.labels(*labels).inc(each.messages)
        for observer in list(self._observers):
            try:
                if committed.due:
                    observer.due(committed.due)
                if committed.reportable:
                    observer.reportable(committed.reportable)
                for each in committed.limited:
                    observer.limited(each.account_pk, each.until)
            except Exception:  # one observer must not keep news from the others
                _log.failure("an observer of the store raised")

    def _write(self, kind: Kind[C, R], call: C, deadline: float | None = None) -> Awaitable[R]:
        return self._writer.submit(kind, call, deadline)

    def _read(self, function: Callable[..., T], *args: Any) -> Awaitable[T]:
        return self._readers.read(function, *args)

    # --- accounts --------------------------------------------------------------------------------

    async def put_account(self, spec: AccountSpec, now: float) -> Account:
        row = await self._write(accounts.PUT, self._declaration(spec, now), DEADLINE)
        self._metrics.know(spec.tenant_id, spec.id)
        return accounts.loaded(row, self._sealer)

    async def delete_account(self, tenant_id: str, account_id: str, now: float) -> bool:
        call = accounts.Deletion(tenant_id, account_id, now)
        return await self._write(accounts.DELETE, call, DEADLINE)

    async def accounts(self, tenant_id: str | None) -> list[Account]:
        def read(cursor: Any) -> list[Account]:
            return [
                accounts.loaded(row, self._sealer) for row in accounts.listed(cursor, tenant_id)
            ]

        return await self._read(read)

    async def account(self, pk: int) -> Account | None:
        def read(cursor: Any) -> Account | None:
            row = accounts.find(cursor, pk)
            return None if row is None else accounts.loaded(row, self._sealer)

        return await self._read(read)

    async def limits(self, tenant_id: str | None, now: float) -> list[Use]:
        return await self._read(rates.shown, tenant_id, now)

    async def park_account(
        self,
        pk: int,
        version: int,
        reason: str,
        probe_at: float,
        now: float,
        *,
        closed: bool = True,
    ) -> None:
        call = accounts.Parking(pk, version, reason, probe_at, now, closed)
        await self._write(accounts.PARK, call)

    async def unpark_account(self, pk: int) -> None:
        await self._write(accounts.UNPARK, pk)

    async def renew_secret(self, pk: int, version: int, secret: str) -> bool:
        call = accounts.Renewal(pk, version, self._sealer.seal(secret))
        return await self._write(accounts.RENEW, call)

    # --- upkeep ----------------------------------------------------------------------------------

    async def upkeep(self, now: float) -> int:
        opened = self._clock.seconds() - self._opened_at
        for step in self._steps:
            if opened < step.after:
                continue
            found = await self._read(step.find, now, self._options)
            if found:
                touched = await self._write(step.kind, found)
                if touched:
                    if step.done is not None:
                        step.done(found, touched, self._metrics)
                    return touched
        return 0


def _at_once(function: Callable[..., None], *args: Any) -> None:
    function(*args)
