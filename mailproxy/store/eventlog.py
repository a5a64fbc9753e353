"""Reportable events as a log: read from where a reader left off, and offered a second time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import msgspec
from sqlalchemy import and_, select, update

from mailproxy.clock import Names
from mailproxy.records import ReportItem
from mailproxy.store import reports
from mailproxy.store import statements_intake as sqi
from mailproxy.store.compiling import LIMIT, bulk, compiled, const, indexed, listed, p
from mailproxy.store.schema import events, messages
from mailproxy.store.transaction import Transaction
from mailproxy.store.works import alone

_e, _m = events.c, messages.c

#: Events that one transaction offers again.
STEP = 250

_AFTER = indexed(
    compiled(
        select(*reports.EVENT)
        .where(_e.stream == p("tenant"), _e.stream.is_not(None), _e.pk > p("after"))
        .order_by(_e.pk)
        .suffix_with(LIMIT),
        "tenant",
        "after",
        "limit",
    ),
    events,
    "events_stream",
)
_LAST = indexed(
    compiled(
        select(_e.pk)
        .where(_e.stream == p("tenant"), _e.stream.is_not(None))
        .order_by(_e.pk.desc())
        .suffix_with("LIMIT 1"),
        "tenant",
    ),
    events,
    "events_stream",
)
_RANGE = indexed(
    compiled(
        select(_e.pk, _e.at, _e.message_pk)
        .where(
            _e.stream == p("tenant"),
            _e.stream.is_not(None),
            _e.pk > p("after"),
            _e.pk <= p("last"),
        )
        .order_by(_e.pk)
        .suffix_with(LIMIT),
        "tenant",
        "after",
        "last",
        "limit",
    ),
    events,
    "events_stream",
)
_FINALS = compiled(
    select(_m.final_event, _m.final_event, _m.pk).where(
        _m.tenant_id == p("tenant"),
        _m.id.in_(listed("ids")),
        _m.final_event.is_not(None),
        _m.quiet == const("0"),
    ),
    "tenant",
    "ids",
)
_OFFER_AGAIN = bulk(sqi.OFFER_AGAIN)
#: A message is reported when its newest final event is: that is to be told anew.
_FINAL_AGAIN = bulk(
    compiled(
        update(messages)
        .values(final_event=p("new"), reported_at=const("NULL"))
        .where(and_(_m.pk == p("message"), _m.final_event == p("old"))),
        "new",
        "message",
        "old",
    )
)


def log(cursor: Any, tenant_id: str, after: int, limit: int) -> list[ReportItem]:
    """One item for each event of the tenant behind the number *after*."""
    rows = cursor.execute(_AFTER.sql, (tenant_id, after, limit)).fetchall()
    return reports.items_of(cursor, rows)


@attrs.frozen
class Named:
    """The final events of these messages, to be offered again."""

    tenant_id: str
    ids: Sequence[str]
    now: float


@attrs.frozen
class Born:
    """
    Events born at or after *since*, to be offered again.

    :param after: number of the last one looked at; *last* is that of the last one to look at:
        behind it are those that were offered again.
    """

    tenant_id: str
    since: float
    after: int
    last: int
    now: float


def born(cursor: Any, tenant_id: str, since: float) -> tuple[int, int]:
    """Between which numbers the events are that may have been born since."""
    row = cursor.execute(_LAST.sql, (tenant_id,)).fetchone()
    # An event's number is never from before its birth.
    return Names.floor(since) - 1, 0 if row is None else row[0]


def replay_named(tx: Transaction, call: Named) -> int:
    ids = msgspec.json.encode(list(call.ids)).decode()
    return _again(tx, call.tenant_id, tx.all(_FINALS, call.tenant_id, ids), call.now)


def replay_born(tx: Transaction, call: Born) -> tuple[int, int]:
    """One step. :return: the number to go on behind, and how many were offered."""
    rows = tx.all(_RANGE, call.tenant_id, call.after, call.last, STEP)
    if not rows:
        return call.last, 0
    again = [row for row in rows if row[1] >= call.since]
    _again(tx, call.tenant_id, again, call.now)
    return rows[-1][0], len(again)


def _again(tx: Transaction, tenant_id: str, rows: Sequence[Any], now: float) -> int:
    """
    Offer events again, in the order given.

    Under new numbers: the answer to a report that is under way does not cover them.
    """
    new = [(tx.names.pk(now), old, message) for old, _, message in rows]
    tx.add(_OFFER_AGAIN, [(pk, old) for pk, old, _ in new])
    tx.add(_FINAL_AGAIN, [(pk, message, old) for pk, old, message in new])
    if new:
        tx.reportable.add(tenant_id)
    return len(new)


REPLAY_NAMED = alone(replay_named)
REPLAY_BORN = alone(replay_born)
