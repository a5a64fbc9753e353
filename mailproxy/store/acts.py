"""
What an operator decides over one message: held, released, tried now, cancelled, closed.

Each act is one work, so an intent is either before it or after it. What is under way is left to
its outcome; a hold or a cancellation then decides over what that leaves open. To send once more
what has ended, or what may have arrived, is the business of :mod:`mailproxy.store.acts_again`.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
from sqlalchemy import select, update

from mailproxy.acts import (
    CANCELLED,
    CLOSED_FAILED,
    CLOSED_SENT,
    HELD,
    RESTORED,
    Act,
    Acted,
    Operation,
)
from mailproxy.model import RecipientChange, Record
from mailproxy.states import EventKind, MessageState, RecipientState, message_state
from mailproxy.store import acts_again, outcomes
from mailproxy.store.acts_again import noted, opened, sealed, tell, unchanged
from mailproxy.store.compiling import compiled, const, p
from mailproxy.store.doom import OF_OPERATOR
from mailproxy.store.outcomes import Subject, lane_time
from mailproxy.store.schema import messages
from mailproxy.store.transaction import Transaction
from mailproxy.store.works import alone

_m = messages.c
_HELD = MessageState.HELD.value

_BY_ID = compiled(
    select(_m.pk).where(_m.tenant_id == p("tenant"), _m.id == p("id")), "tenant", "id"
)
_TIMES = compiled(select(_m.not_before, _m.held_at).where(_m.pk == p("message")), "message")
_HOLD = compiled(
    update(messages)
    .values(
        state=const(f"'{_HELD}'"),
        hold=p("reason"),
        held_at=p("held"),
        updated_at=p("now"),
        deferred_reason=p("told"),
        claim_at=const("NULL"),
        lease_owner=const("NULL"),
        lease_token=const("NULL"),
    )
    .where(_m.pk == p("message")),
    "now",
    "reason",
    "held",
    "told",
    "message",
)
#: While its body is under way, state and lease are the attempt's.
_WISH = compiled(
    update(messages)
    .values(hold=p("reason"), held_at=p("held"), updated_at=p("now"))
    .where(_m.pk == p("message")),
    "now",
    "reason",
    "held",
    "message",
)
_RELEASE = compiled(
    update(messages)
    .values(
        state=p("state"),
        next_at=p("next"),
        claim_at=p("claim"),
        updated_at=p("now"),
        expires_at=_m.expires_at + p("more"),
        hold=const("''"),
        held_at=const("NULL"),
        deferred_reason=const("NULL"),
    )
    .where(_m.pk == p("message")),
    "next",
    "claim",
    "now",
    "more",
    "state",
    "message",
)
_DUE = compiled(
    update(messages)
    .values(next_at=p("next"), claim_at=p("claim"), updated_at=p("now"))
    .where(_m.pk == p("message")),
    "next",
    "claim",
    "now",
    "message",
)


@attrs.frozen
class One:
    """An operation on one message."""

    tenant_id: str
    message_id: str
    operation: Operation


def act(tx: Transaction, call: One) -> Acted | None:
    row = tx.one(_BY_ID, call.tenant_id, call.message_id)
    if row is None:
        return None
    (subject,) = outcomes.subjects(tx, [row[0]]).values()
    if sealed(tx, subject.lane) and opened(subject) and not subject.intent:
        # Its batch or account was cancelled, and the background work has not come to it yet.
        record = outcomes.end_open(subject, OF_OPERATOR, call.operation.now)
        outcomes.settle(tx, {subject.pk: subject}, [record])
        tx.stale.add(subject.lane)
    reason = decide(tx, subject, call.operation)
    begun = bool(subject.intent)
    return Acted(call.tenant_id, call.message_id, not reason, begun, subject.state, reason)


def decide(tx: Transaction, subject: Subject, operation: Operation) -> str:
    """Do *operation*; *subject* is brought up to date. :return: why nothing was done, or ""."""
    return _ACTS[operation.act](tx, subject, operation)


def _hold(tx: Transaction, subject: Subject, operation: Operation) -> str:
    if subject.hold:
        return "it is held already" if subject.hold != CANCELLED else "it is being cancelled"
    if not opened(subject):
        return unchanged(subject)
    reason = f"{HELD}: {operation.reason}" if operation.reason else HELD
    held = lane_time(tx, subject.lane, operation.now)
    if subject.intent:
        tx.do(_WISH, operation.now, reason, held, subject.pk)
    else:
        tx.do(_HOLD, operation.now, reason, held, reason, subject.pk)
        tx.moved(subject.lane, subject.state, _HELD)
        tx.stale.add(subject.lane)
        subject.state = _HELD
    subject.hold = reason
    tell(tx, subject, EventKind.HELD, operation)
    return ""


def _release(tx: Transaction, subject: Subject, operation: Operation) -> str:
    if not subject.hold:
        return "it is not held"
    if subject.hold == CANCELLED:
        return "it is being cancelled"
    now = operation.now
    not_before, held_at = tx.one(_TIMES, subject.pk)
    state, next_at, claim_at = subject.state, subject.next_at, None
    if not subject.intent:
        state = str(
            message_state(
                (RecipientState(said.state) for said in subject.recipients.values()),
                in_flight=False,
                held=False,
                attempts=subject.attempts,
            )
        )
        if opened(subject):
            next_at = claim_at = now if next_at is None else next_at
    stood = 0.0
    if not subject.intent:  # before its deferred_ts its age did not run anyway
        stood = lane_time(tx, subject.lane, now) - max(held_at, min(not_before or 0.0, now))
    tx.do(_RELEASE, next_at, claim_at, now, max(0.0, stood), state, subject.pk)
    tx.moved(subject.lane, subject.state, state)
    if claim_at is not None:
        tx.due_at(subject.lane, claim_at)
        tx.due.add(subject.account_pk)
    subject.state, subject.hold = state, ""
    tell(tx, subject, EventKind.RELEASED, operation)
    return ""


def _retry(tx: Transaction, subject: Subject, operation: Operation) -> str:
    if MessageState(subject.state).final:
        return acts_again.requeue(tx, subject, operation)
    if subject.hold or subject.intent or not opened(subject):
        return unchanged(subject)
    not_before, _ = tx.one(_TIMES, subject.pk)
    if not_before is not None and not_before > operation.now:
        return "its deferred_ts has not come"
    if subject.lease_token is not None or (subject.next_at or 0.0) <= operation.now:
        return "it is due already"
    tx.do(_DUE, operation.now, operation.now, operation.now, subject.pk)
    tx.due_at(subject.lane, operation.now)
    tx.due.add(subject.account_pk)
    tell(tx, subject, EventKind.RETRIED, operation)
    return ""


def _cancel(tx: Transaction, subject: Subject, operation: Operation) -> str:
    if subject.hold == CANCELLED:
        return "it is being cancelled"
    if not opened(subject):
        return unchanged(subject)
    if subject.intent:
        held = lane_time(tx, subject.lane, operation.now)
        tx.do(_WISH, operation.now, CANCELLED, held, subject.pk)
        subject.hold = CANCELLED
        tell(tx, subject, EventKind.NOTE, operation)
        return ""
    record = outcomes.end_open(subject, OF_OPERATOR, operation.now)
    outcomes.settle(tx, {subject.pk: subject}, [attrs.evolve(record, data=noted(operation))])
    tx.stale.add(subject.lane)
    return ""


def _close(tx: Transaction, subject: Subject, operation: Operation) -> str:
    """What nobody knows becomes what the operator found out; what else is open goes on."""
    if subject.intent:
        return unchanged(subject)
    as_sent = operation.act is Act.CLOSE_AS_SENT
    state = RecipientState.SENT if as_sent else RecipientState.FAILED
    reply = CLOSED_SENT if as_sent else CLOSED_FAILED
    restored = subject.hold.startswith(RESTORED)
    changes = tuple(
        RecipientChange(n, state, reply=reply)
        for n, said in subject.recipients.items()
        if said.state == RecipientState.UNCERTAIN.value
        or (restored and RecipientState(said.state).open)
    )
    if not changes:
        return acts_again.CERTAIN
    record = Record(
        pk=subject.pk,
        token=0,
        attempt=0,
        kind=EventKind.CLOSED,
        changes=changes,
        next_at=subject.next_at if opened(subject) else None,
        at=operation.now,
        hold=subject.hold if opened(subject) and not restored else "",
        reason="" if as_sent else reply,
        data=noted(operation),
    )
    outcomes.settle(tx, {subject.pk: subject}, [record])
    tx.stale.add(subject.lane)
    if opened(subject):
        tx.due.add(subject.account_pk)
    return ""


_ACTS: dict[Act, Callable[[Transaction, Subject, Operation], str]] = {
    Act.HOLD: _hold,
    Act.RELEASE: _release,
    Act.RETRY: _retry,
    Act.CANCEL: _cancel,
    Act.REQUEUE: acts_again.requeue,
    Act.RESEND: acts_again.resend,
    Act.CLOSE_AS_SENT: _close,
    Act.CLOSE_AS_FAILED: _close,
}

ACT = alone(act)
