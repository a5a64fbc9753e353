"""
Background work: mail whose time is over ends, although nobody claims it.

A message's own instant, its ``not_after``, passes whatever stops the message. The age of mail that
waits for an account at fault is weighed when a probe failed, as it is for the message that was to
make the probe: what would be too old at the next one has had its last chance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs
from sqlalchemy import func, select

from mailproxy.clock import Names
from mailproxy.states import EventKind, RecipientState
from mailproxy.store import outcomes
from mailproxy.store import statements as sql
from mailproxy.store.compiling import LIMIT, compiled, const, indexed, listed, p
from mailproxy.store.doom import OVERDUE, Doom, doom
from mailproxy.store.retention import Step
from mailproxy.store.schema import ACCOUNT_PARKED, AGELESS, accounts, lanes, messages
from mailproxy.store.transaction import Transaction, numbers
from mailproxy.store.works import alone

_m, _a, _l = messages.c, accounts.c, lanes.c

#: Messages ended in one transaction; each changes about three rows.
ENDED = 160

_WAITING = tuple(const(f"'{state}'") for state in ("queued", "deferred", "held"))
_LATE = indexed(
    compiled(
        select(_m.pk)
        .where(
            _m.not_after <= p("now"),
            _m.not_after.is_not(None),
            _m.finished_at.is_(None),
            _m.intent == const("0"),
            _m.lease_owner.is_(None),
            _m.state.in_(_WAITING),
        )
        .suffix_with(LIMIT),
        "now",
        "limit",
    ),
    messages,
    "messages_late",
)
_CLOSED = indexed(
    compiled(
        select(_a.pk, _a.parked_reason, _a.blocked_until, _a.tried_at).where(
            _a.blocked_until > p("now"), _a.tried_at.is_not(None)
        ),
        "now",
    ),
    accounts,
    "accounts_blocked",
)
_LANES = compiled(
    select(_l.pk, _l.paused).where(
        _l.account_pk == p("account"),
        _l.blocked.op("&")(const(str(ACCOUNT_PARKED))) != const("0"),
        _l.blocked.op("&")(const(str(AGELESS))) == const("0"),
    ),
    "account",
)
#: By the pk, too, which the index has: what was accepted too lately is passed over without a look.
_AGED = indexed(
    compiled(
        select(_m.pk)
        .where(
            _m.lane == p("lane"),
            _m.claim_at <= p("tried"),
            _m.claim_at.is_not(None),
            _m.pk <= p("newest"),
            func.max(_m.expires_at + p("paused"), _m.accepted_at + p("fault_age")) <= p("until"),
        )
        .suffix_with(LIMIT),
        "lane",
        "tried",
        "newest",
        "paused",
        "fault_age",
        "until",
        "limit",
    ),
    messages,
    "messages_claim",
)
#: Whether it is so still, when the transaction has its turn.
_STILL_LATE = compiled(
    select(_m.pk).where(_m.pk.in_(listed()), _m.not_after <= p("now")), "pks", "now"
)
_STILL_WAITING = compiled(
    select(_m.pk).where(_m.pk.in_(listed()), _m.claim_at <= p("tried")), "pks", "tried"
)


@attrs.frozen
class Closed:
    """
    An account nobody can reach.

    :param until: the next attempt to.
    :param tried: the last one.
    """

    pk: int
    reason: str
    until: float
    tried: float


@attrs.frozen
class Overdue:
    """
    Messages that end for one reason.

    :param account: whose fault it is; None if their own instant has passed.
    """

    pks: Sequence[int]
    now: float
    account: Closed | None = None

    @property
    def ended(self) -> Doom:
        if self.account is None:
            return OVERDUE
        return Doom(RecipientState.EXPIRED, EventKind.EXPIRED, self.account.reason)


class Expiry:
    """
    The background work that ends what is overdue.

    What waits for a closed account is looked through once after each attempt to reach it.
    """

    def __init__(self) -> None:
        self._seen: dict[int, float] = {}
        self.step = Step(self._find, alone(end))

    def _find(self, cursor: Any, now: float, options: Any) -> Overdue | None:
        late = [row[0] for row in cursor.execute(_LATE.sql, (now, ENDED))]
        if late:
            return Overdue(late, now)
        closed = [Closed(*row) for row in cursor.execute(_CLOSED.sql, (now,)).fetchall()]
        self._seen = {each.pk: self._seen[each.pk] for each in closed if each.pk in self._seen}
        for account in closed:
            if self._seen.get(account.pk) == account.tried:
                continue
            if pks := list(_aged(cursor, account, options.fault_max_age_seconds)):
                return Overdue(pks, now, account)
            self._seen[account.pk] = account.tried
        return None


def _aged(cursor: Any, account: Closed, fault_age: float) -> Iterator[int]:
    """What of its mail will be too old at the next attempt, and was due at the last one."""
    left = ENDED
    newest = Names.floor(account.until - fault_age + 1.0)
    for lane, paused in cursor.execute(_LANES.sql, (account.pk,)).fetchall():
        values = (lane, account.tried, newest, paused, fault_age, account.until, left)
        for (pk,) in cursor.execute(_AGED.sql, values).fetchall():
            left -= 1
            yield pk
        if not left:
            return


def end(tx: Transaction, found: Overdue) -> int:
    """What was claimed, changed or finished meanwhile is left alone, as is what others end."""
    subjects = outcomes.subjects(tx, _still(tx, found))
    flags = {
        row[0]: row[1] for row in tx.all(sql.LANES_OF, numbers(s.lane for s in subjects.values()))
    }
    records = [
        outcomes.end_open(subject, found.ended, found.now)
        for subject in subjects.values()
        if doom(flags[subject.lane]) is None
        and subject.lease_token is None
        and not subject.intent
        and subject.finished_at is None
    ]
    outcomes.settle(tx, subjects, records)
    tx.stale.update(subjects[record.pk].lane for record in records)
    return len(records)


def _still(tx: Transaction, found: Overdue) -> list[int]:
    closed = found.account
    if closed is None:
        rows = tx.all(_STILL_LATE, numbers(found.pks), found.now)
    else:
        account = tx.one(sql.ACCOUNT_VERSION, closed.pk)
        if account is None or account[1] != closed.until:
            return []  # it was changed, works again, or is tried at this moment
        rows = tx.all(_STILL_WAITING, numbers(found.pks), closed.tried)
    return [row[0] for row in rows]
