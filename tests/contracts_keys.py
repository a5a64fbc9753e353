"""What every store promises of keys, and of the log of commands."""

from __future__ import annotations

from typing import Any

from mailproxy.crypto import hash_token
from mailproxy.tenancy import MAX_KEYS, ApiKey, CommandEntry, Scope, TooManyKeys
from tests.contracts_base import DAY, StoreContract
from tests.contracts_tenants import TenantCase


def api_key(n: int, **fields: Any) -> ApiKey:
    """The *n*-th key of the tenant ``default``, unless *fields* say otherwise."""
    values: dict[str, Any] = {
        "hash": hash_token(f"token {n}"),
        "prefix": f"{n:08x}",
        "tenant_id": "default",
    }
    return ApiKey(**{**values, **fields})


class KeysContract(TenantCase):
    async def add(self, n: int, *, replace: bool = False, **fields: Any) -> ApiKey:
        key = api_key(n, created_at=self.now, **fields)
        await self.store.add_key(key, self.now, replace=replace)
        return key

    async def good(self) -> list[int]:
        """The numbers of the keys that are good, in order."""
        return sorted(int(key.prefix, 16) for key in await self.store.keys())

    async def test_key_reads_as_it_was_added(self) -> None:
        """A key reads as it was added."""
        key = await self.add(
            1,
            label="the shop",
            scopes=frozenset({Scope.SEND, Scope.READ}),
            networks=("10.0.0.0/8", "2001:db8::/32"),
            test=True,
            expires_at=self.now + 60,
        )

        self.assertEqual([key], await self.store.keys())

    async def test_keys_are_listed_by_tenant_and_age(self) -> None:
        """All keys are listed, by tenant and age."""
        await self.change("acme")
        for n, tenant_id in ((1, "default"), (2, "acme"), (3, "default"), (4, "acme")):
            await self.add(n, tenant_id=tenant_id)
            self.later(1)

        listed = [int(key.prefix, 16) for key in await self.store.keys()]
        self.assertEqual([2, 4, 1, 3], listed)

    async def test_keys_survive_the_process(self) -> None:
        """Keys are there after a kill."""
        key = await self.add(1)
        await self.killed()
        self.assertEqual([key], await self.store.keys())

    async def test_an_expired_key_is_none(self) -> None:
        """A key is good until it expires; afterwards it counts as none, and is removed."""
        await self.add(1, expires_at=self.now + 60)
        await self.add(2)
        self.later(59)
        self.assertEqual([1, 2], await self.good())

        self.later(1)

        self.assertEqual([2], await self.good())
        self.assertEqual(0, await self.store.revoke_keys("default", api_key(1).prefix, self.now))
        await self.add(3, expires_at=self.now)
        self.assertEqual(1, await self.upkeep())
        self.assertEqual([2], await self.good())

    async def test_the_key_unused_for_longest_ends(self) -> None:
        """Of more keys than may be good, the one ends that was used, or made, the longest ago."""
        for n in range(MAX_KEYS):
            await self.add(n)
            self.later(1)
        await self.store.keys_used({api_key(0).hash: self.now, api_key(2).hash: self.now})

        await self.add(100)
        await self.add(101)

        self.assertEqual([0, 2, *range(4, MAX_KEYS), 100, 101], await self.good())

    async def test_expired_keys_do_not_count(self) -> None:
        """A key that has expired ends no other."""
        await self.add(50, expires_at=self.now + 1)
        for n in range(MAX_KEYS - 1):
            await self.add(n)
        self.later(1)

        await self.add(100)

        self.assertEqual(MAX_KEYS, len(await self.good()))

    async def test_other_tenants_keys_do_not_count(self) -> None:
        """A tenant's keys end none of another's."""
        await self.change("acme")
        await self.add(100, tenant_id="acme")
        for n in range(MAX_KEYS):
            await self.add(n)

        self.assertEqual([*range(MAX_KEYS), 100], await self.good())

    async def test_replace(self) -> None:
        """A key that replaces is the only one of its tenant."""
        await self.change("acme")
        await self.add(1, tenant_id="acme")
        await self.add(2)
        await self.add(3)

        await self.add(4, replace=True)

        self.assertEqual([1, 4], await self.good())

    async def test_revoke(self) -> None:
        """One key of a tenant is ended by its prefix, or all of them."""
        await self.change("acme")
        await self.add(1, tenant_id="acme")
        for n in (2, 3, 4):
            await self.add(n)

        one = await self.store.revoke_keys("default", api_key(3).prefix, self.now)
        self.assertEqual((1, [1, 2, 4]), (one, await self.good()))
        none = await self.store.revoke_keys("default", api_key(1).prefix, self.now)
        self.assertEqual((0, [1, 2, 4]), (none, await self.good()))
        rest = await self.store.revoke_keys("default", None, self.now)
        self.assertEqual((2, [1]), (rest, await self.good()))

    async def test_a_key_is_added_once(self) -> None:
        """A key with a hash that is there, or a prefix the tenant has, is refused."""
        await self.change("acme")
        await self.add(1)

        for same in (
            api_key(2, hash=api_key(1).hash, tenant_id="acme"),
            api_key(2, prefix=api_key(1).prefix),
        ):
            with self.assertRaises(TooManyKeys):
                await self.store.add_key(same, self.now)
        await self.add(2, tenant_id="acme", prefix=api_key(1).prefix)

        self.assertEqual(2, len(await self.store.keys()))

    async def test_no_key_for_nobody(self) -> None:
        """There is no key to a tenant that is not there."""
        with self.assertRaises(ValueError):
            await self.add(1, tenant_id="nobody")

    async def test_use_is_noted(self) -> None:
        """When a key was last used is noted, and does not go back."""
        await self.add(1)
        await self.add(2)
        at = self.now

        await self.store.keys_used({api_key(1).hash: at, b"unknown": at})
        await self.store.keys_used({api_key(1).hash: at - 5})

        self.assertEqual([at, None], [key.used_at for key in await self.store.keys()])


class CommandLogContract(StoreContract):
    async def log(self, command: str, tenant_id: str | None = None, **fields: Any) -> None:
        entry = CommandEntry(self.now, tenant_id, command, **fields)
        await self.store.log_command(entry)
        self.later(1)

    async def logged(
        self, tenant_id: str | None = None, after: int | None = None, limit: int = 100
    ) -> list[str]:
        return [entry.command for entry in await self.store.commands(tenant_id, after, limit)]

    async def test_a_line_reads_as_it_was_written(self) -> None:
        """A line of the log reads as it was written."""
        at = self.now
        await self.log("POST /tenant", "acme", who="tenant:acme:01234567", detail='{"a":1}')

        (entry,) = await self.store.commands(None, None, 10)

        wanted = CommandEntry(
            at, "acme", "POST /tenant", "tenant:acme:01234567", '{"a":1}', entry.pk
        )
        self.assertEqual(wanted, entry)
        self.assertGreater(entry.pk, 0)

    async def test_newest_first_in_pages(self) -> None:
        """The log is read newest first, page by page, of all or of one tenant."""
        for n in range(5):
            await self.log(f"c{n}", "acme" if n % 2 else None)

        self.assertEqual(["c4", "c3", "c2", "c1", "c0"], await self.logged())
        self.assertEqual(["c3", "c1"], await self.logged("acme"))
        first = await self.store.commands(None, None, 2)
        self.assertEqual(["c2", "c1"], await self.logged(after=first[-1].pk, limit=2))
        self.assertEqual(["c1"], await self.logged("acme", first[-1].pk))

    async def test_the_log_survives_the_process(self) -> None:
        """The log is there after a kill, and goes on."""
        await self.log("before")
        await self.killed()
        await self.log("after")
        self.assertEqual(["after", "before"], await self.logged())

    async def test_old_lines_go(self) -> None:
        """A line is kept for 90 days."""
        await self.log("old")
        self.later(DAY)
        await self.log("young")

        self.later(89 * DAY)
        self.assertEqual(1, await self.upkeep())

        self.assertEqual(["young"], await self.logged())
