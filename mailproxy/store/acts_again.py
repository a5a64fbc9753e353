"""
Sending once more, because an operator wants it: what ended, and what may have arrived.

A message that ended begins a new generation under its Message-ID, for those who have not accepted.
Those of whom nobody knows get a second copy only where that, and nothing else, is what was asked
for; the event of the act stands in the timeline for it.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import select, update

from mailproxy.acts import Operation, in_doubt
from mailproxy.model import RecipientChange
from mailproxy.states import EventKind, MessageState, RecipientState
from mailproxy.store import arrivals, outcomes, wording
from mailproxy.store import statements as sql
from mailproxy.store import statements_outcomes as sqo
from mailproxy.store.compiling import compiled, const, p
from mailproxy.store.directory import Directory, Owner
from mailproxy.store.lane_flags import pause
from mailproxy.store.outcomes import Subject
from mailproxy.store.schema import LANE_CANCELLED, messages
from mailproxy.store.statements_intake import EMPTY, FRESH
from mailproxy.store.transaction import NewEvent, Transaction, numbers

_m = messages.c

#: Why nothing was done.
CERTAIN = "nothing of it is uncertain"
BEGUN = "its body has begun"
HELD = "it is held: release it"
WAITS = "it waits already"
DOUBTED = "it is uncertain: resend or close it"
TEXTLESS = "its text is no longer stored: post it again"
ORPHANED = "its account was deleted"
OVERDUE = "its expires_at has passed"

_REST = compiled(
    select(_m.priority, _m.batch, _m.not_before, _m.not_after).where(_m.pk == p("message")),
    "message",
)
_REQUEUE = compiled(
    update(messages)
    .values(
        {
            name: p(f"v_{name}")
            for name in (
                "generation",
                "account_pk",
                "lane",
                "next_at",
                "claim_at",
                "accepted_at",
                "updated_at",
                "expires_at",
            )
        }
        | FRESH
        | {name: const("NULL") for name in EMPTY}
        | {"fetches": const("0")}
    )
    .where(_m.pk == p("message")),
    "v_generation",
    "v_account_pk",
    "v_lane",
    "v_next_at",
    "v_claim_at",
    "v_accepted_at",
    "v_updated_at",
    "v_expires_at",
    "message",
)
_REOPEN = compiled(
    update(messages)
    .values(
        state=const("'deferred'"),
        lane=p("to"),
        expires_at=_m.expires_at + p("shift"),
        next_at=p("next"),
        claim_at=p("claim"),
        updated_at=p("now"),
        lease_owner=const("NULL"),
        lease_token=const("NULL"),
    )
    .where(_m.pk == p("message")),
    "to",
    "next",
    "claim",
    "now",
    "shift",
    "message",
)


def requeue(tx: Transaction, subject: Subject, operation: Operation) -> str:
    """:return: why nothing was done, or ""."""
    if not MessageState(subject.state).final:
        return unchanged(subject)
    if subject.state in (MessageState.SENT.value, MessageState.CANCELLED.value):
        return unchanged(subject)
    wanted = [
        n
        for n, said in subject.recipients.items()
        if said.state != RecipientState.SENT.value and not _doubted(said)
    ]
    return _again(tx, subject, operation, wanted) if wanted else DOUBTED


def resend(tx: Transaction, subject: Subject, operation: Operation) -> str:
    """:return: why nothing was done, or ""."""
    wanted = [n for n, said in subject.recipients.items() if _doubted(said)]
    if MessageState(subject.state).final:
        return _again(tx, subject, operation, wanted) if wanted else CERTAIN
    wanted = [n for n in wanted if subject.recipients[n].state == RecipientState.UNCERTAIN.value]
    if not wanted:
        return CERTAIN
    if subject.intent or subject.hold:
        return BEGUN if subject.intent else HELD
    if tx.one(sql.ACCOUNT_VERSION, subject.account_pk) is None:
        return ORPHANED
    now, state = operation.now, MessageState.DEFERRED.value
    *_, not_after = tx.one(_REST, subject.pk)
    if not_after is not None and not_after <= now:
        return OVERDUE
    _open(tx, subject, wanted, RecipientState.DEFERRED)
    lane, shift = subject.lane, 0.0
    if sealed(tx, lane):  # its batch was cancelled, which was about what was open then
        lane, shift = _unsealed(tx, subject, now)
    tx.do(_REOPEN, lane, now, now, now, shift, subject.pk)
    tx.moved(subject.lane, subject.state, None)
    tx.moved(lane, None, state)
    tx.due_at(lane, now)
    subject.lane = lane
    tx.due.add(subject.account_pk)
    subject.state = state
    tell(tx, subject, EventKind.RESENT, operation, wanted)
    return ""


def _again(tx: Transaction, subject: Subject, operation: Operation, wanted: list[int]) -> str:
    """A new generation of what ended, for the recipients *wanted*."""
    now = operation.now
    directory = Directory(tx, now)
    owner = _owner(tx, directory, subject)
    if owner is None:
        return ORPHANED
    priority, batch, not_before, not_after = tx.one(_REST, subject.pk)
    if not_after is not None and not_after <= now:
        return OVERDUE
    lane = directory.lane(owner, subject.tenant_id, priority, batch)
    start = max(now, not_before or 0.0)
    subject.generation += 1
    subject.account_pk, subject.lane = owner.pk, lane.pk
    subject.attempts = subject.uncertain = subject.fetches = 0
    subject.next_at, subject.finished_at, subject.report_key = start, None, None
    subject.state = MessageState.QUEUED.value
    tx.do(
        _REQUEUE,
        subject.generation,
        owner.pk,
        lane.pk,
        start,
        start,
        now,
        now,
        start + owner.max_age - lane.paused,
        subject.pk,
    )
    _open(tx, subject, wanted, RecipientState.WAITING)
    tx.moved(lane.pk, None, subject.state)
    tx.due_at(lane.pk, start)
    tx.due.add(owner.pk)
    tell(tx, subject, EventKind.GENERATION, operation, wanted)
    arrivals.suppress(tx, subject, now)
    return ""


def sealed(tx: Transaction, lane: int) -> bool:
    """Whether the mail of the lane, which is gone once nothing of it is open, was cancelled."""
    return any(row[1] & LANE_CANCELLED for row in tx.all(sql.LANES_OF, numbers([lane])))


def _unsealed(tx: Transaction, subject: Subject, now: float) -> tuple[int, float]:
    """The lane of what is new, and what has to be added to ages that are in the lane's time."""
    directory = Directory(tx, now)
    priority, batch, *_ = tx.one(_REST, subject.pk)
    owner = directory.known_owner(subject.account_pk)
    lane = directory.lane(owner, subject.tenant_id, priority, batch)
    (before,) = tx.all(sql.LANES_OF, numbers([subject.lane]))
    return lane.pk, pause(before[2], before[3], now) - lane.paused


def _owner(tx: Transaction, directory: Directory, subject: Subject) -> Owner | None:
    """Its account; where that was deleted, the one that has its name now."""
    if tx.one(sql.ACCOUNT_VERSION, subject.account_pk) is not None:
        return directory.known_owner(subject.account_pk)
    (name,) = tx.one(sql.ACCOUNT_ID, subject.account_pk)
    return directory.owner(subject.tenant_id, name)


def _open(tx: Transaction, subject: Subject, wanted: list[int], state: RecipientState) -> None:
    for n in wanted:
        said = subject.recipients[n]
        said.state, said.code, said.reply = state.value, None, ""
    rows = [outcomes.recipient_row(subject, RecipientChange(n, state), 0.0, 0) for n in wanted]
    tx.add(sqo.SET_RECIPIENT, rows)


def _doubted(said: wording.Said) -> bool:
    return in_doubt(RecipientState(said.state), said.code, said.reply)


def opened(subject: Subject) -> bool:
    """Whether some recipient may still be sent to."""
    return any(RecipientState(said.state).open for said in subject.recipients.values())


def unchanged(subject: Subject) -> str:
    """Why an act that is about waiting mail, or about mail that ended, has nothing to do."""
    if subject.intent:
        return BEGUN
    if subject.hold:
        return HELD
    state = MessageState(subject.state)
    if state is MessageState.UNCERTAIN:
        return DOUBTED
    if state is MessageState.CANCELLED:
        return TEXTLESS
    return f"it is {state}" if state.final else WAITS


def noted(operation: Operation) -> bytes:
    """What the timeline says of an operation."""
    return msgspec.json.encode(_said(operation))


def _said(operation: Operation) -> dict[str, object]:
    said: dict[str, object] = {"act": operation.act}
    if operation.by:
        said["by"] = operation.by
    if operation.reason:
        said["reason"] = operation.reason
    return said


def tell(
    tx: Transaction,
    subject: Subject,
    kind: EventKind,
    operation: Operation,
    wanted: list[int] | None = None,
) -> None:
    """Append the operation's event. :param wanted: the recipients it is about, if not all."""
    said = _said(operation)
    if wanted is not None:
        states = [(n, subject.recipients[n].state) for n in wanted]
        said["recipients"] = [{"n": n, "state": state} for n, state in states]
    data = msgspec.json.encode(said)
    tx.append([NewEvent(subject.pk, subject.generation, kind, operation.now, data=data)])
