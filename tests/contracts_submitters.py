"""What every store promises of credentials for handing mail in by SMTP."""

from __future__ import annotations

from typing import Any

from mailproxy.submitters import MAX_SUBMITTERS, Submitter, TooManySubmitters, UserTaken
from tests.contracts_tenants import TenantCase


class SubmittersContract(TenantCase):
    async def credential(
        self, user: str = "erp", tenant_id: str = "default", **fields: Any
    ) -> Submitter:
        return await self.store.put_submitter(Submitter(user, tenant_id, **fields), self.now)

    async def users(self) -> list[str]:
        return [each.user for each in await self.store.submitters()]

    async def test_reads_as_it_was_put(self) -> None:
        """A credential reads as it was put, also after a kill."""
        put = await self.credential(
            hash="scrypt$1$2$3$4$5",
            account_id="main",
            senders=("erp@example.com", "@shop.example.com"),
            networks=("192.0.2.0/24", "2001:db8::/32"),
            label="the ERP",
            active=False,
        )
        self.assertEqual((self.now, self.now), (put.created_at, put.updated_at))
        await self.killed()

        self.assertEqual([put], await self.store.submitters())

    async def test_change(self) -> None:
        """Put again it is changed: it keeps when it was made, and nothing else it was."""
        made = await self.credential(hash="a", label="old", networks=("192.0.2.0/24",))
        self.later(5)
        changed = await self.credential(hash="b")

        self.assertEqual([changed], await self.store.submitters())
        self.assertEqual((made.created_at, self.now), (changed.created_at, changed.updated_at))
        self.assertEqual(("b", "", ()), (changed.hash, changed.label, changed.networks))

    async def test_listed_by_user(self) -> None:
        """All credentials are listed, by user."""
        await self.change("acme")
        for user, tenant_id in (("c", "default"), ("a", "default"), ("b", "acme")):
            await self.credential(user, tenant_id)

        self.assertEqual(["a", "b", "c"], await self.users())

    async def test_one_user_one_tenant(self) -> None:
        """A user name belongs to one tenant: a login says no tenant."""
        await self.change("acme")
        await self.credential("erp", "acme")

        with self.assertRaises(UserTaken):
            await self.credential("erp", "default")
        (kept,) = await self.store.submitters()
        self.assertEqual("acme", kept.tenant_id)

    async def test_delete(self) -> None:
        """A credential is deleted by its own tenant only, and once."""
        await self.change("acme")
        await self.credential("erp", "acme")

        self.assertFalse(await self.store.delete_submitter("default", "erp"))
        self.assertEqual(["erp"], await self.users())
        self.assertTrue(await self.store.delete_submitter("acme", "erp"))
        self.assertFalse(await self.store.delete_submitter("acme", "erp"))
        self.assertEqual([], await self.users())

    async def test_no_tenant(self) -> None:
        """There is no credential of a tenant that does not exist."""
        with self.assertRaises(ValueError):
            await self.credential("erp", "nobody")

    async def test_they_go_with_their_tenant(self) -> None:
        """Credentials end with their tenant, and do not come back with it."""
        await self.change("acme")
        await self.credential("erp", "acme")
        await self.store.delete_tenant("acme", self.now)
        self.assertEqual([], await self.users())
        with self.assertRaises(ValueError):
            await self.credential("crm", "acme")

        await self.change("acme")
        self.assertEqual([], await self.users())

    async def test_no_more_than_so_many(self) -> None:
        """A tenant has no more than a thousand; those that are there can be changed."""
        for n in range(MAX_SUBMITTERS):
            await self.credential(f"user{n}")

        with self.assertRaises(TooManySubmitters):
            await self.credential("one-more")
        await self.credential("user0", label="changed")
        self.assertEqual(MAX_SUBMITTERS, len(await self.store.submitters()))
