"""What all connections of the SMTP door share: its terms, and what is handed over to whom."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol

import attrs

from mailproxy.interfaces import IClock
from mailproxy.submission.commands import Mail, Rcpt
from mailproxy.submission.gate import Gate
from mailproxy.submitters import Submitter


@attrs.frozen
class Terms:
    """
    What the door offers and demands. Times are seconds.

    :param host: our name in the banner and in Received.
    :param tls: makes the server side of a TLS connection; None: STARTTLS is not offered.
    :param max_size: bytes of a message; *max_recipients* in one.
    :param idle: without a byte from the client (RFC 5321, section 4.5.3.2.7: 5 minutes).
    :param opening: until the first MAIL.
    :param transaction: from MAIL to the end of the data, besides what the size allows for.
    :param slowest: bytes per second of data that are waited for.
    """

    host: str = "localhost"
    tls: Any = None
    max_size: int = 50 * 1024 * 1024
    max_recipients: int = 1000
    idle: float = 300.0
    opening: float = 120.0
    transaction: float = 600.0
    slowest: float = 16 * 1024.0


@attrs.frozen
class Handed:
    """
    One message as a client handed it over.

    :param data: as it came, without dots doubled; *bare*: it has a CR or LF that is not in CRLF.
    :param protocol: as RFC 3848 and 6531 name it, for Received.
    :param peer: its IP address, "" for a local socket; *helo* as it called itself, made harmless.
    :param tls: protocol version and cipher; "" in clear.
    """

    submitter: Submitter
    mail: Mail
    recipients: tuple[Rcpt, ...]
    data: bytes = attrs.field(repr=False)
    bare: bool
    protocol: str
    peer: str
    helo: str
    tls: str


@attrs.frozen
class Reply:
    """What a client is told of its message. :param text: its enhanced status code first."""

    code: int
    text: bytes


class Intake(Protocol):
    """Takes messages in."""

    def take(self, handed: Handed) -> Awaitable[Reply]:
        """The reply to the end of the data: a 250 comes after the commit. Never raises."""

    def draining(self) -> bool:
        """Whether nothing is taken any more."""


@attrs.frozen(eq=False)
class Desk:
    terms: Terms
    gate: Gate
    intake: Intake
    clock: IClock
