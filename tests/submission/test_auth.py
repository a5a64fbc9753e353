"""Who may come in by SMTP, and what guessing leads to."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.submission.gate import LOCKED_AFTER, GateRules
from mailproxy.submission.patience import FREE, LONGEST
from mailproxy.submission.visit import MAX_LOGINS
from tests.fakes import result
from tests.submission.talk import MAIL, PASSWORD, House, Talk

#: Passwords may be said here without TLS.
CLEAR = GateRules(plaintext=("192.0.2.0/24", "198.51.100.0/24"))

WRONG = "535 5.7.8 Wrong user or password"


@contextmanager
def counted_hashes(house: House) -> Iterator[list[object]]:
    """What is handed to the thread that hashes, one entry for each hash."""
    found: list[object] = []
    in_thread = house.gate._in_thread

    def counting(function, *args):  # type: ignore[no-untyped-def]
        found.append(function)
        return in_thread(function, *args)

    house.gate._in_thread = counting
    try:
        yield found
    finally:
        house.gate._in_thread = in_thread


class LoginTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.house = House(CLEAR)
        self.house.credential("erp", senders=("erp@x.org", "@shop.org"))
        self.talk = self.house.connect()
        self.talk.hello()

    def test_plain_and_login(self) -> None:
        """PLAIN and LOGIN let in, with the response at once or asked for."""
        plain = b64encode(f"\0erp\0{PASSWORD}".encode())
        user, word = b64encode(b"erp"), b64encode(PASSWORD.encode())
        for lines in (
            [b"AUTH PLAIN " + plain],
            [b"auth plain", plain],
            [b"AUTH LOGIN", user, word],
            [b"AUTH LOGIN " + user, word],
        ):
            talk = self.house.connect()
            talk.hello()
            codes = [talk.codes(line + b"\r\n")[0] for line in lines]
            self.assertEqual([*["334"] * (len(lines) - 1), "235"], codes, lines)
            self.assertEqual(["503"], talk.codes(b"AUTH PLAIN\r\n"))

    def test_nobody_without_a_login(self) -> None:
        """S18: without a login nothing is relayed, whoever it is from or for."""
        for sender in (b"erp@x.org", b"", b"root@localhost"):
            self.assertEqual("530", self.talk.envelope(sender=sender)[0])
        self.assertEqual([], self.house.intake.handed)

    def test_same_answer_for_every_reason(self) -> None:
        """S19: unknown, wrong, switched off or from elsewhere: the same words, the same work."""
        self.house.credential("off", active=False)
        self.house.credential("away", networks=("203.0.113.0/24",))
        self.house.credential("bare", hash=None, networks=("203.0.113.0/24",))
        for user, password in (
            *(("erp", "wrong"), ("nobody", PASSWORD), ("off", PASSWORD), ("away", PASSWORD)),
            *(("bare", PASSWORD), ("bare", ""), ("erp", "x" * 5000), ("\ufffd", "")),
        ):
            # The second time as the first: nothing may be remembered of a login that fails.
            for _ in range(2):
                talk = self.house.connect()
                talk.hello()
                with counted_hashes(self.house) as hashes:
                    self.assertEqual([WRONG], talk.login(user, password), user)
                self.assertEqual(1, len(hashes), user)
                self.house.clock.advance(LONGEST)

    def test_s19_a_login_that_is_good_elsewhere(self) -> None:
        """S19: a right password from a network it is not good for takes the work of a wrong one."""
        self.house.credential("office", networks=("192.0.2.0/24",))
        for peer, code, work in (
            *(("192.0.2.7", "235", 1), ("192.0.2.7", "235", 0)),
            *(("198.51.100.1", "535", 1), ("198.51.100.1", "535", 1)),
        ):
            talk = self.house.connect(peer)
            talk.hello()
            with counted_hashes(self.house) as hashes:
                self.assertEqual(code, talk.login("office")[0][:3])
            self.assertEqual(work, len(hashes), peer)

    def test_s19_malformed_exchanges(self) -> None:
        """S19: what is no exchange is refused, and the session goes on."""
        for lines, code in (
            ([b"AUTH"], "504"),
            ([b"AUTH CRAM-MD5"], "504"),
            ([b"AUTH PLAIN", b"*"], "501"),
            ([b"AUTH PLAIN", b"!!!!"], "501"),
            ([b"AUTH PLAIN", b"AAAA===="], "501"),
            (
                [
                    b"AUTH PLAIN =",
                ],
                "501",
            ),
            ([b"AUTH LOGIN", b"*"], "501"),
        ):
            talk = self.house.connect()
            talk.hello()
            codes = [talk.codes(line + b"\r\n")[0] for line in lines]
            self.assertEqual(code, codes[-1], lines)
            self.assertEqual(["250"], talk.codes(b"NOOP\r\n"))

    def test_senders(self) -> None:
        """A credential sends as what it is bound to, and as nobody for bounces."""
        self.talk.login()
        for sender, code in (
            *((b"erp@x.org", "250"), (b"any@shop.org", "250"), (b"", "250")),
            *((b"ERP@x.org", "550"), (b"a@x.org", "550"), (b"a@sub.shop.org", "550")),
        ):
            self.assertEqual([code], self.talk.codes(b"MAIL FROM:<%b>\r\n" % sender), sender)
            self.talk.send(b"RSET\r\n")

    def test_a_changed_credential_ends(self) -> None:
        """What was changed or taken away is asked for again at the next message."""
        self.talk.login()
        self.assertEqual("250", self.talk.mail(sender=b"erp@x.org")[-1])
        self.house.credential("erp", senders=("erp@x.org",), label="changed")
        self.assertEqual(["421"], self.talk.codes(b"MAIL FROM:<erp@x.org>\r\n"))
        self.assertTrue(self.talk.closed)

    def test_tries_on_a_connection(self) -> None:
        """After a few wrong logins the connection is closed."""
        codes = [self.talk.login("erp", "wrong")[0][:3] for _ in range(MAX_LOGINS + 1)]
        self.assertEqual(["535"] * MAX_LOGINS + ["421"], codes)


class GuessingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.house = House(CLEAR)
        self.house.credential("erp")

    def try_(self, password: str, peer: str = "192.0.2.7") -> str:
        talk: Talk = self.house.connect(peer)
        talk.hello()
        return talk.login("erp", password)[0][:3]

    def test_s19_an_address_that_guesses_waits(self) -> None:
        """S19: an address that keeps failing waits longer and longer, even with the right word."""
        self.assertEqual(["535"] * (FREE + 1), [self.try_(f"{n}") for n in range(FREE + 1)])
        self.assertEqual("454", self.try_(PASSWORD))
        self.house.clock.advance(2)
        self.assertEqual("535", self.try_("again"))
        self.house.clock.advance(2)
        self.assertEqual("454", self.try_(PASSWORD))
        self.assertEqual("235", self.try_(PASSWORD, "198.51.100.1"))
        self.house.clock.advance(2)
        self.assertEqual("235", self.try_(PASSWORD))
        self.assertEqual("535", self.try_("a slip"))
        self.assertEqual("235", self.try_(PASSWORD))

    def test_s19_guesses_from_everywhere(self) -> None:
        """S19: a user guessed from many places is closed to all but those it came from before."""
        self.assertEqual("235", self.try_(PASSWORD, "192.0.2.200"))
        for n in range(LOCKED_AFTER + 1):
            self.try_("guess", f"198.51.100.{n}")
        self.assertEqual("454", self.try_(PASSWORD, "198.51.100.250"))
        self.assertEqual("235", self.try_(PASSWORD, "192.0.2.200"))

    def test_a_good_login_is_remembered(self) -> None:
        """The work of a hash is done once for a login, until the credential is changed."""
        with counted_hashes(self.house) as hashes:
            self.assertEqual(["235"] * 3, [self.try_(PASSWORD) for _ in range(3)])
            self.assertEqual(1, len(hashes))
            self.house.credential("erp", label="changed")
            self.assertEqual("235", self.try_(PASSWORD))
            self.assertEqual(2, len(hashes))


class NetworkTests(SynchronousTestCase):
    def test_trusted_networks(self) -> None:
        """What comes from a trusted network needs no login, as the tenant ``default``."""
        house = House(GateRules(trusted=("192.0.2.0/24",)))
        for peer, code in (("192.0.2.9", "250"), ("::ffff:192.0.2.9", "250"), ("192.0.3.1", "530")):
            talk = house.connect(peer)
            talk.hello()
            self.assertEqual(code, talk.envelope()[0], peer)

    def test_credentials_of_networks(self) -> None:
        """A credential without a password admits its networks, for its tenant."""
        house = House(GateRules(trusted=()))
        house.store.add_tenant("acme")
        result(house.tenants.refresh())
        house.credential(
            "printer", "acme", hash=None, networks=("2001:db8::/32",), senders=("@x.org",)
        )
        house.credential("erp", networks=("192.0.2.0/24",))
        talk = house.connect("2001:db8::7")
        talk.hello()
        self.assertEqual("250", talk.mail()[-1])
        self.assertEqual("acme", house.intake.handed[0].submitter.tenant_id)
        self.assertEqual("550", talk.envelope(sender=b"a@other.org")[0])
        other = house.connect("192.0.2.7")
        other.hello()
        self.assertEqual("530", other.envelope()[0])

    def test_no_password_in_clear(self) -> None:
        """AUTH is neither offered nor taken where the password could be read on its way."""
        house = House(GateRules())
        house.credential("erp")
        talk = house.connect()
        self.assertFalse([line for line in talk.hello() if "AUTH" in line])
        self.assertEqual("538", talk.login()[0][:3])

    def test_from(self) -> None:
        """The address in From is bound as the envelope's sender is."""
        house = House(CLEAR)
        house.storing()
        house.credential("erp", senders=("a@x.org",))
        talk = house.connect()
        talk.hello()
        talk.login()
        self.assertEqual("550", talk.mail(body=MAIL.replace(b"From: a@", b"From: b@"))[-1])
