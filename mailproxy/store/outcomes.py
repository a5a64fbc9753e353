"""
What attempts led to: the one place where the state of a stored message changes for its outcome.

A group of records becomes a handful of statements. The lease decides whether a record takes
effect; one whose lease was lost is kept as evidence, and where it proves that the upstream took
the message and no other attempt has begun, it is believed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from mailproxy.model import RecipientChange, Record
from mailproxy.states import EventKind, MessageState, RecipientState, message_state
from mailproxy.store import bounces, delivered, destinations, wording
from mailproxy.store import statements as sql
from mailproxy.store import statements_outcomes as sqo
from mailproxy.store.doom import OF_ACCOUNT, Doom, doom
from mailproxy.store.dropping import drop_bodies as drop_bodies
from mailproxy.store.dropping import drop_texts
from mailproxy.store.lane_flags import pause
from mailproxy.store.leftovers import as_wished, ended_with
from mailproxy.store.suppressions import enter, refused_for_good
from mailproxy.store.transaction import NewEvent, Transaction, numbers
from mailproxy.store.works import Kind
from mailproxy.tenancy import Suppression

DELETED = OF_ACCOUNT.reason

_STATES = {state.value: state for state in RecipientState}
_SENT = RecipientState.SENT.value
_FAILED = RecipientState.FAILED
_GONE = (MessageState.SENT, MessageState.CANCELLED)
_UNDELIVERED = (MessageState.FAILED, MessageState.EXPIRED)


@attrs.define
class Subject:
    """
    One message as the transaction found it.

    :param recipients: its recipients by number, changed as records are applied.
    """

    pk: int
    tenant_id: str
    generation: int
    lane: int
    account_pk: int
    attempts: int
    uncertain: int
    intent: int
    state: str
    hold: str
    lease_token: int | None
    report_key: str | None
    parts: int
    body_pk: int
    size: int
    next_at: float | None
    finished_at: float | None
    test: bool
    destination: str | None
    fetches: int
    quiet: bool
    recipients: dict[int, wording.Said] = attrs.Factory(dict)


@attrs.define
class Changes:
    """Rows to be written together, for all the records of a group."""

    recipients: list[tuple[Any, ...]] = attrs.Factory(list)
    outcomes: list[tuple[Any, ...]] = attrs.Factory(list)
    states: list[list[Any]] = attrs.Factory(list)
    events: list[NewEvent] = attrs.Factory(list)
    finals: dict[int, int] = attrs.Factory(dict)
    bodies: list[Subject] = attrs.Factory(list)
    fetches: list[tuple[int, int]] = attrs.Factory(list)
    refused: list[Suppression] = attrs.Factory(list)
    settled: list[int] = attrs.Factory(list)
    ended: list[tuple[Subject, int]] = attrs.Factory(list)


def subjects(tx: Transaction, pks: Iterable[int]) -> dict[int, Subject]:
    """The messages *pks* that are stored, with their recipients."""
    wanted = numbers(pks)
    found = {row[0]: Subject(*row) for row in tx.all(sqo.ATTEMPTED_BY_PK, wanted)}
    for pk, n, address, state, code, reply, _ in tx.all(sql.RECIPIENTS_OF, wanted):
        if pk in found:
            found[pk].recipients[n] = wording.Said(address, state, code, reply)
    return found


def record(tx: Transaction, calls: Sequence[Sequence[Record]]) -> list[list[bool]]:
    """Store what attempts led to. :return: for each record whether its lease was good."""
    answers: list[list[bool]] = []
    flat = [each for call in calls for each in call]
    done: list[bool] = []
    while len(done) < len(flat):
        done += _distinct(tx, flat[len(done) :])
    results = iter(done)
    for call in calls:
        answers.append([next(results) for _ in call])
    return answers


def _distinct(tx: Transaction, records: Sequence[Record]) -> list[bool]:
    """The records up to the first that is of a message that came before."""
    batch = delivered.first(records)
    plain = delivered.store(tx, batch)
    if len(plain) == len(batch):
        return [True] * len(batch)
    found = subjects(tx, {each.pk for each in batch} - plain)
    blocked = {row[0]: row[1] for row in tx.all(sql.LANES_OF, numbers(_lanes(found)))}
    changes = Changes()
    results = []
    for each in batch:
        if each.pk in plain:
            results.append(True)
            continue
        subject = found.get(each.pk)
        good = subject is not None and subject.lease_token == each.token
        results.append(good)
        if subject is None:
            continue
        if good:
            if (ended := doom(blocked[subject.lane])) is not None:
                each = ended_with(subject, each, ended)
            elif subject.hold and subject.intent:
                each = as_wished(subject, each)
            apply(tx, changes, subject, each)
        else:
            _late(tx, changes, subject, each)
    write(tx, changes)
    return results


def _lanes(found: dict[int, Subject]) -> set[int]:
    return {subject.lane for subject in found.values()}


def settle(tx: Transaction, found: dict[int, Subject], records: Iterable[Record]) -> None:
    """Apply *records* whatever the lease: what the store itself decides of messages."""
    changes = Changes()
    for each in records:
        apply(tx, changes, found[each.pk], each)
    write(tx, changes)


def fail_open(subject: Subject, reason: str, at: float) -> Record:
    """The record that ends every open recipient of *subject* for *reason*."""
    return end_open(subject, Doom(RecipientState.FAILED, EventKind.FAILED, reason), at)


def end_open(subject: Subject, ended: Doom, at: float) -> Record:
    """The record that ends every open recipient of *subject* in this way."""
    return Record(
        pk=subject.pk,
        token=0,
        attempt=0,
        kind=ended.kind,
        changes=tuple(
            RecipientChange(n, ended.state, reply=ended.reason)
            for n, said in subject.recipients.items()
            if _STATES[said.state].open
        ),
        next_at=None,
        at=at,
        reason=ended.reason,
    )


def apply(tx: Transaction, changes: Changes, subject: Subject, each: Record) -> None:
    """Turn *each* into rows; *subject* is brought up to date."""
    attempt = each.attempt or subject.intent
    tried = 1 if attempt else 0
    for change in each.changes:
        said = subject.recipients[change.n]
        if said.state == _SENT:
            continue  # late evidence has proven it: nothing takes that back
        said.state, said.code, said.reply = str(change.state), change.code, change.reply
        changes.recipients.append(recipient_row(subject, change, each.at, tried))
        if change.state is _FAILED and refused_for_good(change.code, change.enhanced):
            entry = (subject.tenant_id, said.address, change.reply, "refused", each.at)
            changes.refused.append(Suppression(*entry))
    if attempt:
        changes.outcomes.append((each.at, each.outcome, subject.pk, subject.generation, attempt))
    if each.kind is EventKind.UNCERTAIN:
        subject.uncertain += 1
    _conclude(tx, changes, subject, each)


def _conclude(tx: Transaction, changes: Changes, subject: Subject, each: Record) -> None:
    """The state that follows, its event, and what they mean for lane, body and report."""
    state = message_state(
        (_STATES[said.state] for said in subject.recipients.values()),
        in_flight=False,
        held=bool(each.hold),
        attempts=subject.attempts,
    )
    final = state.final
    reason = _reason(each, state)
    told = None
    if final and subject.test:
        told = wording.Told(test=True)
    elif final and state is not MessageState.SENT:
        error = wording.error(reason, list(subject.recipients.values()))
        told = wording.Told(error=error, through=each.through)
    elif final and each.through:
        told = wording.Told(through=each.through)
    elif not final and each.report and each.reason_key != subject.report_key:
        subject.report_key = each.reason_key
        told = wording.Told(
            deferred_ts=each.next_at if each.attempt else wording.announced(each),
            deferred_reason=reason or None,
            uncertain=_any_uncertain(subject),
            through=each.through,
        )
    changes.events.append(
        NewEvent(
            subject.pk,
            subject.generation,
            each.kind,
            each.at,
            final,
            subject.tenant_id if (final or told is not None) and not subject.quiet else None,
            None if told is None else wording.dump(told),
            None if each.data == b"{}" else each.data,
        )
    )
    if final:
        changes.finals[subject.pk] = len(changes.events) - 1
        if subject.quiet or state in _UNDELIVERED:
            changes.ended.append((subject, len(changes.events) - 1))
        if state is not MessageState.CANCELLED and not subject.test:
            sent = state is MessageState.SENT
            tx.ended(subject.tenant_id, subject.account_pk, sent=sent)
    failure = None if told is None or state is MessageState.CANCELLED else told.error
    waits = state in (MessageState.QUEUED, MessageState.DEFERRED)
    # Without a next attempt only those are left whom a claim left out: another looks after them.
    next_at = each.at if waits and each.next_at is None else each.next_at
    _place(tx, subject, state, next_at if waits else None)
    if final and subject.destination is not None:
        changes.settled.append(subject.pk)
    if each.fetched_in_vain or (final and subject.fetches):
        changes.fetches.append((0 if final else subject.fetches + 1, subject.pk))
    changes.states.append(
        [
            next_at,
            next_at if waits else None,
            each.at,
            subject.uncertain,
            str(state),
            each.hold,
            lane_time(tx, subject.lane, each.at) if each.hold else None,
            each.at if final else None,
            each.at if state is MessageState.SENT else None,
            each.at if failure is not None else None,
            failure,
            None if final else reason or None,
            subject.report_key,
            None,
            subject.pk,
        ]
    )
    subject.lease_token, subject.intent, subject.next_at = None, 0, next_at
    if state in _GONE:
        changes.bodies.append(subject)


def lane_time(tx: Transaction, lane: int, at: float) -> float:
    """*at* in the time of a lane, which stands still while the age of its messages does."""
    (row,) = tx.all(sql.LANES_OF, numbers([lane]))
    return at - pause(row[2], row[3], at)


def _reason(each: Record, state: MessageState) -> str:
    reason = each.reason or each.hold
    if each.kind is EventKind.UNCERTAIN and not reason.startswith("uncertain: "):
        return f"uncertain: {reason or 'no reply to the end of the message'}"
    return "" if state is MessageState.SENT else reason


def _any_uncertain(subject: Subject) -> bool:
    uncertain = RecipientState.UNCERTAIN.value
    return any(said.state == uncertain for said in subject.recipients.values())


def _place(tx: Transaction, subject: Subject, state: MessageState, due: float | None) -> None:
    now = str(state)
    tx.moved(subject.lane, subject.state, now)
    subject.state = now
    if due is not None:
        tx.due_at(subject.lane, due)


def _late(tx: Transaction, changes: Changes, subject: Subject, each: Record) -> None:
    """The lease was lost: keep the outcome, and believe it where it proves delivery."""
    event = attrs.evolve(each, kind=EventKind.LATE, report=False, hold="")
    last = tx.one(sqo.ATTEMPT_TOKEN, subject.pk, subject.generation, each.attempt)
    newest = last == (each.token,) and subject.attempts == each.attempt
    believed = [
        change
        for change in each.changes
        if newest
        and subject.finished_at is None
        and change.state is RecipientState.SENT
        and subject.recipients[change.n].state != RecipientState.SENT.value
    ]
    if not believed:
        data = each.outcome or each.data
        changes.events.append(
            NewEvent(subject.pk, subject.generation, EventKind.LATE, each.at, data=data)
        )
        return
    if subject.intent:
        _prove(changes, subject, each, believed)
        return
    proven = {change.n for change in believed}
    left = any(
        _STATES[said.state].open for n, said in subject.recipients.items() if n not in proven
    )
    apply(
        tx,
        changes,
        subject,
        attrs.evolve(
            event,
            changes=tuple(believed),
            next_at=subject.next_at if left else None,
            hold=subject.hold if left or _others_uncertain(subject, proven) else "",
        ),
    )


def _prove(
    changes: Changes, subject: Subject, each: Record, believed: Sequence[RecipientChange]
) -> None:
    """Somebody took the attempt over and has not decided yet: leave that, but keep the proof."""
    for change in believed:
        said = subject.recipients[change.n]
        said.state, said.code, said.reply = str(change.state), change.code, change.reply
        changes.recipients.append(recipient_row(subject, change, each.at, 1))
    changes.events.append(
        NewEvent(subject.pk, subject.generation, EventKind.LATE, each.at, data=each.data)
    )


def recipient_row(
    subject: Subject, change: RecipientChange, at: float, tried: int
) -> tuple[Any, ...]:
    return (
        str(change.state),
        change.code,
        change.enhanced,
        change.reply,
        tried,
        None if change.state.open else at,
        subject.pk,
        change.n,
    )


def _others_uncertain(subject: Subject, proven: set[int]) -> bool:
    uncertain = RecipientState.UNCERTAIN.value
    return any(said.state == uncertain for n, said in subject.recipients.items() if n not in proven)


def write(tx: Transaction, changes: Changes) -> None:
    """One statement for all rows of a table."""
    tx.add(sqo.SET_RECIPIENT, changes.recipients)
    tx.add(sqo.SET_OUTCOME, changes.outcomes)
    pks = tx.append(changes.events)
    for row in changes.states:
        place = changes.finals.get(row[-1])
        if place is not None:
            row[-2] = pks[place]
    tx.add(sqo.SET_STATE, changes.states)
    tx.add(sqo.SET_FETCHES, changes.fetches)
    if changes.ended:
        bounces.ended(tx, [(each.tenant_id, each.quiet, pks[n]) for each, n in changes.ended])
    if changes.settled:
        destinations.forget(tx, changes.settled)
    if changes.refused:
        enter(tx, changes.refused)
    drop_texts(tx, [(each.body_pk, each.parts, each.size) for each in changes.bodies])


RECORD: Kind[Sequence[Record], list[bool]] = Kind(record, "outcome-commit", len, delivered.ahead)
