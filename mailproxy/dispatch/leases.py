"""Gives leases back that were not used, and remembers those the store did not take back."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.logger import Logger

from mailproxy.errors import StoreError
from mailproxy.interfaces import IQueue
from mailproxy.model import Claimed

_log = Logger()


class Leases:
    """The leases of one account's messages."""

    def __init__(self, store: IQueue) -> None:
        self._store = store
        self._owed: list[Claimed] = []

    @property
    def owed(self) -> bool:
        """Whether some are still to be given back."""
        return bool(self._owed)

    async def give(self, messages: Sequence[Claimed] = ()) -> None:
        """Give leases back, with those that the store did not take back before."""
        giving, self._owed = [*messages, *self._owed], []
        if not giving:
            return
        try:
            await self._store.release([(each.pk, each.token) for each in giving])
        except StoreError as error:
            _log.warn("releasing {count} leases: {error}", count=len(giving), error=error)
            self._owed += giving
