"""
Whose fault it is when mail does not leave, and what follows: one table for all phases.

Pure. The phase and the reply decide together, never the code alone: a 550 to RCPT is about one
recipient, a 550 in the greeting is about the account. ``docs/reference/faults.md`` is made from
this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, StrEnum

import attrs

from mailproxy.model import Outcome, Reply
from mailproxy.reply_rules import Action
from mailproxy.states import Phase


class Blame(StrEnum):
    """At whose door it lies."""

    NOBODY = "nobody"
    RECIPIENT = "recipient"
    MESSAGE = "message"
    ACCOUNT = "account"
    NETWORK = "network"
    OURS = "ours"


class Step(StrEnum):
    """What happens next to those it concerns."""

    DONE = "done"
    FAIL = "fail"
    RETRY = "retry"
    REPEAT = "repeat"
    POLICY = "policy"
    WAIT = "wait"
    HOLD = "hold"


class Standing(IntEnum):
    """What an account's standing learns from it; of several, the greatest counts."""

    UNTOUCHED = 0
    WORKS = 1
    SLOWER = 2
    STRIKE = 3
    PARKED = 4


class Said(StrEnum):
    """What the server said, or did in place of it."""

    NOTHING = "no reply: silence, a lost connection, no SMTP"
    YES = "2xx"
    CLOSING = "421"
    NOT_NOW = "454"
    LOGIN = "530, 534, 535, 538"
    TOO_LARGE = "552 without an enhanced code, 5.3.4, 5.2.3"
    LATER = "other 4xx"
    NEVER = "other 5xx"


@attrs.frozen
class Fault:
    """
    :param temporary: whether a later attempt may succeed.
    """

    blame: Blame
    temporary: bool
    step: Step
    standing: Standing


#: Replies that refuse the account, not the message, wherever they come (RFC 4954, section 6).
ACCOUNT_CODES = frozenset({530, 534, 535, 538})

#: The phases in which nothing of any message has been said yet.
OPENING = (Phase.RESOLVE, Phase.CONNECT, Phase.BANNER, Phase.EHLO, Phase.TLS, Phase.AUTH)

_DONE = Fault(Blame.NOBODY, False, Step.DONE, Standing.WORKS)
_LOST = Fault(Blame.NETWORK, True, Step.RETRY, Standing.STRIKE)
_ACCOUNT = Fault(Blame.ACCOUNT, True, Step.RETRY, Standing.STRIKE)
_PARKED = Fault(Blame.ACCOUNT, True, Step.RETRY, Standing.PARKED)
_MESSAGE_LATER = Fault(Blame.MESSAGE, True, Step.RETRY, Standing.SLOWER)
_MESSAGE = Fault(Blame.MESSAGE, False, Step.FAIL, Standing.WORKS)
_RECIPIENT_LATER = Fault(Blame.RECIPIENT, True, Step.RETRY, Standing.WORKS)
_RECIPIENT = Fault(Blame.RECIPIENT, False, Step.FAIL, Standing.WORKS)
_UNCERTAIN = Fault(Blame.NETWORK, True, Step.POLICY, Standing.SLOWER)
_NO_ROUTE = Fault(Blame.NETWORK, True, Step.WAIT, Standing.PARKED)
_NO_SESSION = Fault(Blame.ACCOUNT, True, Step.WAIT, Standing.PARKED)

_REFUSED = (Said.CLOSING, Said.NOT_NOW, Said.LOGIN, Said.LATER, Said.NEVER)
_OF_ALL = {Said.CLOSING: _ACCOUNT, Said.NOT_NOW: _ACCOUNT, Said.LOGIN: _PARKED}
_OF_MESSAGE = _OF_ALL | {
    Said.TOO_LARGE: _MESSAGE,
    Said.LATER: _MESSAGE_LATER,
    Said.NEVER: _MESSAGE,
}

#: Every phase, and what each reply in it means.
TABLE: Mapping[Phase, Mapping[Said, Fault]] = {
    Phase.RESOLVE: {Said.NOTHING: _NO_ROUTE},
    Phase.CONNECT: {Said.NOTHING: _NO_ROUTE},
    Phase.BANNER: {Said.NOTHING: _NO_ROUTE} | dict.fromkeys(_REFUSED, _NO_SESSION),
    Phase.EHLO: {Said.NOTHING: _NO_ROUTE} | dict.fromkeys(_REFUSED, _NO_SESSION),
    Phase.TLS: {Said.NOTHING: _NO_SESSION} | dict.fromkeys(_REFUSED, _NO_SESSION),
    Phase.AUTH: {Said.NOTHING: _NO_SESSION} | dict.fromkeys(_REFUSED, _NO_SESSION),
    Phase.MAIL: {Said.NOTHING: _LOST, **_OF_MESSAGE},
    Phase.RCPT: {
        Said.NOTHING: _LOST,
        **_OF_ALL,
        Said.TOO_LARGE: _RECIPIENT,
        Said.LATER: _RECIPIENT_LATER,
        Said.NEVER: _RECIPIENT,
    },
    Phase.DATA: {Said.NOTHING: _LOST, **_OF_MESSAGE},
    Phase.BODY: {Said.NOTHING: _LOST, **_OF_MESSAGE},
    Phase.FINAL: {Said.NOTHING: _UNCERTAIN, Said.YES: _DONE, **_OF_MESSAGE},
}

#: A session that had been idle was found dead: nothing was said of the message, no attempt counts.
STALE = Fault(Blame.NETWORK, True, Step.REPEAT, Standing.UNTOUCHED)


#: What a rule for a reply makes of it, whatever its phase and code; not here: as they say.
RULED = {
    Action.PAUSE: _ACCOUNT,
    Action.SLOW: Fault(Blame.ACCOUNT, True, Step.RETRY, Standing.SLOWER),
    Action.FAIL: _MESSAGE,
    Action.RETRY: _RECIPIENT_LATER,
}


@attrs.frozen
class OnError:
    """
    What follows from an error that is not an upstream's word.

    :param error: the name of its type in :mod:`mailproxy.errors`, or what it is.
    """

    error: str
    fault: Fault
    meaning: str


#: Errors of our own side, and what follows from them.
ERRORS = (
    OnError(
        "SessionLost",
        Fault(Blame.NETWORK, True, Step.REPEAT, Standing.UNTOUCHED),
        "the session ended before anything of the message was sent: it goes over the next one",
    ),
    OnError(
        "Withdrawn",
        Fault(Blame.NOBODY, False, Step.DONE, Standing.UNTOUCHED),
        "it was suspended, replaced or deleted before its body: nothing was sent",
    ),
    OnError(
        "AttachmentFault, transient",
        Fault(Blame.MESSAGE, True, Step.RETRY, Standing.UNTOUCHED),
        "an attachment cannot be had for now: tried again on the message's schedule",
    ),
    OnError(
        "AttachmentFault, for good",
        Fault(Blame.MESSAGE, False, Step.FAIL, Standing.UNTOUCHED),
        "an attachment will never be had",
    ),
    OnError(
        "StoreError before the intent",
        Fault(Blame.OURS, True, Step.REPEAT, Standing.UNTOUCHED),
        "nothing was sent; claimed again when the store answers",
    ),
    OnError(
        "StoreError with the outcome",
        Fault(Blame.OURS, True, Step.WAIT, Standing.UNTOUCHED),
        "the outcome is kept and stored later; until then no further body is begun",
    ),
    OnError(
        "any other error about one message",
        Fault(Blame.OURS, True, Step.HOLD, Standing.UNTOUCHED),
        "tried again twice, then held with its traceback in the timeline",
    ),
    OnError(
        "any other error about a session",
        Fault(Blame.OURS, True, Step.WAIT, Standing.PARKED),
        "the account is parked, the traceback is in the log",
    ),
    OnError(
        "the process ended after the intent",
        Fault(Blame.OURS, True, Step.POLICY, Standing.UNTOUCHED),
        "nobody knows whether the server took it",
    ),
)


def said(reply: Reply | None) -> Said:
    """The class of *reply*; None: there was none."""
    return Said.NOTHING if reply is None else said_by(reply.code, reply.enhanced)


def said_by(code: int, enhanced: str | None = None) -> Said:
    """The class of a reply with these codes."""
    if code < 400:
        return Said.YES
    if code == 421:
        return Said.CLOSING
    if code == 454:
        return Said.NOT_NOW
    if code in ACCOUNT_CODES:
        return Said.LOGIN
    if code < 500:
        return Said.LATER
    if enhanced in ("5.3.4", "5.2.3") or (code == 552 and enhanced is None):
        return Said.TOO_LARGE
    return Said.NEVER


def fault_in(phase: Phase, reply: Reply | None) -> Fault:
    """
    What *reply* in *phase* means.

    A reply that has no meaning there is as none: the server does not keep to the protocol.
    """
    row = TABLE[phase]
    return row.get(said(reply)) or row[Said.NOTHING]


def opening_fault(phase: str, code: int | None) -> Fault:
    """What it means that a session could not be had: *phase* and *code* of the AccountFault."""
    if phase not in TABLE:
        return ERRORS[-2].fault
    row = TABLE[Phase(phase)]
    return row[Said.NOTHING] if code is None else row.get(said_by(code)) or row[Said.NOTHING]


def provably_not_accepted(outcome: Outcome) -> bool:
    """
    Whether nobody can have got the message by this attempt: another account may carry it.

    Not so once the final dot was handed over and no refusal came, nor where anybody accepted.
    """
    if outcome.uncertain:
        return False
    return outcome.final is None or outcome.final.code >= 400
