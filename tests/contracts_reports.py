"""What every store promises the reporter: which events are offered, what they say, and acks."""

from __future__ import annotations

from mailproxy.states import EventKind, RecipientState
from tests.build import accepted, deferral, ended, new_message, put_off, record, refused, unknown
from tests.contracts_base import StoreContract

A, B, C = "a@example.org", "b@example.org", "c@example.org"


class FinalItemContract(StoreContract):
    async def test_sent(self) -> None:
        """The item of a sent message says when, and nothing of errors."""
        await self.post(id="m7", priority=1, to=[A, B], message_id="<m7@example.com>")
        self.later(5)
        await self.finish(await self.claim_one())

        (item,) = await self.offered()

        self.assertEqual(("default", "m7", "acct"), (item.tenant_id, item.id, item.account_id))
        self.assertEqual((1, 1, self.now), (item.priority, item.generation, item.at))
        self.assertEqual((self.now, None, None), (item.sent_ts, item.error_ts, item.error))
        self.assertEqual((None, None, False), (item.deferred_ts, item.deferred_reason, False))
        self.assertFalse(item.uncertain)
        self.assertEqual("<m7@example.com>", item.message_id)
        self.assertEqual(
            [(A, "sent", 250), (B, "sent", 250)],
            [(rcpt.address, rcpt.state, rcpt.code) for rcpt in item.recipients],
        )

    async def test_refused(self) -> None:
        """The item of a refused message names each recipient with its reply."""
        await self.deliver(refused(0, "5.1.1 nobody"), refused(1, "5.7.1 go away"), to=[A, B])

        (item,) = await self.offered()

        self.assertEqual((None, self.now), (item.sent_ts, item.error_ts))
        for words in (A, "5.1.1 nobody", B, "5.7.1 go away", "550"):
            self.assertIn(words, item.error or "")
        self.assertEqual(["failed", "failed"], [rcpt.state for rcpt in item.recipients])

    async def test_refused_by_some(self) -> None:
        """Not sent to everybody is not sent; the error names who refused and who accepted."""
        await self.deliver(accepted(0), refused(1, "5.1.1 nobody"), to=[A, B])

        (item,) = await self.offered()

        self.assertEqual((None, self.now), (item.sent_ts, item.error_ts))
        error = item.error or ""
        self.assertIn("5.1.1 nobody", error)
        self.assertLess(error.index(B), error.index(A), "refused first, then who accepted")

    async def test_one_event_for_the_end(self) -> None:
        """The end is one event, made when the last recipient's is known."""
        await self.post(to=[A, B])
        quiet = {"report": False}
        await self.defer(await self.claim_one(), accepted(0), put_off(1), **quiet)
        self.assertEqual([], await self.offered())
        self.later(60)

        await self.finish(await self.claim_one())

        (item,) = await self.offered()
        self.assertEqual((self.now, 1), (item.sent_ts, len(item.event_pks)))
        finals = [event for event in await self.store.timeline("default", "m1") if event["final"]]
        self.assertEqual([item.event_id], [event["event_id"] for event in finals])

    async def test_expired(self) -> None:
        """The item of an expired message is an error that begins with the given reason."""
        await self.post()
        await self.finish(
            await self.claim_one(),
            ended(0, RecipientState.EXPIRED, "451 4.2.0 greylisted"),
            kind=EventKind.EXPIRED,
            reason="too old after 9 attempts",
        )

        (item,) = await self.offered()

        self.assertEqual((None, self.now), (item.sent_ts, item.error_ts))
        self.assertTrue((item.error or "").startswith("too old after 9 attempts"), item.error)
        self.assertIn("greylisted", item.error or "")

    async def test_reason_comes_first(self) -> None:
        """An error begins with the reason it was given: clients look at its first words."""
        await self.post()
        reason = "Attachment fetch failed for a.pdf: 404"
        failed = record(
            await self.claim_one(),
            ended(0, RecipientState.FAILED),
            at=self.now,
            begun=False,
            kind=EventKind.FAILED,
            reason=reason,
        )
        await self.store.record([failed])
        (item,) = await self.offered()
        self.assertTrue((item.error or "").startswith(reason), item.error)

    async def test_every_end_has_an_error_or_a_time(self) -> None:
        """A message that ended otherwise than sent always has an error text."""
        await self.post()
        await self.finish(
            await self.claim_one(), ended(0, RecipientState.CANCELLED), kind=EventKind.CANCELLED
        )
        (item,) = await self.offered()
        self.assertTrue(item.error)
        self.assertEqual((None, self.now), (item.sent_ts, item.error_ts))

    async def test_observers_are_told(self) -> None:
        """Observers hear of the tenant when a message ended, and not when it began."""
        await self.post()
        claimed = await self.claim_one()
        await self.begin(claimed)
        self.assertEqual([], self.observer.reportable_tenants)
        await self.store.record([record(claimed, at=self.now)])
        self.assertEqual(["default"], self.observer.reportable_tenants)

    async def test_report_says_what_the_listing_says(self) -> None:
        """Report and listing agree on what became of a message."""
        await self.deliver(accepted(0), refused(1), to=[A, B])
        (item,) = await self.offered()
        listed = await self.stored()
        self.assertEqual((item.error, item.error_ts), (listed.error, listed.error_ts))
        self.assertEqual(list(item.recipients), list(listed.recipients))


class DeferralItemContract(StoreContract):
    async def test_deferral(self) -> None:
        """A deferral is reported with its reason and the next attempt, and is no error."""
        await self.post()
        await self.defer(await self.claim_one(), reason="451 4.2.0 greylisted", after=300)

        (item,) = await self.offered()

        self.assertEqual((None, None, None), (item.sent_ts, item.error, item.error_ts))
        self.assertEqual(self.now + 300, item.deferred_ts)
        self.assertEqual("451 4.2.0 greylisted", item.deferred_reason)
        self.assertFalse(item.uncertain)
        self.assertEqual(["default"], self.observer.reportable_tenants)

    async def defer_with(self, key: str, **more: bool) -> None:
        await self.defer(await self.claim_one(), reason_key=key, reason=f"reason {key}", **more)
        self.later(60)

    async def test_once_per_reason(self) -> None:
        """The same reason again is not reported again; another one is."""
        await self.post()
        await self.defer_with("greylisted")
        self.assertEqual(1, len(await self.report()))

        await self.defer_with("greylisted")
        self.assertEqual([], await self.offered())

        await self.defer_with("mailbox full")
        (item,) = await self.report()
        self.assertEqual("reason mailbox full", item.deferred_reason)

        await self.defer_with("greylisted")
        self.assertEqual(1, len(await self.report()))

    async def test_once_per_reason_unreported(self) -> None:
        """The same reason again, before the first was reported, makes no second event."""
        await self.post()
        await self.defer_with("greylisted")
        (first,) = await self.offered()
        await self.defer_with("greylisted")
        (second,) = await self.offered()
        self.assertEqual(first.event_pks, second.event_pks)

    async def test_unreportable_deferral(self) -> None:
        """A deferral that is not to be reported is not, nor does it hide a later one."""
        await self.post()
        await self.defer_with("rate limit", report=False)
        self.assertEqual([], await self.offered())
        self.assertEqual([], self.observer.reportable_tenants)
        await self.defer_with("rate limit")
        self.assertEqual(1, len(await self.offered()))

    async def test_newest_state_only(self) -> None:
        """A message has one item, its newest state; its ack covers all that came before."""
        await self.post()
        await self.defer_with("greylisted")
        await self.defer_with("mailbox full")
        (deferred,) = await self.offered()
        self.assertEqual("reason mailbox full", deferred.deferred_reason)
        self.assertEqual(2, len(deferred.event_pks))
        await self.finish(await self.claim_one())

        (item,) = await self.offered()

        self.assertEqual((self.now, None), (item.sent_ts, item.deferred_reason))
        self.assertEqual(3, len(item.event_pks))
        await self.ack([item])
        self.assertEqual([], await self.offered())

    async def test_uncertain(self) -> None:
        """A message kept because it is uncertain is reported once, as a deferral that says so."""
        await self.post()
        reason = "uncertain: the connection was lost"
        await self.finish(
            await self.claim_one(),
            unknown(),
            kind=EventKind.UNCERTAIN,
            report=True,
            reason_key="lost",
            reason=reason,
        )

        (item,) = await self.report()

        self.assertTrue(item.uncertain)
        self.assertEqual(reason, item.deferred_reason)
        self.assertEqual((None, None, None), (item.sent_ts, item.error, item.error_ts))
        self.assertEqual(["uncertain"], [rcpt.state for rcpt in item.recipients])
        self.assertEqual([], await self.offered())

    async def test_final_reason_is_not_the_deferral(self) -> None:
        """A message that ended carries no deferral, whatever came before."""
        await self.post()
        await self.defer_with("greylisted")
        await self.finish(await self.claim_one(), refused())
        (item,) = await self.offered()
        self.assertEqual((None, None), (item.deferred_ts, item.deferred_reason))
        self.assertNotIn("greylisted", item.error or "")


class AckContract(StoreContract):
    async def test_unacked_is_offered_again(self) -> None:
        """An event is offered under the same id until it is acked, and then no more."""
        await self.deliver()
        first, second = await self.offered(), await self.offered()
        self.assertEqual(first, second)

        await self.ack(first)

        self.assertEqual([], await self.offered())
        self.assertEqual([], await self.store.waiting_tenants())

    async def test_event_born_during_the_post(self) -> None:
        """What happens to a message while its report is open is reported next."""
        await self.post()
        await self.defer(await self.claim_one(), after=0)
        open_report = await self.offered()
        await self.finish(await self.claim_one())

        await self.ack(open_report)

        (item,) = await self.offered()
        self.assertEqual((self.now, 1), (item.sent_ts, len(item.event_pks)))
        self.assertNotEqual(open_report[0].event_id, item.event_id)

    async def test_reported_ts(self) -> None:
        """A message counts as reported when its final event is acked, not before."""
        await self.post()
        await self.defer(await self.claim_one(), after=0)
        await self.report()
        self.assertIsNone((await self.stored()).reported_ts)
        await self.finish(await self.claim_one())
        items = await self.offered()
        self.assertIsNone((await self.stored()).reported_ts)
        self.later(7)

        await self.ack(items)

        self.assertEqual(self.now, (await self.stored()).reported_ts)

    async def test_ack_of_some(self) -> None:
        """An ack covers the events it names; others stay."""
        for name in ("m1", "m2", "m3"):
            await self.deliver(id=name)
        one, two, three = await self.offered()
        await self.ack([one, three])
        self.assertEqual([two], await self.offered())

    async def test_ack_twice(self) -> None:
        """The same ack again does nothing; unknown events neither."""
        await self.deliver()
        items = await self.report()
        reported = (await self.stored()).reported_ts
        self.later(10)
        await self.ack(items)
        await self.store.acked([12345], self.now)
        await self.store.acked([], self.now)
        self.assertEqual(reported, (await self.stored()).reported_ts)

    async def test_oldest_first(self) -> None:
        """The oldest events are offered first, as many as are asked for."""
        for number in range(5):
            await self.deliver(id=f"m{number}")
            self.later(1)
        self.assertEqual(
            ["m0", "m1", "m2"], [item.id for item in await self.store.unreported("default", 3)]
        )
        await self.ack(await self.store.unreported("default", 2))
        self.assertEqual(["m2", "m3", "m4"], [item.id for item in await self.offered()])

    async def test_reports_survive_the_process(self) -> None:
        """What was not acked before a kill is offered under the same id after it."""
        await self.deliver(id="m1")
        await self.report()
        await self.deliver(id="m2")
        before = await self.offered()

        await self.killed()

        self.assertEqual(before, await self.offered())
        self.assertEqual(["default"], await self.store.waiting_tenants())

    async def test_clock_that_went_back(self) -> None:
        """What happened last is the newest state, also when the clock was set back at a restart."""
        await self.post()
        await self.defer(await self.claim_one(), after=-7200)
        self.later(-3600)
        await self.killed()

        await self.finish(await self.claim_one())

        (item,) = await self.offered()
        self.assertEqual((self.now, 2), (item.sent_ts, len(item.event_pks)))

    async def test_tenants_are_apart(self) -> None:
        """Each tenant has its own events."""
        await self.add_tenant("other")
        theirs = await self.put(tenant_id="other", id="theirs")
        await self.deliver()
        await self.post(tenant_id="other", id="t1")
        claimed = await self.claim_one(theirs)
        await self.begin(claimed, account="theirs")
        await self.store.record([record(claimed, at=self.now)])

        self.assertEqual(["default", "other"], sorted(await self.store.waiting_tenants()))
        self.assertEqual(["m1"], [item.id for item in await self.offered()])
        self.assertEqual(["t1"], [item.id for item in await self.report("other")])
        self.assertEqual(["default"], await self.store.waiting_tenants())
        self.assertEqual([], await self.offered("nobody"))

    async def test_parked_event(self) -> None:
        """An event the receiver will never take is not offered again; others pass."""
        await self.deliver(id="m1")
        await self.deliver(id="m2")
        bad, good = await self.offered()

        await self.store.park_event(bad.event_pks, "400 Bad Request", self.now)

        self.assertEqual([good], await self.offered())
        self.assertIsNone((await self.stored("m1")).reported_ts)
        await self.ack([good])
        self.assertEqual([], await self.store.waiting_tenants())
        self.assertEqual(0.0, await self.store.report_lag(self.now))

    async def test_no_url(self) -> None:
        """Where there is nobody to report to, everything counts as reported."""
        await self.deliver(id="m1")
        await self.post(id="m2")
        await self.defer(await self.claim_one())

        self.assertGreaterEqual(await self.store.ack_all("default", self.now), 1)

        self.assertEqual([], await self.offered())
        self.assertEqual([], await self.store.waiting_tenants())
        self.assertEqual(self.now, (await self.stored("m1")).reported_ts)
        self.assertEqual(0, await self.store.ack_all("default", self.now))

    async def test_lag(self) -> None:
        """The lag is the age of the oldest unreported event."""
        self.assertEqual(0.0, await self.store.report_lag(self.now))
        await self.deliver(id="m1")
        self.later(30)
        await self.deliver(id="m2")
        self.later(10)
        self.assertEqual(40.0, await self.store.report_lag(self.now))
        (oldest, _) = await self.offered()
        await self.ack([oldest])
        self.assertEqual(10.0, await self.store.report_lag(self.now))

    async def test_suspension_does_not_stop_reports(self) -> None:
        """Reports go on while sending is suspended."""
        await self.post(id="m1")
        await self.post(id="m2", batch="x")
        claimed = {each.id: each for each in await self.claim()}
        await self.begin(claimed["m1"])
        await self.store.suspend(None, None, self.now)
        await self.store.record([record(claimed["m1"], at=self.now)])
        self.assertEqual(["m1"], [item.id for item in await self.report()])

    async def test_many_items(self) -> None:
        """A report of many messages has each exactly once."""
        await self.submit(*(new_message(id=f"m{n}") for n in range(60)))
        claimed = await self.claim()
        await self.begin(*claimed)
        await self.store.record([record(each, at=self.now) for each in claimed])
        seen: list[str] = []
        while items := await self.store.unreported("default", 25):
            self.assertLessEqual(len(items), 25)
            seen += [item.id for item in items]
            await self.ack(items)
        self.assertEqual(sorted(f"m{n}" for n in range(60)), sorted(seen))

    async def test_retry_after_a_reported_deferral(self) -> None:
        """A deferral recorded by nobody's attempt is reported like any other."""
        await self.post()
        waiting = deferral(
            await self.claim_one(),
            at=self.now,
            next_at=self.now + 60,
            begun=False,
            reason="no route",
        )
        await self.store.record([waiting])
        self.assertEqual(["no route"], [item.deferred_reason for item in await self.report()])
