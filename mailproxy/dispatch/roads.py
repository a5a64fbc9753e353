"""
The accounts of tenants whose mail may go through more than one of them, as they were a moment ago.

Read when the mail of such an account is claimed, and not more often than :data:`FRESH` says; what
was deleted or changed since is refused by the store when an attempt is begun.
"""

from __future__ import annotations

import attrs

from mailproxy.interfaces import IAccounts, IClock
from mailproxy.model import Account

#: Seconds for which what was read is good enough.
FRESH = 10.0

#: Tenants remembered at once.
MOST_TENANTS = 1000


@attrs.frozen
class _Read:
    at: float
    accounts: dict[str, Account]


class Roads:
    """
    :param clock: its monotonic time says what is fresh.
    """

    def __init__(self, store: IAccounts, clock: IClock) -> None:
        self._store = store
        self._clock = clock
        self._read: dict[str, _Read] = {}

    async def look(self, tenant_id: str) -> None:
        """
        Have the accounts of the tenant read, if they have not just been.

        :raises StoreError: they cannot be read.
        """
        now = self._clock.seconds()
        known = self._read.get(tenant_id)
        if known is not None and now - known.at < FRESH:
            return
        accounts = await self._store.accounts(tenant_id)
        self._read.pop(tenant_id, None)
        self._read[tenant_id] = _Read(now, {each.id: each for each in accounts})
        while len(self._read) > MOST_TENANTS:
            del self._read[next(iter(self._read))]

    def account(self, tenant_id: str, account_id: str) -> Account | None:
        """The account of that name, if there is one; known after :meth:`look`."""
        known = self._read.get(tenant_id)
        return None if known is None else known.accounts.get(account_id)

    def forget(self, tenant_id: str) -> None:
        """Something is not as it was read: read anew at the next look."""
        self._read.pop(tenant_id, None)
