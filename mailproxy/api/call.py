"""
One call of an endpoint: who calls, with what arguments; and how endpoints are declared.

An endpoint is ``async def endpoint(call: Call) -> Answer``; the root of the API connects it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import BinaryIO, TypeVar, cast

import attrs
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request

from mailproxy.api.answers import (
    OTHER_TENANT,
    TENANT_NOT_FOUND,
    TOO_LARGE,
    Answer,
    Problem,
    Refused,
    invalid,
)
from mailproxy.api.auth import Caller
from mailproxy.api.doc import Doc
from mailproxy.errors import MailProxyError
from mailproxy.model import DEFAULT_TENANT

_log = Logger()

T = TypeVar("T")

#: Bodies that are read in the reactor are no larger than this.
SMALL_BYTES = 256 * 1024

_TRUE = frozenset(("1", "true", "yes", "on"))
_FALSE = frozenset(("0", "false", "no", "off"))


@attrs.frozen
class Call:
    """
    :param path: what the variable parts of the path were.
    :param tenant_exists: whether a tenant id is one we know.
    """

    request: Request = attrs.field(repr=False)
    caller: Caller
    path: Mapping[str, str]
    tenant_exists: Callable[[str], bool]
    _given: list[bytes] = attrs.field(factory=list, repr=False)

    @property
    def given(self) -> bytes:
        """What :meth:`body` has read, if it is not large; else, and before, nothing."""
        return b"".join(self._given)

    def query(self, name: str) -> str | None:
        """The last value of a query parameter; None if it is absent or empty."""
        values = (self.request.args or {}).get(name.encode())
        if not values or not values[-1]:
            return None
        try:
            return str(values[-1].decode("utf-8"))
        except UnicodeDecodeError:
            raise invalid([Problem(("query", name), "not UTF-8")]) from None

    def flag(self, name: str) -> bool:
        """A query parameter that is a boolean; absent is false."""
        word = (self.query(name) or "false").lower()
        if word not in _TRUE and word not in _FALSE:
            raise invalid([Problem(("query", name), "expected true or false", "bool_parsing")])
        return word in _TRUE

    def number(self, name: str, low: float, high: float) -> float | None:
        """A query parameter that is a number from *low* to *high*."""
        text = self.query(name)
        if text is None:
            return None
        try:
            value = float(text)
        except ValueError:
            raise invalid(
                [Problem(("query", name), "expected a number", "float_parsing")]
            ) from None
        if not low <= value <= high:
            raise invalid([Problem(("query", name), f"expected {low:.0f} to {high:.0f}")])
        return value

    def asked_tenant(self) -> str | None:
        """
        The tenant that token and query name; None for *all of them*, or for *not said*.

        :raises Refused: they do not agree.
        """
        asked = self.query("tenant_id")
        own = self.caller.tenant_id
        if own is None:
            return asked
        if asked is not None and asked != own:
            raise Refused(OTHER_TENANT)
        return own

    def scope(self) -> str | None:
        """Like :meth:`asked_tenant`. :raises Refused: also if there is no such tenant."""
        tenant_id = self.asked_tenant()
        if tenant_id is not None and not self.tenant_exists(tenant_id):
            raise Refused(TENANT_NOT_FOUND)
        return tenant_id

    def home(self) -> str:
        """The tenant a write goes to when its body names none."""
        tenant_id = self.scope()
        return DEFAULT_TENANT if tenant_id is None else tenant_id

    def take_body(self) -> tuple[BinaryIO, int]:
        """
        The request's body and its size; the caller closes it.

        It no longer belongs to the request, so that it outlives the connection.
        """
        content = cast(BinaryIO, self.request.content)
        self.request.content = None
        size = content.seek(0, 2)
        content.seek(0)
        return content, size

    def body(self, most: int = SMALL_BYTES) -> bytes:
        """The whole body of a request. :raises Refused: it is larger than *most* bytes."""
        content, size = self.take_body()
        with content:
            if size > most:
                raise Refused(TOO_LARGE)
            data = content.read()
        if size <= SMALL_BYTES:
            self._given.append(data)
        return data


Endpoint = Callable[[Call], Awaitable[Answer | None]]


class Need(StrEnum):
    """
    Who may call an endpoint.

    ``OPEN``: anyone; ``TOKEN``: whoever has a token that is good; ``SEND``, ``READ``, ``CONTROL``:
    the admin, and keys of a tenant with that scope; ``ADMIN``: the admin alone.
    """

    OPEN = "open"
    TOKEN = "token"
    SEND = "send"
    READ = "read"
    CONTROL = "control"
    ADMIN = "admin"


@attrs.frozen
class Route:
    """
    One endpoint.

    :param path: as werkzeug's routing spells it.
    :param endpoint: answers the call; None means that it has written its answer itself.
    :param needs: who may call it.
    :param doc: what the description of the API says of it.
    """

    method: str
    path: str
    endpoint: Endpoint
    needs: Need = Need.ADMIN
    doc: Doc = attrs.field(factory=Doc)


def shielded(work: Awaitable[T]) -> Deferred[T]:
    """
    *work*, going on when its result is no longer wanted.

    Cancelling the answer, as happens when the client leaves, detaches from the work; what goes
    wrong with it later is logged, unless it is something the client would have been told.
    """
    result: Deferred[T] = Deferred(lambda _: None)

    def done(value: T | Failure) -> None:
        if not result.called:
            result.callback(value)
        elif isinstance(value, Failure) and not value.check(MailProxyError):
            _log.failure("a request failed after its client had left", failure=value)

    ensureDeferred(_awaited(work)).addBoth(done)
    return result


async def _awaited(work: Awaitable[T]) -> T:
    return await work
