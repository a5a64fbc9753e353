"""
The site: connections, limits, deadlines and the access log of the API.

It knows nothing of endpoints; whatever resource it is given answers the requests.
"""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.logger import Logger
from twisted.web.resource import IResource
from twisted.web.server import Site

from mailproxy.api.admission import Admission
from mailproxy.api.answers import TOO_LARGE, Answer, Refused
from mailproxy.api.auth import NO_ADDRESS, NOT_READ_YET, Proxies
from mailproxy.api.call import SMALL_BYTES
from mailproxy.api.channel import ApiChannel, LimitedRequest, content_file
from mailproxy.interfaces import IClock
from mailproxy.metrics import Metrics

_log = Logger()


@attrs.frozen
class SiteLimits:
    """
    What one client may ask of the HTTP server.

    :param max_request_bytes: the largest body.
    :param header_seconds: for all of a request's header, from its first byte.
    :param idle_seconds: a connection may wait for its next request.
    :param max_connections: open at once; beyond, the one that has been idle longest is closed.
    """

    max_request_bytes: int = 64 * 1024 * 1024
    header_seconds: float = 20.0
    idle_seconds: float = 60.0
    max_connections: int = 1000


class ApiSite(Site):
    """
    :param clock: runs every deadline.
    """

    protocol = ApiChannel  # type: ignore[assignment]  # without the switch to HTTP/2
    requestFactory = LimitedRequest
    noisy = False

    def __init__(
        self,
        resource: IResource,
        admission: Admission,
        limits: SiteLimits,
        proxies: Proxies,
        metrics: Metrics,
        clock: IClock,
    ) -> None:
        super().__init__(
            resource, parsePOSTFormSubmission=False, timeout=limits.idle_seconds, reactor=clock
        )
        self.clock = clock
        self.max_request_bytes = limits.max_request_bytes
        self.header_seconds = limits.header_seconds
        self._admission = admission
        self._proxies = proxies
        self._metrics = metrics
        self._max_connections = limits.max_connections
        self._open: dict[ApiChannel, None] = {}
        self._done: Deferred[None] | None = None

    getContentFile = staticmethod(content_file)

    def startFactory(self) -> None:
        """Nothing: the access log is the program's own."""

    def stopFactory(self) -> None:
        """Nothing."""

    def acceptableProtocols(self) -> list[bytes]:
        return [b"http/1.1"]

    def refusal(
        self, request: LimitedRequest, method: bytes, target: bytes, length: int | None
    ) -> Answer | None:
        """Why a body of *length* (None: not announced) is not read; None if it is."""
        peer = getattr(request.client, "host", NO_ADDRESS)
        try:
            caller = self._admission.admit(method, target, request.requestHeaders, peer)
        except Refused as refused:
            return refused.answer
        if length is not None and length > self.max_request_bytes:
            return TOO_LARGE
        if caller.unjudged is not None and (length is None or length > SMALL_BYTES):
            return NOT_READ_YET
        return None

    async def finish(self, seconds: float) -> None:
        """
        End every connection once its request is answered; to be called when nobody listens.

        :param seconds: after so long, what is not answered is cut off.
        """
        for channel in list(self._open):
            channel.retire()
        if not self._open:
            return
        self._done = Deferred()
        timer = self.clock.callLater(seconds, self._cut)
        await self._done
        if timer.active():
            timer.cancel()

    def _cut(self) -> None:
        for channel in list(self._open):
            channel.abort()

    def opened(self, channel: ApiChannel) -> None:
        """A connection was made; make room for it if need be."""
        self._open[channel] = None
        if len(self._open) > self._max_connections:
            _log.warn("{count} connections are open; one is closed", count=len(self._open))
            next(one for one in self._open if one.idle).abort()  # at the worst the new one

    def closed(self, channel: ApiChannel) -> None:
        self._open.pop(channel, None)
        if self._done is not None and not self._open and not self._done.called:
            self._done.callback(None)

    def log(self, request: LimitedRequest) -> None:  # type: ignore[override]  # our requests
        """A request has been answered."""
        self._account(request, request.code, request.sentLength)
        channel = request.channel
        if channel in self._open:  # the most recently used come last
            del self._open[channel]
            self._open[channel] = None

    def hung_up(self, request: LimitedRequest | None, status: int) -> None:
        """A request was refused before it was complete."""
        if request is not None:
            self._account(request, status, 0)

    def _account(self, request: LimitedRequest, status: int, sent: int) -> None:
        now = self.clock.seconds()
        seconds = 0.0 if request.began is None else now - request.began
        self._metrics.http_requests.labels(request.route, str(status)).inc()
        if not request.endless:
            self._metrics.http_seconds.observe(seconds)
        _log.debug(
            "{client} {method} {path} {status} {sent} bytes {seconds:.4f} s",
            client=self._client(request),
            method=_printable(request.method),
            path=_printable((request.uri or b"").partition(b"?")[0]),
            status=status,
            sent=sent,
            seconds=seconds,
        )

    def _client(self, request: LimitedRequest) -> str:
        peer: IAddress = request.client
        return self._proxies.client(getattr(peer, "host", NO_ADDRESS), request.requestHeaders)


def _printable(value: bytes) -> str:
    return value.decode("ascii", "backslashreplace")
