"""A receiver on a real socket that does with each request what it is told to."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.python.failure import Failure

#: What a receiver does when a request is there: it writes to, or ends, the transport.
Script = Callable[["Connection"], None]


def answer(status: str, body: bytes = b"", *headers: str) -> Script:
    """A whole HTTP/1.1 answer with a length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return raw("\r\n".join(lines).encode() + body)


def raw(data: bytes, *, close: bool = False) -> Script:
    """These bytes, and the connection left open unless *close*."""

    def script(connection: Connection) -> None:
        connection.transport.write(data)
        if close:
            connection.transport.loseConnection()

    return script


def hang(connection: Connection) -> None:
    """No answer at all."""


class Connection(Protocol):
    """Collects one request with a Content-Length, then follows the script."""

    transport: Any
    factory: Receiver

    def connectionMade(self) -> None:
        self.received = b""
        self.answered = False
        self.factory.connections.append(self)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        head, end, body = self.received.partition(b"\r\n\r\n")
        if not end or self.answered:
            return
        length = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        )
        if len(body) >= length:
            self.answered = True
            self.factory.requests.append((head, body))
            self.factory.script(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.ended(self)


class Receiver(Factory):
    """
    :param script: what to do with each request.
    :ivar requests: head and body of each request.
    :ivar connections: those that were made; ``open`` are those still there.
    """

    protocol = Connection  # type: ignore[assignment]
    noisy = False

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[tuple[bytes, bytes]] = []
        self.connections: list[Connection] = []
        self.lost: set[Connection] = set()
        self._waiters: list[Deferred[None]] = []

    def ended(self, connection: Connection) -> None:
        self.lost.add(connection)
        if len(self.lost) == len(self.connections):
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                waiter.callback(None)

    def all_closed(self) -> Deferred[None]:
        """Fires when every connection that was made has ended."""
        done: Deferred[None] = Deferred()
        if len(self.lost) == len(self.connections):
            done.callback(None)
        else:
            self._waiters.append(done)
        return done


class Authority:
    """A private certificate authority; *ca_file* is what its clients are given."""

    def __init__(self, directory: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "A private CA")])
        root = self._builder(self._name, self._key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.ca_file = directory / "ca.pem"
        pem = root.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        self.ca_file.write_bytes(pem)

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> Any:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
        )

    def server(self, *names: str) -> CertificateOptions:
        """A server's context with a certificate for *names* (host names or addresses)."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
        alternatives: list[x509.GeneralName] = [
            x509.IPAddress(ip_address(name)) if name[0].isdigit() else x509.DNSName(name)
            for name in names
        ]
        made = (
            self._builder(subject, key.public_key())
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        # Twisted declares pyOpenSSL's own types, which warn; it passes on what it is given.
        options: Any = CertificateOptions
        return options(privateKey=key, certificate=made)  # type: ignore[no-any-return]
