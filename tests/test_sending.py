"""Sending at once what the kernel takes."""

from __future__ import annotations

import random
import socket
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from mailproxy.sending import send

reactor: Any = installed


class Reader(Protocol):
    def __init__(self) -> None:
        self.got = bytearray()
        self.enough: tuple[int, Deferred[None]] | None = None
        self.lost: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.got += data
        if self.enough and len(self.got) >= self.enough[0]:
            self.enough[1].callback(None)
            self.enough = None

    def until(self, octets: int) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self.enough = (octets, done)
        if len(self.got) >= octets:
            self.enough = None
            done.callback(None)
        return done

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


class SendTests(TestCase):
    """Over real sockets."""

    timeout = 20

    async def connected(self) -> tuple[Any, Reader]:
        there = Reader()
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(
            Factory.forProtocol(lambda: there)
        )
        self.addCleanup(port.stopListening)
        here: Any = Reader()
        await TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port).connect(
            Factory.forProtocol(lambda: here)
        )
        self.addCleanup(lambda: there.lost)
        self.addCleanup(here.transport.abortConnection)
        self.here = here
        return here.transport, there

    async def test_at_once(self) -> None:
        """It is with the kernel when the call returns; the reactor has nothing left to do."""
        transport, there = await self.connected()
        asked: list[None] = []
        transport.startWriting = lambda: asked.append(None)
        send(transport, b"220 at once\r\n")
        self.assertEqual([], asked)
        await there.until(13)
        self.assertEqual(b"220 at once\r\n", bytes(there.got))

    async def test_order(self) -> None:
        """However it is cut, and whatever the kernel takes, it arrives in order."""
        transport, there = await self.connected()
        transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        rng, whole = random.Random(5), random.Random(6).randbytes(3_000_000)
        start = 0
        while start < len(whole):
            end = start + rng.choice([1, 100, 5_000, 400_000])
            write = transport.write if rng.random() < 0.3 else lambda data: send(transport, data)
            write(whole[start:end])
            start = end
        await there.until(len(whole))
        self.assertTrue(whole == bytes(there.got))

    async def test_more_than_the_kernel_takes(self) -> None:
        """What it does not take at once follows when it does."""
        transport, there = await self.connected()
        transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        whole = random.Random(7).randbytes(1_000_000)
        send(transport, whole)
        await there.until(len(whole))
        self.assertTrue(whole == bytes(there.got))

    async def test_goodbye(self) -> None:
        """What was sent before the connection is closed arrives before its end."""
        transport, there = await self.connected()
        send(transport, b"221 Bye\r\n")
        transport.loseConnection()
        await there.lost
        self.assertEqual(b"221 Bye\r\n", bytes(there.got))
        send(transport, b"to nobody")

    async def test_lost(self) -> None:
        """Nobody being there any more is told by the transport, not by the call."""
        transport, _ = await self.connected()
        lost = self.here.lost
        transport.socket.shutdown(socket.SHUT_WR)
        send(transport, b"to nobody")
        await lost


class OtherTransportTests(TestCase):
    def test_written(self) -> None:
        """What is not plain TCP is written to as ever."""
        transport = StringTransport()
        send(transport, b"one")
        send(transport, b"")
        self.assertEqual(b"one", transport.value())
