"""What every store promises of the keys that sign mail."""

from __future__ import annotations

from typing import Any

import attrs

from mailproxy.dkim_keys import (
    MAX_SELECTORS,
    Algorithm,
    DkimKey,
    DkimKeyExists,
    TooManyDkimKeys,
    generate,
)
from tests.contracts_tenants import TenantCase

#: One pair is as good as another: the store does not look into it.
PAIR = generate(Algorithm.ED25519)


class SigningKeysContract(TenantCase):
    async def add(self, selector: str = "s1", tenant_id: str = "default", **fields: Any) -> DkimKey:
        values: dict[str, Any] = {
            "domain": "example.com",
            "algorithm": PAIR.algorithm,
            "private": PAIR.private,
            "public": PAIR.public,
            "created_at": self.now,
        }
        key = DkimKey(tenant_id=tenant_id, selector=selector, **{**values, **fields})
        await self.store.add_dkim_key(key)
        return key

    async def active(self) -> list[str]:
        """The selectors of those that sign."""
        return [key.selector for key in await self.store.dkim_keys() if key.active]

    async def test_reads_as_it_was_added(self) -> None:
        """A key reads as it was added, its private half too, also after a kill."""
        key = await self.add(active=True)
        await self.killed()

        self.assertEqual([key], await self.store.dkim_keys())

    async def test_listed_by_tenant_domain_and_age(self) -> None:
        """All keys are listed, by tenant, domain and age."""
        await self.change("acme")
        for selector, tenant_id, domain in (
            ("z", "default", "b.example"),
            ("a", "default", "b.example"),
            ("m", "default", "a.example"),
            ("m", "acme", "b.example"),
        ):
            await self.add(selector, tenant_id, domain=domain)
            self.later(1)

        found = [(key.tenant_id, key.domain, key.selector) for key in await self.store.dkim_keys()]
        self.assertEqual(
            [
                ("acme", "b.example", "m"),
                ("default", "a.example", "m"),
                ("default", "b.example", "z"),
                ("default", "b.example", "a"),
            ],
            found,
        )

    async def test_one_of_a_name(self) -> None:
        """A selector is taken once, by domain and tenant."""
        await self.change("acme")
        first = await self.add()

        with self.assertRaises(DkimKeyExists):
            await self.add(public="another")
        await self.add(tenant_id="acme")
        await self.add(domain="other.example")

        self.assertIn(first, await self.store.dkim_keys())
        self.assertEqual(3, len(await self.store.dkim_keys()))

    async def test_one_signs(self) -> None:
        """Of a domain's keys of one algorithm the one that was activated last signs, alone."""
        await self.change("acme")
        rsa = Algorithm.RSA
        await self.add("old", active=True)
        await self.add("both", algorithm=rsa, active=True)
        await self.add("elsewhere", domain="other.example", active=True)
        await self.add("theirs", "acme", active=True)
        others = {"both", "elsewhere", "theirs"}
        self.assertEqual(others | {"old"}, set(await self.active()))

        await self.add("new")
        self.assertEqual(others | {"old"}, set(await self.active()))
        self.assertTrue(await self.store.switch_dkim_key("default", "example.com", "new", True))
        self.assertEqual(others | {"new"}, set(await self.active()))
        await self.add("newest", active=True)
        self.assertEqual(others | {"newest"}, set(await self.active()))
        self.assertTrue(await self.store.switch_dkim_key("default", "example.com", "newest", False))
        self.assertEqual(others, set(await self.active()))

    async def test_switched_twice(self) -> None:
        """Activating what is active changes nothing; what is not there cannot be switched."""
        await self.change("acme")
        key = await self.add(active=True)

        self.assertTrue(await self.store.switch_dkim_key("default", "example.com", "s1", True))
        for name in (
            ("acme", "example.com", "s1"),
            ("default", "other.example", "s1"),
            ("default", "example.com", "s2"),
        ):
            self.assertFalse(await self.store.switch_dkim_key(*name, False))

        self.assertEqual([key], await self.store.dkim_keys())

    async def test_drop(self) -> None:
        """A key is removed by its own name only, and once."""
        await self.change("acme")
        await self.add()

        self.assertFalse(await self.store.drop_dkim_key("acme", "example.com", "s1"))
        self.assertTrue(await self.store.drop_dkim_key("default", "example.com", "s1"))
        self.assertFalse(await self.store.drop_dkim_key("default", "example.com", "s1"))

        self.assertEqual([], await self.store.dkim_keys())

    async def test_no_tenant(self) -> None:
        """There is no key of a tenant that does not exist, or is being deleted."""
        await self.change("acme")
        await self.store.delete_tenant("acme", self.now)

        for tenant_id in ("nobody", "acme"):
            with self.assertRaises(ValueError):
                await self.add(tenant_id=tenant_id)

    async def test_so_many(self) -> None:
        """A domain of a tenant has so many keys and no more."""
        for n in range(MAX_SELECTORS):
            await self.add(f"s{n}")

        with self.assertRaises(TooManyDkimKeys):
            await self.add("more")
        await self.add("more", domain="other.example")

    async def test_they_go_with_their_tenant(self) -> None:
        """Keys end with their tenant at once, and do not come back with it."""
        await self.change("acme")
        await self.add(tenant_id="acme", active=True)
        kept = await self.add()

        await self.store.delete_tenant("acme", self.now)
        self.assertEqual([kept], await self.store.dkim_keys())
        await self.change("acme")
        self.assertEqual([kept], await self.store.dkim_keys())

    async def test_not_shown(self) -> None:
        """The private half is not in what a key looks like in logs and tracebacks."""
        key = await self.add()
        for each in (key, *await self.store.dkim_keys(), attrs.evolve(key, active=True)):
            self.assertNotIn("PRIVATE KEY", repr(each))
