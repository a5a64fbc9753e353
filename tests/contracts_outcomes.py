"""What every store promises of the outcomes of attempts."""

from __future__ import annotations

import attrs

from mailproxy import payload as payloads
from mailproxy.model import Attachment
from mailproxy.states import EventKind, RecipientState
from tests.build import accepted, content, ended, new_message, put_off, record, refused
from tests.contracts_base import StoreContract

A, B, C = "a@example.org", "b@example.org", "c@example.org"


class OutcomeContract(StoreContract):
    async def test_sent(self) -> None:
        """A message that every recipient accepted is sent, at that instant."""
        await self.post(to=[A, B])
        claimed = await self.claim_one()
        self.later(3)

        await self.finish(claimed)

        listed = await self.stored()
        self.assertEqual(("sent", 1, self.now), (listed.state, listed.attempts, listed.sent_ts))
        self.assertEqual(
            (None, None, None), (listed.error, listed.error_ts, listed.deferred_reason)
        )
        self.assertEqual(
            [(A, "sent", 250), (B, "sent", 250)],
            [(rcpt.address, rcpt.state, rcpt.code) for rcpt in listed.recipients],
        )
        self.assertEqual(["accepted", "intent", "outcome"], await self.kinds())
        self.later(86400)
        self.assertEqual([], await self.claim())

    async def test_failed(self) -> None:
        """A message that was refused for good has failed, with the upstream's words."""
        await self.deliver(refused(0, "5.1.1 nobody here"))

        listed = await self.stored()

        self.assertEqual(("failed", None), (listed.state, listed.sent_ts))
        self.assertEqual(self.now, listed.error_ts)
        self.assertIn("5.1.1 nobody here", listed.error or "")
        self.assertEqual("5.1.1 nobody here", listed.recipients[0].reply)

    async def test_deferred(self) -> None:
        """A deferral's reason is not an error: nothing has finally failed."""
        await self.post()
        await self.defer(await self.claim_one(), reason="451 4.2.0 greylisted")

        listed = await self.stored()

        self.assertEqual("deferred", listed.state)
        self.assertEqual((None, None, None), (listed.error, listed.error_ts, listed.sent_ts))
        self.assertIn("greylisted", listed.deferred_reason or "")

    async def test_each_recipient_has_its_own_end(self) -> None:
        """Only the recipients still open are tried again; the end waits for all of them."""
        await self.post(to=[A, B, C])
        await self.defer(await self.claim_one(), accepted(0), put_off(1), refused(2))
        self.assertEqual("deferred", await self.state())
        self.later(60)

        claimed = await self.claim_one()

        self.assertEqual([(1, B)], [(rcpt.n, rcpt.address) for rcpt in claimed.recipients])
        await self.finish(claimed)
        listed = await self.stored()
        self.assertEqual("failed", listed.state)
        self.assertEqual(["sent", "sent", "failed"], [rcpt.state for rcpt in listed.recipients])

    async def test_several_at_once(self) -> None:
        """Several outcomes are stored together, and each is judged alone."""
        await self.submit(*(new_message(id=f"m{n}") for n in range(3)))
        one, two, three = await self.claim()
        await self.begin(one, two, three)

        took = await self.store.record(
            [
                record(one, at=self.now),
                record(two, at=self.now, token=two.token + 1),
                record(three, refused(), at=self.now),
            ]
        )

        self.assertEqual([True, False, True], took)
        states = {each.id: each.state for each in await self.listed()}
        self.assertEqual(
            ["sent", "in_flight", "failed"], [states[each.id] for each in (one, two, three)]
        )

    async def test_no_outcomes(self) -> None:
        """No outcomes get no answers."""
        self.assertEqual([], await self.store.record([]))

    async def test_timeline_keeps_what_was_said(self) -> None:
        """Each event stands in the timeline in order, with the data it was recorded with."""
        await self.post()
        await self.defer(await self.claim_one(), after=60, data=b'{"why":["gr\xc3\xbcn"]}')
        self.later(60)
        await self.finish(await self.claim_one(), data=b'{"why":[]}')

        timeline = await self.store.timeline("default", "m1")

        self.assertEqual(
            ["accepted", "intent", "deferred", "intent", "outcome"], await self.kinds()
        )
        self.assertEqual(["grün"], timeline[2]["data"]["why"])
        self.assertEqual([], timeline[4]["data"]["why"])
        self.assertEqual(
            [False, False, False, False, True], [bool(event["final"]) for event in timeline]
        )
        self.assertEqual(
            [self.now - 60, self.now - 60, self.now - 60, self.now, self.now],
            [event["at"] for event in timeline],
        )
        ids = [event.get("event_id") for event in timeline]
        self.assertEqual([None, None], [ids[1], ids[3]], "an intent is its attempt")
        self.assertEqual(3, len({ids[0], ids[2], ids[4]} - {None}))

    async def test_offered_twice(self) -> None:
        """An outcome offered again after it was stored changes nothing and is reported once."""
        await self.post()
        claimed = await self.claim_one()
        await self.begin(claimed)
        item = record(claimed, at=self.now)

        first = await self.store.record([item])
        await self.report()
        second = await self.store.record([item])

        self.assertEqual([[True], [False]], [first, second])
        self.assertEqual("sent", await self.state())
        self.assertEqual([], await self.offered())

    async def test_unknown_message(self) -> None:
        """An outcome for a message that is not there has no effect."""
        await self.post()
        claimed = await self.claim_one()
        await self.begin(claimed)
        lost = record(claimed, at=self.now, pk=claimed.pk + 1)
        self.assertEqual([False], await self.store.record([lost]))

    async def test_hold(self) -> None:
        """A held message is neither due nor ended; it is counted."""
        await self.post()
        claimed = await self.claim_one()
        hold = record(
            claimed, put_off(), at=self.now, begun=False, kind=EventKind.HELD, hold="raised"
        )

        self.assertEqual([True], await self.store.record([hold]))

        self.assertEqual("held", await self.state())
        self.assertEqual([], await self.claim())
        self.assertEqual(([], None), await self.store.due_accounts(self.now))
        self.assertEqual("held", (await self.kinds())[-1])
        self.assertEqual(1, (await self.store.counts(self.now)).by_state["held"])

    async def test_outcome_survives_the_process(self) -> None:
        """A stored outcome is there after a kill."""
        await self.deliver()
        await self.killed()
        self.assertEqual([], await self.store.abandoned(self.now))
        self.assertEqual("sent", await self.state())
        self.assertEqual(["m1"], [item.id for item in await self.offered()])

    async def test_text_goes_with_success(self) -> None:
        """S27: the text of a sent message is not kept, all else is; that of a failed one is."""
        written = content(
            plain="my secret",
            html="<p>my secret",
            headers=(("X-Order", '"html":1,"plain":2,"reply_to":3'),),
            attachments=(Attachment("a.pdf", "application/pdf", 1, 6, "ab" * 32),),
        )
        payload = payloads.dump(written)
        await self.deliver(id="m1", payload=payload, parts=(b"secret",))
        await self.deliver(refused(), id="m2", payload=payload, parts=(b"secret",))

        sent, failed = await self.stored("m1"), await self.stored("m2")

        bare = attrs.evolve(written, plain=None, html=None)
        self.assertEqual(bare, payloads.load(sent.payload or b""))
        self.assertEqual(written, payloads.load(failed.payload or b""))

    async def test_cancelled(self) -> None:
        """A message taken back ends, and its text is not kept."""
        await self.post(text="my secret")
        claimed = await self.claim_one()
        cancel = record(
            claimed,
            ended(0, RecipientState.CANCELLED),
            at=self.now,
            begun=False,
            kind=EventKind.CANCELLED,
        )
        await self.store.record([cancel])

        listed = await self.stored()

        self.assertEqual(("cancelled", None), (listed.state, listed.sent_ts))
        self.assertEqual((None, None), (listed.error, listed.error_ts))
        shown = payloads.load(listed.payload or b"")
        self.assertEqual(("Hello", None), (shown.subject, shown.plain))
