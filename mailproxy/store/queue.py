"""Claim, intent and release: how messages leave the queue for an attempt, and come back unused."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

import attrs

from mailproxy.model import Claimed, Recipient
from mailproxy.states import MessageState, RecipientState
from mailproxy.store import asking, bodies, destinations, limits, outcomes, rates
from mailproxy.store import statements as sql
from mailproxy.store.asking import Claim, Intents
from mailproxy.store.doom import OVERDUE
from mailproxy.store.lane_flags import pause
from mailproxy.store.schema import ACCOUNT_PARKED
from mailproxy.store.texts import joined
from mailproxy.store.transaction import Transaction, numbers
from mailproxy.store.works import Kind, alone

#: How many messages of paused domains one claim puts aside, roughly.
ASIDE = 250

_QUEUED = MessageState.QUEUED.value
_DEFERRED = MessageState.DEFERRED.value
_IN_FLIGHT = MessageState.IN_FLIGHT.value
_RECIPIENT_STATES = {state.value: state for state in RecipientState}


def claim(tx: Transaction, call: Claim) -> list[Claimed]:
    if call.limit < 1:
        return []
    lanes = _Lanes(tx, call, call.limit)
    found = tx.each(*asking.questions(call))
    account = next(found)
    if not account:
        return []
    ((version, blocked_until, tenant_id, parked),) = account
    gate = limits.gate(tx, tenant_id, call.account_pk, call.now)
    changed = gate is not None or blocked_until is not None
    if gate is not None:
        gate.open()
        if call.spill:
            gate = gate.of_tenant_only()
    if blocked_until is not None:
        if blocked_until > call.now:
            return []
        unblock(tx, call.account_pk)  # its probe is due: let this claim be it
    if not changed:
        lanes.found = next(found)
    paused = destinations.paused(tx, tenant_id)
    if gate is not None:
        claimed, aside = _through(tx, call, gate, version, paused)
    else:
        claimed, aside = _claimed_from(tx, lanes, version, paused)
    if aside:
        tx.due.add(call.account_pk)  # there may be more than was looked at
    if parked:
        claimed = [attrs.evolve(each, account_parked=True) for each in claimed]
    if call.oldest:
        return sorted(claimed, key=lambda each: (each.due_since, each.pk))
    return sorted(claimed, key=lambda each: (each.priority, each.due_since, each.pk))


def _claimed_from(
    tx: Transaction, lanes: _Lanes, version: int, domains: frozenset[str]
) -> tuple[list[Claimed], int]:
    """Claim, past what is put aside because all its domains are paused. :return: with its count."""
    claimed: list[Claimed] = []
    aside = 0
    while pks := lanes.heads():
        leased = lease(tx, pks, lanes.paused, version, domains)
        if any(each.not_after is not None for each in leased):
            leased = _in_time(tx, leased, lanes.call.now)
        claimed += leased
        aside += len(pks) - len(leased)
        lanes.recheck()
        lanes.limit -= len(leased)
        if len(leased) == len(pks) or aside >= ASIDE or not lanes.limit:
            break
    lanes.recheck()
    return claimed, aside


def _in_time(tx: Transaction, leased: Sequence[Claimed], now: float) -> list[Claimed]:
    """End those whose own time is over. :return: the others."""
    over = {each.pk for each in leased if each.not_after is not None and each.not_after <= now}
    if over:
        found = outcomes.subjects(tx, over)
        records = [outcomes.end_open(each, OVERDUE, now) for each in found.values()]
        outcomes.settle(tx, found, records)
    return [each for each in leased if each.pk not in over]


def _through(
    tx: Transaction, call: Claim, gate: limits.Gate, version: int, domains: frozenset[str]
) -> tuple[list[Claimed], int]:
    """Claim no more than may be begun; where that is nothing, put off or fail what is due."""
    room = min(call.limit, gate.room)
    if room:
        if call.oldest and room < call.limit:
            # What is urgent goes first where not all can go.
            urgent = attrs.evolve(call, oldest=False, urgent=True)
            claimed, aside = _claimed_from(tx, _Lanes(tx, urgent, room), version, domains)
            if claimed or aside:
                return claimed, aside
        return _claimed_from(tx, _Lanes(tx, call, room), version, domains)
    lanes = _Lanes(tx, call, call.limit)
    if gate.rejects():
        claimed, aside = _claimed_from(tx, lanes, version, domains)
        if claimed:
            gate.fail(claimed)
        return [], aside + len(claimed)
    waiting = lanes.heads()
    lanes.recheck()
    if waiting:
        gate.shut(len(waiting))
    return [], 0


def unblock(tx: Transaction, account_pk: int) -> None:
    """Take the flag of a parked account from its lanes."""
    tx.do(sql.FLAG_OFF, ~ACCOUNT_PARKED, account_pk)
    tx.do(sql.UNBLOCK_ACCOUNT, account_pk)


@attrs.define
class _Lanes:
    """The lanes of one account that have, or may have, something due."""

    tx: Transaction
    call: Claim
    limit: int
    #: What was found already.
    found: list[Any] | None = None
    #: Seconds of pause by lane, for the messages' age.
    paused: dict[int, float] = attrs.Factory(dict)
    looked_at: set[int] = attrs.Factory(set)

    def heads(self) -> list[int]:
        return self.oldest() if self.call.oldest else self.most_urgent()

    def recheck(self) -> None:
        """Make the due times of the lanes looked at exact."""
        for lane in self.looked_at:
            self.tx.recheck(lane)
        self.looked_at.clear()

    def most_urgent(self) -> list[int]:
        pks: list[int] = []
        for _, lane in self._due():
            pks += (pk for pk, _ in self._heads(lane, self.limit - len(pks)))
            if len(pks) == self.limit:
                break
        return pks

    def oldest(self) -> list[int]:
        """By due time over all lanes; a lane's own due time is a lower bound of its messages'."""
        best: list[tuple[float, int]] = []
        for due, lane in sorted(self._due()):
            if len(best) == self.limit and best[-1][0] < due:
                break
            best += ((when, pk) for pk, when in self._heads(lane, self.limit))
            best = sorted(best)[: self.limit]
        return [pk for _, pk in best]

    def _due(self) -> list[tuple[float, int]]:
        """Since when, and which lane: what is most urgent comes first."""
        found, self.found = self.found, None
        if found is None:
            statement, *values = asking.lanes_of(self.call, self.limit)
            found = self.tx.all(statement, *values)
        found.sort()
        self.paused.update((lane, paused) for _, _, lane, paused in found)
        return [(due, lane) for _, due, lane, _ in found]

    def _heads(self, lane: int, limit: int) -> list[tuple[int, float]]:
        self.looked_at.add(lane)
        return self.tx.all(sql.DUE_MESSAGES, lane, self.call.now, limit)


def lease(
    tx: Transaction,
    pks: Sequence[int],
    paused: dict[int, float],
    version: int,
    domains: frozenset[str] | None = None,
) -> list[Claimed]:
    """
    Give this node a fresh lease on each of *pks*.

    :param domains: those that are paused, to be left out; None to leave out who was left out
        before. What has no other recipient gets no lease.
    """
    token = tx.names.token()
    wanted = numbers(pks)
    tx.tell(sql.LEASE, tx.node_id, token, wanted)
    rows = bodies.leased(tx, len(pks), wanted)
    opened = [(row[0], *each) for row in rows for each in sorted(tx.rows(row[19]))]
    if domains is None:
        opened = [row for row in opened if not row[4]]
    elif domains or any(row[4] for row in opened):
        opened, aside = destinations.leave_out(tx, opened, domains)
        rows = [row for row in rows if row[0] not in aside]
    recipients: dict[int, list[Recipient]] = {pk: [] for pk in pks}
    for pk, n, address, state, _ in opened:
        recipients[pk].append(Recipient(n, address, _RECIPIENT_STATES[state]))
    claimed = [_claimed(row, token, recipients, paused, version) for row in rows]
    if any(each.uncertain for each in claimed):
        return _with_doubts(tx, claimed)
    return claimed


def _with_doubts(tx: Transaction, claimed: Sequence[Claimed]) -> list[Claimed]:
    """Say through which account went those of which nobody knows whether they were accepted."""
    doubted = numbers(each.pk for each in claimed if each.uncertain)
    accounts = dict(tx.all(sql.LAST_ACCOUNTS, doubted))
    return [
        attrs.evolve(each, doubted_at=accounts.get(each.pk, "")) if each.uncertain else each
        for each in claimed
    ]


def _claimed(
    row: Any,
    token: int,
    recipients: dict[int, list[Recipient]],
    paused: dict[int, float],
    version: int,
) -> Claimed:
    return Claimed(
        pk=row[0],
        token=token,
        tenant_id=row[1],
        id=row[2],
        generation=row[3],
        account_pk=row[4],
        priority=row[5],
        attempts=row[6],
        uncertain=row[7],
        accepted_at=float(row[8]),
        due_since=float(row[8] if row[9] is None else row[9]),
        expires_at=_ends(row[10] + paused.get(row[14], 0.0), row[18]),
        message_id=row[11],
        envelope_from=row[12],
        size=row[13],
        recipients=tuple(recipients[row[0]]),
        payload=None if row[20] is None or row[21] is None else joined(row[20], row[21]),
        account_version=version,
        fetches=row[17],
        not_after=row[18],
    )


def _ends(age: float, own: float | None) -> float:
    return age if own is None else min(age, own)


def begin(tx: Transaction, calls: Sequence[Intents]) -> list[list[bool]]:
    """The point of no return, for all the calls that wait, fenced by what is stored."""
    now = max(call.now for call in calls)
    refused = destinations.refused(tx, (pk for call in calls for pk, _ in call.pairs))
    for call in calls:
        if call.through is not None and not _fit(tx, *call.through, call.now):
            refused = refused.union(pk for pk, _ in call.pairs)
    asked = {(pk, token) for call in calls for pk, token in call.pairs if pk not in refused}
    statement, *values = asking.beginning(calls, refused)
    begun = {
        (row[0], row[4]): row for row in tx.grouped(statement, *values) if (row[0], row[4]) in asked
    }
    turnstile = _turnstile(tx, calls, begun, now)
    if turnstile is not None:
        begun = {key: row for key, row in begun.items() if row[0] not in turnstile.refused}
    if begun:
        tx.tell(sql.BEGIN, now, numbers(pk for pk, _ in begun))
    attempts: list[tuple[Any, ...]] = []
    answers: list[list[bool]] = []
    for call in calls:
        answer: list[bool] = []
        for pair in call.pairs:
            row = begun.pop((pair[0], pair[1]), None)
            answer.append(row is not None)
            if row is None:
                continue
            pk, lane, generation, before, token = row
            n = before + 1
            at = call.now
            if turnstile is not None and pk in turnstile.passes:
                at = turnstile.now
            attempts.append((pk, generation, n, token, tx.node_id, call.account, at))
            tx.moved(lane, _QUEUED if n == 1 else _DEFERRED, _IN_FLIGHT)
        answers.append(answer)
    tx.add(sql.ADD_ATTEMPT, attempts)
    if turnstile is not None:
        turnstile.count(attempt[0] for attempt in attempts)
    return answers


def _turnstile(
    tx: Transaction, calls: Sequence[Intents], begun: Container[tuple[int, int]], now: float
) -> limits.Turnstile | None:
    if not rates.any_stored(tx):
        return None
    pks: list[int] = []
    carriers: dict[int, int] = {}
    for call in calls:
        asked = [pair[0] for pair in call.pairs if tuple(pair) in begun]
        pks += asked
        if call.through is not None:
            carriers.update(dict.fromkeys(asked, call.through[0]))
    return limits.turnstile(tx, pks, carriers, now)


def _fit(tx: Transaction, pk: int, version: int, now: float) -> bool:
    """Whether the account *pk* may still carry the mail of others, as it was known."""
    account = tx.one(sql.ACCOUNT_VERSION, pk)
    if account is None or account[0] != version or tx.one(sql.ACCOUNT_HELD, pk)[0] is not None:
        return False
    return account[1] is None or bool(account[1] <= now)


def release(tx: Transaction, leases: Sequence[tuple[int, int]]) -> None:
    pairs = ",".join(f"[{pk},{token}]" for pk, token in leases)
    wanted = numbers(pk for pk, _ in leases)
    for lane, next_at, account_pk in tx.all(sql.RELEASE, f"[{pairs}]", wanted):
        tx.due_at(lane, next_at)
        tx.due.add(account_pk)


@attrs.frozen
class TakeOver:
    """Messages that dead nodes had leases on: those with an intent, and those without."""

    begun: Sequence[int]
    idle: Sequence[int]
    now: float


def take_over(tx: Transaction, call: TakeOver) -> list[Claimed]:
    for lane, next_at, account_pk in tx.all(sql.VOID, tx.node_id, numbers(call.idle)):
        tx.due_at(lane, next_at)
        tx.due.add(account_pk)
    if not call.begun:
        return []
    found = tx.all(sql.LANES_OF_MESSAGES, numbers(call.begun))
    paused = {row[0]: pause(row[1], row[2], call.now) for row in found}
    versions = {row[3]: tx.one(sql.ACCOUNT_VERSION, row[3]) for row in found}
    claimed = lease(tx, call.begun, paused, 0)
    return [
        attrs.evolve(each, account_version=version[0]) if version is not None else each
        for each in claimed
        for version in (versions[each.account_pk],)
    ]


CLAIM = alone(claim, "claim", asking.claims_ahead)
BEGIN: Kind[Intents, list[bool]] = Kind(
    begin, "intent", lambda call: len(call.pairs), asking.begins_ahead
)
RELEASE = alone(release)
TAKE_OVER = alone(take_over)
