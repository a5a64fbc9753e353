"""The store's contract: mail that is overdue ends in the background, although nobody claims it."""

from __future__ import annotations

from typing import Any

from mailproxy.acts import Act
from tests.build import new_message, put_off, refused
from tests.contracts_acts import A, B
from tests.contracts_acts_bulk import ACCOUNT, BulkBase
from tests.contracts_base import DAY, MAX_AGE

#: Seconds mail waits at least for an account that is at fault.
FAULT_MAX_AGE = 432_000.0

#: Seconds between two probes.
PROBES = 300.0


class OverdueContract(BulkBase):
    async def park(self, reason: str = "auth: 535 no", **more: Any) -> None:
        """The account was tried in vain just now."""
        account = await self.store.account(self.acct.pk)
        assert account is not None
        until = self.now + PROBES
        await self.store.park_account(account.pk, account.version, reason, until, self.now, **more)

    # Its own instant.

    async def test_own_instant(self) -> None:
        """Whatever stops them, messages end at their own instant, not sooner, and are reported."""
        for each in ("parked", "suspended", "held", "tried"):
            await self.put(id=each)
            late = self.now + 100
            await self.post(id=each, account_id=each, batch=each, not_after=late)
        day = self.now + DAY
        await self.post(id="scheduled", account_id="acct", not_before=day, not_after=day + 100)
        accounts = {each.id: each for each in await self.store.accounts("default")}
        parked = accounts["parked"]
        await self.store.park_account(parked.pk, parked.version, "down", self.now + DAY, self.now)
        await self.store.suspend("default", "suspended", self.now)
        await self.act(Act.HOLD, "held")
        await self.defer(await self.claim_one(accounts["tried"]), put_off(), after=2 * DAY)
        self.later(99)
        self.assertEqual(0, await self.upkeep())
        self.later(1)
        await self.upkeep()
        ended = dict.fromkeys(("parked", "suspended", "held", "tried"), "expired")
        self.assertEqual({**ended, "scheduled": "queued"}, await self.states())
        items = {item.id: item.error or "" for item in await self.report()}
        self.assertEqual(set(ended), set(items))
        for error in items.values():
            self.assertIn("its expires_at has passed", error)
        self.assertEqual(1, (await self.store.counts(self.now)).pending)
        await self.store.activate("default", None, self.now)
        self.assertEqual([], await self.claim())

    async def test_on_its_way(self) -> None:
        """What is leased or in flight is left to whoever has it."""
        await self.post(id="leased", not_after=self.now + 100)
        (leased,) = await self.claim()
        await self.post(id="begun", not_after=self.now + 100)
        (begun,) = await self.claim()
        self.assertEqual([True], await self.begin(begun))
        self.later(100)
        self.assertEqual(0, await self.upkeep())
        self.assertEqual({"leased": "queued", "begun": "in_flight"}, await self.states())
        await self.store.release([(leased.pk, leased.token)])
        self.assertEqual(1, await self.upkeep())
        self.assertEqual("expired", await self.state("leased"))

    async def test_partly(self) -> None:
        """Who was refused before stays refused; who is open expires, and the report names both."""
        await self.post(to=(A, B), not_after=self.now + 100)
        await self.defer(await self.claim_one(), refused(0), put_off(1), after=DAY)
        await self.report()
        self.later(100)
        self.assertEqual(1, await self.upkeep())
        (item,) = await self.report()
        self.assertEqual(["failed", "expired"], [each.state for each in item.recipients])

    async def test_posted_again_in_time(self) -> None:
        """Posted again with a later instant, it has that much longer."""
        await self.store.suspend("default", None, self.now)
        await self.post(not_after=self.now + 100)
        await self.post(not_after=self.now + 500)
        self.later(100)
        self.assertEqual(0, await self.upkeep())
        self.later(400)
        self.assertEqual(1, await self.upkeep())

    # Its age, behind an account at fault.

    async def test_too_old_for_the_next_probe(self) -> None:
        """With the probe that fails last before their time is up, all that wait end, not sooner."""
        for n in range(3):
            await self.post(id=f"m{n}")
        await self.park()
        self.later(FAULT_MAX_AGE - PROBES - 1)
        await self.post(id="later")
        await self.park()
        self.assertEqual(0, await self.upkeep())
        self.later(1)
        await self.park()
        self.assertEqual(3, await self.upkeep())
        self.assertEqual("queued", await self.state("later"))
        items = await self.report()
        self.assertEqual({"m0", "m1", "m2"}, {item.id for item in items})
        self.assertTrue(all("auth: 535 no" in (item.error or "") for item in items))
        self.assertEqual(["accepted", "expired"], await self.kinds("m0"))
        self.later(PROBES)
        self.assertEqual(["later"], [each.id for each in await self.claim()])

    async def test_long_asleep(self) -> None:
        """However long nothing was tried, nothing ends before the account was tried again."""
        await self.post()
        await self.park()
        self.later(2 * FAULT_MAX_AGE)
        self.assertEqual(0, await self.upkeep())
        claimed = await self.claim_one()
        await self.store.release([(claimed.pk, claimed.token)])
        self.assertEqual(0, await self.upkeep())
        await self.park()
        self.assertEqual(1, await self.upkeep())
        self.assertEqual("expired", await self.state())

    async def test_longer_age_of_its_own(self) -> None:
        """An account with a longer age limit than that for faults gives its mail that long."""
        self.acct = await self.put(max_age_seconds=2 * FAULT_MAX_AGE)
        await self.post()
        self.later(FAULT_MAX_AGE)
        await self.park()
        self.assertEqual(0, await self.upkeep())
        self.later(FAULT_MAX_AGE - PROBES)
        await self.park()
        self.assertEqual(1, await self.upkeep())

    async def test_age_stands_still(self) -> None:
        """Time on hold does not count, and while it is held nothing of its age is weighed."""
        self.acct = await self.put(max_age_seconds=FAULT_MAX_AGE)
        await self.post()
        await self.begun_on(Act.HOLD, ACCOUNT)
        self.later(2 * DAY)
        await self.begun_on(Act.RELEASE, ACCOUNT)
        self.later(FAULT_MAX_AGE - DAY)
        await self.park()
        self.assertEqual(0, await self.upkeep())
        self.later(DAY)
        await self.begun_on(Act.HOLD, ACCOUNT)
        await self.park()
        self.assertEqual(0, await self.upkeep())
        await self.begun_on(Act.RELEASE, ACCOUNT)
        self.later(1)
        await self.park()
        self.assertEqual(1, await self.upkeep())

    async def test_due_since_the_last_probe(self) -> None:
        """What fell due after the last probe has not had its chance yet."""
        self.acct = await self.put(max_age_seconds=10.0)
        after = self.now + FAULT_MAX_AGE
        await self.post(not_before=after)
        self.later(FAULT_MAX_AGE - 1)
        await self.park()
        self.later(2)
        self.assertEqual(0, await self.upkeep())
        self.later(PROBES - 2)
        await self.park()
        self.assertEqual(1, await self.upkeep())

    async def test_carried_by_others(self) -> None:
        """While others carry its mail, the account's fault is nothing to wait for."""
        await self.post()
        self.later(FAULT_MAX_AGE)
        await self.park(closed=False)
        self.assertEqual(0, await self.upkeep())
        self.assertEqual(1, len(await self.claim()))

    async def test_many(self) -> None:
        """Those of a whole lane end in steps."""
        await self.submit(*(new_message(id=f"m{n}") for n in range(400)))
        self.later(FAULT_MAX_AGE + MAX_AGE)
        await self.park()
        self.assertEqual(400, await self.upkeep())
        self.assertEqual(0, (await self.store.counts(self.now)).pending)
