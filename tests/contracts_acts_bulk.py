"""The store's contract: what an operator does to a batch or an account."""

from __future__ import annotations

from typing import Any

from mailproxy.acts import Act, ActedOnAll, Group, Operation
from mailproxy.model import Account
from mailproxy.states import EventKind
from tests.build import new_message, put_off, record, refused, unknown
from tests.contracts_acts import ActsBase
from tests.contracts_base import DAY

BATCH = Group("default", batch="x")
ACCOUNT = Group("default", account_id="acct")


class BulkBase(ActsBase):
    async def all(self, act: Act, group: Group = BATCH, **more: Any) -> ActedOnAll:
        """Do *act*, and let the background work come to its end."""
        found = await self.begun_on(act, group, **more)
        await self.upkeep()
        return found

    async def begun_on(self, act: Act, group: Group = BATCH, **more: Any) -> ActedOnAll:
        operation = Operation(act, self.now, "admin")
        found = await self.store.act_on_all(group, operation, **more)
        assert found is not None
        return found

    async def mixed(self) -> None:
        """``in`` is of the batch, ``out`` is not."""
        await self.submit(new_message(id="in", batch="x"), new_message(id="out"))

    async def claimed(self, account: Account | None = None) -> list[str]:
        return sorted(each.id for each in await self.claim(account))

    async def states(self) -> dict[str, str]:
        return {each.id: each.state for each in await self.listed()}


class GroupHoldContract(BulkBase):
    """A batch, or an account, is held and released."""

    async def test_batch(self) -> None:
        """Of a held batch nothing is claimed, of everything else it is; released, it goes."""
        await self.mixed()
        answer = await self.all(Act.HOLD)
        told = (answer.changed, answer.held, answer.waiting, answer.in_flight, answer.reason)
        self.assertEqual((True, True, 1, 0, ""), told)
        self.assertEqual(["out"], await self.claimed())
        self.watch()
        answer = await self.all(Act.RELEASE)
        self.assertEqual((True, False), (answer.changed, answer.held))
        self.assertIn(self.acct.pk, self.observer.due_accounts)
        self.assertEqual(["in"], await self.claimed())

    async def test_account(self) -> None:
        """Of a held account nothing is claimed, of others it is; released, it goes."""
        other = await self.put(id="other")
        await self.submit(
            new_message(id="a", account_id="acct", batch="x"),
            new_message(id="b", account_id="acct"),
            new_message(id="c", account_id="other"),
        )
        answer = await self.all(Act.HOLD, ACCOUNT)
        self.assertEqual((True, True, 2), (answer.changed, answer.held, answer.waiting))
        self.assertEqual(([], ["c"]), (await self.claimed(), await self.claimed(other)))
        held = await self.store.account(self.acct.pk)
        assert held is not None
        self.assertEqual(self.now, held.held_since)
        await self.all(Act.RELEASE, ACCOUNT)
        self.assertEqual(["a", "b"], await self.claimed())

    async def test_repeated(self) -> None:
        """Held twice, or released twice, nothing more changes, and that is said."""
        for group in (BATCH, ACCOUNT):
            for act, reason in (
                (Act.RELEASE, "it is not held"),
                (Act.HOLD, ""),
                (Act.HOLD, "it is held already"),
                (Act.RELEASE, ""),
                (Act.RELEASE, "it is not held"),
            ):
                answer = await self.all(act, group)
                self.assertEqual((not reason, reason), (answer.changed, answer.reason))

    async def test_new_mail(self) -> None:
        """What comes to a held batch or account is taken, and waits with the rest."""
        await self.all(Act.HOLD)
        await self.mixed()
        await self.submit(new_message(id="urgent", batch="x", priority=0))
        self.assertEqual(["out"], await self.claimed())
        await self.all(Act.RELEASE)
        self.assertEqual(["in", "urgent"], await self.claimed())
        await self.all(Act.HOLD, ACCOUNT)
        await self.submit(new_message(id="late", priority=1))
        self.assertEqual([], await self.claimed())
        await self.all(Act.RELEASE, ACCOUNT)
        self.assertEqual(["late"], await self.claimed())

    async def test_claimed(self) -> None:
        """What was claimed is not begun once its batch or account is held."""
        for group in (BATCH, ACCOUNT):
            await self.post(id=repr(group), batch="x")
            claimed = await self.claim_one()
            await self.all(Act.HOLD, group)
            self.assertEqual([False], await self.begin(claimed))
            await self.store.release([(claimed.pk, claimed.token)])
            self.assertEqual([], await self.claim())
            await self.all(Act.RELEASE, group)
            await self.finish(await self.claim_one())

    async def test_begun(self) -> None:
        """What had begun is counted, and what it leaves open waits."""
        await self.post(batch="x")
        claimed = await self.claim_one()
        await self.begin(claimed)
        answer = await self.all(Act.HOLD)
        self.assertEqual((0, 1), (answer.waiting, answer.in_flight))
        item = record(claimed, put_off(), at=self.now, next_at=self.now)
        self.assertEqual([True], await self.store.record([item]))
        self.assertEqual([], await self.claim())

    async def test_not_through_a_held_account(self) -> None:
        """A held account does not carry the mail of others either."""
        other = await self.put(id="other")
        await self.post(account_id="acct")
        claimed = await self.claim_one()
        await self.all(Act.HOLD, Group("default", account_id="other"))
        leases, through = [(claimed.pk, claimed.token)], (other.pk, other.version)
        begun = await self.store.begin(leases, "other", self.now, through=through)
        self.assertEqual([False], begun)
        await self.all(Act.RELEASE, Group("default", account_id="other"))
        begun = await self.store.begin(leases, "other", self.now, through=through)
        self.assertEqual([True], begun)

    async def test_age(self) -> None:
        """The age of what is held, by batch, by account or by both, does not run."""
        await self.post(batch="x")
        before = await self.claim_one()
        await self.store.release([(before.pk, before.token)])
        await self.all(Act.HOLD)
        self.later(DAY)
        await self.all(Act.HOLD, ACCOUNT)
        self.later(DAY)
        await self.all(Act.RELEASE)
        self.later(DAY)
        await self.all(Act.RELEASE, ACCOUNT)
        after = await self.claim_one()
        self.assertAlmostEqual(before.expires_at + 3 * DAY, after.expires_at, places=2)

    async def test_survives(self) -> None:
        """A hold survives the process, a change of the account, and all other commands."""
        await self.post(batch="x")
        await self.all(Act.HOLD)
        await self.all(Act.HOLD, ACCOUNT)
        await self.killed()
        await self.put(host="new.example.net")
        for tenant in (None, "default"):
            await self.store.suspend(tenant, None, self.now)
            await self.store.activate(tenant, None, self.now)
        await self.store.park_account(self.acct.pk, 2, "x", self.now, self.now)
        await self.store.unpark_account(self.acct.pk)
        self.assertEqual([], await self.claim())
        self.assertEqual(
            [BATCH, ACCOUNT], [each.group for each in await self.store.holds("default")]
        )
        await self.all(Act.RELEASE)
        self.assertEqual([], await self.claim())
        await self.all(Act.RELEASE, ACCOUNT)
        self.assertEqual(1, len(await self.claim()))
        self.assertEqual([], await self.store.holds(None))

    async def test_singly_held(self) -> None:
        """A release lets go what lay on the group; what is held by itself only if that is asked."""
        await self.mixed()
        await self.act(Act.HOLD, "in")
        await self.act(Act.HOLD, "out")
        await self.all(Act.HOLD)
        await self.all(Act.RELEASE)
        self.assertEqual({"in": "held", "out": "held"}, await self.states())
        answer = await self.all(Act.RELEASE, singly=True)
        self.assertTrue(answer.changed)
        self.assertEqual({"in": "queued", "out": "held"}, await self.states())
        self.assertEqual(["in"], await self.claimed())
        await self.all(Act.RELEASE, ACCOUNT, singly=True)
        self.assertEqual({"in": "queued", "out": "queued"}, await self.states())

    async def test_of_others(self) -> None:
        """A batch is one tenant's, and so is the name of an account."""
        await self.add_tenant("acme")
        theirs = await self.put(tenant_id="acme", id="acct")
        await self.submit(
            new_message(id="in", batch="x"), new_message(id="in", tenant_id="acme", batch="x")
        )
        await self.all(Act.HOLD)
        await self.all(Act.HOLD, ACCOUNT)
        self.assertEqual(["in"], await self.claimed(theirs))
        self.assertEqual([], await self.store.holds("acme"))
        self.assertEqual(2, len(await self.store.holds(None)))

    async def test_no_account(self) -> None:
        """An account that is not there, or not any more, cannot be acted on."""
        operation = Operation(Act.HOLD, self.now)
        unknown_one = Group("default", account_id="nobody")
        self.assertIsNone(await self.store.act_on_all(unknown_one, operation))
        await self.store.delete_account("default", "acct", self.now)
        self.assertIsNone(await self.store.act_on_all(ACCOUNT, operation))

    async def test_moved(self) -> None:
        """Posted again into a held batch a message waits, and out of it it goes."""
        await self.post()
        await self.all(Act.HOLD)
        await self.post(batch="x")
        self.assertEqual([], await self.claim())
        await self.post()
        self.assertEqual(1, len(await self.claim()))


class GroupCancelContract(BulkBase):
    """A batch, or an account, is cancelled."""

    async def test_batch(self) -> None:
        """From the answer on nothing of it is begun; it ends as cancelled, which is reported."""
        await self.mixed()
        await self.submit(new_message(id="gone", batch="x", priority=0))
        claimed = {each.id: each for each in await self.claim(limit=2)}
        answer = await self.begun_on(Act.CANCEL)
        self.assertEqual((True, False, 0), (answer.changed, answer.held, answer.in_flight))
        self.assertEqual([False], await self.begin(claimed["gone"]))
        await self.upkeep()
        self.assertEqual(
            {"in": "cancelled", "gone": "cancelled", "out": "queued"}, await self.states()
        )
        self.assertEqual(["gone", "in"], sorted(item.id for item in await self.report()))
        self.assertEqual(1, (await self.store.counts(self.now)).pending)
        event = (await self.store.timeline("default", "in"))[-1]
        self.assertEqual(("cancelled", "cancel", "admin"), _said(event))

    async def test_account(self) -> None:
        """An account's open mail is cancelled, whatever its batch."""
        await self.mixed()
        await self.act(Act.HOLD, "out")
        await self.all(Act.CANCEL, ACCOUNT)
        self.assertEqual({"in": "cancelled", "out": "cancelled"}, await self.states())

    async def test_new_mail(self) -> None:
        """What comes after the answer is sent, before and after the background work is done."""
        await self.mixed()
        await self.begun_on(Act.CANCEL)
        await self.submit(new_message(id="new", batch="x"))
        self.assertEqual(["new", "out"], await self.claimed())
        await self.upkeep()
        await self.submit(new_message(id="newer", batch="x"))
        self.assertEqual(["newer"], await self.claimed())
        self.assertEqual("cancelled", (await self.states())["in"])

    async def test_posted_again(self) -> None:
        """Posted again after the answer, a message of the batch is a new generation."""
        await self.mixed()
        await self.begun_on(Act.CANCEL)
        await self.post(id="in", batch="x")
        (again,) = [each for each in await self.claim() if each.id == "in"]
        self.assertEqual(2, again.generation)
        await self.upkeep()
        self.assertEqual([True], await self.begin(again))

    async def test_acts_after_the_answer(self) -> None:
        """What was cancelled with its batch is that for whoever acts on it by itself."""
        await self.mixed()
        await self.begun_on(Act.CANCEL)
        answer = await self.act(Act.HOLD, "in")
        self.assertEqual((False, "cancelled"), (answer.changed, answer.state))

    async def test_begun(self) -> None:
        """What had begun is counted; what is accepted is sent, what it leaves open cancelled."""
        await self.submit(new_message(id="a", batch="x"), new_message(id="b", batch="x"))
        claimed = {each.id: each for each in await self.claim()}
        await self.begin(*claimed.values())
        answer = await self.all(Act.CANCEL)
        self.assertEqual((True, 0, 2), (answer.changed, answer.waiting, answer.in_flight))
        later = record(claimed["b"], put_off(), at=self.now, next_at=self.now)
        await self.store.record([record(claimed["a"], at=self.now), later])
        await self.upkeep()
        self.assertEqual({"a": "sent", "b": "cancelled"}, await self.states())

    async def test_nothing_open(self) -> None:
        """Cancelled twice, nothing more changes, and that is said."""
        await self.mixed()
        await self.all(Act.CANCEL)
        answer = await self.all(Act.CANCEL)
        self.assertEqual((False, "nothing of it is open"), (answer.changed, answer.reason))

    async def test_uncertain(self) -> None:
        """What nobody knows is left open; a resend is sent, though its batch was cancelled."""
        await self.uncertain(batch="x")
        await self.post(id="m2", batch="x")
        await self.all(Act.CANCEL)
        self.assertEqual({"m1": "uncertain", "m2": "cancelled"}, await self.states())
        await self.act(Act.RESEND)
        await self.finish(await self.claim_one())
        self.assertEqual("sent", await self.state())

    async def test_many(self) -> None:
        """A large batch is cancelled at once, and ends in many small steps."""
        many = [new_message(id=f"m{n}", batch="x") for n in range(1200)]
        await self.store.enqueue(many, self.now, 60.0)
        await self.begun_on(Act.CANCEL)
        self.assertEqual([], await self.claim())
        await self.upkeep()
        self.assertEqual(0, (await self.store.counts(self.now)).pending)

    async def test_held(self) -> None:
        """A held batch that is cancelled stays held for what is new."""
        await self.mixed()
        await self.all(Act.HOLD)
        answer = await self.all(Act.CANCEL)
        self.assertTrue(answer.held)
        await self.submit(new_message(id="new", batch="x"))
        self.assertEqual(["out"], await self.claimed())
        await self.all(Act.RELEASE)
        self.assertEqual(["new"], await self.claimed())


class GroupWalkContract(BulkBase):
    """What is done to a batch or an account message by message."""

    async def test_retry(self) -> None:
        """What waits for another attempt is due now; what is scheduled is left so."""
        ids = [f"m{n}" for n in range(200)]
        await self.submit(*(new_message(id=each, batch="x", priority=n % 4)
                            for n, each in enumerate(ids)))  # fmt: skip
        for claimed in await self.claim():
            await self.defer(claimed, after=3600)
        await self.post(id="scheduled", batch="x", not_before=self.now + 60)
        await self.post(id="out")
        await self.defer(await self.claim_one(), after=3600)
        self.watch()
        answer = await self.all(Act.RETRY)
        self.assertEqual((True, 201), (answer.changed, answer.waiting))
        self.assertIn(self.acct.pk, self.observer.due_accounts)
        self.assertEqual(sorted(ids), await self.claimed())

    async def test_requeue(self) -> None:
        """What failed or expired goes once more: of the batch, and ended since then if one says."""
        for name, batch in (("old", "x"), ("out", ""), ("new", "x")):
            await self.deliver(refused(), id=name, batch=batch)
            self.later(60)
        await self.deliver(id="sent", batch="x")
        await self.all(Act.REQUEUE, since=self.now - 100)
        self.assertEqual(["new"], await self.claimed())
        await self.all(Act.REQUEUE)
        self.assertEqual(["old"], await self.claimed())
        await self.all(Act.REQUEUE, ACCOUNT)
        self.assertEqual(["out"], await self.claimed())
        self.assertEqual("sent", (await self.states())["sent"])

    async def test_requeue_many(self) -> None:
        """However many there are, each is requeued once."""
        await self.submit(*(new_message(id=f"m{n}", batch="x") for n in range(200)))
        for claimed in await self.claim():
            await self.finish(claimed, refused())
        await self.all(Act.REQUEUE)
        again = await self.claim()
        self.assertEqual(([2] * 200), [each.generation for each in again])

    async def test_uncertain(self) -> None:
        """Uncertain messages are resent or closed all together."""
        for act, state in (
            (Act.CLOSE_AS_SENT, "sent"),
            (Act.CLOSE_AS_FAILED, "failed"),
            (Act.RESEND, "deferred"),
        ):
            name = str(act)
            await self.post(id=name, batch="x")
            claimed = await self.claim_one()
            await self.finish(claimed, unknown(), kind=EventKind.UNCERTAIN)
            await self.all(act)
            self.assertEqual(state, (await self.states())[name])

    async def test_uncertain_and_held(self) -> None:
        """What is held, and of some recipients uncertain, is not resent, and is closed."""
        await self.post(batch="x", to=["a@example.org", "b@example.org"])
        claimed = await self.claim_one()
        await self.begin(claimed)
        unsure = record(
            claimed,
            *(put_off(), unknown(1)),
            at=self.now,
            kind=EventKind.UNCERTAIN,
            next_at=self.now,
        )
        await self.store.record([unsure])
        await self.act(Act.HOLD)
        await self.all(Act.RESEND)
        self.assertEqual("held", await self.state())
        await self.all(Act.CLOSE_AS_SENT)
        await self.act(Act.RELEASE)
        left = (await self.claim_one()).recipients
        self.assertEqual(["a@example.org"], [each.address for each in left])

    async def test_killed(self) -> None:
        """A walk goes on where it was when the process was killed."""
        await self.submit(*(new_message(id=f"m{n}", batch="x") for n in range(200)))
        for claimed in await self.claim():
            await self.defer(claimed, after=3600)
        await self.begun_on(Act.RETRY)
        await self.store.upkeep(self.now)
        await self.killed()
        await self.upkeep()
        self.assertEqual(200, len(await self.claim()))


def _said(event: dict[str, Any]) -> tuple[str, str, str]:
    return event["kind"], event["data"]["act"], event["data"]["by"]


GROUP_CONTRACTS = (GroupHoldContract, GroupCancelContract, GroupWalkContract)
