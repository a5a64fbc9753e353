"""
What becomes of recipients that an attempt left open, where it was decided meanwhile what should.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from mailproxy.acts import CANCELLED, DOUBT
from mailproxy.model import RecipientChange, Record
from mailproxy.states import EventKind, RecipientState
from mailproxy.store.doom import OF_OPERATOR, Doom

if TYPE_CHECKING:
    from mailproxy.store.outcomes import Subject


def as_wished(subject: Subject, each: Record) -> Record:
    """While its body was under way, the message was held or cancelled."""
    if subject.hold == CANCELLED:
        return ended_with(subject, each, OF_OPERATOR)
    if each.hold or not any(state.open for state in _after(subject, each).values()):
        return each
    return attrs.evolve(each, hold=subject.hold)


def ended_with(subject: Subject, each: Record, ended: Doom) -> Record:
    """What it leaves open ends in this way: it will not be tried again."""
    if each.kind is EventKind.UNCERTAIN:
        ended = Doom(RecipientState.FAILED, EventKind.FAILED, f"{DOUBT}{ended.reason}")
    left = [
        RecipientChange(n, ended.state, reply=ended.reason)
        for n, state in _after(subject, each).items()
        if state.open
    ]
    if not left:
        return each
    kept = [change for change in each.changes if not change.state.open]
    return attrs.evolve(
        each, changes=(*kept, *left), kind=ended.kind, reason=ended.reason, next_at=None, hold=""
    )


def _after(subject: Subject, each: Record) -> dict[int, RecipientState]:
    """The state of each recipient once *each* is applied."""
    now = {change.n: change.state for change in each.changes}
    return {
        n: now.get(n, RecipientState(said.state))
        for n, said in subject.recipients.items()
        if said.state != RecipientState.SENT.value
    }
