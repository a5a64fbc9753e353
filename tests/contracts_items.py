"""What every store promises of the items a report consists of: ends and deferrals."""

from __future__ import annotations

from mailproxy.states import EventKind, RecipientState
from tests.build import accepted, deferral, ended, put_off, record, refused, unknown
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

    async def test_parked(self) -> None:
        """A message kept due while its account is parked is announced for the next probe."""
        for data, told in (
            (b'{"next_at":1750000500.0}', 1_750_000_500.0),
            (b'{"next_at":1750000500}', 1_750_000_500.0),
            (b'{"next_at":null}', self.now),
            (b"{}", self.now),
        ):
            await self.post(id=data.decode())
            claimed = await self.claim_one()
            kept = deferral(claimed, at=self.now, next_at=self.now, begun=False, data=data)
            self.assertEqual([True], await self.store.record([kept]))
            (item,) = await self.report()
            self.assertEqual(told, item.deferred_ts)
            again = await self.claim_one()
            self.assertEqual(self.now, again.due_since)
            await self.finish(again)
            await self.report()

    async def test_attempted(self) -> None:
        """After an attempt the next one is when the message is due, whatever else is noted."""
        await self.post()
        await self.defer(await self.claim_one(), after=300, data=b'{"next_at":1.0}')
        (item,) = await self.offered()
        self.assertEqual(self.now + 300, item.deferred_ts)

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
