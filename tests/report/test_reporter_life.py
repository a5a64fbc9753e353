"""How the reporter stops, and what it tells operators."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs

from mailproxy.errors import (
    ReportUnanswered,
    StoreUnavailable,
)
from mailproxy.interfaces import IStoreObserver
from mailproxy.report.answer import Taken
from mailproxy.report.pace import GATHER
from mailproxy.report.reporter import GRACE, Reporter
from mailproxy.tenancy import SyncState
from tests.fakes import EPOCH
from tests.report.case import DOWN, ReporterCase
from tests.report.fakes import FakeSink


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
        """The status tells the last success, the next call, the last error, a wish for quiet."""
        reporter = self.start(DOWN, Taken(next_sync_after=EPOCH + 500.0))
        self.assertIsNone(reporter.status("unknown"))
        expected = SyncState(EPOCH, EPOCH + 300.0, in_dnd=False, last_error=None)
        self.assertEqual(expected, reporter.status("default"))
        self.store.add("a")
        self.run_for(GATHER)
        expected = SyncState(EPOCH, EPOCH + GATHER + 1.0, in_dnd=False, last_error="HTTP 500")
        self.assertEqual(expected, reporter.status("default"))
        self.run_for(1.1)
        status = reporter.status("default")
        assert status is not None
        self.assertEqual((True, None), (status.in_dnd, status.last_error))
        self.assertEqual(EPOCH + 500.0, status.next_due)

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
