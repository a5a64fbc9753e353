"""
Rate limits as rows: each limit of an account or a tenant is one, with its window.

Declared and shown here, and emptied when nothing in them counts any more; what passes them is
counted in :mod:`mailproxy.store.limits`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import attrs
import msgspec
from sqlalchemy import and_, delete, select, update

from mailproxy.limits import Use, Window
from mailproxy.store import statements as sql
from mailproxy.store.compiling import LIMIT, compiled, const, inserting, listed, p
from mailproxy.store.retention import Found
from mailproxy.store.schema import ACCOUNT_LIMITED, TENANT_LIMITED, accounts, lanes, rates
from mailproxy.store.transaction import Transaction, numbers
from mailproxy.store.works import alone

#: Stands for the account in the key of a limit of the tenant itself.
OF_TENANT = 0

#: Windows emptied in one transaction.
STEP = 100

_c, _l, _a = rates.c, lanes.c, accounts.c

_ANY = compiled(select(_c.pk).suffix_with("LIMIT 1"))
_LOADED = (_c.pk, _c.tenant_id, _c.account_pk, _c.seconds, _c.most, _c.used, _c.until)
#: On a server the rows stay locked until the commit; SQLite has one writer.
_LOCKED = compiled(
    select(*_LOADED)
    .where(
        _c.tenant_id.in_(listed("tenants")),
        _c.account_pk.in_(listed("accounts")),
    )
    .order_by(_c.tenant_id, _c.account_pk, _c.seconds)
    .with_for_update(),
    "tenants",
    "accounts",
)
SHUT = compiled(update(rates).values(until=p("when")).where(_c.pk == p("rate")), "when", "rate")
_UNFLAG_TENANT = compiled(
    update(lanes)
    .values(blocked=_l.blocked.op("&")(const(str(~TENANT_LIMITED))))
    .where(_l.tenant_id == p("tenant")),
    "tenant",
)
_WAITING = compiled(
    select(_l.account_pk)
    .distinct()
    .where(_l.tenant_id == p("tenant"), _l.blocked == const("0"), _l.due_at <= p("now")),
    "tenant",
    "now",
)

_ADD = inserting(rates, ("pk", "tenant_id", "account_pk", "seconds", "most"))
_SET = compiled(update(rates).values(most=p("most")).where(_c.pk == p("rate")), "most", "rate")
_DROP = compiled(delete(rates).where(_c.pk.in_(listed())), "pks")
_DROP_ACCOUNT = compiled(
    delete(rates).where(_c.tenant_id == p("tenant"), _c.account_pk == p("account")),
    "tenant",
    "account",
)

_SHOWN = (
    select(*_LOADED, _a.id)
    .select_from(rates.outerjoin(accounts, _a.pk == _c.account_pk))
    .order_by(_c.tenant_id, _c.account_pk, _c.seconds)
)
_ALL = compiled(_SHOWN)
_OF = compiled(_SHOWN.where(_c.tenant_id == p("tenant")), "tenant")

_CLOSED = compiled(select(_c.tenant_id, _c.account_pk, _c.until).where(_c.until.is_not(None)))
#: An account that waits for its tenant; its claim opens the tenant.
_ONE_OF = compiled(
    select(_l.account_pk)
    .select_from(lanes.join(accounts, _a.pk == _l.account_pk))
    .where(
        _l.tenant_id == p("tenant"),
        _l.blocked.op("&")(const(str(TENANT_LIMITED))) != const("0"),
        _a.deleted_at.is_(None),
    )
    .suffix_with("LIMIT 1"),
    "tenant",
)

_OLD = compiled(select(_c.pk).where(_c.clear_at <= p("now")).suffix_with(LIMIT), "now", "limit")
_EMPTY = compiled(
    update(rates)
    .values(used=const("'[]'"), clear_at=const("NULL"))
    .where(and_(_c.clear_at <= p("now"), _c.pk.in_(listed()))),
    "now",
    "pks",
)

_entries = msgspec.json.Decoder(tuple[tuple[float, int], ...])

Scope = tuple[str, int]


@attrs.define
class Rate:
    """One limit and its window, as a transaction found them, and goes on to change them."""

    pk: int
    scope: Scope
    window: Window
    until: float | None

    @property
    def of_tenant(self) -> bool:
        return self.scope[1] == OF_TENANT


def _rate(row: Any) -> Rate:
    pk, tenant_id, account_pk, seconds, most, used, until = row
    return Rate(pk, (tenant_id, account_pk), Window(seconds, most, _entries.decode(used)), until)


def any_stored(tx: Transaction) -> bool:
    """Whether anything in the store is limited; looked up once a transaction."""
    if tx.limiting is None:
        tx.limiting = tx.one(_ANY) is not None
    return tx.limiting


def locked(tx: Transaction, owners: Collection[Scope]) -> dict[Scope, list[Rate]]:
    """The limits that mail of these (tenant, account) has to pass, by whose they are."""
    found: dict[Scope, list[Rate]] = {}
    tenants = msgspec.json.encode(sorted({tenant for tenant, _ in owners})).decode()
    pks = numbers(sorted({OF_TENANT, *(account for _, account in owners)}))
    for row in tx.all(_LOCKED, tenants, pks):
        rate = _rate(row)
        found.setdefault(rate.scope, []).append(rate)
    return found


def reopen(tx: Transaction, shut: Iterable[Rate]) -> None:
    for rate in shut:
        tx.do(SHUT, None, rate.pk)


def unflag_tenant(tx: Transaction, tenant_id: str, now: float) -> None:
    tx.do(_UNFLAG_TENANT, tenant_id)
    tx.due.update(row[0] for row in tx.all(_WAITING, tenant_id, now))


# --- declared -------------------------------------------------------------------------------------


def declare(tx: Transaction, scope: Scope, wanted: Mapping[int, int], now: float) -> None:
    """
    These are the limits from now on, most messages by seconds; what was counted stays.

    What was closed is opened: whether there is room is found at the next claim.
    """
    found = {rate.window.seconds: rate for rate in locked(tx, {scope}).get(scope, ())}
    gone = [rate.pk for seconds, rate in found.items() if seconds not in wanted]
    if gone:
        tx.do(_DROP, numbers(gone))
    for seconds, most in wanted.items():
        if seconds in found:
            tx.do(_SET, most, found[seconds].pk)
        else:
            tx.do(_ADD, tx.names.pk(now), *scope, seconds, most)
    tx.limiting = None
    if not any(rate.until is not None for rate in found.values()):
        return
    reopen(tx, found.values())
    if scope[1] == OF_TENANT:
        unflag_tenant(tx, scope[0], now)
    else:
        tx.do(sql.FLAG_OFF, ~ACCOUNT_LIMITED, scope[1])


def drop_account(tx: Transaction, tenant_id: str, account_pk: int) -> None:
    """The account was deleted."""
    tx.do(_DROP_ACCOUNT, tenant_id, account_pk)


# --- seen -----------------------------------------------------------------------------------------


def shown(cursor: Any, tenant_id: str | None, now: float) -> list[Use]:
    """How far each limit of a tenant, or of all, is used."""
    rows = cursor.execute(_ALL.sql) if tenant_id is None else cursor.execute(_OF.sql, (tenant_id,))
    found = []
    for *row, account_id in rows.fetchall():
        rate = _rate(row)
        window = rate.window.at(now)
        found.append(
            Use(
                rate.scope[0],
                account_id or "",
                window.seconds,
                window.most,
                window.used,
                window.opens_at,
            )
        )
    return found


def closed(cursor: Any, now: float) -> tuple[list[int], list[float]]:
    """Accounts whose claim is to open what was closed, and when others are."""
    until: dict[Scope, float] = {}
    for tenant_id, account_pk, when in cursor.execute(_CLOSED.sql):
        scope = (tenant_id, account_pk)
        until[scope] = max(when, until.get(scope, when))
    due: list[int] = []
    for (tenant_id, account_pk), when in until.items():
        if when > now:
            continue
        if account_pk == OF_TENANT:
            due += (row[0] for row in cursor.execute(_ONE_OF.sql, (tenant_id,)))
        else:
            due.append(account_pk)
    return due, [when for when in until.values() if when > now]


# --- upkeep ---------------------------------------------------------------------------------------


def old(cursor: Any, now: float, _options: Any) -> Found:
    """Windows in which nothing counts any more."""
    return Found([row[0] for row in cursor.execute(_OLD.sql, (now, STEP))], now)


def forget(tx: Transaction, found: Found) -> int:
    return tx.do(_EMPTY, found.now, numbers(found.pks))


FORGET = alone(forget)
