"""Upstream accounts: declared, deleted, parked. Their passwords are sealed before they are here."""

from __future__ import annotations

import json
from typing import Any

import attrs
import msgspec
from sqlalchemy import and_, insert, select, update

from mailproxy.crypto import Sealer
from mailproxy.limits import of_account
from mailproxy.logins import auth_of, may_keep, same_secret
from mailproxy.model import Account
from mailproxy.records import AccountSpec, PasswordRequired
from mailproxy.states import OnUncertain, TlsMode
from mailproxy.store import rates
from mailproxy.store import statements as sql
from mailproxy.store.compiling import compiled, const, p
from mailproxy.store.outcomes import DELETED
from mailproxy.store.queue import unblock
from mailproxy.store.schema import (
    ACCOUNT_DELETED,
    ACCOUNT_PARKED,
    accounts,
    bulk_jobs,
)
from mailproxy.store.sealed import opened
from mailproxy.store.transaction import Transaction
from mailproxy.store.works import alone
from mailproxy.tenancy import Declared

_c = accounts.c

#: The kind of the background work that ends a deleted account's mail.
FAIL = "fail-account"

#: What a client declares, in the order of :class:`AccountSpec`, but for the keys.
_DECLARED = tuple(
    field.name for field in attrs.fields(AccountSpec) if field.name not in ("tenant_id", "id")
)
_STORED = tuple(column.name for column in accounts.columns)

_ADD = compiled(
    insert(accounts).values(
        {name: p(name) for name in _STORED}
        | {name: const("NULL") for name in ("parked_since", "probe_at", "deleted_at")}
        | {"blocked_until": const("NULL"), "parked_reason": const("''"), "version": const("1")}
        | {"held_since": const("NULL"), "held_reason": const("''"), "tried_at": const("NULL")}
    ),
    *(
        name
        for name in _STORED
        if name
        not in (
            "parked_since",
            "probe_at",
            "deleted_at",
            "blocked_until",
            "parked_reason",
            "version",
            "held_since",
            "held_reason",
            "tried_at",
        )
    ),
)
_CHANGE = compiled(
    update(accounts)
    .values(
        {name: p(f"v_{name}") for name in (*_DECLARED, "updated_at")}
        | {name: const("NULL") for name in ("parked_since", "probe_at", "blocked_until")}
        | {"parked_reason": const("''"), "version": _c.version + const("1")}
    )
    .where(_c.pk == p("account")),
    *(f"v_{name}" for name in _STORED if name in (*_DECLARED, "updated_at")),
    "account",
)
_RENEW = compiled(
    update(accounts)
    .values(password=p("sealed"))
    .where(
        _c.pk == p("account"),
        _c.version == p("was"),
        _c.password == p("seen"),
        _c.deleted_at.is_(None),
    ),
    "sealed",
    "account",
    "was",
    "seen",
)
_LIVE = compiled(
    select(accounts).where(_c.tenant_id == p("tenant"), _c.id == p("id"), _c.deleted_at.is_(None)),
    "tenant",
    "id",
)
_LAST = compiled(
    select(_c.incarnation)
    .where(_c.tenant_id == p("tenant"), _c.id == p("id"))
    .order_by(_c.incarnation.desc())
    .suffix_with("LIMIT 1"),
    "tenant",
    "id",
)
_BY_PK = compiled(select(accounts).where(_c.pk == p("account"), _c.deleted_at.is_(None)), "account")
_OF_TENANT = compiled(
    select(accounts)
    .where(_c.deleted_at.is_(None), _c.tenant_id == p("tenant"))
    .order_by(_c.tenant_id, _c.id),
    "tenant",
)
_OF_ALL = compiled(select(accounts).where(_c.deleted_at.is_(None)).order_by(_c.tenant_id, _c.id))
_DELETE = compiled(
    update(accounts)
    .values(deleted_at=p("at"), password=const("NULL"), blocked_until=const("NULL"))
    .where(_c.pk == p("account")),
    "at",
    "account",
)
_ADD_JOB = compiled(
    insert(bulk_jobs).values(
        pk=p("pk"),
        kind=p("kind"),
        account_pk=p("account"),
        reason=p("reason"),
        started_at=p("at"),
    ),
    "pk",
    "kind",
    "account",
    "reason",
    "at",
)
_PARK = compiled(
    update(accounts)
    .values(
        parked_reason=p("reason"),
        parked_since=p("since"),
        probe_at=p("probe"),
        blocked_until=p("until"),
        tried_at=p("now"),
    )
    .where(and_(_c.pk == p("account"), _c.deleted_at.is_(None))),
    "reason",
    "since",
    "probe",
    "until",
    "now",
    "account",
)
_UNPARK = compiled(
    update(accounts)
    .values(
        parked_reason=const("''"),
        parked_since=const("NULL"),
        probe_at=const("NULL"),
        blocked_until=const("NULL"),
    )
    .where(_c.pk == p("account")),
    "account",
)


def loaded(row: Any, sealer: Sealer) -> Account:
    """A row of the table as an :class:`Account`, its password open; None if that is damaged."""
    values = dict(zip(_STORED, row, strict=True))
    for name in ("incarnation", "deleted_at", "blocked_until", "tried_at"):
        del values[name]
    values["password"] = opened(sealer, values["password"], f"account {values['id']}")
    if values["use_tls"] is not None:
        values["use_tls"] = bool(values["use_tls"])
    delays = values["retry_delays"]
    values["retry_delays"] = None if delays is None else tuple(json.loads(delays))
    values["tls_mode"] = TlsMode(values["tls_mode"])
    values["on_uncertain"] = OnUncertain(values["on_uncertain"])
    for name in ("allow_plaintext_auth", "is_default", "declared"):
        values[name] = bool(values[name])
    return Account(**values)


def _declared(spec: AccountSpec, sealed: str | None) -> dict[str, Any]:
    values = {name: getattr(spec, name) for name in _DECLARED}
    values["password"] = sealed
    values["tls_mode"] = spec.tls_mode.value
    values["on_uncertain"] = spec.on_uncertain.value
    if spec.retry_delays is not None:
        values["retry_delays"] = msgspec.json.encode(spec.retry_delays).decode()
    return values


@attrs.frozen
class Declaration:
    """
    :param sealed: the password given, sealed; None for none given.
    :param sealer: opens it, to see whether it is what is stored already.
    """

    spec: AccountSpec
    sealed: str | None
    now: float
    sealer: Sealer | None = None


def put_account(tx: Transaction, call: Declaration) -> Any:
    """
    :return: the account's row.
    :raises Declared: it is the configuration's, and this does not come from there.
    """
    spec, now = call.spec, call.now
    found = tx.one(_LIVE, spec.tenant_id, spec.id)
    old = None if found is None else dict(zip(_STORED, found, strict=True))
    if old is not None and old["declared"] and not spec.declared:
        raise Declared(f"account {spec.id!r} is declared in the configuration")
    values = _declared(spec, _password(call, old))
    if old is None:
        last = tx.one(_LAST, spec.tenant_id, spec.id)
        pk = tx.names.pk(now)
        values |= {
            "pk": pk,
            "tenant_id": spec.tenant_id,
            "id": spec.id,
            "incarnation": 1 if last is None else last[0] + 1,
            "created_at": now,
            "updated_at": now,
        }
        tx.do(_ADD, *(values[name] for name in _ADD.names))
    else:
        pk = old["pk"]
        values["updated_at"] = now
        names = _CHANGE.names[:-1]
        tx.do(_CHANGE, *(values[name.removeprefix("v_")] for name in names), pk)
        unblock(tx, pk)
    wanted = of_account(msgspec.json.decode(spec.options))
    if wanted or old is not None:
        rates.declare(tx, (spec.tenant_id, pk), wanted, now)
    tx.due.add(pk)
    return tx.one(_BY_PK, pk)


def _password(call: Declaration, old: dict[str, Any] | None) -> str | None:
    """The secret to be stored, sealed."""
    spec = call.spec
    if not spec.user:
        return None
    stored = None
    if old is not None and may_keep(
        (old["host"], old["user"], old["options"]), (spec.host, spec.user, spec.options)
    ):
        stored = old["password"]
    if call.sealed is None:
        if stored is None:
            raise PasswordRequired(f"account {spec.id!r} has a user but no password")
        return str(stored)
    if stored is not None and auth_of(spec.options).by_token and call.sealer is not None:
        given, kept = (
            opened(call.sealer, each, f"account {spec.id}") for each in (call.sealed, stored)
        )
        if same_secret(given, kept, spec.options):
            # Declared again: what the authorization server has renewed since stays.
            return str(stored)
    return call.sealed


@attrs.frozen
class Renewal:
    """
    :param used: the secret that was renewed.
    :param sealed: the new one, sealed.
    """

    pk: int
    version: int
    used: str = attrs.field(repr=False)
    sealed: str
    sealer: Sealer


def renew_secret(tx: Transaction, call: Renewal) -> bool:
    """
    Another node may write between our look and our change, of which the row's lock lets it finish
    first: then we look again. It may only have sealed the same secret with a newer key.
    """
    while True:
        found = tx.one(_BY_PK, call.pk)
        seen = None if found is None else found[_STORED.index("password")]
        if seen is None or opened(call.sealer, seen, f"account {call.pk}") != call.used:
            return False
        if tx.do(_RENEW, call.sealed, call.pk, call.version, seen):
            return True
        if found[_STORED.index("version")] != call.version:
            return False


@attrs.frozen
class Deletion:
    tenant_id: str
    account_id: str
    now: float


def delete_account(tx: Transaction, call: Deletion) -> bool:
    """:raises Declared: it is the configuration's."""
    found = tx.one(_LIVE, call.tenant_id, call.account_id)
    if found is None:
        return False
    if found[_STORED.index("declared")]:
        raise Declared(f"account {call.account_id!r} is declared in the configuration")
    pk = found[0]
    tx.do(_DELETE, call.now, pk)
    tx.do(sql.FLAG_ON, ACCOUNT_DELETED, pk)
    rates.drop_account(tx, call.tenant_id, pk)
    tx.do(_ADD_JOB, tx.names.pk(call.now), FAIL, pk, DELETED, call.now)
    return True


@attrs.frozen
class Parking:
    pk: int
    version: int
    reason: str
    probe_at: float
    now: float
    closed: bool = True


def park_account(tx: Transaction, call: Parking) -> None:
    found = tx.one(_BY_PK, call.pk)
    if found is None:
        return
    row = dict(zip(_STORED, found, strict=True))
    if row["version"] > call.version:
        return
    since = call.now if row["parked_since"] is None else row["parked_since"]
    until = call.probe_at if call.closed else None
    tx.do(_PARK, call.reason, since, call.probe_at, until, call.now, call.pk)
    if call.closed:
        tx.do(sql.FLAG_ON, ACCOUNT_PARKED, call.pk)
    elif row["blocked_until"] is not None:
        tx.do(sql.FLAG_OFF, ~ACCOUNT_PARKED, call.pk)
        tx.due.add(call.pk)


def unpark_account(tx: Transaction, pk: int) -> None:
    tx.do(_UNPARK, pk)
    tx.do(sql.FLAG_OFF, ~ACCOUNT_PARKED, pk)
    tx.due.add(pk)


def live(tx: Transaction, tenant_id: str, account_id: str) -> Any:
    """The row of the live account of that name, or None."""
    return tx.one(_LIVE, tenant_id, account_id)


def find(cursor: Any, pk: int) -> Any:
    """The row of a live account, or None."""
    return cursor.execute(_BY_PK.sql, (pk,)).fetchone()


def listed(cursor: Any, tenant_id: str | None) -> list[Any]:
    """The rows of the live accounts of a tenant, or of all."""
    if tenant_id is None:
        return list(cursor.execute(_OF_ALL.sql))
    return list(cursor.execute(_OF_TENANT.sql, (tenant_id,)))


PUT = alone(put_account)
DELETE = alone(delete_account)
PARK = alone(park_account)
RENEW = alone(renew_secret)
UNPARK = alone(unpark_account)
