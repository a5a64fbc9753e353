"""The fake store's keys that sign mail."""

from __future__ import annotations

import attrs

from mailproxy.dkim_keys import MAX_SELECTORS, DkimKey, DkimKeyExists, TooManyDkimKeys
from tests.fake_store_base import FakePart
from tests.fake_store_intake import Change
from tests.fake_store_rows import Disk


class FakeSigningKeys(FakePart):
    """The part of the fake that is ``ISigningKeys``."""

    async def add_dkim_key(self, key: DkimKey) -> None:
        await self._write("add_dkim_key", self.clock.now(), lambda c: _add(c.disk, key))

    async def switch_dkim_key(
        self, tenant_id: str, domain: str, selector: str, active: bool
    ) -> bool:
        name = (tenant_id, domain, selector)

        def work(change: Change) -> bool:
            found = change.disk.dkim.get(name)
            if found is not None:
                _put(change.disk, attrs.evolve(found, active=active))
            return found is not None

        return await self._write("switch_dkim_key", self.clock.now(), work)

    async def drop_dkim_key(self, tenant_id: str, domain: str, selector: str) -> bool:
        name = (tenant_id, domain, selector)
        return await self._write(
            "drop_dkim_key",
            self.clock.now(),
            lambda c: c.disk.dkim.pop(name, None) is not None,
        )

    async def dkim_keys(self) -> list[DkimKey]:
        self._check_alive()
        return sorted(
            self.disk.dkim.values(),
            key=lambda key: (key.tenant_id, key.domain, key.created_at, key.selector),
        )


def _add(disk: Disk, key: DkimKey) -> None:
    if disk.tenant(key.tenant_id) is None:
        raise ValueError("tenant not found")
    if (key.tenant_id, key.domain, key.selector) in disk.dkim:
        raise DkimKeyExists("there is a key with this selector already")
    if len([each for each in disk.dkim.values() if _same_domain(each, key)]) >= MAX_SELECTORS:
        raise TooManyDkimKeys(f"there are {MAX_SELECTORS} keys for this domain already")
    _put(disk, key)


def _put(disk: Disk, key: DkimKey) -> None:
    """Of an algorithm no more than one key of a domain is active."""
    name = (key.tenant_id, key.domain, key.selector)
    if key.active:
        for other, each in disk.dkim.items():
            if _same_domain(each, key) and each.algorithm is key.algorithm:
                disk.dkim[other] = attrs.evolve(each, active=False)
    disk.dkim[name] = key


def _same_domain(one: DkimKey, other: DkimKey) -> bool:
    return (one.tenant_id, one.domain) == (other.tenant_id, other.domain)
