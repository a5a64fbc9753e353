"""
Tells every tenant's application what became of its mail.

Nudged by the store after each commit that made something reportable; a looping call is the net
below that, finds tenants whose events came from elsewhere, and measures the lag. Each tenant has
a :class:`~mailproxy.report.stream.Stream` of its own, so a receiver that hangs or is down delays
nobody else.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from mailproxy.interfaces import IClock, IReports, IReportSink, IStoreObserver
from mailproxy.metrics import Metrics
from mailproxy.model import DEFAULT_TENANT
from mailproxy.report.calls import Parts
from mailproxy.report.stream import Stream
from mailproxy.tenancy import SyncState, SyncTest

#: Seconds between two looks at the store that nobody asked for.
POLL = 5.0

#: Seconds an open call has to end by itself when the service stops.
GRACE = 5.0

_log = Logger()


def _only_default() -> Iterable[str]:
    return (DEFAULT_TENANT,)


@implementer(IStoreObserver)
class Reporter(Service):
    """
    Subscribe it to the store: ``store.subscribe(reporter)``.

    :param store: where events wait, and where it is stored that they were taken.
    :param sinks: the sink of a tenant, asked before each call; None if it has no URL, then its
        events count as reported.
    :param clock: timers and the wall clock.
    :param metrics: where calls, events and lag are counted.
    :param tenants: those to call now and then though nothing is to be reported.
    :param rng: shortens rests after failures at random.
    :param interval: seconds without contact after which an empty report is sent.
    :param timeout: seconds after which a sink has ended its call.
    :param poll: seconds between two looks at the store that nobody asked for.
    :param log_activity: whether each call is one INFO line.
    """

    name = "reporter"

    def __init__(
        self,
        store: IReports,
        sinks: Callable[[str], IReportSink | None],
        clock: IClock,
        metrics: Metrics,
        *,
        tenants: Callable[[], Iterable[str]] = _only_default,
        rng: random.Random | None = None,
        interval: float = 300.0,
        timeout: float = 300.0,
        poll: float = POLL,
        log_activity: bool = False,
    ) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._tenants = tenants
        self._poll = poll
        rng = rng or random.SystemRandom()
        self._parts = Parts(store, sinks, clock, metrics, rng, interval, timeout, log_activity)
        self._streams: dict[str, Stream] = {}
        self._loop: LoopingCall | None = None
        self._ended = False

    # -- being told ------------------------------------------------------------------------

    def due(self, account_pks: Iterable[int]) -> None:
        """Mail to be sent is no business of the reporter's."""

    def limited(self, account_pk: int, until: float) -> None:
        """Nor are limits to sending it."""

    def reportable(self, tenant_ids: Iterable[str]) -> None:
        """Events of these tenants wait to be reported."""
        if self._loop is not None:
            for tenant_id in tenant_ids:
                self._stream(tenant_id).events()

    def run_now(self, tenant_id: str | None) -> None:
        """Call a tenant (None: every tenant known) now, or right after the open call."""
        if self._loop is None:
            return
        if tenant_id is not None:
            self._stream(tenant_id).run_now()
            return
        for each in list(self._streams.values()):
            each.run_now()

    def registered(self, tenant_id: str) -> None:
        """A tenant has a new address, or said again who it is: call it, whatever failed before."""
        if self._loop is not None:
            self._stream(tenant_id).registered()

    def forget(self, tenant_id: str) -> None:
        """The tenant is gone: end the open call, and begin no further one."""
        stream = self._streams.pop(tenant_id, None)
        if stream is not None:
            stream.abort()

    async def test(self, tenant_id: str) -> SyncTest:
        """Call a tenant with an empty report, and say whether that was acknowledged."""
        if self._loop is None:
            return SyncTest(acknowledged=False, problem="not running", seconds=0.0)
        return await self._stream(tenant_id).test()

    def status(self, tenant_id: str) -> SyncState | None:
        """How reporting to a tenant stands; None if there was nothing to report to it yet."""
        stream = self._streams.get(tenant_id)
        return None if stream is None else stream.status()

    def log_calls(self, wanted: bool) -> None:
        """Whether each call is one INFO line from now on."""
        self._parts.log_activity = wanted

    # -- life ------------------------------------------------------------------------------

    def startService(self) -> None:
        super().startService()
        self._ended = False
        self._loop = LoopingCall(self._look)
        self._loop.clock = self._clock
        self._loop.start(self._poll, now=True)

    async def flush(self, deadline: float) -> None:
        """
        Tell what there is to tell, once more, before the service stops; nothing is begun after.

        :param deadline: seconds until open calls are ended.
        """
        self._end_loop()
        await self._within(deadline, Deferred.fromCoroutine(self._flush_all()))

    async def _flush_all(self) -> None:
        waiting: Iterable[str] = ()
        try:
            waiting = await self._store.waiting_tenants()
        except Exception:
            _log.failure("looking for the last reports")
        if not self._ended:
            streams = [self._stream(each) for each in dict.fromkeys([*self._streams, *waiting])]
            await DeferredList([Deferred.fromCoroutine(each.flush()) for each in streams])

    def stopService(self) -> Deferred[None]:
        """Ends open calls after :data:`GRACE` seconds; what they carried is reported again."""
        super().stopService()
        self._ended = True
        self._end_loop()
        closed = DeferredList([each.close() for each in self._streams.values()])
        return Deferred.fromCoroutine(self._close(closed))

    async def _close(self, closed: Deferred[Any]) -> None:
        await self._within(GRACE, closed)
        self._streams.clear()

    async def _within(self, seconds: float, done: Deferred[Any]) -> None:
        """Wait for *done*; after *seconds* end all open calls, and then wait no longer."""
        over: Deferred[None] = Deferred()

        def late() -> None:
            self._ended = True
            for each in list(self._streams.values()):
                each.abort()
            if not over.called:
                _log.warn("reports were not ended in time; they are offered again")
                over.callback(None)

        timer = self._clock.callLater(max(seconds, 0.0), late)

        def ended(_: object) -> None:
            if timer.active():
                timer.cancel()
            if not over.called:
                over.callback(None)

        done.addCallback(ended)
        await over

    def _end_loop(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None and loop.running:
            loop.stop()

    # -- the net ---------------------------------------------------------------------------

    def _look(self) -> Awaitable[None]:
        return Deferred.fromCoroutine(self._looked())

    async def _looked(self) -> None:
        """Look for what nobody told us of; must not raise, or the looping call stops for good."""
        try:
            for tenant_id in self._tenants():
                self._stream(tenant_id).watch()
            waiting = await self._store.waiting_tenants()
            self.reportable(waiting)
            self._metrics.report_lag.set(await self._store.report_lag(self._clock.now()))
        except Exception:
            _log.failure("looking for events to report")

    def _stream(self, tenant_id: str) -> Stream:
        stream = self._streams.get(tenant_id)
        if stream is None:
            stream = self._streams[tenant_id] = Stream(tenant_id, self._parts)
        return stream
