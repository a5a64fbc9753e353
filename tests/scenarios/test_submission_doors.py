"""Every kind of door: in clear, in TLS, behind a balancer, opened by systemd."""

from __future__ import annotations

import os
import socket
import ssl
from base64 import b64encode
from typing import ClassVar

from cryptography import x509
from twisted.trial.unittest import SynchronousTestCase

from tests.scenarios.door import PASSWORD, STRANGER, TRUSTED, USER, OpenDoor, queue_id
from tests.scenarios.processes import free_port, wait_until
from tests.scenarios.wire import Wire

MAIL = b"MAIL FROM:<erp@example.test>"
LOGIN = b"AUTH PLAIN " + b64encode(f"\0{USER}\0{PASSWORD}".encode())
MESSAGE = b"From: erp@example.test\r\nSubject: x\r\n\r\nHello.\r\n."

#: What a balancer says first. The client it names may send without a login, or may not.
FROM_TRUSTED = b"PROXY TCP4 192.0.2.1 127.0.0.1 40000 25\r\n"
FROM_STRANGER = b"PROXY TCP4 198.51.100.1 127.0.0.1 40000 25\r\n"


#: The second version of the same (the PROXY protocol, section 2.2).
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"

#: A client on a local socket, of a machine that is not this one.
FROM_SOCKET = SIGNATURE + b"\x21\x31\0\xd8" + b"/run/x".ljust(108, b"\0") * 2


def binary_header(source: str) -> bytes:
    """What a balancer says of a client at *source*."""
    addresses = socket.inet_aton(source) + socket.inet_aton("127.0.0.1")
    ports = (40000).to_bytes(2, "big") + (25).to_bytes(2, "big")
    return SIGNATURE + b"\x21\x11\0\x0c" + addresses + ports


class DoorTests(SynchronousTestCase):
    door: ClassVar[OpenDoor]
    passed: ClassVar[list[int]]
    balanced: ClassVar[int]
    balanced_tls: ClassVar[int]

    @classmethod
    def setUpClass(cls) -> None:
        sockets = [socket.create_server(("127.0.0.1", free_port())) for _ in range(2)]
        cls.passed = [each.getsockname()[1] for each in sockets]
        cls.balanced, cls.balanced_tls = free_port(), free_port()
        port, tls_port = free_port(), free_port()
        cls.door = OpenDoor(
            sockets,
            GMP_SMTP_LISTEN=f"tcp:{port}:interface=127.0.0.1 "
            f"tls:tcp:{tls_port}:interface=127.0.0.1 "
            f"haproxy:tcp:{cls.balanced}:interface=127.0.0.1 "
            f"tls:haproxy:tcp:{cls.balanced_tls}:interface=127.0.0.1 "
            "systemd:domain=INET:index=0 tls:systemd:domain=INET:index=1",
            GMP_SMTP_ALLOW=f"{TRUSTED}, 192.0.2.1, unix",
            GMP_SMTP_MAX_PER_PEER="3",
        )
        cls.door.port, cls.door.tls_port = port, tls_port
        cls.addClassCleanup(cls.door.close)
        for each in sockets:
            each.close()

    def wire(
        self, port: int, source: str = STRANGER, tls: bool = False, first: bytes = b""
    ) -> Wire:
        """A connection that has greeted. :param first: what a balancer says, in clear."""
        wire = Wire(port, source)
        self.addCleanup(wire.close)
        wire.send(first)
        if tls:
            wire.encrypt(self.door.context())
        self.assertEqual("220", wire.reply()[:3])
        self.assertEqual(["250"], wire.say(b"EHLO client.test"))
        return wire

    def hand_in(self, wire: Wire, recipient: str) -> tuple[str, bytes]:
        """A whole message: the id it got, and what arrived."""
        said = wire.say(MAIL, b"RCPT TO:<%b>" % recipient.encode(), b"DATA")
        self.assertEqual(["250", "250", "354"], said)
        id = queue_id(wire.send(MESSAGE + b"\r\n").reply())
        copy, raw = self.door.arrived(recipient)
        self.assertEqual(id, copy["mail_id"])
        return id, raw

    def test_sockets_of_systemd(self) -> None:
        """A socket that was opened by who started us is a door as well, in clear and in TLS."""
        for n, (each, tls) in enumerate(zip(self.passed, (False, True), strict=True)):
            wire = self.wire(each, tls=tls)
            if not tls:
                self.assertEqual(["220"], wire.say(b"STARTTLS"))
                wire.encrypt(self.door.context())
                wire.say(b"EHLO client.test")
            self.assertEqual(["530", "235"], wire.say(MAIL, LOGIN))
            _, raw = self.hand_in(wire, f"systemd{n}@example.test")
            self.assertIn(b" with ESMTPSA ", raw)
            self.assertIn(b"\r\n (TLSv1.3 ", raw)

    def test_behind_a_balancer(self) -> None:
        """Who the balancer names is who is judged and written down, in clear, STARTTLS and TLS."""
        for first in (FROM_TRUSTED, binary_header("192.0.2.1")):
            wire = self.wire(self.balanced, first=first)
            self.assertEqual(["250", "221"], wire.say(MAIL, b"QUIT"))
        wire = self.wire(self.balanced, first=FROM_SOCKET)
        self.assertEqual(["530", "221"], wire.say(MAIL, b"QUIT"))
        for n, (port, tls) in enumerate(((self.balanced, False), (self.balanced_tls, True))):
            # The balancer itself would be trusted.
            wire = self.wire(port, TRUSTED, tls, FROM_STRANGER)
            self.assertEqual(["530"], wire.say(MAIL))
            if not tls:
                self.assertEqual(["220"], wire.say(b"STARTTLS"))
                wire.encrypt(self.door.context())
                wire.say(b"EHLO client.test")
            self.assertEqual(["235"], wire.say(LOGIN))
            _, raw = self.hand_in(wire, f"balanced{n}@example.test")
            self.assertIn(b"([198.51.100.1])\r\n (TLSv1.3 ", raw)
            self.assertEqual(["221"], wire.say(b"QUIT"))

    def test_a_balancer_that_says_nothing(self) -> None:
        """F54: at a balancer's door nobody gets in without a word of the balancer."""
        wire = Wire(self.balanced, TRUSTED)
        self.addCleanup(wire.close)
        codes = wire.send(b"EHLO client.test\r\n" + MAIL + b"\r\n").codes()
        self.assertLessEqual(set(codes), {"220"})

    def test_connections_of_one_address(self) -> None:
        """F52: an address has so many connections; behind a balancer, the one that it names."""
        for port, first, source, other in (
            (self.door.port, b"", "127.0.0.31", (b"", "127.0.0.32")),
            (self.balanced, FROM_STRANGER, STRANGER, (FROM_TRUSTED, STRANGER)),
        ):
            kept = [self.wire(port, source, first=first) for _ in range(3)]
            beyond = Wire(port, source)
            self.addCleanup(beyond.close)
            codes = beyond.send(first, b"EHLO client.test\r\n").codes()
            self.assertEqual("421", codes[-1])
            self.assertEqual(["250"], self.wire(port, other[1], first=other[0]).say(b"NOOP"))
            for wire in kept:
                self.assertEqual(["221"], wire.say(b"QUIT"))

    def test_credentials_of_networks(self) -> None:
        """A program that cannot log in is known by its network, and bound as any credential."""
        self.door.credential(
            "printer", password=None, networks=["127.0.0.40/31"], senders=["printer@example.test"]
        )
        mine = b"MAIL FROM:<printer@example.test>"
        self.assertEqual(["550", "250"], self.wire(self.door.port, "127.0.0.41").say(MAIL, mine))
        self.assertEqual(["530"], self.wire(self.door.port, "127.0.0.42").say(mine))
        wire = self.wire(self.door.port, "127.0.0.40")
        wire.say(mine, b"RCPT TO:<anna@example.test>", b"DATA")
        self.assertEqual(["550"], wire.say(MESSAGE))  # its From is of somebody else

    def test_a_renewed_certificate(self) -> None:
        """A renewed certificate is shown by all doors to who comes next, without a restart."""
        before = self.wire(self.door.tls_port, tls=True)
        renewed = self.door.directory / "renewed.pem"
        renewed.write_bytes(self.door.authority.issue("localhost", "renewed.test"))
        os.replace(renewed, self.door.certificate)
        wait_until(lambda: "renewed.test" in self.shown(self.door.tls_port), what="the new one")
        self.assertIn("renewed.test", self.shown(self.door.port, b"EHLO x\r\nSTARTTLS\r\n"))
        self.assertEqual(["250"], before.say(b"NOOP"))

    def shown(self, port: int, first: bytes = b"") -> list[str]:
        """The names in the certificate that is shown at *port*."""
        with Wire(port, "127.0.0.50") as wire:
            if first:
                for line in first.splitlines():
                    wire.reply()
                    wire.send(line + b"\r\n")
                wire.reply()
            wire.encrypt(self.door.context())
            assert isinstance(wire.socket, ssl.SSLSocket)
            data = wire.socket.getpeercert(binary_form=True)
        assert data is not None
        names = x509.load_der_x509_certificate(data).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
        return names.value.get_values_for_type(x509.DNSName)
