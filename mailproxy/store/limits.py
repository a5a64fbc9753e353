"""
Rate limits: how much was handed over, kept in the store and so shared by all that send.

Each limit is one row with its window (:mod:`mailproxy.limits`): so a limit costs one row, whatever
passes through it. A message counts when its intent is stored, in the same transaction. The rows it
has to pass are locked, in the order of their keys, before they are read, and are read after that:
who comes second sees what the first has counted, also where several processes write.

A claim takes no more than there is room for. Where there is none, it closes the account: a flag on
its lanes, until the instant at which the window opens, so that what waits costs nothing; or, where
the account says so, it fails what it would have taken.

Where nothing in the store is limited, a group of claims or intents costs one look.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs
import msgspec
from sqlalchemy import select, update

from mailproxy.limits import exceeded, rejects
from mailproxy.model import Claimed, RecipientChange, Record
from mailproxy.states import EventKind, RecipientState
from mailproxy.store import outcomes
from mailproxy.store import statements as sql
from mailproxy.store.compiling import compiled, listed, p
from mailproxy.store.rates import (
    OF_TENANT,
    SHUT,
    Rate,
    Scope,
    any_stored,
    locked,
    reopen,
    unflag_tenant,
)
from mailproxy.store.schema import ACCOUNT_LIMITED, TENANT_LIMITED, accounts, messages, rates
from mailproxy.store.transaction import Limited, Transaction, numbers

_c, _m, _a = rates.c, messages.c, accounts.c

_OWNERS = compiled(
    select(_m.pk, _m.tenant_id, _m.account_pk).where(_m.pk.in_(listed())).order_by(_m.pk), "pks"
)
_COUNT = compiled(
    update(rates).values(used=p("used"), clear_at=p("clear")).where(_c.pk == p("rate")),
    "used",
    "clear",
    "rate",
)
_OPTIONS = compiled(select(_a.options).where(_a.pk == p("account")), "account")


# --- intent ---------------------------------------------------------------------------------------


@attrs.define
class Turnstile:
    """
    What the intents of one group have to pass.

    :param now: when they are counted: never before what was counted already.
    :param passes: the limits of each message that has some.
    :param scopes: the tenant of each message, and the account that carries it.
    :param refused: the messages for which there is no room.
    """

    tx: Transaction
    now: float
    passes: Mapping[int, Sequence[Rate]]
    scopes: Mapping[int, Scope]
    refused: set[int] = attrs.Factory(set)

    def count(self, begun: Iterable[int]) -> None:
        """These were handed over; write that down, and tell whose windows are full now."""
        counts: dict[int, int] = {}
        known: dict[int, Rate] = {}
        for pk in begun:
            for rate in self.passes.get(pk, ()):
                known[rate.pk] = rate
                counts[rate.pk] = counts.get(rate.pk, 0) + 1
        for pk, count in counts.items():
            known[pk].window = known[pk].window.take(count, self.now)
        for rate in known.values():
            used = msgspec.json.encode(rate.window.entries).decode()
            self.tx.do(_COUNT, used, self.now + rate.window.seconds, rate.pk)
        full: dict[Scope, float] = {}
        for pk, scope in self.scopes.items():
            until = _opens_at(self.passes.get(pk, ()))
            if until is not None:
                full[scope] = until
        for scope, until in full.items():
            _tell(self.tx, scope, 0, until)


def turnstile(
    tx: Transaction, pks: Sequence[int], carriers: Mapping[int, int], now: float
) -> Turnstile | None:
    """
    Reserve room for the messages *pks*, which may begin otherwise, in order and as far as there is.

    :param carriers: the account that carries a message, where that is not its own: its limits count
        then, beside those of the tenant.
    :return: None where none of them is limited.
    """
    owners = {pk: (tenant, account) for pk, tenant, account in tx.all(_OWNERS, numbers(pks))}
    scopes = {pk: (tenant, carriers.get(pk, account)) for pk, (tenant, account) in owners.items()}
    found = locked(tx, set(scopes.values()))
    if not found:
        return None
    every = [rate for each in found.values() for rate in each]
    for rate in every:
        rate.window = rate.window.at(now)
    now = max(now, *(rate.window.latest for rate in every))
    for rate in every:
        rate.window = rate.window.at(now)
    passes = {pk: _passes(found, scopes[pk]) for pk in owners}
    made = Turnstile(tx, now, {pk: its for pk, its in passes.items() if its}, scopes)
    room = {rate.pk: rate.window.room for rate in every}
    for pk in pks:
        its = made.passes.get(pk, ())
        if all(room[rate.pk] for rate in its):
            for rate in its:
                room[rate.pk] -= 1
        else:
            made.refused.add(pk)
    return made


def _passes(found: Mapping[Scope, list[Rate]], scope: Scope) -> list[Rate]:
    return [*found.get((scope[0], OF_TENANT), ()), *found.get(scope, ())]


def _opens_at(passes: Iterable[Rate]) -> float | None:
    """When there is room in all of them; None: there is now."""
    when = [opens for rate in passes if (opens := rate.window.opens_at) is not None]
    return max(when, default=None)


# --- claim ----------------------------------------------------------------------------------------


@attrs.define
class Gate:
    """What a claim of one account finds of the limits its mail has to pass."""

    tx: Transaction
    scope: Scope
    rates: Sequence[Rate]
    now: float

    @property
    def room(self) -> int:
        return min(rate.window.room for rate in self.rates)

    def open(self) -> None:
        """Take the flags off where there is room again."""
        tenant_id, account_pk = self.scope
        for of_tenant in (False, True):
            its = [rate for rate in self.rates if rate.of_tenant is of_tenant]
            shut = [rate for rate in its if rate.until is not None]
            if not shut or any(not rate.window.room for rate in its):
                continue
            reopen(self.tx, shut)
            if of_tenant:
                unflag_tenant(self.tx, tenant_id, self.now)
            else:
                self.tx.do(sql.FLAG_OFF, ~ACCOUNT_LIMITED, account_pk)

    def of_tenant_only(self) -> Gate | None:
        """The same without the account's own limits: others carry what they leave no room for."""
        own = [rate for rate in self.rates if not rate.of_tenant and rate.until is not None]
        if own:
            reopen(self.tx, own)
            self.tx.do(sql.FLAG_OFF, ~ACCOUNT_LIMITED, self.scope[1])
        left = [rate for rate in self.rates if rate.of_tenant]
        return Gate(self.tx, self.scope, left, self.now) if left else None

    def shut(self, count: int) -> None:
        """Close the account until the windows open: *count* messages and more are put off."""
        for rate in self.rates:
            opens = rate.window.opens_at
            if opens is None:
                continue
            self.tx.do(SHUT, opens, rate.pk)
            flag = TENANT_LIMITED if rate.of_tenant else ACCOUNT_LIMITED
            self.tx.do(sql.FLAG_ON, flag, self.scope[1])
        self._tell(count)

    def rejects(self) -> bool:
        """Whether messages of the account fail at a limit."""
        found = self.tx.one(_OPTIONS, self.scope[1])
        return rejects(msgspec.json.decode(found[0] or "{}"))

    def fail(self, claimed: Sequence[Claimed]) -> None:
        """End the messages that were claimed: there is no room for them."""
        full = max(
            (rate for rate in self.rates if not rate.window.room),
            key=lambda rate: rate.window.opens_at or 0.0,
        )
        reason = exceeded(full.window.seconds, of_tenant=full.of_tenant)
        records = [_failed(each, reason, self.now) for each in claimed]
        outcomes.settle(self.tx, outcomes.subjects(self.tx, (each.pk for each in claimed)), records)
        self._tell(len(claimed))

    def _tell(self, count: int) -> None:
        until = _opens_at(self.rates)
        assert until is not None, "there is no room"
        _tell(self.tx, self.scope, count, until)


def gate(tx: Transaction, tenant_id: str, account_pk: int, now: float) -> Gate | None:
    """What stands before the mail of an account; None where it is not limited."""
    if not any_stored(tx):
        return None
    scope = (tenant_id, account_pk)
    passes = _passes(locked(tx, {scope}), scope)
    if not passes:
        return None
    for rate in passes:
        rate.window = rate.window.at(now)
    return Gate(tx, scope, passes, now)


def _failed(claimed: Claimed, reason: str, now: float) -> Record:
    return Record(
        pk=claimed.pk,
        token=claimed.token,
        attempt=0,
        kind=EventKind.FAILED,
        changes=tuple(
            RecipientChange(each.n, RecipientState.FAILED, reply=reason)
            for each in claimed.recipients
        ),
        next_at=None,
        at=now,
        reason=reason,
    )


def _tell(tx: Transaction, scope: Scope, count: int, until: float) -> None:
    tenant_id, account_pk = scope
    account_id = tx.account_id(account_pk) if count else ""
    tx.limited.append(Limited(tenant_id, account_pk, account_id, count, until))
