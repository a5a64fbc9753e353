"""What the fake store can do that a real one cannot: fail, stall, lapse and crash when told to."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mailproxy.errors import StoreBusy, StoreUnavailable
from mailproxy.interfaces import IControl, IReportSink, IStore, IStoreObserver
from mailproxy.model import Claimed, Enqueued
from tests.build import account_spec, new_message, record
from tests.fake_store import FakeStore
from tests.fakes import FakeClock, FakeControl, FakeObserver, FakeSink, result


class FakeStoreTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = FakeClock()
        self.store = FakeStore(self.clock)
        self.account = result(self.store.put_account(account_spec(), self.clock.now()))

    def post(self, store: FakeStore | None = None, **overrides: Any) -> Deferred[list[Enqueued]]:
        work = (store or self.store).enqueue([new_message(**overrides)], self.clock.now(), 5.0)
        return Deferred.fromCoroutine(work)

    def claim(self, store: FakeStore | None = None) -> list[Claimed]:
        return result((store or self.store).claim(self.account.pk, 10, self.clock.now()))

    def test_fakes_are_what_they_stand_for(self) -> None:
        """Each fake has every method of its seam, with the same arguments."""
        verifyObject(IStore, self.store)
        verifyObject(IReportSink, FakeSink())
        verifyObject(IControl, FakeControl())
        verifyObject(IStoreObserver, FakeObserver())

    def test_failure(self) -> None:
        """A write told to fail stores nothing; the store is not healthy until one succeeds."""
        self.store.fail_next(StoreUnavailable("disk full"))

        self.failureResultOf(self.post(), StoreUnavailable)

        self.assertEqual(({}, False), (self.store.states(), self.store.healthy()))
        self.successResultOf(self.post())
        self.assertEqual(({"m1": "queued"}, True), (self.store.states(), self.store.healthy()))

    def test_failure_of_one_method(self) -> None:
        """Only the methods named fail, as often as was said."""
        self.store.fail_next(StoreUnavailable("disk full"), "begin", times=2)
        self.successResultOf(self.post())
        (claimed,) = self.claim()
        for _ in range(2):
            with self.assertRaises(StoreUnavailable):
                result(self.store.begin([(claimed.pk, claimed.token)], "acct", 0.0))
        self.assertEqual(
            [True], result(self.store.begin([(claimed.pk, claimed.token)], "acct", 0.0))
        )

    def test_stall(self) -> None:
        """A stalled write is done, and answered, when the store goes on; in order."""
        self.store.stall()
        first, second = self.post(text="one"), self.post(text="two")
        self.assertNoResult(first)
        self.assertEqual((2, {}), (self.store.waiting, self.store.states()))

        self.store.resume()

        self.assertEqual("queued", self.successResultOf(first)[0].verdict)
        self.assertEqual("replaced", self.successResultOf(second)[0].verdict)

    def test_stalled_too_long(self) -> None:
        """A stalled submission is withdrawn at its deadline: it is known not to be stored."""
        self.store.stall()
        posted = self.post()

        self.clock.advance(5.0)
        self.failureResultOf(posted, StoreBusy)
        self.store.resume()

        self.assertEqual({}, self.store.states())

    def test_stall_of_one_method(self) -> None:
        """Only the methods named stall."""
        self.successResultOf(self.post())
        (claimed,) = self.claim()
        self.store.stall("record")
        result(self.store.begin([(claimed.pk, claimed.token)], "acct", self.clock.now()))
        stored = Deferred.fromCoroutine(self.store.record([record(claimed, at=self.clock.now())]))
        self.assertNoResult(stored)
        self.store.resume()
        self.assertEqual([True], self.successResultOf(stored))

    def test_crash_loses_what_was_not_stored(self) -> None:
        """Of a crash survives what was answered, and nothing that still waited."""
        self.successResultOf(self.post(id="kept"))
        self.store.stall()
        waiting = self.post(id="lost")

        after = self.store.crash()

        self.assertNoResult(waiting)
        self.assertEqual({"kept": "queued"}, after.states())
        self.failureResultOf(self.post(self.store), StoreUnavailable)

    def test_crash_before_the_answer(self) -> None:
        """A commit whose answer was still on its way survives a crash."""
        self.store.stall(stored=True)
        posted = self.post()

        after = self.store.crash()

        self.assertNoResult(posted)
        self.assertEqual({"m1": "queued"}, after.states())

    def test_two_nodes(self) -> None:
        """Two nodes on one disk never hold the same message."""
        other = self.store.another_node()
        self.successResultOf(self.post())
        self.assertEqual(1, len(self.claim()))
        self.assertEqual([], self.claim(other))
        self.assertEqual([], result(other.abandoned(self.clock.now())))

    def test_lapsed_node(self) -> None:
        """A node that missed its heartbeats loses what it had begun to another."""
        other = self.store.another_node()
        self.successResultOf(self.post())
        (claimed,) = self.claim()
        result(self.store.begin([(claimed.pk, claimed.token)], "acct", self.clock.now()))

        self.store.lapse()
        (taken,) = result(other.abandoned(self.clock.now()))

        late = record(claimed, at=self.clock.now())
        self.assertEqual((claimed.pk, 1), (taken.pk, taken.attempts))
        self.assertEqual([False], result(self.store.record([late])))


class ResultTests(SynchronousTestCase):
    def test_unfinished(self) -> None:
        """A call that still waits has no result."""
        waiting: Deferred[None] = Deferred()
        with self.assertRaises(AssertionError):
            result(waiting)
