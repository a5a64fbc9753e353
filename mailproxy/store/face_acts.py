"""The store's face towards operators: ``IActs``."""

from __future__ import annotations

from collections.abc import Callable

from mailproxy.acts import Acted, ActedOnAll, Group, Hold, Operation
from mailproxy.store import acts, acts_bulk, restored
from mailproxy.store.face import DEADLINE, Face


class ActsFace(Face):
    """See :class:`mailproxy.interfaces_acts.IActs`."""

    async def act(self, tenant_id: str, message_id: str, operation: Operation) -> Acted | None:
        return await self._write(acts.ACT, acts.One(tenant_id, message_id, operation), DEADLINE)

    async def act_on_all(
        self,
        group: Group,
        operation: Operation,
        *,
        since: float | None = None,
        singly: bool = False,
    ) -> ActedOnAll | None:
        call = acts_bulk.All(group, operation, since, singly)
        return await self._write(acts_bulk.ACT_ON_ALL, call, DEADLINE)

    async def holds(self, tenant_id: str | None) -> list[Hold]:
        return await self._read(acts_bulk.holds, tenant_id)

    async def hold_unfinished(self, now: float, told: Callable[[int], None]) -> int:
        """
        Hold all that has not ended, in a database that is a copy from earlier; not of ``IActs``,
        for it is done while nobody sends. Repeated, it goes on where it was.

        :param told: of how many messages are held so far.
        :return: how many are held now for this reason that were not before.
        :raises StoreError: some of it may not be held.
        """
        await self._write(restored.START, None)
        further: restored.From | None = restored.From(now)
        held = 0
        while further is not None:
            done = await self._write(restored.HOLD, further)
            held, further = held + done.held, done.further
            told(held)
        return held
