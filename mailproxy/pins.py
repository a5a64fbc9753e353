"""
Certificates an account insists on, named by their digests. Pure.

A pin is the SHA-256 of a certificate, or of its public key (the SubjectPublicKeyInfo, which a
renewed certificate may keep).
"""

from __future__ import annotations

import base64
import binascii
import re
from functools import lru_cache
from hashlib import sha256
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

#: The most pins of one account.
MOST = 20

_LENGTH = 32
_hex = re.compile(r"[0-9a-f]{64}").fullmatch
_PREFIX = re.compile(r"(?:sha-?256(?:://|//|/|:|=))", re.IGNORECASE)


def read(value: Any) -> list[str]:
    """
    Check the field ``pin``: a pin or a list of them, each in hex, with or without colons, or in
    base64; ``sha256:`` or ``sha256//`` may stand before it.

    :return: the digests in hex, lower case.
    :raises ValueError: with what is wrong, without the value.
    """
    items = value if isinstance(value, list) else [value] if value != "" else []
    if isinstance(value, str) and "," in value:
        items = value.split(",")
    if len(items) > MOST:
        raise ValueError(f"expected at most {MOST} digests")
    return list(dict.fromkeys(map(_digest, items)))


def _digest(value: Any) -> str:
    problem = "expected SHA-256 digests in hex or base64"
    if not isinstance(value, str) or len(value) > 200:
        raise ValueError(problem)
    text = (
        _PREFIX.sub("", value.strip(), count=1) if _PREFIX.match(value.strip()) else value.strip()
    )
    plain = text.replace(":", "").lower()
    if _hex(plain):
        return plain
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(problem) from None
    if len(digest) != _LENGTH:
        raise ValueError(problem)
    return digest.hex()


@lru_cache(maxsize=1024)
def pins_of(options: str) -> frozenset[str]:
    """The pins among the options of an account."""
    if '"pin"' not in options:
        return frozenset()
    said = msgspec.json.decode(options).get("pin")
    return frozenset(said) if isinstance(said, list) else frozenset()


def digests(certificate: x509.Certificate) -> frozenset[str]:
    """By what *certificate* may be pinned."""
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    whole = certificate.public_bytes(Encoding.DER)
    return frozenset((sha256(whole).hexdigest(), sha256(key).hexdigest()))
