"""
Stores that are broken on purpose: what the simulation has to find.

Each breaks one promise that the rest of the program relies on, as a wrong program would.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred

from mailproxy.errors import StoreError
from mailproxy.model import Enqueued, NewMessage, Record
from mailproxy.payload import dump, load
from mailproxy.records import ReportItem, ReportLease
from mailproxy.states import Verdict
from mailproxy.tenancy import Once
from tests.fake_store_intake import Change
from tests.fake_store_rows import Lease
from tests.simulation.shared import SharedStore
from tests.simulation.store import SimulatedStore

T = TypeVar("T")


class BodyBeforeIntent(SimulatedStore):
    """Says that an intent is stored while it is still on its way."""

    async def begin(
        self,
        intents: Sequence[tuple[int, int]],
        account: str,
        now: float,
        *,
        through: tuple[int, int] | None = None,
    ) -> list[bool]:
        _unheeded(super().begin(intents, account, now, through=through))
        return [True] * len(intents)


class AnswerBeforeCommit(SimulatedStore):
    """Says that mail is stored while it is still on its way."""

    async def enqueue(
        self,
        messages: Sequence[NewMessage],
        now: float,
        deadline: float,
        once: Once | None = None,
    ) -> list[Enqueued]:
        _unheeded(super().enqueue(messages, now, deadline, once))
        return [Enqueued(Verdict.QUEUED) for _ in messages]


class SmtpAnswerBeforeCommit(AnswerBeforeCommit):
    """The same of what comes by SMTP alone."""

    async def enqueue(
        self,
        messages: Sequence[NewMessage],
        now: float,
        deadline: float,
        once: Once | None = None,
    ) -> list[Enqueued]:
        if all(load(each.payload).by_smtp for each in messages):
            return await super().enqueue(messages, now, deadline, once)
        return await SimulatedStore.enqueue(self, messages, now, deadline, once)


class DotsKept(SimulatedStore):
    """Keeps what came by SMTP as it was on the wire."""

    async def enqueue(
        self,
        messages: Sequence[NewMessage],
        now: float,
        deadline: float,
        once: Once | None = None,
    ) -> list[Enqueued]:
        return await super().enqueue([_stuffed(each) for each in messages], now, deadline, once)


class AckBeforeAnswer(SimulatedStore):
    """Counts events as reported when they are offered."""

    async def unreported(self, tenant_id: str, limit: int) -> list[ReportItem]:
        found = await super().unreported(tenant_id, limit)
        if found:
            await self.acked([pk for item in found for pk in item.event_pks], self.clock.now())
        return found


class NewEventIds(SimulatedStore):
    """Tells of the same event under another id each time."""

    async def unreported(self, tenant_id: str, limit: int) -> list[ReportItem]:
        found = await super().unreported(tenant_id, limit)
        return [attrs.evolve(each, event_id=self.names.uuid()) for each in found]


class OutcomeForgotten(SimulatedStore):
    """Loses outcomes that it could not store, and says that it has them."""

    async def record(self, records: Sequence[Record]) -> list[bool]:
        try:
            return await super().record(records)
        except StoreError:
            return [True] * len(records)


class TokenUnchecked(SimulatedStore):
    """Lets whoever once had a message claimed begin it, whatever became of it since."""

    async def begin(
        self,
        intents: Sequence[tuple[int, int]],
        account: str,
        now: float,
        *,
        through: tuple[int, int] | None = None,
    ) -> list[bool]:
        for pk, token in intents:
            row = self.disk.messages.get(pk)
            if row is not None and row.lease is None and not row.state.final:
                row.lease = Lease(self.node_id, token)
        return await super().begin(intents, account, now, through=through)


class DoubtDenied(SimulatedStore):
    """Takes attempts that a crash cut off for ones that never began."""

    async def abandoned(self, now: float) -> list[Any]:
        for row in self.disk.messages.values():
            if row.lease is not None and row.lease.owner not in self.disk.nodes:
                row.open_attempt = 0
        return await super().abandoned(now)


class SuspensionUnheeded(SimulatedStore):
    """Lets begin what was claimed before a suspension."""

    def commit(self, method: str, change: Change, work: Callable[[Change], T]) -> T:
        if method != "begin":
            return super().commit(method, change, work)
        kept, self.disk.suspended = self.disk.suspended, set()
        try:
            return super().commit(method, change, work)
        finally:
            self.disk.suspended = kept


class LimitsUncounted(SimulatedStore):
    """Forgets what it counted for limits."""

    def commit(self, method: str, change: Change, work: Callable[[Change], T]) -> T:
        try:
            return super().commit(method, change, work)
        finally:
            self.disk.handed_over.clear()


class RightUnchecked(SharedStore):
    """Lets every node call a tenant, whoever has the right to."""

    async def hold_reports(self, tenant_id: str, seconds: float) -> ReportLease | None:
        self.disk.report_leases.pop(tenant_id, None)
        return await super().hold_reports(tenant_id, seconds)


class RightForgotten(SharedStore):
    """A node that does not notice that it may be taken for dead."""

    def cut_off(self) -> bool:
        return False


class FenceUnchecked(SharedStore):
    """Lets a node begin what it once had claimed, though another has taken it over."""

    async def begin(
        self,
        intents: Sequence[tuple[int, int]],
        account: str,
        now: float,
        *,
        through: tuple[int, int] | None = None,
    ) -> list[bool]:
        self._begun = dict(intents)
        return await super().begin(intents, account, now, through=through)

    def commit(self, method: str, change: Change, work: Callable[[Change], T]) -> T:
        for pk, token in self._begun.items() if method == "begin" else ():
            row = self.disk.messages.get(pk)
            if row is not None and row.open:
                row.lease, row.open_attempt = Lease(self.node_id, token), 0
        return super().commit(method, change, work)


class NodesBuriedAlive(SharedStore):
    """Takes what any other node has begun for left behind, and for not begun."""

    async def abandoned(self, now: float) -> list[Any]:
        for row in self.disk.messages.values():
            if row.lease is not None and row.lease.owner != self.node_id:
                row.lease, row.open_attempt = Lease("", 0), 0
        return await super().abandoned(now)


def _stuffed(message: NewMessage) -> NewMessage:
    content = load(message.payload)
    if not content.by_smtp or content.plain is None:
        return message
    text = content.plain.replace("\r\n.", "\r\n..")
    return attrs.evolve(message, payload=dump(attrs.evolve(content, plain=text)))


def _unheeded(work: Any) -> None:
    """Nobody waits for *work*, nor hears of its failure."""
    Deferred.fromCoroutine(work).addErrback(lambda failure: failure.trap(StoreError))
