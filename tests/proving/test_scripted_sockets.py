"""A scripted sink over loopback, with clients that are not ours."""

from __future__ import annotations

import errno
import smtplib
import socket
import ssl

from twisted.internet import reactor
from twisted.internet.task import deferLater

from mailproxy.proving.scenario import Scenario
from mailproxy.proving.sink import Sink
from tests.proving.test_sink import MAIL, SinkCase


class ScriptedCase(SinkCase):
    def play(self, text: str) -> Sink:
        """A sink that plays *text*, TOML without a title."""
        return self.start(tls_port=None, scenario=Scenario.parse(f"title = 'x'\n{text}"))


class ResetTests(ScriptedCase):
    async def test_reset(self) -> None:
        """A reset is one on the wire, not an orderly end; the reply before it arrives."""
        sink = self.play("[[rule]]\nat = 'noop'\nreply = '250 yes'\nthen = 'reset'")

        def talk() -> tuple[bytes, int | None]:
            with socket.create_connection(("127.0.0.1", sink.smtp_port or 0), 10) as client:
                client.recv(1000)
                client.sendall(b"NOOP\r\n")
                said = client.recv(1000)
                try:
                    client.recv(1000)
                except OSError as error:
                    return said, error.errno
                return said, None

        self.assertEqual((b"250 yes\r\n", errno.ECONNRESET), await self.blocking(talk))

    async def test_refused_for_a_while(self) -> None:
        """Connections can be refused at first; after that, on the same port, they are taken."""
        sink = self.play("[server]\nrefuse_for = 0.2")
        port = sink.smtp_port or 0

        def connect() -> bytes:
            with socket.create_connection(("127.0.0.1", port), 10) as client:
                return client.recv(3)

        with self.assertRaises(ConnectionRefusedError):
            await self.blocking(connect)
        await deferLater(reactor, 0.3)
        self.assertEqual(b"220", await self.blocking(connect))

    async def test_stopped_while_it_refuses(self) -> None:
        """A sink that is stopped before it opened does not open."""
        sink = self.play("[server]\nrefuse_for = 60")
        self.assertTrue(sink.smtp_port)


class TlsTests(ScriptedCase):
    async def starttls(self, text: str, **context: ssl.TLSVersion) -> str:
        """What comes of STARTTLS, of a client that trusts the sink's certificate."""
        sink = self.play(text)

        def talk() -> str:
            trusting = self.trusting(sink)
            for name, value in context.items():
                setattr(trusting, name, value)
            with smtplib.SMTP("localhost", sink.smtp_port or 0, timeout=10) as client:
                client.ehlo()
                if not client.has_extn("starttls"):
                    return "not offered"
                try:
                    code, _ = client.starttls(context=trusting)
                    if code != 220:
                        return str(code)
                    client.sendmail("a@x.org", ["b@y.org"], MAIL)
                except ssl.SSLCertVerificationError as error:
                    return error.verify_message
                except (smtplib.SMTPException, OSError) as error:
                    return type(error).__name__
                return "sent"

        return await self.blocking(talk)

    async def test_certificates(self) -> None:
        """Each certificate has just the fault it is called by."""
        for name, said in (
            ("good", "sent"),
            ("expired", "certificate has expired"),
            ("wrong-name", "Hostname mismatch"),
            ("stranger", "self-signed certificate"),
        ):
            text = f"[[rule]]\nat = 'starttls'\ncertificate = '{name}'"
            self.assertIn(said, await self.starttls(text), name)
            self.assertIn(said, await self.starttls(f"[server]\ncertificate = '{name}'"), name)

    async def test_failures(self) -> None:
        """STARTTLS can be stripped, refused, and answered with anything but a handshake."""
        broken = ("SSLEOFError", "ConnectionResetError", "SMTPServerDisconnected")
        for text, said in (
            ("[[rule]]\nat = 'ehlo'\nwithout = ['STARTTLS']", "not offered"),
            ("[server]\nstarttls = false", "not offered"),
            ("[[rule]]\nat = 'starttls'\nreply = '454 4.7.0 no'", "SMTPResponseException"),
            ("[[rule]]\nat = 'starttls'\nreply = '220 go'\nthen = 'close'", "SSLEOFError"),
            (
                '[[rule]]\nat = "starttls"\nraw = "220 go\\r\\nnothing like TLS\\r\\n"\ndrip = 160',
                "SSLError",
            ),
            ("[server]\ntls = '1.0'", "SSLError"),
        ):
            with self.subTest(text):
                found = await self.starttls(text)
                self.assertIn(found, (said, *broken))

    async def test_only_version(self) -> None:
        """The one version that is spoken is."""
        self.assertEqual("sent", await self.starttls("[server]\ntls = '1.2'"))
        modern = ssl.TLSVersion.TLSv1_3
        found = await self.starttls("[server]\ntls = '1.2'", minimum_version=modern)
        self.assertEqual("SSLError", found)


class CommandTests(ScriptedCase):
    def test_ready(self) -> None:
        """The line that says the sink is ready names the scenario and its seed."""
        sink = self.play("seed = 5")
        self.assertTrue(sink.ready().endswith(" seed=5 scenario='x'"), sink.ready())

    def test_seed(self) -> None:
        """A seed that was asked for comes before the scenario's."""
        sink = self.start(seed=4, scenario=Scenario.parse("title = 'x'\nseed = 5"))
        self.assertEqual(4, sink.seed)
