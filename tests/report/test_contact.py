"""Tenants that register, are tested, or go while the reporter runs."""

from __future__ import annotations

from collections.abc import Awaitable

from twisted.internet.defer import Deferred

from mailproxy.errors import ReportUnanswered
from mailproxy.report.answer import Taken
from mailproxy.report.pace import AFTER_TIMEOUT, GATHER
from mailproxy.report.stream import PATIENCE
from mailproxy.tenancy import SyncTest
from tests.report.case import DOWN, REFUSED, ReporterCase
from tests.report.fakes import FakeSink


class RegistrationTests(ReporterCase):
    def test_registering_ends_a_rest(self) -> None:
        """Who registers again is called at once, whatever rest its failures had led to."""
        reporter = self.start(*[DOWN] * 8)
        self.store.add("a")
        self.run_for(300.0, 0.5)
        calls = len(self.sink.offered)
        reporter.registered("default")
        self.clock.advance(0)
        self.assertEqual(calls + 1, len(self.sink.offered))
        self.assertEqual([1], self.store.reported())

    def test_registering_begins_the_rests_anew(self) -> None:
        """A receiver that is still down after registering is asked again after a second."""
        reporter = self.start(*[DOWN] * 10)
        self.store.add("a")
        self.run_for(200.0, 0.5)
        calls = len(self.sink.offered)
        reporter.registered("default")
        self.run_for(1.1)
        self.assertEqual(calls + 2, len(self.sink.offered))

    def test_registering_during_a_call(self) -> None:
        """Registering inside a call causes another right after it, never a second beside it."""
        open_call: Deferred[Taken] = Deferred()
        reporter = self.start(open_call)
        self.store.add("a")
        self.run_for(GATHER)
        reporter.registered("default")
        self.run_for(5.0)
        self.assertEqual(1, self.sink.most_open)
        self.assertEqual(1, len(self.sink.offered))
        open_call.callback(Taken())
        self.run_for(0.01)
        self.assertEqual([["a"], []], self.sink.ids)

    def test_registering_does_not_cut_the_rest_after_a_time_out(self) -> None:
        """A receiver that may still be at work is left alone also if it registers."""
        reporter = self.start(ReportUnanswered("no answer"))
        self.store.add("a")
        self.run_for(GATHER)
        reporter.registered("default")
        self.run_for(AFTER_TIMEOUT - 1.0, 0.5)
        self.assertEqual(1, len(self.sink.offered))
        self.run_for(2.0, 0.5)
        self.assertEqual([1], self.store.reported())

    def test_registering_ends_the_wish_for_quiet(self) -> None:
        """Who asked not to be called and registers again is called."""
        reporter = self.start(Taken(next_sync_after=2e9))
        reporter.run_now("default")
        self.clock.advance(0)
        reporter.registered("default")
        self.run_for(1.1)
        self.assertEqual([[], []], self.sink.ids)
        status = reporter.status("default")
        assert status is not None
        self.assertFalse(status.in_dnd)

    def test_a_new_tenant_is_called(self) -> None:
        """A tenant that nothing was heard of is called as soon as it registers."""
        reporter = self.start()
        sink = self.sinks["shop"] = FakeSink(self.clock)
        reporter.registered("shop")
        self.clock.advance(0)
        self.assertEqual([[]], sink.ids)

    def test_before_the_start(self) -> None:
        """Registering while the service is not running is no error; the start calls anyway."""
        reporter = self.start()
        self.stop(reporter)
        reporter.registered("default")
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_a_tenant_that_is_gone(self) -> None:
        """No call is made for a tenant that is gone; one that is open is ended."""
        open_call: Deferred[Taken] = Deferred()
        reporter = self.start(open_call)
        self.store.add("a")
        self.run_for(GATHER)
        reporter.forget("default")
        self.assertEqual(0, self.sink.open)
        self.run_for(900.0, 1.0)
        self.assertEqual(1, len(self.sink.offered))
        self.assertIsNone(reporter.status("default"))
        reporter.forget("default")


class TestCallTests(ReporterCase):
    def test_acknowledged(self) -> None:
        """A test call is one empty report, and counts as contact."""
        reporter = self.start()
        self.clock.advance(10.0)
        answer = self.result_of(reporter.test("default"))
        self.assertEqual(SyncTest(acknowledged=True, problem="", seconds=0.0), answer)
        self.assertEqual([[]], self.sink.ids)
        status = reporter.status("default")
        assert status is not None
        self.assertEqual(self.clock.now(), status.last_sync)

    def test_not_acknowledged(self) -> None:
        """An answer that would not take a report is told with the reason, and calls go on."""
        for error in (DOWN, REFUSED):
            self.setUp()
            reporter = self.start(error)
            answer = self.result_of(reporter.test("default"))
            self.assertEqual((False, error.reason), (answer.acknowledged, answer.problem))
            status = reporter.status("default")
            assert status is not None
            self.assertEqual(error.reason, status.last_error)
            self.store.add("a")
            self.run_for(GATHER)
            self.assertEqual([[], ["a"]], self.sink.ids)

    def test_success_ends_a_rest(self) -> None:
        """Once the test call was taken, what had waited is reported without further rest."""
        reporter = self.start(*[DOWN] * 8)
        self.store.add("a")
        self.run_for(200.0, 0.5)
        self.assertEqual([], self.store.reported())
        self.sink.answers.clear()
        self.assertTrue(self.result_of(reporter.test("default")).acknowledged)
        self.run_for(2 * GATHER)
        self.assertEqual([1], self.store.reported())

    def test_no_url(self) -> None:
        """Where no URL is known the answer says so, and nothing counts as reported by it."""
        del self.sinks["default"]
        reporter = self.start()
        answer = self.result_of(reporter.test("default"))
        self.assertEqual("no URL is known for its reports", answer.problem)

    def test_never_beside_an_open_call(self) -> None:
        """A test waits for the end of an open call, and is made before the next one."""
        open_call: Deferred[Taken] = Deferred()
        reporter = self.start(open_call)
        self.store.add("a")
        self.run_for(GATHER)
        self.store.add("b")
        waiting = [Deferred.fromCoroutine(self.coroutine(reporter.test("default")))
                   for _ in range(3)]  # fmt: skip
        self.run_for(5.0)
        self.assertEqual([["a"]], self.sink.ids)
        open_call.callback(Taken())
        self.run_for(2 * GATHER)
        for each in waiting:
            self.assertTrue(self.successResultOf(each).acknowledged)
        self.assertEqual([["a"], [], [], [], ["b"]], self.sink.ids)
        self.assertEqual(1, self.sink.most_open)

    def test_patience_has_an_end(self) -> None:
        """If the open call does not end soon, the answer says that, and nothing is sent."""
        reporter = self.start(Deferred())
        self.store.add("a")
        self.run_for(GATHER)
        waiting = Deferred.fromCoroutine(self.coroutine(reporter.test("default")))
        self.run_for(PATIENCE + 1.0, 0.5)
        answer = self.successResultOf(waiting)
        self.assertFalse(answer.acknowledged)
        self.assertIn("open", answer.problem)
        self.assertEqual([["a"]], self.sink.ids)

    def test_left_alone_after_a_time_out(self) -> None:
        """A receiver that did not answer in time is not tested while it may be at work."""
        late = ReportUnanswered("no answer within 300 s")
        reporter = self.start(late)
        answer = self.result_of(reporter.test("default"))
        self.assertEqual("no answer within 300 s", answer.problem)
        self.run_for(10.0, 0.5)
        answer = self.result_of(reporter.test("default"))
        self.assertIn("for 50 s", answer.problem)
        self.run_for(AFTER_TIMEOUT, 0.5)
        self.assertTrue(self.result_of(reporter.test("default")).acknowledged)

    def test_the_test_call_holds_the_others_back(self) -> None:
        """While a test call is open no report is sent beside it."""
        open_call: Deferred[Taken] = Deferred()
        reporter = self.start(open_call)
        waiting = Deferred.fromCoroutine(self.coroutine(reporter.test("default")))
        self.store.add("a")
        reporter.run_now("default")
        self.run_for(5.0)
        self.assertEqual([[]], self.sink.ids)
        open_call.callback(Taken())
        self.run_for(GATHER)
        self.assertTrue(self.successResultOf(waiting).acknowledged)
        self.assertEqual([[], ["a"]], self.sink.ids)
        self.assertEqual(1, self.sink.most_open)

    def test_the_service_stops(self) -> None:
        """A test that waits when the service stops is answered, and so is one asked for later."""
        open_call: Deferred[Taken] = Deferred()
        reporter = self.start(open_call)
        self.store.add("a")
        self.run_for(GATHER)
        waiting = Deferred.fromCoroutine(self.coroutine(reporter.test("default")))
        self.stop(reporter)
        self.assertEqual("stopping", self.successResultOf(waiting).problem)
        self.assertEqual("not running", self.result_of(reporter.test("default")).problem)

    def result_of(self, awaitable: Awaitable[SyncTest]) -> SyncTest:
        return self.successResultOf(Deferred.fromCoroutine(self.coroutine(awaitable)))

    async def coroutine(self, awaitable: Awaitable[SyncTest]) -> SyncTest:
        return await awaitable
