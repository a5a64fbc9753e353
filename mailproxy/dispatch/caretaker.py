"""Paces the store's background work: bulk acts, retention, what was left over."""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from mailproxy.errors import StoreError
from mailproxy.interfaces import IClock, IStatus

_log = Logger()

#: Seconds between two rounds.
INTERVAL = 1.0

#: Steps of one round; each is a transaction of its own, so others get their turn between them.
STEPS = 20


class Caretaker(Service):
    """
    :param store: whose ``upkeep`` is called until it has nothing left, once every
        :data:`INTERVAL` seconds.
    """

    def __init__(self, store: IStatus, clock: IClock) -> None:
        self.setName("caretaker")
        self._store = store
        self._clock = clock
        self._loop = LoopingCall(self._round)
        self._loop.clock = clock
        self._ended: Deferred[LoopingCall] | None = None

    def startService(self) -> None:
        super().startService()
        self._ended = self._loop.start(INTERVAL, now=False)

    def stopService(self) -> Deferred[None]:
        """Fires when the step under way has ended."""
        super().stopService()
        if self._loop.running:
            self._loop.stop()
        return Deferred.fromCoroutine(self._wait())

    async def _wait(self) -> None:
        if self._ended is not None:
            await self._ended

    async def _round(self) -> None:
        try:
            for _ in range(STEPS):
                if not self.running or not await self._store.upkeep(self._clock.now()):
                    return
        except StoreError as error:
            _log.warn("upkeep of the store: {error}", error=error)
        except Exception:
            _log.failure("upkeep of the store raised")
