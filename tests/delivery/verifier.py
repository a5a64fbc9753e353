"""Verifies signatures of mail: by dkimpy with a DNS of ours, and by hand, word by word."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from importlib.util import find_spec

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from mailproxy.dkim_keys import installed
from tests.need import missing


def need_dkim() -> None:
    """:raises SkipTest: the extra is not installed; in CI, AssertionError."""
    if not installed() or find_spec("nacl") is None:
        missing("the extra mailproxy[dkim], and PyNaCl to verify Ed25519")


def signatures(data: bytes) -> list[dict[str, str]]:
    """The tags of each DKIM-Signature in front of a message, in order, without white space."""
    found = re.findall(rb"(?m)^DKIM-Signature:((?:[^\r\n]*\r\n)(?:[ \t][^\r\n]*\r\n)*)", data)
    return [
        {
            name.strip(): re.sub(r"\s", "", value)
            for name, _, value in (tag.partition("=") for tag in text.decode().split(";"))
        }
        for text in found
    ]


def verified(data: bytes, records: Mapping[str, str]) -> list[bool]:
    """What dkimpy says of each signature, given the TXT *records* by name."""
    import dkim

    def txt(name: bytes, timeout: int = 5) -> bytes | None:
        record = records.get(name.decode().rstrip("."))
        return None if record is None else record.encode()

    count = len(signatures(data))
    return [dkim.DKIM(data).verify(idx=n, dnsfunc=txt) for n in range(count)]


def check_by_hand(data: bytes, record: str) -> dict[str, str]:
    """
    Verify the first signature from the words of RFC 6376 alone, relaxed/simple.

    :return: its tags.
    :raises AssertionError, cryptography.exceptions.InvalidSignature: it does not hold.
    """
    header, _, body = data.partition(b"\r\n\r\n")
    fields = re.split(rb"\r\n(?![ \t])", header)
    tags = signatures(data)[0]
    body = re.sub(rb"(\r\n)*\Z", b"", body) + b"\r\n"  # section 3.4.3
    assert tags["bh"] == base64.b64encode(hashlib.sha256(body).digest()).decode(), "bh"
    own, rest = fields[0], fields[1:]
    signed = []
    for name in tags["h"].split(":"):  # section 5.4.2: from the bottom up, each once
        for at in reversed(range(len(rest))):
            if rest[at].partition(b":")[0].decode().strip().lower() == name:
                signed.append(_relaxed(rest.pop(at)) + b"\r\n")
                break
    # Section 3.7: the signature itself comes last, with an empty b= and no CRLF.
    signed.append(_relaxed(re.sub(rb"(?s)(;\s*b=).*\Z", rb"\1", own)))
    public = base64.b64decode(dict(t.strip().split("=", 1) for t in record.split(";"))["p"])
    given, text = base64.b64decode(tags["b"]), b"".join(signed)
    if tags["a"] == "ed25519-sha256":
        # RFC 8463, section 3: what is signed is the hash.
        Ed25519PublicKey.from_public_bytes(public).verify(given, hashlib.sha256(text).digest())
    else:
        key = load_der_public_key(public)
        assert isinstance(key, RSAPublicKey)
        key.verify(given, text, PKCS1v15(), hashes.SHA256())
    return tags


def _relaxed(field: bytes) -> bytes:
    """Section 3.4.2."""
    name, _, value = field.partition(b":")
    value = re.sub(rb"[ \t]+", b" ", value.replace(b"\r\n", b"")).strip(b" ")
    return name.strip(b" \t").lower() + b":" + value
