"""What every store promises when an account is deleted: of its mail, and of what follows it."""

from __future__ import annotations

from mailproxy.states import EventKind
from tests.build import deferral, new_message, put_off, record
from tests.contracts_base import DAY, StoreContract


class DeletedAccountContract(StoreContract):
    async def delete(self) -> None:
        self.assertTrue(await self.store.delete_account("default", "acct", self.now))

    async def test_deleted_account_is_gone(self) -> None:
        """A deleted account is neither listed nor found, and cannot be deleted again."""
        await self.delete()

        self.assertEqual([], await self.store.accounts(None))
        self.assertIsNone(await self.store.account(self.acct.pk))
        self.assertFalse(await self.store.delete_account("default", "acct", self.now))

    async def test_no_body_is_begun_after_the_answer(self) -> None:
        """Once an account is deleted, none of its mail is claimed or begun."""
        await self.submit(new_message(id="m1"), new_message(id="m2"))
        (claimed,) = await self.claim(limit=1)

        await self.delete()

        self.assertEqual([], await self.claim())
        self.assertEqual([], (await self.store.due_accounts(self.now))[0])
        self.assertEqual([False], await self.begin(claimed))

    async def test_open_mail_fails(self) -> None:
        """The open mail of a deleted account fails with ``account deleted``, and is reported."""
        await self.post()
        await self.post(id="later", not_before=self.now + DAY)
        self.observer.forget()

        await self.delete()
        await self.upkeep()

        self.assertEqual(["failed", "failed"], [each.state for each in await self.listed()])
        items = await self.offered()
        self.assertEqual({"m1", "later"}, {item.id for item in items})
        for item in items:
            assert item.error is not None
            self.assertIn("account deleted", item.error)
            self.assertEqual((None, None), (item.sent_ts, item.deferred_ts))
        self.assertIn("default", self.observer.reportable_tenants)

    async def test_large_queue_fails_in_steps(self) -> None:
        """However much mail a deleted account leaves, a step of upkeep takes 500 at most."""
        await self.submit(*(new_message(id=f"m{n}") for n in range(1100)))
        await self.delete()

        steps = []
        while touched := await self.store.upkeep(self.now):
            steps.append(touched)

        self.assertTrue(all(step <= 500 for step in steps), steps)
        self.assertEqual({"failed"}, {each.state for each in await self.listed(limit=2000)})
        self.assertEqual(0, (await self.store.counts(self.now)).pending)

    async def test_body_under_way_counts(self) -> None:
        """What had begun before the account was deleted comes to its own end."""
        await self.post()
        claimed = await self.claim_one()
        await self.begin(claimed)

        await self.delete()
        await self.upkeep()
        self.assertEqual("in_flight", await self.state())
        took = await self.store.record([record(claimed, at=self.now)])
        await self.upkeep()

        self.assertEqual([True], took)
        self.assertEqual("sent", await self.state())

    async def test_body_under_way_is_not_retried(self) -> None:
        """What had begun before the account was deleted, and was put off, fails."""
        await self.post()
        claimed = await self.claim_one()
        await self.begin(claimed)
        await self.delete()

        put_off = deferral(claimed, at=self.now, next_at=self.now + 60)
        await self.store.record([put_off])
        await self.upkeep()

        listed = await self.stored()
        self.assertEqual("failed", listed.state)
        self.assertIn("account deleted", listed.error or "")

    async def test_body_under_way_in_doubt(self) -> None:
        """Of what had begun, and came to no answer, nobody knows: posted again it is not sent."""
        await self.post()
        claimed = await self.claim_one()
        await self.begin(claimed)
        await self.delete()
        await self.put()

        item = record(
            claimed, put_off(), at=self.now, kind=EventKind.UNCERTAIN, next_at=self.now + 60
        )
        await self.store.record([item])
        await self.upkeep()
        await self.post()

        listed = await self.stored()
        self.assertEqual("failed", listed.state)
        self.assertIn("uncertain: account deleted", listed.error or "")

    async def test_body_under_way_and_posted_again(self) -> None:
        """Posting what had begun again, on another schedule, does not save it from its account."""
        await self.post()
        claimed = await self.claim_one()
        await self.begin(claimed)
        await self.delete()
        await self.put()
        await self.post(priority=0, batch="x")

        await self.store.record([deferral(claimed, at=self.now, next_at=self.now + 60)])
        await self.upkeep()

        self.assertEqual("failed", await self.state())
        self.assertEqual(0, (await self.store.counts(self.now)).pending)

    async def test_sent_mail_stays_sent(self) -> None:
        """Deleting an account does not touch what it has sent."""
        await self.deliver()
        await self.delete()
        await self.upkeep()
        self.assertEqual("sent", await self.state())

    async def test_new_account_does_not_revive_old_mail(self) -> None:
        """An account put again under a deleted one's id is another, and gets none of its mail."""
        await self.post()
        await self.delete()

        again = await self.put()

        self.assertNotEqual(self.acct.pk, again.pk)
        self.assertEqual([], await self.claim(again))
        await self.upkeep()
        self.assertEqual([], await self.claim(again))
        self.assertEqual("failed", await self.state())

    async def test_old_mail_posted_again_goes_to_the_new_account(self) -> None:
        """Mail that failed with its account is sent when it is posted again to the new one."""
        await self.post()
        await self.delete()
        await self.upkeep()
        again = await self.put()

        answer = await self.post()

        self.assertEqual("queued", answer.verdict)
        claimed = await self.claim_one(again)
        self.assertEqual(("m1", 2), (claimed.id, claimed.generation))

    async def test_old_mail_posted_again_before_it_has_failed(self) -> None:
        """Posted again at once, mail of a deleted account fails and then goes as new."""
        await self.post()
        await self.delete()
        again = await self.put()

        answer = await self.post()

        self.assertEqual("queued", answer.verdict)
        claimed = await self.claim_one(again)
        self.assertEqual(("m1", 2), (claimed.id, claimed.generation))
        (item,) = await self.offered()
        self.assertEqual(1, item.generation)
        self.assertIn("account deleted", item.error or "")

    async def test_deletion_survives_the_process(self) -> None:
        """A kill after the answer does not bring a deleted account's mail back."""
        await self.post()
        await self.delete()

        await self.killed()
        await self.upkeep()

        self.assertEqual([], await self.store.accounts(None))
        self.assertEqual("failed", await self.state())
