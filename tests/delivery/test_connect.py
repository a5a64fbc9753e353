from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError, DNSLookupError
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.delivery.connect import Connector
from mailproxy.delivery.pool import Pool
from mailproxy.delivery.session import Session
from mailproxy.errors import AccountFault
from mailproxy.metrics import Metrics
from tests.delivery.peer import EHLO, account
from tests.names import NamedReactor


class ConnectorTests(SynchronousTestCase):
    def open(self, *addresses: str, **fields: Any) -> tuple[NamedReactor, Deferred[Session]]:
        reactor = NamedReactor(addresses)
        pool = Pool(Connector(reactor), reactor, "me.test", Metrics())
        return reactor, Deferred.fromCoroutine(pool.acquire(account(timeout=10.0, **fields)))

    def tried(self, reactor: NamedReactor) -> list[str]:
        return [client[0] for client in reactor.tcpClients]

    def refuse(self, reactor: NamedReactor, index: int) -> None:
        factory = reactor.tcpClients[index][2]
        connector = reactor.connectors[index]
        factory.clientConnectionFailed(connector, Failure(ConnectionRefusedError()))

    def answer(self, reactor: NamedReactor, index: int) -> None:
        factory = reactor.tcpClients[index][2]
        protocol: Any = factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 25))
        protocol.makeConnection(StringTransport(peerAddress=IPv4Address("TCP", "192.0.2.1", 25)))
        protocol.dataReceived(b"220 hello\r\n")
        protocol.dataReceived(EHLO)

    def test_dead_addresses_cost_little(self) -> None:
        """F46: with nine addresses that do not answer, the tenth is tried within seconds."""
        addresses = [f"192.0.2.{n}" for n in range(1, 11)]
        reactor, opened = self.open(*addresses)
        for _ in range(50):
            reactor.advance(0.1)
        self.assertEqual(addresses, self.tried(reactor))
        self.answer(reactor, 9)
        self.assertTrue(self.successResultOf(opened).usable)

    def test_broken_ipv6_is_stepped_over(self) -> None:
        """F47: where IPv6 does not work, IPv4 is used in the same attempt."""
        reactor, opened = self.open("2001:db8::1", "192.0.2.1")
        reactor.advance(0.0)
        self.refuse(reactor, 0)
        reactor.advance(0.5)
        self.assertEqual(["2001:db8::1", "192.0.2.1"], self.tried(reactor))
        self.answer(reactor, 1)
        self.successResultOf(opened)

    def test_no_address_answers(self) -> None:
        """F23: if none connects in time, the account is at fault, and nothing is left behind."""
        reactor, opened = self.open("192.0.2.1", "192.0.2.2")
        for _ in range(120):
            reactor.advance(0.1)
        fault = self.failureResultOf(opened, AccountFault).value
        self.assertEqual(("connect", True), (fault.phase, "10 s" in fault.reason))
        self.assertEqual([], reactor.getDelayedCalls())

    def test_a_name_without_addresses(self) -> None:
        """F45: a name that resolves to nothing is a fault of phase resolve."""
        _, opened = self.open()
        failure = self.failureResultOf(opened, AccountFault, DNSLookupError)
        self.assertEqual("resolve", failure.value.phase)

    def test_a_name_of_a_container_network(self) -> None:
        """Any name the resolver knows is an upstream's name, underscores and all."""
        reactor, opened = self.open("192.0.2.1", host="relay_1")
        self.assertEqual((["relay_1"], ["192.0.2.1"]), (reactor.asked, self.tried(reactor)))
        self.answer(reactor, 0)
        self.successResultOf(opened)
