"""TLS over real sockets, against certificates of our own making."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.ssl import TLSVersion
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailproxy.delivery.connect import Connector
from mailproxy.delivery.pool import Pool
from mailproxy.delivery.session import Session
from mailproxy.delivery.tls import BadRoots, certificates
from mailproxy.errors import AccountFault
from mailproxy.metrics import Metrics
from mailproxy.model import Account, Outcome
from mailproxy.states import TlsMode
from tests.delivery.certificates import Authority, pinned
from tests.delivery.peer import Letter, account
from tests.delivery.tls_peer import PeerFactory


class TlsTests(TestCase):
    timeout = 20

    def setUp(self) -> None:
        self.authority = Authority()

    async def serve(self, pem: bytes | None = None, **how: Any) -> PeerFactory:
        peer = PeerFactory(pem or self.authority.issue("localhost", "127.0.0.1"), **how)
        self.port = await peer.listen()
        self.addCleanup(lambda: Deferred.fromCoroutine(peer.close()))
        return peer

    def pool(self, extra_ca: str | None = None) -> Pool:
        pool = Pool(Connector(reactor), reactor, "me.test", Metrics(), extra_ca=extra_ca)
        self.addCleanup(lambda: Deferred.fromCoroutine(pool.close(1.0)))
        return pool

    def account(self, mode: TlsMode, **values: Any) -> Account:
        fixed = {"host": "localhost", "ca_pem": self.authority.pem, "timeout": 10.0}
        return account(port=self.port, tls_mode=mode, **{**fixed, **values})

    async def deliver(self, to: Account, pool: Pool | None = None) -> Outcome:
        pool = pool or self.pool()
        session: Session = await pool.acquire(to)
        outcome: Outcome = await session.deliver(Letter())
        pool.release(session)
        return outcome

    async def fault(self, to: Account) -> AccountFault:
        try:
            await self.deliver(to)
        except AccountFault as fault:
            return fault
        raise AssertionError("the message was delivered")

    async def test_implicit(self) -> None:
        """Implicit TLS with the right name delivers, and the outcome says how it was protected."""
        peer = await self.serve(implicit=True)
        outcome = await self.deliver(self.account(TlsMode.IMPLICIT))
        self.assertTrue(outcome.tls.startswith("TLSv1.3 "), outcome.tls)
        self.assertEqual(f"127.0.0.1:{self.port}", outcome.peer)
        self.assertEqual({"tls"}, {how for how, _ in peer.heard})

    async def test_starttls(self) -> None:
        """STARTTLS: only EHLO and STARTTLS are said in clear, and EHLO is said again."""
        peer = await self.serve()
        outcome = await self.deliver(self.account(TlsMode.STARTTLS))
        self.assertTrue(outcome.tls)
        self.assertEqual((), outcome.notes)
        clear = [line for how, line in peer.heard if how == "clear"]
        self.assertEqual([b"EHLO me.test", b"STARTTLS"], clear)
        self.assertIn(("tls", b"EHLO me.test"), peer.heard)

    async def test_credentials_go_over_tls(self) -> None:
        """AUTH comes after STARTTLS."""
        peer = await self.serve()
        await self.deliver(self.account(TlsMode.STARTTLS, user="joe", password="secret"))
        self.assertEqual(["tls"], [how for how, line in peer.heard if line.startswith(b"AUTH")])

    async def test_an_address_can_be_verified(self) -> None:
        """A host that is an IP address is checked against the certificate's addresses."""
        await self.serve()
        self.assertTrue((await self.deliver(self.account(TlsMode.STARTTLS, host="127.0.0.1"))).tls)

    async def test_roots_for_all_accounts(self) -> None:
        """The service's extra CA is trusted beside the account's own."""
        await self.serve()
        to = self.account(TlsMode.STARTTLS, ca_pem=None)
        self.assertTrue((await self.deliver(to, self.pool(self.authority.pem))).tls)
        to = self.account(TlsMode.STARTTLS, ca_pem=Authority("Other").pem)
        self.assertTrue((await self.deliver(to, self.pool(self.authority.pem))).tls)

    async def test_an_own_root_replaces_the_platforms(self) -> None:
        """An account with its own CA trusts nobody else's."""
        await self.serve()
        fault = await self.fault(self.account(TlsMode.STARTTLS, ca_pem=Authority("Other").pem))
        self.assertEqual("tls", fault.phase)

    async def test_bad_certificates_are_faults_with_their_reason(self) -> None:
        """F37, S5: every certificate that does not verify is told apart, and nothing is sent."""
        issue = self.authority.issue
        for pem, words in (
            (issue("other.test"), "it is not for localhost"),
            (issue("localhost", expired=True), "it has expired"),
            (issue("localhost", self_signed=True), "it is self-signed"),
            (Authority("Stranger").issue("localhost"), "issuer is not trusted"),
        ):
            for mode, implicit in ((TlsMode.STARTTLS, False), (TlsMode.IMPLICIT, True)):
                peer = await self.serve(pem, implicit=implicit)
                fault = await self.fault(self.account(mode, user="joe", password="secret"))
                self.assertEqual("tls", fault.phase)
                self.assertIn(words, fault.reason)
                self.assertNotIn("AUTH", str(peer.heard))
                self.assertNotIn("MAIL", str(peer.heard))

    async def test_a_certificate_that_cannot_be_read_is_a_fault(self) -> None:
        """What a stranger puts into a certificate may make any library fail: it is not trusted."""
        await self.serve(self.authority.issue("localhost", garbled=True), implicit=True)
        fault = await self.fault(self.account(TlsMode.IMPLICIT))
        self.assertIn("cannot be understood", fault.reason)
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))

    async def test_a_pin_is_enough(self) -> None:
        """A pinned certificate is trusted, be it self-signed, expired or for another name."""
        issue = self.authority.issue
        for pem in (
            issue("localhost", self_signed=True),
            issue("localhost", expired=True),
            issue("other.test"),
        ):
            for key in (False, True):
                await self.serve(pem)
                to = self.account(
                    TlsMode.STARTTLS,
                    ca_pem=None,
                    options=pinned(pem, key=key),
                    user="joe",
                    password="secret",
                )
                outcome = await self.deliver(to)
                self.assertEqual((True, ()), (bool(outcome.tls), outcome.notes))

    async def test_a_pin_is_needed(self) -> None:
        """S5: where there is a pin, no other certificate will do, however good it is."""
        good, other = (self.authority.issue("localhost") for _ in range(2))
        for mode, implicit in ((TlsMode.STARTTLS, False), (TlsMode.IMPLICIT, True)):
            for ca_pem in (self.authority.pem, None):
                peer = await self.serve(good, implicit=implicit)
                to = self.account(
                    mode, options=pinned(other), ca_pem=ca_pem, user="joe", password="p"
                )
                pool = self.pool(self.authority.pem)
                with self.assertRaises(AccountFault) as caught:
                    await self.deliver(to, pool)
                self.assertIn("none of those the account insists on", caught.exception.reason)
                self.assertNotIn("AUTH", str(peer.heard))

    async def test_a_pin_and_an_authority_must_both_hold(self) -> None:
        """With an authority of its own an account wants the pinned certificate to verify, too."""
        pem = self.authority.issue("localhost")
        await self.serve(pem)
        outcome = await self.deliver(self.account(TlsMode.STARTTLS, options=pinned(pem)))
        self.assertTrue(outcome.tls)
        pem = self.authority.issue("localhost", expired=True)
        await self.serve(pem)
        fault = await self.fault(self.account(TlsMode.STARTTLS, options=pinned(pem)))
        self.assertIn("it has expired", fault.reason)

    async def test_a_pin_is_never_stepped_around(self) -> None:
        """An opportunistic account with a pin goes neither on unverified nor in clear."""
        cases: tuple[dict[str, Any], ...] = (
            {},
            {"garbles": True},
            {"refuses": True},
            {"starttls": False},
        )
        for how in cases:
            peer = await self.serve(**how)
            other = self.authority.issue("localhost")
            fault = await self.fault(self.account(TlsMode.OPPORTUNISTIC, options=pinned(other)))
            self.assertEqual("tls", fault.phase)
            self.assertNotIn("MAIL", str(peer.heard))

    async def test_a_stripped_starttls_is_a_fault(self) -> None:
        """F36: where TLS is required, a server that does not offer it is sent nothing."""
        peer = await self.serve(starttls=False)
        fault = await self.fault(self.account(TlsMode.STARTTLS, user="joe", password="secret"))
        self.assertEqual("tls", fault.phase)
        self.assertEqual([("clear", b"EHLO me.test")], peer.heard)

    async def test_a_refused_starttls_is_a_fault(self) -> None:
        """F37: 454 to STARTTLS, and a server that then does not speak TLS."""
        await self.serve(refuses=True)
        fault = await self.fault(self.account(TlsMode.STARTTLS))
        self.assertEqual(("tls", 454), (fault.phase, fault.code))
        await self.serve(garbles=True)
        self.assertEqual("tls", (await self.fault(self.account(TlsMode.STARTTLS))).phase)

    async def test_old_protocols_are_refused(self) -> None:
        """F37: below TLS 1.2 there is no TLS."""
        await self.serve(
            insecurelyLowerMinimumTo=TLSVersion.TLSv1_0, lowerMaximumSecurityTo=TLSVersion.TLSv1_1
        )
        self.assertEqual("tls", (await self.fault(self.account(TlsMode.STARTTLS))).phase)

    async def test_words_injected_before_tls_are_an_attack(self) -> None:
        """F38, S4: anything behind the answer to STARTTLS ends the connection, in every mode."""
        for mode in (TlsMode.STARTTLS, TlsMode.OPPORTUNISTIC):
            peer = await self.serve(injected=b"250-evil\r\n250 AUTH PLAIN\r\n")
            fault = await self.fault(self.account(mode))
            self.assertIn("attack", fault.reason)
            self.assertEqual(2, len(peer.heard))

    async def test_plain_never_uses_tls(self) -> None:
        """The mode *plain* does not ask for STARTTLS though it is offered."""
        peer = await self.serve()
        outcome = await self.deliver(self.account(TlsMode.PLAIN))
        self.assertEqual("", outcome.tls)
        self.assertNotIn(("clear", b"STARTTLS"), peer.heard)

    async def test_opportunistic_uses_what_is_offered(self) -> None:
        """STARTTLS if offered, clear if not; neither is worth a note."""
        await self.serve()
        outcome = await self.deliver(self.account(TlsMode.OPPORTUNISTIC))
        self.assertTrue(outcome.tls)
        self.assertEqual((), outcome.notes)
        await self.serve(starttls=False)
        outcome = await self.deliver(self.account(TlsMode.OPPORTUNISTIC))
        self.assertEqual(("", ()), (outcome.tls, outcome.notes))

    async def test_opportunistic_takes_a_bad_certificate_and_notes_it(self) -> None:
        """Without credentials an unverified peer is better than clear; the timeline says so."""
        for pem, words in (
            (self.authority.issue("localhost", self_signed=True), "self-signed"),
            (self.authority.issue("other.test"), "not for localhost"),
        ):
            await self.serve(pem)
            outcome = await self.deliver(self.account(TlsMode.OPPORTUNISTIC))
            self.assertTrue(outcome.tls)
            self.assertIn(words, outcome.notes[0])

    async def test_opportunistic_falls_back_to_clear_once(self) -> None:
        """A handshake that fails leads to one new connection in clear, and a note."""
        cases: tuple[dict[str, Any], ...] = ({"garbles": True}, {"refuses": True})
        for how in cases:
            peer = await self.serve(**how)
            outcome = await self.deliver(self.account(TlsMode.OPPORTUNISTIC))
            self.assertEqual("", outcome.tls)
            self.assertIn("sent in clear", outcome.notes[0])
            self.assertEqual(2, [line for _, line in peer.heard].count(b"EHLO me.test"))

    async def test_opportunistic_credentials_need_a_verified_peer(self) -> None:
        """With credentials: no unverified peer and no clear, unless the account allows it."""
        login = {"user": "joe", "password": "secret"}
        bad = self.authority.issue("localhost", self_signed=True)
        cases: tuple[tuple[bytes | None, dict[str, Any]], ...] = (
            (bad, {}),
            (None, {"garbles": True}),
            (None, {"starttls": False}),
        )
        for pem, how in cases:
            peer = await self.serve(pem, **how)
            await self.fault(self.account(TlsMode.OPPORTUNISTIC, **login))
            self.assertNotIn("AUTH", str(peer.heard))
            allowed = self.account(TlsMode.OPPORTUNISTIC, allow_plaintext_auth=True, **login)
            await self.deliver(allowed)
            self.assertIn("AUTH", str(peer.heard))

    async def test_a_ca_that_cannot_be_read_is_a_fault(self) -> None:
        """A damaged CA means no session, not an unverified one."""
        await self.serve()
        for pem in ("nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"):
            fault = await self.fault(self.account(TlsMode.STARTTLS, ca_pem=pem))
            self.assertEqual("tls", fault.phase)

    async def test_nobody_listens(self) -> None:
        """F23: a refused connection is told with its phase."""
        peer = await self.serve()
        await peer.close()
        self.assertEqual("connect", (await self.fault(self.account(TlsMode.STARTTLS))).phase)

    async def test_a_name_that_does_not_exist(self) -> None:
        """F45: a name that cannot be resolved is told as such."""
        self.port = 25
        fault = await self.fault(self.account(TlsMode.PLAIN, host="no-such-host.invalid"))
        self.assertEqual("resolve", fault.phase)


class CertificatesTests(SynchronousTestCase):
    def test_every_certificate_is_read(self) -> None:
        """A bundle is read whole; what is none is refused."""
        pem = Authority().pem + "\nsome words\n" + Authority().pem
        self.assertEqual(2, len(certificates(pem)))
        self.assertRaises(BadRoots, certificates, "")
