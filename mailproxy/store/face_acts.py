"""The store's face towards operators: ``IActs``."""

from __future__ import annotations

from mailproxy.acts import Acted, Operation
from mailproxy.store import acts
from mailproxy.store.face import DEADLINE, Face


class ActsFace(Face):
    """See :class:`mailproxy.interfaces_acts.IActs`."""

    async def act(self, tenant_id: str, message_id: str, operation: Operation) -> Acted | None:
        return await self._write(acts.ACT, acts.One(tenant_id, message_id, operation), DEADLINE)
