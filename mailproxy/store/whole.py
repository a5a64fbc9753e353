"""
What every store is, whatever database it keeps the mail in: the parts of its face put together,
the one writer and the readers behind them, and the news for those who watch it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger

from mailproxy.clock import Names
from mailproxy.crypto import Sealer
from mailproxy.interfaces import IClock, IStoreObserver
from mailproxy.limits import Use
from mailproxy.metrics import Metrics
from mailproxy.model import Account
from mailproxy.records import AccountSpec
from mailproxy.store import accounts, rates
from mailproxy.store.courtesy import Courtesy
from mailproxy.store.face import DEADLINE
from mailproxy.store.face_acts import ActsFace
from mailproxy.store.face_bounces import BouncesFace
from mailproxy.store.face_intake import IntakeFace
from mailproxy.store.face_queue import QueueFace
from mailproxy.store.face_removal import RemovalFace
from mailproxy.store.face_reports import ReportsFace
from mailproxy.store.face_tenants import TenantsFace
from mailproxy.store.files import FilesFace
from mailproxy.store.options import StoreOptions
from mailproxy.store.probing import Probing
from mailproxy.store.readers import Readers
from mailproxy.store.retention import Step
from mailproxy.store.works import Committed, Kind
from mailproxy.store.writer import Writer

C = TypeVar("C")
R = TypeVar("R")
T = TypeVar("T")

_log = Logger()


class WholeStore(
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
    """A base for the stores; they bring what is named here."""

    if TYPE_CHECKING:
        _writer: Writer
        _readers: Readers
        _connection: Any
        _steps: Sequence[Step]

        def open(self) -> None: ...

        def close(self) -> Deferred[None]: ...

    def __init__(
        self,
        clock: IClock,
        names: Names,
        sealer: Sealer,
        metrics: Metrics | None,
        options: StoreOptions,
    ) -> None:
        self.setName("store")
        self.node_id = names.uuid().replace("-", "")
        self._clock = clock
        self._names = names
        self._sealer = sealer
        self._metrics = metrics or Metrics()
        self._options = options
        self._observers: list[IStoreObserver] = []
        self._watchers: list[Callable[[], object]] = []
        self._opened_at = 0.0
        self._account_ids: dict[int, str] = {}
        self._report_tokens = {}
        self._keys: dict[tuple[str, str], DeferredLock] = {}
        self._courtesy = Courtesy(clock)
        self._probing = Probing(clock, lambda: self.heartbeat(clock.now()))

    def startService(self) -> None:
        """:raises StoreRefused: see ``open``."""
        self.open()
        super().startService()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return self.close()

    def healthy(self) -> bool:
        return self._connection is not None and self._writer.healthy

    @property
    def closing(self) -> bool:
        return self._connection is None or self._writer.closing

    def subscribe(self, observer: IStoreObserver) -> Callable[[], None]:
        self._observers.append(observer)
        return lambda: self._observers.remove(observer)

    def watch_changes(self, told: Callable[[], object]) -> Callable[[], None]:
        self._watchers.append(told)
        return lambda: self._watchers.remove(told)

    def _changed_elsewhere(self) -> None:
        """In the reactor: another node changed what is kept in copies."""
        for told in list(self._watchers):
            try:
                told()
            except Exception:  # one watcher must not keep news from the others
                _log.failure("a watcher of the store raised")

    def _told(self, committed: Committed) -> None:
        """In the reactor, after the Deferreds of a commit fired."""
        if not self.closing:
            self._probing.told(self._writer.healthy)
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
        self._tell(committed)

    def _tell(self, committed: Committed) -> None:
        """Tell those who watch the store what has become due, or is limited."""
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

    async def renew_secret(self, pk: int, version: int, used: str, secret: str) -> bool:
        call = accounts.Renewal(pk, version, used, self._sealer.seal(secret), self._sealer)
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


def delivery(reactor: IReactorFromThreads | None) -> Callable[..., None]:
    """How the writer has a function called where answers are delivered."""
    return _at_once if reactor is None else reactor.callFromThread


def _at_once(function: Callable[..., None], *args: Any) -> None:
    function(*args)
