"""The way to hosts with usual and unusual names."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectingCancelledError, ConnectionRefusedError, DNSLookupError
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.hostnames import endpoint_of
from tests.names import NamedReactor
from tests.test_architecture import MODULES, ROOT


class EndpointTests(SynchronousTestCase):
    def connect(
        self, host: str, addresses: Sequence[str] | None
    ) -> tuple[NamedReactor, Deferred[IProtocol]]:
        reactor = NamedReactor(addresses)
        return reactor, endpoint_of(reactor, host, 25, 10.0).connect(Factory.forProtocol(Protocol))

    def refuse(self, reactor: NamedReactor, index: int) -> None:
        factory = reactor.tcpClients[index][2]
        factory.clientConnectionFailed(reactor.connectors[index], Failure(ConnectionRefusedError()))

    def test_any_name_the_resolver_knows(self) -> None:
        """A name with underscores, as in container networks, is asked for like any other."""
        for host in ("relay_1", "my_app.internal", "smtp.example.com", "-odd-", "a..b"):
            reactor, connected = self.connect(host, ["192.0.2.7"])
            reactor.advance(0.0)
            self.assertEqual([host.encode()], [name.encode() for name in reactor.asked], host)
            address, port, factory, *_ = reactor.tcpClients[0]
            self.assertEqual(("192.0.2.7", 25), (address, port), host)
            protocol: Any = factory.buildProtocol(IPv4Address("TCP", address, port))
            protocol.makeConnection(StringTransport())
            self.assertIsInstance(self.successResultOf(connected), Protocol, host)

    def test_addresses(self) -> None:
        """An IP address is a name like another to the resolver; IPv6 may come in brackets."""
        for host in ("192.0.2.7", "2001:db8::7", "[2001:db8::7]"):
            address = host.strip("[]")
            reactor, _ = self.connect(host, [address])
            reactor.advance(0.0)
            self.assertEqual([address], reactor.asked)
            self.assertEqual([address], [client[0] for client in reactor.tcpClients])

    def test_the_next_address(self) -> None:
        """Where an address refuses, the next is tried; the last refusal is the answer."""
        reactor, connected = self.connect("relay_1", ["2001:db8::7", "192.0.2.7"])
        self.refuse(reactor, 0)
        self.assertNoResult(connected)
        self.refuse(reactor, 1)
        self.failureResultOf(connected, ConnectionRefusedError)

    def test_unknown(self) -> None:
        """A name without addresses cannot be resolved."""
        _, connected = self.connect("relay_1", [])
        self.assertIn("relay_1", str(self.failureResultOf(connected, DNSLookupError).value))

    def test_given_up(self) -> None:
        """Giving up ends it at once, while resolving and while connecting; nothing is tried on."""
        _, connected = self.connect("relay_1", None)
        connected.cancel()
        self.failureResultOf(connected, CancelledError)

        reactor, connected = self.connect("relay_1", ["192.0.2.7", "192.0.2.8"])
        connected.cancel()
        self.failureResultOf(connected, ConnectingCancelledError)
        self.assertEqual(1, len(reactor.tcpClients))


class ResolverTests(SynchronousTestCase):
    def test_names_are_resolved_by_the_system(self) -> None:
        """S12: the reactor asks getaddrinfo, in a bounded number of threads; the whole service
        runs without Twisted's own resolver."""
        program = (
            "import sys, mailproxy.service, mailproxy.proving.command\n"
            "from twisted.internet import reactor\n"
            "print(sorted(n for n in sys.modules if n.startswith('twisted.names')),"
            " type(reactor.nameResolver).__name__, reactor.getThreadPool().max)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=ROOT
        )
        self.assertEqual("[] GAIResolver 10\n", done.stdout, done.stderr)

    def test_no_module_resolves_otherwise(self) -> None:
        """S12: nothing of ours imports Twisted's own resolver, at any time."""
        for module in MODULES.values():
            for name, line in module.imports():
                self.assertFalse(name.startswith("twisted.names"), f"{module.name}:{line}")
