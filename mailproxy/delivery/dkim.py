"""
Signing mail (DKIM, RFC 6376 and 8463) by the keys of the tenant for the domain of its From.

What is signed is found and brought into canonical form by dkimpy, which comes with the extra
``dkim``; the signature's own field is laid out here. All of it takes a millisecond or two, so that
it belongs into a thread. The same message and the same keys give the same bytes: the time in the
signature is that of the message's acceptance.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any, Protocol

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from mailproxy.dkim_keys import NOT_INSTALLED, DkimKey
from mailproxy.errors import SigningFault

#: Of these one more is signed than there is, so that none can be added (RFC 6376, section 8.15).
OVERSIGNED = (
    *(b"from", b"to", b"cc", b"subject", b"date", b"message-id", b"reply-to"),
    *(b"mime-version", b"content-type", b"content-transfer-encoding"),
)

#: These are signed where they are (RFC 6376, section 5.4.1; RFC 8058, section 4).
SIGNED = (
    *(b"sender", b"in-reply-to", b"references", b"content-id", b"content-description"),
    *(b"resent-date", b"resent-from", b"resent-sender", b"resent-to", b"resent-cc"),
    *(b"resent-message-id", b"list-id", b"list-help", b"list-unsubscribe"),
    *(b"list-unsubscribe-post", b"list-subscribe", b"list-post", b"list-owner", b"list-archive"),
    *(b"feedback-id", b"auto-submitted"),
)

#: How much a header and a body may change on the way (RFC 6376, section 3.4).
CANONICAL = b"relaxed/simple"

#: Octets of a line in the field, where it can be broken (RFC 5322, section 2.1.1).
LINE = 76

#: Private keys that are kept ready to sign.
KEPT = 256


class SigningKeys(Protocol):
    """Which keys sign what; answered without waiting."""

    def signs(self, tenant_id: str) -> bool:
        """Whether any mail of the tenant is signed."""

    def signing(self, tenant_id: str, domain: str) -> Sequence[DkimKey]:
        """The keys that sign the tenant's mail with this domain in its From."""


def sign(data: bytes, keys: Sequence[DkimKey], at: float) -> bytes:
    """
    *data* behind one signature for each of *keys*.

    :param data: as it goes on the wire, dots not doubled.
    :param at: what the signatures say of their time, Unix seconds; a fraction is cut.
    :raises SigningFault: a key is damaged or the extra is missing (which may be mended), or the
        header cannot be signed.
    """
    private = [_private(key) for key in keys]
    try:
        dkim: Any = import_module("dkim")
        canonicalization: Any = import_module("dkim.canonicalization")
    except ImportError:
        raise SigningFault(NOT_INSTALLED, transient=True) from None
    try:
        message = dkim.DKIM(data)
    except dkim.MessageFormatError:
        # Its text would quote from the header.
        raise SigningFault("DKIM: the header cannot be signed", transient=False) from None
    policy = canonicalization.CanonicalizationPolicy.from_c_value(CANONICAL)
    headers = policy.canonicalize_headers(message.headers)
    body = hashlib.sha256(policy.canonicalize_body(message.body)).digest()
    names = _listed(name for name, _ in headers)
    made: list[bytes] = []
    for key, secret in zip(keys, private, strict=True):
        field = _field(key, names, base64.b64encode(body), int(at))
        signed = _Text()
        dkim.hash_headers(signed, policy, headers, names, (b"DKIM-Signature", b" " + field), None)
        made += (b"DKIM-Signature: ", field, _folded(_signature(secret, signed.text)), b"\r\n")
    return b"".join((*made, data))


class _Text:
    """Takes what is to be hashed."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def update(self, data: bytes) -> None:
        self._pieces.append(data)

    @property
    def text(self) -> bytes:
        return b"".join(self._pieces)


def _listed(names: Iterable[bytes]) -> list[bytes]:
    """What the tag ``h`` says: each field as often as it is there, some once more."""
    there = Counter(names)
    found = [name for name in OVERSIGNED for _ in range(there[name] + 1)]
    return found + [name for name in SIGNED for _ in range(there[name])]


def _field(key: DkimKey, names: Sequence[bytes], body: bytes, at: int) -> bytes:
    """
    The field's value up to the signature itself.

    Lines end between tags and between names, never within a domain or a selector, where white
    space is not allowed (RFC 6376, section 3.5).
    """
    tags = (
        b"v=1; a=%b-sha256; c=%b; t=%d;" % (key.algorithm.encode(), CANONICAL, at),
        b"d=%b;" % key.domain.encode(),
        b"s=%b;" % key.selector.encode(),
        *_names(names),
        b"bh=%b;" % body,
        b"b=",
    )
    return b"\r\n\t".join(tags)


def _names(names: Sequence[bytes]) -> Iterator[bytes]:
    """The tag ``h``, line by line."""
    line = b"h="
    for name in names[:-1]:
        if len(line) + len(name) >= LINE:
            yield line
            line = b""
        line += name + b":"
    yield b"%b%b;" % (line, names[-1])


def _folded(signature: bytes) -> bytes:
    text = base64.b64encode(signature)
    step = LINE - 2
    return b"\r\n\t".join(text[at : at + step] for at in range(0, len(text), step))


def _signature(key: RSAPrivateKey | Ed25519PrivateKey, text: bytes) -> bytes:
    if isinstance(key, RSAPrivateKey):
        return key.sign(text, PKCS1v15(), hashes.SHA256())
    return key.sign(hashlib.sha256(text).digest())  # RFC 8463, section 3


def _private(key: DkimKey) -> RSAPrivateKey | Ed25519PrivateKey:
    """:raises SigningFault: it is damaged."""
    try:
        return _loaded(key.private or "")
    except ValueError:
        raise SigningFault(f"the DKIM key {key.record_name} is damaged", transient=True) from None


@lru_cache(maxsize=KEPT)
def _loaded(pem: str) -> RSAPrivateKey | Ed25519PrivateKey:
    """:raises ValueError: it is none."""
    key = serialization.load_pem_private_key(pem.encode("ascii"), password=None)
    if isinstance(key, RSAPrivateKey | Ed25519PrivateKey):
        return key
    raise ValueError("a key of another kind")
