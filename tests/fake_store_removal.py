"""The fake store's ways of taking mail back, of not sending it, and of telling it once more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import attrs

from mailproxy.records import MessageRecord, ReportItem
from mailproxy.states import EventKind, MessageState, RecipientState
from mailproxy.tenancy import Destination, Remembered, Removed, Suppression
from tests import fake_store_intake as intake
from tests import fake_store_reports as reports
from tests.fake_store_base import FakePart
from tests.fake_store_intake import Change
from tests.fake_store_rows import Disk, EventRow, MessageRow, domain_of

T = TypeVar("T")


class FakeRemoval(FakePart):
    """The part of the fake that is ``IRemoval`` and ``IEventLog``."""

    async def remove(self, tenant_id: str | None, ids: Sequence[str], now: float) -> Removed:
        return await self._write("remove", now, lambda c: remove(c, tenant_id, ids))

    async def cleanup(self, tenant_id: str | None, before: float, now: float) -> int:
        return await self._write("cleanup", now, lambda c: cleanup(c, tenant_id, before))

    async def remembered(
        self, tenant_id: str, message_id: str, addresses: Sequence[str]
    ) -> Remembered | None:
        self._check_alive()
        row = self.disk.find(tenant_id, message_id)
        kept = row.remembered if row else self.disk.tombstones.get((tenant_id, message_id))
        if kept is None:
            return None
        item = kept.final_event.item
        return Remembered(
            kept.state.value,
            kept.message_id,
            item is not None and item.test,
            frozenset((kept.accepted_by | kept.doubted).intersection(addresses)),
        )

    async def pause_destination(self, tenant_id: str, domain: str, now: float) -> bool:
        def work(change: Change) -> bool:
            new = (tenant_id, domain) not in change.disk.paused
            change.disk.paused.setdefault((tenant_id, domain), now)
            return new

        return await self._write("pause_destination", now, work)

    async def resume_destination(self, tenant_id: str, domain: str, now: float) -> bool:
        return await self._write("resume_destination", now, lambda c: resume(c, tenant_id, domain))

    async def destinations(self, tenant_id: str | None) -> list[Destination]:
        self._check_alive()
        return [
            Destination(tenant, domain, since)
            for (tenant, domain), since in sorted(self.disk.paused.items())
            if tenant_id in (None, tenant)
        ]

    async def suppress(self, entries: Sequence[Suppression], now: float) -> int:
        def work(change: Change) -> int:
            before = len(change.disk.suppressed)
            for each in entries:
                change.disk.suppressed.setdefault((each.tenant_id, each.address), each)
            return len(change.disk.suppressed) - before

        return await self._write("suppress", now, work)

    async def unsuppress(self, tenant_id: str, addresses: Sequence[str]) -> int:
        def work(change: Change) -> int:
            before = len(change.disk.suppressed)
            for address in addresses:
                change.disk.suppressed.pop((tenant_id, address), None)
            return before - len(change.disk.suppressed)

        return await self._write("unsuppress", self.clock.now(), work)

    async def suppressions(
        self, tenant_id: str | None, after: tuple[str, str] | None, limit: int
    ) -> list[Suppression]:
        self._check_alive()
        return [
            entry
            for key, entry in sorted(self.disk.suppressed.items())
            if tenant_id in (None, entry.tenant_id) and (after is None or key > after)
        ][:limit]

    async def suppressed(self, tenant_id: str, addresses: Sequence[str]) -> list[Suppression]:
        self._check_alive()
        found = self.disk.suppressed
        return [
            found[tenant_id, each] for each in sorted(set(addresses)) if (tenant_id, each) in found
        ]

    async def events(self, tenant_id: str, after: int, limit: int) -> list[ReportItem]:
        self._check_alive()
        return events(self.disk, tenant_id, after, limit)

    async def replay(
        self, tenant_id: str, since: float | None, ids: Sequence[str] | None, now: float
    ) -> int:
        return await self._write("replay", now, lambda c: replay(c, tenant_id, since, ids))

    async def message(self, tenant_id: str | None, message_id: str) -> MessageRecord | None:
        self._check_alive()
        rows = [
            row
            for row in self.disk.messages.values()
            if row.id == message_id and tenant_id in (None, row.tenant_id)
        ]
        return reports.listed(min(rows, key=lambda row: row.pk)) if rows else None


def remove(change: Change, tenant_id: str | None, ids: Sequence[str]) -> Removed:
    removed, kept, missing = 0, [], []
    for name in dict.fromkeys(ids):
        rows = [
            row
            for row in change.disk.messages.values()
            if row.id == name and tenant_id in (None, row.tenant_id)
        ]
        row = min(rows, key=lambda row: row.pk, default=None)
        if row is None:
            missing.append(name)
        elif _removable(row):
            _take_back(change, row)
            removed += 1
        else:
            kept.append((name, row.state.value))
    return Removed(removed, tuple(kept), tuple(missing))


def _removable(row: MessageRow) -> bool:
    """Whether it waits and nothing of it may have got through unseen, or ended and was told."""
    if row.state.final:
        return row.final_event is not None and row.final_event.reported_at is not None
    in_doubt = any(rcpt.state is RecipientState.UNCERTAIN for rcpt in row.recipients)
    return not row.open_attempt and not in_doubt


def _take_back(change: Change, row: MessageRow) -> None:
    waited = not row.state.final
    if waited:
        for rcpt in row.recipients:
            if rcpt.state is not RecipientState.SENT:
                rcpt.state = RecipientState.CANCELLED
        row.hold, row.reason = "", "cancelled by the application"
        event = row.tell(change.names, EventKind.CANCELLED, change.now, final=True)
        event.reported_at = change.now
    reports.bury(change, row)
    if waited:  # whoever has it already
        change.disk.tombstones[row.tenant_id, row.id].state = MessageState.CANCELLED


def cleanup(change: Change, tenant_id: str | None, before: float) -> int:
    rows = [
        row
        for row in list(change.disk.messages.values())
        if tenant_id in (None, row.tenant_id)
        and row.finished_at is not None
        and row.finished_at <= before
        and row.final_event is not None
        and row.final_event.reported_at is not None
    ]
    for row in rows:
        reports.bury(change, row)
    return len(rows)


def resume(change: Change, tenant_id: str, domain: str) -> bool:
    """What waited for the domain can be claimed again; the pause is no part of its age."""
    since = change.disk.paused.pop((tenant_id, domain), None)
    if since is None:
        return False
    for row in change.disk.messages.values():
        opened = [rcpt for rcpt in row.recipients if rcpt.state.open]
        if row.tenant_id != tenant_id or domain not in {domain_of(each.address) for each in opened}:
            continue
        began = max(since, row.accepted_at, row.not_before or 0.0)
        row.expires_at += max(0.0, change.now - began)
        change.due.add(row.account_pk)
    return True


def events(disk: Disk, tenant_id: str, after: int, limit: int) -> list[ReportItem]:
    rows = [
        event
        for row in disk.messages.values()
        if row.tenant_id == tenant_id
        for event in row.events
        if event.item is not None and event.pk > after
    ]
    rows.sort(key=lambda event: event.pk)
    return [
        attrs.evolve(event.item, event_pks=(event.pk,))
        for event in rows[:limit]
        if event.item is not None
    ]


def replay(change: Change, tenant_id: str, since: float | None, ids: Sequence[str] | None) -> int:
    chosen: list[EventRow] = []
    for row in change.disk.messages.values():
        if row.tenant_id != tenant_id:
            continue
        if ids is not None:
            final = row.final_event if row.id in ids and not row.quiet else None
            chosen += [] if final is None else [final]
        elif since is not None:
            chosen += [each for each in row.events if each.item is not None and each.at >= since]
    for event in sorted(chosen, key=lambda each: each.pk):
        intake.offer_again(change, event, tenant_id)
    return len(chosen)
