"""
Background work: what a flag has decided already is carried out, and what is old is removed.

Each step first looks, on a reader, for what there is to do, so that looking costs the writer
nothing; then one small transaction does it, checking again what may have changed in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
from sqlalchemy import bindparam, delete, select
from twisted.logger import Logger

from mailproxy.clock import Names
from mailproxy.metrics import Metrics
from mailproxy.store import (
    acts_walk,
    answers,
    commands_log,
    deletion,
    destinations,
    keys,
    purge,
    rates,
    retention,
)
from mailproxy.store import statements as sql
from mailproxy.store import statements_intake as sqi
from mailproxy.store.compiling import LIMIT, compiled, const, indexed, listed, p
from mailproxy.store.reports import Ack, park
from mailproxy.store.retention import CHANCE, Found, Step
from mailproxy.store.schema import (
    ACCOUNT_DELETED,
    bulk_jobs,
    chunks,
    events,
    lanes,
    loose_bodies,
    messages,
    nodes,
    recipients,
    tombstones,
)
from mailproxy.store.schema_tenants import tenants
from mailproxy.store.transaction import Transaction, numbers
from mailproxy.store.works import alone

_log = Logger()

_m, _e, _l, _r, _j = messages.c, events.c, lanes.c, recipients.c, bulk_jobs.c

#: Rows in one transaction.
STEP = 500
#: Pieces of a body removed in one transaction: 8 MiB.
PIECES = 32

#: Seconds after which a node that is dead is forgotten.
FORGET_NODE = 86_400.0


# --- reports nobody took, tombstones, bodies, lanes, nodes ----------------------------------------

_TENANTS = compiled(select(tenants.c.id))
_UNTAKEN = indexed(
    compiled(
        select(_e.pk)
        .where(
            _e.stream == p("tenant"),
            _e.stream.is_not(None),
            _e.reported_at.is_(None),
            _e.parked_at.is_(None),
            _e.pk <= p("before"),
        )
        .order_by(_e.pk)
        .suffix_with(LIMIT),
        "tenant",
        "before",
        "limit",
    ),
    events,
    "events_unreported",
)


@attrs.frozen
class Untaken:
    """Events of a tenant that were offered for too long."""

    tenant_id: str
    pks: Sequence[int]
    now: float


def _untaken(cursor: Any, now: float, options: Any) -> Untaken | None:
    # By the pk, which tells since when it is offered: an event that is offered again is new.
    before = Names.floor(now - options.report_max_age_seconds)
    for (tenant,) in cursor.execute(_TENANTS.sql).fetchall():
        pks = [row[0] for row in cursor.execute(_UNTAKEN.sql, (tenant, before, STEP))]
        if pks:
            return Untaken(tenant, pks, now)
    return None


def _give_up(tx: Transaction, found: Untaken) -> int:
    return park(tx, Ack(found.pks, found.now, "not taken in time"))


def _given_up(found: Untaken, count: int, metrics: Metrics) -> None:
    metrics.parked_events.labels(found.tenant_id).inc(count)
    _log.error(
        "{tenant} did not take {count} events in time; parked",
        tenant=found.tenant_id,
        count=count,
    )


_TOMBSTONES = compiled(
    select(tombstones.c.tenant_id, tombstones.c.id)
    .where(tombstones.c.removed_at <= p("before"))
    .suffix_with(LIMIT),
    "before",
    "limit",
)


def _forgettable(cursor: Any, now: float, options: Any) -> Found:
    before = now - options.idempotency_seconds
    return Found(cursor.execute(_TOMBSTONES.sql, (before, STEP)).fetchall(), now)


def _forget(tx: Transaction, found: Found) -> int:
    tx.many(sqi.DROP_TOMBSTONE, found.pks)
    return len(found.pks)


_LOOSE = compiled(
    select(loose_bodies.c.body_pk)
    .where(loose_bodies.c.remove_at <= p("now"))
    .suffix_with("LIMIT 1"),
    "now",
)
_rowid = const("rowid")
_DROP_PIECES = compiled(
    delete(chunks).where(
        _rowid.in_(
            select(_rowid)
            .select_from(chunks)
            .where(chunks.c.body_pk == bindparam("body"))
            .suffix_with(LIMIT)
        )
    ),
    "body",
    "limit",
)


def _loose(cursor: Any, now: float, _options: Any) -> Found:
    return Found([row[0] for row in cursor.execute(_LOOSE.sql, (now,))], now)


def _remove(tx: Transaction, found: Found) -> int:
    (body,) = found.pks
    removed = tx.do(_DROP_PIECES, body, PIECES)
    if removed < PIECES:
        removed += tx.do(sql.DROP_LOOSE, body)
    return removed


_EMPTY = (
    (_l.batch != const("''")) | (_l.blocked.op("&")(const(str(ACCOUNT_DELETED))) != const("0")),
    _l.queued + _l.deferred + _l.in_flight + _l.held + _l.uncertain == const("0"),
)
_EMPTY_LANES = compiled(select(_l.pk).where(*_EMPTY).suffix_with(LIMIT), "limit")
_DROP_LANES = compiled(delete(lanes).where(_l.pk.in_(listed()), *_EMPTY), "pks")


def _empty(cursor: Any, now: float, _options: Any) -> Found:
    return Found([row[0] for row in cursor.execute(_EMPTY_LANES.sql, (STEP,))], now)


def _drop_lanes(tx: Transaction, found: Found) -> int:
    return tx.do(_DROP_LANES, numbers(found.pks))


_DEAD = compiled(select(nodes.c.id).where(nodes.c.alive_until <= p("before")), "before")
_DROP_NODE = compiled(delete(nodes).where(nodes.c.id == p("node")), "node")


def _dead(cursor: Any, now: float, _options: Any) -> Found:
    return Found(cursor.execute(_DEAD.sql, (now - FORGET_NODE,)).fetchall(), now)


def _drop_nodes(tx: Transaction, found: Found) -> int:
    tx.many(_DROP_NODE, found.pks)
    return len(found.pks)


#: What upkeep does, the most urgent first; where there are many nodes they see to their own.
SHARED = (
    Step(deletion.doomed, alone(deletion.end)),
    Step(acts_walk.due, acts_walk.DO),
    Step(destinations.waiting, destinations.BRING_BACK),
    Step(retention.expired, alone(retention.purge)),
    Step(_untaken, alone(_give_up), after=CHANCE, done=_given_up),
    Step(_forgettable, alone(_forget)),
    Step(_loose, alone(_remove)),
    Step(_empty, alone(_drop_lanes)),
    Step(purge.due, alone(purge.step), after=CHANCE),
    Step(keys.expired, keys.DROP),
    Step(commands_log.old, commands_log.DROP),
    Step(rates.old, rates.FORGET),
    answers.FORGET,
)
STEPS = (*SHARED, Step(_dead, alone(_drop_nodes)))
