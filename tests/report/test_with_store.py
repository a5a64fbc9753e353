"""The reporter on a whole store: what crashes and re-posts leave, and what is told in the end."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.errors import SinkUnavailable
from mailproxy.metrics import Metrics
from mailproxy.model import Claimed
from mailproxy.records import ReportItem
from mailproxy.report.answer import Taken
from mailproxy.report.pace import GATHER
from mailproxy.report.reporter import GRACE, Reporter
from tests.build import account_spec, deferral, new_message, record
from tests.fake_store import FakeStore
from tests.fakes import FakeClock
from tests.report.fakes import FakeSink

T = TypeVar("T")


class StoreCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = FakeClock()
        self.sink = FakeSink(self.clock)
        self.store = FakeStore(self.clock)
        self.account = self.now(self.store.put_account(account_spec(), self.clock.now()))

    def tearDown(self) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the reporter that was started, if one was."""

    def now(self, work: Coroutine[Any, Any, T]) -> T:
        done: T = self.successResultOf(Deferred.fromCoroutine(work))
        return done

    def start(self) -> None:
        reporter = Reporter(self.store, lambda tenant: self.sink, self.clock, Metrics())
        unsubscribe = self.store.subscribe(reporter)
        reporter.startService()
        self.clock.advance(0)

        def stop() -> None:
            del self.stop
            unsubscribe()
            stopped = reporter.stopService()
            self.clock.advance(GRACE)
            self.successResultOf(stopped)

        self.stop = stop  # type: ignore[method-assign]

    def crash(self) -> None:
        """Kill the process while whatever it waits for is open; the store of the next start."""
        store, self.store = self.store, self.store.crash()
        store.close()
        self.stop()

    def post(self, id: str = "m1") -> None:
        self.now(self.store.enqueue([new_message(id=id)], self.clock.now(), 5.0))

    def claim(self) -> Claimed:
        now = self.clock.now()
        (claimed,) = self.now(self.store.claim(self.account.pk, 1, now))
        self.now(self.store.begin([(claimed.pk, claimed.token)], "acct", now))
        return claimed

    def send(self) -> None:
        """Have the message that is due sent."""
        self.now(self.store.record([record(self.claim(), at=self.clock.now())]))

    def wait(self) -> None:
        self.clock.pump([GATHER, GATHER, 0.0])

    def events(self) -> list[list[str]]:
        """The event ids of each call that carried any."""
        return [[each.event_id for each in items] for items in self.sink.offered if items]


class CrashTests(StoreCase):
    def test_killed_before_the_report(self) -> None:
        """An outcome that was stored is reported after the restart."""
        self.start()
        self.sink.answers = [Deferred()]
        self.post()
        self.send()
        self.crash()
        self.assertEqual([[]], self.sink.ids)
        self.sink.answers.clear()
        self.start()
        self.assertEqual([[], ["m1"]], self.sink.ids)
        self.wait()
        self.assertEqual(1, len(self.events()))

    def test_killed_between_answer_and_commit(self) -> None:
        """A report whose acknowledgement was not stored is repeated with the same event id."""
        self.start()
        self.post()
        self.store.stall("acked")
        self.send()
        self.wait()
        self.assertEqual((1, 1), (len(self.events()), self.store.waiting))
        self.crash()
        self.start()
        self.wait()
        first, second = self.events()
        self.assertEqual(first, second)

    def test_killed_between_commit_and_its_answer(self) -> None:
        """A report whose acknowledgement was stored is not repeated."""
        self.start()
        self.post()
        self.store.stall("acked", stored=True)
        self.send()
        self.wait()
        self.crash()
        self.start()
        self.wait()
        self.assertEqual(1, len(self.events()))


class InsideOurCallTests(StoreCase):
    def test_event_born_during_the_post_is_reported_next(self) -> None:
        """A message deferred in one call and sent during it is reported as sent by the next."""
        self.start()
        self.post()
        claimed, now = self.claim(), self.clock.now()
        answer: Deferred[Taken] = Deferred()
        self.sink.answers = [answer]
        self.now(self.store.record([deferral(claimed, at=now, next_at=now + 1.0)]))
        self.wait()
        self.clock.advance(1.0)
        self.send()
        answer.callback(Taken())
        self.wait()
        told = [items[0].sent_ts for items in self.sink.offered if items]
        self.assertEqual((2, None), (len(told), told[0]))
        self.assertIsNotNone(told[1])

    def test_a_sent_id_posted_again_inside_the_call(self) -> None:
        """A client that re-posts a sent id inside our call hears of it again, as the same event."""

        def post_again(items: Sequence[ReportItem]) -> Taken:
            self.post()
            return Taken()

        self.start()
        self.post()
        self.sink.answers = [post_again]
        self.send()
        self.wait()
        self.wait()
        first, second = self.events()
        self.assertEqual(first, second)

    def test_new_mail_inside_the_call(self) -> None:
        """Mail submitted inside our call is stored, and reported when it was sent."""

        def submit(items: Sequence[ReportItem]) -> Taken:
            self.post("m2")
            self.send()
            return Taken(queued=0)

        self.start()
        self.post()
        self.sink.answers = [submit]
        self.send()
        self.wait()
        self.assertEqual([["m1"], ["m2"]], [ids for ids in self.sink.ids if ids])
        self.assertEqual(1, self.sink.most_open)


class OutageTests(StoreCase):
    def test_only_the_newest_state_is_told(self) -> None:
        """After an outage a message is told once, as it is then, and all its events are done."""
        self.start()
        self.sink.answers = [SinkUnavailable("HTTP 503")]
        self.post()
        claimed, now = self.claim(), self.clock.now()
        self.now(self.store.record([deferral(claimed, at=now, next_at=now + 0.5)]))
        self.wait()
        self.clock.advance(0.5)
        self.send()
        self.clock.advance(1.0)
        self.wait()
        self.assertEqual([["m1"], ["m1"]], [ids for ids in self.sink.ids if ids])
        self.assertIsNone(self.sink.offered[-2][0].sent_ts)
        self.assertIsNotNone(self.sink.offered[-1][0].sent_ts)
        self.assertEqual([], self.now(self.store.waiting_tenants()))
