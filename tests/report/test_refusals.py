"""What is not taken, or could not be stored: parked, split, repeated."""

from __future__ import annotations

from collections.abc import Sequence

from mailproxy.errors import (
    ReportTooLarge,
    StoreUnavailable,
)
from mailproxy.interfaces import IReportSink, observe_crashpoints
from mailproxy.records import ReportItem
from mailproxy.report.answer import Taken
from mailproxy.report.pace import GATHER
from mailproxy.report.reporter import Reporter
from tests.report.case import REFUSED, ReporterCase


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
        """If run-now only led to a parked event, the application is called once more."""
        reporter = self.start(REFUSED)
        self.store.add("a")
        reporter.run_now("default")
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
