"""What every store promises of a tenant that is deleted: its mail ends, is reported, and goes."""

from __future__ import annotations

from typing import Any

from mailproxy.model import Account, Claimed
from mailproxy.records import MessageRecord, ReportItem
from mailproxy.tenancy import ClientAuth, Tenant
from tests.build import accepted, deferral, new_message, put_off, record
from tests.contracts_base import DAY
from tests.contracts_keys import api_key
from tests.contracts_tenants import TenantCase


class DeletedTenantContract(TenantCase):
    """:ivar theirs: the account of the tenant ``acme``, made before each test."""

    theirs: Account

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        await self.change(client_auth=ClientAuth("bearer", "secret"))
        self.theirs = await self.put(tenant_id="acme", id="theirs", user="u", password="secret")
        self.observer.forget()

    async def delete(self) -> None:
        self.assertTrue(await self.store.delete_tenant("acme", self.now))

    async def post_theirs(self, *ids: str, **fields: Any) -> list[str]:
        messages = [new_message(id=each, tenant_id="acme", **fields) for each in ids]
        return [str(answer.reason or answer.verdict) for answer in await self.submit(*messages)]

    async def begun(self, message_id: str) -> Claimed:
        """A message of theirs whose body has begun."""
        await self.post_theirs(message_id)
        claimed = await self.claim_one(self.theirs)
        self.assertEqual([True], await self.begin(claimed))
        return claimed

    async def state_of(self, message_id: str) -> str:
        (found,) = await self.listed_theirs(message_id)
        return found.state

    async def listed_theirs(self, message_id: str) -> list[MessageRecord]:
        return [each for each in await self.listed(tenant_id="acme") if each.id == message_id]

    async def told(self) -> dict[str, ReportItem]:
        return {item.id: item for item in await self.offered("acme")}

    async def test_the_default_tenant_cannot_be_deleted(self) -> None:
        """The tenant ``default`` cannot be deleted."""
        with self.assertRaises(ValueError):
            await self.store.delete_tenant("default", self.now)

    async def test_unknown_tenant(self) -> None:
        """Of a tenant that is not there, or is being deleted, nothing can be deleted."""
        self.assertFalse(await self.store.delete_tenant("nobody", self.now))
        await self.delete()
        self.assertFalse(await self.store.delete_tenant("acme", self.now))

    async def test_intake_ends_at_once(self) -> None:
        """A deleted tenant's mail is refused as that of a tenant nobody knows."""
        await self.delete()
        self.assertEqual(["tenant not found"], await self.post_theirs("m1"))

    async def test_keys_end_at_once(self) -> None:
        """The keys of a deleted tenant end with it; those of others do not."""
        await self.store.add_key(api_key(1, tenant_id="acme"), self.now)
        await self.store.add_key(api_key(2, tenant_id="default"), self.now)

        await self.delete()

        self.assertEqual(["default"], [key.tenant_id for key in await self.store.keys()])
        with self.assertRaises(ValueError):
            await self.store.add_key(api_key(3, tenant_id="acme"), self.now)

    async def test_no_body_is_begun_after_the_answer(self) -> None:
        """Once a tenant is deleted, none of its mail is due, claimed or begun."""
        await self.post_theirs("m1", "m2")
        (claimed,) = await self.claim(self.theirs, limit=1)

        await self.delete()

        self.assertEqual([], await self.claim(self.theirs))
        self.assertEqual([], (await self.store.due_accounts(self.now))[0])
        self.assertEqual([False], await self.begin(claimed))

    async def test_others_go_on(self) -> None:
        """The deletion of a tenant touches no other's mail."""
        await self.post(id="ours")
        await self.delete()
        await self.upkeep()
        self.later(DAY + 1)
        await self.upkeep()

        self.assertEqual("ours", (await self.claim_one()).id)

    async def test_suspension(self) -> None:
        """A tenant that is deleted or unknown can be neither suspended nor activated."""
        await self.delete()

        for tenant_id in ("acme", "nobody"):
            for act in (self.store.suspend, self.store.activate):
                with self.assertRaises(ValueError):
                    await act(tenant_id, None, self.now)
            with self.assertRaises(ValueError):
                await self.store.suspension(tenant_id)

    async def test_it_is_still_told(self) -> None:
        """A tenant that is being deleted is listed as such, with what reports to it need."""
        await self.delete()

        tenant = await self.found()

        self.assertEqual((self.now, "secret"), (tenant.deleted_at, tenant.client_auth.token))

    async def test_open_mail_is_cancelled_and_reported(self) -> None:
        """Mail that has not begun, also what waits or is leased, is cancelled and reported."""
        await self.post_theirs("m1", "m2")
        await self.post_theirs("later", not_before=self.now + DAY)
        await self.claim(self.theirs, limit=1)
        self.observer.forget()

        await self.delete()
        await self.upkeep()

        self.assertEqual(
            ["cancelled"] * 3, [each.state for each in await self.listed(tenant_id="acme")]
        )
        self.assertIn("acme", self.observer.reportable_tenants)
        told = await self.told()
        self.assertEqual({"m1", "m2", "later"}, set(told))
        for item in told.values():
            self.assertIn("tenant deleted", item.error or "")
            self.assertEqual((None, None), (item.sent_ts, item.deferred_ts))
        self.assertEqual(0, (await self.store.counts(self.now)).pending)

    async def test_what_was_tried_before_is_cancelled(self) -> None:
        """Mail that waits for another attempt is cancelled; who accepted it stays named."""
        await self.post_theirs("m1", to=("a@example.org", "b@example.org"))
        await self.defer(await self.claim_one(self.theirs), accepted(0), put_off(1))

        await self.delete()
        await self.upkeep()

        item = (await self.told())["m1"]
        self.assertEqual("failed", await self.state_of("m1"))
        self.assertIn("tenant deleted", item.error or "")
        self.assertIn("accepted by a@example.org", item.error or "")
        self.assertEqual(["sent", "cancelled"], [each.state for each in item.recipients])

    async def test_large_queue_ends_in_steps(self) -> None:
        """However much mail a deleted tenant leaves, a step of upkeep takes 500 at most."""
        await self.post_theirs(*(f"m{n}" for n in range(1100)))
        await self.delete()

        await self.upkeep()

        self.assertEqual({"cancelled"}, {each.state for each in await self.listed(limit=2000)})
        self.later(DAY + 1)
        await self.upkeep()
        self.assertEqual(["default"], [each.id for each in await self.store.tenants()])

    async def test_what_is_on_its_way_keeps_its_outcome(self) -> None:
        """A body that had begun comes to its own end, which is reported."""
        claimed = await self.begun("m1")
        await self.delete()
        await self.upkeep()
        self.assertEqual("in_flight", await self.state_of("m1"))

        self.assertEqual([True], await self.store.record([record(claimed, at=self.now)]))
        await self.upkeep()

        self.assertEqual("sent", await self.state_of("m1"))
        self.assertIsNotNone((await self.told())["m1"].sent_ts)

    async def test_what_is_on_its_way_is_not_retried(self) -> None:
        """A body that had begun and was put off is cancelled."""
        claimed = await self.begun("m1")
        await self.delete()

        await self.store.record([deferral(claimed, at=self.now, next_at=self.now + 60)])
        await self.upkeep()

        self.assertEqual("cancelled", await self.state_of("m1"))
        self.assertIn("tenant deleted", (await self.told())["m1"].error or "")

    async def test_reports_are_kept_for_a_day(self) -> None:
        """What was not reported is offered for a day, and no longer."""
        await self.post_theirs("m1")
        await self.delete()
        await self.upkeep()

        self.later(DAY - 60)
        await self.upkeep()
        self.assertEqual({"m1"}, set(await self.told()))
        self.assertEqual(["acme"], await self.store.waiting_tenants())

        self.later(120)
        await self.upkeep()
        self.assertEqual({}, await self.told())
        self.assertEqual([], await self.store.waiting_tenants())

    async def test_an_event_has_its_own_day(self) -> None:
        """An event that is made after the deletion is offered for a day after that."""
        claimed = await self.begun("m1")
        await self.delete()
        self.later(DAY - 60)
        await self.store.record([record(claimed, at=self.now)])

        self.later(DAY - 60)
        await self.upkeep()
        self.assertEqual({"m1"}, set(await self.told()))

        self.later(120)
        await self.upkeep()
        self.assertEqual([], await self.listed(tenant_id="acme"))

    async def test_nothing_is_left(self) -> None:
        """A day after the deletion neither tenant, account nor mail is there; the id is free."""
        await self.post_theirs("m1")
        await self.finish(await self.claim_one(self.theirs))
        await self.report("acme")
        await self.store.suspend("acme", "x", self.now)
        await self.delete()
        await self.upkeep()
        self.assertEqual("sent", await self.state_of("m1"))

        self.later(DAY + 1)
        await self.upkeep()

        self.assertEqual(["default"], [each.id for each in await self.store.tenants()])
        self.assertEqual([self.acct], await self.store.accounts(None))
        self.assertEqual([], await self.listed(tenant_id="acme"))
        again = await self.change()
        self.assertEqual((1, self.now), (again.version, again.created_at))
        self.assertEqual(["account not found"], await self.post_theirs("m1"))
        await self.put(tenant_id="acme", id="theirs")
        self.assertEqual(["queued"], await self.post_theirs("m1"))
        self.assertEqual((), (await self.store.suspension("acme")).batches)

    async def test_tombstones_go_too(self) -> None:
        """An id that the tenant before had sent, and that was removed, is new to the next one."""
        await self.post_theirs("m1")
        await self.finish(await self.claim_one(self.theirs))
        await self.report("acme")
        self.later(8 * DAY)
        await self.upkeep()
        self.assertEqual(["duplicate"], await self.post_theirs("m1"))
        await self.report("acme")
        await self.delete()
        self.later(DAY + 1)
        await self.upkeep()

        await self.change()
        account = await self.put(tenant_id="acme", id="theirs")
        await self.post_theirs("m1")

        self.assertEqual(1, (await self.claim_one(account)).generation)

    async def test_registered_again(self) -> None:
        """Registering the id within the day ends the deletion and keeps what is left."""
        await self.post_theirs("m1")
        await self.delete()
        await self.upkeep()
        seen: list[Tenant | None] = []

        def change(old: Tenant | None) -> Tenant:
            seen.append(old)
            return Tenant("acme")

        back = await self.store.change_tenant("acme", change, self.now)
        self.later(2 * DAY)
        await self.upkeep()

        self.assertEqual([None], seen)
        self.assertIsNone(back.deleted_at)
        self.assertEqual("cancelled", await self.state_of("m1"))
        self.assertEqual({"m1"}, set(await self.told()))
        self.assertEqual([self.theirs], await self.store.accounts("acme"))
        self.assertEqual(["queued"], await self.post_theirs("m2"))
        self.assertEqual("m2", (await self.claim_one(self.theirs)).id)

    async def test_registered_again_at_once(self) -> None:
        """Mail that was not yet cancelled is sent when the tenant is back; its age did not run."""
        await self.post_theirs("m1")
        before = await self.claim_one(self.theirs)
        await self.delete()
        self.later(60)

        await self.change()
        await self.upkeep()

        self.assertIn(self.theirs.pk, self.observer.due_accounts)
        await self.store.release([(before.pk, before.token)])
        claimed = await self.claim_one(self.theirs)
        self.assertEqual("m1", claimed.id)
        self.assertAlmostEqual(before.expires_at + 60, claimed.expires_at)

    async def test_deletion_survives_the_process(self) -> None:
        """A kill after the answer brings neither the tenant nor its mail back."""
        await self.post_theirs("m1")
        await self.delete()

        await self.killed()
        await self.upkeep()

        self.assertEqual("cancelled", await self.state_of("m1"))
        self.assertEqual({"m1"}, set(await self.told()))

    async def test_cancelled_mail_posted_again(self) -> None:
        """Mail cancelled with its tenant is sent when the tenant is back and posts it again."""
        await self.post_theirs("m1")
        await self.delete()
        await self.upkeep()
        await self.change()

        self.assertEqual(["queued"], await self.post_theirs("m1"))

        self.assertEqual(2, (await self.claim_one(self.theirs)).generation)
