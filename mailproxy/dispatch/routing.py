"""
Which account carries a message, and when one that did not get away goes on to another.

Pure. The order of the accounts is that of :mod:`mailproxy.routes`; how each of them stands is for
the caller to say. A message goes on only where it is certain that nobody has it: a session that
ended after the final dot leaves a doubt, and whatever is done about that is done through the same
account, whose server may know the message by its Message-ID.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence

import attrs

from mailproxy.dispatch.faults import ACCOUNT_CODES, provably_not_accepted
from mailproxy.dispatch.judge import event_data
from mailproxy.model import Claimed, Outcome, RecipientChange, Record, Reply
from mailproxy.routes import Routes
from mailproxy.states import EventKind, RecipientState

#: Messages of one account that are remembered at once for what they were tried through.
MOST_REMEMBERED = 10_000

#: Says when an account takes mail: an instant in Unix seconds, now or earlier if it does already;
#: None if there is no such account.
Opens = Callable[[str], float | None]


@attrs.frozen
class Through:
    """The account *account_id* carries it now."""

    account_id: str


@attrs.frozen
class Wait:
    """None can carry it before *until* (Unix seconds)."""

    until: float


@attrs.frozen
class Nowhere:
    """There is no account left that may carry it."""


def choose(
    order: Sequence[str], opens: Opens, now: float, tried: Collection[str] = ()
) -> Through | Wait | Nowhere:
    """
    The first account of *order* that takes mail now.

    :param tried: accounts that were tried for it already, and are left out.
    """
    soonest: float | None = None
    for name in order:
        if name in tried or (when := opens(name)) is None:
            continue
        if when <= now:
            return Through(name)
        soonest = when if soonest is None else min(soonest, when)
    return Nowhere() if soonest is None else Wait(soonest)


def order_of(message: Claimed, routes: Routes) -> tuple[str, ...]:
    """The accounts that may carry *message*, the best first: one only, where there is a doubt."""
    return (message.doubted_at,) if message.doubted_at else routes.order(message.id)


class Tried:
    """What messages of one account were tried through, until they get away or wait."""

    def __init__(self, most: int = MOST_REMEMBERED) -> None:
        self._most = most
        self._of: OrderedDict[int, frozenset[str]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._of)

    def of(self, pk: int) -> frozenset[str]:
        return self._of.get(pk, frozenset())

    def add(self, pk: int, account_id: str) -> None:
        """Too many: the oldest is forgotten, and may be tried once more than needed."""
        self._of[pk] = self.of(pk) | {account_id}
        while len(self._of) > self._most:
            self._of.popitem(last=False)

    def forget(self, pk: int) -> None:
        self._of.pop(pk, None)


def too_large(outcome: Outcome) -> Reply | None:
    """The reply, if the server refused the message for its size: another may take it (RFC 1870)."""
    for reply in (outcome.mail, outcome.data, outcome.final):
        if reply is None or reply.code < 500:
            continue
        if reply.enhanced in ("5.3.4", "5.2.3") or (reply.code == 552 and reply.enhanced is None):
            return reply
    return None


def goes_on(outcome: Outcome) -> bool:
    """
    Whether another account may do better: nobody has the message, and it was not its fault.

    That is so where the session ended early, where the server put off or refused the session as a
    whole, and where the message is too large for it; not where it refused a recipient.
    """
    if outcome.stale or not provably_not_accepted(outcome):
        return False
    if outcome.error or too_large(outcome) is not None:
        return True
    whole = (reply for reply in (outcome.mail, outcome.data, outcome.final) if reply is not None)
    return any(400 <= reply.code < 500 or reply.code in ACCOUNT_CODES for reply in whole)


def passed_on(record: Record, outcome: Outcome, now: float) -> Record:
    """
    *record*, changed so that what is open is tried at once, through another account.

    Recipients that waited, or were refused for the size of the message, are open; others keep what
    they were told. Nothing is reported of it, since nothing is late.
    """
    large = too_large(outcome)
    changes = tuple(
        attrs.evolve(change, state=RecipientState.DEFERRED) if _open(change, large) else change
        for change in record.changes
    )
    replies = dict.fromkeys(
        f"{change.code} {change.reply}" if change.code else change.reply
        for change in changes
        if change.state is RecipientState.DEFERRED
    )
    return attrs.evolve(
        record,
        kind=EventKind.DEFERRED,
        changes=changes,
        next_at=now,
        report=False,
        reason_key="",
        reason="; ".join(replies)[:1000],
        data=event_data(changes, now, (*outcome.notes, "goes on to another account")),
    )


def _open(change: RecipientChange, large: Reply | None) -> bool:
    if change.state in (RecipientState.DEFERRED, RecipientState.EXPIRED):
        return True
    if large is None or change.state is not RecipientState.FAILED:
        return False
    return (change.code, change.reply) == (large.code, large.text.replace("\n", " "))
