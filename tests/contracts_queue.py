"""What every store promises the dispatcher of claims, leases and the intent."""

from __future__ import annotations

from tests.build import deferral, new_message, record
from tests.contracts_base import DAY, StoreContract


class ClaimOrderContract(StoreContract):
    async def submit_by_priority(self) -> None:
        """p3 is oldest, then p2, p1, p0, a second apart; then a second p2."""
        for name, priority in (("p3", 3), ("p2", 2), ("p1", 1), ("p0", 0), ("p2b", 2)):
            await self.post(id=name, priority=priority)
            self.later(1)

    async def test_most_urgent_first(self) -> None:
        """Mail is claimed by priority, and within a priority by how long it has been due."""
        await self.submit_by_priority()
        self.assertEqual(["p0", "p1", "p2", "p2b", "p3"], [each.id for each in await self.claim()])

    async def test_limit(self) -> None:
        """A claim takes no more than it is asked for, the most urgent."""
        await self.submit_by_priority()
        self.assertEqual(["p0", "p1"], [each.id for each in await self.claim(limit=2)])
        self.assertEqual(["p2", "p2b"], [each.id for each in await self.claim(limit=2)])
        self.assertEqual(["p3"], [each.id for each in await self.claim(limit=2)])
        self.assertEqual([], await self.claim(limit=2))

    async def test_oldest(self) -> None:
        """Asked for the oldest, a claim takes what has been due longest, whatever its priority."""
        await self.submit_by_priority()
        self.assertEqual(["p3"], [each.id for each in await self.claim(limit=1, oldest=True)])
        self.assertEqual(["p2"], [each.id for each in await self.claim(limit=1, oldest=True)])

    async def test_urgent(self) -> None:
        """Asked for urgent mail, a claim takes priority 0 alone."""
        await self.submit_by_priority()
        self.assertEqual(["p0"], [each.id for each in await self.claim(urgent=True)])
        self.assertEqual([], await self.claim(urgent=True))

    async def test_batches_are_of_one_queue(self) -> None:
        """Batches do not stand before priorities, and none is passed over."""
        await self.submit(
            new_message(id="m1", batch="x", priority=2),
            new_message(id="m2", batch="y", priority=1),
            new_message(id="m3", batch="", priority=2),
            new_message(id="m4", batch="x", priority=0),
        )
        ids = [each.id for each in await self.claim()]
        self.assertEqual(["m4", "m2"], ids[:2])
        self.assertEqual({"m1", "m3"}, set(ids[2:]))

    async def test_oldest_over_batches(self) -> None:
        """What has been due longest is found in whatever batch it lies."""
        for name, batch in (("m1", "x"), ("m2", ""), ("m3", "y")):
            await self.post(id=name, batch=batch)
            self.later(1)
        taken = [(await self.claim(limit=1, oldest=True))[0].id for _ in range(3)]
        self.assertEqual(["m1", "m2", "m3"], taken)

    async def test_accounts_are_apart(self) -> None:
        """A claim takes mail of its account alone."""
        other = await self.put(id="other")
        await self.submit(
            new_message(id="m1", account_id="acct"), new_message(id="m2", account_id="other")
        )
        self.assertEqual(["m2"], [each.id for each in await self.claim(other)])
        self.assertEqual(["m1"], [each.id for each in await self.claim()])

    async def test_retry_is_not_claimed_early(self) -> None:
        """A deferred message is due at its next attempt and not before."""
        await self.post()
        await self.defer(await self.claim_one(), after=60)

        self.later(59)
        self.assertEqual([], await self.claim())
        self.later(1)
        claimed = await self.claim_one()

        self.assertEqual((1, self.now), (claimed.attempts, claimed.due_since))
        self.assertEqual(["deferred"], [str(rcpt.state) for rcpt in claimed.recipients])


class DueContract(StoreContract):
    async def test_nothing_is_due(self) -> None:
        """An empty store has nothing due, now or later."""
        self.assertEqual(([], None), await self.store.due_accounts(self.now))

    async def test_accounts_with_due_mail(self) -> None:
        """Each account with due mail is named once."""
        other = await self.put(id="other")
        await self.put(id="idle")
        await self.submit(
            *(new_message(id=f"m{n}", account_id="acct", priority=n) for n in range(3)),
            new_message(id="n", account_id="other", batch="x"),
        )
        accounts, _ = await self.store.due_accounts(self.now)
        self.assertEqual(sorted([self.acct.pk, other.pk]), sorted(accounts))

    async def test_next_due(self) -> None:
        """The next instant at which mail falls due is the earliest of retries and schedules."""
        await self.post()
        await self.defer(await self.claim_one(), after=300)
        await self.post(id="m2", not_before=self.now + 200)
        await self.post(id="m3", not_before=self.now + DAY, priority=0)

        self.assertEqual(([], self.now + 200), await self.store.due_accounts(self.now))
        self.later(200)
        accounts, when = await self.store.due_accounts(self.now)
        self.assertEqual(([self.acct.pk], self.now + 100), (accounts, when))

    async def test_claimed_mail_is_not_due(self) -> None:
        """Mail that somebody holds is not due; given back, it is."""
        await self.post()
        claimed = await self.claim_one()
        self.assertEqual(([], None), await self.store.due_accounts(self.now))

        await self.store.release([(claimed.pk, claimed.token)])

        self.assertEqual([self.acct.pk], (await self.store.due_accounts(self.now))[0])

    async def test_stopped_mail_is_not_due(self) -> None:
        """Suspended mail is neither due nor will be."""
        await self.post(batch="x")
        await self.post(id="m2", batch="x", not_before=self.now + 100)
        await self.store.suspend("default", "x", self.now)
        self.assertEqual(([], None), await self.store.due_accounts(self.now))

    async def test_ended_mail_is_not_due(self) -> None:
        """Mail that ended leaves nothing due."""
        await self.deliver()
        self.assertEqual(([], None), await self.store.due_accounts(self.now))


class LeaseContract(StoreContract):
    async def test_claimed_once(self) -> None:
        """What is claimed cannot be claimed again."""
        await self.submit(*(new_message(id=f"m{n}") for n in range(5)))
        first, second = await self.claim(limit=3), await self.claim(limit=3)
        self.assertEqual(3, len(first))
        self.assertEqual(2, len(second))
        self.assertEqual(5, len({each.id for each in first + second}))

    async def test_release(self) -> None:
        """A claim given back costs no attempt, leaves no event, and can be claimed anew."""
        await self.post()
        before = await self.kinds()
        first = await self.claim_one()

        await self.store.release([(first.pk, first.token)])

        again = await self.claim_one()
        self.assertEqual((0, before), (again.attempts, await self.kinds()))
        self.assertNotEqual(first.token, again.token)
        self.assertEqual("queued", await self.state())

    async def test_old_token(self) -> None:
        """A claim that was given back begins nothing, whoever holds the message now."""
        await self.post()
        first = await self.claim_one()
        await self.store.release([(first.pk, first.token)])
        self.assertEqual([False], await self.begin(first))

        second = await self.claim_one()

        self.assertEqual([False, True], await self.begin(first, second))

    async def test_release_does_not_take_back_an_intent(self) -> None:
        """What has begun is not given back: its outcome is still to come."""
        await self.post()
        claimed = await self.claim_one()
        await self.begin(claimed)

        await self.store.release([(claimed.pk, claimed.token)])

        self.assertEqual("in_flight", await self.state())
        self.assertEqual([], await self.claim())

    async def test_unknown_lease(self) -> None:
        """Releasing or beginning what never was does nothing."""
        await self.store.release([(12345, 67890)])
        self.assertEqual([False], await self.store.begin([(12345, 67890)], "acct", self.now))

    async def test_heartbeat_keeps_claims(self) -> None:
        """A node that gives signs of life keeps what it claimed."""
        await self.post()
        claimed = await self.claim_one()
        for _ in range(20):
            self.later(15)
            await self.store.heartbeat(self.now)
        self.assertEqual([], await self.store.abandoned(self.now))
        self.assertEqual([True], await self.begin(claimed))

    async def test_claim_of_the_dead_is_void(self) -> None:
        """What a killed process had claimed and not begun is due again, no attempt burned."""
        await self.post()
        old = await self.claim_one()

        await self.killed()
        self.assertEqual([], await self.store.abandoned(self.now))

        self.assertEqual([self.acct.pk], (await self.store.due_accounts(self.now))[0])
        self.assertEqual([False], await self.begin(old))
        self.assertEqual(0, (await self.claim_one()).attempts)


class IntentContract(StoreContract):
    async def test_intent(self) -> None:
        """An intent is stored as such: the message is in flight and cannot be claimed."""
        await self.post()
        claimed = await self.claim_one()

        self.assertEqual([True], await self.begin(claimed))

        listed = await self.stored()
        self.assertEqual(("in_flight", 1), (listed.state, listed.attempts))
        self.assertEqual("intent", (await self.kinds())[-1])
        self.assertEqual([], await self.claim())
        self.assertEqual([], await self.offered())

    async def test_one_verdict_each(self) -> None:
        """Several intents are asked for at once, and each is judged alone."""
        await self.submit(*(new_message(id=f"m{n}") for n in range(3)))
        one, two, three = await self.claim()
        await self.store.release([(two.pk, two.token)])

        self.assertEqual([True, False, True], await self.begin(one, two, three))

        states = {each.id: each.state for each in await self.listed()}
        self.assertEqual("queued", states[two.id])
        self.assertEqual(["in_flight"] * 2, [states[one.id], states[three.id]])

    async def test_nothing_to_begin(self) -> None:
        """No intents get no verdicts."""
        self.assertEqual([], await self.begin())

    async def test_suspended_service(self) -> None:
        """After a suspension is answered, nothing claimed before is begun."""
        await self.post()
        claimed = await self.claim_one()
        await self.store.suspend(None, None, self.now)
        self.assertEqual([False], await self.begin(claimed))
        self.assertEqual("queued", await self.state())

    async def test_suspended_tenant(self) -> None:
        """A suspended tenant begins nothing; another tenant does."""
        await self.add_tenant("other")
        theirs = await self.put(tenant_id="other", id="theirs")
        await self.post()
        await self.post(tenant_id="other")
        ours, other = await self.claim_one(), await self.claim_one(theirs)

        await self.store.suspend("default", None, self.now)

        self.assertEqual([False], await self.begin(ours))
        self.assertEqual([True], await self.begin(other, account="theirs"))

    async def test_suspended_batch(self) -> None:
        """A suspended batch begins nothing; the tenant's other mail does."""
        await self.submit(new_message(id="m1", batch="x"), new_message(id="m2", batch="y"))
        claimed = {each.id: each for each in await self.claim()}

        await self.store.suspend("default", "x", self.now)

        self.assertEqual([False, True], await self.begin(claimed["m1"], claimed["m2"]))

    async def test_refused_intent_can_go_later(self) -> None:
        """What a suspension kept from being begun is claimed again when that has ended."""
        await self.post()
        claimed = await self.claim_one()
        await self.store.suspend(None, None, self.now)
        await self.begin(claimed)
        await self.store.release([(claimed.pk, claimed.token)])

        await self.store.activate(None, None, self.now)

        again = await self.claim_one()
        self.assertEqual(0, again.attempts)
        self.assertEqual([True], await self.begin(again))

    async def test_intent_survives_the_process(self) -> None:
        """After a kill a begun message is not simply due again: it may have been sent."""
        await self.post()
        await self.begin(await self.claim_one())

        await self.killed()

        self.assertEqual([], await self.claim())
        self.assertEqual(([], None), await self.store.due_accounts(self.now))

    async def test_attempts_are_counted(self) -> None:
        """Each attempt begun counts one, and no other claim does."""
        await self.post()
        for attempt in range(3):
            claimed = await self.claim_one()
            await self.store.release([(claimed.pk, claimed.token)])
            claimed = await self.claim_one()
            self.assertEqual(attempt, claimed.attempts)
            await self.defer(claimed, after=60)
            self.later(60)
        self.assertEqual(3, (await self.stored()).attempts)

    async def test_retry_without_an_attempt(self) -> None:
        """A deferral for which no intent was stored counts no attempt."""
        await self.post()
        claimed = await self.claim_one()
        item = deferral(claimed, at=self.now, next_at=self.now + 60, begun=False)

        self.assertEqual([True], await self.store.record([item]))

        self.later(60)
        self.assertEqual(0, (await self.claim_one()).attempts)

    async def test_lease_ends_with_the_outcome(self) -> None:
        """Once an outcome is stored, its claim begins nothing more."""
        await self.post()
        claimed = await self.claim_one()
        await self.begin(claimed)
        item = deferral(claimed, at=self.now, next_at=self.now)
        await self.store.record([item])

        self.assertEqual([False], await self.begin(claimed))
        again = await self.claim_one()
        await self.begin(again)
        self.assertEqual([True], await self.store.record([record(again, at=self.now)]))
