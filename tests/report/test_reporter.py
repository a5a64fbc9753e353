from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from twisted.internet.defer import Deferred

from mailproxy.errors import (
    ReportUnanswered,
)
from mailproxy.records import ReportItem
from mailproxy.report.answer import Taken
from mailproxy.report.pace import CROWD, CROWD_GATHER, GATHER
from tests.fakes import EPOCH
from tests.report.case import DOWN, ReporterCase
from tests.report.fakes import FakeSink


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

    def test_after_a_report_of_many_events_gather_longer(self) -> None:
        """A busy tenant is told ten times a second, one with an event now and then at once."""
        self.start()
        self.store.add(*(f"m{number}" for number in range(CROWD)))
        self.run_for(GATHER)
        self.store.add("a")
        self.run_for(CROWD_GATHER - 0.005)
        self.assertEqual([CROWD], [len(each) for each in self.sink.offered])
        self.run_for(0.005)
        self.assertEqual(["a"], self.sink.ids[-1])

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
