"""A certification authority of our own, and what it issues."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import json

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID, NameOID

_DAY = datetime.timedelta(days=1)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def pinned(pem: bytes, *, key: bool = False) -> str:
    """The options of an account that insists on the certificate *pem*, or on its public key."""
    certificate = x509.load_pem_x509_certificate(pem)
    digest = certificate.fingerprint(hashes.SHA256()).hex()
    if key:
        public = certificate.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        digest = hashlib.sha256(public).hexdigest()
    return json.dumps({"pin": ["0" * 64, digest]})


class Authority:
    """:ivar pem: the root, for those who trust it."""

    def __init__(self, name: str = "Test CA") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        now = datetime.datetime.now(datetime.UTC)
        root = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 10 * _DAY)
            .not_valid_after(now + _DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = _pem(root).decode()

    def issue(
        self,
        *names: str,
        expired: bool = False,
        self_signed: bool = False,
        garbled: bool = False,
    ) -> bytes:
        """
        PEM of a certificate and its key, for host *names* or IP addresses.

        :param garbled: what stands in the place of its names cannot be read.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        subject = _name(names[0])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if self_signed else self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 5 * _DAY)
            .not_valid_after(now - _DAY if expired else now + _DAY)
            .add_extension(_GARBLED if garbled else _names(names), critical=False)
            .sign(key if self_signed else self._key, hashes.SHA256())
        )
        return _pem(certificate) + _key_pem(key)


#: A list of one name, of two octets that are no characters.
_GARBLED = x509.UnrecognizedExtension(
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"\x30\x04\x82\x02\xff\xfe"
)


def _names(names: tuple[str, ...]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([_alt(name) for name in names])


def _alt(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
