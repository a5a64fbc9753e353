"""What every store promises of tenants: registered, changed, inactive, and how long mail stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from mailproxy.tenancy import Bounces, ClientAuth, LargeFiles, RateLimits, Tenant
from tests.build import deferral, new_message
from tests.contracts_base import DAY, RETENTION, StoreContract


def setting(**fields: Any) -> Callable[[Tenant | None], Tenant]:
    """A change that sets *fields*, of a new tenant or of the one there is."""
    return lambda old: attrs.evolve(old or Tenant(""), **fields)


class TenantCase(StoreContract):
    """Short sentences about tenants; no tests."""

    async def change(self, tenant_id: str = "acme", **fields: Any) -> Tenant:
        return await self.store.change_tenant(tenant_id, setting(**fields), self.now)

    async def found(self, tenant_id: str = "acme") -> Tenant:
        (tenant,) = [each for each in await self.store.tenants() if each.id == tenant_id]
        return tenant


class TenantsContract(TenantCase):
    async def test_the_default_tenant_is_there(self) -> None:
        """The tenant ``default`` is there from the beginning, and active."""
        (tenant,) = await self.store.tenants()
        self.assertEqual(("default", True, None), (tenant.id, tenant.active, tenant.deleted_at))
        self.assertIsNone(tenant.sync_url)

    async def test_tenant_reads_as_it_was_made(self) -> None:
        """A tenant reads as it was registered, its secrets included."""
        made = await self.change(
            name="Acme",
            client_base_url="https://acme.example.com/app",
            client_sync_path="/reports",
            client_sync_url="https://other.example.com/sync",
            client_attachment_path="/files",
            client_attachment_url="https://other.example.com/files",
            client_auth=ClientAuth("basic", "tok", "us er", "pässwörd"),
            rate_limits=RateLimits(10, 100),
            large_file_config=LargeFiles(True, 2.5, "rewrite", "file:///x", "https://x", 7),
            retention_seconds=3600,
            signing_secret="whsec_c2VjcmV0",
            suppress_refused=True,
            bounces=Bounces(True, "bulk", "postmaster@example.com"),
        )

        self.assertEqual(made, await self.found())
        self.assertEqual(
            ("acme", 1, self.now, self.now, None),
            (made.id, made.version, made.created_at, made.updated_at, made.deleted_at),
        )
        self.assertEqual(ClientAuth("basic", "tok", "us er", "pässwörd"), made.client_auth)
        self.assertEqual(("rewrite", 2.5), (
            made.large_file_config and made.large_file_config.action,
            made.large_file_config and made.large_file_config.max_size_mb,
        ))  # fmt: skip
        self.assertEqual("whsec_c2VjcmV0", made.signing_secret)

    async def test_tenants_are_listed_by_id(self) -> None:
        """All tenants are listed, by id."""
        for name in ("zeta", "acme"):
            await self.change(name)

        self.assertEqual(["acme", "default", "zeta"], [t.id for t in await self.store.tenants()])

    async def test_a_change_sees_what_is_stored(self) -> None:
        """A change is made of the tenant as it is stored, and raises its version."""
        first = await self.change(name="Acme", client_auth=ClientAuth("bearer", "secret"))
        seen: list[Tenant | None] = []

        def rename(old: Tenant | None) -> Tenant:
            seen.append(old)
            assert old is not None
            return attrs.evolve(old, name="New", id="other", version=77, created_at=0.0)

        self.later(5)
        second = await self.store.change_tenant("acme", rename, self.now)

        self.assertEqual([first], seen)
        wanted = attrs.evolve(first, name="New", version=2, updated_at=self.now)
        self.assertEqual(wanted, second)
        self.assertEqual(second, await self.found())

    async def test_a_change_of_a_new_tenant_sees_none(self) -> None:
        """Where there is no tenant, the change is given None."""
        seen: list[Tenant | None] = []

        def make(old: Tenant | None) -> Tenant:
            seen.append(old)
            return Tenant("acme")

        await self.store.change_tenant("acme", make, self.now)

        self.assertEqual([None], seen)

    async def test_what_a_change_raises(self) -> None:
        """What a change raises is raised, whatever it is, and nothing was changed."""

        def refuse(_old: Tenant | None) -> Tenant:
            raise LookupError("no such tenant")

        with self.assertRaises(LookupError):
            await self.store.change_tenant("acme", refuse, self.now)

        self.assertEqual(["default"], [each.id for each in await self.store.tenants()])
        self.assertTrue(self.store.healthy())

    async def test_tenants_survive_the_process(self) -> None:
        """Tenants and their secrets are there after a kill."""
        made = await self.change(client_auth=ClientAuth("bearer", "secret"), signing_secret="s")

        await self.killed()

        self.assertEqual(made, await self.found())

    async def test_instance_name(self) -> None:
        """What the operator calls the service is kept."""
        self.assertEqual("", await self.store.instance_name())
        await self.store.name_instance("first")
        await self.store.name_instance("Mail of Acme")

        await self.killed()

        self.assertEqual("Mail of Acme", await self.store.instance_name())


class InactiveTenantContract(TenantCase):
    async def activity(self, active: bool) -> None:
        await self.change("default", active=active)

    async def test_intake(self) -> None:
        """The mail of an inactive tenant is not taken, and taken again once it is active."""
        await self.activity(False)
        refused = await self.post()
        await self.activity(True)

        self.assertEqual(("rejected", "tenant inactive"), (refused.verdict, refused.reason))
        self.assertEqual("queued", (await self.post()).verdict)

    async def test_nothing_is_sent(self) -> None:
        """Of an inactive tenant nothing is due, claimed or begun."""
        await self.submit(new_message(id="m1"), new_message(id="m2"))
        (claimed,) = await self.claim(limit=1)

        await self.activity(False)

        self.assertEqual([], await self.claim())
        self.assertEqual(([], None), await self.store.due_accounts(self.now))
        self.assertEqual([False], await self.begin(claimed))

    async def test_active_again(self) -> None:
        """Once the tenant is active again its mail is due, and the dispatcher is told."""
        await self.post()
        await self.activity(False)
        self.observer.forget()

        await self.activity(True)

        self.assertIn(self.acct.pk, self.observer.due_accounts)
        self.assertEqual("m1", (await self.claim_one()).id)

    async def test_others_go_on(self) -> None:
        """An inactive tenant stops no other."""
        await self.change("acme")
        theirs = await self.put(tenant_id="acme", id="theirs")
        await self.post(tenant_id="acme")

        await self.activity(False)

        self.assertEqual("acme", (await self.claim_one(theirs)).tenant_id)

    async def test_age_does_not_run(self) -> None:
        """The age of mail does not run while its tenant is inactive."""
        await self.post()
        before = await self.claim_one()
        await self.store.release([(before.pk, before.token)])

        await self.activity(False)
        self.later(3 * DAY)
        await self.activity(True)

        self.assertAlmostEqual(before.expires_at + 3 * DAY, (await self.claim_one()).expires_at)

    async def test_a_suspension_stays(self) -> None:
        """Making a tenant active does not end its suspension, nor the other way round."""
        await self.post()
        await self.store.suspend("default", None, self.now)
        await self.activity(False)
        await self.activity(True)
        self.assertEqual([], await self.claim())

        await self.activity(False)
        await self.store.activate("default", None, self.now)
        self.assertEqual([], await self.claim())

        await self.activity(True)
        self.assertEqual("m1", (await self.claim_one()).id)

    async def test_it_shows(self) -> None:
        """A look at what is suspended tells that nothing of an inactive tenant is sent."""
        await self.activity(False)
        found = await self.store.suspension("default")
        self.assertEqual(((), False), (found.batches, found.active))

    async def test_reports_go_on(self) -> None:
        """What was on its way keeps its outcome, which is offered though the tenant is inactive."""
        await self.post()
        claimed = await self.claim_one()
        await self.begin(claimed)
        await self.activity(False)

        item = deferral(claimed, at=self.now, next_at=self.now + 60)
        self.assertEqual([True], await self.store.record([item]))

        self.assertEqual("deferred", await self.state())
        (offered,) = await self.offered()
        self.assertEqual("m1", offered.id)
        self.assertEqual(["default"], await self.store.waiting_tenants())

    async def test_inactive_survives_the_process(self) -> None:
        """A kill does not make a tenant active."""
        await self.post()
        await self.activity(False)

        await self.killed()

        self.assertEqual([], await self.claim())
        self.assertEqual("rejected", (await self.post(id="m2")).verdict)


class TenantRetentionContract(TenantCase):
    async def ended(self, tenant_id: str) -> None:
        """One message of the tenant is sent and reported."""
        account = await self.put(tenant_id=tenant_id)
        await self.post(tenant_id=tenant_id, id=f"of-{tenant_id}")
        await self.finish(await self.claim_one(account))
        await self.report(tenant_id)

    async def kept(self) -> list[str]:
        return sorted(each.id for each in await self.listed())

    async def test_each_tenant_keeps_its_own_time(self) -> None:
        """S27: a tenant's own retention is in force, shorter or longer than the service's."""
        await self.change("brief", retention_seconds=3600)
        await self.change("long", retention_seconds=int(3 * RETENTION))
        for tenant_id in ("brief", "default", "long"):
            await self.ended(tenant_id)

        await self.upkeep()
        self.assertEqual(["of-brief", "of-default", "of-long"], await self.kept())
        self.later(3601)
        await self.upkeep()
        self.assertEqual(["of-default", "of-long"], await self.kept())
        self.later(RETENTION)
        await self.upkeep()
        self.assertEqual(["of-long"], await self.kept())
        self.later(2 * RETENTION)
        await self.upkeep()
        self.assertEqual([], await self.kept())

    async def test_what_is_not_reported_stays(self) -> None:
        """However short a tenant's retention, what is not reported is kept."""
        await self.change("default", retention_seconds=1)
        await self.deliver()

        self.later(DAY)
        await self.upkeep()

        self.assertEqual("sent", await self.state())
