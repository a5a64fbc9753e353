"""
What can go wrong with a call, as one tree.

* ClientError
  - Unavailable      no answer, or one that says: not now; the only one that is worth another try
  - Untrusted        the service's certificate is not one that is trusted
  - Unauthorized     401: the token is missing, wrong, or another tenant's
  - Forbidden        403: the token is good, but not for this
  - NotFound         404: there is no such thing, or no such endpoint
  - Conflict         409: it contradicts what is there
  - Refused          any other 4xx: the request cannot be granted as it is; ``faults`` says where
    + Rejected       the one message that was handed in was not taken
  - ServerFault      5xx: the service could not do it, and says no more
  - BadAnswer        the answer is not that of a mailproxy

No error holds the token, nor a request or an answer. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from mailproxy.errors import MailProxyError


@attrs.frozen
class Fault:
    """
    One wrong part of a request.

    :param loc: where it is: ``("body", "port")``.
    :param msg: what is wrong with it, without its value.
    """

    loc: tuple[str | int, ...]
    msg: str

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.loc))}: {self.msg}"


class ClientError(MailProxyError):
    """
    A call was not granted.

    :param reason: why, in one line.
    :param status: that of the answer, 100 to 599; None: there was none.
    :param detail: what the answer has as ``detail``: a text, a list or an object; None if nothing.
    """

    def __init__(self, reason: str, status: int | None = None, detail: Any = None) -> None:
        super().__init__(reason, status, detail)
        self.reason = reason
        self.status = status
        self.detail = detail

    def __str__(self) -> str:
        return self.reason if self.status is None else f"{self.status} {self.reason}"


class Unavailable(ClientError):
    """
    The service cannot be reached, or cannot do it now.

    :param uncertain: whether it may have been done all the same: the answer was lost.
    :param retry_after: seconds after which the service asked to be tried again, if it did.
    """

    def __init__(
        self,
        reason: str,
        status: int | None = None,
        detail: Any = None,
        *,
        uncertain: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(reason, status, detail)
        self.uncertain = uncertain
        self.retry_after = retry_after


class Untrusted(ClientError):
    """The service's certificate is not one that is trusted; nothing was sent."""


class Unauthorized(ClientError):
    """The token is missing, wrong, or another tenant's."""


class Forbidden(ClientError):
    """The token is good, but not for this."""


class NotFound(ClientError):
    """There is no such thing, or no such endpoint."""


class Conflict(ClientError):
    """It contradicts what is there."""


class Refused(ClientError):
    """The request cannot be granted as it is."""

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Its wrong parts, if the service named them one by one."""
        items: Sequence[Any] = self.detail if isinstance(self.detail, list) else ()
        return tuple(
            Fault(tuple(item.get("loc") or ()), str(item.get("msg", "")))
            for item in items
            if isinstance(item, dict)
        )


class Rejected(Refused):
    """
    A message was not taken.

    :param id: its id.
    """

    def __init__(
        self, reason: str, status: int | None = None, detail: Any = None, *, id: str | None = None
    ) -> None:
        super().__init__(reason, status, detail)
        self.id = id


class ServerFault(ClientError):
    """The service could not do it, and says no more."""


class BadAnswer(ClientError):
    """The answer is not that of a mailproxy: something else listens there, or stands between."""
