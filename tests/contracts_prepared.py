"""What every store promises of content that is completed when it leaves, and of fetches in vain."""

from __future__ import annotations

from typing import Any

from mailproxy import payload as payloads
from mailproxy.model import Attachment, Claimed, Stored
from mailproxy.states import EventKind
from tests.build import content, deferral, new_message
from tests.contracts_base import StoreContract

FAILED = "Attachment fetch failed for b.pdf: 503"


def attached(*parts: int) -> bytes:
    """A payload with one attachment for each of *parts*, a file ``<part>.bin``."""
    files = tuple(Attachment(f"{n}.bin", "application/octet-stream", part)
                  for n, part in enumerate(parts))  # fmt: skip
    return payloads.dump(content(attachments=files))


class PreparedContract(StoreContract):
    async def contents(self, claimed: Claimed) -> Stored:
        return (await self.store.contents([claimed.pk]))[claimed.pk]

    async def claimed(self, *parts: int, **fields: Any) -> Claimed:
        """A claimed message with these attachments; 0 for one that is to be fetched."""
        await self.submit(new_message(payload=attached(*parts), **fields))
        return await self.claim_one()

    async def test_fetched(self) -> None:
        """What was fetched is the message's content from then on, beside what it had."""
        claimed = await self.claimed(1, 0, parts=(b"one",))

        done = await self.store.prepared(
            claimed.pk, claimed.token, attached(1, 2), {2: b"two"}, 4321
        )

        self.assertTrue(done)
        stored = await self.contents(claimed)
        self.assertEqual({1: b"one", 2: b"two"}, stored.parts)
        self.assertEqual([1, 2], [each.part for each in stored.content.attachments])
        await self.store.release([(claimed.pk, claimed.token)])
        again = await self.claim_one()
        self.assertEqual((4321, None), (again.size, again.payload))
        self.assertEqual(stored, await self.contents(again))

    async def test_replaced_and_left_out(self) -> None:
        """A part that is given takes the place of the stored one; one not named any more goes."""
        claimed = await self.claimed(1, 2, 3, parts=(b"one", b"two", b"three"))
        await self.store.prepared(claimed.pk, claimed.token, attached(1, 2), {1: b"new"}, 1000)
        self.assertEqual({1: b"new", 2: b"two"}, (await self.contents(claimed)).parts)

    async def test_no_parts_left(self) -> None:
        """A message whose attachments all became links has no parts."""
        claimed = await self.claimed(1, parts=(b"one",))
        await self.store.prepared(claimed.pk, claimed.token, attached(), {}, 1000)
        self.assertEqual({}, (await self.contents(claimed)).parts)
        await self.store.release([(claimed.pk, claimed.token)])
        self.assertIsNotNone((await self.claim_one()).payload)

    async def test_large(self) -> None:
        """Large parts come back byte for byte, with small ones that were there."""
        large = bytes(range(256)) * 8192
        claimed = await self.claimed(1, 0, 0, parts=(b"one",))
        await self.store.prepared(
            claimed.pk, claimed.token, attached(1, 2, 3), {2: large, 3: b""}, 3_000_000
        )
        self.assertEqual({1: b"one", 2: large, 3: b""}, (await self.contents(claimed)).parts)

    async def test_lease_lost(self) -> None:
        """Who has lost the lease, or begun, changes nothing."""
        claimed = await self.claimed(0)
        await self.store.release([(claimed.pk, claimed.token)])
        lost = (claimed.pk, claimed.token, attached(1), {1: b"x"}, 1000)
        self.assertFalse(await self.store.prepared(*lost))
        again = await self.claim_one()
        self.assertEqual({}, (await self.contents(again)).parts)
        await self.begin(again)
        begun = (again.pk, again.token, attached(1), {1: b"x"}, 1000)
        self.assertFalse(await self.store.prepared(*begun))
        self.assertEqual({}, (await self.contents(again)).parts)

    async def test_sent(self) -> None:
        """A message that was completed is sent and ends like any other."""
        claimed = await self.claimed(0)
        await self.store.prepared(claimed.pk, claimed.token, attached(1), {1: b"x"}, 1000)
        await self.finish(claimed)
        self.assertEqual("sent", await self.state())
        await self.bury()
        self.assertEqual([], await self.listed())


class FetchedInVainContract(StoreContract):
    async def in_vain(self, claimed: Claimed, *, reason: str = FAILED, after: float = 60) -> None:
        item = deferral(
            claimed,
            at=self.now,
            next_at=self.now + after,
            begun=False,
            kind=EventKind.DEFERRED,
            reason=reason,
            fetched_in_vain=True,
        )
        self.assertEqual([True], await self.store.record([item]))

    async def test_counted(self) -> None:
        """A fetch in vain counts as no attempt; the next claim tells how many there were."""
        await self.post()
        for fetches in range(3):
            claimed = await self.claim_one()
            self.assertEqual((fetches, 0), (claimed.fetches, claimed.attempts))
            await self.in_vain(claimed)
            self.later(60)
        self.assertEqual(FAILED, (await self.stored()).deferred_reason)

    async def test_a_new_generation_begins_anew(self) -> None:
        """Fetches in vain of an earlier generation do not count."""
        await self.post()
        await self.in_vain(await self.claim_one())
        await self.store.remove("default", ["m1"], self.now)
        await self.post()
        self.assertEqual(0, (await self.claim_one()).fetches)

    async def test_refetch(self) -> None:
        """What waits for an attachment is due at once when its tenant's mail is fetched anew."""
        await self.post(id="m1")
        await self.post(id="m2")
        first, second = await self.claim()
        await self.in_vain(first, after=3600)
        await self.in_vain(second, after=3600, reason="something else")
        self.observer.forget()

        self.assertEqual(0, await self.store.refetch("other", self.now))
        self.assertEqual(1, await self.store.refetch("default", self.now))

        self.assertEqual([self.acct.pk], self.observer.due_accounts)
        again = await self.claim_one()
        self.assertEqual(("m1", 1), (again.id, again.fetches))
        self.assertEqual(0, await self.store.refetch("default", self.now), "it is on its way")

    async def test_refetch_of_many(self) -> None:
        """However many wait, all are due."""
        await self.submit(*(new_message(id=f"m{n}") for n in range(600)))
        for claimed in await self.claim():
            await self.in_vain(claimed, after=3600)
        self.assertEqual(600, await self.store.refetch("default", self.now))
        self.assertEqual(600, len(await self.claim()))
