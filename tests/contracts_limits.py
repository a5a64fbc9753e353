"""What every store promises of rate limits: counted at intent, never overshot, shared by all."""

from __future__ import annotations

import json
from typing import Any

import attrs

from mailproxy.limits import Use
from mailproxy.model import Account, Claimed
from mailproxy.tenancy import RateLimits, Tenant
from tests.build import new_message, put_off
from tests.contracts_base import StoreContract


class _Limited(StoreContract):
    async def limited(self, id: str = "acct", **options: Any) -> Account:
        """The account, with these limits."""
        return await self.put(id=id, options=json.dumps(options))

    async def post_many(self, count: int, first: int = 0, **overrides: Any) -> None:
        await self.submit(
            *(new_message(id=f"m{first + n}", **overrides) for n in range(count)),
        )

    async def handed_over(self, limit: int = 1000, account: Account | None = None) -> int:
        """Claim and begin what may go now; how many those were."""
        claimed = await self.claim(account, limit)
        granted = await self.begin(*claimed)
        self.assertEqual([True] * len(claimed), granted)
        return len(claimed)

    async def uses(self) -> list[Use]:
        return await self.store.limits(None, self.now)

    async def due(self) -> tuple[list[int], float | None]:
        return await self.store.due_accounts(self.now)


class LimitsContract(_Limited):
    """An account with a limit; its mail waits."""

    async def test_claim_takes_what_may_go(self) -> None:
        """A claim leases no more than there is room for."""
        await self.limited(limit_per_minute=3)
        await self.post_many(5)
        self.assertEqual(3, len(await self.claim()))

    async def test_closed_until_the_exact_instant(self) -> None:
        """At the limit nothing is claimed nor due, until the first of the window leaves it."""
        await self.limited(limit_per_minute=2)
        await self.post_many(4)
        start = self.now
        self.assertEqual(1, await self.handed_over(1))
        self.later(7)
        self.assertEqual(1, await self.handed_over(1))
        self.later(13)
        self.assertEqual([], await self.claim())
        self.assertEqual(([], start + 60), await self.due())
        self.later(39.875)
        self.assertEqual([], await self.claim())
        self.assertEqual(([], start + 60), await self.due())
        self.later(0.125)
        self.assertEqual([self.acct.pk], (await self.due())[0])
        self.assertEqual(1, await self.handed_over())
        self.assertEqual([], await self.claim())
        self.assertEqual(([], start + 67), await self.due())

    async def test_observers_are_told(self) -> None:
        """Who sends is told that the limit is reached, and when there is room."""
        await self.limited(limit_per_minute=1)
        await self.post_many(2)
        await self.handed_over()
        self.assertEqual([(self.acct.pk, self.now + 60)], self.observer.limits)
        self.observer.forget()
        await self.claim()
        self.assertEqual([(self.acct.pk, self.now + 60)], self.observer.limits)

    async def test_begin_refuses(self) -> None:
        """Whatever was claimed, no more is begun than may be; what is refused waits as it was."""
        await self.post_many(4)
        claimed = await self.claim()
        await self.limited(limit_per_hour=2)
        self.assertEqual([True, True, False, False], await self.begin(*claimed))
        await self.store.release([(each.pk, each.token) for each in claimed[2:]])
        self.assertEqual([], await self.claim())
        left = await self.stored("m3")
        self.assertEqual(
            ("queued", 0, None, None), (left.state, left.attempts, left.deferred_reason, left.error)
        )
        self.assertEqual(["accepted"], await self.kinds("m3"))
        self.assertEqual([], await self.offered())

    async def test_several_windows(self) -> None:
        """Every limit holds; the account waits for the one that takes longest."""
        await self.limited(limit_per_minute=2, limit_per_hour=3)
        await self.post_many(5)
        start = self.now
        self.assertEqual(2, await self.handed_over())
        self.later(60)
        self.assertEqual(1, await self.handed_over())
        self.assertEqual([], await self.claim())
        self.assertEqual(([], start + 3600), await self.due())

    async def test_retry_counts_again(self) -> None:
        """What was handed over stays counted when the attempt fails, and so does each retry."""
        await self.limited(limit_per_hour=2)
        await self.post(id="m1")
        await self.defer(await self.claim_one(), put_off(), after=60)
        self.later(60)
        await self.defer(await self.claim_one(), put_off(), after=60)
        self.later(60)
        self.assertEqual([], await self.claim())
        self.assertEqual("deferred", await self.state())
        self.assertEqual([2], [use.used for use in await self.uses()])

    async def test_not_begun_does_not_count(self) -> None:
        """A lease given back, and an intent that is refused, count for nothing."""
        await self.limited(limit_per_minute=1)
        await self.post_many(2)
        (first,) = await self.claim()
        await self.store.release([(first.pk, first.token)])
        (again,) = await self.claim()
        stale = attrs.evolve(again, token=again.token + 1)
        self.assertEqual([False], await self.begin(stale))
        self.assertEqual([0], [use.used for use in await self.uses()])
        self.assertEqual([True], await self.begin(again))

    async def test_survives(self) -> None:
        """What was counted is counted after the process was killed."""
        await self.limited(limit_per_day=2)
        await self.post_many(3)
        self.assertEqual(2, await self.handed_over())
        start = self.now
        await self.killed()
        self.later(600)
        self.assertEqual([], await self.claim())
        self.assertEqual(([], start + 86_400), await self.due())

    async def test_raised_and_removed(self) -> None:
        """A limit that is raised, or taken back, lets mail go at once."""
        await self.limited(limit_per_hour=1)
        await self.post_many(5)
        await self.handed_over()
        await self.claim()
        self.observer.forget()
        await self.limited(limit_per_hour=3)
        self.assertEqual([self.acct.pk], self.observer.due_accounts)
        self.assertEqual([self.acct.pk], (await self.due())[0])
        self.assertEqual(2, await self.handed_over())
        self.assertEqual([], await self.claim())
        await self.limited()
        self.assertEqual(2, await self.handed_over())
        self.assertEqual([], await self.uses())

    async def test_lowered(self) -> None:
        """A limit that is lowered counts what went before."""
        await self.limited(limit_per_minute=5)
        await self.post_many(9)
        start = self.now
        for _ in range(4):
            self.assertEqual(1, await self.handed_over(1))
            self.later(1)
        await self.limited(limit_per_minute=2)
        self.assertEqual([], await self.claim())
        self.assertEqual(([], start + 62), await self.due())

    async def test_others_go_on(self) -> None:
        """Mail of an account that is limited stands in nobody's way."""
        other = await self.put(id="other")
        await self.limited(limit_per_minute=1)
        await self.post_many(3, account_id="acct")
        await self.post_many(3, first=3, account_id="other")
        await self.handed_over()
        await self.claim()
        self.assertEqual([other.pk], (await self.due())[0])
        self.assertEqual(3, await self.handed_over(account=other))

    async def test_urgent_first(self) -> None:
        """Where not all can go, priority 0 goes first, also in a claim by age."""
        await self.limited(limit_per_minute=1)
        await self.post_many(2)
        self.later(1)
        await self.post(id="urgent", priority=0)
        (first,) = await self.claim(limit=50, oldest=True)
        self.assertEqual("urgent", first.id)
        await self.begin(first)
        await self.post(id="urgent2", priority=0)
        self.assertEqual([], await self.claim(urgent=True))
        self.later(60)
        self.assertEqual(["urgent2"], [each.id for each in await self.claim()])

    async def test_new_mail_waits_too(self) -> None:
        """What arrives while the account is closed waits, in whatever batch it is."""
        await self.limited(limit_per_minute=1)
        await self.post_many(2)
        await self.handed_over()
        await self.claim()
        await self.post(id="new", batch="b")
        self.assertEqual([], await self.claim())
        self.assertEqual(([], self.now + 60), await self.due())

    async def test_age_passes_and_nothing_expires_unseen(self) -> None:
        """A message that waits beyond its age is given its attempt when there is room."""
        await self.put(options=json.dumps({"limit_per_day": 1}), max_age_seconds=3600.0)
        await self.post_many(2)
        await self.handed_over()
        await self.claim()
        self.later(86_400)
        await self.upkeep()
        (claimed,) = await self.claim()
        self.assertLess(claimed.expires_at, self.now)
        self.assertEqual([True], await self.begin(claimed))

    async def test_shown(self) -> None:
        """The use of each window is shown, and until when a full one has no room."""
        await self.limited(limit_per_minute=5, limit_per_hour=2)
        await self.post_many(2)
        await self.handed_over()
        self.assertEqual(
            [
                Use("default", "acct", 60, 5, 2),
                Use("default", "acct", 3600, 2, 2, self.now + 3600),
            ],
            await self.uses(),
        )
        self.later(60)
        self.assertEqual([0, 2], [use.used for use in await self.uses()])
        self.assertEqual([], await self.store.limits("another", self.now))

    async def test_forgotten(self) -> None:
        """Upkeep removes what does not count any more, and nothing that does."""
        await self.limited(limit_per_minute=2, limit_per_hour=2)
        await self.post_many(2)
        await self.handed_over()
        self.later(3599)
        await self.upkeep()
        self.assertEqual([0, 2], [use.used for use in await self.uses()])
        self.later(1)
        await self.upkeep()
        self.assertEqual([0, 0], [use.used for use in await self.uses()])

    async def test_carried_for_another(self) -> None:
        """What an account carries for another counts for the one that carries it."""
        other = await self.limited("other", limit_per_minute=1)
        await self.limited(limit_per_minute=9)
        await self.post_many(2, account_id="acct")
        claimed: list[Claimed] = await self.claim()
        granted = await self.store.begin(
            [(each.pk, each.token) for each in claimed],
            "other",
            self.now,
            through=(other.pk, other.version),
        )
        self.assertEqual([True, False], granted)
        used = {use.account_id: use.used for use in await self.uses()}
        self.assertEqual({"acct": 0, "other": 1}, used)

    async def test_deleted(self) -> None:
        """The limits of a deleted account are gone with it; its name may be used anew."""
        await self.limited(limit_per_day=1)
        await self.post_many(2)
        await self.handed_over()
        await self.claim()
        await self.store.delete_account("default", "acct", self.now)
        self.assertEqual([], await self.uses())
        self.acct = await self.limited(limit_per_day=1)
        await self.post(id="other")
        self.assertEqual(1, await self.handed_over())

    async def test_parked_meanwhile(self) -> None:
        """An account that is parked while it waits for its limit waits for both."""
        acct = await self.limited(limit_per_minute=1)
        await self.post_many(2)
        await self.handed_over()
        await self.claim()
        await self.store.park_account(acct.pk, acct.version, "down", self.now + 90, self.now)
        self.later(60)
        self.assertEqual([], await self.claim())
        self.assertEqual(([], self.now + 30), await self.due())
        self.later(30)
        self.assertEqual([acct.pk], (await self.due())[0])
        self.assertEqual(1, await self.handed_over())


class RejectingContract(_Limited):
    """An account with a limit whose mail fails at it."""

    async def test_fails(self) -> None:
        """What is due at the limit fails with the reason, and that is reported."""
        await self.limited(limit_per_minute=1, limit_behavior="reject")
        await self.post_many(3)
        self.assertEqual(1, await self.handed_over())
        self.assertEqual([], await self.claim())
        self.assertEqual("in_flight", await self.state("m0"))
        items = {item.id: item for item in await self.offered()}
        self.assertEqual({"m1", "m2"}, set(items))
        for item in items.values():
            self.assertIn("rate limit exceeded (per minute)", item.error or "")
        stored = await self.stored("m2")
        self.assertEqual(("failed", 0), (stored.state, stored.attempts))
        self.assertEqual(["accepted", "failed"], await self.kinds("m2"))
        self.assertEqual(([], None), await self.due())

    async def test_room_again(self) -> None:
        """When there is room, mail goes out again."""
        await self.limited(limit_per_minute=1, limit_behavior="reject")
        await self.post(id="m1")
        await self.handed_over()
        self.later(60)
        await self.post(id="m2")
        self.assertEqual(1, await self.handed_over())

    async def test_the_longest_is_named(self) -> None:
        """Where several limits are reached, the reason names the one that lasts longest."""
        await self.limited(limit_per_minute=1, limit_per_day=1, limit_behavior="reject")
        await self.post_many(2)
        await self.handed_over()
        await self.claim()
        self.assertIn("(per day)", (await self.stored("m1")).error or "")

    async def test_later_is_not_judged_yet(self) -> None:
        """What is not due yet does not fail."""
        await self.limited(limit_per_minute=1, limit_behavior="reject")
        await self.post_many(1)
        await self.post(id="later", not_before=self.now + 600)
        await self.handed_over()
        await self.claim()
        self.assertEqual("queued", await self.state("later"))


class TenantLimitsContract(_Limited):
    """A tenant whose mail is limited, whatever account it goes through."""

    other: Account

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.other = await self.put(id="other")

    async def limit(self, hourly: int | None, daily: int | None = None) -> None:
        def change(old: Tenant | None) -> Tenant:
            return attrs.evolve(old or Tenant("default"), rate_limits=RateLimits(hourly, daily))

        await self.store.change_tenant("default", change, self.now)

    async def test_all_accounts(self) -> None:
        """Accounts of the tenant share its limit, and wait for it together."""
        await self.limit(3)
        await self.post_many(2, account_id="acct")
        await self.post_many(4, first=2, account_id="other")
        self.assertEqual(2, await self.handed_over())
        self.assertEqual(1, await self.handed_over(account=self.other))
        self.assertEqual([], await self.claim(self.other))
        await self.post(id="more", account_id="acct")
        self.assertEqual([], await self.claim())
        self.assertEqual(([], self.now + 3600), await self.due())
        self.later(3600)
        self.assertNotEqual([], (await self.due())[0])
        self.assertEqual(1, await self.handed_over())
        self.assertEqual(2, await self.handed_over(account=self.other))

    async def test_other_tenants(self) -> None:
        """The mail of other tenants is not concerned."""
        await self.add_tenant("t2")
        theirs = await self.put(tenant_id="t2")
        await self.limit(1)
        await self.post_many(2, account_id="acct")
        await self.post_many(2, first=2, tenant_id="t2")
        await self.handed_over()
        await self.claim()
        self.assertEqual(2, await self.handed_over(account=theirs))

    async def test_raised(self) -> None:
        """A limit that is raised lets the tenant's mail go at once."""
        await self.limit(1)
        await self.post_many(3, account_id="acct")
        await self.handed_over()
        await self.claim()
        self.observer.forget()
        await self.limit(2)
        self.assertEqual([self.acct.pk], self.observer.due_accounts)
        self.assertEqual(1, await self.handed_over())
        await self.claim()
        await self.limit(None)
        self.assertEqual(1, await self.handed_over())

    async def test_own_and_tenants(self) -> None:
        """Both limits hold; the account opens when there is room in both."""
        await self.limit(2)
        await self.limited(limit_per_day=1)
        await self.post_many(3, account_id="acct")
        start = self.now
        self.assertEqual(1, await self.handed_over())
        self.later(10)
        await self.post(id="other", account_id="other")
        self.assertEqual(1, await self.handed_over(account=self.other))
        self.assertEqual([], await self.claim())
        self.later(3600)
        await self.claim()
        self.assertEqual(([], start + 86_400), await self.due())

    async def test_rejects(self) -> None:
        """What an account does at a limit, it does at its tenant's, and says whose that is."""
        await self.limit(1)
        await self.limited(limit_behavior="reject")
        await self.post_many(2, account_id="acct")
        await self.handed_over()
        await self.claim()
        self.assertIn(
            "rate limit exceeded (per hour of the tenant)", (await self.stored("m1")).error or ""
        )

    async def test_shown(self) -> None:
        """A limit of the tenant is shown without an account."""
        await self.limit(1, 9)
        await self.post_many(1, account_id="acct")
        await self.handed_over()
        self.assertEqual(
            [
                Use("default", "", 3600, 1, 1, self.now + 3600),
                Use("default", "", 86_400, 9, 1),
            ],
            await self.uses(),
        )
