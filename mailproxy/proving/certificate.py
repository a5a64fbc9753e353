"""The certificate the sink makes for itself when it starts. It is its own root of trust."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterable

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

#: Names and addresses under which a sink on this machine is reached.
LOCAL = ("localhost", "127.0.0.1", "::1")

_DAY = datetime.timedelta(days=1)


@attrs.frozen
class Identity:
    """A self-signed certificate and its key, both PEM."""

    certificate: str
    key: str = attrs.field(repr=False)


def make(
    now: float,
    names: Iterable[str] = LOCAL,
    days: int = 30,
    issuer: Identity | None = None,
) -> Identity:
    """
    Make a certificate that is valid from a day before *now* for *days*.

    :param now: Unix seconds.
    :param names: host names and IP addresses it is valid for; the first is its subject.
    :param issuer: signs it; None: it is its own root.
    """
    names = list(names)
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    named = [x509.NameAttribute(NameOID.COMMON_NAME, names[0])]
    if issuer is not None:
        # Whose subject is its issuer's would pass for its own root.
        named.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "issued"))
    subject = x509.Name(named)
    start = datetime.datetime.fromtimestamp(now, datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else _loaded(issuer)[0])
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - _DAY)
        .not_valid_after(start + days * _DAY)
        .add_extension(x509.SubjectAlternativeName([_general(each) for each in names]), False)
        # A root as well as a leaf, so that a client may be told to trust just this.
        .add_extension(_ROOT if issuer is None else _LEAF, True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
        .add_extension(_usage(root=issuer is None), True)
    )
    signer = key if issuer is None else _loaded(issuer)[1]
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False
    )
    certificate = builder.sign(signer, hashes.SHA256())
    return Identity(
        certificate.public_bytes(serialization.Encoding.PEM).decode(),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode(),
    )


def _loaded(identity: Identity) -> tuple[x509.Name, ec.EllipticCurvePrivateKey]:
    """The subject and the key of *identity*."""
    key = serialization.load_pem_private_key(identity.key.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return x509.load_pem_x509_certificate(identity.certificate.encode()).subject, key


_ROOT = x509.BasicConstraints(ca=True, path_length=0)
_LEAF = x509.BasicConstraints(ca=False, path_length=None)


def _usage(*, root: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=root,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
