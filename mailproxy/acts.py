"""
What an operator can do to stored messages, and what is answered.

Pure: frozen values and words.
"""

from __future__ import annotations

from enum import StrEnum

import attrs

from mailproxy.states import RecipientState

#: The reply of recipients that an operator's decision ended.
CANCELLED = "cancelled by an operator"
CLOSED_SENT = "closed as sent by an operator"
CLOSED_FAILED = "closed as failed by an operator"

#: What a hold says that somebody laid on a message.
HELD = "held by an operator"

#: What the hold of a message begins with that was unfinished in a database that was put back.
RESTORED = "restored from a backup: it may have been sent since"

#: What the reply of a recipient begins with that failed because nobody knows whether it accepted.
DOUBT = "uncertain: "


class Act(StrEnum):
    """
    ``HOLD``: begin nothing of it; ``RELEASE``: undo that; ``RETRY``: now, not when it falls due;
    ``CANCEL``: end what is open; ``REQUEUE``: once more, for those that have not accepted;
    ``RESEND``: once more, for those of which nobody knows; the last two: end these as one or other.
    """

    HOLD = "hold"
    RELEASE = "release"
    RETRY = "retry"
    CANCEL = "cancel"
    REQUEUE = "requeue"
    RESEND = "resend"
    CLOSE_AS_SENT = "close-as-sent"
    CLOSE_AS_FAILED = "close-as-failed"


@attrs.frozen
class Operation:
    """
    One decision of an operator.

    :param by: who decided, as the command log names callers.
    :param reason: why, in the operator's words; "" for nothing said.
    """

    act: Act
    now: float
    by: str = ""
    reason: str = ""


@attrs.frozen
class Acted:
    """
    What became of an operation on one message.

    :param changed: whether this call changed anything; repeated, it does not.
    :param begun: a body of it had begun: that attempt comes to its own outcome, and what the call
        decided holds for what the attempt leaves open.
    :param state: the message's state now.
    :param reason: why nothing was changed, "" where something was.
    """

    tenant_id: str
    id: str
    changed: bool
    begun: bool
    state: str
    reason: str = ""


def in_doubt(state: RecipientState, code: int | None, reply: str) -> bool:
    """Whether nobody knows if the recipient accepted, though it may have been told as failed."""
    if state is RecipientState.UNCERTAIN:
        return True
    return state is RecipientState.FAILED and code is None and reply.startswith(DOUBT)


@attrs.frozen
class Group:
    """
    The mail of one batch of a tenant, or of one of its accounts.

    :param batch: its code, not empty; None where it is an account's mail.
    :param account_id: of an account that lives; None where it is a batch.
    """

    tenant_id: str
    batch: str | None = None
    account_id: str | None = None


@attrs.frozen
class ActedOnAll:
    """
    What became of an operation on a group.

    :param changed: whether this call changed anything, or began to.
    :param held: whether the group is held now, so that mail that is new waits as well.
    :param waiting: messages of the group that are not final and not in flight, as this call left
        them; what it does one by one is still to be done to them.
    :param in_flight: messages of the group whose body had begun.
    :param reason: why nothing was changed, "" where something was.
    """

    changed: bool
    held: bool
    waiting: int
    in_flight: int
    reason: str = ""


@attrs.frozen
class Hold:
    """A batch or an account that is held. :param reason: the operator's words, "" for none."""

    group: Group
    since: float
    reason: str
