"""Addresses that get no mail of a tenant: listed by hand, in bulk, or because they were refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import msgspec
from sqlalchemy import delete, insert, select

from mailproxy.store.compiling import LIMIT, columns, compiled, listed, p
from mailproxy.store.schema_tenants import suppressions, tenants
from mailproxy.store.transaction import Transaction
from mailproxy.store.works import alone
from mailproxy.tenancy import Suppression

_c = suppressions.c

#: Entries that one transaction writes.
STEP = 500

_ADD = compiled(
    insert(suppressions)
    .values({name: p(name) for name in columns(suppressions)})
    .prefix_with("OR IGNORE"),
    *columns(suppressions),
)
_DROP = compiled(
    delete(suppressions).where(_c.tenant_id == p("tenant"), _c.address.in_(listed("addresses"))),
    "tenant",
    "addresses",
)
_ANY = compiled(
    select(_c.address).where(_c.tenant_id == p("tenant")).suffix_with("LIMIT 1"), "tenant"
)
_AMONG = compiled(
    select(suppressions)
    .where(_c.tenant_id == p("tenant"), _c.address.in_(listed("addresses")))
    .order_by(_c.address),
    "tenant",
    "addresses",
)
_PAGE = compiled(
    select(suppressions)
    .where(_c.tenant_id == p("tenant"), _c.address > p("after"))
    .order_by(_c.address)
    .suffix_with(LIMIT),
    "tenant",
    "after",
    "limit",
)
_PAGE_OF_ALL = compiled(
    select(suppressions)
    .where(_c.tenant_id > p("tenant"))
    .order_by(_c.tenant_id, _c.address)
    .suffix_with(LIMIT),
    "tenant",
    "limit",
)
_WANTED = compiled(select(tenants.c.suppress_refused).where(tenants.c.id == p("tenant")), "tenant")


def any_of(tx: Transaction, tenant_id: str) -> bool:
    """Whether the tenant has a list; looked up once a transaction."""
    known = tx.suppressing.get(tenant_id)
    if known is None:
        known = tx.suppressing[tenant_id] = tx.one(_ANY, tenant_id) is not None
    return known


def among(tx: Transaction, addresses: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those of *addresses* (tenant, address) that are listed."""
    asked: dict[str, list[str]] = {}
    for tenant_id, address in addresses:
        asked.setdefault(tenant_id, []).append(address)
    return {
        (tenant_id, row[1])
        for tenant_id, names in asked.items()
        if any_of(tx, tenant_id)
        for row in tx.all(_AMONG, tenant_id, _json(names))
    }


def _json(names: Sequence[str]) -> str:
    return msgspec.json.encode(list(names)).decode()


# --- the list itself ------------------------------------------------------------------------------


def suppress(tx: Transaction, entries: Sequence[Suppression]) -> int:
    return sum(tx.do(_ADD, *attrs.astuple(each)) for each in entries)


@attrs.frozen
class Lifted:
    tenant_id: str
    addresses: Sequence[str]


def unsuppress(tx: Transaction, call: Lifted) -> int:
    return tx.do(_DROP, call.tenant_id, _json(call.addresses))


def page(
    cursor: Any, tenant_id: str | None, after: tuple[str, str] | None, limit: int
) -> list[Suppression]:
    """By tenant and address, beginning behind the pair *after*."""
    first, behind = after if after is not None else (tenant_id or "", "")
    rows = []
    if tenant_id in (None, first):
        rows = cursor.execute(_PAGE.sql, (first, behind, limit)).fetchall()
    if tenant_id is None and len(rows) < limit:
        rows += cursor.execute(_PAGE_OF_ALL.sql, (first, limit - len(rows))).fetchall()
    return [Suppression(*row) for row in rows]


def found(cursor: Any, tenant_id: str, addresses: Sequence[str]) -> list[Suppression]:
    rows = cursor.execute(_AMONG.sql, (tenant_id, _json(addresses)))
    return [Suppression(*row) for row in rows]


# --- entries that come by themselves --------------------------------------------------------------

#: RFC 3463: of the statuses about addresses these two are about the sender's.
_SENDERS = frozenset({"5.1.7", "5.1.8"})


def refused_for_good(code: int | None, enhanced: str | None) -> bool:
    """Whether a reply says that there is no such recipient, and that there will be none."""
    if code is None or enhanced is None or not 500 <= code <= 599:
        return False
    return enhanced.startswith("5.1.") and enhanced not in _SENDERS


def enter(tx: Transaction, refused: Sequence[Suppression]) -> None:
    """List *refused*, those of tenants that want it."""
    wanting = {
        tenant_id: tx.one(_WANTED, tenant_id) for tenant_id in {each.tenant_id for each in refused}
    }
    suppress(
        tx, [each for each in refused if (row := wanting[each.tenant_id]) is not None and row[0]]
    )


SUPPRESS = alone(suppress)
UNSUPPRESS = alone(unsuppress)
