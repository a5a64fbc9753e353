"""
What the API answers: one JSON object, and the shapes of every refusal.

No answer repeats a value the caller sent, save the ids of messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import attrs
import msgspec

from mailproxy.errors import MailProxyError

JSON = b"application/json"

_encode = msgspec.json.Encoder().encode


@attrs.frozen
class Answer:
    """
    One complete answer.

    :param body: the entity; JSON unless *content_type* says otherwise.
    :param headers: further header fields, names in canonical spelling.
    """

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def fields(self) -> tuple[tuple[bytes, bytes], ...]:
        """All header fields that go with the entity."""
        return (
            (b"Server", b"mailproxy"),
            (b"Content-Type", self.content_type),
            (b"Content-Length", b"%d" % len(self.body)),
            *self.headers,
        )

    @property
    def phrase(self) -> bytes:
        """The words that go with the status."""
        return HTTPStatus(self.status).phrase.encode()

    def raw(self) -> bytes:
        """The answer as the last bytes of an HTTP/1.1 connection."""
        head = [b"HTTP/1.1 %d %s" % (self.status, self.phrase)]
        head += [b"%s: %s" % field for field in self.fields()]
        return b"\r\n".join([*head, b"Connection: close", b"", self.body])


class Refused(MailProxyError):
    """A request ends here. :param answer: what the caller is told."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


@attrs.frozen
class Problem:
    """
    One wrong part of a request.

    :param loc: where: ``("body", "port")``, ``("query", "limit")``; names of ours, no values.
    :param msg: what is wrong with it, without its value.
    """

    loc: tuple[str | int, ...]
    msg: str
    type: str = "value_error"

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.loc))}: {self.msg}"


def answer(value: Any, status: int = 200) -> Answer:
    """*value* as JSON."""
    return Answer(status, _encode(value))


def ok(**fields: Any) -> Answer:
    return answer({"ok": True, **fields})


def error(
    code: int, reason: str, *, headers: tuple[tuple[bytes, bytes], ...] = (), **fields: Any
) -> Answer:
    """A refusal whose ``detail`` is *reason* again, as older clients read it."""
    body = _encode({"ok": False, "error": reason, "detail": reason, **fields})
    return Answer(code, body, headers=headers)


def refused(status: int, reason: str) -> Refused:
    return Refused(error(status, reason))


def invalid(problems: Sequence[Problem]) -> Refused:
    """422 with the list of everything that is wrong with the request."""
    detail = [{"type": p.type, "loc": p.loc, "msg": p.msg} for p in problems]
    text = "; ".join(map(str, problems))
    return Refused(answer({"ok": False, "error": text, "detail": detail}, 422))


def unavailable(reason: str) -> Answer:
    """503: it is known that nothing was stored; the same request may be made again soon."""
    return error(503, reason, headers=((b"Retry-After", b"5"),))


UNAUTHORIZED = error(401, "Invalid or missing API token")
OTHER_TENANT = error(401, "Token not authorized for this tenant")
ADMIN_ONLY = error(403, "Admin token required, tenant tokens not allowed for this operation")
BAD_REQUEST = error(400, "Bad Request")
NOT_FOUND = error(404, "Not Found")
TIMED_OUT = error(408, "Request Timeout")
TOO_LARGE = error(413, "Content Too Large")
INTERNAL = error(500, "Internal Server Error")
CANNOT_STORE = unavailable("cannot store now, nothing was stored")
CANNOT_READ = unavailable("the store cannot be read now")
DRAINING = unavailable("shutting down, nothing was stored")
TENANT_NOT_FOUND = error(400, "tenant not found")
