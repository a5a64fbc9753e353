"""What every store promises of messages that are taken back, and of those that are cleaned up."""

from __future__ import annotations

from mailproxy.model import Enqueued
from mailproxy.states import EventKind, Verdict
from mailproxy.tenancy import Remembered, Removed
from tests.build import accepted, new_message, put_off, record, refused, unknown
from tests.contracts_base import DAY, StoreContract

A, B = "a@example.org", "b@example.org"


class RemoveContract(StoreContract):
    async def remove(self, *ids: str, tenant_id: str | None = "default") -> Removed:
        return await self.store.remove(tenant_id, ids, self.now)

    async def test_waiting(self) -> None:
        """A message that waits is removed, sent to nobody, and reported to nobody."""
        await self.post()

        self.assertEqual(Removed(1), await self.remove("m1"))

        self.assertEqual([], await self.claim())
        self.assertEqual([], await self.listed())
        self.assertEqual([], await self.offered())
        self.assertEqual(0, (await self.store.counts(self.now)).pending)
        self.assertEqual(Removed(0, (), ("m1",)), await self.remove("m1"))

    async def test_deferred(self) -> None:
        """A message that waits for another attempt is removed, with reports of it not yet taken."""
        await self.post()
        await self.defer(await self.claim_one())
        self.assertEqual(1, len(await self.offered()))

        self.assertEqual(Removed(1), await self.remove("m1"))

        self.assertEqual([], await self.offered())
        self.later(120)
        self.assertEqual([], await self.claim())

    async def test_held(self) -> None:
        """A message that is held is removed."""
        await self.post()
        claimed = await self.claim_one()
        item = record(
            claimed, at=self.now, begun=False, kind=EventKind.HELD, hold="quarantined", changes=()
        )
        await self.store.record([item])
        self.assertEqual("held", await self.state())
        self.assertEqual(Removed(1), await self.remove("m1"))
        self.assertEqual(0, (await self.store.counts(self.now)).pending)

    async def test_claimed(self) -> None:
        """F68: the removal of a message that is only claimed comes first: no body is begun."""
        await self.post()
        claimed = await self.claim_one()

        self.assertEqual(Removed(1), await self.remove("m1"))

        self.assertEqual([False], await self.begin(claimed))
        await self.store.release([(claimed.pk, claimed.token)])
        self.assertEqual([], await self.claim())

    async def test_begun(self) -> None:
        """F68: a message whose body was begun is kept, and its outcome is reported."""
        await self.post()
        claimed = await self.claim_one()
        await self.begin(claimed)

        self.assertEqual(Removed(0, (("m1", "in_flight"),)), await self.remove("m1"))

        await self.store.record([record(claimed, at=self.now)])
        self.assertEqual(Removed(0, (("m1", "sent"),)), await self.remove("m1"))
        self.assertEqual(1, len(await self.offered()))

    async def test_ended_and_reported(self) -> None:
        """A message that ended is kept until that is reported, then it is removed."""
        await self.deliver(refused())
        self.assertEqual(Removed(0, (("m1", "failed"),)), await self.remove("m1"))
        await self.report()
        self.assertEqual(Removed(1), await self.remove("m1"))
        self.assertEqual([], await self.listed())

    async def test_uncertain(self) -> None:
        """A message that may have got through is kept: an operator decides."""
        await self.deliver(unknown())
        await self.report()
        self.assertEqual(Removed(0, (("m1", "uncertain"),)), await self.remove("m1"))

    async def test_posted_again(self) -> None:
        """A removed message that nobody has got is sent when its id is posted again."""
        await self.post(message_id="<first@example.com>")
        await self.remove("m1")

        self.assertEqual(Enqueued(Verdict.QUEUED), await self.post())

        claimed = await self.claim_one()
        self.assertEqual((2, "<first@example.com>"), (claimed.generation, claimed.message_id))
        await self.finish(claimed)
        self.assertEqual("sent", await self.state())

    async def test_posted_again_for_those_who_have_it(self) -> None:
        """Who had accepted a message before it was removed does not get it again."""
        await self.post(to=[A, B])
        await self.defer(await self.claim_one(), accepted(0), put_off(1))
        self.assertEqual(Removed(1), await self.remove("m1"))

        answer = await self.post(to=[A], text="two")

        self.assertEqual(Verdict.DUPLICATE, answer.verdict)
        self.assertEqual([], await self.claim())
        (item,) = await self.offered()
        self.assertIsNone(item.sent_ts)
        self.assertIn("cancelled", item.error or "")
        await self.post(to=[A, B])
        (claimed,) = await self.claim()
        self.assertEqual([B], [rcpt.address for rcpt in claimed.recipients])

    async def test_other_tenants(self) -> None:
        """An id that only another tenant has is missing; without a tenant it is found."""
        await self.add_tenant("other")
        await self.put(tenant_id="other", id="acct")
        await self.post(tenant_id="other")

        self.assertEqual(Removed(0, (), ("m1",)), await self.remove("m1"))
        self.assertEqual("queued", await self.state())
        self.assertEqual(Removed(1, (), ("m2",)), await self.remove("m2", "m1", tenant_id=None))

    async def test_the_oldest_of_an_id(self) -> None:
        """Without a tenant, of an id that several have the oldest message is removed."""
        await self.add_tenant("other")
        await self.put(tenant_id="other", id="acct")
        await self.post(tenant_id="other")
        self.later(1)
        await self.post()

        self.assertEqual(Removed(1), await self.remove("m1", tenant_id=None))

        self.assertEqual("default", (await self.stored()).tenant_id)

    async def test_many(self) -> None:
        """However many ids are given, each is counted once, and told of in the order given."""
        await self.submit(*(new_message(id=f"m{n}") for n in range(0, 700, 2)))
        ids = [f"m{n}" for n in range(700)]

        answer = await self.remove(*ids, *ids)

        self.assertEqual(350, answer.removed)
        self.assertEqual(tuple(f"m{n}" for n in range(1, 700, 2)), answer.missing)
        self.assertEqual([], await self.claim())
        self.assertEqual(0, (await self.store.counts(self.now)).pending)

    async def test_what_is_left_is_claimed(self) -> None:
        """What was behind a removed message in its lane is claimed when it is due."""
        await self.post(id="m1")
        await self.post(id="m2", not_before=self.now + 60)
        await self.remove("m1")

        self.assertEqual(([], self.now + 60), await self.store.due_accounts(self.now))
        self.later(60)
        self.assertEqual(["m2"], [each.id for each in await self.claim()])

    async def test_after_a_crash(self) -> None:
        """A removal that was answered holds after the process was killed."""
        await self.post()
        await self.remove("m1")
        await self.killed()
        self.assertEqual([], await self.listed())
        self.assertEqual(Enqueued(Verdict.QUEUED), await self.post())


class RememberedContract(StoreContract):
    async def known(self, *addresses: str, tenant_id: str = "default") -> Remembered | None:
        return await self.store.remembered(tenant_id, "m1", addresses)

    async def test_what_is_remembered(self) -> None:
        """Of a removed message is remembered how it ended, and whether somebody has it."""
        await self.post(to=[A, B], message_id="<first@example.com>")
        self.assertIsNone(await self.known(A))
        await self.finish(await self.claim_one(), accepted(0), refused(1))
        await self.bury()

        expected = Remembered("failed", "<first@example.com>", False, frozenset((A,)))
        self.assertEqual(expected, await self.known(A, B))
        self.assertEqual(frozenset(), getattr(await self.known(B), "accepted", None))
        self.assertIsNone(await self.known(A, tenant_id="other"))

    async def test_also_while_it_is_back(self) -> None:
        """It is remembered past the next generation's beginning, and is added to by its end."""
        await self.deliver(accepted(0), refused(1), to=[A, B])
        await self.bury()
        await self.post(to=[A, B])
        self.assertEqual(frozenset((A,)), getattr(await self.known(A, B), "accepted", None))
        await self.finish(await self.claim_one())
        await self.bury()
        self.assertEqual(frozenset((A, B)), getattr(await self.known(A, B), "accepted", None))

    async def test_taken_back_in_part(self) -> None:
        """Removed while it waits it is cancelled, also where somebody has it already."""
        await self.deliver(accepted(0), refused(1), to=[A, B])
        await self.bury()
        await self.post(to=[A, B])
        self.assertEqual(1, (await self.store.remove("default", ["m1"], self.now)).removed)
        found = await self.known(A, B)
        self.assertEqual("cancelled", found and found.state)

    async def test_a_test(self) -> None:
        """Of a test is remembered that it was one; nobody has it."""
        await self.post(test=True)
        await self.bury()
        found = await self.known("to@example.org")
        self.assertEqual((True, frozenset()), (found and found.test, found and found.accepted))


class CleanupContract(StoreContract):
    async def test_reported_only(self) -> None:
        """Finished and reported messages of before an instant are removed, no others."""
        await self.deliver(id="old")
        await self.report()
        self.later(10)
        before = self.now
        self.later(10)
        await self.deliver(id="new")
        await self.report()
        await self.deliver(id="unreported")
        await self.post(id="waits")

        self.assertEqual(1, await self.store.cleanup("default", before, self.now))

        ids = {each.id for each in await self.listed()}
        self.assertEqual({"new", "unreported", "waits"}, ids)
        self.assertEqual(1, await self.store.cleanup(None, self.now, self.now))

    async def test_own_tenant_only(self) -> None:
        """With a tenant given, only its messages are removed."""
        await self.add_tenant("other")
        other = await self.put(tenant_id="other", id="acct")
        await self.post(tenant_id="other")
        await self.finish(await self.claim_one(other))
        await self.report("other")
        self.assertEqual(0, await self.store.cleanup("default", self.now, self.now))
        self.assertEqual(1, await self.store.cleanup("other", self.now, self.now))

    async def test_a_tombstone_stays(self) -> None:
        """Who has a message that was cleaned up does not get it again."""
        await self.deliver()
        await self.report()
        await self.store.cleanup(None, self.now, self.now)
        self.later(DAY)
        self.assertEqual(Verdict.DUPLICATE, (await self.post()).verdict)
        self.assertEqual([], await self.claim())

    async def test_many(self) -> None:
        """However many there are, all are removed and counted, those of one instant too."""
        await self.submit(*(new_message(id=f"m{n}") for n in range(300)))
        claimed = await self.claim()
        await self.begin(*claimed)
        await self.store.record([record(each, at=self.now) for each in claimed])
        await self.store.ack_all("default", self.now)
        self.assertEqual(300, await self.store.cleanup("default", self.now, self.now))
        self.assertEqual([], await self.listed())
