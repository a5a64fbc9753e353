"""Rate limits in the real store: many callers at once, and what of them is written."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailproxy.clock import SystemClock
from mailproxy.tenancy import RateLimits, Tenant
from tests.build import account_spec, new_message
from tests.fakes import EPOCH, FakeClock, result
from tests.store.opened import Opened, fresh


def most_within(instants: list[float], seconds: float) -> int:
    """The most of *instants* in any stretch of *seconds*, its end not included."""
    instants = sorted(instants)
    found, first = 0, 0
    for n, at in enumerate(instants):
        while at - instants[first] >= seconds:
            first += 1
        found = max(found, n - first + 1)
    return found


class ManyWorkersTests(TestCase):
    """Workers claim, begin and give back at once, each with a time of its own."""

    workers, rounds = 12, 40

    async def setUp(self) -> None:  # type: ignore[override]
        self.rng = random.Random(11)
        self.opened = Opened(
            fresh(self),
            SystemClock(reactor),
            random.Random(5),
            reactor=reactor,  # type: ignore[arg-type]
        )
        self.addCleanup(self.opened.close)
        self.store = self.opened.store
        self.now = EPOCH
        self.begun = 0

    async def declare(self, hourly: int | None, **options: Any) -> None:
        for name in ("a", "b"):
            spec = account_spec(id=name, options=json.dumps(options))
            await self.store.put_account(spec, self.now)

        def limit(old: Tenant | None) -> Tenant:
            assert old is not None
            return attrs.evolve(old, rate_limits=RateLimits(hourly))

        await self.store.change_tenant("default", limit, self.now)
        self.accounts = await self.store.accounts(None)
        messages = [new_message(id=f"m{n}", account_id="ab"[n % 2]) for n in range(2000)]
        await self.store.enqueue(messages, self.now, 60.0)

    async def work(self, step: float) -> None:
        """One worker: what it was refused, and some of what it claimed, it gives back."""
        for _ in range(self.rounds):
            # The times of several callers do not arrive in their order.
            self.now += self.rng.uniform(0.0, step)
            now = self.now - self.rng.uniform(0.0, 0.01)
            account = self.rng.choice(self.accounts)
            how = {"oldest": self.rng.random() < 0.1}
            claimed = await self.store.claim(account.pk, self.rng.randint(1, 9), now, **how)
            unused = [each for each in claimed if self.rng.random() < 0.1]
            pairs = [(each.pk, each.token) for each in claimed if each not in unused]
            granted = await self.store.begin(pairs, account.id, now)
            self.begun += sum(granted)
            back = [pair for pair, good in zip(pairs, granted, strict=True) if not good]
            await self.store.release([*back, *((each.pk, each.token) for each in unused)])

    async def run_workers(self, step: float) -> None:
        works = [Deferred.fromCoroutine(self.work(step)) for _ in range(self.workers)]
        await gatherResults(works)

    def instants(self, account: str | None = None) -> list[float]:
        found = self.opened.sql("SELECT intent_at, account FROM attempts")
        return [at for at, name in found if account in (None, name)]

    async def test_accounts(self) -> None:
        """No account passes its limit in any minute or hour, and each uses it up."""
        await self.declare(None, limit_per_minute=7, limit_per_hour=100)
        await self.run_workers(1.0)
        for name in ("a", "b"):
            self.assertEqual(7, most_within(self.instants(name), 60))
            self.assertLessEqual(most_within(self.instants(name), 3600), 100)
        self.assertEqual(self.begun, len(self.instants()))
        minutes = (self.now - EPOCH) / 60
        self.assertGreater(self.begun, 2 * 7 * (minutes - 1) * 0.7)

    async def test_beyond_what_is_exact(self) -> None:
        """A limit whose window is kept in parts is not passed either."""
        await self.declare(None, limit_per_minute=300)
        await self.run_workers(0.6)
        for name in ("a", "b"):
            self.assertLessEqual(most_within(self.instants(name), 60), 300)
        self.assertGreater(self.begun, 600)
        for (used,) in self.opened.sql("SELECT used FROM rates"):
            self.assertLessEqual(len(json.loads(used)), 241)

    async def test_tenant(self) -> None:
        """The accounts of a tenant together do not pass its limit in any hour."""
        await self.declare(60, limit_per_minute=9)
        await self.run_workers(30.0)
        self.assertEqual(60, most_within(self.instants(), 3600))
        for name in ("a", "b"):
            self.assertLessEqual(most_within(self.instants(name), 60), 9)

    async def test_counted_in_order(self) -> None:
        """What is written of a window is in the order of time, whatever order callers had."""
        await self.declare(None, limit_per_hour=50)
        await self.run_workers(1.0)
        for (used,) in self.opened.sql("SELECT used FROM rates"):
            instants = [at for at, _ in json.loads(used)]
            self.assertTrue(all(one < other for one, other in pairwise(instants)))


class WrittenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = FakeClock()
        self.opened = Opened(fresh(self), self.clock)
        self.addCleanup(self.opened.close)
        self.store = self.opened.store

    def put(self, id: str = "acct", **options: Any) -> int:
        spec = account_spec(id=id, options=json.dumps(options))
        return result(self.store.put_account(spec, self.clock.now())).pk

    def post(self, count: int, **overrides: Any) -> None:
        messages = [new_message(id=f"m{n}", **overrides) for n in range(count)]
        result(self.store.enqueue(messages, self.clock.now(), 5.0))

    def hand_over(self, pk: int, limit: int = 1000) -> int:
        now = self.clock.now()
        claimed = result(self.store.claim(pk, limit, now))
        return sum(result(self.store.begin([(m.pk, m.token) for m in claimed], "acct", now)))

    def upkeep(self) -> None:
        while result(self.store.upkeep(self.clock.now())):
            pass

    def limited(self) -> float | None:
        labels = {"tenant_id": "default", "account_id": "acct"}
        return self.opened.metrics.registry.get_sample_value("gmp_rate_limited_total", labels)

    def test_nothing_without_limits(self) -> None:
        """Where nothing is limited, nothing is written of limits."""
        pk = self.put()
        self.post(3)
        self.assertEqual(3, self.hand_over(pk))
        self.assertEqual([], self.opened.sql("SELECT * FROM rates"))

    def test_time_does_not_run_back(self) -> None:
        """An intent that comes late counts at the time of the one before, and says so."""
        pk = self.put(limit_per_minute=2)
        self.post(2)
        now = self.clock.now()
        first, second = result(self.store.claim(pk, 2, now))
        result(self.store.begin([(first.pk, first.token)], "acct", now + 5))
        result(self.store.begin([(second.pk, second.token)], "acct", now))
        self.assertEqual(
            [(now + 5,)] * 2, self.opened.sql("SELECT intent_at FROM attempts ORDER BY n")
        )
        (use,) = result(self.store.limits(None, now + 5))
        self.assertEqual((2, now + 65), (use.used, use.until))

    def test_one_row_for_each_limit(self) -> None:
        """Whatever passes, a limit is one row, and upkeep empties it when nothing counts."""
        pk = self.put(limit_per_minute=1000, limit_per_day=1000)
        self.post(600)
        for _ in range(100):
            self.assertEqual(6, self.hand_over(pk, 6))
            self.clock.advance(0.01)
        rows = self.opened.sql("SELECT seconds, used FROM rates ORDER BY seconds")
        self.assertEqual([60, 86_400], [seconds for seconds, _ in rows])
        self.assertLessEqual(len(json.loads(rows[0][1])), 6)
        self.assertEqual(600, sum(count for _, count in json.loads(rows[1][1])))
        self.clock.advance(61)
        self.upkeep()
        used = [used for (used,) in self.opened.sql("SELECT used FROM rates ORDER BY seconds")]
        self.assertEqual("[]", used[0])
        self.assertNotEqual("[]", used[1])

    def test_closed_lanes(self) -> None:
        """A closed account is one flag on its lanes, and what it has waiting is not touched."""
        pk = self.put(limit_per_hour=1)
        self.post(50)
        self.hand_over(pk)
        before = self.opened.sql("SELECT pk, claim_at, updated_at FROM messages ORDER BY pk")
        self.assertEqual([], result(self.store.claim(pk, 50, self.clock.now())))
        self.assertEqual([(128,)], self.opened.sql("SELECT blocked FROM lanes"))
        after = self.opened.sql("SELECT pk, claim_at, updated_at FROM messages ORDER BY pk")
        self.assertEqual(before, after)
        self.clock.advance(3600)
        self.assertEqual(1, self.hand_over(pk))
        self.assertEqual([(0,)], self.opened.sql("SELECT blocked FROM lanes"))

    def test_counted_for_the_metrics(self) -> None:
        """What is put off, and what fails, at a limit is counted for the account."""
        pk = self.put(limit_per_minute=1)
        self.post(4)
        self.hand_over(pk)
        self.assertEqual(0.0, self.limited())
        result(self.store.claim(pk, 2, self.clock.now()))
        self.assertEqual(2.0, self.limited())
        self.put(limit_per_minute=1, limit_behavior="reject")
        result(self.store.claim(pk, 50, self.clock.now()))
        self.assertEqual(5.0, self.limited())

    def test_purged_with_the_tenant(self) -> None:
        """Of a deleted tenant no limits are left."""
        now = self.clock.now()

        def made(_old: Tenant | None) -> Tenant:
            return Tenant("t2", rate_limits=RateLimits(5, 6))

        result(self.store.change_tenant("t2", made, now))
        spec = account_spec(tenant_id="t2", options='{"limit_per_day": 5}')
        result(self.store.put_account(spec, now))
        self.assertEqual(3, len(self.opened.sql("SELECT pk FROM rates")))
        result(self.store.delete_tenant("t2", now))
        self.clock.advance(2 * 86_400)
        self.upkeep()
        self.assertEqual([], self.opened.sql("SELECT pk FROM rates"))
