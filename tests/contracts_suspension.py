"""What every store promises of suspension: of the service, of a tenant, of one of its batches."""

from __future__ import annotations

from tests.build import new_message, record
from tests.contracts_base import StoreContract


class SuspensionContract(StoreContract):
    async def test_service(self) -> None:
        """A suspended service claims nothing until it is activated, and says so."""
        await self.post()
        self.assertTrue((await self.store.suspension(None)).active)

        answer = await self.store.suspend(None, None, self.now)

        self.assertEqual((None, ("*",), False), (answer.tenant_id, answer.batches, answer.active))
        self.assertEqual((1, 0), (answer.pending, answer.in_flight))
        self.assertEqual(answer, await self.store.suspension(None))
        self.assertEqual([], await self.claim())
        self.assertEqual([], (await self.store.due_accounts(self.now))[0])

        again = await self.store.activate(None, None, self.now)
        self.assertEqual(((), True), (again.batches, again.active))
        self.assertEqual("m1", (await self.claim_one()).id)

    async def test_tenant(self) -> None:
        """A suspended tenant claims nothing; others do."""
        await self.add_tenant("other")
        theirs = await self.put(tenant_id="other", id="theirs")
        await self.post()
        await self.post(tenant_id="other")

        answer = await self.store.suspend("default", None, self.now)

        self.assertEqual(("default", ("*",)), (answer.tenant_id, answer.batches))
        self.assertEqual((False, 1), (answer.active, answer.pending))
        self.assertEqual([], await self.claim())
        self.assertEqual("other", (await self.claim_one(theirs)).tenant_id)
        self.assertTrue((await self.store.suspension("other")).active)
        self.assertTrue((await self.store.suspension(None)).active)

    async def test_batch(self) -> None:
        """A suspended batch stays; the tenant's other mail goes."""
        await self.submit(
            new_message(id="m1", batch="x"), new_message(id="m2", batch="y"), new_message(id="m3")
        )

        answer = await self.store.suspend("default", "x", self.now)

        self.assertEqual(("x",), answer.batches)
        self.assertEqual({"m2", "m3"}, {each.id for each in await self.claim()})
        whole = await self.store.suspension("default")
        self.assertEqual((("x",), True, 3), (whole.batches, whole.active, whole.pending))

        await self.store.activate("default", "x", self.now)
        self.assertEqual(["m1"], [each.id for each in await self.claim()])

    async def test_several_batches(self) -> None:
        """Batches are suspended and activated one by one, or activated all at once."""
        await self.store.suspend("default", "x", self.now)
        await self.store.suspend("default", "y", self.now)
        both = await self.store.suspension("default")
        self.assertEqual(["x", "y"], sorted(both.batches))

        one = await self.store.activate("default", "x", self.now)
        self.assertEqual(("y",), one.batches)
        await self.store.suspend("default", "x", self.now)
        none = await self.store.activate("default", None, self.now)
        self.assertEqual(((), True), (none.batches, none.active))

    async def test_batch_out_of_a_full_suspension(self) -> None:
        """One batch cannot be activated while the whole tenant is suspended."""
        await self.post(batch="x")
        await self.store.suspend("default", None, self.now)

        with self.assertRaises(ValueError):
            await self.store.activate("default", "x", self.now)

        self.assertEqual(("*",), (await self.store.suspension("default")).batches)
        self.assertEqual([], await self.claim())

    async def test_new_mail_of_a_suspended_batch(self) -> None:
        """Intake goes on during a suspension; what comes in waits like the rest."""
        await self.store.suspend("default", "x", self.now)

        answer = await self.post(batch="x")

        self.assertEqual("queued", answer.verdict)
        self.assertEqual("queued", await self.state())
        self.assertEqual([], await self.claim())

    async def test_same_code_of_another_tenant(self) -> None:
        """A batch is its tenant's: another tenant's of the same name is not suspended."""
        await self.add_tenant("other")
        theirs = await self.put(tenant_id="other", id="theirs")
        await self.post(tenant_id="other", batch="x")
        await self.store.suspend("default", "x", self.now)
        self.assertEqual("m1", (await self.claim_one(theirs)).id)

    async def test_service_over_tenant(self) -> None:
        """While the service is suspended no tenant is active, nor can be activated."""
        await self.post()
        await self.store.suspend(None, None, self.now)
        self.assertFalse((await self.store.suspension("default")).active)
        await self.store.activate("default", None, self.now)
        self.assertEqual([], await self.claim())

    async def test_tenant_under_service(self) -> None:
        """Activating the service does not activate a tenant that is suspended itself."""
        await self.post()
        await self.store.suspend("default", None, self.now)
        await self.store.suspend(None, None, self.now)
        await self.store.activate(None, None, self.now)
        self.assertEqual([], await self.claim())
        self.assertEqual(("*",), (await self.store.suspension("default")).batches)

    async def test_in_flight_had_begun(self) -> None:
        """A suspension says how many bodies had begun; those come to their end."""
        await self.submit(new_message(id="m1"), new_message(id="m2"))
        claimed = (await self.claim(limit=1))[0]
        await self.begin(claimed)

        answer = await self.store.suspend("default", None, self.now)

        self.assertEqual((2, 1), (answer.pending, answer.in_flight))
        self.assertEqual([True], await self.store.record([record(claimed, at=self.now)]))
        after = await self.store.suspension("default")
        self.assertEqual((1, 0), (after.pending, after.in_flight))

    async def test_suspension_survives_the_process(self) -> None:
        """What was suspended is suspended after a kill."""
        await self.post()
        await self.store.suspend(None, None, self.now)
        await self.store.suspend("default", "x", self.now)

        await self.killed()

        self.assertFalse((await self.store.suspension(None)).active)
        self.assertEqual(("x",), (await self.store.suspension("default")).batches)
        self.assertEqual([], await self.claim())

    async def test_activation_wakes_the_dispatcher(self) -> None:
        """After an activation the accounts with mail are looked at again."""
        await self.post(batch="x")
        for tenant, batch in ((None, None), ("default", None), ("default", "x")):
            await self.store.suspend(tenant, batch, self.now)
            self.observer.forget()
            await self.store.activate(tenant, batch, self.now)
            self.assertIn(self.acct.pk, self.observer.due_accounts)

    async def test_suspended_twice(self) -> None:
        """Suspending what is suspended, or activating what is active, changes nothing."""
        await self.store.activate("default", "x", self.now)
        await self.store.suspend("default", "x", self.now)
        await self.store.suspend("default", "x", self.now)
        self.assertEqual(("x",), (await self.store.suspension("default")).batches)
        await self.store.activate("default", "x", self.now)
        self.assertEqual((), (await self.store.suspension("default")).batches)
