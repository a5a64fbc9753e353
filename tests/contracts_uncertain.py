"""What every store promises of attempts cut off by a kill, and of outcomes that come too late."""

from __future__ import annotations

from typing import Any

from mailproxy.model import Claimed, RecipientChange
from mailproxy.states import EventKind
from tests.build import new_message, put_off, record, refused, settled, unknown
from tests.contracts_base import StoreContract

A, B, C = "a@example.org", "b@example.org", "c@example.org"


class UncertainContract(StoreContract):
    """Attempts of which nobody knows whether they were accepted."""

    async def retry(self, claimed: Claimed) -> None:
        """The attempt begun is uncertain, and is repeated once in a minute."""
        again = settled(
            claimed,
            put_off(0, "uncertain: no reply"),
            at=self.now,
            next_at=self.now + 60,
            kind=EventKind.UNCERTAIN,
            reason="uncertain: no reply",
        )
        self.assertEqual([True], await self.store.record([again]))

    async def test_kept_for_an_operator(self) -> None:
        """A message that is uncertain and not to be repeated is neither due nor ended."""
        await self.deliver(unknown())
        self.later(86400)
        self.assertEqual("uncertain", await self.state())
        self.assertEqual([], await self.claim())
        self.assertEqual(1, (await self.store.counts(self.now)).by_state["uncertain"])

    async def test_uncertain_attempts_are_counted(self) -> None:
        """A claim says how many attempts of its generation ended uncertain."""
        await self.post()
        claimed = await self.claim_one()
        await self.defer(claimed, kind=EventKind.UNCERTAIN, after=60)
        self.later(60)

        again = await self.claim_one()

        self.assertEqual((1, 1), (again.attempts, again.uncertain))
        self.assertEqual("uncertain", (await self.kinds())[-1])

    async def test_cut_off_by_a_kill(self) -> None:
        """A message begun by a process that was killed is found, once, with a fresh lease."""
        await self.submit(new_message(id="begun", to=[A, B]), new_message(id="waiting"))
        claimed = {each.id: each for each in await self.claim()}
        await self.begin(claimed["begun"])

        await self.killed()
        (found,) = await self.store.abandoned(self.now)

        self.assertEqual(("begun", 1), (found.id, found.attempts))
        self.assertNotEqual(claimed["begun"].token, found.token)
        self.assertEqual([A, B], [rcpt.address for rcpt in found.recipients])
        self.assertEqual([], await self.store.abandoned(self.now))
        self.assertEqual(["waiting"], [each.id for each in await self.claim()])

    async def test_cut_off_and_repeated(self) -> None:
        """What a kill cut off is settled through the fresh lease, and goes again."""
        await self.post()
        await self.begin(await self.claim_one())
        await self.killed()
        (found,) = await self.store.abandoned(self.now)

        await self.retry(found)
        self.later(60)

        again = await self.claim_one()
        self.assertEqual((1, 1), (again.attempts, again.uncertain))
        await self.finish(again)
        self.assertEqual("sent", await self.state())

    async def test_cut_off_twice(self) -> None:
        """A process killed after it took a message over leaves it to the next one."""
        await self.post()
        await self.begin(await self.claim_one())
        await self.killed()
        (first,) = await self.store.abandoned(self.now)

        await self.killed()
        (second,) = await self.store.abandoned(self.now)

        self.assertEqual((first.pk, first.attempts), (second.pk, second.attempts))
        self.assertEqual([False], await self.store.record([settled(first, at=self.now)]))
        self.assertEqual([True], await self.store.record([settled(second, at=self.now)]))

    async def test_cut_off_and_deleted(self) -> None:
        """A deleted account's cut-off message is found too."""
        await self.post()
        await self.begin(await self.claim_one())
        await self.store.delete_account("default", "acct", self.now)

        await self.killed()
        await self.upkeep()

        (found,) = await self.store.abandoned(self.now)
        self.assertEqual("m1", found.id)


class LateContract(StoreContract):
    """Outcomes that arrive when the lease is lost."""

    async def lose(self) -> Claimed:
        """Begin ``m1`` in a process that dies, and take it over; as the dead one knows it."""
        await self.post()
        claimed = await self.claim_one()
        await self.begin(claimed)
        await self.killed()
        (self.found,) = await self.store.abandoned(self.now)
        return claimed

    async def settle(self, *changes: RecipientChange, **more: Any) -> None:
        """What the one that took over stores: the attempt was uncertain."""
        more.setdefault("kind", EventKind.UNCERTAIN)
        item = settled(self.found, *changes, at=self.now, **more)
        self.assertEqual([True], await self.store.record([item]))

    async def test_evidence_is_kept(self) -> None:
        """An outcome that comes too late stands in the timeline, and has no other effect."""
        claimed = await self.lose()
        await self.settle(unknown())

        took = await self.store.record([record(claimed, refused(), at=self.now)])

        self.assertEqual([False], took)
        self.assertIn("late", await self.kinds())
        self.assertEqual("uncertain", await self.state())

    async def test_evidence_of_success(self) -> None:
        """Late evidence turns uncertain into sent, which is reported."""
        claimed = await self.lose()
        await self.settle(unknown())

        await self.store.record([record(claimed, at=self.now)])

        self.assertIn("late", await self.kinds())
        self.assertEqual("sent", await self.state())
        (item,) = await self.report()
        self.assertEqual((self.now, None, False), (item.sent_ts, item.error, item.uncertain))
        self.assertEqual(0, (await self.store.counts(self.now)).pending)

    async def test_evidence_of_success_ends_a_hold(self) -> None:
        """Late evidence settles a message that was held because it was uncertain."""
        claimed = await self.lose()
        await self.settle(unknown(), hold="uncertain: an operator decides")

        await self.store.record([record(claimed, at=self.now)])

        self.assertEqual("sent", await self.state())

    async def test_evidence_before_the_resend(self) -> None:
        """Late evidence that comes before the second attempt has begun makes it unnecessary."""
        claimed = await self.lose()
        await self.settle(put_off(), next_at=self.now + 60)

        await self.store.record([record(claimed, at=self.now)])
        self.later(60)

        self.assertEqual("sent", await self.state())
        self.assertEqual([], await self.claim())

    async def test_evidence_voids_the_claim_for_the_resend(self) -> None:
        """Late evidence takes the message from whoever claimed it for a second attempt."""
        claimed = await self.lose()
        await self.settle(put_off(), next_at=self.now)
        again = await self.claim_one()

        await self.store.record([record(claimed, at=self.now)])

        self.assertEqual([False], await self.begin(again))
        self.assertEqual("sent", await self.state())

    async def test_evidence_after_the_resend_began(self) -> None:
        """Once a second attempt has begun, evidence of the first does not settle it."""
        claimed = await self.lose()
        await self.settle(put_off(), next_at=self.now)
        again = await self.claim_one()
        await self.begin(again)

        await self.store.record([record(claimed, at=self.now)])

        self.assertEqual("in_flight", await self.state())
        self.assertIn("late", await self.kinds())
        self.assertEqual([True], await self.store.record([record(again, at=self.now)]))
        self.assertEqual("sent", await self.state())
        self.assertEqual(1, len(await self.report()))

    async def test_evidence_before_the_verdict(self) -> None:
        """Who took the message over cannot have it repeated once its success is proven."""
        claimed = await self.lose()

        await self.store.record([record(claimed, at=self.now)])
        await self.settle(put_off(), next_at=self.now + 60)
        self.later(60)

        self.assertEqual([], await self.claim())
        self.assertEqual("sent", await self.state())
        self.assertEqual(1, len(await self.report()))

    async def test_evidence_of_an_older_generation(self) -> None:
        """What the first generation's attempt came to settles nothing of the second."""
        claimed = await self.lose()
        await self.settle(refused())
        await self.post()
        await self.defer(await self.claim_one(), kind=EventKind.UNCERTAIN)

        await self.store.record([record(claimed, at=self.now)])

        self.assertEqual("deferred", await self.state())

    async def test_evidence_is_not_reported_twice(self) -> None:
        """The same late evidence, offered again, changes nothing more."""
        claimed = await self.lose()
        await self.settle(unknown())
        late = record(claimed, at=self.now)
        await self.store.record([late])
        await self.report()

        await self.store.record([late])

        self.assertEqual([], await self.offered())
        self.assertEqual("sent", await self.state())
