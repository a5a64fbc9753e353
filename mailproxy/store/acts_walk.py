"""
Background work: what was decided over a batch or an account is done, message by message.

A walk remembers how far it has come, so that a restart goes on where it was, and so that what it
has passed is not looked at again. What came to the group after the decision is left alone, unless
it is in the state that the decision is about by the time the walk comes by.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import msgspec
from sqlalchemy import Select, delete, select, update

from mailproxy.acts import Act, Operation
from mailproxy.states import MessageState, Priority, RecipientState
from mailproxy.store import acts, outcomes
from mailproxy.store.acts_again import noted
from mailproxy.store.acts_bulk import CANCEL_LANES, WALK, Walk
from mailproxy.store.compiling import LIMIT, compiled, const, indexed, listed, p
from mailproxy.store.doom import OF_OPERATOR
from mailproxy.store.schema import bulk_jobs, lanes, messages, recipients
from mailproxy.store.transaction import Transaction
from mailproxy.store.works import alone

_m, _l, _r, _j = messages.c, lanes.c, recipients.c, bulk_jobs.c

#: Messages of one step; each changes up to six rows.
STEP = 80

_JOB = indexed(
    compiled(
        select(_j.pk, _j.kind, _j.tenant_id, _j.batch, _j.account_pk, _j.started_at, _j.detail)
        .where(
            _j.done_at.is_(None),
            _j.kind.in_((const(f"'{WALK}'"), const(f"'{CANCEL_LANES}'"))),
            _j.pk > p("after"),
        )
        .order_by(_j.started_at, _j.pk)
        .suffix_with("LIMIT 1"),
        "after",
    ),
    bulk_jobs,
    "bulk_jobs_open",
)
_MOVE = compiled(update(bulk_jobs).values(detail=p("walk")).where(_j.pk == p("job")), "walk", "job")
_DROP = compiled(delete(bulk_jobs).where(_j.pk == p("job")), "job")

# --- what a walk is about -------------------------------------------------------------------------

#: By act, the states of the open messages it is about; a requeue is about what has ended.
_ABOUT: dict[Act, tuple[MessageState, ...]] = {
    Act.RETRY: (MessageState.QUEUED, MessageState.DEFERRED),
    Act.RELEASE: (MessageState.HELD,),
    Act.RESEND: (MessageState.UNCERTAIN,),
    Act.CLOSE_AS_SENT: (MessageState.UNCERTAIN, MessageState.HELD),
    Act.CLOSE_AS_FAILED: (MessageState.UNCERTAIN, MessageState.HELD),
}


def _within(statement: Select[Any]) -> Select[Any]:
    """Of one tenant, and of the batch or the account that is given."""
    batch, account = p("batch", _m.batch), p("account", _m.account_pk)
    return statement.where(
        _m.tenant_id == p("tenant"),
        batch.is_(None) | (_m.batch == batch),
        account.is_(None) | (_m.account_pk == account),
    )


_SCOPE = ("tenant", "batch", "batch", "account", "account")

_OPEN_OF_GROUP = indexed(
    compiled(
        _within(
            select(_m.pk).where(
                _m.finished_at.is_(None),
                _m.priority == p("priority"),
                _m.pk > p("after"),
                _m.state.in_(listed("states")),
                p("waits", _m.claim_at).is_(None) | (_m.claim_at > p("waits")),
            )
        )
        .order_by(_m.pk)
        .suffix_with(LIMIT),
        "priority",
        "after",
        "states",
        "waits",
        "waits",
        *_SCOPE,
        "limit",
    ),
    messages,
    "messages_open",
)
_ENDED_OF_GROUP = indexed(
    compiled(
        _within(
            select(_m.finished_at, _m.pk).where(
                _m.finished_at.is_not(None),
                _m.finished_at >= p("since"),
                _m.finished_at <= p("until"),
                (_m.finished_at > p("at")) | (_m.pk > p("after")),
                _m.state.in_((const("'failed'"), const("'expired'"))),
            )
        )
        .order_by(_m.finished_at, _m.pk)
        .suffix_with(LIMIT),
        "since",
        "until",
        "at",
        "after",
        *_SCOPE,
        "limit",
    ),
    messages,
    "messages_done",
)

# --- what is sealed -------------------------------------------------------------------------------

_SEALED = compiled(
    select(_l.pk, _l.queued + _l.deferred + _l.held, _l.in_flight).where(_l.sealed == p("job")),
    "job",
)
_CLAIMABLE = indexed(
    compiled(
        select(_m.pk).where(_m.lane == p("lane"), _m.claim_at.is_not(None)).suffix_with(LIMIT),
        "lane",
        "limit",
    ),
    messages,
    "messages_claim",
)
_is_open = (
    select(_r.n)
    .where(_r.message_pk == _m.pk, _r.state.in_((const("'waiting'"), const("'deferred'"))))
    .correlate(messages)
    .exists()
)
#: What is leased or held is in no index of its own: walked past on a reader.
_OTHERS_SEALED = indexed(
    compiled(
        select(_m.pk)
        .where(_m.finished_at.is_(None), _m.lane == p("lane"), _m.intent == const("0"), _is_open)
        .suffix_with(LIMIT),
        "lane",
        "limit",
    ),
    messages,
    "messages_open",
)


@attrs.frozen
class Found:
    """One step: messages, and how far the walk is then. :param walk: None: then it is done."""

    job: int
    pks: Sequence[int]
    operation: Operation
    walk: Walk | None
    sealed: bool = False


def due(cursor: Any, now: float, _options: Any) -> Found | None:
    """The next step of the oldest job that has one."""
    after = 0
    while (row := cursor.execute(_JOB.sql, (after,)).fetchone()) is not None:
        job, kind, tenant, batch, account, started_at, detail = row
        walk = msgspec.json.decode(detail, type=Walk)
        operation = Operation(walk.act, now, walk.by, walk.why)
        if kind == WALK:
            scope = (tenant, batch, batch, account, account)
            pks, further = _look(cursor, walk, scope, started_at, now)
            return Found(job, pks, operation, further)
        found = _sealed(cursor, job, operation, walk)
        if found is not None:
            return found
        after = job  # what is left of it is on its way, and comes to its own outcome
    return None


def _look(
    cursor: Any, walk: Walk, scope: tuple[Any, ...], started_at: float, now: float
) -> tuple[list[int], Walk | None]:
    if walk.act is Act.REQUEUE:
        times = (walk.at, started_at, walk.at, walk.after)
        rows = cursor.execute(_ENDED_OF_GROUP.sql, (*times, *scope, STEP)).fetchall()
        if len(rows) < STEP:
            return [pk for _, pk in rows], None
        further = msgspec.structs.replace(walk, at=rows[-1][0], after=rows[-1][1])
        return [pk for _, pk in rows], further
    states = msgspec.json.encode(_ABOUT[walk.act]).decode()
    waits = now if walk.act is Act.RETRY else None  # what is due already need not be hastened
    values = (walk.priority, walk.after, states, waits, waits, *scope, STEP)
    pks = [row[0] for row in cursor.execute(_OPEN_OF_GROUP.sql, values)]
    if len(pks) == STEP:
        return pks, msgspec.structs.replace(walk, after=pks[-1])
    if walk.priority < Priority.LOW:
        return pks, msgspec.structs.replace(walk, priority=walk.priority + 1, after=0)
    return pks, None


def _sealed(cursor: Any, job: int, operation: Operation, walk: Walk) -> Found | None:
    rows = cursor.execute(_SEALED.sql, (job,)).fetchall()
    pks: list[int] = []
    for statement in (_CLAIMABLE, _OTHERS_SEALED):
        for lane, waiting, _ in rows:
            if waiting and len(pks) < STEP:
                found = cursor.execute(statement.sql, (lane, STEP - len(pks)))
                pks += (row[0] for row in found)
        if pks:
            return Found(job, pks, operation, walk, sealed=True)
    if not any(in_flight for _, _, in_flight in rows):
        return Found(job, (), operation, None, sealed=True)
    return None


def step(tx: Transaction, found: Found) -> int:
    """:return: rows touched; at least one, the job's."""
    subjects = outcomes.subjects(tx, found.pks)
    if found.sealed:
        _end(tx, subjects, found.operation)
    else:
        for subject in subjects.values():
            acts.decide(tx, subject, found.operation)
    if found.walk is None:
        tx.do(_DROP, found.job)
    else:
        tx.do(_MOVE, msgspec.json.encode(found.walk).decode(), found.job)
    return len(subjects) + 1


def _end(tx: Transaction, subjects: dict[int, outcomes.Subject], operation: Operation) -> None:
    records = [
        attrs.evolve(outcomes.end_open(subject, OF_OPERATOR, operation.now), data=noted(operation))
        for subject in subjects.values()
        if not subject.intent
        and subject.finished_at is None
        and any(RecipientState(said.state).open for said in subject.recipients.values())
    ]
    outcomes.settle(tx, subjects, records)
    tx.stale.update(subjects[record.pk].lane for record in records)


DO = alone(step)
