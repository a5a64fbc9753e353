"""
The durable queue in one SQLite file, for one process.

Here the parts of the store are put together and given the face of ``IStore``; what each call does
is in the module named after it. Nothing is opened before :meth:`EmbeddedStore.open`, so that a
daemon can fork in between.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger
from zope.interface import implementer

from mailproxy.clock import Names
from mailproxy.crypto import Sealer
from mailproxy.interfaces import IClock, IStore, IStoreObserver
from mailproxy.metrics import Metrics
from mailproxy.model import Account, Claimed, Enqueued, NewMessage, Record, Stored
from mailproxy.records import (
    AccountSpec,
    Counts,
    ListQuery,
    MessageRecord,
    ReportItem,
    Suspension,
)
from mailproxy.store import (
    accounts,
    bodies,
    intake,
    listing,
    outcomes,
    queue,
    reports,
    suspensions,
    upkeep,
)
from mailproxy.store.boot import check_key, committed_serial, greatest_pk, last_serial, leased
from mailproxy.store.database import Connect, Database, connect
from mailproxy.store.elements import pieces
from mailproxy.store.face import DEADLINE
from mailproxy.store.face_tenants import TenantsFace
from mailproxy.store.migrate import migrate
from mailproxy.store.options import StoreOptions
from mailproxy.store.readers import Readers
from mailproxy.store.transaction import Transaction
from mailproxy.store.works import Committed, Kind
from mailproxy.store.writer import Writer

C = TypeVar("C")
R = TypeVar("R")
T = TypeVar("T")

_log = Logger()


@implementer(IStore)
class EmbeddedStore(TenantsFace, Service):
    """
    :param path: of the SQLite file; its directory must exist.
    :param names: new pks, uuids and tokens; this store's own from now on.
    :param reactor: where answers are delivered; None runs every work at once in the caller's
        thread, as a simulation wants it.
    :param connect: how connections to the file are made.
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
    ) -> None:
        self.setName("store")
        self.node_id = names.uuid().replace("-", "")
        self._clock = clock
        self._names = names
        self._sealer = sealer
        self._metrics = metrics or Metrics()
        self._options = options
        self._database = Database(Path(path), options.cache_bytes, connect)
        self._connection: sqlite3.Connection | None = None
        self._observers: list[IStoreObserver] = []
        self._swept = False
        self._account_ids: dict[int, str] = {}
        self._readers = Readers(self._database, reactor, options.reader_threads)
        self._writer = Writer(
            clock,
            _at_once if reactor is None else reactor.callFromThread,
            self._told,
            self._transaction,
            lambda serial: committed_serial(self._database, serial),
            busy_seconds=options.busy_seconds,
            inline=reactor is None,
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
        for observer in list(self._observers):
            try:
                if committed.due:
                    observer.due(committed.due)
                if committed.reportable:
                    observer.reportable(committed.reportable)
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

    async def park_account(
        self, pk: int, version: int, reason: str, probe_at: float, now: float
    ) -> None:
        await self._write(accounts.PARK, accounts.Parking(pk, version, reason, probe_at, now))

    async def unpark_account(self, pk: int) -> None:
        await self._write(accounts.UNPARK, pk)

    # --- intake ----------------------------------------------------------------------------------

    async def enqueue(
        self, messages: Sequence[NewMessage], now: float, deadline: float
    ) -> list[Enqueued]:
        ends = self._clock.seconds() + deadline
        written: dict[int, int] = {}
        for n, message in enumerate(messages):
            if sum(map(len, message.parts)) > self._options.large_body_bytes:
                written[n] = await self._written(message, now, ends)
        call = intake.Submission(messages, now, written)
        return await self._write(intake.ENQUEUE, call, ends - self._clock.seconds())

    async def _written(self, message: NewMessage, now: float, ends: float) -> int:
        """Write the parts of a large message ahead of it, piece by piece."""
        body = 0
        for part, data in enumerate(message.parts, 1):
            for n, piece in pieces(data, self._options.chunk_bytes):
                call = intake.Piece(body, part, n, piece, now)
                body = await self._write(intake.PIECE, call, ends - self._clock.seconds())
        return body

    async def suspend(self, tenant_id: str | None, batch: str | None, now: float) -> Suspension:
        scope = suspensions.Scope(tenant_id, batch, now)
        return await self._write(suspensions.SUSPEND, scope, DEADLINE)

    async def activate(self, tenant_id: str | None, batch: str | None, now: float) -> Suspension:
        scope = suspensions.Scope(tenant_id, batch, now)
        return await self._write(suspensions.ACTIVATE, scope, DEADLINE)

    # --- queue -----------------------------------------------------------------------------------

    async def due_accounts(self, now: float) -> tuple[list[int], float | None]:
        return await self._read(listing.due_accounts, now)

    async def claim(
        self, account_pk: int, limit: int, now: float, *, oldest: bool = False, urgent: bool = False
    ) -> list[Claimed]:
        return await self._write(queue.CLAIM, queue.Claim(account_pk, limit, now, oldest, urgent))

    async def contents(self, pks: Sequence[int]) -> dict[int, Stored]:
        found = await self._read(bodies.contents, pks)
        if found.damaged:
            call = bodies.Damage(found.damaged, self._clock.now())
            for pk in await self._write(bodies.QUARANTINE, call):
                self._metrics.quarantined.inc()
                _log.error(
                    "message {pk} is held: its body is damaged: {reason}",
                    pk=pk,
                    reason=found.damaged[pk],
                )
        return found.stored

    async def begin(
        self, intents: Sequence[tuple[int, int]], account: str, now: float
    ) -> list[bool]:
        return await self._write(queue.BEGIN, queue.Intents(intents, account, now))

    async def record(self, records: Sequence[Record]) -> list[bool]:
        return await self._write(outcomes.RECORD, records)

    async def release(self, leases: Sequence[tuple[int, int]]) -> None:
        await self._write(queue.RELEASE, leases)

    async def abandoned(self, now: float) -> list[Claimed]:
        """All leases of other nodes: the lock file says that they are dead."""
        if self._swept:
            return []
        idle, begun = await self._read(leased, self.node_id)
        claimed: list[Claimed] = []
        if idle or begun:
            claimed = await self._write(queue.TAKE_OVER, queue.TakeOver(begun, idle, now))
        self._swept = True
        return claimed

    async def heartbeat(self, now: float) -> None:
        await self._write(queue.HEARTBEAT, now)

    # --- reports ---------------------------------------------------------------------------------

    async def unreported(self, tenant_id: str, limit: int) -> list[ReportItem]:
        return await self._read(reports.unreported, tenant_id, limit)

    async def acked(self, event_pks: Sequence[int], now: float) -> None:
        await self._write(reports.ACK, reports.Ack(event_pks, now))

    async def park_event(self, event_pks: Sequence[int], reason: str, now: float) -> None:
        await self._write(reports.PARK, reports.Ack(event_pks, now, reason))

    async def ack_all(self, tenant_id: str, now: float) -> int:
        acked, step = 0, reports.STEP
        while step == reports.STEP:
            step = await self._write(reports.ACK_ALL, reports.AckAll(tenant_id, now))
            acked += step
        return acked

    async def waiting_tenants(self) -> list[str]:
        return await self._read(reports.waiting_tenants)

    async def report_lag(self, now: float) -> float:
        oldest = await self._read(reports.oldest)
        return 0.0 if oldest is None else max(0.0, now - oldest)

    # --- status ----------------------------------------------------------------------------------

    async def counts(self, now: float) -> Counts:
        return await self._read(listing.counts, now)

    async def suspension(self, tenant_id: str | None) -> Suspension:
        key = suspensions.SERVICE if tenant_id is None else tenant_id
        return await self._read(suspensions.suspension, key)

    async def messages(self, query: ListQuery) -> list[MessageRecord]:
        return await self._read(listing.page, query)

    async def timeline(self, tenant_id: str, message_id: str) -> list[dict[str, Any]]:
        return await self._read(listing.timeline, tenant_id, message_id)

    async def upkeep(self, now: float) -> int:
        for step in upkeep.STEPS:
            found = await self._read(step.find, now, self._options)
            if found:
                touched = await self._write(step.kind, found)
                if touched:
                    return touched
        return 0


def _at_once(function: Callable[..., None], *args: Any) -> None:
    function(*args)
