"""The fake store's outward side: reports, suspension, listings, counts and upkeep."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

import attrs

from mailproxy import payload as payloads
from mailproxy.records import (
    Counts,
    ListQuery,
    MessageRecord,
    ReportItem,
    ReportLease,
    Said,
    Suspension,
)
from mailproxy.search import LOOKED_AT, Found, Wanted, select
from mailproxy.states import EventKind, MessageState
from mailproxy.tenancy import Tenant
from tests import fake_store_intake as intake
from tests.fake_store_intake import Change
from tests.fake_store_rows import ALL, Disk, EventRow, LeaseRow, MessageRow, Tombstone

#: Seconds a reported message is kept, and its tombstone after that.
RETENTION = 604_800.0
IDEMPOTENCY = 2_592_000.0

#: The most rows one step of upkeep touches.
STEP = 500


def _offered(disk: Disk, tenant_id: str) -> dict[tuple[str, str], list[EventRow]]:
    """The unreported events of each message of the tenant, oldest first."""
    grouped: dict[tuple[str, str], list[EventRow]] = {}
    for key, event in disk.unreported():
        if key[0] == tenant_id:
            grouped.setdefault(key, []).append(event)
    return grouped


def unreported(disk: Disk, tenant_id: str, limit: int) -> list[ReportItem]:
    groups = [sorted(g, key=lambda e: e.pk) for g in _offered(disk, tenant_id).values()]
    groups.sort(key=lambda group: group[0].pk)
    found = []
    for group in groups[:limit]:
        newest = group[-1].item
        assert newest is not None, "an unreported event has an item"
        found.append(attrs.evolve(newest, event_pks=tuple(event.pk for event in group)))
    return found


def _by_pk(disk: Disk, event_pks: Sequence[int]) -> list[EventRow]:
    wanted = set(event_pks)
    return [event for _, event in disk.all_events() if event.pk in wanted]


def acked(disk: Disk, event_pks: Sequence[int], now: float) -> None:
    for event in _by_pk(disk, event_pks):
        if event.unreported:
            event.reported_at = now


def park_event(
    disk: Disk, event_pks: Sequence[int], reason: str, lease: ReportLease | None
) -> bool:
    if lease is not None and disk.report_leases[lease.tenant_id].token != lease.token:
        return False
    for event in _by_pk(disk, event_pks):
        event.parked = reason or "refused"
    return True


def hold(
    disk: Disk, tenant_id: str, node: str, seconds: float, length: float
) -> ReportLease | None:
    """:param seconds: of the one clock that all nodes of the fake have."""
    held = disk.report_leases.setdefault(tenant_id, LeaseRow())
    if held.until > seconds and held.node != node and (not held.node or held.node in disk.nodes):
        return None
    held.node, held.until, held.token = node, seconds + length, held.token + 1
    shared = len(disk.nodes) > 1
    empty_in = None if held.empty_at is None or not shared else held.empty_at - seconds
    return ReportLease(tenant_id, held.token, shared, empty_in)


def release(disk: Disk, lease: ReportLease, said: Said, seconds: float) -> None:
    held = disk.report_leases[lease.tenant_id]
    if held.token == lease.token:
        held.node, held.until = "", seconds + said.rest
        if said.empty_in is not None:
            held.empty_at = seconds + said.empty_in


def ack_all(disk: Disk, tenant_id: str, now: float) -> int:
    if disk.tenants[tenant_id].sync_url is not None:
        return 0
    events = [event for group in _offered(disk, tenant_id).values() for event in group]
    for event in events:
        event.reported_at = now
    return len(events)


def waiting_tenants(disk: Disk) -> list[str]:
    return sorted({key[0] for key, _ in disk.unreported()})


def report_lags(disk: Disk, now: float) -> dict[str, float]:
    lags: dict[str, float] = {}
    for (tenant_id, _), event in disk.unreported():
        lags[tenant_id] = max(now - event.at, lags.get(tenant_id, 0.0))
    return lags


def suspension(disk: Disk, tenant_id: str | None, batch: str | None = None) -> Suspension:
    """:raises ValueError: there is no such tenant."""
    tenant = None if tenant_id is None else _known(disk, tenant_id)
    scope = [
        row
        for row in disk.messages.values()
        if (tenant_id is None or row.tenant_id == tenant_id)
        and (batch is None or row.batch == batch)
    ]
    batches = sorted(code for tenant, code in disk.suspended if tenant == tenant_id)
    stopped = ALL in batches or (None, ALL) in disk.suspended
    return Suspension(
        tenant_id=tenant_id,
        batches=(ALL,) if ALL in batches else tuple(batches),
        pending=sum(not row.state.final for row in scope),
        in_flight=sum(row.state is MessageState.IN_FLIGHT for row in scope),
        active=not stopped
        and (batch is None or batch not in batches)
        and (tenant is None or tenant.active),
    )


def _known(disk: Disk, tenant_id: str) -> Tenant:
    found = disk.tenant(tenant_id)
    if found is None:
        raise ValueError("tenant not found")
    return found


def settle_ages(change: Change) -> None:
    """The age of a message does not run while it is stopped or held."""
    disk = change.disk
    for row in disk.messages.values():
        if row.open and (disk.is_stopped(row) or (row.hold and not row.open_attempt)):
            began = max(disk.settled_at, row.accepted_at, row.not_before or 0.0)
            row.expires_at += max(0.0, change.now - began)
    disk.settled_at = change.now


def suspend(change: Change, tenant_id: str | None, batch: str | None) -> Suspension:
    if tenant_id is not None:
        _known(change.disk, tenant_id)
    settle_ages(change)
    change.disk.suspended.add((tenant_id, ALL if batch is None else batch))
    return suspension(change.disk, tenant_id, batch)


def activate(change: Change, tenant_id: str | None, batch: str | None) -> Suspension:
    """:raises ValueError: no such tenant, or one batch out of a full suspension."""
    disk = change.disk
    if tenant_id is not None:
        _known(disk, tenant_id)
    if batch is not None and (tenant_id, ALL) in disk.suspended:
        raise ValueError("all batches are suspended; activate all of them")
    settle_ages(change)
    if batch is None:
        disk.suspended = {pair for pair in disk.suspended if pair[0] != tenant_id}
    else:
        disk.suspended.discard((tenant_id, batch))
    change.due.update(
        row.account_pk
        for row in disk.messages.values()
        if tenant_id in (None, row.tenant_id) and row.open
    )
    return suspension(disk, tenant_id, batch)


def counts(disk: Disk, now: float, tenant_id: str | None) -> Counts:
    by_state = dict.fromkeys(("queued", "deferred", "in_flight", "held", "uncertain"), 0)
    due = []
    for row in disk.messages.values():
        if row.state.final or tenant_id not in (None, row.tenant_id):
            continue
        by_state[row.state.value] += 1
        if row.next_at is not None and row.next_at <= now and disk.may_be_sent(row, now):
            due.append(row.next_at)
    return Counts(by_state, min(due, default=None))


def _rank(row: MessageRow) -> tuple[float, ...]:
    """Unfinished by priority and age, then finished, newest first."""
    if row.state.final:
        return (1, -(row.finished_at or 0.0), 0.0, -row.pk)
    return (0, row.priority, row.accepted_at, row.pk)


def messages(disk: Disk, query: ListQuery) -> list[MessageRecord]:
    after = tuple(json.loads(query.after)) if query.after is not None else None
    rows = [
        row
        for row in disk.messages.values()
        if query.tenant_id in (None, row.tenant_id)
        and not (query.active_only and row.state.final)
        and query.state in (None, row.state.value)
        and query.account_id in (None, row.account_id)
        and query.batch in (None, row.batch)
        and (query.since is None or row.updated_at >= query.since)
        and (after is None or _rank(row) > after)
    ]
    return [listed(row) for row in sorted(rows, key=_rank)[: query.limit]]


def search(disk: Disk, query: ListQuery, wanted: Wanted) -> Found:
    def brief(record: MessageRecord) -> MessageRecord:
        if record.payload is None:
            return record
        content = attrs.evolve(payloads.load(record.payload), plain=None, html=None)
        return attrs.evolve(record, payload=payloads.dump(content))

    page = [brief(each) for each in messages(disk, attrs.evolve(query, limit=LOOKED_AT))]
    return select(page, wanted, query.limit)


def listed(row: MessageRow) -> MessageRecord:
    ended = row.finished_at if row.state.final else None
    sent = row.state is MessageState.SENT
    wrong = ended is not None and not sent and row.state is not MessageState.CANCELLED
    final = row.final_event
    return MessageRecord(
        pk=row.pk,
        tenant_id=row.tenant_id,
        id=row.id,
        account_id=row.account_id,
        priority=row.priority,
        batch=row.batch,
        not_before=row.not_before,
        state=row.state.value,
        attempts=row.attempts,
        sent_ts=ended if sent else None,
        error_ts=ended if wrong else None,
        error=row.error() if wrong else None,
        deferred_reason=None if row.state.final else row.reason or None,
        reported_ts=final.reported_at if final is not None else None,
        accepted_at=row.accepted_at,
        updated_at=row.updated_at,
        message_id=row.message_id,
        not_after=row.not_after,
        payload=row.payload,
        recipients=tuple(rcpt.report() for rcpt in row.recipients),
        cursor=json.dumps(_rank(row)),
    )


def timeline(disk: Disk, tenant_id: str, message_id: str) -> list[dict[str, Any]]:
    row = disk.find(tenant_id, message_id)
    return [] if row is None else [_step(row, event) for event in row.events]


def _step(row: MessageRow, event: EventRow) -> dict[str, Any]:
    data = copy.deepcopy(event.data)
    if event.generation == row.generation:
        for said in data.get("recipients", ()):
            said["address"] = row.recipients[said["n"]].address
    step: dict[str, Any] = {} if event.kind is EventKind.INTENT else {"event_id": event.event_id}
    step |= {
        "kind": event.kind.value,
        "at": event.at,
        "generation": event.generation,
        "final": event.final,
        "data": data,
    }
    if event.item is not None and (reason := event.item.error or event.item.deferred_reason):
        step["reason"] = reason
    if event.reported_at is not None:
        step["reported_at"] = event.reported_at
    if event.attempt is not None:
        step["attempt"] = event.attempt
    return step


def upkeep(change: Change) -> int:
    """Fail what deleted accounts left, bury what is done, forget what is long buried."""
    return _fail_orphans(change) or _bury(change) or _forget(change)


def _fail_orphans(change: Change) -> int:
    disk = change.disk
    orphans = [
        row
        for row in disk.messages.values()
        if disk.live_account(row.account_pk) is None and row.open and not row.open_attempt
    ][:STEP]
    for row in orphans:
        intake.fail_with_account(change, row)
    return len(orphans)


def _bury(change: Change) -> int:
    """Finished and reported messages past their retention leave a tombstone."""
    disk = change.disk
    old = []
    for row in disk.messages.values():
        final = row.final_event
        if final is None or final.reported_at is None:
            continue
        own = disk.tenants[row.tenant_id].retention_seconds
        kept = RETENTION if own is None else own
        if final.reported_at + kept > change.now:
            continue
        if not any(event.unreported for event in row.events):
            old.append(row)
    for row in old[:STEP]:
        bury(change, row)
    return len(old[:STEP])


def bury(change: Change, row: MessageRow) -> None:
    """Only a tombstone stays of a message that ended."""
    final = row.final_event
    assert final is not None, "a message that ended has its final event"
    change.disk.tombstones[row.tenant_id, row.id] = Tombstone(
        row.tenant_id,
        row.id,
        row.digest,
        row.generation,
        row.message_id,
        row.accepted_by,
        row.doubted | (row.doubted_before - {rcpt.address for rcpt in row.recipients}),
        row.accepted_at,
        row.state,
        row.error(),
        final,
        change.now,
    )
    del change.disk.messages[row.pk]


def _forget(change: Change) -> int:
    dead = [
        key
        for key, tombstone in change.disk.tombstones.items()
        if tombstone.removed_at + IDEMPOTENCY <= change.now and not tombstone.final_event.unreported
    ][:STEP]
    for key in dead:
        del change.disk.tombstones[key]
    return len(dead)
