"""The store's contract: what an operator does to one message."""

from __future__ import annotations

from typing import Any

from mailproxy.acts import Act, Acted, Operation
from mailproxy.model import Claimed
from mailproxy.states import EventKind, RecipientState
from mailproxy.tenancy import Suppression
from tests.build import accepted, ended, put_off, record, refused, unknown
from tests.contracts_base import DAY, StoreContract

A, B = "a@example.org", "b@example.org"


class ActsBase(StoreContract):
    async def act(self, act: Act, message_id: str = "m1", **more: Any) -> Acted:
        found = await self.store.act("default", message_id, Operation(act, self.now, **more))
        assert found is not None
        return found

    async def done(self, act: Act, state: str, **more: Any) -> None:
        """*act* changes something, the message is in *state* then; repeated it changes nothing."""
        answer = await self.act(act, **more)
        self.assertEqual((True, False, state, ""), _told(answer))
        again = await self.act(act, **more)
        self.assertEqual((False, False, state), _told(again)[:3])
        self.assertNotEqual("", again.reason)
        self.assertEqual(state, await self.state())

    async def refused(self, act: Act, state: str, reason: str) -> None:
        """*act* changes nothing."""
        kinds = await self.kinds()
        answer = await self.act(act)
        self.assertEqual((False, state, reason), (answer.changed, answer.state, answer.reason))
        self.assertEqual(kinds, await self.kinds())

    async def uncertain(self, **overrides: Any) -> Claimed:
        """``m1`` is uncertain; the claim that made it so."""
        await self.post(**overrides)
        claimed = await self.claim_one()
        await self.finish(claimed, unknown(), kind=EventKind.UNCERTAIN)
        return claimed


def _told(answer: Acted) -> tuple[bool, bool, str, str]:
    return answer.changed, answer.begun, answer.state, answer.reason


class HoldContract(ActsBase):
    """Hold and release."""

    async def test_held(self) -> None:
        """A held message is not claimed, a released one is, and whoever looks for due mail told."""
        await self.post()
        await self.done(Act.HOLD, "held")
        self.assertEqual([], await self.claim())
        self.assertEqual({"held": 1}, await self.unfinished())
        self.watch()
        await self.done(Act.RELEASE, "queued")
        self.assertEqual([self.acct.pk], self.observer.due_accounts)
        self.assertEqual({"queued": 1}, await self.unfinished())
        await self.finish(await self.claim_one())
        self.assertEqual(["accepted", "held", "released", "intent", "outcome"], await self.kinds())

    async def unfinished(self) -> dict[str, int]:
        counts = await self.store.counts(self.now)
        return {state: count for state, count in counts.by_state.items() if count}

    async def test_unknown(self) -> None:
        """There is nothing to do to a message that is not there, or that is another tenant's."""
        await self.add_tenant("acme")
        await self.post()
        for tenant, name in (("default", "m2"), ("acme", "m1")):
            operation = Operation(Act.HOLD, self.now)
            self.assertIsNone(await self.store.act(tenant, name, operation))
        self.assertEqual("queued", await self.state())

    async def test_claimed(self) -> None:
        """A hold takes the message from whoever claimed it and has not begun it."""
        await self.post()
        claimed = await self.claim_one()
        await self.done(Act.HOLD, "held")
        self.assertEqual([False], await self.begin(claimed))
        await self.store.release([(claimed.pk, claimed.token)])
        self.assertEqual([], await self.claim())
        await self.done(Act.RELEASE, "queued")
        self.assertEqual([False], await self.begin(claimed))
        await self.claim_one()

    async def test_begun_and_delivered(self) -> None:
        """A hold after the intent says that the body has begun; what is accepted is sent."""
        await self.post()
        claimed = await self.claim_one()
        await self.begin(claimed)
        answer = await self.act(Act.HOLD)
        self.assertEqual((True, True, "in_flight", ""), _told(answer))
        self.assertFalse((await self.act(Act.HOLD)).changed)
        await self.store.record([record(claimed, at=self.now)])
        self.assertEqual("sent", await self.state())

    async def test_begun_and_put_off(self) -> None:
        """What an attempt leaves open is held, if the message was held while it was under way."""
        await self.post()
        claimed = await self.claim_one()
        await self.begin(claimed)
        await self.act(Act.HOLD)
        item = record(claimed, put_off(), at=self.now, next_at=self.now + 60)
        self.assertEqual([True], await self.store.record([item]))
        self.assertEqual("held", await self.state())
        self.later(60)
        self.assertEqual([], await self.claim())
        await self.done(Act.RELEASE, "deferred")
        self.assertEqual(1, (await self.claim_one()).attempts)

    async def test_begun_and_released(self) -> None:
        """A hold that was released before the attempt ended holds nothing."""
        await self.post()
        claimed = await self.claim_one()
        await self.begin(claimed)
        await self.act(Act.HOLD)
        answer = await self.act(Act.RELEASE)
        self.assertEqual((True, True, "in_flight", ""), _told(answer))
        item = record(claimed, put_off(), at=self.now, next_at=self.now + 60)
        await self.store.record([item])
        self.assertEqual("deferred", await self.state())

    async def test_begun_and_cut_off(self) -> None:
        """A hold outlives the process that had begun the message."""
        await self.post()
        await self.begin(await self.claim_one())
        await self.act(Act.HOLD)
        await self.killed()
        (found,) = await self.store.abandoned(self.now)
        item = record(
            found, put_off(), at=self.now, attempt=1, next_at=self.now, kind=EventKind.UNCERTAIN
        )
        self.assertEqual([True], await self.store.record([item]))
        self.assertEqual("held", await self.state())

    async def test_age(self) -> None:
        """While a message is held its age does not run; suspended besides, it stands still once."""
        await self.post()
        before = await self.claim_one()
        await self.store.release([(before.pk, before.token)])
        self.later(100)
        await self.act(Act.HOLD)
        self.later(DAY)
        await self.store.suspend("default", None, self.now)
        self.later(DAY)
        await self.store.activate("default", None, self.now)
        self.later(DAY)
        await self.act(Act.RELEASE)
        self.later(7)
        after = await self.claim_one()
        self.assertAlmostEqual(before.expires_at + 3 * DAY, after.expires_at, places=2)

    async def test_suspended_first(self) -> None:
        """Held while it is suspended, and released after that, its age stands still once."""
        await self.post()
        before = await self.claim_one()
        await self.store.release([(before.pk, before.token)])
        await self.store.suspend("default", None, self.now)
        self.later(DAY)
        await self.act(Act.HOLD)
        self.later(DAY)
        await self.store.activate("default", None, self.now)
        self.later(DAY)
        await self.act(Act.RELEASE)
        after = await self.claim_one()
        self.assertAlmostEqual(before.expires_at + 3 * DAY, after.expires_at, places=2)

    async def test_scheduled(self) -> None:
        """A hold that ends before the message is to go gives it no further age."""
        await self.post(not_before=self.now + DAY)
        await self.act(Act.HOLD)
        self.later(3600)
        await self.act(Act.RELEASE)
        self.assertEqual([], await self.claim())
        self.later(DAY)
        claimed = await self.claim_one()
        self.assertAlmostEqual(claimed.accepted_at + 2 * DAY, claimed.expires_at, places=2)

    async def test_quarantined(self) -> None:
        """What was put aside because handling it failed is released like what an operator held."""
        await self.post()
        claimed = await self.claim_one()
        item = record(
            claimed, at=self.now, begun=False, kind=EventKind.HELD, changes=(), hold="quarantined"
        )
        await self.store.record([item])
        self.assertEqual("held", await self.state())
        self.later(DAY)
        await self.done(Act.RELEASE, "queued")
        again = await self.claim_one()
        self.assertAlmostEqual(claimed.expires_at + DAY, again.expires_at, places=2)

    async def test_ended(self) -> None:
        """What has ended, and what nobody knows, cannot be held."""
        await self.deliver()
        await self.refused(Act.HOLD, "sent", "it is sent")
        await self.refused(Act.RELEASE, "sent", "it is not held")

    async def test_of_uncertain(self) -> None:
        """Of an uncertain message nothing waits that could be held."""
        await self.uncertain()
        await self.refused(Act.HOLD, "uncertain", "it is uncertain: resend or close it")

    async def test_posted_again(self) -> None:
        """Posting the id of a held message again changes nothing."""
        await self.post()
        await self.act(Act.HOLD)
        self.assertEqual("kept", (await self.post()).verdict.value)
        self.assertEqual("held", await self.state())

    async def test_reason(self) -> None:
        """The timeline says who held it and why."""
        await self.post()
        await self.act(Act.HOLD, by="admin", reason="wrong text")
        event = (await self.store.timeline("default", "m1"))[-1]
        said = {name: event["data"][name] for name in ("act", "by", "reason")}
        self.assertEqual({"act": "hold", "by": "admin", "reason": "wrong text"}, said)
        reason = (await self.stored()).deferred_reason
        self.assertEqual("held by an operator: wrong text", reason)


class RetryContract(ActsBase):
    """Retry now."""

    async def test_deferred(self) -> None:
        """A deferred message is due at once, and whoever looks for due mail is told."""
        await self.post()
        await self.defer(await self.claim_one(), after=3600)
        self.watch()
        await self.done(Act.RETRY, "deferred")
        self.assertEqual([self.acct.pk], self.observer.due_accounts)
        self.assertEqual(1, (await self.claim_one()).attempts)

    async def test_nothing_to_hasten(self) -> None:
        """What is due, claimed, on its way, held, uncertain or scheduled is left as it is."""
        await self.post()
        await self.refused(Act.RETRY, "queued", "it is due already")
        claimed = await self.claim_one()
        await self.refused(Act.RETRY, "queued", "it is due already")
        await self.begin(claimed)
        await self.refused(Act.RETRY, "in_flight", "its body has begun")
        await self.store.record([record(claimed, unknown(), at=self.now)])
        await self.refused(Act.RETRY, "uncertain", "it is uncertain: resend or close it")

    async def test_held(self) -> None:
        """A held message has to be released."""
        await self.post()
        await self.act(Act.HOLD)
        await self.refused(Act.RETRY, "held", "it is held: release it")

    async def test_scheduled(self) -> None:
        """Retrying touches no ``deferred_ts``."""
        await self.post(not_before=self.now + 60)
        await self.refused(Act.RETRY, "queued", "its deferred_ts has not come")
        self.assertEqual([], await self.claim())

    async def test_failed(self) -> None:
        """A message that failed is requeued."""
        await self.deliver(refused())
        await self.report()
        await self.done_once(Act.RETRY)

    async def done_once(self, act: Act) -> None:
        answer = await self.act(act)
        self.assertEqual((True, False, "queued", ""), _told(answer))
        self.assertEqual(2, (await self.claim_one()).generation)


class CancelContract(ActsBase):
    """Cancel."""

    async def test_waiting(self) -> None:
        """A waiting message is cancelled, which is reported, and is not sent any more."""
        await self.post()
        await self.done(Act.CANCEL, "cancelled")
        self.assertEqual([], await self.claim())
        (item,) = await self.report()
        self.assertEqual((None, self.now), (item.sent_ts, item.error_ts))
        self.assertIn("cancelled by an operator", item.error or "")
        self.assertEqual(0, (await self.store.counts(self.now)).pending)

    async def test_held(self) -> None:
        """A held message is cancelled too."""
        await self.post()
        await self.act(Act.HOLD)
        await self.done(Act.CANCEL, "cancelled")
        self.assertEqual(0, (await self.store.counts(self.now)).pending)

    async def test_claimed(self) -> None:
        """Nothing that was claimed is begun after it was cancelled."""
        await self.post()
        claimed = await self.claim_one()
        await self.done(Act.CANCEL, "cancelled")
        self.assertEqual([False], await self.begin(claimed))

    async def test_begun_and_delivered(self) -> None:
        """Cancelled after the intent, the answer says so, and what was accepted is sent."""
        await self.post()
        claimed = await self.claim_one()
        await self.begin(claimed)
        answer = await self.act(Act.CANCEL)
        self.assertEqual((True, True, "in_flight", ""), _told(answer))
        self.assertFalse((await self.act(Act.CANCEL)).changed)
        self.assertFalse((await self.act(Act.HOLD)).changed)
        await self.store.record([record(claimed, at=self.now)])
        self.assertEqual("sent", await self.state())

    async def test_begun_and_put_off(self) -> None:
        """What an attempt leaves open of a message cancelled meanwhile is cancelled."""
        await self.post(to=[A, B])
        claimed = await self.claim_one()
        await self.begin(claimed)
        await self.act(Act.HOLD)
        await self.act(Act.CANCEL)
        item = record(claimed, accepted(0), put_off(1), at=self.now, next_at=self.now + 60)
        await self.store.record([item])
        states = [rcpt.state for rcpt in (await self.stored()).recipients]
        self.assertEqual(["sent", "cancelled"], states)
        self.later(60)
        self.assertEqual([], await self.claim())
        (told,) = await self.report()
        self.assertIn(f"accepted by {A}", told.error or "")

    async def test_begun_and_uncertain(self) -> None:
        """Cancelled while it was under way, an uncertain attempt is not repeated, and told."""
        await self.post()
        claimed = await self.claim_one()
        await self.begin(claimed)
        await self.act(Act.CANCEL)
        item = record(
            claimed, put_off(), at=self.now, next_at=self.now + 60, kind=EventKind.UNCERTAIN
        )
        await self.store.record([item])
        (told,) = await self.report()
        self.assertTrue((told.error or "").startswith("uncertain: "), told)

    async def test_partly_sent(self) -> None:
        """Who has accepted stays sent; the others are cancelled."""
        await self.post(to=[A, B])
        await self.defer(await self.claim_one(), accepted(0), put_off(1))
        await self.act(Act.CANCEL)
        states = [rcpt.state for rcpt in (await self.stored()).recipients]
        self.assertEqual(["sent", "cancelled"], states)

    async def test_ended(self) -> None:
        """What has ended cannot be cancelled."""
        await self.deliver()
        await self.refused(Act.CANCEL, "sent", "it is sent")

    async def test_posted_again(self) -> None:
        """Posted again, a cancelled message is a new generation."""
        await self.post()
        await self.act(Act.CANCEL)
        await self.post()
        self.assertEqual(2, (await self.claim_one()).generation)


class RequeueContract(ActsBase):
    """Requeue."""

    async def test_failed(self) -> None:
        """What failed goes once more, under its Message-ID, to those who have not accepted."""
        await self.post(to=[A, B])
        first = await self.claim_one()
        await self.finish(first, accepted(0), refused(1))
        self.later(3600)
        await self.done(Act.REQUEUE, "queued")
        again = await self.claim_one()
        self.assertEqual((2, 0, 0), (again.generation, again.attempts, again.uncertain))
        self.assertEqual(first.message_id, again.message_id)
        self.assertEqual([B], [rcpt.address for rcpt in again.recipients])
        self.assertAlmostEqual(self.now + DAY, again.expires_at, places=2)
        self.assertIn(again.pk, await self.store.contents([again.pk]))
        await self.finish(again, accepted(1))
        self.assertEqual("sent", await self.state())
        self.assertIn("generation", await self.kinds())

    async def test_both_ends_are_told(self) -> None:
        """The failure is reported, and what came after it as well."""
        await self.deliver(refused())
        await self.act(Act.REQUEUE)
        (item,) = await self.report()
        self.assertEqual((1, None), (item.generation, item.sent_ts))
        await self.finish(await self.claim_one())
        (item,) = await self.report()
        self.assertEqual((2, self.now), (item.generation, item.sent_ts))

    async def test_expired(self) -> None:
        """What expired goes once more, and its age begins anew."""
        await self.post()
        await self.finish(await self.claim_one(), ended(0, RecipientState.EXPIRED))
        await self.done(Act.REQUEUE, "queued")

    async def test_cancelled(self) -> None:
        """Of what was cancelled the text is gone: it has to be posted again."""
        await self.post()
        await self.act(Act.CANCEL)
        reason = "its text is no longer stored: post it again"
        await self.refused(Act.REQUEUE, "cancelled", reason)

    async def test_sent(self) -> None:
        """Nobody gets a second copy of what is sent."""
        await self.deliver()
        await self.refused(Act.REQUEUE, "sent", "it is sent")
        await self.refused(Act.RETRY, "sent", "it is sent")

    async def test_waiting(self) -> None:
        """What waits is left where it is."""
        await self.post()
        await self.refused(Act.REQUEUE, "queued", "it waits already")

    async def test_account_deleted(self) -> None:
        """Its account being deleted, it goes through the one that has the name now, if any."""
        await self.post()
        await self.store.delete_account("default", "acct", self.now)
        await self.upkeep()
        await self.refused(Act.REQUEUE, "failed", "its account was deleted")
        new = await self.put()
        await self.done(Act.REQUEUE, "queued")
        self.assertEqual(new.pk, (await self.claim_one(new)).account_pk)

    async def test_suppressed(self) -> None:
        """Who is on the suppression list by now gets none."""
        await self.post(to=[A, B])
        await self.finish(await self.claim_one(), refused(0), refused(1))
        await self.store.suppress([Suppression("default", A)], self.now)
        await self.act(Act.REQUEUE)
        self.assertEqual([B], [rcpt.address for rcpt in (await self.claim_one()).recipients])

    async def test_all_suppressed(self) -> None:
        """With nobody left it fails at once, which is reported."""
        await self.deliver(refused(), to=[A])
        await self.report()
        await self.store.suppress([Suppression("default", A)], self.now)
        answer = await self.act(Act.REQUEUE)
        self.assertEqual((True, "failed"), (answer.changed, answer.state))
        self.assertEqual([2], [item.generation for item in await self.report()])
        self.assertEqual(0, (await self.store.counts(self.now)).pending)

    async def test_in_doubt(self) -> None:
        """Who failed because nobody knows is left out; with nobody else, nothing is done."""
        doubt = ended(0, RecipientState.FAILED, "uncertain: final: no reply")
        await self.deliver(doubt, refused(1), to=[A, B])
        await self.act(Act.REQUEUE)
        self.assertEqual([B], [rcpt.address for rcpt in (await self.claim_one()).recipients])

    async def test_all_in_doubt(self) -> None:
        """It takes a resend to give a second copy to who may have the first."""
        await self.deliver(ended(0, RecipientState.FAILED, "uncertain: final: no reply"))
        await self.refused(Act.REQUEUE, "failed", "it is uncertain: resend or close it")
        answer = await self.act(Act.RESEND)
        self.assertEqual((True, "queued"), (answer.changed, answer.state))
        self.assertEqual(2, (await self.claim_one()).generation)

    async def test_late_outcome(self) -> None:
        """What an attempt of the generation before came to settles nothing of the next."""
        await self.post()
        claimed = await self.claim_one()
        await self.finish(claimed, refused())
        await self.act(Act.REQUEUE)
        await self.store.record([record(claimed, at=self.now)])
        self.assertEqual("queued", await self.state())


class UncertainActsContract(ActsBase):
    """Resend and close."""

    async def test_resend(self) -> None:
        """An uncertain message is sent once more, and the timeline says who decided that."""
        first = await self.uncertain()
        self.watch()
        await self.done(Act.RESEND, "deferred", by="admin")
        self.assertEqual([self.acct.pk], self.observer.due_accounts)
        again = await self.claim_one()
        self.assertEqual(
            (first.generation, 1, 1), (again.generation, again.attempts, again.uncertain)
        )
        await self.finish(again)
        self.assertEqual("sent", await self.state())
        event = (await self.store.timeline("default", "m1"))[3]
        said = (event["kind"], event["data"]["act"], event["data"]["by"])
        self.assertEqual(("resent", "resend", "admin"), said)

    async def test_evidence_before_the_resend_began(self) -> None:
        """Late evidence makes a resend unnecessary that has not begun."""
        await self.post()
        claimed = await self.claim_one()
        await self.begin(claimed)
        await self.killed()
        (found,) = await self.store.abandoned(self.now)
        item = record(found, unknown(), at=self.now, attempt=1, kind=EventKind.UNCERTAIN)
        await self.store.record([item])
        await self.act(Act.RESEND)
        again = await self.claim_one()
        await self.store.record([record(claimed, at=self.now)])
        self.assertEqual([False], await self.begin(again))
        self.assertEqual("sent", await self.state())

    async def test_close_as_sent(self) -> None:
        """What turned out to have arrived ends as sent, which is reported."""
        await self.uncertain()
        await self.done(Act.CLOSE_AS_SENT, "sent")
        (item,) = await self.report()
        self.assertEqual((self.now, None, False), (item.sent_ts, item.error, item.uncertain))
        self.assertEqual("closed as sent by an operator", item.recipients[0].reply)
        self.assertEqual(0, (await self.store.counts(self.now)).pending)
        self.assertEqual("duplicate", (await self.post()).verdict.value)

    async def test_close_as_failed(self) -> None:
        """What turned out not to have arrived ends as failed; posted again, it goes once more."""
        await self.uncertain()
        await self.done(Act.CLOSE_AS_FAILED, "failed")
        (item,) = await self.report()
        self.assertIn("closed as failed by an operator", item.error or "")
        self.assertEqual("queued", (await self.post()).verdict.value)
        self.assertEqual(2, (await self.claim_one()).generation)

    async def test_others_go_on(self) -> None:
        """Closing what nobody knows leaves those alone who wait for another attempt."""
        await self.post(to=[A, B])
        await self.defer(await self.claim_one(), unknown(0), put_off(1), kind=EventKind.UNCERTAIN)
        self.assertEqual("deferred", (await self.act(Act.CLOSE_AS_SENT)).state)
        self.later(60)
        claimed = await self.claim_one()
        self.assertEqual([B], [rcpt.address for rcpt in claimed.recipients])
        await self.finish(claimed, accepted(1))
        self.assertEqual("sent", await self.state())

    async def test_resent_with_the_others(self) -> None:
        """A resend joins those who wait for another attempt, also where that was claimed."""
        await self.post(to=[A, B])
        await self.defer(await self.claim_one(), unknown(0), put_off(1), kind=EventKind.UNCERTAIN)
        self.later(60)
        claimed = await self.claim_one()
        await self.done(Act.RESEND, "deferred")
        self.assertEqual([False], await self.begin(claimed))
        self.assertEqual([A, B], [rcpt.address for rcpt in (await self.claim_one()).recipients])

    async def test_account_deleted(self) -> None:
        """Its account being deleted, nobody can resend it; closed, it can be requeued."""
        await self.uncertain()
        await self.store.delete_account("default", "acct", self.now)
        await self.upkeep()
        await self.put()
        state = await self.state()
        await self.refused(Act.RESEND, state, "its account was deleted")

    async def test_certain(self) -> None:
        """Where nothing is uncertain there is nothing to resend or to close."""
        await self.post()
        for act in (Act.RESEND, Act.CLOSE_AS_SENT, Act.CLOSE_AS_FAILED):
            await self.refused(act, "queued", "nothing of it is uncertain")

    async def test_cancel(self) -> None:
        """Cancelling ends who waits, and leaves open what nobody knows."""
        await self.post(to=[A, B])
        await self.defer(await self.claim_one(), unknown(0), put_off(1), kind=EventKind.UNCERTAIN)
        await self.done(Act.CANCEL, "uncertain")
        await self.done(Act.CLOSE_AS_FAILED, "failed")


ACT_CONTRACTS = (
    HoldContract,
    RetryContract,
    CancelContract,
    RequeueContract,
    UncertainActsContract,
)
