"""
The header field ``Idempotency-Key``: the answer to a request is given again, not made again.

The store keeps the answer with the messages, in one transaction; here it gets its form.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Annotated

import attrs
import msgspec

from mailproxy.api.answers import Answer, Problem, error, invalid
from mailproxy.api.call import Call
from mailproxy.api.doc import Param
from mailproxy.model import DEFAULT_TENANT, Enqueued
from mailproxy.tenancy import Once

NAME = "Idempotency-Key"

_usable = re.compile(r"[!-~]{1,255}").fullmatch

HEADER = Param(
    NAME,
    Annotated[str, msgspec.Meta(min_length=1, max_length=255, pattern=r"^[!-~]+$")],
    "The answer to this request is kept for 24 h and given again, byte for byte, to the same "
    "request with the same key; another request with the key is refused with 409.",
)

REUSED = error(409, f"this {NAME} was used for another request")


@attrs.frozen
class Key:
    """:param asked: what was asked beside the body; *tenant_id*: whose key it is."""

    tenant_id: str
    key: str
    asked: bytes

    def once(self, body_digest: bytes, tell: Callable[[Sequence[Enqueued]], Answer]) -> Once:
        """For the store. :param tell: makes the answer from the verdicts; Pure."""
        digest = hashlib.sha256(self.asked + b"\0" + body_digest).digest()
        return Once(self.tenant_id, self.key, digest, lambda verdicts: to_bytes(tell(verdicts)))


def key_of(call: Call, *, query: bool = False) -> Key | None:
    """
    The request's key, None if it has none.

    :param query: whether the query is part of what is asked, as the body is.
    :raises Refused: 422, it has one that is no key, or several.
    """
    values = call.request.requestHeaders.getRawHeaders(NAME.lower().encode())
    if not values:
        return None
    text = values[0].decode("latin-1").strip(" \t")
    if len(values) > 1 or not _usable(text):
        raise invalid([Problem(("header", NAME), "expected 1 to 255 visible ASCII characters")])
    tenant_id = call.asked_tenant() or DEFAULT_TENANT
    path, _, asked = call.request.uri.partition(b"?")
    return Key(tenant_id, text, path + b"?" + asked if query else path)


def to_bytes(answer: Answer) -> bytes:
    """An answer as it is kept."""
    return b"%d\n%s" % (answer.status, answer.body)


def from_bytes(kept: bytes) -> Answer:
    """The answer of :func:`to_bytes`."""
    status, _, body = kept.partition(b"\n")
    return Answer(int(status), body)
