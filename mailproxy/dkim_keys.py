"""
The keys that sign mail (RFC 6376, RFC 8463): read, made, and told to the world.

Nothing here signs; see :mod:`mailproxy.delivery.dkim`.
"""

from __future__ import annotations

import base64
import re
from enum import StrEnum
from importlib.util import find_spec

import attrs
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from mailproxy.errors import MailProxyError

#: Bits of an RSA key that is made here. Of one that is given: RFC 8301, section 3.2 asks signers
#: for 2048, and verifiers for no more than 4096.
RSA_BITS = 2048
RSA_MOST_BITS = 4096

#: Characters of a key in PEM that is looked at; one of 4096 bits has about 3 300.
MAX_PEM = 10_000

#: Characters of the name of a record in the DNS.
MAX_NAME = 253

#: Keys of one domain of a tenant at most.
MAX_SELECTORS = 10

#: What is said where a key is to be used and nothing could sign with it.
NOT_INSTALLED = "DKIM needs the extra mailproxy[dkim], which is not installed"

#: RFC 6376, section 3.1: labels with dots between them.
_selector = re.compile(
    r"(?=.{1,63}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*"
).fullmatch


class Algorithm(StrEnum):
    """What a key signs with; the names are those of the tag ``k`` of its record."""

    RSA = "rsa"
    ED25519 = "ed25519"


class BadDkimKey(MailProxyError):
    """A key or a selector is not acceptable; the text says why, without the value."""


class DkimKeyExists(MailProxyError):
    """The domain has a key with this selector."""


class TooManyDkimKeys(MailProxyError):
    """The domain has as many keys as it may have."""


def installed() -> bool:
    """Whether all that signing needs is there."""
    return find_spec("dkim") is not None


@attrs.frozen
class KeyPair:
    """
    :param private: PEM of PKCS #8, not encrypted.
    :param public: what the tag ``p`` of its record says: base64 on one line.
    """

    algorithm: Algorithm
    private: str = attrs.field(repr=False)
    public: str


@attrs.frozen
class DkimKey:
    """
    A key that signs a tenant's mail. The private half is in the clear here and sealed in the store.

    :param domain: of the From, exactly; in lower case, as A-labels.
    :param selector: in lower case.
    :param private: PEM; None where what is stored is damaged.
    :param public: see :class:`KeyPair`.
    :param active: whether it signs. Of each algorithm at most one key of a domain does.
    """

    tenant_id: str
    domain: str
    selector: str
    algorithm: Algorithm
    private: str | None = attrs.field(repr=False)
    public: str
    active: bool = False
    created_at: float = 0.0

    @property
    def record_name(self) -> str:
        """The name of the TXT record by which the world finds the public half."""
        return f"{self.selector}._domainkey.{self.domain}"

    @property
    def record(self) -> str:
        """What that record has to say (RFC 6376, section 3.6.1)."""
        return f"v=DKIM1; k={self.algorithm}; p={self.public}"


def generate(algorithm: Algorithm) -> KeyPair:
    """A new key. One for RSA takes some tenths of a second."""
    if algorithm is Algorithm.ED25519:
        return _pair(Ed25519PrivateKey.generate())
    return _pair(generate_private_key(public_exponent=65537, key_size=RSA_BITS))


def read_pem(text: str) -> KeyPair:
    """
    The key that *text* holds in PEM, of PKCS #1 or #8, not encrypted.

    :raises BadDkimKey: it is none, or of another kind, or too small or too large.
    """
    if len(text) > MAX_PEM:
        raise BadDkimKey(f"longer than {MAX_PEM} characters")
    try:
        key = serialization.load_pem_private_key(text.strip().encode("ascii"), password=None)
    except TypeError:
        raise BadDkimKey("expected a key without a password") from None
    except (ValueError, UnsupportedAlgorithm):
        raise BadDkimKey("expected a private key in PEM") from None
    if isinstance(key, RSAPrivateKey):
        if not RSA_BITS <= key.key_size <= RSA_MOST_BITS:
            raise BadDkimKey(
                f"an RSA key of {key.key_size} bits; expected {RSA_BITS} to {RSA_MOST_BITS}"
            )
        return _pair(key)
    if isinstance(key, Ed25519PrivateKey):
        return _pair(key)
    raise BadDkimKey("expected a key for RSA or Ed25519")


def _pair(key: RSAPrivateKey | Ed25519PrivateKey) -> KeyPair:
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode("ascii")
    if isinstance(key, Ed25519PrivateKey):
        # RFC 8463, section 4.2: the 32 bytes, without the structure around them.
        raw = key.public_key().public_bytes_raw()
        return KeyPair(Algorithm.ED25519, private, base64.b64encode(raw).decode("ascii"))
    der = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return KeyPair(Algorithm.RSA, private, base64.b64encode(der).decode("ascii"))


def check_selector(text: str, domain: str) -> str:
    """
    The selector *text* as it is stored.

    :raises BadDkimKey: it is none, or the name of its record under *domain* would be too long.
    """
    found = text.lower()
    if not _selector(found):
        raise BadDkimKey("expected letters, digits and hyphens, at most 63 characters")
    if len(f"{found}._domainkey.{domain}") > MAX_NAME:
        raise BadDkimKey("too long for the domain")
    return found
