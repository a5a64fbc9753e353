"""The store's contract: messages with an instant from which on they are not sent any more."""

from __future__ import annotations

from mailproxy.acts import Act
from tests.build import put_off, refused
from tests.contracts_acts import ActsBase
from tests.contracts_base import DAY, MAX_AGE


class NotAfterContract(ActsBase):
    async def test_in_time(self) -> None:
        """Until then it is sent like any other, and its age limit ends no later."""
        await self.post(not_after=self.now + 100)
        claimed = await self.claim_one()
        self.assertEqual((self.now + 100,) * 2, (claimed.not_after, claimed.expires_at))
        self.later(99)
        self.assertEqual([True], await self.begin(claimed))

    async def test_longer_than_its_age(self) -> None:
        """An instant beyond the age limit gives it no further age."""
        await self.post(not_after=self.now + 10 * DAY)
        self.assertEqual(self.now + MAX_AGE, (await self.claim_one()).expires_at)

    async def test_too_late_to_claim(self) -> None:
        """From then on it expires when its turn comes, which is reported; others are claimed."""
        await self.post(id="late", not_after=self.now + 100)
        await self.post(id="other")
        self.later(100)
        self.assertEqual(["other"], [each.id for each in await self.claim(limit=1)])
        self.assertEqual("expired", await self.state("late"))
        (item,) = await self.report()
        self.assertEqual(("late", self.now), (item.id, item.error_ts))
        self.assertIn("its expires_at has passed", item.error or "")
        self.assertEqual(["accepted", "expired"], await self.kinds("late"))
        self.assertEqual(1, (await self.store.counts(self.now)).pending)

    async def test_too_late_to_begin(self) -> None:
        """What was claimed in time is not begun too late."""
        await self.post(not_after=self.now + 100)
        claimed = await self.claim_one()
        self.later(100)
        self.assertEqual([False], await self.begin(claimed))
        await self.store.release([(claimed.pk, claimed.token)])
        self.assertEqual([], await self.claim())
        self.assertEqual("expired", await self.state())

    async def test_many(self) -> None:
        """However many are too late, what is not is claimed."""
        for n in range(20):
            await self.post(id=f"late{n}", not_after=self.now + 1, priority=0)
        await self.post(id="other", priority=3)
        self.later(2)
        found = [each.id for _ in range(3) for each in await self.claim(limit=5)]
        self.assertEqual(["other"], found)

    async def test_stopped(self) -> None:
        """Whatever stops it meanwhile - a suspension, a hold - the instant stays what it is."""
        await self.post(id="a", not_after=self.now + 100)
        await self.post(id="b", not_after=self.now + 100)
        await self.act(Act.HOLD, "b")
        await self.store.suspend("default", None, self.now)
        self.later(DAY)
        self.assertEqual({"a": "queued", "b": "held"}, await self.states())
        await self.store.activate("default", None, self.now)
        await self.act(Act.RELEASE, "b")
        self.assertEqual([], await self.claim())
        self.assertEqual({"a": "expired", "b": "expired"}, await self.states())

    async def states(self) -> dict[str, str]:
        return {each.id: each.state for each in await self.listed()}

    async def test_retried(self) -> None:
        """A message that was tried expires like one that was not."""
        await self.post(not_after=self.now + 100)
        await self.defer(await self.claim_one(), put_off(), after=60)
        self.later(100)
        self.assertEqual([], await self.claim())
        self.assertEqual("expired", await self.state())

    async def test_posted_again(self) -> None:
        """It is no part of the content: posted again with another, that one is in force."""
        await self.post(not_after=self.now + 100)
        self.assertEqual("queued", (await self.post(not_after=self.now + 500)).verdict.value)
        self.assertEqual(self.now + 500, (await self.stored()).not_after)
        self.later(100)
        self.assertEqual(1, len(await self.claim()))
        await self.post()
        self.assertIsNone((await self.stored()).not_after)

    async def test_new_generation(self) -> None:
        """Expired and posted again, it has the instant it is posted with."""
        await self.post(not_after=self.now + 1)
        self.later(1)
        await self.claim()
        await self.post(not_after=self.now + 100)
        self.assertEqual(2, (await self.claim_one()).generation)

    async def test_requeued(self) -> None:
        """An operator's requeue does not reach beyond it."""
        await self.post(not_after=self.now + 100)
        await self.finish(await self.claim_one(), refused())
        self.later(100)
        await self.refused(Act.REQUEUE, "failed", "its expires_at has passed")
