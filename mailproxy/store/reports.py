"""Events on their way to the application: what waits, what was taken, what never will be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import attrs
from sqlalchemy import func, select, update

from mailproxy.clock import Names
from mailproxy.records import RecipientReport, ReportItem
from mailproxy.store import statements as sql
from mailproxy.store import wording
from mailproxy.store.compiling import LIMIT, apart, compiled, const, grouped, indexed, listed, p
from mailproxy.store.schema import accounts, events, messages, recipients
from mailproxy.store.schema_tenants import tenants
from mailproxy.store.transaction import Transaction, numbers
from mailproxy.store.works import alone

_e, _m, _r, _t = events.c, messages.c, recipients.c, tenants.c

_UNREPORTED = (
    _e.stream.is_not(None),
    _e.reported_at.is_(None),
    _e.parked_at.is_(None),
)
_UNREPORTED_INDEX = "events_unreported"

_OLDEST = indexed(
    compiled(
        select(_e.pk, _e.message_pk)
        .where(_e.stream == p("tenant"), *_UNREPORTED, _e.pk > p("after"))
        .order_by(_e.pk)
        .suffix_with(LIMIT),
        "tenant",
        "after",
        "limit",
    ),
    events,
    _UNREPORTED_INDEX,
)
#: What an item is made of, beside its message.
EVENT = (_e.message_pk, _e.pk, _e.event_id, _e.generation, _e.at, _e.final, _e.report)
_EVENTS = compiled(
    select(*EVENT)
    .where(
        _e.message_pk.in_(listed()),
        apart(_e.stream) != const("''"),
        _e.reported_at.is_(None),
        _e.parked_at.is_(None),
    )
    .order_by(apart(_e.pk)),
    "pks",
)
_said = (
    select(grouped(_r.n, _r.address, _r.state, _r.code, _r.reply))
    .where(_r.message_pk == _m.pk)
    .scalar_subquery()
)
_MESSAGES = compiled(
    select(
        grouped(
            _m.pk,
            _m.tenant_id,
            _m.id,
            accounts.c.id,
            _m.priority,
            _m.message_id,
            func.json(_said),
        )
    )
    .select_from(messages.join(accounts, accounts.c.pk == _m.account_pk))
    .where(_m.pk.in_(listed())),
    "pks",
)
#: Only while the message still is as the event says: it may have a new generation by now.
_REPORTED = compiled(
    update(messages)
    .values(reported_at=p("now"))
    .where(
        _e.pk.in_(listed()),
        *_UNREPORTED,
        _e.final == const("1"),
        _m.pk == _e.message_pk,
        _m.final_event == _e.pk,
    ),
    "now",
    "pks",
)
_ACK = compiled(
    update(events).values(reported_at=p("now")).where(_e.pk.in_(listed()), *_UNREPORTED),
    "now",
    "pks",
)
_PARK = compiled(
    update(events)
    .values(parked_at=p("now"), parked_reason=p("reason"))
    .where(_e.pk.in_(listed()), *_UNREPORTED),
    "now",
    "reason",
    "pks",
)
_of_tenant = (
    select(_e.pk)
    .where(_e.stream == _t.id, *_UNREPORTED)
    .order_by(_e.pk)
    .suffix_with("LIMIT 1")
    .correlate(tenants)
    .scalar_subquery()
)
_FIRST = indexed(compiled(select(_t.id, _of_tenant)), events, _UNREPORTED_INDEX)
_AT = compiled(select(_e.at).where(_e.pk == p("event")), "event")
_ALL_OF = compiled(
    select(_e.pk).where(_e.stream == p("tenant"), *_UNREPORTED).order_by(_e.pk).suffix_with(LIMIT),
    "tenant",
    "limit",
)

_HAS_URL = compiled(
    select(_t.id).where(
        _t.id == p("tenant"),
        (_t.client_sync_url != const("''")) | (_t.client_base_url != const("''")),
    ),
    "tenant",
)

#: Rows that one transaction of :func:`acknowledge_all` marks.
STEP = 500


def unreported(cursor: Any, tenant_id: str, limit: int) -> list[ReportItem]:
    """The oldest unreported messages of a tenant, one item each, newest state."""
    chosen: dict[int, None] = {}
    after, step = 0, limit
    while len(chosen) < limit:
        found = cursor.execute(_OLDEST.sql, (tenant_id, after, step)).fetchall()
        for _, message in found:
            if len(chosen) < limit:
                chosen[message] = None
        if len(found) < step:
            break
        after = found[-1][0]
    return _items(cursor, list(chosen)) if chosen else []


def _items(cursor: Any, pks: Sequence[int]) -> list[ReportItem]:
    wanted = numbers(pks)
    waiting: dict[int, list[Any]] = {pk: [] for pk in pks}
    for row in cursor.execute(_EVENTS.sql, (wanted,)):
        waiting[row[0]].append(row)
    found = _messages(cursor, wanted)
    return [_item(found[pk], waiting[pk]) for pk in pks if waiting[pk] and pk in found]


def items_of(cursor: Any, rows: Sequence[Any]) -> list[ReportItem]:
    """One item for each of these events (rows of :data:`EVENT`), in order."""
    if not rows:
        return []
    found = _messages(cursor, numbers({row[0] for row in rows}))
    return [_item(found[row[0]], [row]) for row in rows if row[0] in found]


def _messages(cursor: Any, wanted: str) -> dict[int, list[Any]]:
    (rows,) = cursor.execute(_MESSAGES.sql, (wanted,)).fetchone()
    return {row[0]: row for row in Transaction.rows(rows)}


def recipients_of(cursor: Any, wanted: str) -> dict[int, list[RecipientReport]]:
    """The recipients of the messages *wanted* (a JSON list of pks), as reports show them."""
    said: dict[int, list[RecipientReport]] = {}
    for pk, _, address, state, code, reply, _ in cursor.execute(sql.RECIPIENTS_OF.sql, (wanted,)):
        said.setdefault(pk, []).append(RecipientReport(address, state, code, reply))
    return said


def _item(row: Any, waiting: Sequence[Any]) -> ReportItem:
    _, tenant_id, name, account_id, priority, message_id, said = row
    # Of several it is the newest, which need not be the last: one may have been offered again.
    _, _, event_id, generation, at, final, report = max(waiting, key=_age)
    told = wording.load(report)
    sent = bool(final) and told.error is None
    return ReportItem(
        event_pks=tuple(each[1] for each in waiting),
        event_id=str(UUID(bytes=event_id, version=4)),
        tenant_id=tenant_id,
        id=name,
        account_id=account_id,
        generation=generation,
        priority=priority,
        at=at,
        sent_ts=at if sent else None,
        error_ts=at if told.error is not None else None,
        error=told.error,
        deferred_ts=told.deferred_ts,
        deferred_reason=told.deferred_reason,
        uncertain=told.uncertain,
        message_id=message_id,
        recipients=tuple([RecipientReport(*each) for _, *each in sorted(said)]),
        test=told.test,
        through=told.through,
    )


def _age(event: Any) -> tuple[Any, ...]:
    """By what the events of one message follow each other: a generation ends with its final one."""
    _, pk, _, generation, at, final, _ = event
    return generation, final, at, pk


@attrs.frozen
class Ack:
    pks: Sequence[int]
    now: float
    reason: str = ""


def acknowledge(tx: Transaction, call: Ack) -> None:
    """Mark exactly these events; a message is reported when its newest final event is."""
    pks = numbers(call.pks)
    tx.tell(_REPORTED, call.now, pks)
    tx.tell(_ACK, call.now, pks)


def park(tx: Transaction, call: Ack) -> int:
    """:return: how many of them waited still."""
    return tx.do(_PARK, call.now, call.reason, numbers(call.pks))


@attrs.frozen
class AckAll:
    tenant_id: str
    now: float


def acknowledge_all(tx: Transaction, call: AckAll) -> int:
    """
    One step; less than :data:`STEP` when there is nothing left.

    Nothing where the tenant has a URL: the caller's copy of the tenants was old.
    """
    if tx.one(_HAS_URL, call.tenant_id) is not None:
        return 0
    pks = [row[0] for row in tx.all(_ALL_OF, call.tenant_id, STEP)]
    if pks:
        acknowledge(tx, Ack(pks, call.now))
    return len(pks)


def waiting_tenants(cursor: Any) -> list[str]:
    return sorted(tenant for tenant, first in cursor.execute(_FIRST.sql) if first is not None)


def oldest(cursor: Any) -> float | None:
    """Since when the event that has waited longest is offered: since its birth, or again."""
    firsts = [first for _, first in cursor.execute(_FIRST.sql) if first is not None]
    return _offered_since(cursor, min(firsts)) if firsts else None


def oldest_by_tenant(cursor: Any) -> dict[str, float]:
    """The same of each tenant that has any."""
    rows = cursor.execute(_FIRST.sql).fetchall()
    return {of: _offered_since(cursor, first) for of, first in rows if first is not None}


def _offered_since(cursor: Any, event: int) -> float:
    (at,) = cursor.execute(_AT.sql, (event,)).fetchone()
    return max(float(at), Names.made_at(event))


ACK = alone(acknowledge, "ack-commit")
PARK = alone(park)
ACK_ALL = alone(acknowledge_all, "ack-commit")
