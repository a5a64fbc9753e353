"""Finished and reported messages are removed when they are old; a tombstone stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
from sqlalchemy import delete, insert, select

from mailproxy.acts import in_doubt
from mailproxy.clock import Names
from mailproxy.metrics import Metrics
from mailproxy.states import RecipientState
from mailproxy.store import dropping
from mailproxy.store import statements as sql
from mailproxy.store.bounces import quiet_stream
from mailproxy.store.compiling import LIMIT, columns, compiled, indexed, listed, p
from mailproxy.store.memory import accepted_before, buried
from mailproxy.store.schema import attempts, events, messages, recipients, tombstones
from mailproxy.store.schema_tenants import tenants
from mailproxy.store.transaction import Transaction, numbers
from mailproxy.store.wording import TESTED
from mailproxy.store.works import Kind

_m, _e, _r, _t = messages.c, events.c, recipients.c, tenants.c

#: Messages removed in one transaction; each has about six rows.
PURGED = 80

#: Seconds after the start before anything is given up that was to be reported: it may have become
#: too old while the service was down, and is offered a few times first.
CHANCE = 3600.0


@attrs.frozen
class Step:
    """
    One kind of background work.

    :param find: what there is to do: ``find(cursor, now, options)``; empty for nothing.
    :param kind: does it, and answers how many rows it touched.
    :param after: seconds that the store has to be open before.
    :param done: told what was found, and how many rows of it were touched.
    """

    find: Callable[[Any, float, Any], Any]
    kind: Kind[Any, int]
    after: float = 0.0
    done: Callable[[Any, int, Metrics], None] | None = None


@attrs.frozen
class Found:
    """What a step found, and when it looked."""

    pks: Sequence[Any]
    now: float
    job: int = 0

    def __bool__(self) -> bool:
        return bool(self.pks) or bool(self.job)


_KEPT = compiled(select(_t.id, _t.retention_seconds))
#: By the final events of a tenant, in whose order they were made: the oldest are the first to be
#: over, whatever other tenants keep.
_ends = (
    select(_m.pk).where(_m.pk == _e.message_pk, _m.final_event == _e.pk).correlate(events).exists()
)
_OLD = indexed(
    compiled(
        select(_e.message_pk)
        .where(
            _e.stream == p("tenant"),
            _e.stream.is_not(None),
            _e.pk <= p("newest"),
            (_e.reported_at <= p("reported")) | (_e.parked_at <= p("parked")),
            _ends,
        )
        .order_by(_e.pk)
        .suffix_with(LIMIT),
        "tenant",
        "newest",
        "reported",
        "parked",
        "limit",
    ),
    events,
    "events_stream",
)
_BURIED = compiled(
    select(
        _m.pk,
        _m.tenant_id,
        _m.id,
        _m.digest,
        _m.generation,
        _m.message_id,
        _m.accepted_at,
        _m.state,
        _m.finished_at,
        _m.error,
        _m.body_pk,
        _m.parts,
        _m.size,
        _e.event_id,
        _e.kind,
        _e.report,
    )
    .select_from(messages.join(events, _e.pk == _m.final_event))
    .where(
        _m.pk.in_(listed()),
        _m.finished_at.is_not(None),
        _e.reported_at.is_not(None) | _e.parked_at.is_not(None),
    ),
    "pks",
)
_BURY = compiled(
    insert(tombstones)
    .values({name: p(name) for name in columns(tombstones)})
    .prefix_with("OR REPLACE"),
    *columns(tombstones),
)
DROPS = tuple(
    compiled(delete(table).where(column.in_(listed())), "pks")
    for table, column in (
        (messages, _m.pk),
        (recipients, _r.message_pk),
        (attempts, attempts.c.message_pk),
        (events, _e.message_pk),
    )
)


def expired(cursor: Any, now: float, options: Any) -> Found:
    for tenant_id, own in cursor.execute(_KEPT.sql).fetchall():
        kept = options.retention_seconds if own is None else own
        for stream in (tenant_id, quiet_stream(tenant_id)):
            if pks := over(cursor, stream, now - kept, PURGED):
                return Found(pks, now)
    return Found((), now)


def over(cursor: Any, stream: str, before: float, limit: int) -> list[int]:
    """Messages of a stream that ended, and were reported or parked, at or before *before*."""
    newest = Names.floor(before + 1.0)
    rows = cursor.execute(_OLD.sql, (stream, newest, before, before, limit))
    return [row[0] for row in rows]


def purge(tx: Transaction, found: Found) -> int:
    """Only a tombstone stays."""
    rows = tx.all(_BURIED, numbers(found.pks))
    wanted = numbers(row[0] for row in rows)
    accepted: dict[int, dict[str, bool | None]] = {row[0]: {} for row in rows}
    for pk, _, address, state, code, reply, _ in tx.all(sql.RECIPIENTS_OF, wanted):
        doubted = in_doubt(RecipientState(state), code, reply)
        sent = state == RecipientState.SENT.value and reply != TESTED
        accepted[pk][address] = None if doubted else sent
    before = _accepted_before(tx, rows)
    tx.many(
        _BURY,
        [
            _tombstone(row, accepted[row[0]], before.get((row[1], row[2]), b""), found.now)
            for row in rows
        ],
    )
    dropping.drop_bodies(tx, [(row[10], row[11], row[12]) for row in rows])
    for statement in DROPS:
        tx.do(statement, wanted)
    return len(rows)


def _accepted_before(tx: Transaction, rows: Sequence[Any]) -> dict[tuple[str, str], bytes]:
    """What tombstones of earlier removals know of the same messages."""
    ids: dict[str, list[str]] = {}
    for row in rows:
        ids.setdefault(row[1], []).append(row[2])
    return {
        (tenant, name): hashes
        for tenant, names in ids.items()
        for name, hashes in accepted_before(tx, tenant, names).items()
    }


def _tombstone(
    row: Any, accepted: dict[str, bool | None], before: bytes, now: float
) -> tuple[Any, ...]:
    _, tenant, name, digest, generation, message_id, accepted_at, state, finished, error = row[:10]
    event_id, kind, report = row[13:]
    values = {
        "tenant_id": tenant,
        "id": name,
        "digest": digest,
        "accepted": buried(tenant, name, accepted, before),
        "generation": generation,
        "message_id": message_id,
        "accepted_at": accepted_at,
        "state": state,
        "finished_at": finished,
        "error": error,
        "event_id": event_id,
        "event_kind": kind,
        "event_report": report,
        "removed_at": now,
    }
    return tuple(values[name] for name in columns(tombstones))
