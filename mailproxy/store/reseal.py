"""
A new encryption key: what older keys sealed is sealed again, so that they can be dropped.

The key check value is written last: a start with the new key alone is refused until then.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
from sqlalchemy import select, update
from twisted.logger import Logger

from mailproxy.crypto import Sealer
from mailproxy.store import dkim, tenants
from mailproxy.store.compiling import compiled, p
from mailproxy.store.retention import Step
from mailproxy.store.schema import accounts
from mailproxy.store.schema_tenants import settings
from mailproxy.store.schema_tenants import tenants as tenants_table
from mailproxy.store.sealed import again
from mailproxy.store.transaction import Transaction
from mailproxy.store.works import alone

_log = Logger()

#: The name of the setting that is the key check value.
CHECK = "key_check"

#: Accounts, tenants and DKIM keys sealed again in one transaction; each has up to three secrets.
STEP = 100

_a, _t, _s = accounts.c, tenants_table.c, settings.c

_CHECK = compiled(select(_s.value).where(_s.name == p("name")), "name")
_SET_CHECK = compiled(
    update(settings).values(value=p("check")).where(_s.name == p("setting")), "check", "setting"
)
_PASSWORDS = compiled(select(_a.pk, _a.password).where(_a.password.is_not(None)))
_PASSWORD = compiled(
    select(_a.password).where(_a.pk == p("account"), _a.password.is_not(None)), "account"
)
_SET_PASSWORD = compiled(
    update(accounts).values(password=p("sealed")).where(_a.pk == p("account")), "sealed", "account"
)
_SECRETS = compiled(select(_t.id, _t.client_auth, _t.signing_secret))
_SECRET = compiled(select(_t.client_auth, _t.signing_secret).where(_t.id == p("tenant")), "tenant")
_SET_SECRET = compiled(
    update(tenants_table)
    .values(client_auth=p("auth"), signing_secret=p("signing"))
    .where(_t.id == p("tenant")),
    "auth",
    "signing",
    "tenant",
)


@attrs.frozen
class Stale:
    """
    What is sealed with other keys than the first; with none of these, only the check value is.

    :param accounts: pks. *tenants*: ids. *dkim*: tenant, domain and selector.
    """

    accounts: Sequence[int]
    tenants: Sequence[str]
    dkim: Sequence[tuple[str, str, str]] = ()

    @property
    def count(self) -> int:
        return len(self.accounts) + len(self.tenants) + len(self.dkim)


class Resealing:
    """
    The background work that seals everything with the first key of *sealer*.

    What it has looked through it does not look at again: this process seals with no other key.
    """

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer
        self._done = False
        self.step = Step(self._find, alone(self._seal))

    def _find(self, cursor: Any, _now: float, _options: Any) -> Stale | None:
        if self._done:
            return None
        current = self._sealer.current
        pks = [pk for pk, sealed in cursor.execute(_PASSWORDS.sql) if not current(sealed)]
        ids = [
            name
            for name, auth, signing in cursor.execute(_SECRETS.sql)
            if not all(map(current, _sealed(auth, signing)))
        ]
        names = [name for name, sealed in dkim.sealed(cursor) if not current(sealed)]
        (check,) = cursor.execute(_CHECK.sql, (CHECK,)).fetchone()
        if not pks and not ids and not names and current(check):
            self._done = True
            return None
        found = Stale(pks[:STEP], ids[: STEP - len(pks[:STEP])])
        return attrs.evolve(found, dkim=names[: STEP - found.count])

    def _seal(self, tx: Transaction, stale: Stale) -> int:
        sealer = self._sealer
        for pk in stale.accounts:
            if (row := tx.one(_PASSWORD, pk)) is not None:
                tx.do(_SET_PASSWORD, again(sealer, row[0]), pk)
        for tenant_id in stale.tenants:
            if (row := tx.one(_SECRET, tenant_id)) is not None:
                tx.do(_SET_SECRET, *_again(sealer, *row), tenant_id)
        for name in stale.dkim:
            dkim.seal_again(tx, name, sealer)
        if not stale.count:
            tx.do(_SET_CHECK, sealer.check_value(), CHECK)
            _log.info("all secrets are sealed with the first key: the others can be dropped")
        return stale.count or 1


def _sealed(auth: str | None, signing: str | None) -> Iterator[str]:
    """All sealed values of a tenant."""
    said = tenants.written_auth(auth)
    yield from (value for value in (said.token, said.password, signing) if value is not None)


def _again(sealer: Sealer, auth: str | None, signing: str | None) -> tuple[str | None, str | None]:
    return (
        None if auth is None else tenants.auth_again(auth, sealer),
        None if signing is None else again(sealer, signing),
    )


def complete(connection: sqlite3.Connection, sealer: Sealer) -> bool:
    """Whether the keys of all secrets are at hand."""
    known = sealer.knows
    return (
        all(known(sealed) for _, sealed in connection.execute(_PASSWORDS.sql))
        and all(
            all(map(known, _sealed(auth, signing)))
            for _, auth, signing in connection.execute(_SECRETS.sql)
        )
        and all(known(sealed) for _, sealed in dkim.sealed(connection))
    )
