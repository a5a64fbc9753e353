"""
Accounts that the configuration declares: what it says is made so, and what it says no more is free.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from sqlalchemy import bindparam, select, update

from mailproxy.crypto import Sealer
from mailproxy.logins import same_secret
from mailproxy.model import Account
from mailproxy.records import AccountSpec
from mailproxy.store import accounts
from mailproxy.store.compiling import compiled, const, p
from mailproxy.store.schema import accounts as table
from mailproxy.store.transaction import Transaction
from mailproxy.store.works import alone

_c = table.c

_DECLARED = compiled(select(table).where(_c.declared == const("1"), _c.deleted_at.is_(None)))
_MARK = compiled(
    update(table).values(declared=p("declared")).where(_c.pk == bindparam("account")),
    "declared",
    "account",
)

#: What a declaration is compared in.
_FIELDS = tuple(
    field.name for field in attrs.fields(AccountSpec) if field.name not in ("password", "declared")
)


@attrs.frozen
class Declarations:
    """
    :param declared: what the configuration says, passwords sealed.
    :param sealer: opens passwords, to see whether one is another.
    """

    declared: Sequence[accounts.Declaration]
    sealer: Sealer


def declare(tx: Transaction, call: Declarations) -> list[tuple[str, str]]:
    """
    :return: (tenant id, account id) of those that were made or changed.
    :raises PasswordRequired: nothing was changed.
    """
    before = {
        (account.tenant_id, account.id): account
        for account in (accounts.loaded(row, call.sealer) for row in tx.all(_DECLARED))
    }
    changed: list[tuple[str, str]] = []
    for each in call.declared:
        key = (each.spec.tenant_id, each.spec.id)
        before.pop(key, None)
        stored = accounts.live(tx, *key)
        old = None if stored is None else accounts.loaded(stored, call.sealer)
        if old is None or not _same(old, each, call.sealer):
            spec = attrs.evolve(each.spec, declared=True)
            accounts.put_account(tx, attrs.evolve(each, spec=spec))
            changed.append(key)
        elif not old.declared:
            tx.do(_MARK, True, old.pk)
    for account in before.values():
        tx.do(_MARK, False, account.pk)
    return changed


def _same(old: Account, new: accounts.Declaration, sealer: Sealer) -> bool:
    if any(getattr(old, name) != getattr(new.spec, name) for name in _FIELDS):
        return False
    if not new.spec.user:
        return old.password is None
    if new.sealed is None:
        return True
    return same_secret(sealer.open(new.sealed), old.password, new.spec.options)


DECLARE = alone(declare)
