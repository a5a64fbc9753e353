"""Several nodes report to one application, one call at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.web.http import Request
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from mailproxy.errors import StoreUnavailable
from mailproxy.interfaces import IReportSink
from mailproxy.records import ReportItem, ReportLease, Said
from mailproxy.report.lease import HANDLING, LOOK, MARGIN, RESERVE
from mailproxy.report.pace import AFTER_TIMEOUT, GATHER, LONGEST_TURN
from mailproxy.report.reporter import GRACE, Reporter
from tests.fake_store import FakeStore
from tests.report.fakes import FakeSink
from tests.report.world import World, takes

#: Seconds that the sinks of :class:`World` give a call.
TIMEOUT = 300.0


class TwoNodesCase(World):
    """
    Two nodes on one disk. What one of them stores only that one is told of, unless a test says so.

    :ivar nodes: the stores; ``reporters`` those who tell what is in them.
    """

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(lambda: self.assertEqual([], self.clock.getDelayedCalls()))
        self.other = FakeStore(self.clock, disk=self.store.disk)
        self.application_ = self.application("shop")

    def _stop(self, reporter: Reporter) -> None:
        stopped = reporter.stopService()
        self.after(GRACE + 1.0)
        self.successResultOf(stopped)

    def start_both(self) -> tuple[Reporter, Reporter]:
        first, second = self.start(), self.start(self.other)
        self.after(1.0)
        self.application_.offered.clear()
        return first, second

    def slow(self, seconds: float) -> Callable[[Request], Any]:
        """An application that takes its time for each call."""

        def render(request: Request) -> Any:
            def answer() -> None:
                request.write(takes(request))
                request.finish()

            self.clock.callLater(seconds, answer)
            return NOT_DONE_YET

        return render

    def hang(self) -> None:
        """Calls have no answer from now on."""
        self.application_.render = lambda _: NOT_DONE_YET

    def times(self) -> list[float]:
        return [when for when, _ in self.application_.offered]

    def told(self) -> list[str]:
        """Every event that was offered, in order."""
        return [each for _, ids in self.application_.offered for each in ids]

    def unreported(self) -> int:
        return sum(event.unreported for _, event in self.store.disk.all_events())

    def dies(self, store: FakeStore) -> None:
        """Nobody hears of that node any more."""

        async def lost(lease: ReportLease, said: Said) -> None:
            raise StoreUnavailable("cut off")

        store.release_reports = lost  # type: ignore[method-assign]
        del self.store.disk.nodes[store.node_id]


class ApartTests(TwoNodesCase):
    def test_never_two(self) -> None:
        """Both are told of each event, a call takes a while: each event is told once, in turn."""
        self.application_.render = self.slow(0.7)
        _, second = self.start_both()
        for _ in range(40):
            self.send("shop", 2)
            second.reportable(["shop"])
            self.after(0.3)
        self.after(10.0)

        self.assertEqual(0, self.unreported())
        self.assertEqual(1, self.application_.most_open)
        told = self.told()
        self.assertEqual(80, len(told))
        self.assertEqual(80, len(set(told)), "an event was told by both")

    def test_told_of_during_a_call(self) -> None:
        """What only the other node is told of while a call is open is told soon after it."""
        self.application_.render = self.slow(20.0)
        _, second = self.start_both()
        self.send("shop")
        self.after(1.0)
        self.application_.render = takes
        self.silently(lambda: self.send("shop"))
        second.reportable(["shop"])
        self.after(19.0 + LONGEST_TURN)

        self.assertEqual(0, self.unreported())
        self.assertEqual(1, self.application_.most_open)
        self.assertEqual(2, len(self.told()))

    def silently(self, work: Callable[[], Any]) -> None:
        """The first node's reporter is not told of *work*."""
        (observer,) = self.store._observers
        self.store._observers.clear()
        work()
        self.store.subscribe(observer)

    def test_other_tenants(self) -> None:
        """A call to one tenant is no reason to keep another waiting."""
        news = self.application("news")
        _, second = self.start_both()
        self.hang()
        self.send("shop")
        self.after(1.0)
        self.silently(lambda: self.send("news"))
        second.reportable(["news"])
        self.after(1.0)
        self.assertEqual(1, len(news.ids))


class MovingTests(TwoNodesCase):
    def test_owner_dies(self) -> None:
        """A node that seems dead ends its call; the other begins once it counts as dead."""
        _, second = self.start_both()
        self.hang()
        self.send("shop")
        self.after(1.0)
        second.reportable(["shop"])
        self.after(10.0)
        self.assertEqual((1, 1), (len(self.told()), self.application_.open))

        self.application_.render = takes
        self.dies(self.store)
        self.after(LONGEST_TURN)

        self.assertEqual((0, 0), (self.unreported(), self.application_.open))
        self.assertEqual(2, len(self.told()))

    def test_cut_off(self) -> None:
        """A node ends its call when it may soon be taken for dead, and rests."""
        first, _ = self.start_both()
        self.hang()
        self.send("shop")
        self.after(1.0)
        self.store.cut_off = lambda: True  # type: ignore[method-assign]
        self.after(LOOK)
        self.assertEqual(0, self.application_.open)
        first.run_now("shop")
        self.after(AFTER_TIMEOUT - 5.0)
        self.assertEqual(1, len(self.application_.offered))

    def test_owner_stops(self) -> None:
        """A node that stops gives the right back, and the other goes on at once."""
        first, second = self.start_both()
        self.hang()
        self.send("shop")
        self.after(1.0)
        stopped = first.stopService()
        self.after(6.0)
        self.successResultOf(stopped)
        self.application_.render = takes
        second.reportable(["shop"])
        self.after(GATHER)
        self.assertEqual(0, self.unreported())

    def test_last_report(self) -> None:
        """A node that stops leaves what another is telling to that one."""
        first, second = self.start_both()
        self.application_.render = self.slow(3.0)
        self.send("shop")
        second.reportable(["shop"])
        self.after(GATHER + 0.01)
        self.assertEqual(1, self.application_.open)
        flushed = [Deferred.fromCoroutine(each.flush(5.0)) for each in (first, second)]
        self.after(5.0)
        for each in flushed:
            self.successResultOf(each)
        self.assertEqual((1, 1), (len(self.told()), self.application_.most_open))
        self.assertEqual("", self.store.disk.report_leases["shop"].node)

    def test_lost_while_open(self) -> None:
        """What the receiver took is marked, also if the right was lost before the answer came."""
        self.application_.render = self.slow(5.0)
        _, second = self.start_both()
        self.send("shop")
        self.after(1.0)
        self.store.disk.report_leases["shop"].token += 1  # somebody else has it
        self.after(5.0)
        second.reportable(["shop"])
        self.after(LONGEST_TURN)
        self.assertEqual((0, 1), (self.unreported(), len(self.told())))

    def test_slow_to_be_granted(self) -> None:
        """Where it took long to get the right no call is begun: it might outlive it."""
        _, second = self.start_both()
        take = self.other.hold_reports

        async def slowly(tenant_id: str, seconds: float) -> ReportLease | None:
            lease = await take(tenant_id, seconds)
            self.clock.advance(HANDLING + 0.1)
            return lease

        self.store._observers.clear()
        self.send("shop")
        self.other.hold_reports = slowly  # type: ignore[method-assign]
        second.reportable(["shop"])
        self.after(1.0)
        self.assertEqual([], self.told())

        self.other.hold_reports = take  # type: ignore[method-assign]
        self.after(LONGEST_TURN)
        self.assertEqual(0, self.unreported())


class ContactTests(TwoNodesCase):
    def test_empty_reports(self) -> None:
        """Together they call no more often than one would when there is nothing to tell."""
        self.start_both()
        self.after(3000.0)
        self.assertEqual(10, len(self.times()))

    def test_quiet(self) -> None:
        """What a receiver told one node about quiet hours the others keep too."""
        until = self.clock.now() + 2000.0
        self.application_.render = lambda _: f'{{"ok":true,"next_sync_after":{until}}}'.encode()
        self.start_both()
        self.after(1990.0)
        self.assertEqual([], self.times())
        self.after(20.0)
        self.assertEqual(1, len(self.times()))

    def test_more_to_submit(self) -> None:
        """A receiver that has more to submit is called again in a second, by either."""
        self.application_.render = lambda _: b'{"ok":true,"queued":5}'
        self.start_both()
        self.after(10.0)
        self.assertIn(len(self.times()), (9, 10, 11))

    def test_no_answer(self) -> None:
        """After a time-out no node calls for a minute: the receiver may still be at work."""
        _, second = self.start_both()
        self.hang()
        self.send("shop")
        second.reportable(["shop"])
        self.after(TIMEOUT + 1.0)
        second.run_now("shop")
        self.after(AFTER_TIMEOUT - 5.0)
        self.assertEqual((1, 0), (len(self.times()), self.application_.open))
        self.application_.render = takes
        self.after(5.0 + LONGEST_TURN)
        self.assertEqual(0, self.unreported())
        self.assertGreaterEqual(self.times()[1] - self.times()[0], TIMEOUT + AFTER_TIMEOUT)

    def test_run_now(self) -> None:
        """Run-now on a node while another's call is open: a call follows that one."""
        self.application_.render = self.slow(3.0)
        _, second = self.start_both()
        self.after(5.0)
        self.send("shop")
        self.after(1.0)
        second.run_now("shop")
        self.after(10.0)
        self.assertEqual((2, 1), (len(self.times()), self.application_.most_open))
        self.assertEqual([1, 0], [len(ids) for _, ids in self.application_.offered])

    def test_test_call(self) -> None:
        """A call that only tests waits for another node's, and says so if that takes long."""
        first, second = self.start_both()
        self.application_.render = self.slow(3.0)
        self.send("shop")
        self.after(1.0)
        tested = Deferred.fromCoroutine(second.test("shop"))
        self.after(10.0)
        self.assertTrue(self.successResultOf(tested).acknowledged)
        self.assertEqual(1, self.application_.most_open)

        self.hang()
        first.run_now("shop")
        self.after(1.0)
        tested = Deferred.fromCoroutine(second.test("shop"))
        self.after(40.0)
        self.assertIn("another node", self.successResultOf(tested).problem)
        self.assertEqual(1, self.application_.most_open)


@implementer(IReportSink)
@attrs.define
class _Endless:
    """Has no time-out of its own. :ivar ended: when its call was ended."""

    clock: Any
    ended: float = 0.0

    async def send(self, items: Sequence[ReportItem]) -> Any:
        try:
            return await Deferred()
        finally:
            self.ended = self.clock.seconds()


class EndlessTests(TwoNodesCase):
    def test_ended_before_its_time(self) -> None:
        """A call that does not end is ended before the right to it does."""
        sink, timeout = _Endless(self.clock), 20.0
        well = FakeSink(self.clock)
        reporters = [
            Reporter(
                store, {"shop": each}.get, self.clock, self.metrics, timeout=timeout, poll=1000.0
            )
            for store, each in ((self.store, sink), (self.other, well))
        ]
        for each in reporters:
            each.startService()
            self.addCleanup(self._stop, each)
        self.send("shop")
        began = self.clock.seconds()
        reporters[0].reportable(["shop"])
        self.after(1.0)
        reporters[1].reportable(["shop"])
        self.after(timeout + MARGIN)
        reporters[0].stopService()
        self.after(AFTER_TIMEOUT + LONGEST_TURN)

        self.assertLessEqual(sink.ended - began, timeout + MARGIN - RESERVE + 2 * LOOK)
        self.assertGreater(sink.ended - began, timeout)
        self.assertEqual([1], [len(each) for each in well.offered])
        self.assertGreaterEqual(well.times[0], sink.ended + AFTER_TIMEOUT)
