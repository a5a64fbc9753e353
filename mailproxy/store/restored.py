"""
What is unfinished in a database that is a copy from earlier is held: it may have left since.

Of recipients that such a message still has to reach nobody knows more; so they can be closed, as
if their attempt had ended without an answer, or the message released.
"""

from __future__ import annotations

import attrs
import msgspec
from sqlalchemy import delete, select, update

from mailproxy.acts import CANCELLED, RESTORED, Act
from mailproxy.model import Record
from mailproxy.states import EventKind, Priority
from mailproxy.store import outcomes
from mailproxy.store import statements as sql
from mailproxy.store.acts_again import opened
from mailproxy.store.acts_bulk import WALK
from mailproxy.store.compiling import LIMIT, compiled, const, indexed, p
from mailproxy.store.outcomes import Subject
from mailproxy.store.schema import LANE_CANCELLED, bulk_jobs, messages
from mailproxy.store.transaction import NewEvent, Transaction, numbers
from mailproxy.store.works import alone

_m, _j = messages.c, bulk_jobs.c

#: Messages of one step; each changes up to four rows.
STEP = 250

#: What was begun for a whole batch or account, and sends something: it may have been done since.
_SENDING = (Act.RELEASE, Act.RETRY, Act.REQUEUE, Act.RESEND)

_OPEN = indexed(
    compiled(
        select(_m.pk)
        .where(_m.finished_at.is_(None), _m.priority == p("priority"), _m.pk > p("after"))
        .order_by(_m.pk)
        .suffix_with(LIMIT),
        "priority",
        "after",
        "limit",
    ),
    messages,
    "messages_open",
)
_SAY = compiled(
    update(messages)
    .values(hold=p("why"), deferred_reason=p("told"), updated_at=p("now"))
    .where(_m.pk == p("message")),
    "now",
    "why",
    "told",
    "message",
)
_DROP_JOBS = compiled(
    delete(bulk_jobs).where(
        _j.done_at.is_(None),
        _j.kind == const(f"'{WALK}'"),
        _j.reason.in_([const(f"'{act.value}'") for act in _SENDING]),
    )
)


@attrs.frozen
class From:
    """Where among the open messages a step begins."""

    now: float
    priority: int = Priority.IMMEDIATE
    after: int = 0


@attrs.frozen
class Step:
    """What a step did. :param further: where the next begins; None: there is none."""

    held: int
    further: From | None


def start(tx: Transaction, _call: None) -> int:
    """Give up what was begun for many messages and would send some. :return: how many jobs."""
    return tx.do(_DROP_JOBS)


def step(tx: Transaction, call: From) -> Step:
    pks = [row[0] for row in tx.all(_OPEN, call.priority, call.after, STEP)]
    found = outcomes.subjects(tx, pks)
    lanes = numbers({each.lane for each in found.values()})
    ending = {row[0] for row in tx.all(sql.LANES_OF, lanes) if row[1] & LANE_CANCELLED}
    wanted = [each for each in found.values() if each.lane not in ending and _wanted(each)]
    for each in wanted:
        if each.hold and not each.intent:
            _say(tx, each, call.now)
    free = [each for each in wanted if each.intent or not each.hold]
    outcomes.settle(tx, found, [_held(each, call.now) for each in free])
    tx.stale.update(each.lane for each in free)
    if len(pks) == STEP:
        return Step(len(wanted), attrs.evolve(call, after=pks[-1]))
    if call.priority < Priority.LOW:
        return Step(len(wanted), From(call.now, call.priority + 1))
    return Step(len(wanted), None)


def _wanted(subject: Subject) -> bool:
    """Whether it would be sent by itself, or by an operator who does not know."""
    if subject.hold == CANCELLED or subject.hold.startswith(RESTORED):
        return False
    return opened(subject)


def _held(subject: Subject, now: float) -> Record:
    """Also where a body was under way: how that ended is as unknown as all else."""
    data = {"reason": RESTORED} | ({"begun": True} if subject.intent else {})
    return Record(
        pk=subject.pk,
        token=0,
        attempt=0,
        kind=EventKind.HELD,
        changes=(),
        next_at=subject.next_at,
        at=now,
        hold=_why(subject),
        data=msgspec.json.encode(data),
    )


def _say(tx: Transaction, subject: Subject, now: float) -> None:
    """It is held already; whoever releases it has to know this as well."""
    why = _why(subject)
    tx.do(_SAY, now, why, why, subject.pk)
    data = msgspec.json.encode({"reason": RESTORED})
    tx.append([NewEvent(subject.pk, subject.generation, EventKind.HELD, now, data=data)])


def _why(subject: Subject) -> str:
    return f"{RESTORED}; before: {subject.hold}" if subject.hold else RESTORED


START = alone(start)
HOLD = alone(step)
