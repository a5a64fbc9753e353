"""The keys of tenants: what is kept of them, and which of them are good."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import msgspec
from sqlalchemy import delete, func, insert, select, update

from mailproxy.store import statements_intake as sqi
from mailproxy.store.compiling import LIMIT, columns, compiled, const, p
from mailproxy.store.schema_tenants import api_keys
from mailproxy.store.transaction import Transaction
from mailproxy.store.works import alone, copied
from mailproxy.tenancy import MAX_KEYS, ApiKey, Scope, TooManyKeys

_c = api_keys.c
_STORED = columns(api_keys)

_live = _c.expires_at.is_(None) | (_c.expires_at > p("now"))

_ADD = compiled(insert(api_keys).values({name: p(name) for name in _STORED}), *_STORED)
_SAME = compiled(
    select(_c.hash).where(
        (_c.hash == p("hash")) | (_c.tenant_id == p("tenant")) & (_c.prefix == p("prefix"))
    ),
    "hash",
    "tenant",
    "prefix",
)
_GOOD = compiled(
    select(api_keys).where(_live).order_by(_c.tenant_id, _c.created_at, _c.hash), "now"
)
#: Those used last first.
_BY_USE = compiled(
    select(_c.hash)
    .where(_c.tenant_id == p("tenant"), _live, _c.hash != p("hash"))
    .order_by(func.coalesce(_c.used_at, _c.created_at).desc(), _c.created_at.desc()),
    "tenant",
    "now",
    "hash",
)
_END = compiled(delete(api_keys).where(_c.hash == p("hash")), "hash")
_END_ALL = compiled(
    delete(api_keys).where(_c.tenant_id == p("tenant")).returning(_c.expires_at), "tenant"
)
_END_PREFIX = compiled(
    delete(api_keys)
    .where(_c.tenant_id == p("tenant"), _c.prefix == p("prefix"))
    .returning(_c.expires_at),
    "tenant",
    "prefix",
)
_USED = compiled(
    update(api_keys)
    .values(used_at=p("at"))
    .where(_c.hash == p("hash"), func.coalesce(_c.used_at, const("0")) < p("before")),
    "at",
    "hash",
    "before",
)
_EXPIRED = compiled(
    select(_c.hash).where(_c.expires_at <= p("now")).suffix_with(LIMIT), "now", "limit"
)


def _key(row: Any) -> ApiKey:
    values = dict(zip(_STORED, row, strict=True))
    values["scopes"] = frozenset(map(Scope, msgspec.json.decode(values["scopes"])))
    values["networks"] = tuple(msgspec.json.decode(values["networks"]))
    values["test"] = bool(values["test"])
    return ApiKey(**values)


def _row(key: ApiKey) -> tuple[Any, ...]:
    values = attrs.asdict(key, recurse=False)
    values["scopes"] = msgspec.json.encode(sorted(key.scopes)).decode()
    values["networks"] = msgspec.json.encode(key.networks).decode()
    return tuple(values[name] for name in _STORED)


@attrs.frozen
class Addition:
    key: ApiKey
    now: float
    replace: bool = False


def add_key(tx: Transaction, call: Addition) -> None:
    """
    :raises ValueError: there is no such tenant, or it is being deleted.
    :raises TooManyKeys: there is a key with its hash, or its prefix for the same tenant.
    """
    key = call.key
    tenant = tx.one(sqi.TENANT_ACTIVE, key.tenant_id)
    if tenant is None or tenant[1] is not None:
        raise ValueError("tenant not found")
    if call.replace:
        tx.all(_END_ALL, key.tenant_id)
    if tx.one(_SAME, key.hash, key.tenant_id, key.prefix) is not None:
        raise TooManyKeys("there is a key like this already")
    tx.do(_ADD, *_row(key))
    others = tx.all(_BY_USE, key.tenant_id, call.now, key.hash)
    tx.many(_END, others[MAX_KEYS - 1 :])


@attrs.frozen
class Revocation:
    """:param prefix: None for all keys of the tenant."""

    tenant_id: str
    prefix: str | None
    now: float


def revoke_keys(tx: Transaction, call: Revocation) -> int:
    """:return: how many good keys ended."""
    if call.prefix is None:
        ended = tx.all(_END_ALL, call.tenant_id)
    else:
        ended = tx.all(_END_PREFIX, call.tenant_id, call.prefix)
    return sum(until is None or until > call.now for (until,) in ended)


def keys_used(tx: Transaction, used: Mapping[bytes, float]) -> None:
    tx.many(_USED, [(at, name, at) for name, at in used.items()])


def good(cursor: Any, now: float) -> list[ApiKey]:
    """All that have neither ended nor expired, by tenant and age."""
    return [_key(row) for row in cursor.execute(_GOOD.sql, (now,))]


# --- background work -----------------------------------------------------------------------------

#: Keys removed in one transaction.
STEP = 500


def expired(cursor: Any, now: float, _options: Any) -> list[Any]:
    return list(cursor.execute(_EXPIRED.sql, (now, STEP)))


def drop(tx: Transaction, found: list[Any]) -> int:
    tx.many(_END, found)
    return len(found)


ADD = copied(add_key)
REVOKE = copied(revoke_keys)
USED = alone(keys_used)
DROP = alone(drop)
