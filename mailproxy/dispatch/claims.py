"""
The claiming of one account's mail: a batch whenever there is room, priority 0 at any time.

``Claims(account_pk, shared, ready, leases, taker)`` puts what it claims into *ready*; what becomes
of it there, and how much may lie there, is the *taker*'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mailproxy.dispatch.leases import Leases
from mailproxy.dispatch.ready import BY_AGE, Ready
from mailproxy.dispatch.shared import Shared
from mailproxy.errors import StoreError
from mailproxy.model import Claimed

_log = Logger()


class Taker(Protocol):
    """Whoever messages are claimed for."""

    def limit(self) -> int:
        """The most messages of one claim."""

    def full(self) -> bool:
        """Whether nothing but priority 0 is to be claimed."""

    def single(self) -> bool:
        """Whether one claim is enough for now."""

    def spills(self) -> bool:
        """Whether others carry what the account's own limits leave no room for."""

    async def took(self, messages: Sequence[Claimed]) -> None:
        """
        *messages* were put into what is ready.

        :raises StoreError: claiming ends for now.
        """

    async def give_back(self) -> None:
        """The service is stopping: what is claimed is not wanted any more."""


class Claims:
    """
    :ivar busy: whether a claim is under way.
    """

    def __init__(
        self, account_pk: int, shared: Shared, ready: Ready, leases: Leases, taker: Taker
    ) -> None:
        self._account_pk = account_pk
        self._shared = shared
        self._ready = ready
        self._leases = leases
        self._taker = taker
        self.busy = False
        self._more = False
        self._asked = False
        self._by_urgency = 0

    def ask(self) -> None:
        """There may be something due that was not when it was last looked."""
        self._more = self._asked = True

    @property
    def due(self) -> bool:
        """Whether a claim might find something, and none is under way."""
        return not self.busy and (self._more or self._asked)

    @property
    def more(self) -> bool:
        """Whether the last claim found as much as it asked for."""
        return self._more

    def run(self) -> None:
        """Claim until there is no room, or no more; call only while :attr:`due`."""
        if self._asked or not self._taker.full():
            self.busy = True
            Deferred.fromCoroutine(self._run())

    async def _run(self) -> None:
        try:
            while (self._more or self._asked) and not self._shared.stopping:
                full = self._taker.full()
                if full and not self._asked:
                    break
                self._asked = False
                if self._leases.owed:
                    await self._leases.give()
                await self._taker.took(await self._once(self._taker.limit(), urgent=full))
                if self._taker.single():
                    break
        except StoreError as error:
            _log.warn("claiming for account {pk}: {error}", pk=self._account_pk, error=error)
            self._more = False
        except Exception:
            _log.failure("claiming for account {pk} raised", pk=self._account_pk)
            self._more = False
        finally:
            self.busy = False
        if self._shared.stopping:
            await self._taker.give_back()

    async def _once(self, limit: int, urgent: bool) -> list[Claimed]:
        aged = not urgent and self._by_urgency >= BY_AGE
        if aged:
            limit = max(1, min(limit, self._by_urgency // BY_AGE))
            self._by_urgency = 0
        took = await self._shared.store.claim(
            self._account_pk,
            limit,
            self._shared.horizon(),
            oldest=aged,
            urgent=urgent,
            spill=self._taker.spills(),
        )
        if not aged and not urgent:
            self._by_urgency += len(took)
            self._more = len(took) >= limit
        for message in took:
            self._ready.push(message, min(message.priority, 1) if aged else message.priority)
        return took
