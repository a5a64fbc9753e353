"""The store's face towards those who take mail back, and who say where none is to go."""

from __future__ import annotations

from collections.abc import Sequence

from mailproxy.store import destinations, removal, retention, suppressions
from mailproxy.store.face import DEADLINE, Face
from mailproxy.tenancy import Destination, Remembered, Removed, Suppression


class RemovalFace(Face):
    """``IRemoval``."""

    async def remove(self, tenant_id: str | None, ids: Sequence[str], now: float) -> Removed:
        asked = list(dict.fromkeys(ids))
        owners: dict[str, str] = {}
        if tenant_id is None:
            for n in range(0, len(asked), removal.STEP):
                owners |= await self._read(removal.owners, asked[n : n + removal.STEP])
        groups: dict[str, list[str]] = {}
        for name in asked:
            owner = owners.get(name) if tenant_id is None else tenant_id
            if owner is not None:
                groups.setdefault(owner, []).append(name)
        answers = [
            await self._write(
                removal.REMOVE, removal.Removal(owner, group[n : n + removal.STEP], now)
            )
            for owner, group in groups.items()
            for n in range(0, len(group), removal.STEP)
        ]
        missing = {name for answer in answers for name in answer.missing}
        unknown = missing | (set(asked) - owners.keys() if tenant_id is None else set())
        return Removed(
            sum(answer.removed for answer in answers),
            tuple(kept for answer in answers for kept in answer.kept),
            tuple(name for name in asked if name in unknown),
        )

    async def cleanup(self, tenant_id: str | None, before: float, now: float) -> int:
        at, after, removed = 0.0, 0, 0
        while (found := await self._read(removal.ended, tenant_id, before, at, after)) is not None:
            at, after = found.at, found.after
            for n in range(0, len(found.pks), retention.PURGED):
                step = retention.Found(found.pks[n : n + retention.PURGED], now)
                removed += await self._write(removal.FORGET, step)
        return removed

    async def remembered(
        self, tenant_id: str, message_id: str, addresses: Sequence[str]
    ) -> Remembered | None:
        return await self._read(removal.remembered, tenant_id, message_id, addresses)

    async def pause_destination(self, tenant_id: str, domain: str, now: float) -> bool:
        call = destinations.Domain(tenant_id, domain, now)
        return await self._write(destinations.PAUSE, call, DEADLINE)

    async def resume_destination(self, tenant_id: str, domain: str, now: float) -> bool:
        call = destinations.Domain(tenant_id, domain, now)
        return await self._write(destinations.RESUMED, call, DEADLINE)

    async def destinations(self, tenant_id: str | None) -> list[Destination]:
        return await self._read(destinations.shown, tenant_id)

    async def suppress(self, entries: Sequence[Suppression], now: float) -> int:
        steps = [
            entries[n : n + suppressions.STEP] for n in range(0, len(entries), suppressions.STEP)
        ]
        return sum([await self._write(suppressions.SUPPRESS, step, DEADLINE) for step in steps])

    async def unsuppress(self, tenant_id: str, addresses: Sequence[str]) -> int:
        call = suppressions.Lifted(tenant_id, addresses)
        return await self._write(suppressions.UNSUPPRESS, call, DEADLINE)

    async def suppressions(
        self, tenant_id: str | None, after: tuple[str, str] | None, limit: int
    ) -> list[Suppression]:
        return await self._read(suppressions.page, tenant_id, after, limit)

    async def suppressed(self, tenant_id: str, addresses: Sequence[str]) -> list[Suppression]:
        return await self._read(suppressions.found, tenant_id, addresses)
