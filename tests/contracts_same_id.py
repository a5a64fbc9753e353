"""
What every store promises when the id of a waiting message is posted again.

With :mod:`tests.contracts_ended` the same-id table of the wire contract, row by row.
"""

from __future__ import annotations

from mailproxy.model import Enqueued
from mailproxy.states import EventKind, Verdict
from tests.build import new_message, put_off, record, unknown
from tests.contracts_base import DAY, MAX_AGE, StoreContract

QUEUED = Enqueued(Verdict.QUEUED)
REPLACED = Enqueued(Verdict.REPLACED)
KEPT = Enqueued(Verdict.KEPT)
DUPLICATE = Enqueued(Verdict.DUPLICATE)
DIFFERS = Enqueued(Verdict.DUPLICATE, "differs")

A, B, C = "a@example.org", "b@example.org", "c@example.org"


class WaitingAgainContract(StoreContract):
    """The stored message has not ended."""

    async def text(self) -> str | None:
        """The body of the only due message."""
        claimed = await self.claim_one()
        stored = await self.store.contents([claimed.pk])
        await self.store.release([(claimed.pk, claimed.token)])
        return stored[claimed.pk].content.plain

    async def test_same_content(self) -> None:
        """Posted again unchanged, a waiting message is one message, still waiting."""
        first = await self.post()
        again = await self.post()

        self.assertEqual([QUEUED, QUEUED], [first, again])
        self.assertEqual(1, len(await self.listed()))
        self.assertEqual("m1", (await self.claim_one()).id)

    async def test_same_content_new_schedule(self) -> None:
        """Posted again, a waiting message takes the new priority, time and batch."""
        await self.post(priority=3, batch="old")
        when = self.now + 100

        answer = await self.post(priority=0, batch="new", not_before=when)

        self.assertEqual(QUEUED, answer)
        listed = await self.stored()
        self.assertEqual((0, "new", when), (listed.priority, listed.batch, listed.not_before))
        self.assertEqual(([], when), await self.store.due_accounts(self.now))
        self.later(100)
        claimed = await self.claim_one()
        self.assertEqual((0, when + MAX_AGE), (claimed.priority, claimed.expires_at))

    async def test_schedule_is_taken_back(self) -> None:
        """Posted again without a time, a message for later is due at once."""
        await self.post(not_before=self.now + DAY)

        await self.post()

        self.assertIsNone((await self.stored()).not_before)
        self.assertEqual("m1", (await self.claim_one()).id)

    async def test_new_schedule_moves_the_counts(self) -> None:
        """Priority and batch change without a message being counted twice or lost."""
        await self.post(priority=3, batch="old")
        await self.post(priority=0, batch="new")
        self.assertEqual(1, (await self.store.counts(self.now)).pending)
        await self.finish(await self.claim_one())
        self.assertEqual(0, (await self.store.counts(self.now)).pending)

    async def test_new_batch_is_the_one_suspended(self) -> None:
        """A message that moved into a suspended batch is not sent, whoever had claimed it."""
        await self.post()
        claimed = await self.claim_one()
        await self.store.suspend("default", "stopped", self.now)

        await self.post(batch="stopped")

        self.assertEqual([False], await self.begin(claimed))
        self.assertEqual([], await self.claim())

    async def test_unchanged_keeps_its_lease(self) -> None:
        """Posted again with nothing changed, a claimed message stays claimed."""
        await self.post()
        claimed = await self.claim_one()

        await self.post()

        self.assertEqual([], await self.claim())
        self.assertEqual([True], await self.begin(claimed))

    async def test_new_schedule_voids_the_lease(self) -> None:
        """A claimed message whose time changed is not begun on the old claim."""
        await self.post()
        claimed = await self.claim_one()

        await self.post(not_before=self.now + 100)

        self.assertEqual([False], await self.begin(claimed))
        self.assertEqual([], await self.claim())

    async def test_deferred_same_content(self) -> None:
        """Posted again, a deferred message keeps its attempts and does not go before its retry."""
        await self.post()
        await self.defer(await self.claim_one(), after=60)

        answer = await self.post(priority=1)

        self.assertEqual(QUEUED, answer)
        self.assertEqual("deferred", await self.state())
        self.assertEqual([], await self.claim())
        self.later(60)
        claimed = await self.claim_one()
        self.assertEqual((1, 1), (claimed.attempts, claimed.priority))

    async def test_other_content_replaces(self) -> None:
        """Posted again with other content before any attempt, a message is replaced."""
        await self.post(text="old", to=[A, B])

        answer = await self.post(text="new", to=[C], envelope_from="new@example.com")

        self.assertEqual(REPLACED, answer)
        self.assertEqual("new", await self.text())
        claimed = await self.claim_one()
        self.assertEqual([C], [rcpt.address for rcpt in claimed.recipients])
        self.assertEqual("new@example.com", claimed.envelope_from)
        self.assertIn("replaced", await self.kinds())
        self.assertEqual(1, len(await self.listed()))

    async def test_replaced_attachments(self) -> None:
        """A replaced message has the new attachments and none of the old."""
        await self.post(text="old", parts=(b"old one", b"old two"))
        await self.post(text="new", parts=(b"new",))

        claimed = await self.claim_one()

        stored = await self.store.contents([claimed.pk])
        self.assertEqual({1: b"new"}, dict(stored[claimed.pk].parts))

    async def test_replaced_goes_elsewhere(self) -> None:
        """A replaced message moves to the account the new one names, and to its schedule."""
        other = await self.put(id="other")
        await self.post(account_id="acct", text="old")

        await self.post(account_id="other", text="new", priority=0)

        self.assertEqual([], await self.claim())
        self.assertEqual(0, (await self.claim_one(other)).priority)
        self.assertEqual(1, (await self.store.counts(self.now)).pending)

    async def test_replaced_while_claimed(self) -> None:
        """A message replaced after it was claimed is not begun on that claim."""
        await self.post(text="old")
        claimed = await self.claim_one()

        self.assertEqual(REPLACED, await self.post(text="new"))

        self.assertEqual([False], await self.begin(claimed))
        self.assertEqual("new", await self.text())

    async def test_released_after_replacement(self) -> None:
        """Giving back a claim that was overtaken does not free the newer claim."""
        await self.post(text="old")
        old = await self.claim_one()
        await self.post(text="new")
        new = await self.claim_one()

        await self.store.release([(old.pk, old.token)])

        self.assertEqual([], await self.claim())
        self.assertEqual([True], await self.begin(new))

    async def test_other_content_after_an_attempt(self) -> None:
        """Posted again with other content after an attempt, the stored message stays."""
        await self.post(text="old")
        await self.defer(await self.claim_one(), after=60)

        answer = await self.post(text="new", priority=0)

        self.assertEqual(KEPT, answer)
        self.later(60)
        self.assertEqual("old", await self.text())

    async def test_other_content_in_flight(self) -> None:
        """Posted again with other content while its body is under way, it goes as it was."""
        await self.post(text="old")
        claimed = await self.claim_one()
        await self.begin(claimed)

        answer = await self.post(text="new")

        self.assertEqual(KEPT, answer)
        self.assertEqual("in_flight", await self.state())
        self.assertEqual([True], await self.store.record([record(claimed, at=self.now)]))
        self.assertEqual("sent", await self.state())

    async def test_same_content_in_flight(self) -> None:
        """Posted again unchanged while its body is under way, it is sent once."""
        await self.post()
        claimed = await self.claim_one()
        await self.begin(claimed)

        answer = await self.post()

        self.assertEqual(QUEUED, answer)
        self.assertEqual([], await self.claim())
        self.assertEqual([True], await self.store.record([record(claimed, at=self.now)]))
        self.assertEqual("sent", await self.state())
        self.assertEqual([], await self.claim())

    async def test_uncertain(self) -> None:
        """An uncertain message is left alone, whatever is posted: an operator decides."""
        await self.deliver(unknown())
        self.assertEqual("uncertain", await self.state())

        answers = [await self.post(), await self.post(text="new")]

        self.assertEqual([KEPT, KEPT], answers)
        self.assertEqual("uncertain", await self.state())
        self.assertEqual([], await self.claim())

    async def test_held(self) -> None:
        """A held message is left alone, whatever is posted: an operator decides."""
        await self.post()
        claimed = await self.claim_one()
        hold = record(
            claimed,
            put_off(),
            at=self.now,
            begun=False,
            kind=EventKind.HELD,
            hold="raised three times",
        )
        self.assertEqual([True], await self.store.record([hold]))
        self.assertEqual("held", await self.state())

        answers = [await self.post(), await self.post(text="new")]

        self.assertEqual([KEPT, KEPT], answers)
        self.assertEqual("held", await self.state())
        self.assertEqual([], await self.claim())

    async def test_rejected_leaves_the_stored_one(self) -> None:
        """A rejected element does not touch the message stored under its id."""
        await self.post(text="old")

        answer = await self.post(text="new", account_id="nobody")

        self.assertEqual(Verdict.REJECTED, answer.verdict)
        self.assertEqual("old", await self.text())

    async def test_twice_in_one_request(self) -> None:
        """An id that stands several times in a request is judged in that order."""
        answers = await self.submit(
            new_message(text="one"),
            new_message(text="one", priority=0),
            new_message(text="two"),
            new_message(id="m2"),
        )

        self.assertEqual([QUEUED, QUEUED, REPLACED, QUEUED], answers)
        self.assertEqual({"m1", "m2"}, {each.id for each in await self.listed()})
        texts = {
            each.id: (await self.store.contents([each.pk]))[each.pk].content.plain
            for each in await self.claim()
        }
        self.assertEqual("two", texts["m1"])
