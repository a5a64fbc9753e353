"""
An :class:`~mailproxy.interfaces.IStore` in memory, for the tests of every other stage.

It passes the contract suite of the real stores, and can be made to fail, to stall and to crash.
Its coroutines complete at once, unless :meth:`FakeStore.stall` makes them wait.

What it keeps is on a :class:`~tests.fake_store_rows.Disk`; a store is one process start on it.
Two stores on one disk are two nodes; :meth:`FakeStore.crash` returns the next process start.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from zope.interface import implementer

from mailproxy import __version__
from mailproxy.clock import Names
from mailproxy.errors import StoreBusy, StoreUnavailable
from mailproxy.interfaces import IStore, IStoreObserver
from mailproxy.limits import Use
from mailproxy.model import Account, Claimed, Enqueued, NewMessage, Record, Stored
from mailproxy.records import (
    AccountSpec,
    Counts,
    ListQuery,
    MessageRecord,
    Node,
    ReportItem,
    ReportLease,
    Said,
    Suspension,
)
from mailproxy.search import Found, Wanted
from mailproxy.tenancy import Declared, Once
from tests import fake_store_intake as intake
from tests import fake_store_limits as limits
from tests import fake_store_queue as queue
from tests import fake_store_reports as reports
from tests import fake_store_tenants as tenants
from tests.fake_store_acts import FakeActs
from tests.fake_store_bounces import FakeBounces, ends, note
from tests.fake_store_files import FakeFiles
from tests.fake_store_intake import Change
from tests.fake_store_removal import FakeRemoval
from tests.fake_store_rows import AccountRow, Disk
from tests.fake_store_tenants import FakeTenants
from tests.fakes import FakeClock

T = TypeVar("T")


@attrs.define(eq=False)
class _Waiting:
    """A work that is not done, or one that is but whose answer is kept back."""

    run: Callable[[], None]
    fired: Deferred[None]
    timer: IDelayedCall | None = None


@implementer(IStore)
class FakeStore(FakeTenants, FakeRemoval, FakeFiles, FakeBounces, FakeActs):
    """
    :param clock: gives the wall time for what the interface passes none, and deadlines.
    :param names: pks, uuids and tokens; random if None.
    :param disk: what an earlier store left, or another node shares; an empty one if None.
    """

    def __init__(
        self, clock: FakeClock, names: Names | None = None, *, disk: Disk | None = None
    ) -> None:
        self.clock = clock
        self.names = names or Names()
        self.disk = disk if disk is not None else Disk()
        self.node_id = self.names.uuid().replace("-", "")
        self.disk.nodes[self.node_id] = clock.now()
        #: Names of the methods that wrote something, in order.
        self.writes: list[str] = []
        self.watchers: list[Callable[[], object]] = []
        self._observers: list[IStoreObserver] = []
        self._failures: list[tuple[Exception, frozenset[str]]] = []
        self._stalled: frozenset[str] | None = None
        self._stored_first = False
        self._waiting: list[_Waiting] = []
        self._dead = False
        self._well = True

    # What tests do to it.

    def fail_next(self, error: Exception, *methods: str, times: int = 1) -> None:
        """The next *times* writes (of these *methods*, if any are named) raise *error*."""
        self._failures += [(error, frozenset(methods))] * times

    def stall(self, *methods: str, stored: bool = False) -> None:
        """
        Let writes (of these *methods*, if any are named) wait until :meth:`resume`.

        :param stored: do the work at once and keep the answer back: a commit whose answer is
            still on its way when the process is killed.
        """
        self._stalled, self._stored_first = frozenset(methods), stored

    def resume(self) -> None:
        """End :meth:`stall`; what waited is done now, in order."""
        self._stalled = None
        while self._waiting:
            work = self._waiting.pop(0)
            if work.timer is not None and work.timer.active():
                work.timer.cancel()
            try:
                work.run()
            except Exception as error:
                work.fired.errback(error)
            else:
                work.fired.callback(None)

    @property
    def waiting(self) -> int:
        """How many works wait because of :meth:`stall`."""
        return len(self._waiting)

    def crash(self) -> FakeStore:
        """
        Kill the process; return the store of the next start.

        Works that waited are lost, unless their commit had gone through; nothing is answered any
        more. The leases of the dead process are the next one's to take over.
        """
        self.close()
        return FakeStore(self.clock, self.names, disk=self.disk)

    def close(self) -> None:
        """End this process start: it answers nothing any more."""
        for work in self._waiting:
            if work.timer is not None and work.timer.active():
                work.timer.cancel()
        self._waiting.clear()
        self._dead = True
        self.disk.nodes.pop(self.node_id, None)

    def lapse(self) -> None:
        """Miss the heartbeats: from now on others may take this node's leases over."""
        self.disk.nodes.pop(self.node_id, None)

    def another_node(self) -> FakeStore:
        """A second process on the same disk."""
        return FakeStore(self.clock, self.names, disk=self.disk)

    def states(self) -> dict[str, str]:
        """The state of every stored message, by id."""
        return {row.id: row.state.value for row in self.disk.messages.values()}

    # How work is done.

    def _check_alive(self) -> None:
        if self._dead:
            raise StoreUnavailable("this process of the store has ended")

    async def _write(
        self, method: str, now: float, work: Callable[[Change], T], deadline: float | None = None
    ) -> T:
        """One transaction; observers are told after it."""
        self._check_alive()
        for number, (error, methods) in enumerate(self._failures):
            if not methods or method in methods:
                del self._failures[number]
                self._well = False
                raise error
        answers: list[T] = []
        change = Change(self.disk, self.names, self.node_id, now)

        def run() -> None:
            before = ends(self.disk)
            answers.append(work(change))
            note(change, before)
            self.writes.append(method)

        if self._stalled is None or (self._stalled and method not in self._stalled):
            run()
        else:
            await self._wait(run, deadline)
        self._well = True
        self._tell(change)
        return answers[0]

    def _wait(self, run: Callable[[], None], deadline: float | None) -> Deferred[None]:
        if self._stored_first:
            run()
            work = _Waiting(lambda: None, Deferred())
        else:
            work = _Waiting(run, Deferred())
            if deadline is not None:
                work.timer = self.clock.callLater(deadline, self._withdraw, work)
        self._waiting.append(work)
        return work.fired

    def _withdraw(self, work: _Waiting) -> None:
        self._waiting.remove(work)
        work.fired.errback(StoreBusy("the work waited past its deadline"))

    def _tell(self, change: Change) -> None:
        for observer in list(self._observers):
            if change.due:
                observer.due(sorted(change.due))
            if change.reportable:
                observer.reportable(sorted(change.reportable))
            for account_pk, until in change.limited:
                observer.limited(account_pk, until)

    def subscribe(self, observer: IStoreObserver) -> Callable[[], None]:
        self._observers.append(observer)
        return lambda: self._observers.remove(observer)

    # IAccounts

    async def put_account(self, spec: AccountSpec, now: float) -> Account:
        return await self._write("put_account", now, lambda c: intake.put_account(c, spec))

    async def delete_account(self, tenant_id: str, account_id: str, now: float) -> bool:
        def work(change: Change) -> bool:
            for row in change.disk.accounts.values():
                key = (row.value.tenant_id, row.value.id)
                if key == (tenant_id, account_id) and row.deleted_at is None:
                    if row.value.declared:
                        raise Declared(f"account {account_id} is declared in the configuration")
                    row.deleted_at = now
                    return True
            return False

        return await self._write("delete_account", now, work)

    async def accounts(self, tenant_id: str | None) -> list[Account]:
        self._check_alive()
        live = [row for row in self.disk.live_accounts() if tenant_id in (None, row.tenant_id)]
        return sorted(live, key=lambda account: (account.tenant_id, account.id))

    async def account(self, pk: int) -> Account | None:
        self._check_alive()
        return self.disk.live_account(pk)

    async def limits(self, tenant_id: str | None, now: float) -> list[Use]:
        self._check_alive()
        return limits.shown(self.disk, tenant_id, now)

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
        def work(change: Change) -> None:
            old = self.disk.live_account(pk)
            if old is None or old.version != version:
                return
            since = old.parked_since if old.parked_reason else now
            self.disk.accounts[pk] = AccountRow(
                attrs.evolve(old, parked_reason=reason, parked_since=since, probe_at=probe_at),
                closed=closed,
                tried_at=now,
            )
            if not closed:
                change.due.add(pk)

        await self._write("park_account", now, work)

    async def unpark_account(self, pk: int) -> None:
        def work(change: Change) -> None:
            old = self.disk.live_account(pk)
            if old is not None:
                self.disk.accounts[pk] = AccountRow(
                    attrs.evolve(old, parked_reason="", parked_since=None, probe_at=None)
                )
                change.due.add(pk)

        await self._write("unpark_account", self.clock.now(), work)

    async def renew_secret(self, pk: int, version: int, used: str, secret: str) -> bool:
        def work(change: Change) -> bool:
            old = self.disk.live_account(pk)
            if old is None or (old.version, old.password) != (version, used):
                return False
            row = self.disk.accounts[pk]
            self.disk.accounts[pk] = attrs.evolve(row, value=attrs.evolve(old, password=secret))
            return True

        return await self._write("renew_secret", self.clock.now(), work)

    # IIntake

    async def enqueue(
        self,
        messages: Sequence[NewMessage],
        now: float,
        deadline: float,
        once: Once | None = None,
    ) -> list[Enqueued]:
        return await self._write(
            "enqueue", now, lambda c: intake.enqueue(c, messages, once), deadline
        )

    def courtesy(self) -> Callable[[], Awaitable[None]]:
        return lambda: succeed(None)

    async def suspend(self, tenant_id: str | None, batch: str | None, now: float) -> Suspension:
        return await self._write("suspend", now, lambda c: reports.suspend(c, tenant_id, batch))

    async def activate(self, tenant_id: str | None, batch: str | None, now: float) -> Suspension:
        return await self._write("activate", now, lambda c: reports.activate(c, tenant_id, batch))

    # IQueue

    async def due_accounts(self, now: float) -> tuple[list[int], float | None]:
        self._check_alive()
        return queue.due_accounts(self.disk, now)

    async def claim(
        self,
        account_pk: int,
        limit: int,
        now: float,
        *,
        oldest: bool = False,
        urgent: bool = False,
        spill: bool = False,
    ) -> list[Claimed]:
        return await self._write(
            "claim", now, lambda c: queue.claim(c, account_pk, limit, oldest, urgent, spill)
        )

    async def contents(self, pks: Sequence[int]) -> dict[int, Stored]:
        self._check_alive()
        return queue.contents(self.disk, pks)

    async def prepared(
        self, pk: int, token: int, payload: bytes, parts: Mapping[int, bytes], size: int
    ) -> bool:
        return await self._write(
            "prepared",
            self.clock.now(),
            lambda c: queue.prepared(c, pk, token, payload, parts, size),
        )

    async def refetch(self, tenant_id: str, now: float) -> int:
        return await self._write("refetch", now, lambda c: queue.refetch(c, tenant_id))

    async def begin(
        self,
        intents: Sequence[tuple[int, int]],
        account: str,
        now: float,
        *,
        through: tuple[int, int] | None = None,
    ) -> list[bool]:
        return await self._write("begin", now, lambda c: queue.begin(c, intents, account, through))

    async def record(self, records: Sequence[Record]) -> list[bool]:
        return await self._write("record", self.clock.now(), lambda c: queue.record(c, records))

    async def release(self, leases: Sequence[tuple[int, int]]) -> None:
        await self._write("release", self.clock.now(), lambda c: queue.release(c, leases))

    async def abandoned(self, now: float) -> list[Claimed]:
        return await self._write("abandoned", now, queue.abandoned)

    async def heartbeat(self, now: float) -> None:
        await self._write("heartbeat", now, lambda c: self.disk.nodes.setdefault(self.node_id, now))

    # IReports

    async def unreported(self, tenant_id: str, limit: int) -> list[ReportItem]:
        self._check_alive()
        return reports.unreported(self.disk, tenant_id, limit)

    async def acked(self, event_pks: Sequence[int], now: float) -> None:
        await self._write("acked", now, lambda c: reports.acked(c.disk, event_pks, now))

    async def park_event(
        self, event_pks: Sequence[int], reason: str, now: float, lease: ReportLease | None = None
    ) -> bool:
        return await self._write(
            "park_event", now, lambda c: reports.park_event(c.disk, event_pks, reason, lease)
        )

    async def hold_reports(self, tenant_id: str, seconds: float) -> ReportLease | None:
        self._check_alive()
        return reports.hold(self.disk, tenant_id, self.node_id, self.clock.seconds(), seconds)

    async def release_reports(self, lease: ReportLease, said: Said) -> None:
        self._check_alive()
        reports.release(self.disk, lease, said, self.clock.seconds())

    def cut_off(self) -> bool:
        return self.node_id not in self.disk.nodes

    async def ack_all(self, tenant_id: str, now: float) -> int:
        return await self._write("ack_all", now, lambda c: reports.ack_all(c.disk, tenant_id, now))

    async def waiting_tenants(self) -> list[str]:
        self._check_alive()
        return reports.waiting_tenants(self.disk)

    async def report_lag(self, now: float) -> float:
        self._check_alive()
        return max(reports.report_lags(self.disk, now).values(), default=0.0)

    async def report_lags(self, now: float) -> dict[str, float]:
        self._check_alive()
        return reports.report_lags(self.disk, now)

    # IStatus

    async def counts(self, now: float, tenant_id: str | None = None) -> Counts:
        self._check_alive()
        return reports.counts(self.disk, now, tenant_id)

    async def nodes(self, now: float) -> list[Node]:
        self._check_alive()
        return [
            Node(each, "localhost", __version__, started_at, now + 60.0, alive=True)
            for each, started_at in sorted(self.disk.nodes.items())
        ]

    async def suspension(self, tenant_id: str | None) -> Suspension:
        self._check_alive()
        return reports.suspension(self.disk, tenant_id)

    async def messages(self, query: ListQuery) -> list[MessageRecord]:
        self._check_alive()
        return reports.messages(self.disk, query)

    async def search(self, query: ListQuery, wanted: Wanted) -> Found:
        self._check_alive()
        return reports.search(self.disk, query, wanted)

    async def timeline(self, tenant_id: str, message_id: str) -> list[dict[str, Any]]:
        self._check_alive()
        return reports.timeline(self.disk, tenant_id, message_id)

    async def upkeep(self, now: float) -> int:
        def work(c: Change) -> int:
            return queue.expire(c) or reports.upkeep(c) or tenants.upkeep(c)

        return await self._write("upkeep", now, work)

    def healthy(self) -> bool:
        return self._well and not self._dead
