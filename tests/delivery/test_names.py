"""How the names of upstreams are looked up."""

from __future__ import annotations

import socket
from collections.abc import Callable
from threading import Event
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IHostResolution, IResolutionReceiver
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from mailproxy.delivery.connect import Connector
from mailproxy.delivery.names import DEADLINE, NEGATIVE, Names
from mailproxy.delivery.pool import Pool
from mailproxy.errors import AccountFault
from mailproxy.metrics import Metrics
from mailproxy.threads import Threads, inline
from tests.delivery.certificates import Authority
from tests.delivery.peer import Letter, account
from tests.delivery.tls_peer import PeerFactory
from tests.fakes import FakeClock
from tests.names import NamedReactor


@implementer(IResolutionReceiver)
class Receiver:
    """:ivar found: the addresses; None while there may be more."""

    def __init__(self) -> None:
        self._addresses: list[Any] = []
        self.found: list[Any] | None = None
        self.resolution: IHostResolution

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        self.resolution = resolutionInProgress

    def addressResolved(self, address: IAddress) -> None:
        self._addresses.append(address)

    def resolutionComplete(self) -> None:
        assert self.found is None, "told twice"
        self.found = self._addresses


def entries(*addresses: str) -> list[Any]:
    """What ``getaddrinfo`` returns for these addresses."""
    return [(0, 1, 6, "", (address, 0)) for address in addresses]


class NamesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = FakeClock()
        self.asked: list[tuple[str, Deferred[Any]]] = []
        self.names = Names(self.in_thread, self.clock)

    def in_thread(self, function: Callable[..., Any], name: str, *args: Any, **_: Any) -> Any:
        answer: Deferred[Any] = Deferred()
        self.asked.append((name, answer))
        return answer

    def resolve(self, name: str = "mail.test") -> Receiver:
        receiver = Receiver()
        self.names.resolveHostName(receiver, name, 25)
        return receiver

    def test_every_address_in_order(self) -> None:
        """What the system finds is given on, each address once, in the same order."""
        receiver = self.resolve()
        self.asked[0][1].callback(entries("2001:db8::1", "192.0.2.1", "2001:db8::1"))
        self.assertEqual(
            [IPv6Address("TCP", "2001:db8::1", 25), IPv4Address("TCP", "192.0.2.1", 25)],
            receiver.found,
        )
        self.resolve()
        self.assertEqual(2, len(self.asked))

    def test_an_address_is_not_asked_for(self) -> None:
        """What is an address already takes no thread."""
        for address in ("192.0.2.1", "2001:db8::1"):
            found = self.resolve(address).found
            self.assertEqual([address], [each.host for each in found or ()])
        self.assertEqual([], self.asked)

    def test_one_lookup_of_a_name_at_a_time(self) -> None:
        """Whoever asks meanwhile has the same answer; who has given up hears no more of it."""
        receivers = [self.resolve() for _ in range(5)]
        other = self.resolve("other.test")
        receivers[0].resolution.cancel()
        self.assertEqual([], receivers[0].found)
        self.asked[0][1].callback(entries("192.0.2.1"))
        self.assertEqual([1] * 4, [len(each.found or ()) for each in receivers[1:]])
        self.assertEqual((None, 2), (other.found, len(self.asked)))

    def test_what_is_not_there_is_not_asked_for_again(self) -> None:
        """F45: a name that was not found, however that was said, is left alone for a while."""
        self.assertLessEqual(NEGATIVE, 300.0)
        answers: list[tuple[Any, str]] = [
            (socket.gaierror(socket.EAI_NONAME, "no"), "does not exist"),
            (socket.gaierror(socket.EAI_AGAIN, "later"), "does not answer, or cannot"),
            (socket.gaierror(socket.EAI_FAIL, "no"), "refuses"),
            (socket.gaierror(-4711, "what"), "could not be looked up"),
            (UnicodeError("label too long"), "no host name"),
            (OSError("what"), "no lookup"),
            ([], "no address"),
        ]
        for number, (answer, words) in enumerate(answers):
            name = f"n{number}.test"
            receiver = self.resolve(name)
            self.asked[-1][1].callback(answer) if answer == [] else self.asked[-1][1].errback(
                answer
            )
            self.assertEqual([], receiver.found)
            self.assertIn(words, self.names.missing(name))
            count = len(self.asked)
            self.clock.advance(NEGATIVE - 0.1)
            self.assertEqual([], self.resolve(name).found)
            self.assertEqual(count, len(self.asked))
            self.clock.advance(0.2)
            self.resolve(name)
            self.assertEqual(count + 1, len(self.asked))

    def test_a_name_server_that_says_nothing(self) -> None:
        """F45: after its time a lookup counts as failed; its name takes no second thread."""
        first = self.resolve()
        self.clock.advance(DEADLINE)
        self.assertEqual([], first.found)
        self.assertIn("no answer within 20 s", self.names.missing("mail.test"))
        self.clock.advance(NEGATIVE)
        second = self.resolve()
        self.assertEqual((None, 1), (second.found, len(self.asked)))
        self.asked[0][1].callback(entries("192.0.2.1"))
        self.assertEqual(1, len(second.found or ()))
        self.assertEqual("", self.names.missing("mail.test"))
        self.assertEqual([], self.clock.getDelayedCalls())


class ConnectTests(SynchronousTestCase):
    def test_the_fault_says_why(self) -> None:
        """F45: the operator reads why the upstream's name has no address; mail is deferred."""

        def lookup(name: str, *args: Any, **kwargs: Any) -> list[Any]:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

        reactor = NamedReactor(["192.0.2.1"])
        names = Names(inline, reactor, lookup=lookup)
        pool = Pool(Connector(reactor, names), reactor, "me.test", Metrics())
        for host in ("mail.test", "relay_1"):
            asked = Deferred.fromCoroutine(pool.acquire(account(host=host)))
            fault = self.failureResultOf(asked, AccountFault).value
            self.assertEqual("resolve", fault.phase)
            self.assertIn("the name server does not answer", fault.reason)
        self.assertEqual([], reactor.asked)

    def test_ten_addresses_of_which_nine_are_dead(self) -> None:
        """F46, F47: all kinds of addresses are tried a little in parallel, within seconds."""
        addresses = [f"2001:db8::{n}" for n in range(1, 6)] + [f"192.0.2.{n}" for n in range(5)]
        reactor = NamedReactor([])
        names = Names(inline, reactor, lookup=lambda *_, **__: entries(*addresses))
        pool = Pool(Connector(reactor, names), reactor, "me.test", Metrics())
        asked = Deferred.fromCoroutine(pool.acquire(account(timeout=10.0)))
        for _ in range(40):
            reactor.advance(0.1)
        self.assertEqual(addresses, [client[0] for client in reactor.tcpClients])
        self.assertNoResult(asked)
        for _ in range(70):
            reactor.advance(0.1)
        self.failureResultOf(asked, AccountFault)
        self.assertEqual([], reactor.getDelayedCalls())


class ThreadTests(TestCase):
    timeout = 20

    async def test_blocking_work_delays_no_lookup(self) -> None:
        """Names of upstreams are found while every thread of the reactor's own pool is taken."""
        from twisted.internet import reactor as any_reactor

        reactor: Any = any_reactor
        peer = PeerFactory(Authority().issue("localhost"), starttls=False)
        port = await peer.listen()
        self.addCleanup(lambda: Deferred.fromCoroutine(peer.close()))
        threads = Threads(reactor, "names", 2)
        threads.startService()
        self.addCleanup(threads.stopService)
        free = Event()
        self.addCleanup(free.set)
        for _ in range(reactor.getThreadPool().max):
            reactor.callInThread(free.wait, 15.0)

        pool = Pool(Connector(reactor, Names(threads, reactor)), reactor, "me.test", Metrics())
        session = await pool.acquire(account(host="localhost", port=port))
        outcome = await session.deliver(Letter())
        pool.release(session)
        await pool.close(1.0)

        self.assertEqual(250, outcome.final.code if outcome.final else None)
        self.assertFalse(free.is_set())
