"""Credentials for handing mail in by SMTP, as they are kept."""

from __future__ import annotations

from typing import Any

import attrs
import msgspec
from sqlalchemy import delete, func, insert, select, update

from mailproxy.store import statements_intake as sqi
from mailproxy.store.compiling import columns, compiled, p
from mailproxy.store.schema_tenants import submitters, tenants
from mailproxy.store.transaction import Transaction
from mailproxy.store.works import copied
from mailproxy.submitters import MAX_SUBMITTERS, Submitter, TooManySubmitters, UserTaken

_c = submitters.c
_STORED = columns(submitters)
_CHANGED = tuple(name for name in _STORED if name not in ("user", "tenant_id", "created_at"))

_ADD = compiled(insert(submitters).values({name: p(name) for name in _STORED}), *_STORED)
_CHANGE = compiled(
    update(submitters)
    .values({name: p(f"v_{name}") for name in _CHANGED})
    .where(_c.user == p("user")),
    *(f"v_{name}" for name in _CHANGED),
    "user",
)
_ONE = compiled(select(submitters).where(_c.user == p("user")), "user")
_COUNT = compiled(
    select(func.count()).select_from(submitters).where(_c.tenant_id == p("tenant")), "tenant"
)
_DROP = compiled(
    delete(submitters).where(_c.user == p("user"), _c.tenant_id == p("tenant")), "user", "tenant"
)
DROP_ALL = compiled(delete(submitters).where(_c.tenant_id == p("tenant")), "tenant")
_ALL = compiled(
    select(submitters)
    .select_from(submitters.join(tenants, tenants.c.id == _c.tenant_id))
    .where(tenants.c.deleted_at.is_(None))
    .order_by(_c.user)
)


def _row(submitter: Submitter) -> dict[str, Any]:
    values = attrs.asdict(submitter, recurse=False)
    for name in ("senders", "networks"):
        values[name] = msgspec.json.encode(values[name]).decode()
    return values


def _submitter(row: Any) -> Submitter:
    values = dict(zip(_STORED, row, strict=True))
    for name in ("senders", "networks"):
        values[name] = tuple(msgspec.json.decode(values[name]))
    values["active"] = bool(values["active"])
    return Submitter(**values)


@attrs.frozen
class Put:
    submitter: Submitter
    now: float


def put(tx: Transaction, call: Put) -> Submitter:
    """
    :raises ValueError: there is no such tenant, or it is being deleted.
    :raises UserTaken: another tenant has the user name.
    :raises TooManySubmitters: the tenant has as many as it may have.
    """
    given = call.submitter
    tenant = tx.one(sqi.TENANT_ACTIVE, given.tenant_id)
    if tenant is None or tenant[1] is not None:
        raise ValueError("tenant not found")
    found = tx.one(_ONE, given.user)
    if found is None:
        (count,) = tx.one(_COUNT, given.tenant_id)
        if count >= MAX_SUBMITTERS:
            raise TooManySubmitters(f"the tenant has {count} credentials already")
        stored = attrs.evolve(given, created_at=call.now, updated_at=call.now)
        row = _row(stored)
        tx.do(_ADD, *(row[name] for name in _STORED))
        return stored
    before = _submitter(found)
    if before.tenant_id != given.tenant_id:
        raise UserTaken("the user name is taken")
    stored = attrs.evolve(given, created_at=before.created_at, updated_at=call.now)
    row = _row(stored)
    tx.do(_CHANGE, *(row[name] for name in _CHANGED), given.user)
    return stored


@attrs.frozen
class Drop:
    tenant_id: str
    user: str


def drop(tx: Transaction, call: Drop) -> bool:
    return tx.do(_DROP, call.user, call.tenant_id) > 0


def listed(cursor: Any) -> list[Submitter]:
    return [_submitter(row) for row in cursor.execute(_ALL.sql)]


PUT = copied(put)
DROP = copied(drop)
