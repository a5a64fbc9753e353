"""
A network in memory: connections with delays of their own, that break, fall silent or are refused.

Bytes arrive in order, in pieces, or not at all. A process is killed by dropping it: what it had
written may still arrive, and its connections end, or are never heard of again.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import (
    CannotListenError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    TimeoutError,
)
from twisted.internet.interfaces import (
    IConnector,
    IHostnameResolver,
    IHostResolution,
    IListeningPort,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
    IResolutionReceiver,
    ITCPTransport,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.simulation.timeline import Owner, Timeline, Timer

#: Bytes of one direction of a connection, and no more; None: all.
Limit = int | None


@attrs.define
class Weather:
    """
    What becomes of one connection.

    :param delay: seconds for a byte to arrive.
    :param refused: nobody listens; *lost*: nobody answers.
    :param cut: bytes (to the server, to the client) after which the connection breaks.
    :param mute: the same, after which nothing arrives any more and nobody is told.
    :param torn: whether what is written arrives in pieces.
    """

    delay: float = 0.001
    refused: bool = False
    lost: bool = False
    cut: tuple[Limit, Limit] = (None, None)
    mute: tuple[Limit, Limit] = (None, None)
    torn: bool = False


@implementer(ITCPTransport)
class End:
    """One end of a connection."""

    disconnecting = False
    disconnected = False
    connected = 1
    producer: Any = None
    streamingProducer = True

    def __init__(
        self, net: Network, owner: Owner, here: IPv4Address, there: IPv4Address, link: Link
    ) -> None:
        self._net = net
        self.owner = owner
        self._here = here
        self._there = there
        self.link = link
        self.protocol: Any = None
        self.other: End
        self.limits: tuple[Limit, Limit] = (None, None)
        self.written = 0
        self._arrives = 0.0
        self.muted = False

    def __repr__(self) -> str:
        return f"<{self.owner.name} {self._here.port}-{self._there.host}:{self._there.port}>"

    # -- writing ----------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if self.disconnected or self.disconnecting or not data:
            return
        self._net.tell(self, data)
        cut, mute = self.limits
        before, self.written = self.written, self.written + len(data)
        if cut is not None and self.written > cut:
            self._send(data[: max(0, cut - before)])
            self.limits = (None, 0)
            self.link.breaks()
            return
        if mute is not None and self.written > mute:
            self._send(data[: max(0, mute - before)])
            self.muted = True
            return
        self._send(data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def _send(self, data: bytes) -> None:
        if not data or self.muted:
            return
        net, other = self._net, self.other
        if self.link.weather.torn and len(data) > 1:
            middle = net.rng.randrange(1, len(data))
            self._post(other.receive, data[:middle], net.line.now)
            data = data[middle:]
        self._post(other.receive, data, net.line.now)

    def _post(self, function: Callable[..., Any], *args: Any) -> None:
        """Have something happen at the other end, after all that was sent before."""
        line = self._net.line
        when = max(self._arrives, line.now + self.link.weather.delay)
        self._arrives = when
        line.later(self.other.owner, when - line.now, function, *args)

    def receive(self, data: bytes, sent_at: float) -> None:
        if self.disconnected or self.disconnecting:
            return
        heard = getattr(self.protocol, "heard", None)
        if heard is not None:
            heard(data, sent_at)
        else:
            self.protocol.dataReceived(data)

    # -- ending -----------------------------------------------------------------------------

    def loseConnection(self, *_: Any) -> None:
        if self.disconnecting or self.disconnected:
            return
        self.disconnecting = True
        if not self.muted:
            self._post(self.other.gone, ConnectionDone())
        self._net.line.later(self.owner, 0.0, self.gone, ConnectionDone())

    def abortConnection(self) -> None:
        if self.disconnected:
            return
        self.disconnecting = True
        if not self.muted:
            self._post(self.other.gone, ConnectionLost())
        self._net.line.later(self.owner, 0.0, self.gone, ConnectionAborted())

    def loseWriteConnection(self) -> None:
        raise NotImplementedError

    def gone(self, why: Exception) -> None:
        if self.disconnected:
            return
        self.disconnected, self.connected = True, 0
        self.link.ended(self)
        if self.protocol is not None:
            self.protocol.connectionLost(Failure(why))

    # -- the rest of a transport ------------------------------------------------------------

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert self.producer is None
        self.producer = producer
        if not streaming:
            self._net.line.later(self.owner, 0.0, self._pull)

    def _pull(self) -> None:
        if self.producer is not None and not self.disconnected:
            self.producer.resumeProducing()
            self._net.line.later(self.owner, 0.0, self._pull)

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        """What arrives is little: it is taken all the same."""

    resumeProducing = stopProducing = pauseProducing

    def getPeer(self) -> IPv4Address:
        return self._there

    def getHost(self) -> IPv4Address:
        return self._here

    def getTcpNoDelay(self) -> bool:
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing waits for more here."""

    def getTcpKeepAlive(self) -> bool:
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Nobody asks."""


class Link:
    """One connection, from both sides."""

    def __init__(self, net: Network, weather: Weather) -> None:
        self._net = net
        self.weather = weather
        self.ends: list[End] = []

    def breaks(self) -> None:
        """Both sides learn, after what was sent before, that it broke."""
        for end in self.ends:
            if not end.disconnected:
                end.other._post(end.gone, ConnectionLost())

    def ended(self, end: End) -> None:
        self._net.open.pop(end, None)


@implementer(IConnector)
class _Connector:
    """An attempt to connect."""

    def __init__(self, net: Network, owner: Owner, to: IPv4Address, factory: Any) -> None:
        self._net = net
        self._owner = owner
        self._to = to
        self.factory = factory
        self.timer: Timer | None = None
        self.end: End | None = None

    def getDestination(self) -> IPv4Address:
        return self._to

    def connect(self) -> None:
        raise NotImplementedError

    def stopConnecting(self) -> None:
        if self.timer is not None and self.timer.active():
            self.timer.cancel()

    def disconnect(self) -> None:
        if self.end is not None:
            self.end.loseConnection()
        else:
            self.stopConnecting()

    def fail(self, error: Exception) -> None:
        self.factory.clientConnectionFailed(self, Failure(error))
        self.factory.doStop()

    def establish(self, listener: Listener, weather: Weather) -> None:
        if not listener.owner.alive or not listener.listening:
            self.fail(ConnectionRefusedError())
            return
        net = self._net
        here = net.address_of(self._owner)
        link = Link(net, weather)
        mine = End(net, self._owner, here, self._to, link)
        theirs = End(net, listener.owner, self._to, here, link)
        mine.other, theirs.other = theirs, mine
        link.ends = [mine, theirs]
        mine.limits = (weather.cut[0], weather.mute[0])
        theirs.limits = (weather.cut[1], weather.mute[1])
        self.end = mine
        net.open[mine] = net.open[theirs] = None
        mine.protocol = self.factory.buildProtocol(self._to)
        if mine.protocol is None:
            mine.protocol = _Nobody()
            mine.loseConnection()
            return
        net.line.later(listener.owner, weather.delay, listener.accept, theirs)
        mine.protocol.makeConnection(mine)


class _Nobody:
    """At the end of a connection that nobody wants."""

    def dataReceived(self, data: bytes) -> None: ...

    def connectionLost(self, reason: Failure) -> None: ...


@implementer(IListeningPort)
class Listener:
    """A port somebody listens on."""

    def __init__(self, net: Network, owner: Owner, address: IPv4Address, factory: Any) -> None:
        self._net = net
        self.owner = owner
        self.address = address
        self.factory = factory
        self.listening = True

    def startListening(self) -> None:
        """It does."""

    def stopListening(self) -> Deferred[None]:
        self.listening = False
        self._net.listeners.pop(self.address.port, None)
        self.factory.doStop()
        return succeed(None)

    def getHost(self) -> IPv4Address:
        return self.address

    def accept(self, end: End) -> None:
        if end.disconnected:
            return
        end.protocol = self.factory.buildProtocol(end.getPeer()) if self.listening else None
        if end.protocol is None:
            end.protocol = _Nobody()
            end.abortConnection()
            return
        end.protocol.makeConnection(end)


class Network:
    """
    Everybody listens on a port of their own, whatever the address.

    :param forecast: what becomes of a new connection to a port.
    :param rng: where torn data is torn.

    :ivar names: addresses by name; what is not there is not known.
    :ivar open: ends of connections that are not closed.
    """

    def __init__(
        self, line: Timeline, rng: random.Random, forecast: Callable[[int], Weather]
    ) -> None:
        self.line = line
        self.rng = rng
        self._forecast = forecast
        self.listeners: dict[int, Listener] = {}
        self.names: dict[str, str] = {}
        self.open: dict[End, None] = {}
        self._ports = 40_000
        #: Told of everything that is written.
        self.tell: Callable[[End, bytes], None] = lambda end, data: None

    def address_of(self, owner: Owner) -> IPv4Address:
        self._ports += 1
        return IPv4Address("TCP", "10.0.0.9", self._ports)

    def listen(self, owner: Owner, port: int, factory: Any) -> Listener:
        if port in self.listeners:
            raise CannotListenError("", port, OSError("Address already in use"))
        factory.doStart()
        address = IPv4Address("TCP", "10.0.0.1", port)
        listener = self.listeners[port] = Listener(self, owner, address, factory)
        return listener

    def connect(
        self, owner: Owner, host: str, port: int, factory: Any, timeout: float
    ) -> IConnector:
        factory.doStart()
        connector = _Connector(self, owner, IPv4Address("TCP", host, port), factory)
        factory.startedConnecting(connector)
        weather, listener = self._forecast(port), self.listeners.get(port)
        if weather.lost:
            connector.timer = self.line.later(owner, timeout, connector.fail, TimeoutError())
        elif weather.refused or listener is None:
            connector.timer = self.line.later(
                owner, 2 * weather.delay, connector.fail, ConnectionRefusedError()
            )
        else:
            connector.timer = self.line.later(
                owner, 2 * weather.delay, connector.establish, listener, weather
            )
        return connector

    def lookup(self, name: str, *_: Any, **__: Any) -> Sequence[Any]:
        """As ``socket.getaddrinfo``."""
        found = self.names.get(name)
        if found is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (found, 0))]

    def forget(self, owner: Owner, *, silently: bool) -> None:
        """The process is gone; unless *silently*, its peers' kernels are told so."""
        for end in [each for each in self.open if each.owner is owner]:
            self.open.pop(end)
            end.disconnected = True
            end.muted = silently
            if not silently:
                end._post(end.other.gone, ConnectionLost())
        for port in [port for port, each in self.listeners.items() if each.owner is owner]:
            del self.listeners[port]


@implementer(IReactorTime, IReactorTCP, IReactorPluggableNameResolver)
class Reactor:
    """What one process has of the world: its timers, its connections, its names."""

    def __init__(self, line: Timeline, net: Network, owner: Owner) -> None:
        self._line = line
        self._net = net
        self.owner = owner
        self.nameResolver = _Resolver(self, net)
        #: What the machine does when the program wants to end.
        self.give_up: Callable[[], None] = lambda: None

    def seconds(self) -> float:
        return self._line.now

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Timer:
        return self._line.later(self.owner, delay, callable, *args, **kwargs)

    def getDelayedCalls(self) -> Sequence[Timer]:
        return tuple(self.owner.calls)

    def callFromThread(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self.callLater(0.0, function, *args, **kwargs)

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30.0, bindAddress: Any = None
    ) -> IConnector:
        return self._net.connect(self.owner, host, port, factory, timeout)

    def listenTCP(
        self, port: int, factory: Any, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        return self._net.listen(self.owner, port, factory)

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        raise NotImplementedError

    def stop(self) -> None:
        self.callLater(0.0, self.give_up)


@implementer(IHostnameResolver)
class _Resolver:
    """The reactor's own resolver."""

    def __init__(self, reactor: Reactor, net: Network) -> None:
        self._reactor = reactor
        self._net = net

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Any = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        resolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)

        def over() -> None:
            found = self._net.names.get(hostName)
            if found is not None:
                resolutionReceiver.addressResolved(IPv4Address("TCP", found, portNumber))
            resolutionReceiver.resolutionComplete()

        self._reactor.callLater(0.001, over)
        return resolution


@implementer(IHostResolution)
@attrs.frozen
class _Resolution:
    name: str

    def cancel(self) -> None:
        raise NotImplementedError
