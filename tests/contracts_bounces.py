"""What every store promises of the senders who are to be told by mail."""

from __future__ import annotations

from typing import Any

import attrs

from mailproxy import payload as payloads
from mailproxy.dsn import Dsn
from mailproxy.model import Enqueued
from mailproxy.records import ListQuery
from mailproxy.states import EventKind, RecipientState, Verdict
from mailproxy.tenancy import Bounces, Suppression, Tenant
from mailproxy.undelivered import MOST_RETURNED, Undelivered, Unreached
from tests.build import accepted, content, ended, new_message, refused
from tests.contracts_base import RETENTION, StoreContract

HEADER = b"From: sender@example.com\r\nSubject: \xc3\xa4\r\n\r\n"

WANTED = Bounces(True, "bulk")


class BounceCase(StoreContract):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        await self.wanted()

    async def change(self, tenant_id: str = "default", **fields: Any) -> None:
        def change(tenant: Tenant | None) -> Tenant:
            return attrs.evolve(tenant or Tenant(tenant_id), **fields)

        await self.store.change_tenant(tenant_id, change, self.now)

    async def wanted(self, bounces: Bounces = WANTED) -> None:
        await self.change(bounces=bounces)

    async def notes(self, limit: int = 10) -> list[Undelivered]:
        return await self.store.undelivered(limit)

    async def note(self) -> Undelivered:
        (found,) = await self.notes()
        return found

    async def settle(self, found: Undelivered, id: str = "bounce-1", **more: Any) -> Enqueued:
        """Have the note settled by a bounce."""
        values = {"id": id, "to": [found.envelope_from], "envelope_from": "", **more}
        answer = await self.store.bounce(found.pk, new_message(**values), self.now)
        assert answer is not None
        return answer


class BouncesContract(BounceCase):
    """Notes beside the end of messages, and how they are settled."""

    async def test_what_there_is_to_tell(self) -> None:
        """The end of a message that not everybody got is noted, with what was said of each."""
        small = content(plain=(HEADER + b"x\r\n").decode("latin-1"), raw=True, by_smtp=True)
        await self.post(to=["a@x.org", "b@x.org", "c@x.org"], payload=payloads.dump(small))
        claimed = await self.claim_one()
        self.later(5)
        at = self.now
        outcome = b'{"peer":"mx.example.net:25"}'
        await self.finish(
            claimed, accepted(0), refused(1), ended(2, RecipientState.EXPIRED, "late"),
            outcome=outcome,
        )  # fmt: skip
        found = await self.note()
        (item,) = await self.offered()
        self.assertEqual(item.event_id.replace("-", ""), found.event_id)
        self.assertEqual(
            Undelivered(
                found.pk,
                found.event_id,
                "default",
                WANTED,
                "m1",
                "acct",
                "<m1@mail.example.com>",
                "sender@example.com",
                at - 5,
                at,
                attrs.evolve(small, plain=None),
                HEADER + b"x\r\n",
                True,
                (
                    Unreached("a@x.org", RecipientState.SENT, *attrs.astuple(accepted())[2:]),
                    Unreached("b@x.org", RecipientState.FAILED, *attrs.astuple(refused())[2:]),
                    Unreached("c@x.org", RecipientState.EXPIRED, reply="late"),
                ),
                "mx.example.net:25",
            ),
            found,
        )

    async def large(self, size: int, ret: str) -> Undelivered:
        data = HEADER + b"x" * (size - len(HEADER))
        made = content(plain=None, raw=True, by_smtp=True, dsn=Dsn((), ret))
        await self.deliver(
            refused(), id=f"m{size}{ret}", payload=payloads.dump(made), parts=(data,)
        )
        found = await self.note()
        self.assertTrue(data.startswith(found.data))
        await self.store.bounce(found.pk, None, self.now)
        return found

    async def test_large(self) -> None:
        """Of a large message at least the header is there; all of it if it may be returned."""
        found = await self.large(MOST_RETURNED, "FULL")
        self.assertEqual((True, MOST_RETURNED), (found.whole, len(found.data)))
        found = await self.large(MOST_RETURNED + 1, "FULL")
        self.assertEqual((False, MOST_RETURNED), (found.whole, len(found.data)))
        found = await self.large(MOST_RETURNED + 1, "")
        self.assertFalse(found.whole)
        self.assertIn(HEADER, found.data)

    async def test_ends_without_a_note(self) -> None:
        """Nothing is noted of what was sent or taken back, nor where the tenant wants none."""
        await self.deliver()
        await self.post(id="m2")
        await self.store.remove("default", ["m2"], self.now)
        await self.wanted(Bounces())
        await self.deliver(refused(), id="m3")
        await self.wanted()
        self.assertEqual([], await self.notes())

    async def test_ends_that_the_store_decides(self) -> None:
        """It is noted whoever ends it: its own time, a suppressed address, its account's end."""
        await self.post(id="late", not_after=self.now + 5)
        self.later(6)
        await self.claim()
        await self.store.suppress([Suppression("default", "no@x.org")], self.now)
        await self.post(id="barred", to=["no@x.org"])
        await self.post(id="left")
        await self.store.delete_account("default", "acct", self.now)
        await self.upkeep()
        found = await self.notes()
        self.assertEqual(["late", "barred", "left"], [each.id for each in found])
        self.assertEqual("", found[2].account_id)
        self.assertEqual(found[:2], await self.notes(2))

    async def test_settled_once(self) -> None:
        """The note goes with the bounce that comes, over a crash; a second one is not taken."""
        await self.deliver(refused())
        found = await self.note()
        await self.killed()
        self.assertEqual(found, await self.note())
        self.assertEqual(Enqueued(Verdict.QUEUED), await self.settle(found))
        await self.killed()
        self.assertEqual([], await self.notes())
        (*_, last) = await self.store.timeline("default", "m1")
        self.assertEqual(("note", ["bounce: bounce-1"]), (last["kind"], last["data"]["notes"]))
        again = new_message(id="bounce-2", envelope_from="")
        self.assertIsNone(await self.store.bounce(found.pk, again, self.now))
        self.assertEqual(1, len(await self.claim()))

    async def test_nothing_to_tell(self) -> None:
        """A note can be settled without a bounce."""
        await self.deliver(refused())
        self.assertIsNone(await self.store.bounce((await self.note()).pk, None, self.now))
        self.assertEqual([], await self.notes())

    async def test_sent_again(self) -> None:
        """What was posted again since has nothing to tell; its own end is noted anew."""
        await self.deliver(refused())
        first = await self.note()
        await self.post()
        self.assertIsNone((await self.note()).content)
        await self.finish(await self.claim_one(), refused())
        old, new = await self.notes()
        self.assertEqual((first.pk, None), (old.pk, old.content))
        self.assertIsNotNone(new.content)
        self.assertNotEqual(first.event_id, new.event_id)

    async def test_removed(self) -> None:
        """What was removed since has nothing to tell."""
        await self.deliver(refused())
        await self.report()
        await self.store.cleanup("default", self.now, self.now)
        self.assertIsNone((await self.note()).content)

    async def test_damaged(self) -> None:
        """Of a message whose content is damaged there is nothing to tell; others are told of."""
        await self.deliver(refused(), payload=b"damaged")
        await self.deliver(refused(), id="m2")
        self.assertEqual([True, False], [each.content is None for each in await self.notes()])

    async def test_account(self) -> None:
        """A bounce goes through the account it says, or the tenant's default, or not at all."""
        bulk = await self.put(id="bulk")
        await self.put(is_default=True)
        await self.deliver(refused())
        await self.settle(await self.note(), account_id="bulk")
        self.assertEqual(1, len(await self.claim(bulk)))
        await self.deliver(refused(), id="m2")
        await self.settle(await self.note(), "bounce-2", account_id="gone")
        self.assertEqual(["bounce-2"], [each.id for each in await self.claim()])
        await self.deliver(refused(), id="m3")
        for each in ("acct", "bulk"):
            await self.store.delete_account("default", each, self.now)
        answer = await self.settle(await self.note(), "bounce-3")
        self.assertEqual(Enqueued(Verdict.REJECTED, "account not found"), answer)
        self.assertEqual([], await self.notes())

    async def test_suppressed_sender(self) -> None:
        """A sender on the suppression list gets none."""
        await self.store.suppress([Suppression("default", "sender@example.com")], self.now)
        await self.deliver(refused())
        answer = await self.settle(await self.note())
        self.assertEqual(Enqueued(Verdict.REJECTED, "suppressed"), answer)
        self.assertEqual(([], []), (await self.notes(), await self.claim()))
        (*_, last) = await self.store.timeline("default", "m1")
        self.assertEqual(["no bounce: suppressed"], last["data"]["notes"])

    async def test_inactive_tenant(self) -> None:
        """While the tenant is inactive the note waits, and keeps no other back."""
        await self.deliver(refused())
        found = await self.note()
        await self.change(active=False)
        self.assertEqual([], await self.notes())
        self.assertEqual("tenant inactive", (await self.settle(found)).reason)
        await self.change(active=True)
        self.assertEqual([found.pk], [each.pk for each in await self.notes()])

    async def test_deleted_tenant(self) -> None:
        """Of a tenant that is being deleted no bounce is taken, and no note stays."""
        await self.add_tenant("other")
        await self.change("other", bounces=WANTED)
        other = await self.put(tenant_id="other", id="o")
        await self.post(tenant_id="other")
        await self.finish(await self.claim_one(other), refused())
        found = await self.note()
        await self.store.delete_tenant("other", self.now)
        answer = await self.settle(found, tenant_id="other")
        self.assertEqual(Enqueued(Verdict.REJECTED, "tenant not found"), answer)
        self.assertEqual([], await self.notes())


class QuietContract(BounceCase):
    """What becomes of a bounce: listed, and told to nobody."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        await self.deliver(refused())
        await self.settle(await self.note())
        await self.report()
        self.bounce = await self.claim_one()
        self.later(60)

    async def heard(self) -> tuple[list[str], list[str]]:
        """Ids that are to be reported, and those in the log of events."""
        events = await self.store.events("default", 0, 10)
        return [each.id for each in await self.offered()], [each.id for each in events]

    async def test_sent(self) -> None:
        """A bounce that is sent is listed as sent, and is in no report."""
        self.assertEqual("", self.bounce.envelope_from)
        await self.finish(self.bounce)
        found = await self.stored("bounce-1")
        self.assertEqual(("sent", self.now), (found.state, found.reported_ts))
        self.assertEqual(([], ["m1"]), await self.heard())
        self.assertEqual([], await self.store.waiting_tenants())

    async def test_deferred_and_refused(self) -> None:
        """A bounce that is put off, then refused, is in no report, and gets no bounce."""
        await self.defer(self.bounce)
        self.later(60)
        await self.finish(await self.claim_one(), refused(), kind=EventKind.FAILED)
        self.assertEqual("failed", await self.state("bounce-1"))
        self.assertEqual((([], ["m1"]), []), (await self.heard(), await self.notes()))

    async def test_replayed(self) -> None:
        """Offering events again offers none of a bounce."""
        await self.finish(self.bounce)
        self.assertEqual(0, await self.store.replay("default", None, ["bounce-1"], self.now))
        await self.store.replay("default", 0.0, None, self.now)
        self.assertEqual(["m1"], [each.id for each in await self.offered()])

    async def test_posted(self) -> None:
        """Nobody can post a message under the id of a bounce: its end would be told to nobody."""
        answer = await self.post(id="bounce-1", text="other")
        self.assertEqual(Verdict.REJECTED, answer.verdict)
        await self.finish(self.bounce)
        self.assertEqual(Verdict.REJECTED, (await self.post(id="bounce-1")).verdict)

    async def test_retention(self) -> None:
        """A bounce is removed when its time is over, as other mail."""
        await self.finish(self.bounce)
        self.later(RETENTION - 1)
        await self.upkeep()
        listed = await self.store.messages(ListQuery())
        self.assertEqual(["bounce-1"], [each.id for each in listed])
        self.later(2)
        await self.upkeep()
        self.assertEqual([], await self.store.messages(ListQuery()))
