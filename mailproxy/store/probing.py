"""Finds out by itself that a store which took no writes takes them again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from mailproxy.errors import StoreError

#: Seconds between two tries.
PAUSE = 1.0

_log = Logger()


class Probing:
    """
    Who is told that a store is not ready hands it nothing, so nothing would ever succeed.

    :param write: writes something small.
    """

    def __init__(self, clock: IReactorTime, write: Callable[[], Awaitable[None]]) -> None:
        self._clock = clock
        self._write = write
        self._next: IDelayedCall | None = None
        self._out = False

    def told(self, healthy: bool) -> None:
        """A transaction ended; where it did not go through, another follows soon."""
        if healthy:
            self.stop()
        elif self._next is None and not self._out:
            self._next = self._clock.callLater(PAUSE, self._probe)

    def stop(self) -> None:
        """Plan no further try."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _probe(self) -> None:
        self._next = None
        self._out = True
        Deferred.fromCoroutine(self._try())

    async def _try(self) -> None:
        healthy = False
        try:
            await self._write()
            healthy = True
        except StoreError:
            pass  # the writer has said what is wrong
        except Exception:
            _log.failure("probing the store raised")
        self._out = False
        self.told(healthy)
