"""A third-party SMTP server (aiosmtpd) as the upstream, with TLS and AUTH where wanted."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

USER, PASSWORD = "relay", "s3cret-passw0rd"


class Certificate:
    """
    A self-signed certificate for 127.0.0.1 and localhost, as PEM files in *directory*.

    Trusted by whoever is given ``pem``; nobody else.
    """

    def __init__(self, directory: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(
                x509.SubjectAlternativeName(
                    [
                        x509.DNSName("localhost"),
                        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
                    ]
                ),
                critical=False,
            )
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
        self.path = directory / "upstream.pem"
        self.path.write_text(
            self.pem
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ).decode()
        )

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path)
        return context


class Mailroom:
    """Keeps what arrives; refuses recipients whose local part begins with ``refused``."""

    def __init__(self) -> None:
        self.arrived: list[Envelope] = []
        self.tls: list[bool] = []

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.startswith("refused"):
            return "550 5.1.1 No such user"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.arrived.append(envelope)
        self.tls.append(session.ssl is not None)
        return f"250 2.0.0 queued as {len(self.arrived)}"

    def by_id(self) -> dict[str, list[bytes]]:
        """What arrived, by the value of X-Genro-Mail-ID."""
        found: dict[str, list[bytes]] = {}
        for envelope in self.arrived:
            raw = envelope.original_content
            assert isinstance(raw, bytes)
            head = raw.partition(b"\r\n\r\n")[0]
            (line,) = [x for x in head.split(b"\r\n") if x.lower().startswith(b"x-genro-mail-id:")]
            found.setdefault(line.split(b":", 1)[1].strip().decode(), []).append(raw)
        return found


class Upstream:
    """
    aiosmtpd in a thread.

    :param context: for STARTTLS, if given.
    :param login: whether AUTH is required (after STARTTLS, if there is a context).
    :param mailroom: what answers, if that is not the usual one.
    """

    def __init__(
        self,
        port: int,
        context: ssl.SSLContext | None = None,
        login: bool = False,
        mailroom: Mailroom | None = None,
    ) -> None:
        self.mailroom = mailroom or Mailroom()
        self.logins: list[tuple[str, str]] = []
        options: dict[str, Any] = {"data_size_limit": 64 * 1024 * 1024}
        if context is not None:
            options |= {"tls_context": context, "require_starttls": login}
        if login:
            options |= {"authenticator": self._login, "auth_required": True}
        self._controller = Controller(
            self.mailroom, hostname="127.0.0.1", port=port, ready_timeout=20.0, **options
        )

    def _login(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        assert isinstance(data, LoginPassword)
        given = data.login.decode(), data.password.decode()
        self.logins.append(given)
        return AuthResult(success=given == (USER, PASSWORD), handled=False)

    def start(self) -> Upstream:
        self._controller.start()
        return self

    def stop(self) -> None:
        self._controller.stop()
