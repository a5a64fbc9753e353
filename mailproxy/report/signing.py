"""
Signatures of reports, as Standard Webhooks has them: made here, and checked by the receiver.

A receiver that shares a secret with us knows by the signature that a report is ours, is whole, and
was sent just now. This module needs nothing but Python's own library, so that a receiver can take
it as it stands.

Pure.

Source: Standard Webhooks, https://www.standardwebhooks.com/
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence

#: The header fields that carry a signature.
ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"

#: Seconds that a report may be older or newer than the receiver's clock says.
TOLERANCE = 300

_PREFIX = "whsec_"
_timestamp = re.compile(r"[0-9]{1,15}").fullmatch


class BadSignature(Exception):
    """A request does not show that we made it just now; the text says why, and no secret."""


def key_of(secret: str) -> bytes:
    """
    The key that a secret stands for.

    :param secret: ``whsec_`` and 24 to 64 bytes in base64.
    :raises ValueError: it is not a secret.
    """
    if not secret.startswith(_PREFIX):
        raise ValueError(f"a secret begins with {_PREFIX}")
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except ValueError:
        raise ValueError("a secret is base64") from None
    if not 24 <= len(key) <= 64:
        raise ValueError("a secret has 24 to 64 bytes")
    return key


def sign(secret: str, webhook_id: str, timestamp: int, body: bytes) -> str:
    """
    The signature of one request: ``v1,`` and an HMAC-SHA256 in base64.

    :param timestamp: when the request is sent, Unix seconds.
    :raises ValueError: *secret* is none.
    """
    content = b"%s.%d.%s" % (webhook_id.encode(), timestamp, body)
    digest = hmac.new(key_of(secret), content, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode("ascii")


def verify(
    body: bytes,
    headers: Mapping[str, str],
    secrets: str | Sequence[str],
    now: float,
    tolerance: float = TOLERANCE,
) -> str:
    """
    Check a request that was received.

    Takes the same time whichever secret or signature is the right one, and wherever a wrong one
    differs. A request that is sent again has the same id; who remembers ids knows it.

    :param body: the body as it was received, byte for byte.
    :param headers: names in any case.
    :param secrets: those in use; several while one is replaced by another.
    :param now: Unix seconds.
    :param tolerance: seconds that the request may be old, or ahead of *now*.
    :return: the request's id.
    :raises BadSignature: the request is not to be trusted.
    :raises ValueError: a secret is none, or there is none.
    """
    known = [secrets] if isinstance(secrets, str) else list(secrets)
    if not known:
        raise ValueError("no secret to check with")
    fields = {name.lower(): value for name, value in headers.items()}
    missing = [name for name in (ID, TIMESTAMP, SIGNATURE) if not fields.get(name)]
    if missing:
        raise BadSignature(f"{missing[0]}: missing")
    if not _timestamp(fields[TIMESTAMP]):
        raise BadSignature(f"{TIMESTAMP}: not a number of seconds")
    timestamp = int(fields[TIMESTAMP])
    if abs(now - timestamp) > tolerance:
        raise BadSignature(f"{TIMESTAMP}: too far from now")
    expected = [sign(each, fields[ID], timestamp, body).encode() for each in known]
    good = False
    for given in fields[SIGNATURE].split():
        for each in expected:
            good |= hmac.compare_digest(given.encode("utf-8", "surrogateescape"), each)
    if not good:
        raise BadSignature(f"{SIGNATURE}: none that fits")
    return fields[ID]


def report_id(event_ids: Iterable[str], now: float) -> str:
    """
    The id of a report: the same whenever the same events are offered.

    :param event_ids: of its items, in any order; a report without any has an id of its own.
    :param now: when it is sent, Unix seconds.
    """
    text = "\n".join(sorted(event_ids)) or f"empty {now:.6f}"
    return f"report_{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def signature_headers(
    secret: str, event_ids: Iterable[str], now: float, body: bytes
) -> dict[str, str]:
    """The header fields that go with a report. :raises ValueError: *secret* is none."""
    webhook_id, timestamp = report_id(event_ids, now), int(now)
    return {
        ID: webhook_id,
        TIMESTAMP: str(timestamp),
        SIGNATURE: sign(secret, webhook_id, timestamp, body),
    }
