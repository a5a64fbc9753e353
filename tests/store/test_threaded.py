"""The store with its threads and a real reactor: what many callers at once get."""

from __future__ import annotations

import random
import sqlite3
import threading
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.trial.unittest import TestCase

from mailproxy.clock import SystemClock
from mailproxy.errors import StoreBusy
from mailproxy.model import Enqueued
from mailproxy.states import Verdict
from mailproxy.tenancy import Tenant
from tests.build import account_spec, new_message, record
from tests.store.opened import Opened, fresh


def start(call: Any) -> Deferred[Any]:
    return Deferred.fromCoroutine(call)


class ThreadedTests(TestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        self.clock = SystemClock(reactor)
        self.threads = set(threading.enumerate())
        self.opened = Opened(
            fresh(self),
            self.clock,
            random.Random(5),
            reactor=reactor,  # type: ignore[arg-type]
        )
        self.addCleanup(self.opened.close)
        self.store = self.opened.store
        self.account = await self.store.put_account(account_spec(), self.clock.now())

    async def test_whole_life(self) -> None:
        """A hundred messages go their whole way, handed in and sent by many callers at once."""
        now = self.clock.now()
        posts = [start(self.store.enqueue([new_message(id=f"m{n}")], now, 5.0)) for n in range(100)]
        verdicts = [verdict for (verdict,) in await gatherResults(posts)]
        self.assertEqual([Enqueued(Verdict.QUEUED)] * 100, verdicts)

        claimed = await self.store.claim(self.account.pk, 100, self.clock.now())
        begun = await gatherResults(
            [start(self.store.begin([(m.pk, m.token)], "acct", now)) for m in claimed]
        )
        self.assertEqual([[True]] * 100, begun)
        stored = await gatherResults(
            [start(self.store.record([record(m, at=now)])) for m in claimed]
        )
        self.assertEqual([[True]] * 100, stored)

        items = await self.store.unreported("default", 500)
        self.assertEqual(100, len({item.id for item in items}))
        self.assertTrue(all(item.sent_ts for item in items))
        await self.store.acked([pk for item in items for pk in item.event_pks], now)
        self.assertEqual([], await self.store.waiting_tenants())
        self.assertEqual(0, (await self.store.counts(now)).pending)

    async def test_the_same_batch_from_many_clients(self) -> None:
        """F59: the same batch, handed in by twenty clients at once, is stored once."""
        batch = [new_message(id=f"m{n}") for n in range(20)]
        now = self.clock.now()

        await gatherResults([start(self.store.enqueue(batch, now, 5.0)) for _ in range(20)])

        claimed = await self.store.claim(self.account.pk, 1000, self.clock.now())
        self.assertEqual(20, len(claimed))
        self.assertEqual(20, (await self.store.counts(now)).by_state["queued"])

    async def test_one_intent_for_many_that_ask(self) -> None:
        """Of many that ask for the same intent at once exactly one gets it."""
        now = self.clock.now()
        await self.store.enqueue([new_message()], now, 5.0)
        (claimed,) = await self.store.claim(self.account.pk, 1, self.clock.now())
        pair = (claimed.pk, claimed.token)

        answers = await gatherResults(
            [start(self.store.begin([pair, pair], "acct", now)) for _ in range(10)]
        )

        self.assertEqual(1, sum(sum(answer) for answer in answers))
        self.assertEqual([(1,)], self.opened.sql("SELECT count(*) FROM attempts"))

    async def test_many_change_a_tenant(self) -> None:
        """Of changes of a tenant made by many at once each sees the one before; none is lost."""

        def raised(old: Tenant | None) -> Tenant:
            assert old is not None
            return attrs.evolve(old, retention_seconds=(old.retention_seconds or 0) + 1)

        def refused(_old: Tenant | None) -> Tenant:
            raise LookupError("not this one")

        now = self.clock.now()
        calls = [
            start(self.store.change_tenant("default", change, now))
            for _ in range(20)
            for change in (raised, refused)
        ]
        answers = await DeferredList(calls, consumeErrors=True)

        self.assertEqual([True, False] * 20, [good for good, _ in answers])
        self.assertTrue(all(answer.check(LookupError) for good, answer in answers if not good))
        (tenant,) = await self.store.tenants()
        self.assertEqual((20, 21), (tenant.retention_seconds, tenant.version))
        self.assertTrue(self.store.healthy())

    async def test_the_reactor_is_not_blocked_by_a_lock(self) -> None:
        """F15: while another process has the database, reads go on and a work is withdrawn."""
        other = sqlite3.connect(self.opened.path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN IMMEDIATE")
        now = self.clock.now()

        post = start(self.store.enqueue([new_message()], now, 0.05))
        self.assertEqual(0, (await self.store.counts(now)).pending)
        await self.assertFailure(post, StoreBusy)

        other.execute("ROLLBACK")
        (verdict,) = await self.store.enqueue([new_message()], now, 5.0)
        self.assertEqual(Verdict.QUEUED, verdict.verdict)

    async def test_no_thread_is_left(self) -> None:
        """A closed store leaves no thread behind."""
        await self.store.counts(self.clock.now())
        self.assertTrue([each for each in self.ours() if "store" in each.name])

        await self.store.close()

        self.assertEqual([], [each for each in self.ours() if "store" in each.name])

    def ours(self) -> set[threading.Thread]:
        """The threads that were not there before the store was."""
        return set(threading.enumerate()) - self.threads
