"""
What the console shows live: read once for all who look, and every few seconds for the last hour.

While nobody looks, only the steps of the last hour are noted. Rates are those of this process;
what waits is what the store has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from prometheus_client import Counter
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from mailproxy.api.console.tracks import MINUTE, STEP, Counted, Tracks
from mailproxy.errors import StoreError
from mailproxy.interfaces import IClock, IControl, InThread, IStore
from mailproxy.metrics import Metrics
from mailproxy.records import Counts
from mailproxy.threads import NotRunning

#: Seconds between two looks while somebody watches.
LIVE = 2.0

#: Steps over which the share of failures is counted: five minutes.
_WINDOW = 5 * MINUTE

_log = Logger()


@attrs.frozen
class Figures:
    """
    How it stands now with all tenants, or with one.

    :param queue: messages by unfinished state; None: the store cannot be read.
    :param oldest_due: age in seconds of the message that has been due longest; None: none is due.
    :param minute: what was counted in the last minute.
    :param window: what was counted in the last five.
    :param pulse: changes whenever something happened.
    """

    at: float
    number: int
    queue: dict[str, int] | None
    oldest_due: float | None
    minute: Counted
    window: Counted
    draining: bool
    pulse: int


Watcher = Callable[[Figures], None]


class Sampler(Service):
    """
    Looks, notes and tells.

    :param in_thread: where the counters are read: there may be thousands.
    """

    name = "console"

    def __init__(
        self,
        store: IStore,
        control: IControl,
        metrics: Metrics,
        clock: IClock,
        in_thread: InThread,
    ) -> None:
        self._store = store
        self._control = control
        self._metrics = metrics
        self._clock = clock
        self._in_thread = in_thread
        self._watchers: dict[object, tuple[str | None, Watcher]] = {}
        self._loop: LoopingCall | None = None
        self._stepped = 0.0
        self._looking: Deferred[None] | None = None
        self.tracks = Tracks()

    def startService(self) -> None:
        super().startService()
        self._stepped = self._clock.seconds()
        self._loop = LoopingCall(self._look)
        self._loop.clock = self._clock
        self._loop.start(LIVE, now=False)

    def stopService(self) -> Deferred[None] | None:
        super().stopService()
        loop, self._loop = self._loop, None
        if loop is not None and loop.running:
            loop.stop()
        if self._looking is not None:
            self._looking.cancel()
        return None

    def watch(self, tenant_id: str | None, watcher: Watcher) -> Callable[[], None]:
        """Have *watcher* told of all tenants (None) or one; returns what ends that."""
        key = object()
        self._watchers[key] = (tenant_id, watcher)
        self.tracks.follow(tenant_id)
        return lambda: self._watchers.pop(key, None) and None

    def _look(self) -> Deferred[None]:
        self._looking = Deferred.fromCoroutine(self._looked())
        return self._looking

    async def _looked(self) -> None:
        """Must not raise, or the looping call stops for good."""
        step = self._clock.seconds() - self._stepped >= STEP - LIVE / 2
        if not step and not self._watchers:
            return
        try:
            await self._tell(step=step)
        except NotRunning:
            pass  # on the way down
        except Exception:
            _log.failure("the figures of the console")

    async def now(self, tenant_id: str | None) -> Figures:
        """How it stands, for one who has just come."""
        counted = await self._in_thread(_read, self._metrics)
        return self._figures(tenant_id, counted, await self._queue(tenant_id))

    async def _tell(self, *, step: bool) -> None:
        counted = await self._in_thread(_read, self._metrics)
        scopes: list[str | None] = [None, *{of for of, _ in self._watchers.values()} - {None}]
        queues = {of: await self._queue(of) for of in scopes}
        if step:
            self._stepped = self._clock.seconds()
            pending = {of: None if each is None else each.pending for of, each in queues.items()}
            self.tracks.note(counted, pending)
            self.tracks.drop(scopes)
        made = {of: self._figures(of, counted, queues[of]) for of in scopes}
        for of, watcher in list(self._watchers.values()):
            if of in made:
                watcher(made[of])

    async def _queue(self, tenant_id: str | None) -> Counts | None:
        try:
            return await self._store.counts(self._clock.now(), tenant_id)
        except StoreError as problem:
            _log.debug("the queue cannot be counted: {problem}", problem=str(problem))
            return None

    def _figures(
        self, of: str | None, counted: dict[str | None, Counted], queue: Counts | None
    ) -> Figures:
        now, mine = self._clock.now(), counted.get(of, Counted())
        track, last = self.tracks.follow(of), self.tracks.last
        by_state = None if queue is None else queue.by_state
        due = None if queue is None or queue.oldest_due is None else now - queue.oldest_due
        return Figures(
            at=now,
            number=last,
            queue=by_state,
            oldest_due=None if due is None else max(0.0, due),
            minute=track.total(MINUTE, last),
            window=track.total(_WINDOW, last),
            draining=bool(self._control.draining()),
            pulse=hash((mine, tuple((by_state or {}).items()))) & 0xFFFF_FFFF,
        )


def _read(metrics: Metrics) -> dict[str | None, Counted]:
    """What the counters say, of each tenant and of all."""
    found: dict[str | None, dict[str, int]] = {None: {}}
    counters: tuple[tuple[str, Counter], ...] = (
        ("sent", metrics.sent),
        ("deferred", metrics.deferred),
        ("failed", metrics.errors),
    )
    for name, counter in counters:
        for labels, value in _values(counter):
            for of in (None, labels["tenant_id"]):
                mine = found.setdefault(of, {})
                mine[name] = mine.get(name, 0) + value
    taken = sum(n for labels, n in _values(metrics.accepted) if labels["verdict"] == "queued")
    found[None]["accepted"] = taken
    return {of: Counted(**values) for of, values in found.items()}


def _values(counter: Counter) -> list[tuple[dict[str, Any], int]]:
    return [
        (sample.labels, int(sample.value))
        for family in counter.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    ]
