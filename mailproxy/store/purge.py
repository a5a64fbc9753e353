"""
What is left of a deleted tenant goes, when its reports have been tried for long enough.

Its messages leave no tombstones: the id of the tenant is free again, and who gets it is another.
Files that were uploaded for it stay as long as their links were said to be good.
"""

from __future__ import annotations

from typing import Any

import attrs
from sqlalchemy import Table, delete, select

from mailproxy.clock import Names
from mailproxy.store import outcomes
from mailproxy.store.compiling import (
    LIMIT,
    Statement,
    apart,
    compiled,
    const,
    indexed,
    listed,
    p,
)
from mailproxy.store.retention import DROPS, PURGED
from mailproxy.store.schema import (
    accounts,
    batch_holds,
    bulk_jobs,
    events,
    lanes,
    messages,
    rates,
    report_leases,
    suspensions,
    tombstones,
)
from mailproxy.store.schema_tenants import (
    answers,
    api_keys,
    bounces,
    destinations,
    suppressions,
    tenants,
)
from mailproxy.store.transaction import Transaction, numbers

#: Seconds for which the reports of a deleted tenant are tried, after the deletion and after the
#: event to be reported.
GRACE = 86_400.0

#: Rows removed in one transaction.
STEP = 500

_m, _e, _t = messages.c, events.c, tenants.c

_DUE = compiled(select(_t.id).where(_t.deleted_at <= p("before")).order_by(_t.deleted_at), "before")
_STILL = compiled(
    select(_t.id).where(_t.id == p("tenant"), _t.deleted_at <= p("before")), "tenant", "before"
)
_wanted = (
    select(_e.pk)
    .where(
        _e.message_pk == _m.pk,
        apart(_e.stream) != const("''"),
        _e.reported_at.is_(None),
        _e.parked_at.is_(None),
        _e.pk >= p("floor"),
    )
    .correlate(messages)
    .exists()
)
_over = (_m.intent == const("0"), ~_wanted)
_OVER = indexed(
    compiled(
        select(_m.pk).where(_m.tenant_id == p("tenant"), *_over).suffix_with(LIMIT),
        "tenant",
        "floor",
        "limit",
    ),
    messages,
    "messages_key",
)
_ANY = indexed(
    compiled(select(_m.pk).where(_m.tenant_id == p("tenant")).suffix_with("LIMIT 1"), "tenant"),
    messages,
    "messages_key",
)
_GOING = compiled(
    select(_m.pk, _m.lane, _m.state, _m.body_pk, _m.parts, _m.size).where(
        _m.pk.in_(listed()), apart(_m.tenant_id) == p("tenant"), *_over
    ),
    "pks",
    "tenant",
    "floor",
)
_DROP_TENANT = compiled(delete(tenants).where(_t.id == p("tenant")), "tenant")


def _of(table: Table, key: str) -> Statement:
    """Remove some of the tenant's rows of *table*, whose key beside the tenant is *key*."""
    of, one = table.c.tenant_id, table.c[key]
    some = select(one).where(of == p("same")).suffix_with(LIMIT).scalar_subquery()
    return compiled(
        delete(table).where(of == p("tenant"), one.in_(some)), "tenant", "same", "limit"
    )


_LEFT = tuple(
    _of(table, key)
    for table, key in (
        (tombstones, "id"),
        (suppressions, "address"),
        (answers, "key"),
        (bounces, "pk"),
        (destinations, "domain"),
        (suspensions, "batch"),
        (report_leases, "tenant_id"),
        (batch_holds, "batch"),
        (api_keys, "hash"),
        (bulk_jobs, "pk"),
        (lanes, "pk"),
        (rates, "pk"),
        (accounts, "pk"),
    )
)


@attrs.frozen
class Gone:
    """:param pks: messages to be removed; none when all of them are."""

    tenant_id: str
    pks: tuple[int, ...]
    now: float


def due(cursor: Any, now: float, _options: Any) -> Gone | None:
    before = now - GRACE
    for (tenant_id,) in cursor.execute(_DUE.sql, (before,)).fetchall():
        found = cursor.execute(_OVER.sql, (tenant_id, Names.floor(before), PURGED))
        pks = tuple(row[0] for row in found)
        if pks or cursor.execute(_ANY.sql, (tenant_id,)).fetchone() is None:
            return Gone(tenant_id, pks, now)
    return None


def step(tx: Transaction, gone: Gone) -> int:
    """Nothing, where it was registered again in between."""
    if tx.one(_STILL, gone.tenant_id, gone.now - GRACE) is None:
        return 0
    if gone.pks:
        return _messages(tx, gone)
    left = STEP
    for statement in _LEFT:
        left -= tx.do(statement, gone.tenant_id, gone.tenant_id, left)
        if not left:
            return STEP
    return STEP - left + tx.do(_DROP_TENANT, gone.tenant_id)


def _messages(tx: Transaction, gone: Gone) -> int:
    floor = Names.floor(gone.now - GRACE)
    rows = tx.all(_GOING, numbers(gone.pks), gone.tenant_id, floor)
    for _, lane, state, *_rest in rows:
        tx.moved(lane, state, None)
        tx.stale.add(lane)
    outcomes.drop_bodies(tx, [tuple(row[3:]) for row in rows])
    for statement in DROPS:
        tx.do(statement, numbers(row[0] for row in rows))
    return len(rows)
