"""
The states and closed sets of words the whole program speaks, and how they follow from each other.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum, StrEnum


class Priority(IntEnum):
    """0 is sent first."""

    IMMEDIATE = 0
    HIGH = 1
    MEDIUM = 2
    LOW = 3


#: Words for priorities.
PRIORITY_LABELS = {priority.name.lower(): int(priority) for priority in Priority}


class RecipientKind(StrEnum):
    TO = "to"
    CC = "cc"
    BCC = "bcc"


class RecipientState(StrEnum):
    """What became of one recipient. *Claimed* is a lease on the message, not a state."""

    WAITING = "waiting"
    DEFERRED = "deferred"
    SENT = "sent"
    FAILED = "failed"
    UNCERTAIN = "uncertain"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def open(self) -> bool:
        """Whether a later attempt may still go to this recipient."""
        return self is RecipientState.WAITING or self is RecipientState.DEFERRED


class MessageState(StrEnum):
    QUEUED = "queued"
    DEFERRED = "deferred"
    IN_FLIGHT = "in_flight"
    HELD = "held"
    UNCERTAIN = "uncertain"
    SENT = "sent"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether nothing more happens to the message by itself or by an operator's decision."""
        return self in _FINAL


_FINAL = frozenset(
    {MessageState.SENT, MessageState.FAILED, MessageState.EXPIRED, MessageState.CANCELLED}
)


def message_state(
    recipients: Iterable[RecipientState], *, in_flight: bool, held: bool, attempts: int
) -> MessageState:
    """
    Derive a message's state from its recipients; the first rule that fits.

    :param recipients: the state of every recipient; at least one.
    :param in_flight: whether an intent without outcome is stored.
    :param held: whether an operator's or the quarantine's hold lies on it.
    :param attempts: attempts begun so far.
    :raises ValueError: if there is no recipient.
    """
    states = set(recipients)
    if not states:
        raise ValueError("a message has at least one recipient")
    if in_flight:
        return MessageState.IN_FLIGHT
    if held:
        return MessageState.HELD
    if RecipientState.WAITING in states or RecipientState.DEFERRED in states:
        return MessageState.DEFERRED if attempts else MessageState.QUEUED
    if RecipientState.UNCERTAIN in states:
        return MessageState.UNCERTAIN
    if states == {RecipientState.SENT}:
        return MessageState.SENT
    if states == {RecipientState.CANCELLED}:
        return MessageState.CANCELLED
    if RecipientState.FAILED not in states and RecipientState.EXPIRED in states:
        return MessageState.EXPIRED
    return MessageState.FAILED


class TlsMode(StrEnum):
    IMPLICIT = "implicit"
    STARTTLS = "starttls"
    OPPORTUNISTIC = "opportunistic"
    PLAIN = "plain"


class OnUncertain(StrEnum):
    """What to do when nobody knows whether the upstream took a message."""

    RETRY = "retry"
    HOLD = "hold"
    FAIL = "fail"


class EventKind(StrEnum):
    """The transitions that the timeline keeps. A claim is not one."""

    ACCEPTED = "accepted"
    REPLACED = "replaced"
    INTENT = "intent"
    OUTCOME = "outcome"
    DEFERRED = "deferred"
    UNCERTAIN = "uncertain"
    HELD = "held"
    RELEASED = "released"
    RETRIED = "retried"
    RESENT = "resent"
    CLOSED = "closed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    FAILED = "failed"
    GENERATION = "generation"
    NOTE = "note"
    LATE = "late"


class Verdict(StrEnum):
    """What the front door did with one submitted element."""

    QUEUED = "queued"
    REPLACED = "replaced"
    KEPT = "kept"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"


class Phase(StrEnum):
    """
    How far an SMTP session or transaction came, in order.

    ``BODY`` means the final dot has *not* been handed to the transport; ``FINAL`` that it has.
    """

    RESOLVE = "resolve"
    CONNECT = "connect"
    BANNER = "banner"
    EHLO = "ehlo"
    TLS = "tls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    BODY = "body"
    FINAL = "final"
