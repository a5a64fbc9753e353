"""
The certificate of the SMTP door, read again when its file changes.

A renewed certificate is in force for the next connection, without a restart; a damaged one is one
line in the log, and the old one stays in force.
"""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from OpenSSL import SSL
from twisted.internet.ssl import CertificateOptions, TLSVersion
from twisted.logger import Logger

from mailproxy.errors import ConfigurationError
from mailproxy.interfaces import IClock

#: Seconds between two looks at the files, at least.
LOOK = 5.0

_log = Logger()


class ServerTls:
    """
    What ``startTLS`` takes: makes the server side of connections.

    :param certificate: PEM file, the chain behind the certificate; *key*: its private key.
    :raises ConfigurationError: they cannot be read, or do not belong together.
    """

    def __init__(self, certificate: Path, key: Path, clock: IClock) -> None:
        self._certificate = certificate
        self._key = key
        self._clock = clock
        self._stamp = self._stamped()
        self._looked = clock.seconds()
        self._context = load(certificate, key)

    def getContext(self) -> SSL.Context:
        """The context for a new connection."""
        now = self._clock.seconds()
        if now - self._looked >= LOOK:
            self._looked = now
            self.look()
        return self._context

    def look(self) -> None:
        """Read the files again if they changed."""
        stamp = self._stamped()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._context = load(self._certificate, self._key)
        except ConfigurationError as error:
            _log.error("the certificate of the SMTP door stays as it was: {error}", error=error)
        else:
            _log.info("the certificate of the SMTP door was read again")

    def _stamped(self) -> tuple[tuple[int, int, int] | None, ...]:
        return _stamp(self._certificate), _stamp(self._key)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def load(certificate: Path, key: Path) -> SSL.Context:
    """:raises ConfigurationError: naming the variable whose file is at fault."""
    try:
        chain = x509.load_pem_x509_certificates(certificate.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError("GMP_SMTP_TLS_CERT", _why(error, "no certificate")) from None
    try:
        private = serialization.load_pem_private_key(key.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigurationError("GMP_SMTP_TLS_KEY", _why(error, "no private key")) from None
    if _public(private.public_key()) != _public(chain[0].public_key()):
        raise ConfigurationError("GMP_SMTP_TLS_KEY", "is not the key of the certificate")
    # pyOpenSSL takes what cryptography has read; only Twisted's annotations do not say so yet.
    options = CertificateOptions(
        privateKey=private,  # type: ignore[arg-type]
        certificate=chain[0],  # type: ignore[arg-type]
        extraCertChain=chain[1:],  # type: ignore[arg-type]
        raiseMinimumTo=TLSVersion.TLSv1_2,
    )
    context: SSL.Context = options.getContext()
    return context


def _public(key: object) -> bytes:
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    data: bytes = key.public_bytes(encoding, form)  # type: ignore[attr-defined]  # each kind has it
    return data


def _why(error: Exception, otherwise: str) -> str:
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or error}"
    return f"there is {otherwise} in PEM in it"
