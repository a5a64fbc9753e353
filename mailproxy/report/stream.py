"""
One tenant's reports: offered one call at a time, marked as reported when they were taken.

The selection is always *what is unreported*, never a position; what an acknowledgement covers is
what was in that call. So an event born while the call is open is reported by the next one, and a
call whose answer was lost is repeated with the same event ids.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Sequence

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from mailproxy.errors import (
    ReportRefused,
    ReportTooLarge,
    ReportUnanswered,
    SinkUnavailable,
    StoreError,
)
from mailproxy.interfaces import IReportSink, ReportAnswer, crashpoint
from mailproxy.records import ReportItem, Said
from mailproxy.report.batch import Batch
from mailproxy.report.calls import Parts, event_pks, reason_of, result_of
from mailproxy.report.lease import Right
from mailproxy.report.pace import AFTER_TIMEOUT, Pace
from mailproxy.tenancy import SyncState, SyncTest

_log = Logger()

#: A timer is set for at most this long; then the plan is looked at again.
LONGEST_TIMER = 300.0

#: Seconds that a test call waits for the end of one that is open.
PATIENCE = 30.0

#: A timer may fire this many seconds before the instant it was set for.
_ROUNDING = 1e-6


class Stream:
    """The reports of *tenant_id*; *parts* is what the reporter's streams share."""

    def __init__(self, tenant_id: str, parts: Parts) -> None:
        self.tenant_id = tenant_id
        self._parts = parts
        self._clock = parts.clock
        self._pace = Pace(parts.interval, parts.rng.random)
        self._batch = Batch()
        self._right = Right(tenant_id, parts)
        self._timer: IDelayedCall | None = None
        self._call: Deferred[ReportAnswer] | None = None
        self._busy = self._closed = self._ended = False
        self._waiters: list[Deferred[None]] = []
        self._last_sync: float | None = None
        self._last_error: str | None = None
        parts.know(tenant_id)

    def watch(self) -> None:
        """Call now and then, though there may be nothing to report."""
        self._plan()

    def events(self) -> None:
        """There may be events to report."""
        self._pace.events(self._clock.seconds())
        self._plan()

    def run_now(self) -> None:
        """Make one call as soon as may be; after the open one, if one is open."""
        self._pace.run_now()
        self._plan()

    def registered(self) -> None:
        """The receiver said again who it is: forget what failed before, and call it."""
        self._batch = Batch()
        self._pace.forgive()
        self.run_now()

    def status(self) -> SyncState:
        now = self._clock.seconds()
        due = max(self._pace.due(), now)
        return SyncState(
            last_sync=self._last_sync,
            next_due=None if math.isinf(due) else due + self._clock.now() - now,
            in_dnd=self._pace.no_empty_before > now,
            last_error=self._last_error,
        )

    # -- a call that only tests ------------------------------------------------------------

    async def test(self) -> SyncTest:
        """Make one call with an empty report, between the others."""
        if not await self._free():
            problem = "stopping" if self._closed else "a report call is open, and has no answer yet"
            return SyncTest(acknowledged=False, problem=problem, seconds=0.0)
        self._hold()
        try:
            return await self._test()
        except StoreError as error:
            return SyncTest(acknowledged=False, problem=str(error), seconds=0.0)
        finally:
            await self._right.give()
            self._idle()

    async def _test(self) -> SyncTest:
        started = self._clock.seconds()
        rest = self._pace.floor - started
        sink = self._parts.sinks(self.tenant_id)
        problem = ""
        if sink is None:
            problem = "no URL is known for its reports"
        elif rest > 0:
            problem = f"the last call had no answer in time; none is made for {rest:.0f} s"
        elif not await self._right.wait(PATIENCE, lambda: self._closed):
            problem = "a report call of another node is open, or had no answer in time"
        else:
            try:
                answer = await self._send(sink, ())
            except Exception as error:
                problem = self._test_failed(error, started)
            else:
                self._told("acked", (), started)
                await self._acked((), answer)
        return SyncTest(not problem, problem, self._clock.seconds() - started)

    def _test_failed(self, error: Exception, started: float) -> str:
        self._told(result_of(error), (), started)
        if isinstance(error, ReportUnanswered):
            self._timed_out()
        if not isinstance(error, SinkUnavailable | CancelledError):
            _log.failure("the report sink of {tenant}", tenant=self.tenant_id)
        self._last_error = reason_of(error)
        return self._last_error

    async def _free(self) -> bool:
        """Wait until no call is open. :return: whether one may be made."""
        until = self._clock.seconds() + PATIENCE
        while self._busy and not self._closed and self._clock.seconds() < until:
            idle: Deferred[None] = Deferred()
            self._waiters.append(idle)
            timer = self._clock.callLater(until - self._clock.seconds(), self._wake, idle)
            try:
                await idle
            finally:
                if timer.active():
                    timer.cancel()
        return not self._busy and not self._closed

    def _wake(self, waiter: Deferred[None]) -> None:
        self._waiters.remove(waiter)
        waiter.callback(None)

    # -- ending ----------------------------------------------------------------------------

    def close(self) -> Deferred[None]:
        """Begin no further call, in :meth:`flush` neither; fires when the open one has ended."""
        self._ended = True
        return self._quiet()

    def _quiet(self) -> Deferred[None]:
        self._closed = True
        self._no_timer()
        idle: Deferred[None] = Deferred()
        if self._busy:
            self._waiters.append(idle)
        else:
            idle.callback(None)
        return idle

    def _hold(self) -> None:
        """Nothing else is begun until :meth:`_idle`."""
        self._busy = True
        self._no_timer()

    def _no_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def abort(self) -> None:
        """:meth:`close`, and end the open call, if there is one."""
        self.close()
        if self._call is not None:
            self._call.cancel()

    async def flush(self) -> None:
        """Close, and offer what is unreported while the receiver takes it."""
        await self._quiet()
        self._busy = True
        try:
            while not self._ended and self._pace.floor <= self._clock.seconds():
                sink = self._parts.sinks(self.tenant_id)
                if sink is None:
                    await self._parts.store.ack_all(self.tenant_id, self._clock.now())
                    return
                items = await self._unreported()
                granted = await self._granted(items, empty=False) if items else None
                if granted is None or not granted[0] or self._ended:
                    return
                if not await self._offer(sink, granted[0], empty=False):
                    return
        except StoreError as error:
            _log.warn("last report of {tenant}: {error}", tenant=self.tenant_id, error=error)
        except Exception:
            _log.failure("last report of {tenant}", tenant=self.tenant_id)
        finally:
            await self._right.give()
            self._idle()

    # -- one call at a time ----------------------------------------------------------------

    def _plan(self) -> None:
        """Set the timer for the next call. Never makes the call itself: the caller may be it."""
        if self._busy or self._closed:
            return
        delay = min(max(self._pace.due() - self._clock.seconds(), 0.0), LONGEST_TIMER)
        if self._timer is None:
            self._timer = self._clock.callLater(delay, self._fire)
        else:
            self._timer.reset(delay)

    def _fire(self) -> None:
        self._timer = None
        now, due = self._clock.seconds(), self._pace.due()
        if due - now > _ROUNDING:
            self._plan()
            return
        self._busy = True
        Deferred.fromCoroutine(self._turn(max(now, due)))

    async def _turn(self, now: float) -> None:
        empty = self._pace.begin(now)
        try:
            await self._report(empty)
        except StoreError as error:
            self._failed("the store", str(error), empty=empty)
        except Exception as error:
            _log.failure("reporting to {tenant}", tenant=self.tenant_id)
            self._failed("the reporter", type(error).__name__, empty=empty)
        finally:
            self._idle()

    def _idle(self) -> None:
        self._busy = False
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(None)
        self._plan()

    async def _report(self, empty: bool) -> None:
        sink = self._parts.sinks(self.tenant_id)
        if sink is None:
            await self._parts.store.ack_all(self.tenant_id, self._clock.now())
            self._pace.taken(self._clock.seconds())
            return
        items = await self._unreported()
        if not (items or empty) or self._closed:
            return
        try:
            granted = await self._granted(items, empty=empty)
            if granted is not None and any(granted) and not self._closed:
                await self._offer(sink, granted[0], empty=granted[1])
        finally:
            await self._right.give()

    async def _granted(
        self, items: Sequence[ReportItem], *, empty: bool
    ) -> tuple[Sequence[ReportItem], bool] | None:
        """
        Take the right to call.

        :return: what is to be told now, and whether to call without it; None: not now.
        """
        lease = await self._right.take()
        if lease is not None and lease.shared:  # another node may have told some of them
            empty = self._pace.granted(self._clock.seconds(), lease.empty_in, empty=empty)
            items = await self._unreported()
        if self._right.fresh():
            return items, empty
        self._pace.refused(self._clock.seconds())
        return None

    async def _unreported(self) -> Sequence[ReportItem]:
        return await self._parts.store.unreported(self.tenant_id, self._batch.size)

    async def _offer(self, sink: IReportSink, items: Sequence[ReportItem], *, empty: bool) -> bool:
        """
        Make one call.

        :return: whether another one may be made at once.
        """
        started = self._clock.seconds()
        full = len(items) >= self._batch.size
        try:
            answer = await self._send(sink, items)
        except Exception as error:
            if not isinstance(error, SinkUnavailable | CancelledError):
                _log.failure("the report sink of {tenant}", tenant=self.tenant_id)
            self._told(result_of(error), items, started)
            return await self._not_taken(error, items, empty)
        self._told("acked", items, started)
        crashpoint("report-post")
        await self._acked(items, answer)
        if full:
            self._pace.more(self._clock.seconds())
        return True

    def _send(self, sink: IReportSink, items: Sequence[ReportItem]) -> Awaitable[ReportAnswer]:
        async def send() -> ReportAnswer:
            return await sink.send(items)

        self._call = call = Deferred.fromCoroutine(send())
        self._right.watch(self._cut)
        return call

    def _cut(self) -> None:
        """The right to the open call may be lost soon."""
        self._timed_out()
        if self._call is not None:
            self._call.cancel()

    async def _acked(self, items: Sequence[ReportItem], answer: ReportAnswer) -> None:
        """The receiver took *items*: store that, and only then believe it."""
        now = self._clock.now()
        pks = event_pks(items)
        if pks:
            await self._parts.store.acked(pks, now)
            self._parts.metrics.reported.labels(self.tenant_id).inc(len(pks))
        self._parts.metrics.last_report.labels(self.tenant_id).set(now)
        if self._last_error is not None:
            _log.info("reports of {tenant} are taken again", tenant=self.tenant_id)
        self._last_sync, self._last_error = now, None
        self._batch.taken(len(items))
        seconds, after = self._clock.seconds(), answer.next_sync_after
        quiet_until = None if after is None else seconds + after - now
        self._pace.taken(seconds, answer.queued, quiet_until, len(items))
        self._right.said = Said(empty_in=self._pace.empty_in(seconds))

    async def _not_taken(self, error: Exception, items: Sequence[ReportItem], empty: bool) -> bool:
        count, now = len(items), self._clock.seconds()
        if count and isinstance(error, ReportTooLarge | ReportRefused):
            hopeless = (
                self._batch.too_large(count)
                if isinstance(error, ReportTooLarge)
                else self._batch.refused(count)
            )
            if hopeless:
                await self._park(items[0], error.reason)
            else:
                self._pace.more(now)
            if empty:
                self._pace.owe(now)
            return self._pace.rest_until <= now
        timed_out = isinstance(error, ReportUnanswered)
        self._batch.failed(count, timed_out=timed_out)
        asked = error.retry_after if isinstance(error, SinkUnavailable) else None
        self._failed("the receiver", reason_of(error), asked, empty=empty)
        if timed_out:
            self._timed_out()
        return False

    def _timed_out(self) -> None:
        """The receiver may still be at work: no node is to call it for a while."""
        self._pace.timed_out(self._clock.seconds())
        self._right.said = Said(rest=AFTER_TIMEOUT)

    async def _park(self, item: ReportItem, reason: str) -> None:
        lease, now = self._right.lease, self._clock.now()
        if not await self._parts.store.park_event(item.event_pks, reason, now, lease):
            return
        self._parts.parked(item, reason)
        self._last_error = reason
        self._pace.parked(self._clock.seconds())

    def _failed(
        self, who: str, reason: str, asked: float | None = None, *, empty: bool = False
    ) -> None:
        now = self._clock.seconds()
        self._pace.failed(now, asked, empty=empty)
        if reason != self._last_error and not self._ended:
            _log.warn(
                "no report to {tenant}, {who}: {reason}; next try in {seconds:.0f} s",
                tenant=self.tenant_id,
                who=who,
                reason=reason,
                seconds=self._pace.rest_until - now,
            )
        self._last_error = reason

    def _told(self, result: str, items: Sequence[ReportItem], started: float) -> None:
        self._call = None
        self._right.unwatch()
        self._parts.told(self.tenant_id, result, len(items), started)
