"""
The durable queue on a PostgreSQL server, for any number of processes: its nodes.

A node is one process from start to end. What it claims carries its name and a token; every later
write names the token, so that what was taken from a node that seemed dead cannot be written by it.
Which nodes live is told by the server's clock alone.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger
from zope.interface import implementer

from mailproxy.clock import Names
from mailproxy.crypto import Sealer
from mailproxy.errors import PartlyStored, StoreRefused
from mailproxy.interfaces import IClock, IStore
from mailproxy.metrics import Metrics
from mailproxy.model import Claimed
from mailproxy.records import Node, ReportLease, Said
from mailproxy.store import postgres_nodes as nodes
from mailproxy.store import postgres_reports as leases
from mailproxy.store import reports, upkeep
from mailproxy.store.boot import check_key, greatest_pk, refuse_moved
from mailproxy.store.migrate import newest
from mailproxy.store.options import StoreOptions
from mailproxy.store.overdue import Expiry
from mailproxy.store.postgres_driver import Connection
from mailproxy.store.postgres_listen import Listener
from mailproxy.store.postgres_migrate import migrate, revision
from mailproxy.store.postgres_readers import ServerReaders
from mailproxy.store.postgres_server import Server
from mailproxy.store.postgres_writer import (
    GREATEST,
    Notice,
    ServerTransaction,
    ServerWriter,
    came_through,
)
from mailproxy.store.refusals import ServerError
from mailproxy.store.reseal import Resealing
from mailproxy.store.transaction import Transaction
from mailproxy.store.whole import WholeStore, delivery
from mailproxy.store.works import Committed
from mailproxy.turns import Sends

#: Of the time for which a lease stays good, the part after which a node that could not renew it
#: begins nothing any more.
CAUTION = 0.75

#: Seconds within which the server has to have said what time it is; a later answer is too vague.
PROMPT = 1.0

#: Seconds between two questions for what became of a transaction.
ASK_AGAIN = 0.25

#: Seconds for which a store that is to close still asks.
LAST_QUESTION = 10.0

_log = Logger()


@implementer(IStore)
class PostgresStore(WholeStore):
    """
    :param url: ``postgresql://user:password@host/database``.
    :param names: new pks, uuids and tokens; this store's own from now on.
    :param reactor: where answers are delivered; None runs every work at once in the caller's
        thread, as a simulation wants it.
    :param at_end: see :class:`mailproxy.store.writer.Writer`.
    """

    _writer: ServerWriter

    def __init__(
        self,
        url: str,
        *,
        clock: IClock,
        names: Names,
        sealer: Sealer,
        reactor: IReactorFromThreads | None,
        metrics: Metrics | None = None,
        options: StoreOptions = StoreOptions(),  # noqa: B008 - frozen
        at_end: Sends | None = None,
    ) -> None:
        super().__init__(clock, names, sealer, metrics, options)
        self._steps = (Expiry().step, *nodes.STEPS, *upkeep.SHARED, Resealing(sealer).step)
        self._server = Server(
            url,
            0.0 if reactor is None else options.busy_seconds,
            self.node_id[:8],
            clock.seconds,
        )
        self._connection: Connection | None = None
        self._renewed = 0.0
        self._keeping = -math.inf
        self._deciding = False
        self._pause = time.sleep  # in the writer's thread
        self._stopped = threading.Event()
        self._listener = (
            None
            if reactor is None
            else Listener(self._server, reactor, clock, self.node_id, self._overheard)
        )
        self._readers = ServerReaders(cast("Any", self._server), reactor, options.reader_threads)
        self._writer = ServerWriter(
            clock,
            delivery(reactor),
            self._told,
            self._transaction,
            self._committed,
            busy_seconds=options.busy_seconds,
            inline=reactor is None,
            at_end=at_end,
        )

    # --- service ---------------------------------------------------------------------------------

    def open(self) -> None:
        """
        Bring the schema up to date, check the key, register this node, start to work.

        :raises StoreRefused: the server cannot be reached or will not do, its schema is newer than
            this program, its queue was moved away, or the key is not the one its secrets were
            sealed with.
        """
        if self._connection is not None:
            return
        connection = self._server.open()
        try:
            if revision(connection) != newest():
                migrate(self._server)
            check_key(cast("Any", connection), self._sealer)
            connection.execute(
                "INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (GREATEST, str(greatest_pk(cast("Any", connection)))),
            )
            asked = self._clock.seconds()
            now = nodes.register(connection, self.node_id, self._options.lease_seconds)
            self._clock.follow(now + (self._clock.seconds() - asked) / 2)
            self._refuse_moved(connection)
        except ServerError as error:
            connection.close()
            raise StoreRefused(f"cannot open the database: {error}") from None
        except BaseException:
            connection.close()
            raise
        connection.began = self._began
        connection.node = self.node_id
        self._connection = connection
        self._stopped.clear()
        self._opened_at = self._renewed = self._clock.seconds()
        self._readers.start()
        if self._listener is not None:
            self._listener.start()
        self._writer.start(cast("Any", connection), 0)

    def _refuse_moved(self, connection: Connection) -> None:
        """After this node was registered: who moves a queue looks for nodes, and then marks it."""
        try:
            refuse_moved(cast("Any", connection))
        except StoreRefused:
            nodes.leave(connection, self.node_id)
            raise

    def close(self) -> Deferred[None]:
        """Do what waits, then leave."""
        self._probing.stop()
        self._stopped.set()
        self._server.close()  # what waits for it to come back waits no more
        if self._listener is not None:
            self._listener.stop()
        return self._writer.stop().addBoth(self._closed)

    def _closed(self, result: Any) -> Deferred[Any]:
        def gone(_: None) -> Any:
            if self._connection is not None:
                nodes.leave(self._connection, self.node_id)
                self._connection.close()
                self._connection = None
            return result

        return self._readers.stop().addCallback(gone)

    def healthy(self) -> bool:
        return super().healthy() and not self._deciding

    def _overheard(self, notice: Notice) -> None:
        """In the reactor: another node has stored something."""
        self._tell(Committed([], frozenset(notice.due), frozenset(notice.reportable)))
        if notice.copied:
            self._changed_elsewhere()

    # --- transactions ----------------------------------------------------------------------------

    def _began(self, greatest: int) -> None:
        self._writer.made = []
        self._names.after(greatest)

    def _transaction(self, cursor: Any) -> Transaction:
        made = ServerTransaction(
            cursor, self._names, self.node_id, self._options, self._account_ids
        )
        self._writer.made.append(made)
        return made

    def _committed(self, serial: int) -> bool:
        """
        Ask until it is known: what may be stored is not said to be refused.

        :raises PartlyStored: the store is to close, and the server still does not say.
        """
        if not serial:
            return True
        self._deciding = True
        left = LAST_QUESTION
        try:
            while (verdict := self._asked(serial)) is None:
                self._pause(ASK_AGAIN)
                if self._stopped.is_set():
                    left -= ASK_AGAIN
                    if left <= 0.0:
                        raise PartlyStored("the database did not say whether it was stored")
            return verdict
        finally:
            self._deciding = False

    def _asked(self, serial: int) -> bool | None:
        assert self._connection is not None
        number = self._connection.number
        try:
            connection = self._server.open_reader()
            try:
                return came_through(connection, number, self.node_id, serial)
            finally:
                connection.close()
        except ServerError:
            return None

    # --- leases ----------------------------------------------------------------------------------

    async def heartbeat(self, now: float) -> None:
        asked = self._clock.seconds()
        alive, then = await self._write(nodes.RENEW, self._options.lease_seconds)
        if not alive:
            _log.warn("this node was taken for dead: its leases are void")
        self._renewed = asked
        took = self._clock.seconds() - asked
        if took <= PROMPT:
            self._clock.follow(then + took / 2)

    async def begin(
        self,
        intents: Sequence[tuple[int, int]],
        account: str,
        now: float,
        *,
        through: tuple[int, int] | None = None,
    ) -> list[bool]:
        if self.cut_off():
            return [False] * len(intents)  # somebody else may be at it
        return await super().begin(intents, account, now, through=through)

    def cut_off(self) -> bool:
        silent = self._clock.seconds() - self._renewed
        return silent > CAUTION * self._options.lease_seconds

    async def hold_reports(self, tenant_id: str, seconds: float) -> ReportLease | None:
        if self.cut_off() or await self._read(leases.taken, tenant_id, self.node_id):
            return None
        return await self._write(leases.HOLD, leases.Hold(tenant_id, seconds))

    async def release_reports(self, lease: ReportLease, said: Said) -> None:
        await self._write(leases.RELEASE, leases.Release(lease, said))

    async def park_event(
        self, event_pks: Sequence[int], reason: str, now: float, lease: ReportLease | None = None
    ) -> bool:
        if lease is None:
            return await super().park_event(event_pks, reason, now)
        ack = reports.Ack(event_pks, now, reason)
        return await self._write(leases.PARK, leases.Park(lease, ack))

    async def upkeep(self, now: float) -> int:
        """By one node at a time: others would look for the same, and find it done."""
        asked = self._clock.seconds()
        if asked - self._keeping > leases.KEEPING / 2:
            if await self.hold_reports(leases.UPKEEP, leases.KEEPING) is None:
                return 0
            self._keeping = asked
        return await super().upkeep(now)

    async def nodes(self, now: float) -> list[Node]:
        return await self._read(nodes.listed)

    async def abandoned(self, now: float) -> list[Claimed]:
        """What nodes had leases on whose time is over, by the server's clock."""
        claimed: list[Claimed] = []
        while (found := await self._write(nodes.TAKE_OVER, now)) is not None:
            claimed += found
        return claimed
