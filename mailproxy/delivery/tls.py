"""
TLS towards an upstream: whom we trust, how a name is checked, and why a peer was not trusted.

A verified connection needs a chain to a trusted root and a certificate for the account's host
(RFC 6125), or the handshake fails. Where the account has pins, the certificate must be one of
those, whatever it says and whoever issued it; with an authority of its own as well, both must hold.
A lenient one goes on regardless and says in ``problem`` what
was wrong; it is used only where the account allows an upstream without TLS just as well and no
credentials are at stake. TLS 1.2 is the least.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Any

from OpenSSL import SSL
from OpenSSL.crypto import X509
from OpenSSL.crypto import Error as CryptoError
from service_identity import VerificationError
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from service_identity.pyopenssl import extract_patterns
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    TLSVersion,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.logger import Logger
from zope.interface import implementer

from mailproxy.model import Account
from mailproxy.pins import digests, pins_of
from mailproxy.states import TlsMode

_log = Logger()

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)

#: X509_V_ERR_* (openssl/x509_vfy.h) in an operator's words.
_PROBLEMS = {
    2: "its issuer is not known",
    9: "it is not valid yet",
    10: "it has expired",
    18: "it is self-signed",
    19: "it was issued by a root that is not trusted",
    20: "its issuer is not trusted",
    21: "its issuer is not trusted",
    23: "it was revoked",
    24: "its issuer may not issue certificates",
    26: "it is not meant for a server",
    66: "its key is too weak",
    67: "its issuer's key is too weak",
    68: "its signature is too weak",
}


class BadRoots(ValueError):
    """The certificates to trust cannot be read."""


def certificates(pem: str) -> list[Certificate]:
    """
    Every certificate in *pem*.

    :raises BadRoots: there is none, or one cannot be read.
    """
    try:
        found = [Certificate.loadPEM(each) for each in _PEM.findall(pem)]
    except CryptoError as error:
        raise BadRoots("a CA certificate cannot be read") from error
    if not found:
        raise BadRoots("there is no certificate in the CA's PEM")
    return found


@implementer(IOpenSSLClientConnectionCreator)
class TlsClient:
    """
    The client's side of TLS for one connection to *host*.

    :param lenient: go on with a peer that is not trusted.
    :param pins: digests of the certificates that are accepted; none: any that verifies.
    :param chain: whether the certificate has to verify as well.

    :ivar problem: what is wrong with the peer's certificate; "" while nothing is known to be.
    """

    def __init__(
        self,
        context: SSL.Context,
        host: str,
        lenient: bool,
        pins: frozenset[str] = frozenset(),
        chain: bool = True,
    ) -> None:
        self._context = context
        self._host = host
        self._lenient = lenient
        self._pins = pins
        self._chain = chain
        self.problem = ""

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        if isinstance(self._identity(), DNS_ID):
            connection.set_tlsext_host_name(_ascii(self._host).encode("ascii"))
        connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, self._verify)
        return connection

    @property
    def fatal(self) -> str:
        """:attr:`problem`, if that is what ended the connection."""
        return "" if self._lenient else self.problem

    def _identity(self) -> DNS_ID | IPAddress_ID:
        try:
            return IPAddress_ID(str(ipaddress.ip_address(self._host.strip("[]"))))
        except ValueError:
            return DNS_ID(_ascii(self._host))

    def _verify(
        self, connection: SSL.Connection, certificate: X509, error: int, depth: int, good: int
    ) -> bool:
        """Called for each certificate of the chain, and once more for each thing wrong with it."""
        try:
            if (
                depth == 0
                and self._pins
                and not self._pins & digests(certificate.to_cryptography())
            ):
                self._object("it is none of those the account insists on")
                return self._lenient
            if not self._chain:
                return True
            if not good:
                self._object(_PROBLEMS.get(error, f"it does not verify (error {error})"))
                return self._lenient
            if depth == 0:
                try:
                    verify_service_identity(extract_patterns(certificate), [self._identity()], [])
                except VerificationError:
                    self._object(f"it is not for {self._host}")
                    return self._lenient
        except Exception:
            # An exception must not leave a callback of OpenSSL: it would be lost, and the
            # certificate accepted or not by chance. Which ones parsing raises depends on what a
            # stranger has put into the certificate, and on three libraries: no list is complete.
            _log.failure("verifying a certificate raised")
            self._object("it cannot be understood")
            return self._lenient
        return True

    def _object(self, problem: str) -> None:
        self.problem = self.problem or f"the certificate was not verified: {problem}"


class TlsClients:
    """
    Makes the :class:`TlsClient` of each connection.

    :param extra_ca: PEM of roots trusted beside those of the platform or of the account.
    """

    def __init__(self, extra_ca: str | None = None) -> None:
        self._extra = certificates(extra_ca) if extra_ca else []
        # Loading the platform's roots takes milliseconds: once for all accounts that share them.
        self._context = lru_cache(maxsize=64)(self._make_context)

    def client(self, account: Account) -> TlsClient:
        """
        :raises BadRoots: the account's ``ca_pem`` cannot be read.
        """
        pins = pins_of(account.options)
        chain = not pins or account.ca_pem is not None
        context = self._context(account.ca_pem)
        return TlsClient(context, account.host, lenient(account), pins, chain)

    def verified(self, host: str) -> TlsClient:
        """For a connection to *host* that must be what it says."""
        return TlsClient(self._context(None), host, lenient=False)

    def _make_context(self, ca_pem: str | None) -> SSL.Context:
        roots = trustRootFromCertificates(certificates(ca_pem)) if ca_pem else platformTrust()
        options = CertificateOptions(trustRoot=roots, raiseMinimumTo=TLSVersion.TLSv1_2)
        context: SSL.Context = options.getContext()
        store = context.get_cert_store()
        assert store is not None
        for certificate in self._extra:
            store.add_cert(certificate.original)
        return context


def lenient(account: Account) -> bool:
    """Whether an upstream that cannot prove who it is may be talked to."""
    return (
        account.tls_mode is TlsMode.OPPORTUNISTIC
        and (not account.user or account.allow_plaintext_auth)
        and not pins_of(account.options)
    )


def _ascii(host: str) -> str:
    return (
        host.rstrip(".").encode("idna").decode("ascii") if not host.isascii() else host.rstrip(".")
    )
