"""
A message that comes as RFC 5322 bytes: what is read of it, and the few edits it gets.

Only the header is looked at, field by field, within limits; the body is not parsed. What is not cut
or put in front stays as it came, byte for byte, but for line ends, which become CRLF. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

from mailproxy.address import parse_mailboxes
from mailproxy.errors import BadAddress, BadMessage
from mailproxy.headers import MAX_LINE, check_message_id, date_header, text_header
from mailproxy.lines import canonical, lines_fit
from mailproxy.model import Mailbox
from mailproxy.words import decode_words

#: Bytes of a header, and fields in it; more is not a message but a way to keep us busy.
MAX_HEADER_BYTES = 256 * 1024
MAX_FIELDS = 1000

#: Characters of a subject that are kept for showing, and of a From that is looked at.
MAX_SUBJECT = 998
MAX_FROM = 4000

#: Bytes up to which a message is kept as text beside its envelope, not in a part of its own: one
#: row less to write, and none to fetch when it leaves.
KEPT_AS_TEXT = 32 * 1024

#: The name of the field that carries the submission's id.
MAIL_ID = "X-Genro-Mail-ID"

#: Fields that never leave: blind recipients, and those that are ours alone to write.
_CUT = re.compile(rb"bcc|resent-bcc|x-genro-mail-id|x-mailproxy-.*", re.DOTALL)

_OURS = b"x-mailproxy-"

#: Fields of which there may be one: two readers could each believe another.
_ONCE = frozenset((b"from", b"date", b"message-id"))

_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:")
_MESSAGE_ID = re.compile(r"<[^<>]*>")
_DATE_FIELD = re.compile(rb"^date[ \t]*:", re.IGNORECASE | re.MULTILINE)
_MESSAGE_ID_FIELD = re.compile(rb"^message-id[ \t]*:", re.IGNORECASE | re.MULTILINE)
_END = b"\r\n\r\n"


@attrs.frozen
class RawMessage:
    """
    A message that was read, without the fields that were cut.

    :param data: canonical; :func:`finish` makes of it what goes on the wire.
    :param sender: the first address of its From; None if that is none we can read.
    :param subject: decoded, for showing; "" for none.
    :param message_id: ``<...>``, its own; None if it has none.
    :param cut: the names of the fields that were cut, as they were written.
    :param ours: of those that are cut because they are ours, name in lower case and value.
    :param hops: how many Received fields it has.
    """

    data: bytes
    sender: Mailbox | None
    subject: str
    message_id: str | None
    cut: tuple[str, ...]
    ours: tuple[tuple[str, str], ...] = ()
    hops: int = 0


def read(data: bytes) -> RawMessage:
    """
    Read a message, and cut what may not leave.

    :raises BadMessage: it has a NUL or a line of more than 998 octets, its header is damaged or
        passes a limit, or it has no From, or two; nothing of its text is in the error.
    """
    data = canonical(data)
    if b"\0" in data:
        raise _bad("a NUL octet")
    if not lines_fit(data, MAX_LINE):
        raise _bad(f"a line longer than {MAX_LINE} octets")
    size = _header_size(data)
    kept: list[bytes] = []
    cut: list[str] = []
    ours: list[tuple[str, str]] = []
    values: dict[bytes, bytes] = {}
    hops = 0
    for name, field in _fields(data[:size]):
        key = name.lower()
        if _CUT.fullmatch(key):
            cut.append(name.decode("ascii"))
            if key.startswith(_OURS):
                ours.append((key.decode("ascii"), _value(field)))
            continue
        hops += key == b"received"
        kept.append(field)
        if key in _ONCE and key in values:
            raise _bad(f"more than one {name.decode('ascii').title()} field")
        values.setdefault(key, field)
    if b"from" not in values:
        raise _bad("no From field")
    return RawMessage(
        b"".join((*kept, data[size:])) if cut else data,
        _sender(_value(values[b"from"])),
        decode_words(_value(values.get(b"subject", b""))[: 4 * MAX_SUBJECT])[:MAX_SUBJECT],
        _message_id(_value(values[b"message-id"])) if b"message-id" in values else None,
        tuple(cut),
        tuple(ours),
        hops,
    )


def kept(data: bytes) -> tuple[str | None, tuple[bytes, ...]]:
    """
    How *data* of a :class:`RawMessage` is kept.

    :return: the ``plain`` of its :class:`~mailproxy.model.Content`, a character for each octet, if
        it is small; and the parts of the message. :func:`given_back` reads it.
    """
    return (data.decode("latin-1"), ()) if len(data) <= KEPT_AS_TEXT else (None, (data,))


def given_back(text: str | None, parts: Mapping[int, bytes]) -> bytes | None:
    """What was :func:`kept`; None if its part is missing."""
    return parts.get(1) if text is None else text.encode("latin-1")


def finish(data: bytes, *, mail_id: str, message_id: str, date: float) -> bytes:
    """
    What goes on the wire: *data* behind the id's field, and a Date and Message-ID if it has none.

    :param data: of a :class:`RawMessage`.
    :param message_id: ``<...>``, taken if the message has none of its own.
    :param date: Unix seconds, likewise.
    :raises BadMessage: *mail_id* or *message_id* cannot stand in a header.
    """
    header = data[: _header_size(data)]
    front = [text_header("id", MAIL_ID, mail_id)]
    if not _DATE_FIELD.search(header):
        front.append(date_header(int(date)))
    if not _MESSAGE_ID_FIELD.search(header):
        check_message_id(message_id)
        front.append(f"Message-ID: {message_id}\r\n")
    return "".join(front).encode("ascii") + data


def _bad(problem: str) -> BadMessage:
    return BadMessage("message", problem)


def _header_size(data: bytes) -> int:
    """Bytes of the header, up to the empty line behind it, or all if there is none."""
    if data.startswith(b"\r\n"):
        return 0
    end = data.find(_END, 0, MAX_HEADER_BYTES + len(_END))
    size = len(data) if end < 0 else end + 2
    if size > MAX_HEADER_BYTES:
        raise _bad(f"a header larger than {MAX_HEADER_BYTES} bytes")
    return size


def _fields(header: bytes) -> list[tuple[bytes, bytes]]:
    """The fields in order: the name, and all lines of the field as they are."""
    starts: list[tuple[bytes, int]] = []
    position = 0
    for number, line in enumerate(header.split(b"\r\n"), 1):
        if line and line[0] not in b" \t":
            match = _FIELD.match(line)
            if match is None:
                raise _bad(f"line {number} of the header is not a header field")
            if len(starts) == MAX_FIELDS:
                raise _bad(f"more than {MAX_FIELDS} header fields")
            starts.append((match[1], position))
        elif line and not starts:
            raise _bad("line 1 of the header is not a header field")
        position += len(line) + 2
    ends = [*(start for _, start in starts), len(header)][1:]
    return [(name, header[start:end]) for (name, start), end in zip(starts, ends, strict=True)]


def _value(field: bytes) -> str:
    """What stands behind the colon, unfolded; "" for no field at all."""
    text = field.partition(b":")[2].decode("utf-8", "replace")
    return text.replace("\r\n", "").replace("\t", " ").strip(" ")


def _sender(value: str) -> Mailbox | None:
    try:
        mailboxes = parse_mailboxes(value) if len(value) <= MAX_FROM else ()
    except BadAddress:
        return None
    return mailboxes[0] if mailboxes else None


def _message_id(value: str) -> str:
    """The id in *value*, which may have a comment beside it."""
    match = _MESSAGE_ID.search(value)
    found = match[0] if match else ""
    check_message_id(found)
    return found
