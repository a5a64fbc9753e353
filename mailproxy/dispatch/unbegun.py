"""
What is stored of a message that was claimed and that no attempt was begun for.

Pure. Its account could not be reached, its attachments could not be had, or handling it failed.
"""

from __future__ import annotations

import msgspec

from mailproxy.dispatch.judge import Rules, event_data, reason_key
from mailproxy.dispatch.retry import LONGEST_PROBE, GiveUp, after_deferral
from mailproxy.errors import Unprepared
from mailproxy.model import Account, Claimed, RecipientChange, Record
from mailproxy.states import EventKind, RecipientState


def not_reached(
    message: Claimed, reason: str, phase: str, probe_at: float, now: float, rules: Rules
) -> Record:
    """
    The record for a claimed message whose account could not be reached: no attempt was begun.

    It stays due: its lane is closed until the account's next probe, and open at once when the
    account is changed. It waits up to the account-fault limit, then expires.
    """
    limit = message.patience(rules.fault_max_age)
    expired = probe_at >= limit
    state = RecipientState.EXPIRED if expired else RecipientState.DEFERRED
    changes = tuple(
        RecipientChange(recipient.n, state, None, None, reason) for recipient in message.recipients
    )
    return Record(
        pk=message.pk,
        token=message.token,
        attempt=0,
        kind=EventKind.EXPIRED if expired else EventKind.DEFERRED,
        changes=changes,
        next_at=None if expired else now,
        at=now,
        report=not expired,
        reason_key=reason_key(changes, phase),
        reason=reason,
        data=event_data(changes, None if expired else probe_at),
    )


def kept_for(
    message: Claimed, through: str, until: float | None, now: float, rules: Rules
) -> Record:
    """
    The record for a claimed message that only the account *through* may carry, which cannot now:
    an earlier attempt through it may have been accepted.

    :param until: when it is tried again, in Unix seconds; None if there is no such account any
        more. Then nobody knows, and nobody will: an operator decides.
    """
    if until is None:
        text = f"uncertain: account {through}, which may have sent it, is not there any more"
        state, kind, when = RecipientState.UNCERTAIN, EventKind.UNCERTAIN, None
    else:
        text = f"waits for account {through}, which may have sent it already"
        when = min(max(until, now + 1.0), now + LONGEST_PROBE)
        expired = when >= message.patience(rules.fault_max_age)
        state = RecipientState.EXPIRED if expired else RecipientState.DEFERRED
        kind = EventKind.EXPIRED if expired else EventKind.DEFERRED
        when = None if expired else when
    changes = tuple(RecipientChange(each.n, state, reply=text) for each in message.recipients)
    return Record(
        pk=message.pk,
        token=message.token,
        attempt=0,
        kind=kind,
        changes=changes,
        next_at=when,
        at=now,
        report=kind is not EventKind.EXPIRED,
        reason_key=reason_key(changes, "doubt"),
        reason=text,
        data=event_data(changes, when),
    )


def unprepared(
    message: Claimed,
    account: Account,
    fault: Unprepared,
    now: float,
    rules: Rules,
    jitter: float = 0.0,
) -> Record:
    """
    The record for a message that cannot be completed.

    What may be had later is asked for again on the message's own schedule, counted by the fetches
    that failed, until the message is too old; then, and where there is no hope, it ends with the
    fault's text.

    :param message: its ``fetches`` do not count this one.
    :param jitter: a number from -1 to 1.
    """
    when: float | None = None
    if fault.transient:
        delays = account.retry_delays or rules.delays
        decided = after_deferral(
            message.fetches + 1, now, message.expires_at, delays, fault.hint, jitter
        )
        when = None if isinstance(decided, GiveUp) else decided.when
    over = RecipientState.EXPIRED if fault.transient else RecipientState.FAILED
    state = over if when is None else RecipientState.DEFERRED
    reason = str(fault)
    changes = tuple(RecipientChange(each.n, state, reply=reason) for each in message.recipients)
    return Record(
        pk=message.pk,
        token=message.token,
        attempt=0,
        kind=_KINDS[state],
        changes=changes,
        next_at=when,
        at=now,
        report=when is not None,
        reason_key=reason_key(changes, "attachment") if when is not None else "",
        reason=reason,
        data=event_data(changes, when),
        fetched_in_vain=True,
    )


_KINDS = {
    RecipientState.DEFERRED: EventKind.DEFERRED,
    RecipientState.EXPIRED: EventKind.EXPIRED,
    RecipientState.FAILED: EventKind.FAILED,
}


#: Characters of a traceback that are kept: its end, where the error is.
MOST_TRACEBACK = 8000


def quarantined(
    message: Claimed, text: str, kind: type[Exception], traceback: str, now: float
) -> Record:
    """
    The record for a message that handling raised an error for, again and again: it is held.

    :param text: of the error, and *traceback*: without secrets.
    """
    reason = f"quarantined: {kind.__name__}: {text}"[:500]
    return Record(
        pk=message.pk,
        token=message.token,
        attempt=0,
        kind=EventKind.HELD,
        changes=(),
        next_at=None,
        at=now,
        hold=reason,
        reason=reason,
        data=msgspec.json.encode({"traceback": traceback[-MOST_TRACEBACK:]}),
    )
