"""
One connection for one report, with an end that is certain.

A connection is never kept for the next call: a POST on a connection the server is about to close
has no answer and cannot be repeated by the client library. Whatever the peer does, a connection
ends: cancelling a call aborts it, what it receives is bounded, and a close that the peer does not
answer is followed by an abort.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography import x509
from OpenSSL.crypto import X509
from OpenSSL.SSL import Context
from twisted.internet._sslverify import IOpenSSLTrustRoot
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.ssl import platformTrust
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.components import proxyForInterface
from twisted.python.failure import Failure
from twisted.web.client import (
    URI,
    Agent,
    BrowserLikePolicyForHTTPS,
    HostnameCachingHTTPSPolicy,
    HTTPConnectionPool,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import (
    IAgent,
    IAgentEndpointFactory,
    IBodyProducer,
    IPolicyForHTTPS,
    IResponse,
)
from zope.interface import implementer

from mailproxy.errors import ConfigurationError
from mailproxy.hostnames import endpoint_of

#: Seconds until a connection must stand.
CONNECT = 10.0

#: Seconds a peer has to answer our close.
LINGER = 5.0

#: Bytes of one whole answer, headers included, before its connection is aborted.
MOST_RECEIVED = 2 * 1024 * 1024


def make_agent(
    reactor: Any,
    ca_file: str | None = None,
    *,
    connect_timeout: float = CONNECT,
    linger: float = LINGER,
) -> IAgent:
    """
    An agent for :class:`mailproxy.report.http.HttpSink`; one serves any number of sinks.

    Certificates are verified against the platform's roots and those of *ca_file*.

    :param reactor: the reactor.
    :param ca_file: path of a PEM file with further roots; read once, now.
    :param connect_timeout: seconds until a connection must stand.
    :param linger: seconds a peer has to answer our close.
    :raises ConfigurationError: *ca_file* cannot be read or holds no certificate.
    """
    trust = _Roots(_read_roots(ca_file) if ca_file else [])
    # Without the cache, the platform's roots are read again for every connection.
    policy = HostnameCachingHTTPSPolicy(BrowserLikePolicyForHTTPS(trustRoot=trust), cacheSize=1000)
    return ReportAgent(reactor, policy, connect_timeout, linger)


@implementer(IAgent)
class ReportAgent:
    """
    :param reactor: connects and keeps time.
    :param policy: makes the TLS context for a host.
    :param connect_timeout: seconds until a connection must stand.
    :param linger: seconds a peer has to answer our close.
    """

    def __init__(
        self, reactor: Any, policy: IPolicyForHTTPS, connect_timeout: float, linger: float
    ) -> None:
        self.reactor = reactor
        self.linger = linger
        self._policy = policy
        self._connect_timeout = connect_timeout

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """Cancelling the Deferred, or aborting the body's transport, aborts the connection."""
        route = _Route(self)
        pool = HTTPConnectionPool(self.reactor, persistent=False)
        agent = Agent.usingEndpointFactory(self.reactor, route, pool)
        response: Deferred[IResponse] = agent.request(method, uri, headers, bodyProducer)
        response.addCallback(_AbortableResponse, route)
        return response

    def endpoint(self, uri: URI) -> IStreamClientEndpoint:
        """Where *uri* is reached."""
        host = uri.host.decode("ascii")
        plain = endpoint_of(self.reactor, host, uri.port, self._connect_timeout)
        if uri.scheme != b"https":
            return plain
        return wrapClientTLS(self._policy.creatorForNetloc(uri.host, uri.port), plain)


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
class _Route:
    """The way of one request: finds the endpoint, and keeps the connection it made."""

    line: _Line | None = None
    _endpoint: IStreamClientEndpoint

    def __init__(self, agent: ReportAgent) -> None:
        self._agent = agent

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        self._endpoint = self._agent.endpoint(uri)
        return self

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        connected = self._endpoint.connect(_Lines(self._agent, protocolFactory))
        return connected.addCallback(self._connected)

    def _connected(self, line: Any) -> IProtocol:
        self.line = line
        inner: IProtocol = line.wrappedProtocol
        return inner


class _Line(ProtocolWrapper):
    """One connection: counts what it receives, and does not wait for ever to be closed."""

    factory: _Lines
    received = 0
    _linger: IDelayedCall | None = None

    def dataReceived(self, data: bytes) -> None:
        self.received += len(data)
        if self.received > MOST_RECEIVED:
            self.abort()
        else:
            super().dataReceived(data)

    def loseConnection(self) -> None:
        if self._linger is None and self.connected:
            agent = self.factory.agent
            self._linger = agent.reactor.callLater(agent.linger, self.abort)
        super().loseConnection()

    def abort(self) -> None:
        if self.connected and self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]  # TCP and TLS have it

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # no default
        self.connected = 0
        if self._linger is not None and self._linger.active():
            self._linger.cancel()
        super().connectionLost(reason)


class _Lines(WrappingFactory):
    protocol = _Line
    noisy = False

    def __init__(self, agent: ReportAgent, wrapped: Any) -> None:
        super().__init__(wrapped)
        wrapped.noisy = False  # a factory for each call is nothing to log
        self.agent = agent


class _AbortableResponse(proxyForInterface(IResponse)):  # type: ignore[misc]  # made at run time
    """A response whose body's transport can abort, as that of any other connection can."""

    def __init__(self, original: IResponse, route: _Route) -> None:
        super().__init__(original)
        self._route = route

    def deliverBody(self, protocol: IProtocol) -> None:
        self.original.deliverBody(_Body(protocol, self._route))


@implementer(IProtocol)
class _Body:
    """Passes a body on; its transport is this object, which can pause, resume and abort."""

    def __init__(self, protocol: IProtocol, route: _Route) -> None:
        self._protocol = protocol
        self._route = route

    def makeConnection(self, transport: Any) -> None:
        self._transport = transport
        self._protocol.makeConnection(self)  # type: ignore[arg-type]  # a transport to it

    def dataReceived(self, data: bytes) -> None:
        self._protocol.dataReceived(data)

    def connectionLost(self, reason: Failure) -> None:
        self._protocol.connectionLost(reason)

    def abortConnection(self) -> None:
        if self._route.line is not None:
            self._route.line.abort()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


@implementer(IOpenSSLTrustRoot)
class _Roots:
    """The platform's roots and some more."""

    def __init__(self, more: list[X509]) -> None:
        self._more = more

    def _addCACertsToContext(self, context: Context) -> None:
        platformTrust()._addCACertsToContext(context)
        store = context.get_cert_store()
        if store is not None:
            for root in self._more:
                store.add_cert(root)


def _read_roots(ca_file: str) -> list[X509]:
    try:
        found = x509.load_pem_x509_certificates(Path(ca_file).read_bytes())
    except OSError as error:
        raise ConfigurationError("GMP_CA_FILE", f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError("GMP_CA_FILE", "holds no PEM certificates") from error
    return [X509.from_cryptography(each) for each in found]
