"""A large body on its way to the transport, one chunk at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from mailproxy.lines import Stuffer

#: Octets of the body handed over at once.
CHUNK = 65536


class Wire(Protocol):
    """What a body is written to; the part of a transport that is used here."""

    def write(self, data: bytes) -> None: ...  # pragma: no cover - a type

    def registerProducer(
        self, producer: IPushProducer, streaming: bool
    ) -> None: ...  # pragma: no cover - a type

    def unregisterProducer(self) -> None: ...  # pragma: no cover - a type


@implementer(IPushProducer)
class BodyProducer:
    """
    Writes *body*, dot-stuffed, as fast as the transport takes it.

    :param moved: called after each chunk but the last.
    :param last: called with the bytes that end the body, the final dot included, in place of
        their being written: from there on the message may have been accepted.
    """

    def __init__(
        self, body: bytes, wire: Wire, moved: Callable[[], None], last: Callable[[bytes], None]
    ) -> None:
        self._body = body
        self._wire = wire
        self._moved = moved
        self._last = last
        self._at = 0
        self._stuffer = Stuffer()
        self._paused = self._over = False

    def start(self) -> None:
        """Begin; the transport sets the pace from here on."""
        self._wire.registerProducer(self, True)
        self.resumeProducing()

    def resumeProducing(self) -> None:
        self._paused = False
        while not self._paused and not self._over:
            start, self._at = self._at, self._at + CHUNK
            data = self._stuffer.feed(self._body[start : self._at])
            if self._at < len(self._body):
                self._wire.write(data)
                self._moved()
            else:
                self.stop()
                self._last(data + self._stuffer.finish())

    def pauseProducing(self) -> None:
        self._paused = True

    def stopProducing(self) -> None:
        """The transport is gone."""
        self._over = True

    def stop(self) -> None:
        """Write nothing more."""
        if not self._over:
            self._over = True
            self._body = b""
            self._wire.unregisterProducer()
