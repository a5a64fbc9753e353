"""Background work that is done in rounds, as a service."""

from __future__ import annotations

from typing import ClassVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from mailproxy.errors import StoreError

_log = Logger()


class Rounds(Service):
    """
    Base of a service that does one round of its work after the other, whatever becomes of it.

    :ivar about: what the work is, for the log.
    :ivar interval: seconds from the beginning of one round to that of the next; one that takes
        longer is not overtaken.
    """

    about: ClassVar[str]
    interval: ClassVar[float]

    def __init__(self, name: str, clock: IReactorTime) -> None:
        self.setName(name)
        self._loop = LoopingCall(self._safely)
        self._loop.clock = clock
        self._ended: Deferred[LoopingCall] | None = None

    async def round(self) -> None:
        """One round; it ends early where ``running`` is no longer true."""
        raise NotImplementedError

    def startService(self) -> None:
        super().startService()
        self._ended = self._loop.start(self.interval, now=False)

    def stopService(self) -> Deferred[None]:
        """Fires when the round under way has ended."""
        super().stopService()
        if self._loop.running:
            self._loop.stop()
        return Deferred.fromCoroutine(self._wait())

    async def _wait(self) -> None:
        if self._ended is not None:
            await self._ended

    async def _safely(self) -> None:
        """Must not raise, or the looping call stops for good."""
        try:
            await self.round()
        except StoreError as error:
            _log.warn("{about}: {error}", about=self.about, error=error)
        except Exception:
            _log.failure("{about} raised", about=self.about)
