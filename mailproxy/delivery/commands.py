"""
What goes to a server as a command, and what it said it can do.

Nothing becomes a command line but through :func:`command`, and no address gets into one but
through the grammar below: neither the content of a message nor an account's settings can end a
line and begin another. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import attrs

from mailproxy.dsn import MOST_ENVID, MOST_ORCPT
from mailproxy.model import Envelope, Reply

#: Octets of a command line with its CRLF (RFC 5321, section 4.5.3.1.4), and what the parameters
#: of SIZE, 8BITMIME and SMTPUTF8 may add to MAIL (RFC 1870, 6152, 6531).
MAX_COMMAND, MAX_PARAMETERS = 512, 26 + 17 + 10

#: What a request for notifications may add to MAIL and to RCPT (RFC 3461, section 4).
MAX_DSN_MAIL, MAX_DSN_RCPT = len(" RET=FULL ENVID=") + MOST_ENVID, 36 + MOST_ORCPT

#: Octets of a line that carries credentials (RFC 4954, section 4).
MAX_AUTH = 12288

_UNSAFE = re.compile(rb"[\r\n\0]")

#: An address without anything that could end it early: an atom or a quoted string, then a domain.
_ADDRESS = re.compile(
    r'(?:[^\x00-\x20"(),:;<>@\[\\\]\x7f]+|"(?:[^"\\\x00-\x1f\x7f]|\\[\x20-\x7e])*")'
    r"@(?:[^\x00-\x20\"(),:;<>@\[\\\]\x7f]+|\[[0-9A-Za-z.:-]+\])"
)


#: A field of addresses with a character outside ASCII, folded or not.
_ADDRESSES = re.compile(
    r"^(?:From|Sender|Reply-To|To|Cc):(?:[\x00-\x09\x0b\x0c\x0e-\x7f]|\r\n[ \t])*+[^\x00-\x7f]",
    re.IGNORECASE | re.MULTILINE,
)


class UnsafeCommand(ValueError):
    """A line is not sent, because it would not be one command within the limits."""


def command(line: bytes, limit: int = MAX_COMMAND) -> bytes:
    """
    *line* as it goes to the server, with its CRLF.

    :raises UnsafeCommand: it holds CR, LF or NUL, or is longer than *limit* octets.
    """
    if _UNSAFE.search(line):
        raise UnsafeCommand("a command with CR, LF or NUL")
    if len(line) + 2 > limit:
        raise UnsafeCommand(f"a command of more than {limit} octets")
    return line + b"\r\n"


@attrs.frozen
class Capabilities:
    """
    What a server offers.

    :param size: the largest message in octets; 0 if it did not say.
    :param auth: names of the login mechanisms, upper case.
    """

    pipelining: bool = False
    size_offered: bool = False
    size: int = 0
    eight_bit: bool = False
    utf8: bool = False
    dsn: bool = False
    starttls: bool = False
    auth: frozenset[str] = frozenset()


def capabilities(text: str) -> Capabilities:
    """
    Read an EHLO reply's *text*; its first line is a greeting and not looked at.

    Keywords are compared without regard to case (RFC 5321, section 2.4). What cannot be
    understood is not offered.
    """
    offered: dict[str, list[str]] = {}
    for line in text.upper().split("\n")[1:]:
        # Some servers still write AUTH=PLAIN for the clients of another age.
        words = line.replace("AUTH=", "AUTH ", 1).split()
        if words:
            offered.setdefault(words[0], []).extend(words[1:])
    size = offered.get("SIZE", ["0"])[:1] or ["0"]
    number = size[0] if size[0].isascii() and size[0].isdigit() and len(size[0]) <= 20 else "0"
    return Capabilities(
        pipelining="PIPELINING" in offered,
        size_offered="SIZE" in offered,
        size=int(number),
        eight_bit="8BITMIME" in offered,
        utf8="SMTPUTF8" in offered,
        dsn="DSN" in offered,
        starttls="STARTTLS" in offered,
        auth=frozenset(offered.get("AUTH", ())),
    )


@attrs.frozen
class Plan:
    """
    The commands of one transaction, and what need not be asked.

    :param commands: MAIL, one RCPT for each recipient that is asked, DATA; complete lines.
    :param asked: indexes of those recipients in the envelope.
    :param rcpts: our own refusals by recipient, None for those that are asked.
    :param mail: our own refusal of the whole; then there is nothing to send.
    """

    commands: tuple[bytes, ...]
    asked: Sequence[int]
    rcpts: tuple[Reply | None, ...]
    mail: Reply | None = None
    notes: tuple[str, ...] = ()


#: What marks a refusal that no server gave.
OURS = "not sent: the refusal is ours, from what the server offers"

_TOO_LARGE = "5.3.4 the message has {size} octets, the server takes {most}"
_NO_UTF8 = "5.6.7 the address needs SMTPUTF8, which the server does not offer"

NO_DSN = "notifications were asked for, which the server does not offer (DSN)"
EIGHT_BIT = "8-bit text was sent to a server that does not offer 8BITMIME"
UTF8_HEADER = "a header with non-ASCII addresses was sent to a server that does not offer SMTPUTF8"

_DATA = command(b"DATA")


def plan(envelope: Envelope, offered: Capabilities) -> Plan:
    """
    :raises UnsafeCommand: an address cannot stand in a command.
    """
    size = len(envelope.body)
    if offered.size and size > offered.size:
        text = _TOO_LARGE.format(size=size, most=offered.size)
        return _nothing(envelope, Reply(552, text))
    if not envelope.sender.isascii() and not offered.utf8:
        return _nothing(envelope, Reply(553, _NO_UTF8))
    utf8 = not envelope.sender.isascii()
    dsn = envelope.dsn if offered.dsn else None
    rcpts: list[bytes] = []
    asked: Sequence[int] = range(len(envelope.recipients))
    refused: dict[int, Reply] = {}
    for index, address in enumerate(envelope.recipients):
        if not address.isascii():
            if not offered.utf8:
                refused[index] = Reply(553, _NO_UTF8)
                continue
            utf8 = True
        line = b"RCPT TO:<" + _octets(address) + b">"
        if dsn is None:
            rcpts.append(command(line))
        else:
            rcpts.append(command(line + dsn.of_rcpt(address), MAX_COMMAND + MAX_DSN_RCPT))
    own: tuple[Reply | None, ...] = (None,) * len(envelope.recipients)
    notes: tuple[str, ...] = ()
    if refused:
        own = tuple(map(refused.get, asked))
        asked = [index for index in asked if index not in refused]
        notes = (OURS,)
    if not rcpts:
        return Plan((), (), own, None, notes)
    parameters = b" SIZE=%d" % size if offered.size_offered else b""
    if not envelope.body.isascii():
        if offered.eight_bit:
            parameters += b" BODY=8BITMIME"
        else:
            notes += (EIGHT_BIT,)
        if not utf8 and _utf8_addresses(envelope.body):
            # Mail of that kind, whoever gets it (RFC 6531, section 3.4).
            utf8 = offered.utf8
            notes += () if utf8 else (UTF8_HEADER,)
    if utf8:
        parameters += b" SMTPUTF8"
    if dsn is not None:
        parameters += dsn.of_mail()
    elif envelope.dsn is not None:
        notes += (NO_DSN,)
    sender = _octets(envelope.sender) if envelope.sender else b""
    most = MAX_COMMAND + MAX_PARAMETERS + MAX_DSN_MAIL
    mail = command(b"MAIL FROM:<" + sender + b">" + parameters, most)
    return Plan((mail, *rcpts, _DATA), asked, own, None, notes)


def _utf8_addresses(body: bytes) -> bool:
    """Whether a field of addresses in the header holds UTF-8; other bytes are just sloppy."""
    header = body.partition(b"\r\n\r\n")[0]
    try:
        return not header.isascii() and _ADDRESSES.search(header.decode("utf-8")) is not None
    except UnicodeDecodeError:
        return False


def _nothing(envelope: Envelope, reply: Reply) -> Plan:
    return Plan((), (), (None,) * len(envelope.recipients), reply, (OURS,))


def _octets(address: str) -> bytes:
    if _ADDRESS.fullmatch(address) is None:
        raise UnsafeCommand("an address that cannot stand in a command")
    try:
        return address.encode("utf-8")
    except UnicodeEncodeError:
        raise UnsafeCommand("an address with half a character") from None
