"""The store's face towards operators: ``IActs``."""

from __future__ import annotations

from mailproxy.acts import Acted, ActedOnAll, Group, Hold, Operation
from mailproxy.store import acts, acts_bulk
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
