"""
What composing costs, in microseconds and against the standard library's way of doing it.

Run ``python -m benchmarks.compose_cost``. Both build the same message in the same run, taking
turns, so that the ratio means something on a busy machine; the best round of each counts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate
from time import perf_counter

import attrs

from benchmarks.figures import Figure
from mailproxy.compose import compose
from mailproxy.model import Attachment, Content, Mailbox

#: The most a common mail of 2 kB may cost, in microseconds (the issue that asked for it).
BUDGET_US = 30.0

ROUNDS = 7
MAIL_ID = "order-12345"
MESSAGE_ID = "<0123456789abcdef0123456789abcdef@mail.acme.example>"
DATE = 1_750_000_000.0

_LINE = "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed\n"
_PLAIN = _LINE * 33

COMMON = Content(
    sender=Mailbox("ACME News", "news", "acme.example"),
    to=(Mailbox("", "john.doe", "example.com"),),
    subject="Your order 12345 has shipped",
    plain=_PLAIN,
)
ACCENTED = attrs.evolve(
    COMMON,
    sender=Mailbox("Büro Müller", "news", "acme.example"),
    subject="Ihre Bestellung ist unterwegs - schöne Grüße",
    plain=_PLAIN.replace("dolor", "dölor"),
)
BOTH = attrs.evolve(COMMON, html=f"<html><body><p>{_PLAIN}</p></body></html>")
MANY = attrs.evolve(COMMON, to=tuple(Mailbox("", f"u{n}", "example.com") for n in range(100)))
LARGE = attrs.evolve(COMMON, attachments=(Attachment("a.pdf", "application/pdf", 1),))


def by_hand(content: Content, parts: Mapping[int, bytes]) -> bytes:
    return compose(content, mail_id=MAIL_ID, message_id=MESSAGE_ID, date=DATE, parts=parts)


def by_library(content: Content, parts: Mapping[int, bytes]) -> bytes:
    """The same message, as the standard library builds it."""
    message = EmailMessage(policy=SMTP)
    message["From"] = _address(content.sender)
    message["To"] = [_address(mailbox) for mailbox in content.to]
    message["Subject"] = content.subject
    message["Date"] = formatdate(DATE)
    message["Message-ID"] = MESSAGE_ID
    message["X-Genro-Mail-ID"] = MAIL_ID
    message.set_content(content.plain)
    if content.html is not None:
        message.add_alternative(content.html, subtype="html")
    for file in content.attachments:
        kind, _, subtype = file.mime_type.partition("/")
        message.add_attachment(parts[file.part], kind, subtype, filename=file.filename)
    return message.as_bytes()


def _address(mailbox: Mailbox) -> Address:
    return Address(mailbox.display, mailbox.local, mailbox.domain)


def best(work: Callable[[], object], count: int) -> float:
    """Seconds of one call, on average over *count* of them."""
    started = perf_counter()
    for _ in range(count):
        work()
    return (perf_counter() - started) / count


def measure(content: Content, parts: Mapping[int, bytes], count: int) -> tuple[float, float]:
    """Microseconds of our way and of the library's, each the best of :data:`ROUNDS` rounds."""
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(best(lambda: by_hand(content, parts), count))
        theirs.append(best(lambda: by_library(content, parts), max(1, count // 20)))
    return min(ours) * 1e6, min(theirs) * 1e6


def table(part: int = 1) -> list[tuple[str, float, float]]:
    """
    Name, our microseconds and the library's, for each kind of message.

    :param part: one in so many of the calls is made.
    """
    parts = {1: os.urandom(10_000_000)}
    return [
        (name, *measure(content, parts, max(1, count // part)))
        for name, content, count in (
            ("2 kB plain", COMMON, 2000),
            ("2 kB plain, accents", ACCENTED, 1000),
            ("2 kB plain and html", BOTH, 1000),
            ("2 kB plain, 100 recipients", MANY, 200),
            ("10 MB attachment", LARGE, 1),
        )
    ]


def figures(quick: bool) -> list[Figure]:
    rows = table(10 if quick else 1)
    (_, ours, theirs), large = rows[0], rows[-1]
    return [
        Figure("compose", ours, "us", "composing a common mail of 2 kB"),
        Figure("compose-library", theirs / ours, "x", "what the standard library takes for it"),
        Figure("compose-10mb", large[1] / 1000, "ms", "with an attachment of 10 MB"),
    ]


def main() -> int:
    """Print a line per kind of message; 1 if the common one costs more than it may."""
    print(f"{'message':28}{'ours, us':>12}{'library, us':>14}{'ratio':>8}")
    cost = 0.0
    for name, ours, theirs in table():
        cost = cost or ours
        print(f"{name:28}{ours:12.1f}{theirs:14.1f}{theirs / ours:8.1f}")
    print(f"budget for the first: {BUDGET_US:.0f} us")
    return int(cost > BUDGET_US)


if __name__ == "__main__":
    raise SystemExit(main())
