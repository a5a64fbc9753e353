"""
Messages taken back: what waits is cancelled, and only a tombstone stays of it.

It is not reported: the answer to the call is the report. As with every work of the store, an
intent is either before it, then the message is kept, or after it, then it is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import msgspec
from sqlalchemy import select

from mailproxy.states import EventKind, MessageState, RecipientState
from mailproxy.store import again, memory, outcomes, retention, wording
from mailproxy.store import statements_intake as sqi
from mailproxy.store.compiling import LIMIT, compiled, indexed, listed, p
from mailproxy.store.outcomes import Subject
from mailproxy.store.schema import messages
from mailproxy.store.schema_tenants import tenants
from mailproxy.store.transaction import Transaction
from mailproxy.store.works import alone
from mailproxy.tenancy import Remembered, Removed

_m = messages.c

#: Ids that one transaction looks at, and messages it removes; each of these has about six rows.
STEP = 100

#: What the application is told of a removed message, should it ask by posting the id again.
TAKEN_BACK = "cancelled by the application"

#: Finished messages that a look for what is to be cleaned up goes through.
LOOK = 1000

_BY_ID = compiled(
    select(_m.pk, _m.id, _m.reported_at).where(
        _m.tenant_id == p("tenant"), _m.id.in_(listed("ids"))
    ),
    "tenant",
    "ids",
)
_TENANTS = compiled(select(tenants.c.id))
_ENDED = indexed(
    compiled(
        select(_m.finished_at, _m.pk, _m.tenant_id, _m.reported_at)
        .where(
            _m.finished_at.is_not(None),
            _m.finished_at >= p("since"),
            _m.finished_at <= p("before"),
            (_m.finished_at > p("at")) | (_m.pk > p("after")),
        )
        .order_by(_m.finished_at, _m.pk)
        .suffix_with(LIMIT),
        "since",
        "before",
        "at",
        "after",
        "limit",
    ),
    messages,
    "messages_done",
)


@attrs.frozen
class Removal:
    """:param ids: of one tenant, at most :data:`STEP`, each once."""

    tenant_id: str
    ids: Sequence[str]
    now: float


def remove(tx: Transaction, call: Removal) -> Removed:
    wanted = msgspec.json.encode(list(call.ids)).decode()
    rows = tx.all(_BY_ID, call.tenant_id, wanted)
    names = {pk: name for pk, name, _ in rows}
    told = {pk for pk, _, reported_at in rows if reported_at is not None}
    found = outcomes.subjects(tx, names)
    waiting = [subject for subject in found.values() if _waits(subject)]
    ended = [pk for pk in found if pk in told]
    _cancel(tx, waiting, call.now)
    gone = {subject.pk for subject in waiting}.union(ended)
    removed = retention.purge(tx, retention.Found(sorted(gone), call.now))
    known = set(names.values())
    return Removed(
        removed,
        tuple((names[pk], found[pk].state) for pk in names if pk not in gone),
        tuple(name for name in call.ids if name not in known),
    )


def _waits(subject: Subject) -> bool:
    """Whether no attempt of it is under way, or may have got through unseen."""
    if subject.intent or MessageState(subject.state).final:
        return False
    states = {said.state for said in subject.recipients.values()}
    return RecipientState.UNCERTAIN.value not in states


def _cancel(tx: Transaction, waiting: Iterable[Subject], now: float) -> None:
    """End them as cancelled, as if that had been reported."""
    state = MessageState.CANCELLED.value
    ends, events = [], []
    for subject in waiting:
        pk = tx.names.pk(now)
        ends.append((state, now, None, None, None, pk, subject.pk))
        events.append(
            (
                pk,
                tx.names.rng.getrandbits(128).to_bytes(16, "big"),
                subject.pk,
                subject.generation,
                EventKind.CANCELLED.value,
                now,
                True,
                subject.tenant_id,
                _told(subject),
                now,
            )
        )
        tx.moved(subject.lane, subject.state, None)
        tx.stale.add(subject.lane)
    tx.many(sqi.FINISH, ends)
    tx.add(sqi.ADD_OLD_EVENT, events)


def _told(subject: Subject) -> bytes:
    said = list(subject.recipients.values())
    for each in said:
        if each.state != RecipientState.SENT.value:
            each.state = RecipientState.CANCELLED.value
    return wording.dump(wording.Told(error=wording.error(TAKEN_BACK, said)))


def owners(cursor: Any, ids: Sequence[str]) -> dict[str, str]:
    """Of each of *ids* that is known, the tenant with the oldest message of that id."""
    wanted = msgspec.json.encode(list(ids)).decode()
    oldest: dict[str, tuple[int, str]] = {}
    for (tenant_id,) in cursor.execute(_TENANTS.sql).fetchall():
        for pk, name, _ in cursor.execute(_BY_ID.sql, (tenant_id, wanted)):
            oldest[name] = min(oldest.get(name, (pk, tenant_id)), (pk, tenant_id))
    return {name: tenant_id for name, (_, tenant_id) in oldest.items()}


def remembered(
    cursor: Any, tenant_id: str, message_id: str, addresses: Sequence[str]
) -> Remembered | None:
    """What the tombstone says, if there is one."""
    wanted = msgspec.json.encode([message_id]).decode()
    row = cursor.execute(sqi.BURIED_BY_ID.sql, (tenant_id, wanted)).fetchone()
    if row is None:
        return None
    buried = again.Buried(*row)
    known = memory.of(tenant_id, message_id, buried.accepted, addresses)
    return Remembered(
        buried.state,
        buried.message_id,
        wording.load(buried.event_report).test,
        known.accepted | known.doubted,
    )


@attrs.frozen
class Ended:
    """Finished messages: where a look ended, and those that are to go."""

    at: float
    after: int
    pks: Sequence[int]


def ended(cursor: Any, tenant_id: str | None, before: float, at: float, after: int) -> Ended | None:
    """Look on from (*at*, *after*); None: there is nothing more."""
    rows = cursor.execute(_ENDED.sql, (at, before, at, after, LOOK)).fetchall()
    if not rows:
        return None
    pks = [
        pk
        for _, pk, tenant, reported_at in rows
        if reported_at is not None and tenant_id in (None, tenant)
    ]
    return Ended(rows[-1][0], rows[-1][1], pks)


def forget(tx: Transaction, found: retention.Found) -> int:
    """Of those that are reported still."""
    return retention.purge(tx, found)


REMOVE = alone(remove)
FORGET = alone(forget)
