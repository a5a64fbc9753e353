"""An answer that is written piece by piece, no faster than the client takes it."""

from __future__ import annotations

from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, ITCPTransport
from twisted.web.server import Request
from zope.interface import implementer

from mailproxy.interfaces import IClock

#: Seconds a client may take nothing before it is given up.
STALLED = 60.0


@implementer(IPushProducer)
class AnswerStream:
    """The answer to one request, written no faster than the client takes it."""

    def __init__(self, request: Request, clock: IClock) -> None:
        self._request = request
        self._clock = clock
        self._paused: Deferred[None] | None = None
        self._stalled: IDelayedCall | None = None
        request.registerProducer(self, True)

    async def write(self, data: bytes) -> None:
        if self._paused is not None:
            await self._paused
        self._request.write(data)

    async def abort(self) -> None:
        """Break the connection; does not return, for the request ends with it."""
        cast(ITCPTransport, self._request.transport).abortConnection()
        await Deferred()

    def close(self) -> None:
        self.resumeProducing()
        if self._request.channel is not None:
            self._request.unregisterProducer()

    def pauseProducing(self) -> None:
        if self._paused is None:
            self._paused = Deferred()
            self._stalled = self._clock.callLater(STALLED, self._give_up)

    def resumeProducing(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        paused, self._paused = self._paused, None
        if paused is not None and not paused.called:
            paused.callback(None)

    def stopProducing(self) -> None:
        """The connection is lost; whoever waits is cancelled with the request."""

    def _give_up(self) -> None:
        self._stalled = None
        cast(ITCPTransport, self._request.transport).abortConnection()
