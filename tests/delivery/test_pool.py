from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError, DNSLookupError
from twisted.internet.interfaces import IProtocol
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.delivery.pool import Pool
from mailproxy.delivery.session import Session, SessionFactory
from mailproxy.errors import AccountFault
from mailproxy.metrics import Metrics
from mailproxy.model import Account
from tests.delivery.peer import SILENCE, Letter, Network, Server, account
from tests.fakes import FakeClock


class PoolTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = FakeClock()
        self.metrics = Metrics()

    def pool(self, network: Network, **options: Any) -> Pool:
        self.network = network
        return Pool(network.connect, self.clock, "me.test", self.metrics, **options)

    def ask(self, pool: Pool, to: Account) -> Deferred[Session]:
        asked = Deferred.fromCoroutine(pool.acquire(to))
        self.network.run()
        return asked

    def take(self, pool: Pool, to: Account) -> Session:
        return self.successResultOf(self.ask(pool, to))

    def open_now(self) -> float | None:
        labels = {"tenant_id": "default", "account_id": "acc"}
        return self.metrics.registry.get_sample_value("mailproxy_smtp_sessions", labels)

    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.network.run()

    def test_a_session_is_used_again(self) -> None:
        """What was given back is given out, the last used first."""
        pool = self.pool(Network())
        first, second = self.take(pool, account()), self.take(pool, account())
        pool.release(first)
        pool.release(second)
        self.assertIs(second, self.take(pool, account()))
        self.assertIs(first, self.take(pool, account()))
        self.assertEqual(2, self.network.attempts)

    def test_no_more_sessions_than_the_account_allows(self) -> None:
        """Who comes when all are in use waits, in order, for one to be free."""
        pool = self.pool(Network())
        to = account(max_sessions=2)
        first, _ = self.take(pool, to), self.take(pool, to)
        third, fourth = self.ask(pool, to), self.ask(pool, to)
        self.assertNoResult(third)
        pool.release(first)
        self.assertIs(first, self.successResultOf(third))
        first.lose("gone")
        self.network.run()
        self.assertIsNot(first, self.successResultOf(fourth))
        self.assertEqual(3, self.network.attempts)

    def test_a_failed_opening_makes_room(self) -> None:
        """A session that could not be had takes no place away."""
        pool = self.pool(Network(ConnectionRefusedError(), Server))
        to = account(max_sessions=1)
        self.failureResultOf(self.ask(pool, to), AccountFault)
        self.take(pool, to)

    def test_faults_are_told_by_phase_and_counted(self) -> None:
        """F23, F45: what went wrong before a word was said has its own phase."""
        for error, phase in (
            (ConnectionRefusedError(), "connect"),
            (DNSLookupError(), "resolve"),
            (OSError(101, "Network is unreachable"), "connect"),
            (RuntimeError(), "connect"),
        ):
            pool = self.pool(Network(error))
            failure = self.failureResultOf(self.ask(pool, account()), AccountFault)
            self.assertEqual(phase, failure.value.phase)
            self.assertTrue(failure.value.reason)
        count = self.metrics.registry.get_sample_value(
            "mailproxy_smtp_session_failures_total",
            {"tenant_id": "default", "account_id": "acc", "phase": "connect"},
        )
        self.assertEqual(3.0, count)

    def test_connecting_takes_no_longer_than_the_account_allows(self) -> None:
        """F46: names and addresses together have the account's timeout."""
        never: Deferred[IProtocol] = Deferred()

        def connect(to: Account, factory: SessionFactory) -> Deferred[IProtocol]:
            return never

        self.network = Network()
        pool = Pool(connect, self.clock, "me.test", self.metrics)
        asked = self.ask(pool, account(timeout=9.0))
        self.wait(8.9)
        self.assertNoResult(asked)
        self.wait(0.2)
        fault = self.failureResultOf(asked, AccountFault).value
        self.assertEqual(("connect", "no connection within 9 s"), (fault.phase, fault.reason))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_a_changed_account_gets_new_sessions(self) -> None:
        """F43: with a newer version idle sessions say QUIT at once, used ones when given back."""
        pool = self.pool(Network())
        idle, used = self.take(pool, account()), self.take(pool, account())
        pool.release(idle)
        fresh = self.take(pool, account(version=2))
        self.assertNotIn(fresh, (idle, used))
        self.assertFalse(idle.usable)
        self.assertIn(b"QUIT", self.network.connected[0].heard)
        self.assertTrue(used.usable)
        self.assertTrue(pool.worn(used))
        pool.release(used)
        self.network.run()
        self.assertIn(b"QUIT", self.network.connected[1].heard)

    def test_who_still_has_the_older_account_brings_nothing_back(self) -> None:
        """A message claimed under an older version goes over a session nobody else gets."""
        pool = self.pool(Network())
        self.take(pool, account(version=2))
        old = self.take(pool, account(version=1))
        pool.release(old)
        self.assertFalse(old.usable)

    def test_accounts_share_nothing(self) -> None:
        """S22: equal in everything but the key, two accounts have two sessions."""
        pool = self.pool(Network())
        first = self.take(pool, account(pk=1))
        pool.release(first)
        self.assertIsNot(first, self.take(pool, account(pk=2)))

    def test_an_idle_session_says_goodbye(self) -> None:
        """After its time idle a session QUITs; one in use stays."""
        pool = self.pool(Network(), idle_timeout=30.0)
        idle, used = self.take(pool, account()), self.take(pool, account())
        pool.release(idle)
        self.assertEqual(2.0, self.open_now())
        self.wait(30.1)
        self.assertFalse(idle.usable)
        self.assertTrue(used.usable)
        self.assertEqual(1.0, self.open_now())
        self.assertIn(b"QUIT", self.network.connected[0].heard)

    def test_a_session_lives_as_long_as_its_account_allows(self) -> None:
        """Past ``ttl`` a session is given to nobody, and ends when given back."""
        pool = self.pool(Network(), idle_timeout=1000.0)
        to = account(ttl=50.0)
        session = self.take(pool, to)
        self.wait(49.0)
        self.assertFalse(pool.worn(session))
        pool.release(session)
        self.wait(2.0)
        self.assertIsNot(session, self.take(pool, to))
        self.assertFalse(session.usable)

    def test_a_session_carries_so_many_messages(self) -> None:
        """After its number of messages a session is worn."""
        pool = self.pool(Network(), max_messages=2)
        session = self.take(pool, account())
        for worn in (False, True):
            Letter().sent_over(session)
            self.network.run()
            self.assertEqual(worn, pool.worn(session))
        pool.release(session)
        self.assertFalse(session.usable)

    def test_a_session_the_server_closed_is_not_given_out(self) -> None:
        """F42: what died while idle is forgotten."""
        pool = self.pool(Network())
        session = self.take(pool, account())
        pool.release(session)
        self.network.connected[0].say(b"421 idle\r\n")
        self.network.run()
        self.assertEqual(0.0, self.open_now())
        self.assertIsNot(session, self.take(pool, account()))
        self.assertEqual(1.0, self.open_now())

    def test_a_server_that_broke_the_protocol_is_not_pipelined_to(self) -> None:
        """After a protocol error the next sessions of the account send one command at a time."""
        pool = self.pool(Network(lambda: Server({"data": b"250 what\r\n"}), Server))
        session = self.take(pool, account())
        Letter().sent_over(session)
        self.network.run()
        self.take(pool, account())
        self.assertEqual([True, False], [each.pipelining for each in self.network.factories])
        self.take(pool, account(pk=2))
        self.assertTrue(self.network.factories[-1].pipelining)
        self.wait(3601.0)
        self.take(pool, account())
        self.assertTrue(self.network.factories[-1].pipelining)

    def test_closing_says_goodbye_and_waits(self) -> None:
        """Idle sessions QUIT at once; those in use have until the deadline, then they are cut."""
        pool = self.pool(Network())
        idle, used = self.take(pool, account()), self.take(pool, account())
        pool.release(idle)
        closed = Deferred.fromCoroutine(pool.close(10.0))
        self.network.run()
        self.assertIn(b"QUIT", self.network.connected[0].heard)
        self.assertTrue(used.usable)
        self.failureResultOf(self.ask(pool, account()), AccountFault)
        self.wait(9.9)
        self.assertNoResult(closed)
        self.wait(0.2)
        self.successResultOf(closed)
        self.assertFalse(used.usable)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_closing_gives_up_an_opening(self) -> None:
        """A session that is just being opened does not outlive the deadline."""
        pool = self.pool(Network(lambda: Server({"ehlo": SILENCE})))
        asked = self.ask(pool, account())
        closed = Deferred.fromCoroutine(pool.close(1.0))
        self.wait(1.1)
        self.failureResultOf(asked, AccountFault, CancelledError)
        self.successResultOf(closed)
        self.assertTrue(self.network.wires[0].aborted)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_those_who_wait_are_told_when_it_closes(self) -> None:
        """Nobody waits for a session of a pool that is closing."""
        pool = self.pool(Network())
        self.take(pool, account(max_sessions=1))
        waiting = self.ask(pool, account(max_sessions=1))
        closed = Deferred.fromCoroutine(pool.close(1.0))
        self.failureResultOf(waiting, AccountFault)
        self.wait(1.1)
        self.successResultOf(closed)
