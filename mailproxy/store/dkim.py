"""The keys that sign mail, as rows; the private half is sealed in them."""

from __future__ import annotations

from typing import Any

import attrs
from sqlalchemy import delete, func, insert, select, update

from mailproxy.crypto import Sealer
from mailproxy.dkim_keys import (
    MAX_SELECTORS,
    Algorithm,
    DkimKey,
    DkimKeyExists,
    TooManyDkimKeys,
)
from mailproxy.store import statements_intake as sqi
from mailproxy.store.compiling import columns, compiled, const, p
from mailproxy.store.schema_tenants import dkim_keys
from mailproxy.store.sealed import again, opened
from mailproxy.store.transaction import Transaction
from mailproxy.store.works import copied

_c = dkim_keys.c
_STORED = columns(dkim_keys)
_KEY = ("tenant", "domain", "selector")

_of_domain = (_c.tenant_id == p("tenant"), _c.domain == p("domain"))
_one = (*_of_domain, _c.selector == p("selector"))

_ADD = compiled(insert(dkim_keys).values({name: p(name) for name in _STORED}), *_STORED)
_FIND = compiled(select(_c.algorithm).where(*_one), *_KEY)
_COUNT = compiled(select(func.count()).select_from(dkim_keys).where(*_of_domain), *_KEY[:2])
_ALL = compiled(select(dkim_keys).order_by(_c.tenant_id, _c.domain, _c.created_at, _c.selector))
_DROP = compiled(delete(dkim_keys).where(*_one), *_KEY)
#: When the tenant is deleted.
DROP_ALL = compiled(delete(dkim_keys).where(_c.tenant_id == p("tenant")), "tenant")
_SET = compiled(update(dkim_keys).values(active=p("active")).where(*_one), "active", *_KEY)
_REST = compiled(
    update(dkim_keys)
    .values(active=const("0"))
    .where(*_of_domain, _c.algorithm == p("algorithm"), _c.selector != p("selector")),
    "tenant",
    "domain",
    "algorithm",
    "selector",
)
_SEALED = compiled(select(_c.tenant_id, _c.domain, _c.selector, _c.private))
_SEALED_ONE = compiled(select(_c.private).where(*_one), *_KEY)
_SET_SEALED = compiled(update(dkim_keys).values(private=p("sealed")).where(*_one), "sealed", *_KEY)


@attrs.frozen
class Addition:
    """:param sealed: the private half of *key*."""

    key: DkimKey
    sealed: str = attrs.field(repr=False)


def add(tx: Transaction, call: Addition) -> None:
    """
    :raises ValueError: there is no such tenant, or it is being deleted.
    :raises DkimKeyExists, TooManyDkimKeys: see ``ISigningKeys.add_dkim_key``.
    """
    key = call.key
    tenant = tx.one(sqi.TENANT_ACTIVE, key.tenant_id)
    if tenant is None or tenant[1] is not None:
        raise ValueError("tenant not found")
    if tx.one(_FIND, key.tenant_id, key.domain, key.selector) is not None:
        raise DkimKeyExists("there is a key with this selector already")
    count = tx.one(_COUNT, key.tenant_id, key.domain)
    if count is not None and count[0] >= MAX_SELECTORS:
        raise TooManyDkimKeys(f"there are {MAX_SELECTORS} keys for this domain already")
    values = {**attrs.asdict(key), "private": call.sealed}
    tx.do(_ADD, *(values[name] for name in _STORED))
    if key.active:
        tx.do(_REST, key.tenant_id, key.domain, key.algorithm, key.selector)


@attrs.frozen
class Switch:
    tenant_id: str
    domain: str
    selector: str
    active: bool


def switch(tx: Transaction, call: Switch) -> bool:
    row = tx.one(_FIND, call.tenant_id, call.domain, call.selector)
    if row is None:
        return False
    tx.do(_SET, call.active, call.tenant_id, call.domain, call.selector)
    if call.active:
        tx.do(_REST, call.tenant_id, call.domain, row[0], call.selector)
    return True


@attrs.frozen
class Removal:
    tenant_id: str
    domain: str
    selector: str


def drop(tx: Transaction, call: Removal) -> bool:
    return bool(tx.do(_DROP, call.tenant_id, call.domain, call.selector))


def listed(cursor: Any, sealer: Sealer) -> list[DkimKey]:
    """All, with their private halves in the clear."""
    return [_loaded(row, sealer) for row in cursor.execute(_ALL.sql)]


def _loaded(row: Any, sealer: Sealer) -> DkimKey:
    values = dict(zip(_STORED, row, strict=True))
    owner = f"tenant {values['tenant_id']}, DKIM key {values['selector']} of {values['domain']}"
    values["private"] = opened(sealer, values["private"], owner)
    values["algorithm"] = Algorithm(values["algorithm"])
    values["active"] = bool(values["active"])
    return DkimKey(**values)


# --- a new encryption key ------------------------------------------------------------------------


def sealed(cursor: Any) -> list[tuple[tuple[str, str, str], str]]:
    """What identifies each key, and its private half as it is in the row."""
    return [
        ((tenant, domain, selector), private)
        for tenant, domain, selector, private in cursor.execute(_SEALED.sql)
    ]


def seal_again(tx: Transaction, name: tuple[str, str, str], sealer: Sealer) -> None:
    """Nothing, where it was removed meanwhile."""
    if (row := tx.one(_SEALED_ONE, *name)) is not None:
        tx.do(_SET_SEALED, again(sealer, row[0]), *name)


ADD = copied(add)
SWITCH = copied(switch)
DROP = copied(drop)
