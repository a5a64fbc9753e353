"""Whom a submitted message belongs to: tenant, account and lane, looked up once a transaction."""

from __future__ import annotations

import attrs

from mailproxy.store import statements as sql
from mailproxy.store import statements_intake as sqi
from mailproxy.store.lane_flags import pause
from mailproxy.store.schema import (
    ACCOUNT_DELETED,
    ACCOUNT_HELD,
    ACCOUNT_PARKED,
    AGELESS,
    BATCH_HELD,
    BATCH_SUSPENDED,
    NEVER,
    SERVICE_SUSPENDED,
    TENANT_SUSPENDED,
)
from mailproxy.store.transaction import Transaction


@attrs.frozen
class Owner:
    """
    The account a message goes through, as far as its intake cares.

    :param max_age: in seconds.
    :param flags: what lies on all lanes of the account.
    """

    pk: int
    max_age: float
    flags: int


@attrs.frozen
class Lane:
    """
    :param blocked: why nothing of it may be sent, as flags; 0 if it may.
    :param paused: seconds for which its messages' age did not run, up to now.
    """

    pk: int
    blocked: int
    paused: float


@attrs.define
class Directory:
    """What one transaction has looked up so far."""

    tx: Transaction
    now: float
    _tenants: dict[str, str] = attrs.Factory(dict)
    _owners: dict[tuple[str, str | None], Owner | None] = attrs.Factory(dict)
    _lanes: dict[tuple[int, int, str], Lane] = attrs.Factory(dict)

    def objection(self, tenant_id: str) -> str:
        """Why the tenant's mail is not taken; "" if it is."""
        if tenant_id not in self._tenants:
            found = self.tx.one(sqi.TENANT_ACTIVE, tenant_id)
            if found is None or found[1] is not None:
                self._tenants[tenant_id] = "tenant not found"
            else:
                self._tenants[tenant_id] = "" if found[0] else "tenant inactive"
        return self._tenants[tenant_id]

    def owner(self, tenant_id: str, account_id: str | None) -> Owner | None:
        """The account so called; without a name the tenant's default, else its only one."""
        key = (tenant_id, account_id)
        if key not in self._owners:
            self._owners[key] = self._find_owner(tenant_id, account_id)
        return self._owners[key]

    def _find_owner(self, tenant_id: str, account_id: str | None) -> Owner | None:
        if account_id is None:
            found = self.tx.all(sqi.DEFAULT_ACCOUNTS, tenant_id)
            if not found or (len(found) > 1 and not found[0][4]):
                return None
            row = found[0]
        else:
            row = self.tx.one(sqi.FIND_ACCOUNT, tenant_id, account_id)
            if row is None:
                return None
        return self._owner(*row[:4])

    def known_owner(self, pk: int) -> Owner:
        """The account *pk*, which a stored message has; it may have been deleted."""
        return self._owner(pk, *self.tx.one(sqi.ACCOUNT_OWNED, pk))

    def _owner(
        self,
        pk: int,
        max_age: float | None,
        blocked_until: float | None,
        held_since: float | None,
        deleted_at: float | None = None,
    ) -> Owner:
        age = self.tx.options.max_age_seconds if max_age is None else max_age
        flags = 0 if blocked_until is None else ACCOUNT_PARKED
        if held_since is not None:
            flags |= ACCOUNT_HELD
        return Owner(pk, age, flags if deleted_at is None else flags | ACCOUNT_DELETED)

    def lane(self, owner: Owner, tenant_id: str, priority: int, batch: str) -> Lane:
        """The lane of these messages; made if it is the first of them."""
        key = (owner.pk, priority, batch)
        lane = self._lanes.get(key)
        if lane is None:
            found = self.tx.one(sql.FIND_LANE, *key)
            if found is None:
                lane = self._make(owner, tenant_id, priority, batch)
            else:
                lane = Lane(found[0], found[1], pause(found[2], found[3], self.now))
            self._lanes[key] = lane
        return lane

    def _make(self, owner: Owner, tenant_id: str, priority: int, batch: str) -> Lane:
        blocked = owner.flags
        for tenant, what in self.tx.all(sqi.SUSPENDED, tenant_id, batch):
            if tenant == "":
                blocked |= SERVICE_SUSPENDED
            else:
                blocked |= TENANT_SUSPENDED if what == "*" else BATCH_SUSPENDED
        if batch and self.tx.one(sqi.BATCH_HELD, tenant_id, batch) is not None:
            blocked |= BATCH_HELD
        pk = self.tx.names.pk(self.now)
        since = self.now if blocked & AGELESS else None
        self.tx.do(
            sql.ADD_LANE, pk, tenant_id, owner.pk, priority, batch, blocked, NEVER, 0.0, since
        )
        return Lane(pk, blocked, 0.0)
