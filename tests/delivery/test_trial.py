"""An account is tried: how far a connection comes, without any mail."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.delivery.pool import Pool
from mailproxy.delivery.trial import Trials
from mailproxy.metrics import Metrics
from mailproxy.model import Account
from mailproxy.records import AccountTest
from mailproxy.states import TlsMode
from tests.delivery.peer import SILENCE, Network, Server, account
from tests.fakes import FakeClock

EHLO = b"250-peer.test\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250 AUTH PLAIN LOGIN\r\n"


class TrialTests(SynchronousTestCase):
    def trials(self, *servers: Any) -> None:
        self.clock = FakeClock()
        self.network = Network(*servers)
        self.pool = Pool(self.network.connect, self.clock, "me.test", Metrics())
        self.tried = Trials(self.pool, self.clock)

    def run_on(self, to: Account) -> Deferred[AccountTest]:
        running = Deferred.fromCoroutine(self.tried.run(to))
        self.network.run()
        return running

    def test_works(self) -> None:
        """Greeting, EHLO, login and QUIT; what the server offers is told."""
        self.trials(lambda: Server({"ehlo": EHLO, "auth": b"235 2.7.0 welcome\r\n"}))
        to = account(user="u", password="p", allow_plaintext_auth=True, max_sessions=1)
        test = self.successResultOf(self.run_on(to))
        self.assertEqual(
            (True, "", "", True), (test.works, test.phase, test.problem, test.logged_in)
        )
        self.assertEqual(("AUTH LOGIN PLAIN", "PIPELINING", "SIZE 1000"), test.offers)
        verbs = [line.split()[0] for line in self.network.connected[0].heard]
        self.assertEqual([b"EHLO", b"AUTH", b"QUIT"], verbs)
        self.network.run()
        self.assertEqual([], self.network.connected[0].messages)

    def test_login_refused(self) -> None:
        """The server's own words, where it ended, and no password."""
        self.trials(lambda: Server({"ehlo": EHLO, "auth": b"535 5.7.8 no, not pass-w0rd\r\n"}))
        to = account(user="u", password="pass-w0rd", allow_plaintext_auth=True)
        test = self.successResultOf(self.run_on(to))
        self.assertEqual((False, "auth", 535), (test.works, test.phase, test.code))
        self.assertIn("535 5.7.8", test.problem)
        self.assertNotIn("pass-w0rd", repr(test))

    def test_not_reached(self) -> None:
        """A refused connection, a server that is silent, TLS that is not offered."""
        self.trials(ConnectionRefusedError())
        self.assertEqual("connect", self.successResultOf(self.run_on(account())).phase)
        self.trials(lambda: Server({"banner": SILENCE}))
        running = self.run_on(account(timeout=7.0))
        self.assertNoResult(running)
        self.clock.advance(7.0)
        test = self.successResultOf(running)
        self.assertEqual(("banner", "no answer within 7 s"), (test.phase, test.problem))
        self.assertEqual(7.0, test.seconds)
        self.trials(Server)
        test = self.successResultOf(self.run_on(account(tls_mode=TlsMode.STARTTLS)))
        self.assertEqual("tls", test.phase)

    def test_one_at_a_time(self) -> None:
        """A second test of an account beside the first is refused; it takes no place of mail's."""
        self.trials(lambda: Server({"banner": SILENCE}), Server)
        first = self.run_on(account(max_sessions=1))
        second = self.successResultOf(self.run_on(account(max_sessions=1)))
        self.assertEqual((False, "it is being tested already"), (second.works, second.problem))
        mail = Deferred.fromCoroutine(self.pool.acquire(account(max_sessions=1)))
        self.network.run()
        self.successResultOf(mail)
        self.clock.advance(30.0)
        self.assertFalse(self.successResultOf(first).works)

    def test_stopping(self) -> None:
        """A service that stops tries nothing more, and waits for what is on its way."""
        self.trials(lambda: Server({"banner": SILENCE}))
        running = self.run_on(account())
        closing = Deferred.fromCoroutine(self.pool.close(1.0))
        self.assertNoResult(closing)
        self.clock.advance(1.0)
        self.assertFalse(self.successResultOf(running).works)
        self.successResultOf(closing)
        test = self.successResultOf(self.run_on(account(pk=2)))
        self.assertEqual("the service is stopping", test.problem)
        self.assertEqual(1, self.network.attempts)
