"""A store of events, and receivers that follow a script."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from zope.interface import implementer

from mailproxy.errors import StoreUnavailable
from mailproxy.interfaces import IReports, IReportSink, IStoreObserver
from mailproxy.records import RecipientReport, ReportItem, ReportLease, Said
from mailproxy.report.answer import Taken
from tests.fakes import EPOCH, FakeClock

_RECIPIENTS = (RecipientReport("to@test", "sent", 250, "250 2.0.0 Ok"),)


def item(number: int = 1, **changes: Any) -> ReportItem:
    """The final item of message ``m<number>``, sent to one recipient."""
    values: dict[str, Any] = {
        "event_pks": (number,),
        "event_id": f"e{number}",
        "tenant_id": "default",
        "id": f"m{number}",
        "account_id": "main",
        "generation": 1,
        "priority": 2,
        "at": EPOCH,
        "sent_ts": EPOCH,
        "error_ts": None,
        "error": None,
        "deferred_ts": None,
        "deferred_reason": None,
        "uncertain": False,
        "message_id": f"<m{number}@test>",
        "recipients": _RECIPIENTS,
    }
    return ReportItem(**{**values, **changes})


@attrs.define
class Event:
    pk: int
    tenant_id: str
    id: str
    reported_at: float | None = None
    parked: str = ""

    @property
    def waits(self) -> bool:
        return self.reported_at is None and not self.parked


@implementer(IReports)
class FakeReports:
    """
    Events in memory, with the promises of :class:`mailproxy.interfaces.IReports`.

    :ivar broken: names of methods that fail, until taken out.
    :ivar latency: seconds each call takes; 0 for none.
    """

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.events: list[Event] = []
        self.broken: set[str] = set()
        self.latency = 0.0
        self.calls: list[str] = []
        #: Those that wait, by tenant and message, oldest message first.
        self._waiting: dict[str, dict[str, list[Event]]] = {}
        self._observers: list[Any] = []

    def subscribe(self, observer: IStoreObserver) -> None:
        self._observers.append(observer)

    def add(self, *ids: str, tenant: str = "default") -> list[int]:
        """One new event for each message; the observers are told."""
        made = [Event(len(self.events) + 1 + n, tenant, each) for n, each in enumerate(ids)]
        self.events.extend(made)
        by_id = self._waiting.setdefault(tenant, {})
        for each in made:
            by_id.setdefault(each.id, []).append(each)
        for observer in self._observers:
            observer.reportable([tenant])
        return [each.pk for each in made]

    def reported(self) -> list[int]:
        return [each.pk for each in self.events if each.reported_at is not None]

    def waiting(self) -> list[int]:
        return [each.pk for each in self.events if each.waits]

    async def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.latency:
            await deferLater(self.clock, self.latency)
        if name in self.broken:
            raise StoreUnavailable(f"{name} fails")

    async def unreported(self, tenant_id: str, limit: int) -> list[ReportItem]:
        await self._called("unreported")
        by_id = self._waiting.get(tenant_id, {})
        return [
            item(
                tenant_id=tenant_id,
                id=id,
                event_pks=tuple(each.pk for each in events),
                event_id=f"e{events[-1].pk}",
            )
            for id, events in islice(by_id.items(), limit)
        ]

    def _done(self, event: Event) -> None:
        by_id = self._waiting[event.tenant_id]
        by_id[event.id].remove(event)
        if not by_id[event.id]:
            del by_id[event.id]

    async def acked(self, event_pks: Sequence[int], now: float) -> None:
        await self._called("acked")
        for pk in event_pks:
            event = self.events[pk - 1]
            if event.waits:
                event.reported_at = now
                self._done(event)

    async def hold_reports(self, tenant_id: str, seconds: float) -> ReportLease | None:
        return ReportLease(tenant_id, 1)

    async def release_reports(self, lease: ReportLease, said: Said) -> None:
        """This is the only node."""

    def cut_off(self) -> bool:
        return False

    async def park_event(
        self, event_pks: Sequence[int], reason: str, now: float, lease: ReportLease | None = None
    ) -> bool:
        await self._called("park_event")
        for pk in event_pks:
            event = self.events[pk - 1]
            if event.waits:
                event.parked = reason
                self._done(event)
        return True

    async def ack_all(self, tenant_id: str, now: float) -> int:
        await self._called("ack_all")
        waiting = [e for events in self._waiting.pop(tenant_id, {}).values() for e in events]
        for each in waiting:
            each.reported_at = now
        return len(waiting)

    async def waiting_tenants(self) -> list[str]:
        await self._called("waiting_tenants")
        return [tenant_id for tenant_id, by_id in self._waiting.items() if by_id]

    async def report_lag(self, now: float) -> float:
        await self._called("report_lag")
        return 0.0

    async def report_lags(self, now: float) -> dict[str, float]:
        await self._called("report_lags")
        return {}


#: What a scripted receiver does with one call: answer, raise, or take its time.
Answer = Taken | Exception | Deferred[Any] | Callable[[Sequence[ReportItem]], Any]


@implementer(IReportSink)
class FakeSink:
    """
    A receiver that follows a script, and takes everything once that has ended.

    :ivar offered: the items of each call, in order; ``times`` says when.
    :ivar taken: the items of each call that was answered with an acknowledgement.
    :ivar most_open: the most calls that were ever open at once.
    """

    def __init__(self, clock: FakeClock, answers: Iterable[Answer] = ()) -> None:
        self._clock = clock
        self.answers: list[Answer] = list(answers)
        self.offered: list[tuple[ReportItem, ...]] = []
        self.taken: list[tuple[ReportItem, ...]] = []
        self.times: list[float] = []
        self.open = self.most_open = 0

    @property
    def ids(self) -> list[list[str]]:
        """The message ids of each call."""
        return [[each.id for each in items] for items in self.offered]

    async def send(self, items: Sequence[ReportItem]) -> Taken:
        self.offered.append(tuple(items))
        self.times.append(round(self._clock.seconds(), 3))
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        try:
            answer = self.answers.pop(0) if self.answers else Taken()
            if callable(answer) and not isinstance(answer, Exception):
                answer = answer(items)
            if isinstance(answer, Deferred):
                answer = await answer
            if isinstance(answer, Exception):
                raise answer
            self.taken.append(tuple(items))
            return answer if isinstance(answer, Taken) else Taken()
        finally:
            self.open -= 1
