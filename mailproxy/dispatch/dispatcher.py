"""
Wakes accounts when there is something due, and sees the service through start and stop.

New mail wakes its account at once; a timer stands at the next due instant; the poll is a net for
whatever neither of them told. What a process before us had begun is resolved first.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from mailproxy.dispatch.activity import Activity
from mailproxy.dispatch.judge import Rules, after_crash
from mailproxy.dispatch.recorder import Recorder
from mailproxy.dispatch.retry import DEFAULT_DELAYS
from mailproxy.dispatch.roads import Roads
from mailproxy.dispatch.shared import Shared
from mailproxy.dispatch.stream import Stream
from mailproxy.dispatch.ways import Surroundings
from mailproxy.errors import StoreError
from mailproxy.interfaces import IClock, ICourier, IStore, IStoreObserver
from mailproxy.metrics import Metrics
from mailproxy.reply_rules import RuleBook
from mailproxy.turns import AtEnd, at_once

_log = Logger()

#: Seconds between two renewals of this node's leases at most, and for which part of a lease.
HEARTBEAT, RENEWALS = 15.0, 4

#: Seconds between two looks for what dead nodes left behind at most, and for which part of a lease.
SALVAGE, LOOKS = 30.0, 2


@attrs.frozen
class DispatchOptions:
    """
    :param interval: seconds between two polls.
    :param batch_size: most messages in one claim of an account that sets none.
    :param retry_delays: seconds to wait after the 1st, 2nd, ... failed attempt.
    :param fault_max_age: seconds a message may wait for a faulty account.
    :param replies: what known replies mean.
    :param test_mode: nothing moves until :meth:`Dispatcher.run_now`.
    :param log_activity: one INFO line per attempt.
    :param lease_seconds: how long a node counts as alive after it last said so.
    """

    interval: float = 0.5
    batch_size: int = 50
    retry_delays: tuple[float, ...] = DEFAULT_DELAYS
    fault_max_age: float = 432000.0
    replies: RuleBook = attrs.field(factory=RuleBook)
    test_mode: bool = False
    log_activity: bool = False
    lease_seconds: float = 60.0


@implementer(IStoreObserver)
class Dispatcher(Service):
    """
    :param store: the durable queue; subscribed to from ``startService`` on.
    :param courier: carries what streams hand out.
    :param rng: spreads retries.
    :param at_end: of the reactor's turn.
    """

    def __init__(
        self,
        store: IStore,
        courier: ICourier,
        clock: IClock,
        rng: random.Random,
        metrics: Metrics,
        options: DispatchOptions,
        at_end: AtEnd = at_once,
    ) -> None:
        self.setName("dispatcher")
        self._store = store
        self._courier = courier
        self._clock = clock
        self._options = options
        self.replies = options.replies
        self.recorder = Recorder(store, clock, at_end)
        self.activity = Activity(metrics, clock.seconds, options.log_activity)
        self._shared = Shared(
            store,
            courier,
            clock,
            rng,
            metrics,
            self.recorder,
            self.activity,
            Rules(options.retry_delays, options.fault_max_age, options.replies),
            options.batch_size,
            gate=0.0 if options.test_mode else None,
        )
        self._streams: dict[int, Stream] = {}
        roads = Roads(store, clock)
        self._shared.surroundings = Surroundings(
            store, courier, clock, self.recorder, roads, self._stream
        )
        self._shared.reopened = self._reopened
        self._unsubscribe = lambda: None
        self._timer: IDelayedCall | None = None
        self._polling = self._missed = False
        beating = self._loop(self._beat, min(HEARTBEAT, options.lease_seconds / RENEWALS))
        self._beating = beating[0]
        self._loops = [
            self._loop(self._poll, options.interval),
            beating,
            self._loop(self._salvage, min(SALVAGE, options.lease_seconds / LOOKS)),
        ]

    def _loop(self, call: Callable[[], object], interval: float) -> tuple[LoopingCall, float]:
        loop = LoopingCall(call)
        loop.clock = self._clock
        return loop, interval

    # -- service ---------------------------------------------------------------------------

    def startService(self) -> None:
        super().startService()
        self._shared.stopping = False
        self._unsubscribe = self._store.subscribe(self)
        Deferred.fromCoroutine(self._begin())

    async def _begin(self) -> None:
        """Resolve what a process before us left, then look for work."""
        await self._salvage()
        if self.running:
            salvaging = self._loops[-1][0]  # just done
            for loop, interval in self._loops:
                loop.start(interval, now=loop is not salvaging)

    def stopService(self) -> Deferred[None]:
        """Drain with no time to spare; :meth:`drain` first where there is time."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self.drain(0.0)
        self.recorder.give_up()

    async def drain(self, deadline: float) -> None:
        """
        Stop claiming, give back what is not begun, let bodies under way end, store outcomes.

        :param deadline: seconds until sessions are cut; what they carried becomes uncertain.
        """
        self._shared.stopping = True
        self._unsubscribe()
        self._unsubscribe = lambda: None
        for loop, _ in self._loops:
            if loop.running and loop is not self._beating:
                loop.stop()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        for stream in self._streams.values():
            await stream.give_back()
        await self._courier.close(deadline)
        # An outcome the store does not take now is found as an open intent at the next start.
        await self._settled(max(deadline, 1.0))
        if self._beating.running:  # until here bodies may be under way, and leases good
            self._beating.stop()

    async def _settled(self, patience: float) -> None:
        """Wait until all outcomes are stored, for *patience* seconds at most."""
        waited = 0.0
        while waited < patience and not (self.recorder.idle and self._at_rest()):
            pause: Deferred[None] = Deferred()
            self._clock.callLater(0.02, pause.callback, None)
            await pause
            waited += 0.02

    def _at_rest(self) -> bool:
        return not any(stream.busy for stream in self._streams.values())

    # -- waking ----------------------------------------------------------------------------

    def due(self, account_pks: Iterable[int]) -> None:
        if self._shared.stopping or self._options.test_mode:
            return
        for pk in account_pks:
            self._stream(pk).wake()

    def reportable(self, tenant_ids: Iterable[str]) -> None:
        """Reports are not ours."""

    def limited(self, account_pk: int, until: float) -> None:
        if self._shared.stopping:
            return
        if (stream := self._streams.get(account_pk)) is not None:
            stream.limited(until)
        self._wake_at(until)

    def run_now(self) -> None:
        """Look for due mail now; in test mode, let what is due at this instant go once."""
        if self._options.test_mode:
            self._shared.gate = self._clock.now()
        if self.running and not self._shared.stopping:
            Deferred.fromCoroutine(self._poll())

    def _stream(self, account_pk: int) -> Stream:
        stream = self._streams.get(account_pk)
        if stream is None:
            stream = self._streams[account_pk] = Stream(account_pk, self._shared)
        return stream

    def _reopened(self, account_pk: int) -> None:
        """An account works again: the mail of others may have waited for it."""
        for pk, stream in tuple(self._streams.items()):
            if pk != account_pk:
                stream.reopen()

    async def _poll(self) -> None:
        if self._polling or self._shared.stopping:
            return
        self._polling = True
        try:
            accounts, next_due = await self._store.due_accounts(self._shared.horizon())
        except StoreError as error:
            _log.warn("looking for due mail: {error}", error=error)
        except Exception:
            _log.failure("looking for due mail raised")
        else:
            if not self._shared.stopping:
                for pk in accounts:
                    self._stream(pk).wake()
                for stream in self._streams.values():
                    if stream.stranded:
                        stream.wake()
                self._wake_at(next_due)
        finally:
            self._polling = False
            if self._missed and not self._shared.stopping:
                self._wake_at(self._clock.now())
            self._missed = False

    def _wake_at(self, when: float | None) -> None:
        """Poll at *when*, if that is before the net would, and before what was planned."""
        if when is None or self._options.test_mode:
            return
        delay = max(0.0, when - self._clock.now())
        if delay >= self._options.interval:
            return
        if (timer := self._timer) is not None and timer.active():
            if timer.getTime() <= self._clock.seconds() + delay:
                return
            timer.cancel()
        self._timer = self._clock.callLater(delay, self._on_time)

    def _on_time(self) -> None:
        """A poll that is under way looked before this instant: another follows."""
        self._missed = self._polling
        Deferred.fromCoroutine(self._poll())

    # -- leases ----------------------------------------------------------------------------

    async def _beat(self) -> None:
        try:
            await self._store.heartbeat(self._clock.now())
        except StoreError as error:
            _log.warn("renewing leases: {error}", error=error)
        except Exception:
            _log.failure("renewing leases raised")

    async def _salvage(self) -> None:
        """Take over what dead processes had begun; each such attempt is uncertain."""
        try:
            left = await self._store.abandoned(self._clock.now())
            for message in left:
                account = await self._store.account(message.account_pk)
                record = after_crash(
                    message,
                    account,
                    self._clock.now(),
                    self._shared.rules,
                    self._shared.rng.uniform(-1.0, 1.0),
                )
                if account is not None:
                    self._shared.metrics.uncertain.labels(account.tenant_id, account.id).inc()
                self.recorder.add(record)
            if left:
                _log.warn("{count} attempts were cut off: uncertain", count=len(left))
        except StoreError as error:
            _log.warn("looking for abandoned mail: {error}", error=error)
        except Exception:
            _log.failure("looking for abandoned mail raised")
