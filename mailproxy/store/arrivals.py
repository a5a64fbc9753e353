"""
What is decided of a message as it arrives: a test ends as sent, a suppressed recipient fails, and
what all its recipients have already is sent.

Such a message is stored like any other, and then what is decided is applied to it in the same
transaction, by the way of every other outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from mailproxy.model import NewMessage, RecipientChange, Record
from mailproxy.states import EventKind, RecipientState
from mailproxy.store import outcomes, suppressions
from mailproxy.store.outcomes import Subject
from mailproxy.store.transaction import Transaction
from mailproxy.store.wording import TESTED

#: The reply of a recipient that is on the tenant's list.
SUPPRESSED = "suppressed"


class Arrival(NamedTuple):
    """A message that was stored just now."""

    pk: int
    message: NewMessage
    now: float


def decide(tx: Transaction, arrivals: Sequence[Arrival]) -> None:
    """Apply what is decided of *arrivals*, whose rows are written."""
    if not arrivals:
        return
    listed = suppressions.among(
        tx,
        {
            (each.message.tenant_id, recipient.address)
            for each in arrivals
            for recipient in each.message.recipients
            if not each.message.test
        },
    )
    found = outcomes.subjects(tx, [each.pk for each in arrivals])
    records = []
    for each in arrivals:
        subject = found[each.pk]
        if each.message.test:
            records.append(_tested(subject, each.now))
        elif (record := _suppressed(subject, listed, each.now)) is not None:
            records.append(record)
        elif not any(RecipientState(said.state).open for said in subject.recipients.values()):
            records.append(_nobody_left(subject, each.now))
    outcomes.settle(tx, found, records)
    for record in records:
        tx.stale.add(found[record.pk].lane)


def suppress(tx: Transaction, subject: Subject, now: float) -> None:
    """A message is to be sent once more: who is on the list by now gets none."""
    opened = (said for said in subject.recipients.values() if RecipientState(said.state).open)
    asked = {(subject.tenant_id, said.address) for said in opened}
    record = _suppressed(subject, suppressions.among(tx, asked), now)
    if record is not None:
        outcomes.settle(tx, {subject.pk: subject}, [record])
        tx.stale.add(subject.lane)


def _tested(subject: Subject, now: float) -> Record:
    return Record(
        pk=subject.pk,
        token=0,
        attempt=0,
        kind=EventKind.OUTCOME,
        changes=tuple(
            RecipientChange(n, RecipientState.SENT, reply=TESTED) for n in subject.recipients
        ),
        next_at=None,
        at=now,
        data=b'{"test":true}',
    )


def _nobody_left(subject: Subject, now: float) -> Record:
    """Who it is for has had it under this id before."""
    return Record(
        pk=subject.pk,
        token=0,
        attempt=0,
        kind=EventKind.OUTCOME,
        changes=(),
        next_at=None,
        at=now,
    )


def _suppressed(subject: Subject, listed: set[tuple[str, str]], now: float) -> Record | None:
    opened = {n: said for n, said in subject.recipients.items() if RecipientState(said.state).open}
    hit = {n for n, said in opened.items() if (subject.tenant_id, said.address) in listed}
    if not hit:
        return None
    left = len(hit) < len(opened)
    notes = [f"{SUPPRESSED}: {opened[n].address}" for n in sorted(hit)]
    return Record(
        pk=subject.pk,
        token=0,
        attempt=0,
        kind=EventKind.NOTE if left else EventKind.FAILED,
        changes=tuple(
            RecipientChange(n, RecipientState.FAILED, reply=SUPPRESSED) for n in sorted(hit)
        ),
        next_at=subject.next_at if left else None,
        at=now,
        reason="" if left else SUPPRESSED,
        data=msgspec.json.encode({"notes": notes}),
    )
