"""The store's face towards those who tell applications what became of their mail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mailproxy.records import (
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
from mailproxy.store import eventlog, listing, nodes, reports, suspensions, timeline
from mailproxy.store.face import Face


class ReportsFace(Face):
    """``IReports``, ``IEventLog``, and the reading half of ``IStatus``."""

    #: The token of each tenant's report lease; in memory, where one node has the store.
    _report_tokens: dict[str, int]

    if TYPE_CHECKING:
        _alive: nodes.Alive

    async def unreported(self, tenant_id: str, limit: int) -> list[ReportItem]:
        return await self._read(reports.unreported, tenant_id, limit)

    async def acked(self, event_pks: Sequence[int], now: float) -> None:
        await self._write(reports.ACK, reports.Ack(event_pks, now))

    async def park_event(
        self, event_pks: Sequence[int], reason: str, now: float, lease: ReportLease | None = None
    ) -> bool:
        if lease is not None and self._report_tokens.get(lease.tenant_id) != lease.token:
            return False
        await self._write(reports.PARK, reports.Ack(event_pks, now, reason))
        return True

    async def hold_reports(self, tenant_id: str, seconds: float) -> ReportLease | None:
        token = self._report_tokens.get(tenant_id, 0) + 1
        self._report_tokens[tenant_id] = token
        return ReportLease(tenant_id, token)

    async def release_reports(self, lease: ReportLease, said: Said) -> None:
        """Nobody waits for it."""

    def cut_off(self) -> bool:
        return False

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

    async def report_lags(self, now: float) -> dict[str, float]:
        oldest = await self._read(reports.oldest_by_tenant)
        return {of: max(0.0, now - since) for of, since in oldest.items()}

    # --- the event log ---------------------------------------------------------------------------

    async def events(self, tenant_id: str, after: int, limit: int) -> list[ReportItem]:
        return await self._read(eventlog.log, tenant_id, after, limit)

    async def replay(
        self, tenant_id: str, since: float | None, ids: Sequence[str] | None, now: float
    ) -> int:
        offered = 0
        if ids is not None:
            for n in range(0, len(ids), eventlog.STEP):
                named = eventlog.Named(tenant_id, ids[n : n + eventlog.STEP], now)
                offered += await self._write(eventlog.REPLAY_NAMED, named)
        elif since is not None:
            after, last = await self._read(eventlog.born, tenant_id, since)
            while after < last:
                call = eventlog.Born(tenant_id, since, after, last, now)
                after, count = await self._write(eventlog.REPLAY_BORN, call)
                offered += count
        return offered

    async def message(self, tenant_id: str | None, message_id: str) -> MessageRecord | None:
        return await self._read(listing.message, tenant_id, message_id)

    # --- status ----------------------------------------------------------------------------------

    async def counts(self, now: float, tenant_id: str | None = None) -> Counts:
        return await self._read(listing.counts, now, tenant_id)

    async def nodes(self, now: float) -> list[Node]:
        return await self._read(nodes.listed, self._alive)

    async def suspension(self, tenant_id: str | None) -> Suspension:
        key = suspensions.SERVICE if tenant_id is None else tenant_id
        return await self._read(suspensions.suspension, key)

    async def messages(self, query: ListQuery) -> list[MessageRecord]:
        return await self._read(listing.page, query)

    async def search(self, query: ListQuery, wanted: Wanted) -> Found:
        return await self._read(listing.search, query, wanted)

    async def timeline(self, tenant_id: str, message_id: str) -> list[dict[str, Any]]:
        return await self._read(timeline.timeline, tenant_id, message_id)
