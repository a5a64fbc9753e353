"""Tenants as rows: registered, changed, marked deleted. Their secrets are sealed in the rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import attrs
import msgspec
from sqlalchemy import delete, insert, select, update

from mailproxy.crypto import Sealer
from mailproxy.limits import of_tenant
from mailproxy.store import bounces, dkim, rates, submitters
from mailproxy.store.compiling import columns, compiled, const, p
from mailproxy.store.doom import OF_TENANT
from mailproxy.store.lane_flags import FLAG, SENDING, UNFLAG
from mailproxy.store.schema import TENANT_DELETED, TENANT_INACTIVE, bulk_jobs
from mailproxy.store.schema_tenants import api_keys, tenants
from mailproxy.store.sealed import again, opened
from mailproxy.store.transaction import Transaction
from mailproxy.store.works import copied
from mailproxy.tenancy import Bounces, ClientAuth, LargeFiles, RateLimits, Tenant

#: The kind of the background work that ends a deleted tenant's mail.
CANCEL = "cancel-tenant"

_c, _j = tenants.c, bulk_jobs.c
_STORED = columns(tenants)

_FIND = compiled(select(tenants).where(_c.id == p("tenant")), "tenant")
_ALL = compiled(select(tenants).order_by(_c.id))
_PUT = compiled(
    insert(tenants).values({name: p(name) for name in _STORED}).prefix_with("OR REPLACE"),
    *_STORED,
)
_MARK = compiled(
    update(tenants)
    .values(deleted_at=p("now"), version=_c.version + const("1"))
    .where(_c.id == p("tenant")),
    "now",
    "tenant",
)
_END_KEYS = compiled(delete(api_keys).where(api_keys.c.tenant_id == p("tenant")), "tenant")
_ADD_JOB = compiled(
    insert(bulk_jobs).values(
        pk=p("pk"),
        kind=const(f"'{CANCEL}'"),
        tenant_id=p("tenant"),
        reason=const(f"'{OF_TENANT.reason}'"),
        started_at=p("now"),
    ),
    "pk",
    "tenant",
    "now",
)
_END_JOB = compiled(
    update(bulk_jobs)
    .values(done_at=p("now"))
    .where(_j.done_at.is_(None), _j.kind == const(f"'{CANCEL}'"), _j.tenant_id == p("tenant")),
    "now",
    "tenant",
)


# --- a tenant and its row ------------------------------------------------------------------------


def loaded(row: Any, sealer: Sealer) -> Tenant:
    """A row of the table as a :class:`Tenant`, its secrets open."""
    values = dict(zip(_STORED, row, strict=True))
    owner = f"tenant {values['id']}"
    auth = written_auth(values["client_auth"])
    values["client_auth"] = _secrets(auth, lambda sealed: opened(sealer, sealed, owner))
    limits, files = values["rate_limits"], values["large_file_config"]
    values["rate_limits"] = RateLimits() if limits is None else _read(limits, RateLimits)
    values["large_file_config"] = None if files is None else _read(files, LargeFiles)
    values["bounces"] = bounces.read(values["bounces"])
    values["signing_secret"] = opened(sealer, values["signing_secret"], owner)
    for name in ("active", "suppress_refused"):
        values[name] = bool(values[name])
    return Tenant(**values)


def _row(tenant: Tenant, sealer: Sealer) -> tuple[Any, ...]:
    values = attrs.asdict(tenant, recurse=False)
    values["client_auth"] = _written(_secrets(tenant.client_auth, sealer.seal))
    values["rate_limits"] = _written(tenant.rate_limits)
    if tenant.large_file_config is not None:
        values["large_file_config"] = _written(tenant.large_file_config)
    values["bounces"] = None if tenant.bounces == Bounces() else _written(tenant.bounces)
    if tenant.signing_secret is not None:
        values["signing_secret"] = sealer.seal(tenant.signing_secret)
    return tuple(values[name] for name in _STORED)


def written_auth(text: str | None) -> ClientAuth:
    """What is in the row, its secrets sealed; of a tenant that never said anything, nothing."""
    return ClientAuth() if text is None else _read(text, ClientAuth)


def auth_again(text: str, sealer: Sealer) -> str:
    """The same, sealed with the first key."""
    return _written(_secrets(written_auth(text), lambda sealed: again(sealer, sealed)))


def _secrets(auth: ClientAuth, change: Callable[[str], str | None]) -> ClientAuth:
    return attrs.evolve(
        auth,
        token=None if auth.token is None else change(auth.token),
        password=None if auth.password is None else change(auth.password),
    )


V = TypeVar("V")


def _read(text: str, kind: type[V]) -> V:
    return msgspec.json.decode(text, type=kind)


def _written(value: Any) -> str:
    return msgspec.json.encode(value).decode()


# --- what is done to it --------------------------------------------------------------------------


@attrs.frozen
class Change:
    """The arguments of ``ITenants.change_tenant``."""

    tenant_id: str
    change: Callable[[Tenant | None], Tenant]
    now: float
    sealer: Sealer


@attrs.frozen
class Refusal:
    """What the caller's own function raised: nothing was written."""

    error: Exception


def change_tenant(tx: Transaction, call: Change) -> Tenant | Refusal:
    """One read-modify-write; a tenant that was being deleted is one again."""
    row = tx.one(_FIND, call.tenant_id)
    old = None if row is None else loaded(row, call.sealer)
    try:
        wanted = call.change(None if old is None or old.deleted_at is not None else old)
    except Exception as error:  # the caller's, whatever it is: it goes back to the caller
        return Refusal(error)
    new = attrs.evolve(
        wanted,
        id=call.tenant_id,
        version=1 if old is None else old.version + 1,
        created_at=call.now if old is None else old.created_at,
        updated_at=call.now,
        deleted_at=None,
    )
    tx.do(_PUT, *_row(new, call.sealer))
    if old is not None:
        _flag(tx, old, new, call.now)
    if new.rate_limits != (RateLimits() if old is None else old.rate_limits):
        rates.declare(tx, (new.id, rates.OF_TENANT), of_tenant(new.rate_limits), call.now)
    return new


def _flag(tx: Transaction, old: Tenant, new: Tenant, now: float) -> None:
    """Its lanes carry what stands against sending."""
    if old.deleted_at is not None:
        tx.do(_END_JOB, now, new.id)
    before, after = _flags(old), _flags(new)
    for flag in after - before:
        tx.do(FLAG[flag], now, new.id)
    for flag in before - after:
        tx.do(UNFLAG[flag], now, new.id)
    if before - after:
        tx.due.update(row[0] for row in tx.all(SENDING))


def _flags(tenant: Tenant) -> set[int]:
    found = set() if tenant.active else {TENANT_INACTIVE}
    return found if tenant.deleted_at is None else found | {TENANT_DELETED}


@attrs.frozen
class Deletion:
    tenant_id: str
    now: float


def delete_tenant(tx: Transaction, call: Deletion) -> bool:
    """What claim, intent and intake honour from the commit on; upkeep does the rest."""
    row = tx.one(_FIND, call.tenant_id)
    if row is None or row[_STORED.index("deleted_at")] is not None:
        return False
    tx.do(_MARK, call.now, call.tenant_id)
    tx.do(_END_KEYS, call.tenant_id)
    tx.do(submitters.DROP_ALL, call.tenant_id)
    tx.do(dkim.DROP_ALL, call.tenant_id)
    tx.do(FLAG[TENANT_DELETED], call.now, call.tenant_id)
    tx.do(_ADD_JOB, tx.names.pk(call.now), call.tenant_id, call.now)
    return True


def listed(cursor: Any, sealer: Sealer) -> list[Tenant]:
    return [loaded(row, sealer) for row in cursor.execute(_ALL.sql)]


CHANGE = copied(change_tenant)
DELETE = copied(delete_tenant)
