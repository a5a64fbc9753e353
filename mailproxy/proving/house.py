"""What all connections of one sink share: its terms, its script, what it keeps and counts."""

from __future__ import annotations

from typing import Any, Protocol

import attrs

from mailproxy.interfaces import IClock
from mailproxy.proving.answers import Script
from mailproxy.proving.ledger import Ledger


@attrs.frozen
class Terms:
    """
    What the SMTP server offers and demands.

    :param host: the name in the banner.
    :param tls: makes the server side of a TLS connection; None: STARTTLS is not offered.
    :param user: with *password*: AUTH is offered, and required before MAIL.
    :param require_tls: neither AUTH nor MAIL before TLS.
    :param max_size: octets in a message.
    :param max_recipients: in one message.
    :param close_after: messages on one connection, then 421; 0: any number.
    :param hold: seconds until a connection that gets no answer is closed.
    :param timeout: seconds of silence until a connection is closed.
    """

    host: str = "sink.localhost"
    tls: Any = None
    user: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    require_tls: bool = False
    max_size: int = 100 << 20
    max_recipients: int = 1000
    close_after: int = 0
    hold: float = 60.0
    timeout: float = 300.0


@attrs.define
class Counts:
    """What happened at the door; the ledger counts what came in."""

    connections: int = 0
    open: int = 0
    tls: int = 0
    logins: int = 0
    refused: dict[int, int] = attrs.field(factory=dict)
    unanswered: int = 0
    protocol_errors: int = 0

    def refuse(self, code: int) -> None:
        self.refused[code] = self.refused.get(code, 0) + 1


class Connection(Protocol):
    """What the house knows of a connection."""

    def close(self) -> None:
        """Close it now."""


@attrs.define
class House:
    """
    One sink, as its connections see it.

    :param clock: for time-outs, late replies and the time of each copy.
    """

    script: Script
    ledger: Ledger
    clock: IClock
    terms: Terms
    counts: Counts = attrs.field(factory=Counts)
    unanswered: set[Connection] = attrs.field(factory=set, init=False)
    _open: set[Connection] = attrs.field(factory=set, init=False)

    def joined(self, connection: Connection) -> int:
        """Take note of a new connection; returns its number, from 1."""
        self._open.add(connection)
        self.counts.open += 1
        self.counts.connections += 1
        return self.counts.connections

    def left(self, connection: Connection) -> None:
        self._open.discard(connection)
        self.unanswered.discard(connection)
        self.counts.open -= 1

    def close_unanswered(self) -> int:
        """Close the connections that are left without an answer; returns how many."""
        waiting = list(self.unanswered)
        for connection in waiting:
            connection.close()
        return len(waiting)

    def close_all(self) -> None:
        for connection in list(self._open):
            connection.close()
