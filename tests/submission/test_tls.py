"""STARTTLS at the SMTP door: a new session after it, nothing carried over, certificates renewed."""

from __future__ import annotations

import os
from pathlib import Path

from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.errors import ConfigurationError
from mailproxy.submission.gate import GateRules
from mailproxy.submission.tls import LOOK, ServerTls
from tests.delivery.certificates import Authority
from tests.fakes import FakeClock
from tests.scratch import scratch
from tests.submission.talk import House


class StartTlsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.house = House(GateRules(trusted=("192.0.2.0/24",)), tls=object())
        self.talk = self.house.connect(tls=True)
        self.started: list[object] = []
        self.talk.transport.startTLS = self.started.append  # type: ignore[attr-defined]
        self.talk.hello()

    def test_offered_once(self) -> None:
        """STARTTLS is offered in clear, and not again inside."""
        self.assertIn("STARTTLS", " ".join(self.talk.hello()))
        self.assertEqual(["220 2.0.0 Go ahead"], self.talk.send(b"STARTTLS\r\n"))
        self.assertEqual(1, len(self.started))
        self.assertNotIn("STARTTLS", " ".join(self.talk.hello()))
        self.assertEqual(["503"], self.talk.codes(b"STARTTLS\r\n"))

    def test_s3_a_new_session(self) -> None:
        """S3: greeting and envelope said in clear are forgotten."""
        self.talk.envelope()
        self.talk.send(b"STARTTLS\r\n")
        self.assertEqual(["503"], self.talk.codes(b"DATA\r\n"))
        self.assertEqual(["503"], self.talk.codes(b"MAIL FROM:<a@x.org>\r\n"))

    def test_s3_nothing_follows_in_clear(self) -> None:
        """S3: what comes in one piece with STARTTLS ends the connection, and is not carried out."""
        codes = self.talk.codes(b"STARTTLS\r\nMAIL FROM:<evil@x.org>\r\n")
        self.assertEqual(["554"], codes)
        self.assertTrue(self.talk.closed)
        self.assertEqual([], self.started)

    def test_arguments(self) -> None:
        """STARTTLS takes no argument; without a certificate there is none."""
        self.assertEqual(["501"], self.talk.codes(b"STARTTLS now\r\n"))
        plain = House().connect()
        plain.hello()
        self.assertEqual(["503"], plain.codes(b"STARTTLS\r\n"))


class CertificateTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = FakeClock()
        self.authority = Authority()
        self.directory = scratch(self)
        self.certificate = self.directory / "door.pem"
        self.write("old.example")

    def write(self, name: str) -> None:
        """A new certificate takes the place of the old one, as renewal programs do it."""
        new = self.directory / "new.pem"
        new.write_bytes(self.authority.issue(name))
        os.replace(new, self.certificate)

    def made(self) -> ServerTls:
        return ServerTls(self.certificate, self.certificate, self.clock)

    def shown(self, tls: ServerTls) -> str:
        """The subject of the certificate that a new connection would see."""
        certificate = SSL.Connection(tls.getContext()).get_certificate()
        assert certificate is not None
        (name,) = certificate.to_cryptography().subject
        return str(name.value)

    def test_renewed(self) -> None:
        """A renewed certificate is in force for new connections, a few seconds later."""
        tls = self.made()
        self.write("new.example")
        self.assertEqual("old.example", self.shown(tls))
        self.clock.advance(LOOK)
        self.assertEqual("new.example", self.shown(tls))

    def test_damaged(self) -> None:
        """A damaged one is one line in the log; the old one stays in force until it is mended."""
        tls = self.made()
        self.certificate.write_text("not PEM")
        self.clock.advance(LOOK)
        self.assertEqual("old.example", self.shown(tls))
        self.write("new.example")
        self.clock.advance(LOOK)
        self.assertEqual("new.example", self.shown(tls))

    def test_wrong_files(self) -> None:
        """At the start a file that is no certificate, or no key of it, is named by its variable."""
        other = self.directory / "other.pem"
        other.write_bytes(self.authority.issue("other.example"))
        text = self.directory / "text.pem"
        text.write_text("hello")
        for certificate, key, variable in (
            (text, other, "GMP_SMTP_TLS_CERT"),
            (Path("/nonexistent/a.pem"), other, "GMP_SMTP_TLS_CERT"),
            (self.certificate, text, "GMP_SMTP_TLS_KEY"),
            (self.certificate, other, "GMP_SMTP_TLS_KEY"),
        ):
            with self.assertRaises(ConfigurationError) as caught:
                ServerTls(certificate, key, self.clock)
            self.assertEqual(variable, caught.exception.variable)
