"""A small SMTP server on a real socket, with TLS as a test wants it."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import SSL4ServerEndpoint, TCP4ServerEndpoint
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.ssl import CertificateOptions, PrivateCertificate
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure


class Peer(LineReceiver):
    """
    Takes everything; what it was told is in its factory's ``heard``, with *tls* or *clear*.

    :cvar injected: said in clear behind the answer to STARTTLS.
    """

    factory: PeerFactory
    transport: Any

    def connectionMade(self) -> None:
        self.factory.connections.append(self)
        self.secure = self.factory.implicit
        self._data = False
        self.sendLine(b"220 peer.test")

    def lineReceived(self, line: bytes) -> None:
        if self._data:
            if line == b".":
                self._data = False
                self.sendLine(b"250 queued")
            return
        self.factory.heard.append(("tls" if self.secure else "clear", line))
        verb = line[:4].upper()
        if verb == b"EHLO":
            self.sendLine(b"250-peer.test")
            self.sendLine(b"250-PIPELINING")
            if self.factory.starttls and not self.secure:
                self.sendLine(b"250-STARTTLS")
            self.sendLine(b"250 AUTH PLAIN LOGIN")
        elif verb == b"STAR":
            self._start_tls()
        elif verb == b"AUTH":
            self.sendLine(b"235 welcome")
        elif verb == b"DATA":
            self._data = True
            self.sendLine(b"354 go on")
        elif verb == b"QUIT":
            self.sendLine(b"221 bye")
            self.transport.loseConnection()
        else:
            self.sendLine(b"250 ok")

    def rawDataReceived(self, data: bytes) -> None:
        self.transport.write(b"this is not TLS at all\r\n")

    def _start_tls(self) -> None:
        factory = self.factory
        if factory.refuses:
            self.sendLine(b"454 4.7.0 not now")
            return
        self.transport.write(b"220 go\r\n" + factory.injected)
        if factory.garbles:
            self.setRawMode()
        elif not factory.injected:
            self.transport.startTLS(factory.options)
            self.secure = True

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.connections.remove(self)
        if self.factory.emptied is not None and not self.factory.connections:
            emptied, self.factory.emptied = self.factory.emptied, None
            emptied.callback(None)


class PeerFactory(Factory):
    """:ivar heard: (tls or clear, command) of all connections."""

    protocol: type[Peer] = Peer  # type: ignore[assignment]
    noisy = False

    def __init__(
        self,
        pem: bytes,
        *,
        starttls: bool = True,
        implicit: bool = False,
        refuses: bool = False,
        garbles: bool = False,
        injected: bytes = b"",
        **options: Any,
    ) -> None:
        self.starttls = starttls
        self.implicit = implicit
        self.refuses = refuses
        self.garbles = garbles
        self.injected = injected
        certificate = PrivateCertificate.loadPEM(pem)
        self.options = CertificateOptions(
            privateKey=certificate.privateKey.original,
            certificate=certificate.original,
            **options,
        )
        self.heard: list[tuple[str, bytes]] = []
        self.connections: list[Peer] = []
        self.emptied: Deferred[None] | None = None
        self.port: IListeningPort

    async def listen(self) -> int:
        """Listen on a free port of 127.0.0.1; returns its number."""
        endpoint = (
            SSL4ServerEndpoint(reactor, 0, self.options, interface="127.0.0.1")
            if self.implicit
            else TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        )
        self.port = await endpoint.listen(self)
        host: Any = self.port.getHost()
        return int(host.port)

    async def close(self) -> None:
        """Stop listening, and wait until nobody is connected any more."""
        stopped = self.port.stopListening()
        if stopped is not None:
            await stopped
        if self.connections:
            self.emptied = Deferred()
            for peer in tuple(self.connections):
                peer.transport.abortConnection()
            await self.emptied
