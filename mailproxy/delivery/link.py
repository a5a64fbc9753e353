"""What a pipeline and the session around it know of each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs

from mailproxy.delivery.commands import Capabilities


class Link(Protocol):
    """
    What a pipeline needs of the session around it.

    :ivar expect: lose the session unless this is called again within so many seconds; None: for
        ever.
    """

    expect: Callable[[float | None], None]

    def lose(self, reason: str, *, broken: bool = False) -> None:
        """Abort the connection; *broken*: the server does not keep to the protocol."""

    def sent(self, what: bytes | str) -> None:
        """For the log of commands."""


@attrs.frozen
class Circumstances:
    """
    What every outcome of a session says, and every transaction keeps to.

    :param expires: whether the login may end while the session lasts.
    """

    offered: Capabilities
    pipelining: bool
    timeout: float
    tls: str
    peer: str
    notes: tuple[str, ...]
    expires: bool = False
