"""The tenants' part of the store's face: ``ITenants``, call by call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs

from mailproxy.dkim_keys import DkimKey
from mailproxy.model import DEFAULT_TENANT
from mailproxy.records import AccountSpec
from mailproxy.store import accounts, commands_log, declared, dkim, keys, submitters, tenants
from mailproxy.store.face import DEADLINE, Face
from mailproxy.submitters import Submitter
from mailproxy.tenancy import ApiKey, CommandEntry, Tenant


class TenantsFace(Face):
    """See :class:`mailproxy.interfaces_tenants.ITenants`."""

    async def change_tenant(
        self, tenant_id: str, change: Callable[[Tenant | None], Tenant], now: float
    ) -> Tenant:
        call = tenants.Change(tenant_id, change, now, self._sealer)
        changed = await self._write(tenants.CHANGE, call, DEADLINE)
        if isinstance(changed, tenants.Refusal):
            raise changed.error
        return changed

    async def delete_tenant(self, tenant_id: str, now: float) -> bool:
        if tenant_id == DEFAULT_TENANT:
            raise ValueError("the default tenant cannot be deleted")
        return await self._write(tenants.DELETE, tenants.Deletion(tenant_id, now), DEADLINE)

    async def tenants(self) -> list[Tenant]:
        return await self._read(tenants.listed, self._sealer)

    async def add_key(self, key: ApiKey, now: float, *, replace: bool = False) -> None:
        await self._write(keys.ADD, keys.Addition(key, now, replace), DEADLINE)

    async def revoke_keys(self, tenant_id: str, prefix: str | None, now: float) -> int:
        return await self._write(keys.REVOKE, keys.Revocation(tenant_id, prefix, now), DEADLINE)

    async def keys(self) -> list[ApiKey]:
        return await self._read(keys.good, self._clock.now())

    async def keys_used(self, used: Mapping[bytes, float]) -> None:
        await self._write(keys.USED, used, DEADLINE)

    async def put_submitter(self, submitter: Submitter, now: float) -> Submitter:
        return await self._write(submitters.PUT, submitters.Put(submitter, now), DEADLINE)

    async def delete_submitter(self, tenant_id: str, user: str) -> bool:
        return await self._write(submitters.DROP, submitters.Drop(tenant_id, user), DEADLINE)

    async def submitters(self) -> list[Submitter]:
        return await self._read(submitters.listed)

    async def add_dkim_key(self, key: DkimKey) -> None:
        assert key.private is not None, "a new key has its private half"
        sealed = self._sealer.seal(key.private)
        call = dkim.Addition(attrs.evolve(key, private=None), sealed)
        await self._write(dkim.ADD, call, DEADLINE)

    async def switch_dkim_key(
        self, tenant_id: str, domain: str, selector: str, active: bool
    ) -> bool:
        call = dkim.Switch(tenant_id, domain, selector, active)
        return await self._write(dkim.SWITCH, call, DEADLINE)

    async def drop_dkim_key(self, tenant_id: str, domain: str, selector: str) -> bool:
        return await self._write(dkim.DROP, dkim.Removal(tenant_id, domain, selector), DEADLINE)

    async def dkim_keys(self) -> list[DkimKey]:
        return await self._read(dkim.listed, self._sealer)

    async def declare_accounts(self, specs: Sequence[AccountSpec], now: float) -> None:
        call = declared.Declarations([self._declaration(spec, now) for spec in specs], self._sealer)
        for tenant_id, account_id in await self._write(declared.DECLARE, call, DEADLINE):
            self._metrics.know(tenant_id, account_id)

    def _declaration(self, spec: AccountSpec, now: float) -> accounts.Declaration:
        """A work's call, without the password in the clear."""
        sealed = None if spec.password is None else self._sealer.seal(spec.password)
        bare = attrs.evolve(spec, password=None)
        return accounts.Declaration(bare, sealed, now, self._sealer)

    async def instance_name(self) -> str:
        return await self._read(commands_log.instance_name)

    async def name_instance(self, name: str) -> None:
        await self._write(commands_log.NAME, name, DEADLINE)

    async def log_command(self, entry: CommandEntry) -> None:
        await self._write(commands_log.LOG, entry, DEADLINE)

    async def commands(
        self, tenant_id: str | None, after: int | None, limit: int
    ) -> list[CommandEntry]:
        return await self._read(commands_log.page, tenant_id, after, limit)
