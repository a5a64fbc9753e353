"""
HTTP as this API takes it: refused on the headers, limited while it is read, never slow for ever.

A refusal before the end of a request's body ends the connection: the answer goes out, what still
comes in is thrown away for a moment (closing at once would reset the connection and lose the
answer on its way), then the connection is closed.
"""

from __future__ import annotations

from io import BytesIO
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from twisted.internet.interfaces import IDelayedCall, ITCPTransport, ITransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.server import Request

from mailproxy.api.answers import BAD_REQUEST, TIMED_OUT, TOO_LARGE, Answer, unavailable

if TYPE_CHECKING:
    from mailproxy.api.site import ApiSite

#: Bodies up to this size are kept in memory while they come in, larger ones in a file.
MEMORY_BYTES = 256 * 1024

#: Seconds in which what comes in after a refusal is thrown away.
LINGER = 2.0

#: The slowest body that is waited for, in bytes per second over its whole length.
SLOWEST = 64 * 1024

_log = Logger()


def content_file(length: int | None) -> BinaryIO:
    """Where a body of *length* bytes (None: not announced) is kept while it comes in."""
    if length is not None and length <= MEMORY_BYTES:
        return BytesIO()
    return cast(BinaryIO, SpooledTemporaryFile(max_size=MEMORY_BYTES))


class LimitedRequest(Request):
    """
    A request whose body is counted while it is read.

    ``route`` is the endpoint's path pattern, for the log and the metrics; ``began`` is when its
    header was complete, in seconds of the clock; ``endless`` says that its answer goes on until
    somebody ends it, so that it may be cut at any time, and its duration tells nothing.
    """

    route = "other"
    endless = False
    began: float | None = None
    received = 0
    channel: ApiChannel

    def handleContentChunk(self, data: bytes) -> None:
        channel = self.channel
        self.received += len(data)
        if self.received > channel.site.max_request_bytes:
            channel.hang_up(TOO_LARGE)
            return
        try:
            super().handleContentChunk(data)
        except OSError as error:
            _log.warn("a request's body could not be kept: {error}", error=str(error))
            channel.hang_up(unavailable("no space for the request, nothing was stored"))

    def getRequestHostname(self) -> bytes:
        # The Host field selects nothing here, so whatever it holds must not get into the routing.
        return b"mailproxy"

    def _handleStar(self) -> None:
        self.postpath = []
        self.render(cast(Any, self.site).resource)


class ApiChannel(HTTPChannel):
    """One connection. ``site`` and ``callLater`` are set by the site that builds it."""

    requestFactory = LimitedRequest
    site: ApiSite
    requests: list[LimitedRequest]

    #: Whether the last answer has been given and everything that comes in is thrown away.
    closing = False
    _command = _path = b""
    _deadline: IDelayedCall | None = None

    def connectionMade(self) -> None:
        super().connectionMade()
        self.site.opened(self)

    @property
    def idle(self) -> bool:
        """Whether no request is being answered, nor one's body read; an endless answer is none."""
        last = self.requests[-1] if self.requests else None
        return last is None or last.began is None or last.endless

    def dataReceived(self, data: bytes) -> None:
        if self.closing:
            return
        if self._deadline is None and not self._handlingRequest:
            self._expect(self.site.header_seconds)
        super().dataReceived(data)

    def lineReceived(self, line: bytes) -> None:
        if not self.closing:
            super().lineReceived(line)

    def rawDataReceived(self, data: bytes) -> None:
        if not self.closing:
            super().rawDataReceived(data)

    def lineLengthExceeded(self, line: bytes) -> None:
        self._respondToBadRequestAndDisconnect()

    def headerReceived(self, line: bytes) -> bool:
        try:
            return bool(super().headerReceived(line))
        except ValueError:
            # A Content-Length of thousands of digits.
            self._respondToBadRequestAndDisconnect()
            return False

    def allHeadersReceived(self) -> None:
        request = self.requests[-1]
        request.began = self.site.clock.seconds()
        if self.length != 0:
            refusal = self.site.refusal(request, self._command, self._path, self.length)
            if refusal is not None:
                self.hang_up(refusal)
                return
            most = self.site.max_request_bytes if self.length is None else self.length
            self._expect(self.site.header_seconds + most / SLOWEST)
        super().allHeadersReceived()

    def allContentReceived(self) -> None:
        if self.closing:
            return
        self._expect(None)
        super().allContentReceived()
        self._command = self._path = b""

    def hang_up(self, last: Answer) -> None:
        """Give the *last* answer of this connection, and close it."""
        if self.closing:
            return
        self.closing = True
        self._expect(None)
        cast(ITransport, self.transport).write(last.raw())
        self.site.hung_up(self._named(), last.status)
        self._deadline = self.callLater(LINGER, self._close)

    def _named(self) -> LimitedRequest | None:
        """The request that ends here, with what is known of it; None if there is none."""
        if not self.requests:
            return None
        request = self.requests[-1]
        request.method = self._command or b"-"
        request.uri = self._path or b"-"
        return request

    def retire(self) -> None:
        """Close the connection as soon as no request is under way on it."""
        self.persistent = 0
        if self.idle:
            self.loseConnection()

    def timeoutConnection(self) -> None:
        """Nothing came for the idle time; as Twisted's own, but not worth a line in the log."""
        self._abortingCall = self.callLater(self.abortTimeout, self.forceAbortClient)
        self.loseConnection()

    def abort(self) -> None:
        """Close the connection without another word."""
        cast(ITCPTransport, self.transport).abortConnection()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # no default
        self._expect(None)
        self.site.closed(self)
        super().connectionLost(reason)

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.hang_up(BAD_REQUEST)

    def _expect(self, seconds: float | None) -> None:
        """What comes next has to be complete in *seconds*; None: nothing is waited for."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if seconds is not None:
            self._deadline = self.callLater(seconds, self._late)

    def _late(self) -> None:
        self._deadline = None
        self.hang_up(TIMED_OUT)

    def _close(self) -> None:
        self._deadline = None
        self.persistent = 0
        self.loseConnection()
