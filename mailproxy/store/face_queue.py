"""The store's face towards the dispatcher: claims, intents, outcomes, and contents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs
from twisted.logger import Logger

from mailproxy.metrics import Metrics
from mailproxy.model import Claimed, Record, Stored
from mailproxy.store import bodies, fetching, listing, nodes, outcomes, prepared, queue
from mailproxy.store.asking import Claim, Intents
from mailproxy.store.boot import leased
from mailproxy.store.courtesy import Courtesy
from mailproxy.store.face_bodies import BodiesFace

_log = Logger()


class QueueFace(BodiesFace):
    """``IQueue``, on what the store has besides."""

    if TYPE_CHECKING:
        node_id: str
        _metrics: Metrics
        _alive: nodes.Alive
        _swept: bool
        _courtesy: Courtesy

    async def due_accounts(self, now: float) -> tuple[list[int], float | None]:
        return await self._read(listing.due_accounts, now)

    async def claim(
        self,
        account_pk: int,
        limit: int,
        now: float,
        *,
        oldest: bool = False,
        urgent: bool = False,
        spill: bool = False,
    ) -> list[Claimed]:
        call = Claim(account_pk, limit, now, oldest, urgent, spill)
        claimed = await self._write(queue.CLAIM, call)
        self._courtesy.claimed(claimed)
        return claimed

    async def contents(self, pks: Sequence[int]) -> dict[int, Stored]:
        found = await self._read(bodies.contents, pks)
        if found.damaged:
            call = bodies.Damage(found.damaged, self._clock.now())
            for pk in await self._write(bodies.QUARANTINE, call):
                self._metrics.quarantined.inc()
                _log.error(
                    "message {pk} is held: its body is damaged: {reason}",
                    pk=pk,
                    reason=found.damaged[pk],
                )
        return found.stored

    async def prepared(
        self, pk: int, token: int, payload: bytes, parts: Mapping[int, bytes], size: int
    ) -> bool:
        now = self._clock.now()
        named = prepared.named(payload)
        body = 0
        if sum(map(len, parts.values())) > self._options.large_body_bytes:
            body = await self._written(parts, now, None)
        call = prepared.Preparation(
            pk, token, payload, {} if body else parts, size, body, now, named, frozenset(parts)
        )
        return await self._write(prepared.PREPARED, call)

    async def refetch(self, tenant_id: str, now: float) -> int:
        return await fetching.refetch(self._read, self._write, tenant_id, now)

    async def begin(
        self,
        intents: Sequence[tuple[int, int]],
        account: str,
        now: float,
        *,
        through: tuple[int, int] | None = None,
    ) -> list[bool]:
        begun = await self._write(queue.BEGIN, Intents(intents, account, now, through))
        self._courtesy.begun(intents)
        return begun

    async def record(self, records: Sequence[Record]) -> list[bool]:
        return await self._write(outcomes.RECORD, records)

    async def release(self, leases: Sequence[tuple[int, int]]) -> None:
        await self._write(queue.RELEASE, leases)

    async def abandoned(self, now: float) -> list[Claimed]:
        """All leases of other nodes: the lock file says that they are dead."""
        if self._swept:
            return []
        idle, begun = await self._read(leased, self.node_id)
        claimed: list[Claimed] = []
        if idle or begun:
            claimed = await self._write(queue.TAKE_OVER, queue.TakeOver(begun, idle, now))
        self._swept = True
        return claimed

    async def heartbeat(self, now: float) -> None:
        self._alive = attrs.evolve(self._alive, until=now + self._options.lease_seconds)
        await self._write(nodes.HEARTBEAT, self._alive)
