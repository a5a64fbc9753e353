from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.errors import (
    ReportRefused,
    ReportTooLarge,
    ReportUnanswered,
    SinkUnavailable,
    StoreUnavailable,
)
from mailproxy.interfaces import IReportSink, IStoreObserver, observe_crashpoints
from mailproxy.metrics import Metrics
from mailproxy.records import ReportItem
from mailproxy.report.answer import Taken
from mailproxy.report.pace import GATHER
from mailproxy.report.reporter import GRACE, Reporter
from tests.fakes import EPOCH, FakeClock
from tests.report.fakes import Answer, FakeReports, FakeSink

DOWN = SinkUnavailable("HTTP 500")
REFUSED = ReportRefused("HTTP 422")


class ReporterCase(SynchronousTestCase):
    """A reporter with a store in memory and one scripted receiver per tenant."""

    def setUp(self) -> None:
        self.clock = FakeClock()
        self.store = FakeReports(self.clock)
        self.sink = FakeSink(self.clock)
        self.sinks: dict[str, IReportSink] = {"default": self.sink}
        self.metrics = Metrics()

    def start(self, *answers: Answer, first: bool = True, **options: Any) -> Reporter:
        """
        Start the reporter.

        :param answers: what the receiver of the default tenant answers from then on.
        :param first: whether its first, empty call is over already.
        """
        options.setdefault("poll", 1000.0)
        reporter = Reporter(
            self.store,
            self.sinks.get,
            self.clock,
            self.metrics,
            rng=_NoJitter(),
            **options,
        )
        self.store.subscribe(reporter)
        if not first:
            self.sink.answers = list(answers)
        reporter.startService()
        self.addCleanup(self.stop, reporter)
        if first:
            self.clock.advance(0)
            self.sink.offered.clear()
            self.sink.times.clear()
            self.sink.answers = list(answers)
        return reporter

    def stop(self, reporter: Reporter) -> None:
        stopped = reporter.stopService()
        self.clock.pump([GRACE, 1.0])
        self.successResultOf(stopped)
        self.assertEqual([], self.clock.getDelayedCalls())

    def run_for(self, seconds: float, step: float = 0.005) -> None:
        self.clock.pump([step] * round(seconds / step))

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"mailproxy_{name}", labels) or 0.0


class _NoJitter(random.Random):
    def random(self) -> float:
        return 0.0


class ReportingTests(ReporterCase):
    def test_empty_report_at_start(self) -> None:
        """The first call is made at once, with nothing in it if there is nothing to report."""
        self.start(first=False)
        self.clock.advance(0)
        self.assertEqual([[]], self.sink.ids)

    def test_what_a_crash_left_is_reported_at_start(self) -> None:
        """Events that were stored but not acknowledged before a crash go with the first call."""
        self.store.add("a", "b")
        self.start(first=False)
        self.clock.advance(0)
        self.assertEqual([["a", "b"]], self.sink.ids)
        self.assertEqual([1, 2], self.store.reported())

    def test_an_event_is_reported_soon(self) -> None:
        """A nudge is enough; the looping call need not come round."""
        self.start()
        self.store.add("a")
        self.run_for(GATHER)
        self.assertEqual([["a"]], self.sink.ids)
        self.assertEqual([1], self.store.reported())

    def test_a_burst_becomes_few_reports(self) -> None:
        """Events gather for a moment, and 500 go at once, one call after the other."""
        self.start()
        for number in range(1200):
            self.store.add(f"m{number}")
        self.run_for(GATHER * 2)
        self.assertEqual([500, 500, 200], [len(each) for each in self.sink.offered])
        self.assertEqual([], self.store.waiting())

    def test_event_born_during_the_post_is_reported_next(self) -> None:
        """An acknowledgement covers what was in the call, not what became of it meanwhile."""
        answer: Deferred[Taken] = Deferred()
        self.start(answer)
        [first] = self.store.add("a")
        self.run_for(GATHER)
        [second] = self.store.add("a")
        answer.callback(Taken())
        self.assertEqual([first], self.store.reported())
        self.run_for(GATHER * 2)
        self.assertEqual([["a"], ["a"]], self.sink.ids)
        self.assertEqual(["e1", "e2"], [each[0].event_id for each in self.sink.offered])
        self.assertEqual([first, second], self.store.reported())

    def test_refused_answers_are_repeated_with_the_same_event_id(self) -> None:
        """What was not taken is offered again, later and later, as the same event."""
        self.start(DOWN, DOWN)
        self.store.add("a")
        self.clock.pump([GATHER, 1.0, 2.0])
        self.assertEqual(["e1"] * 3, [each[0].event_id for each in self.sink.offered])
        self.assertEqual([0.025, 1.025, 3.025], self.sink.times)
        self.assertEqual([1], self.store.reported())

    def test_nothing_is_given_up(self) -> None:
        """A receiver down for twelve hours is called every five minutes, and then gets all."""
        self.start(*[DOWN] * 152)
        self.store.add(*(f"m{number}" for number in range(3)))
        self.clock.pump([GATHER, *[1.0] * (12 * 3600)])
        self.assertEqual([], self.store.reported())
        times = self.sink.times
        self.assertEqual(300, round(max(b - a for a, b in pairwise(times)), 3))
        self.assertGreater(len(times), 140)
        self.sink.answers.clear()
        self.run_for(300.0, 1.0)
        self.assertEqual([], self.store.waiting())

    def test_many_after_an_outage(self) -> None:
        """After an outage reports begin small and soon carry 500 events again."""
        self.start(*[DOWN] * 15)
        self.store.add(*(f"m{number}" for number in range(5000)))
        self.clock.pump([GATHER, *[10.0] * 400])
        self.assertEqual([], self.store.waiting())
        sizes = [len(each) for each in self.sink.offered]
        self.assertEqual(1, min(filter(None, sizes)))
        self.assertEqual(500, max(sizes[17:]))

    def test_one_tenant_does_not_delay_another(self) -> None:
        """A receiver that hangs holds back its own tenant's reports only."""
        hanging: Deferred[Taken] = Deferred()
        self.sinks["b"] = other = FakeSink(self.clock)
        self.start(hanging)
        self.store.add("a")
        self.run_for(GATHER)
        self.store.add("x", tenant="b")
        self.run_for(GATHER)
        self.assertEqual([["x"]], other.ids)
        self.assertEqual([2], self.store.reported())
        hanging.callback(Taken())

    def test_without_a_url_events_count_as_reported(self) -> None:
        """A tenant with no URL has all its events acknowledged by the store, without a call."""
        self.start()
        self.store.add("x", "y", tenant="nowhere")
        self.run_for(GATHER)
        self.assertEqual([1, 2], self.store.reported())
        self.store.calls.clear()
        self.run_for(290.0, 1.0)
        self.assertEqual([], self.store.calls, "and it is left alone")

    def test_a_url_given_later_is_used(self) -> None:
        """The sink of a tenant is asked for before each call."""
        sink = self.sinks.pop("default")
        reporter = self.start()
        self.sinks["default"] = sink
        reporter.run_now("default")
        self.clock.advance(0)
        self.assertEqual([[]], self.sink.ids)

    def test_the_receiver_may_submit_inside_our_call(self) -> None:
        """A receiver that submits mail inside our call and we do not wait for each other."""

        def submit(items: Sequence[ReportItem]) -> Taken:
            self.store.add(*(f"new{number}" for number in range(1000)))
            return Taken()

        self.start(submit)
        self.store.add("a")
        self.run_for(GATHER * 4)
        self.assertEqual([1, 500, 500], [len(each) for each in self.sink.offered])
        self.assertEqual([], self.store.waiting())
        self.assertEqual(1, self.sink.most_open)

    def test_tenants_found_by_the_net(self) -> None:
        """Events nobody told of are found by the looping call."""
        self.sinks["b"] = other = FakeSink(self.clock)
        self.start(poll=5.0)
        self.store._observers.clear()
        self.store.add("x", tenant="b")
        self.clock.pump([5.0, GATHER])
        self.assertEqual([["x"]], other.ids)


class EmptyReportTests(ReporterCase):
    def test_after_the_interval_without_contact(self) -> None:
        """An empty report is sent when the interval has passed since the last contact."""
        self.start()
        self.clock.advance(200.0)
        self.store.add("a")
        self.run_for(GATHER)
        self.clock.pump([1.0] * 301)
        self.assertEqual([["a"], []], self.sink.ids)
        self.assertIn(round(self.sink.times[1]), (500, 501))

    def test_queued_calls_again_soon(self) -> None:
        """While the application says that it has more, it is called every second."""
        self.start(Taken(queued=9), Taken(queued=2), Taken())
        self.store.add("a")
        self.run_for(10.0, 0.025)
        self.assertEqual([["a"], [], []], self.sink.ids)

    def test_no_empty_report_before_the_wish(self) -> None:
        """``next_sync_after`` puts off the next empty report, but no event."""
        self.start(Taken(next_sync_after=EPOCH + 1000.0))
        self.store.add("a")
        self.run_for(GATHER)
        self.clock.pump([1.0] * 600)
        self.assertEqual([["a"]], self.sink.ids)
        self.clock.pump([1.0] * 500)
        self.assertEqual([["a"], []], self.sink.ids)
        self.assertEqual(1000.0, round(self.sink.times[1]))

    def test_a_wish_for_ever_is_no_trouble(self) -> None:
        """A wish far beyond every calendar sets no timer the system cannot hold."""
        self.start(Taken(next_sync_after=1e300))
        self.store.add("a")
        self.run_for(GATHER)
        self.assertLess(max(call.getTime() for call in self.clock.getDelayedCalls()), 2000.0)

    def test_a_failed_empty_report_is_repeated(self) -> None:
        """The call that pulls the application is repeated like any other."""
        self.start(DOWN, first=False)
        self.clock.pump([0.0, 1.0])
        self.assertEqual([[], []], self.sink.ids)


class RunNowTests(ReporterCase):
    def test_calls_at_once(self) -> None:
        """Run-now makes an empty call if there is nothing to report."""
        self.start().run_now("default")
        self.clock.advance(0)
        self.assertEqual([[]], self.sink.ids)

    def test_of_every_tenant(self) -> None:
        """Run-now without a tenant is for all."""
        self.sinks["b"] = other = FakeSink(self.clock)
        reporter = self.start(tenants=lambda: ("default", "b"))
        reporter.run_now(None)
        self.clock.advance(0)
        self.assertEqual([[]], self.sink.ids)
        self.assertEqual([[], []], other.ids)

    def test_during_an_open_call(self) -> None:
        """Run-now during a call leads to another one right after it, never to two at once."""
        answer: Deferred[Taken] = Deferred()
        reporter = self.start(answer)
        self.store.add("a")
        self.run_for(GATHER)
        for _ in range(3):
            reporter.run_now("default")
        self.run_for(5.0, 0.5)
        self.assertEqual([["a"]], self.sink.ids)
        answer.callback(Taken())
        self.clock.advance(0)
        self.assertEqual([["a"], []], self.sink.ids)
        self.run_for(5.0, 0.5)
        self.assertEqual(2, len(self.sink.offered))
        self.assertEqual(1, self.sink.most_open)

    def test_overrides_back_off(self) -> None:
        """Run-now does not wait for the end of a rest."""
        reporter = self.start(*[DOWN] * 8)
        self.store.add("a")
        self.run_for(100.0, 0.5)
        calls = len(self.sink.offered)
        self.sink.answers.clear()
        reporter.run_now("default")
        self.clock.advance(0)
        self.assertEqual(calls + 1, len(self.sink.offered))
        self.assertEqual([1], self.store.reported())

    def test_one_extra_call_a_second(self) -> None:
        """However often run-now is said, it makes one call a second."""
        reporter = self.start()
        for _ in range(300):
            reporter.run_now("default")
            self.clock.advance(0.01)
        self.assertEqual([0.0, 1.0, 2.0], [round(each, 1) for each in self.sink.times])

    def test_after_a_time_out(self) -> None:
        """A receiver that did not answer in time is left alone for 60 s, run-now or not."""
        reporter = self.start(ReportUnanswered("no answer within 300 s"))
        self.store.add("a")
        self.run_for(GATHER)
        reporter.run_now("default")
        self.store.add("b")
        self.clock.pump([0.5] * 119)
        self.assertEqual(1, len(self.sink.offered))
        self.clock.advance(0.6)
        self.assertEqual(2, len(self.sink.offered))


class RefusalTests(ReporterCase):
    def test_the_event_that_is_refused_is_parked(self) -> None:
        """A client error for one event parks it; the rest passes without delay."""

        def picky(items: Sequence[ReportItem]) -> Taken:
            if any(each.id == "m7" for each in items):
                raise REFUSED
            return Taken()

        self.start(*[picky] * 20)
        self.store.add(*(f"m{number}" for number in range(12)))
        self.run_for(GATHER * 2)
        parked = [each.id for each in self.store.events if each.parked]
        self.assertEqual(["m7"], parked)
        self.assertEqual([], self.store.waiting())
        self.assertEqual(1.0, self.count("parked_events_total", tenant_id="default"))

    def test_too_large_halves_the_report(self) -> None:
        """A report that was too large is offered again in parts, at once."""
        self.start(*[lambda items: Taken() if len(items) < 4 else ReportTooLarge("HTTP 413")] * 20)
        self.store.add(*(f"m{number}" for number in range(10)))
        self.run_for(GATHER * 2)
        self.assertEqual([10, 5, 2], [len(each) for each in self.sink.offered][:3])
        self.assertEqual([], self.store.waiting())
        self.assertEqual(list(range(1, 11)), self.store.reported())

    def test_one_event_too_large_is_parked(self) -> None:
        """An event that is too large by itself does not hold the others up."""
        self.start(ReportTooLarge("HTTP 413"), ReportTooLarge("HTTP 413"))
        self.store.add("huge", "b")
        self.run_for(GATHER * 2)
        self.assertEqual("HTTP 413", self.store.events[0].parked)
        self.assertEqual([2], self.store.reported())

    def test_an_empty_report_refused(self) -> None:
        """A client error for an empty report parks nothing; it is repeated after a rest."""
        self.start(REFUSED, first=False)
        self.clock.pump([0.0, 0.5])
        self.assertEqual([[]], self.sink.ids)
        self.clock.advance(0.5)
        self.assertEqual([[], []], self.sink.ids)

    def test_a_call_wanted_for_its_own_sake_is_still_made(self) -> None:
        """If the first call only led to a parked event, the application is called once more."""
        self.store.add("a")
        self.start(REFUSED, first=False)
        self.clock.pump([0.0, 0.0])
        self.assertEqual([["a"], []], self.sink.ids)

    def test_a_receiver_that_refuses_everything(self) -> None:
        """If all is refused, events are parked slower and slower, not all within a second."""
        self.start(*[REFUSED] * 1000)
        self.store.add(*(f"m{number}" for number in range(100)))
        self.run_for(60.0, 0.05)
        parked = [each for each in self.store.events if each.parked]
        self.assertLess(len(parked), 10)
        self.assertGreater(len(parked), 3)


class StorageTests(ReporterCase):
    def test_an_acknowledgement_that_could_not_be_stored(self) -> None:
        """The events stay unreported, and are offered again with the same event ids."""
        self.start()
        self.store.broken.add("acked")
        self.store.add("a")
        self.run_for(GATHER)
        self.assertEqual([], self.store.reported())
        self.store.broken.clear()
        self.run_for(1.0)
        self.assertEqual(["e1", "e1"], [each[0].event_id for each in self.sink.offered])
        self.assertEqual([1], self.store.reported())

    def test_a_crash_between_answer_and_commit(self) -> None:
        """``report-post`` is passed after the answer and before anything of it is stored."""
        passed: list[tuple[str, list[int]]] = []
        self.addCleanup(
            observe_crashpoints(lambda name: passed.append((name, self.store.reported())))
        )
        self.start()
        self.store.add("a")
        self.run_for(GATHER)
        self.assertEqual(("report-post", []), passed[-1])
        self.assertEqual([1], self.store.reported())

    def test_no_failure_stops_the_loop(self) -> None:
        """Whatever the store fails at, reporting goes on when it works again."""
        for method in ("unreported", "acked", "waiting_tenants", "report_lag", "park_event"):
            self.setUp()
            self.start(REFUSED, first=False, poll=5.0)
            self.store.broken.add(method)
            self.store.add("a")
            self.clock.pump([0.5] * 100)
            self.store.broken.clear()
            self.store.add("b")
            self.clock.pump([1.0] * 100)
            self.assertEqual([], self.store.waiting(), method)
            self.flushLoggedErrors(StoreUnavailable)

    def test_the_net_is_mended(self) -> None:
        """A store that fails while the net looks into it is looked into again."""
        self.start(poll=5.0)
        self.store._observers.clear()
        self.store.broken.add("waiting_tenants")
        self.store.add("a")
        self.clock.pump([5.0, 5.0])
        self.assertEqual(2, len(self.flushLoggedErrors(StoreUnavailable)))
        self.store.broken.clear()
        self.clock.pump([5.0, GATHER])
        self.assertEqual([["a"]], self.sink.ids)

    def test_a_sink_that_raises_what_it_should_not(self) -> None:
        """An error in a sink is logged, counted as a failure, and the call repeated."""
        self.start(ZeroDivisionError("bug"))
        self.store.add("a")
        self.run_for(1.1)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.assertEqual([1], self.store.reported())

    def test_sinks_that_cannot_be_opened(self) -> None:
        """An error while a sink is opened is logged, and tried again."""
        broken = [ValueError("not a URL")]

        def sinks(tenant_id: str) -> IReportSink | None:
            if broken:
                raise broken.pop()
            return self.sink

        reporter = Reporter(self.store, sinks, self.clock, self.metrics)
        reporter.startService()
        self.addCleanup(self.stop, reporter)
        self.run_for(1.1)
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))
        self.assertEqual([[]], self.sink.ids)


class StoppingTests(ReporterCase):
    def test_flush_offers_what_is_left(self) -> None:
        """Before the service stops, all that is unreported is offered once more."""
        reporter = self.start()
        self.store.add(*(f"m{number}" for number in range(700)))
        flushed = Deferred.fromCoroutine(reporter.flush(10.0))
        self.successResultOf(flushed)
        self.assertEqual([500, 200], [len(each) for each in self.sink.offered])
        self.assertEqual([], self.store.waiting())

    def test_flush_sends_nothing_empty(self) -> None:
        """With nothing to tell, nothing is sent."""
        reporter = self.start()
        self.successResultOf(Deferred.fromCoroutine(reporter.flush(10.0)))
        self.assertEqual([], self.sink.offered)

    def test_flush_tries_once_in_a_rest(self) -> None:
        """A receiver that was down gets one more call, and only one."""
        reporter = self.start(DOWN, DOWN)
        self.store.add("a")
        self.run_for(GATHER)
        self.successResultOf(Deferred.fromCoroutine(reporter.flush(10.0)))
        self.assertEqual(2, len(self.sink.offered))

    def test_flush_leaves_a_receiver_alone_after_a_time_out(self) -> None:
        """The rest after a time-out holds to the end."""
        reporter = self.start(ReportUnanswered("no answer within 300 s"))
        self.store.add("a")
        self.run_for(GATHER)
        self.successResultOf(Deferred.fromCoroutine(reporter.flush(10.0)))
        self.assertEqual(1, len(self.sink.offered))

    def test_flush_waits_for_the_open_call(self) -> None:
        """An open call is waited for, and what was born meanwhile goes after it."""
        answer: Deferred[Taken] = Deferred()
        reporter = self.start(answer)
        self.store.add("a")
        self.run_for(GATHER)
        self.store.add("b")
        flushed = Deferred.fromCoroutine(reporter.flush(10.0))
        self.assertNoResult(flushed)
        self.assertEqual([["a"]], self.sink.ids)
        answer.callback(Taken())
        self.successResultOf(flushed)
        self.assertEqual([["a"], ["b"]], self.sink.ids)
        self.assertEqual(1, self.sink.most_open)

    def test_flush_ends_at_its_deadline(self) -> None:
        """A call still open at the deadline is ended; its events stay unreported."""
        ended: list[object] = []
        reporter = self.start(Deferred(ended.append))
        self.store.add("a")
        flushed = Deferred.fromCoroutine(reporter.flush(10.0))
        self.clock.advance(9.9)
        self.assertNoResult(flushed)
        self.clock.advance(0.2)
        self.successResultOf(flushed)
        self.assertEqual(1, len(ended))
        self.assertEqual([1], self.store.waiting())

    def test_flush_does_not_wait_for_a_hung_store(self) -> None:
        """The deadline holds also if the store does not answer, and nothing is begun after it."""
        self.sinks["b"] = other = FakeSink(self.clock)
        reporter = self.start()
        self.store.add("a")
        self.store._observers.clear()
        self.store.add("x", tenant="b")
        self.store.latency = 100.0
        flushed = Deferred.fromCoroutine(reporter.flush(10.0))
        self.clock.advance(10.0)
        self.successResultOf(flushed)
        self.store.latency = 0.0
        self.clock.advance(100.0)
        self.assertEqual(([], []), (self.sink.offered, other.offered))

    def test_flush_and_a_store_that_fails(self) -> None:
        """The last report ends whatever fails; nothing but a log line is made of it."""
        for method, logged in (("waiting_tenants", 1), ("unreported", 0), ("acked", 0)):
            self.setUp()
            reporter = self.start()
            self.store.add("a")
            self.store.broken.add(method)
            self.successResultOf(Deferred.fromCoroutine(reporter.flush(10.0)))
            self.assertEqual(logged, len(self.flushLoggedErrors(StoreUnavailable)), method)
            self.assertEqual(method == "waiting_tenants", self.store.waiting() == [], method)

    def test_flush_and_a_sink_that_breaks(self) -> None:
        """A tenant whose sink breaks does not keep the others from their last report."""
        reporter = self.start()
        self.store.add("a")
        self.store.add("x", tenant="b")
        self.sinks["b"] = FakeSink(self.clock, [ZeroDivisionError("bug")])
        self.store.add("y", tenant="c")
        self.successResultOf(Deferred.fromCoroutine(reporter.flush(10.0)))
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.assertEqual([1, 3], self.store.reported(), "c has no URL")

    def test_not_started(self) -> None:
        """Before its start a reporter is told in vain."""
        reporter = Reporter(self.store, self.sinks.get, self.clock, self.metrics)
        reporter.reportable(["default"])
        reporter.run_now(None)
        reporter.run_now("default")
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_nothing_is_begun_after_flush(self) -> None:
        """After the last report neither nudge nor run-now nor time makes another."""
        reporter = self.start()
        self.successResultOf(Deferred.fromCoroutine(reporter.flush(10.0)))
        self.store.add("a")
        reporter.run_now(None)
        reporter.run_now("default")
        self.run_for(1000.0, 10.0)
        self.assertEqual([], self.sink.offered)

    def test_stop_waits_a_little_for_an_open_call(self) -> None:
        """Stopping lets an open call end by itself, and stores its acknowledgement."""
        answer: Deferred[Taken] = Deferred()
        reporter = self.start(answer)
        self.store.add("a")
        self.run_for(GATHER)
        stopped = reporter.stopService()
        self.assertNoResult(stopped)
        answer.callback(Taken())
        self.successResultOf(stopped)
        self.assertEqual([1], self.store.reported())

    def test_stop_ends_a_call_that_hangs(self) -> None:
        """Stopping does not wait for a receiver that hangs."""
        ended: list[object] = []
        reporter = self.start(Deferred(ended.append))
        self.store.add("a")
        self.run_for(GATHER)
        stopped = reporter.stopService()
        self.clock.advance(GRACE)
        self.successResultOf(stopped)
        self.assertEqual(1, len(ended))
        self.assertEqual([], self.store.reported())

    def test_starts_again(self) -> None:
        """A reporter that was stopped can be started again."""
        reporter = self.start()
        self.successResultOf(reporter.stopService())
        self.store.add("a")
        reporter.startService()
        self.clock.advance(0)
        self.assertEqual([["a"]], self.sink.ids)


class TellingTests(ReporterCase):
    def test_metrics(self) -> None:
        """Calls are counted by result, events by tenant, and the last success has its time."""
        self.start(DOWN)
        self.store.add("a", "a", "b")
        self.run_for(1.1)
        for result, count in (("acked", 2.0), ("unavailable", 1.0)):
            self.assertEqual(
                count, self.count("report_posts_total", tenant_id="default", result=result)
            )
        self.assertEqual(3.0, self.count("reported_events_total", tenant_id="default"))
        self.assertEqual(
            EPOCH + 1.025,
            round(self.count("last_report_timestamp_seconds", tenant_id="default"), 3),
        )

    def test_status(self) -> None:
        """The status tells the last success, the next call, the last error and a rest."""
        reporter = self.start(DOWN)
        self.assertIsNone(reporter.status("unknown"))
        status = reporter.status("default")
        assert status is not None
        self.assertEqual((EPOCH, EPOCH + 300.0), (status.last_sync_ts, status.next_sync_due))
        self.assertEqual((None, None), (status.last_error, status.resting_until))
        self.store.add("a")
        self.run_for(GATHER)
        status = reporter.status("default")
        assert status is not None
        self.assertEqual("HTTP 500", status.last_error)
        self.assertEqual(EPOCH + GATHER + 1.0, status.resting_until)
        self.run_for(1.1)
        status = reporter.status("default")
        assert status is not None
        self.assertEqual((None, None), (status.last_error, status.resting_until))

    def test_activity_log(self) -> None:
        """When asked for, each call is one line with tenant, items, result and seconds."""
        for wanted in (False, True):
            self.setUp()
            self.start(DOWN, log_activity=wanted)
            with capturedLogs() as logs:
                self.store.add("a", "b")
                self.run_for(1.1)
            lines = [each for each in logs if "result" in each]
            self.assertEqual(
                [("default", 2, "unavailable", 0.0), ("default", 2, "acked", 0.0)] * wanted,
                [(e["tenant"], e["items"], e["result"], e["seconds"]) for e in lines],
            )

    def test_an_outage_is_one_warning(self) -> None:
        """The same reason is not logged again and again; its end is."""
        self.start(*[DOWN] * 5)
        with capturedLogs() as logs:
            self.store.add("a")
            self.run_for(60.0, 0.5)
        levels = [each["log_level"] for each in logs if "tenant" in each]
        self.assertEqual([LogLevel.warn, LogLevel.info], levels)

    def test_is_an_observer(self) -> None:
        """The reporter can be subscribed to a store; mail that is due does not concern it."""
        reporter = self.start()
        self.assertTrue(IStoreObserver.providedBy(reporter))
        reporter.due([1])
        self.run_for(1.0)
        self.assertEqual([], self.sink.offered)
