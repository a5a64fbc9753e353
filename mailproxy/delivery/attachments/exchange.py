"""
One HTTP request on a connection of its own, to an address that was judged.

The name is resolved here, every address that it has is judged, and the connection goes to one of
these and to no other: nothing is asked of the resolver a second time. The answer's body goes to a
spool as it comes, as it is: what is compressed is not unpacked. Whatever the peer does, the
connection has ended when the exchange has.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectingCancelledError, ConnectionDone, DNSLookupError
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, FileBodyProducer, HTTPConnectionPool, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IResponse
from zope.interface import implementer

from mailproxy.delivery.attachments.guard import Guard
from mailproxy.delivery.attachments.names import Resolve
from mailproxy.delivery.attachments.source import Spool, Trouble
from mailproxy.delivery.reasons import reason
from mailproxy.delivery.tls import TlsClient, TlsClients
from mailproxy.urls import Url

#: Seconds until a connection must stand, for each address that is tried.
CONNECT = 10.0

#: Seconds of silence after which a peer has gone.
SILENCE = 60.0

#: Bytes that an answer may have beside its body: its head, the sizes of chunks.
OVERHEAD = 256 * 1024

#: Addresses of a name that are tried.
MOST_ADDRESSES = 4


@attrs.frozen
class Request:
    """
    :param guard: judges the addresses; None: this place was named by the operator.
    :param body: of a POST; None makes it a GET.
    :param refusals: whether the body of a 4xx or 5xx answer goes to the spool as well.
    """

    url: Url
    headers: dict[bytes, bytes] = attrs.field(repr=False)
    guard: Guard | None
    body: bytes | None = attrs.field(default=None, repr=False)
    refusals: bool = False


@attrs.frozen
class Answer:
    """
    :param location: of a redirect; "" for none.
    :param kind: the media type, in lower case without parameters; "" for none.
    """

    status: int
    location: str = ""
    kind: str = ""


class Exchanges:
    """
    :param reactor: connects and keeps time.
    :param resolve: finds the addresses of a host.
    :param tls: whom to trust.
    :param connect: seconds until a connection must stand.
    :param silence: seconds without a byte after which a peer has gone.
    """

    def __init__(
        self,
        reactor: Any,
        resolve: Resolve,
        tls: TlsClients,
        *,
        connect: float = CONNECT,
        silence: float = SILENCE,
    ) -> None:
        self.reactor = reactor
        self.resolve = resolve
        self.tls = tls
        self.connect = connect
        self.silence = silence

    async def run(self, request: Request, spool: Spool) -> Answer:
        """
        Make *request*; the body of a 2xx answer goes to *spool*.

        :raises Trouble: there was no whole answer, or it is too large.
        """
        return await _Exchange(self, request, spool).run()


class _Exchange:
    """One request, its connection, and its end."""

    def __init__(self, means: Exchanges, request: Request, spool: Spool) -> None:
        self._means = means
        self._request = request
        self._spool = spool
        self._route = _Route(means, request, spool.limit + OVERHEAD, self._heard)
        self._timer: IDelayedCall | None = None
        self._waiting: Deferred[Any] | None = None
        self._silent = False

    async def run(self) -> Answer:
        try:
            response = await self._wait(self._send())
            return await self._receive(response)
        except Trouble:
            raise
        except Exception as error:
            if isinstance(error, CancelledError) and not self._silent:
                raise
            raise self._trouble(error) from None
        finally:
            if self._timer is not None and self._timer.active():
                self._timer.cancel()
            self._route.abort()

    def _send(self) -> Deferred[IResponse]:
        request = self._request
        pool = HTTPConnectionPool(self._means.reactor, persistent=False)
        agent = Agent.usingEndpointFactory(self._means.reactor, self._route, pool)
        headers = Headers({name: [value] for name, value in request.headers.items()})
        method, producer = b"GET", None
        if request.body is not None:
            method, producer = b"POST", _producer(request.body)
        target = str(request.url).encode("ascii")
        sent: Deferred[IResponse] = agent.request(method, target, headers, producer)
        return sent

    async def _receive(self, response: IResponse) -> Answer:
        kind = _field(response, b"content-type").partition(";")[0].strip().lower()
        answer = Answer(response.code, _field(response, b"location"), kind)
        refused = self._request.refusals and response.code >= 400
        if not 200 <= response.code < 300 and not refused:
            return answer
        if _field(response, b"content-encoding").strip().lower() not in ("", "identity"):
            raise Trouble("the answer is encoded, though it was asked not to be", transient=True)
        if isinstance(response.length, int):
            self._spool.expect(response.length)
        done: Deferred[None] = Deferred()
        response.deliverBody(_Body(self._spool, self._route, done))
        await self._wait(done)
        return answer

    async def _wait(self, deferred: Deferred[Any]) -> Any:
        self._waiting = deferred
        self._heard()
        return await deferred

    def _heard(self) -> None:
        """The peer is there."""
        if self._timer is not None and self._timer.active():
            self._timer.reset(self._means.silence)
        elif not self._silent:
            self._timer = self._means.reactor.callLater(self._means.silence, self._gone)

    def _gone(self) -> None:
        self._silent = True
        if self._waiting is not None:
            self._waiting.cancel()

    def _trouble(self, error: Exception) -> Trouble:
        """What went wrong, as the application is told it."""
        if self._silent:
            text = f"no answer for {self._means.silence:g} s"
            return Trouble(text, transient=True, down=True)
        if self._route.trouble is not None:
            return self._route.trouble
        if self._route.tls is not None and self._route.tls.problem:
            return Trouble(self._route.tls.problem, transient=True)
        if isinstance(error, DNSLookupError):
            return Trouble("the host's name was not found", transient=True, down=True)
        if not self._route.connected:
            return Trouble(reason(Failure(error)), transient=True, down=True)
        return Trouble("the connection was lost, or what came is not HTTP", transient=True)


def _producer(body: bytes) -> Any:
    return FileBodyProducer(BytesIO(body))


def _field(response: IResponse, name: bytes) -> str:
    values = response.headers.getRawHeaders(name)
    return values[-1].decode("latin-1") if values else ""


class _Body(Protocol):
    """Takes a body in."""

    def __init__(self, spool: Spool, route: _Route, done: Deferred[None]) -> None:
        self._spool = spool
        self._route = route
        self._done = done

    def dataReceived(self, data: bytes) -> None:
        if self._done.called:
            return
        try:
            self._spool.write(data)
        except Trouble as trouble:
            self._done.errback(trouble)
            self._route.abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._done.called:
            return
        if reason.check(ResponseDone) or (reason.check(PotentialDataLoss) and self._route.closed):
            self._done.callback(None)
        else:
            self._done.errback(Trouble("the answer broke off", transient=True))


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
class _Route:
    """The way of one request: finds the address, and keeps the connection it made."""

    def __init__(self, means: Exchanges, request: Request, most: int, heard: Any) -> None:
        self._means = means
        self._request = request
        self.most = most
        self.heard = heard
        self.line: _Line | None = None
        self.connected = False
        #: Whether the peer ended the connection in order.
        self.closed = False
        self.trouble: Trouble | None = None
        self.tls: TlsClient | None = None

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        return self

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return Deferred.fromCoroutine(self._connect(_Lines(self, protocolFactory)))

    async def _connect(self, factory: _Lines) -> IProtocol:
        url, problem = self._request.url, None
        for address in await self._addresses():
            try:
                line: Any = await self._endpoint(address, url).connect(factory)
            except (CancelledError, ConnectingCancelledError):
                raise  # whoever asked does not want another address tried either
            except Exception as error:
                problem = error
                continue
            inner: IProtocol = line.wrappedProtocol
            return inner
        raise problem or DNSLookupError(url.bare_host)

    async def _addresses(self) -> Sequence[str]:
        """:raises Trouble: the name has an address that must not be called."""
        url, guard = self._request.url, self._request.guard
        addresses = await self._means.resolve(url.bare_host, url.port)
        if guard is not None:
            for address in addresses:
                if not guard.allows(url.bare_host, address):
                    self.trouble = Trouble(
                        "its host is at an address that is not allowed", transient=False
                    )
                    raise self.trouble
        return addresses[:MOST_ADDRESSES]

    def _endpoint(self, address: str, url: Url) -> IStreamClientEndpoint:
        kind = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
        endpoint: IStreamClientEndpoint = kind(
            self._means.reactor, address, url.port, timeout=self._means.connect
        )
        if url.scheme == "https":
            self.tls = self._means.tls.verified(url.bare_host)
            endpoint = wrapClientTLS(self.tls, endpoint)
        return endpoint

    def abort(self) -> None:
        if self.line is not None:
            self.line.abort()


class _Line(ProtocolWrapper):
    """The connection: it counts what it receives."""

    factory: _Lines
    received = 0

    def connectionMade(self) -> None:
        route = self.factory.route
        route.line = self
        route.connected = True
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        route = self.factory.route
        self.received += len(data)
        if self.received > route.most:
            route.trouble = Trouble("the answer is too large", transient=False)
            self.abort()
            return
        route.heard()
        super().dataReceived(data)

    def abort(self) -> None:
        if self.connected and self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]  # TCP and TLS have it

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # no default
        self.connected = 0
        self.factory.route.closed = reason.check(ConnectionDone) is not None
        super().connectionLost(reason)


class _Lines(WrappingFactory):
    protocol = _Line
    noisy = False

    def __init__(self, route: _Route, wrapped: Any) -> None:
        super().__init__(wrapped)
        wrapped.noisy = False  # a factory for each call is nothing to log
        self.route = route
