"""
What every store promises when the id of a message that ended is posted again.

With :mod:`tests.contracts_same_id` the same-id table of the wire contract, row by row.
"""

from __future__ import annotations

from mailproxy.model import Enqueued
from mailproxy.states import EventKind, RecipientState, Verdict
from mailproxy.tenancy import Removed
from tests.build import accepted, ended, record, refused
from tests.contracts_base import DAY, IDEMPOTENCY, MAX_AGE, StoreContract

QUEUED = Enqueued(Verdict.QUEUED)
REPLACED = Enqueued(Verdict.REPLACED)
KEPT = Enqueued(Verdict.KEPT)
DUPLICATE = Enqueued(Verdict.DUPLICATE)
DIFFERS = Enqueued(Verdict.DUPLICATE, "differs")

A, B, C = "a@example.org", "b@example.org", "c@example.org"


class EndedAgainContract(StoreContract):
    """The stored message has ended, and is still there."""

    async def test_sent(self) -> None:
        """Posted again, a sent message is not sent; its final event is reported again."""
        await self.deliver()
        (told,) = await self.report()
        self.assertEqual([], await self.offered())
        self.observer.forget()

        answer = await self.post()

        self.assertEqual(DUPLICATE, answer)
        self.assertEqual([], await self.claim())
        (again,) = await self.offered()
        self.assertEqual(told.event_id, again.event_id)
        self.assertEqual(told.sent_ts, again.sent_ts)
        self.assertEqual(["default"], self.observer.reportable_tenants)

    async def test_sent_and_other_content(self) -> None:
        """Posted again with other content, a sent message is not sent: it *differs*."""
        await self.deliver()
        self.assertEqual(DIFFERS, await self.post(text="new"))
        self.assertEqual([], await self.claim())
        self.assertEqual("sent", await self.state())

    async def test_sent_and_not_yet_reported(self) -> None:
        """Posted again before its report, a sent message is reported as one item."""
        await self.deliver()
        (before,) = await self.offered()

        await self.post()

        (after,) = await self.offered()
        self.assertEqual(before.event_id, after.event_id)
        await self.ack([after])
        self.assertEqual([], await self.offered())

    async def test_sent_again_and_again(self) -> None:
        """However often a sent message is posted, each ack ends the matter until the next."""
        await self.deliver()
        ids = set()
        for _ in range(3):
            await self.post()
            ids |= {item.event_id for item in await self.report()}
            self.assertEqual([], await self.offered())
        self.assertEqual(1, len(ids))

    async def test_posted_inside_the_report(self) -> None:
        """What is posted again while its report is open stays to be reported after the ack."""
        await self.deliver()
        items = await self.offered()

        await self.post()
        await self.ack(items)

        (again,) = await self.offered()
        self.assertEqual(items[0].event_id, again.event_id)
        await self.ack([again])
        self.assertEqual([], await self.offered())

    async def test_failed(self) -> None:
        """Posted again, a failed message is tried anew: new generation, same Message-ID."""
        await self.deliver(refused())
        await self.report()
        before = await self.stored()
        self.later(10)

        answer = await self.post()

        self.assertEqual(QUEUED, answer)
        listed = await self.stored()
        self.assertEqual(("queued", None, None), (listed.state, listed.error, listed.error_ts))
        self.assertIsNone(listed.reported_ts, "its new end is not reported")
        self.assertIn("generation", await self.kinds())
        claimed = await self.claim_one()
        self.assertEqual((2, 0), (claimed.generation, claimed.uncertain))
        self.assertEqual(before.message_id, claimed.message_id)
        self.assertEqual(self.now + MAX_AGE, claimed.expires_at)

    async def test_failed_with_another_message_id(self) -> None:
        """A new generation keeps the id's first Message-ID, also when the new element has one."""
        await self.deliver(refused(), message_id="<first@example.com>")
        await self.post(message_id="<second@example.com>")
        self.assertEqual("<first@example.com>", (await self.claim_one()).message_id)

    async def test_generations_go_on(self) -> None:
        """Each time a message that failed is posted it has one more generation."""
        await self.deliver(refused())
        for generation in (2, 3):
            await self.post()
            claimed = await self.claim_one()
            self.assertEqual(generation, claimed.generation)
            await self.finish(claimed, refused())
        await self.deliver()
        self.assertEqual("sent", await self.state())

    async def test_failed_for_some(self) -> None:
        """Posted again, a message goes to those alone who had not accepted it."""
        await self.deliver(accepted(0), refused(1), to=[A, B])
        self.assertEqual("failed", await self.state())

        answer = await self.post(to=[A, B])

        self.assertEqual(QUEUED, answer)
        claimed = await self.claim_one()
        self.assertEqual([B], [rcpt.address for rcpt in claimed.recipients])
        await self.finish(claimed)
        self.assertEqual("sent", await self.state())

    async def test_failed_for_some_and_corrected(self) -> None:
        """A corrected address gets the message; who has it does not get it again."""
        await self.deliver(accepted(0), refused(1), to=[A, B], text="old")

        await self.post(to=[A, C], text="new")

        claimed = await self.claim_one()
        self.assertEqual([C], [rcpt.address for rcpt in claimed.recipients])
        stored = await self.store.contents([claimed.pk])
        self.assertEqual("new", stored[claimed.pk].content.plain)

    async def test_accepted_stays_accepted(self) -> None:
        """Who accepted in the first generation does not get the third, absent from the second."""
        await self.deliver(accepted(0), refused(1), to=[A, B])
        await self.post(to=[C])
        claimed = await self.claim_one()
        await self.finish(claimed, refused(claimed.recipients[0].n))

        await self.post(to=[A, B])

        self.assertEqual([B], [r.address for r in (await self.claim_one()).recipients])

    async def test_nobody_left(self) -> None:
        """Posted again for those alone who accepted it, a failed message is reported again."""
        await self.deliver(accepted(0), refused(1), to=[A, B])
        (told,) = await self.report()

        answer = await self.post(to=[A])

        self.assertIn(answer.verdict, (Verdict.QUEUED, Verdict.DUPLICATE))
        self.assertEqual([], await self.claim())
        (again,) = await self.offered()
        self.assertEqual((told.event_id, told.error), (again.event_id, again.error))
        self.assertEqual("failed", await self.state())

    async def test_expired(self) -> None:
        """Posted again, an expired message is tried anew, and has its whole age again."""
        await self.post()
        claimed = await self.claim_one()
        self.later(MAX_AGE)
        await self.finish(claimed, ended(0, RecipientState.EXPIRED), kind=EventKind.EXPIRED)
        self.assertEqual("expired", await self.state())

        self.assertEqual(QUEUED, await self.post())

        again = await self.claim_one()
        self.assertEqual((2, self.now + MAX_AGE), (again.generation, again.expires_at))

    async def test_cancelled(self) -> None:
        """Posted again, a cancelled message is tried anew."""
        await self.post()
        claimed = await self.claim_one()
        cancel = record(
            claimed,
            ended(0, RecipientState.CANCELLED),
            at=self.now,
            begun=False,
            kind=EventKind.CANCELLED,
        )
        await self.store.record([cancel])
        self.assertEqual("cancelled", await self.state())

        self.assertEqual(QUEUED, await self.post())

        self.assertEqual(2, (await self.claim_one()).generation)

    async def test_report_of_the_first_generation_is_not_lost(self) -> None:
        """A failure not yet reported when the id is posted again is reported all the same."""
        await self.deliver(refused())
        (before,) = await self.offered()

        await self.post()

        (after,) = await self.offered()
        self.assertEqual(
            (before.event_id, 1, before.error), (after.event_id, after.generation, after.error)
        )

    async def test_second_end_is_another_event(self) -> None:
        """Each generation ends with an event of its own."""
        await self.deliver(refused())
        (first,) = await self.report()
        await self.deliver()

        (second,) = await self.offered()

        self.assertNotEqual(first.event_id, second.event_id)
        self.assertEqual((2, None), (second.generation, second.error))
        self.assertEqual(self.now, second.sent_ts)


class RemovedAgainContract(StoreContract):
    """The stored message was removed; what is left is its tombstone."""

    async def test_sent_and_removed(self) -> None:
        """Posted again within the window, a removed message that was sent is not sent."""
        await self.deliver()
        await self.bury()
        self.assertEqual([], await self.listed())
        self.later(DAY)

        answer = await self.post()

        self.assertEqual(DUPLICATE, answer)
        self.assertEqual([], await self.claim())
        self.assertEqual(0, (await self.store.counts(self.now)).pending)

    async def test_sent_and_removed_is_reported_again(self) -> None:
        """Posted again, a removed message has its final event reported, under the same id."""
        await self.deliver()
        (told,) = await self.offered()
        await self.bury()

        await self.post()

        (again,) = await self.offered()
        self.assertEqual(
            (told.event_id, told.id, told.sent_ts), (again.event_id, again.id, again.sent_ts)
        )
        await self.ack([again])
        self.assertEqual([], await self.offered())

    async def test_sent_and_removed_is_listed_again(self) -> None:
        """
        Posted again, a removed message is listed as it ended, without its text, until that was told
        and its retention is over; till then it is not deleted.
        """
        await self.deliver(text="secret")
        (told,) = await self.offered()
        await self.bury()
        self.later(10)

        await self.post(text="secret")

        listed = await self.stored()
        self.assertEqual(("sent", told.sent_ts), (listed.state, listed.sent_ts))
        self.assertEqual((None, None), (listed.reported_ts, listed.error))
        self.assertNotIn(b"secret", listed.payload or b"")
        kept = await self.store.remove("default", ["m1"], self.now)
        self.assertEqual(Removed(0, (("m1", "sent"),)), kept)
        await self.report()
        self.assertEqual(self.now, (await self.stored()).reported_ts)
        await self.bury()
        self.assertEqual([], await self.listed())
        self.assertEqual(DUPLICATE, await self.post(text="secret"))

    async def test_failed_for_some_and_told_again(self) -> None:
        """
        A removed message that failed for some is told of again as failed, when it is posted for
        those alone who have it; the others get it when they are named again.
        """
        await self.deliver(accepted(0), refused(1), to=[A, B])
        (told,) = await self.offered()
        await self.bury()

        self.assertEqual(Verdict.DUPLICATE, (await self.post(to=[A])).verdict)

        listed = await self.stored()
        self.assertEqual(("failed", told.error), (listed.state, listed.error))
        (again,) = await self.report()
        self.assertEqual((told.event_id, told.error), (again.event_id, again.error))
        self.assertEqual(QUEUED, await self.post(to=[A, B]))
        claimed = await self.claim_one()
        self.assertEqual([B], [rcpt.address for rcpt in claimed.recipients])
        self.assertEqual(2, claimed.generation)

    async def test_removed_survives_the_process(self) -> None:
        """A tombstone outlives the process."""
        await self.deliver()
        await self.bury()
        await self.killed()
        self.assertEqual(DUPLICATE, await self.post())
        self.assertEqual([], await self.claim())

    async def test_removed_and_other_content(self) -> None:
        """A removed message posted with other content is a duplicate that differs."""
        await self.deliver()
        await self.bury()
        self.assertEqual(DIFFERS, await self.post(text="new"))
        self.assertEqual([], await self.claim())

    async def test_failed_for_some_and_removed(self) -> None:
        """Of a removed message, posted again, those who accepted it get no second copy."""
        await self.deliver(accepted(0), refused(1), to=[A, B])
        await self.bury()

        answer = await self.post(to=[A, B])

        self.assertEqual(Verdict.QUEUED, answer.verdict)
        claimed = await self.claim_one()
        self.assertEqual([B], [rcpt.address for rcpt in claimed.recipients])
        self.assertEqual("<m1@mail.example.com>", claimed.message_id)

    async def test_removed_twice(self) -> None:
        """Who accepted before the first removal is remembered past the second."""
        await self.deliver(accepted(0), refused(1), to=[A, B])
        await self.bury()
        await self.post(to=[A, B])
        claimed = await self.claim_one()
        await self.finish(claimed, refused(claimed.recipients[0].n))
        await self.bury()

        await self.post(to=[A, B])

        self.assertEqual([B], [r.address for r in (await self.claim_one()).recipients])

    async def test_removed_and_told_to_some_of_them(self) -> None:
        """Who accepted is remembered also when the id comes back without them in between."""
        await self.deliver(to=[A, B])
        await self.bury()
        self.assertEqual(Verdict.DUPLICATE, (await self.post(to=[A])).verdict)
        await self.bury()

        self.assertEqual(Verdict.DUPLICATE, (await self.post(to=[A, B])).verdict)

        self.assertEqual([], await self.claim())

    async def test_removed_and_replaced(self) -> None:
        """What is replaced before it is sent goes to nobody who accepted before the removal."""
        await self.deliver(to=[A, B])
        await self.bury()
        self.assertEqual(QUEUED, await self.post(to=[B, C]))

        self.assertEqual(REPLACED, await self.post(to=[A, C], text="new"))

        self.assertEqual([C], [rcpt.address for rcpt in (await self.claim_one()).recipients])

    async def test_removed_and_replaced_by_what_was_sent(self) -> None:
        """Where nobody is left, the message is sent, and that is reported."""
        await self.deliver(to=[A, B])
        await self.bury()
        self.assertEqual(QUEUED, await self.post(to=[B, C]))

        self.assertEqual(REPLACED, await self.post(to=[A]))

        self.assertEqual([], await self.claim())
        self.assertEqual("sent", await self.state())
        (item,) = await self.offered()
        self.assertEqual((2, self.now), (item.generation, item.sent_ts))

    async def test_removed_for_another_tenant(self) -> None:
        """A tombstone stands for its own tenant's id alone."""
        await self.deliver()
        await self.bury()
        await self.add_tenant("other")
        theirs = await self.put(tenant_id="other", id="theirs")

        answer = await self.post(tenant_id="other")

        self.assertEqual(QUEUED, answer)
        self.assertEqual("other", (await self.claim_one(theirs)).tenant_id)

    async def test_window_ends(self) -> None:
        """After the idempotency window an id is as good as new."""
        await self.deliver()
        await self.bury()
        self.later(IDEMPOTENCY + DAY)
        await self.upkeep()

        answer = await self.post()

        self.assertEqual(QUEUED, answer)
        claimed = await self.claim_one()
        self.assertEqual(["to@example.org"], [rcpt.address for rcpt in claimed.recipients])
