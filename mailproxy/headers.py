"""
Header lines: checked, encoded, folded; ASCII only, each ending in CRLF.

Pure. What a header says is decided in :mod:`mailproxy.compose`; here no value, whatever it holds,
becomes more than the one header it was meant for.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from mailproxy.errors import BadMessage
from mailproxy.model import Mailbox
from mailproxy.words import encode_words

#: Preferred and absolute length of a line without its CRLF (RFC 5322, section 2.1.1).
WIDTH = 78
MAX_LINE = 998

#: The longest name a client may give a header of its own.
MAX_NAME = 76

#: The longest value, in characters; more is not a header but a way to keep us busy.
MAX_VALUE = 65_536

_NAME = re.compile(r"[!-9;-~]+")
_RESERVED = re.compile(
    r"from|to|cc|bcc|resent-bcc|subject|date|received|message-id|reply-to|return-path"
    r"|authentication-results|x-genro-mail-id|mime-.*|content-.*|dkim-.*",
    re.IGNORECASE | re.DOTALL,
)
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_TOKEN = re.compile(r"[ \t]*[^ \t]+")
_ADDR = re.compile(
    r"(?:[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+|\"(?:[ !#-\[\]-~]|\\[ -~])+\")"
    r"@(?:[A-Za-z0-9.-]+|\[[A-Za-z0-9.:]+\])"
)
_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_MESSAGE_ID = re.compile(r"<[!-;=?-~]+>")
_ODD_SPACE = re.compile(r"^ | $|  ")
_ATTRIBUTE = re.compile(rb"[A-Za-z0-9!#$&+.^_`{|}~-]")

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def is_reserved_header(name: str) -> bool:
    """Whether a client may not set *name* itself: we write it, or only a mail server may."""
    return _RESERVED.fullmatch(name) is not None


def check_header(name: str, value: str) -> None:
    """
    Check a header of the client's own, before it is known whether it will be sent.

    :raises BadMessage: :func:`check_name` refuses *name*, or *value* holds a control character
        other than a tab, or half a surrogate pair.
    """
    check_name(name)
    _check_text(f"headers.{name}", value)


def check_name(name: str) -> None:
    """
    Check the name of a header.

    :raises BadMessage: *name* is not a field name (RFC 5322, section 2.2) of at most
        :data:`MAX_NAME` characters.
    """
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise BadMessage("headers", "a name that no header can have")


def check_message_id(value: str) -> None:
    """:raises BadMessage: *value* is not ``<...>`` in printable ASCII, or is too long."""
    if not _MESSAGE_ID.fullmatch(value) or len(value) > MAX_LINE - len("Message-ID: "):
        raise BadMessage("message_id", "not printable ASCII in one pair of angle brackets")


def text_header(field: str, name: str, value: str) -> str:
    """
    A header that holds free text; what ASCII cannot say becomes encoded words.

    :param field: what to name in the error.
    :raises BadMessage: a control character other than a tab, half a surrogate pair, or more than
        :data:`MAX_VALUE` characters.
    """
    if (
        len(name) + len(value) <= WIDTH - 2
        and value.isascii()
        and value.isprintable()
        and "=?" not in value
        and value[:1] != " "
        and value[-1:] != " "
    ):
        return f"{name}: {value}\r\n"
    _check_text(field, value)
    return _fold(f"{name}:", _text_tokens(value, WIDTH - len(name) - 2))


def mailbox_header(field: str, name: str, mailboxes: Sequence[Mailbox]) -> str:
    """
    A header that holds addresses; "" if there are none.

    :raises BadMessage: one is not an address in ASCII, or its display name holds what no header
        may.
    """
    if not mailboxes:
        return ""
    if len(mailboxes) == 1:
        line = f"{name}: {' '.join(_mailbox_tokens(field, mailboxes[0]))}\r\n"
        if len(line) <= WIDTH + 2:
            return line
    tokens: list[str] = []
    for mailbox in mailboxes:
        tokens += [f" {token}" for token in _mailbox_tokens(field, mailbox)]
        tokens[-1] += ","
    tokens[-1] = tokens[-1][:-1]
    return _fold(f"{name}:", tokens)


@lru_cache(maxsize=64)
def date_header(seconds: int) -> str:
    """
    The Date header for *seconds* since the epoch, in UTC (RFC 5322, section 3.3).

    :raises BadMessage: the year does not have four digits.
    """
    try:
        when = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        raise BadMessage("date", "a year that does not have four digits") from None
    if when.year < 1000:
        raise BadMessage("date", "a year that does not have four digits")
    return (
        f"Date: {_DAYS[when.weekday()]}, {when.day:02d} {_MONTHS[when.month - 1]} {when.year}"
        f" {when.hour:02d}:{when.minute:02d}:{when.second:02d} +0000\r\n"
    )


def filename_parameters(field: str, filename: str) -> tuple[str, str]:
    """
    How an attachment is called: a plain ``name`` for Content-Type, the exact ``filename``.

    The exact one is a quoted string where that can say it, else extended (RFC 2231), over several
    lines if it is long; the plain one then is an approximation for readers that know no better.

    :return: the two parameters, each with the ``;`` and the line break before it.
    :raises BadMessage: *filename* is empty, or holds a control character or half a surrogate pair.
    """
    if not filename:
        raise BadMessage(field, "a file name is empty")
    _check_text(field, filename.replace("\t", "\0"))
    simple = filename.isascii() and "=?" not in filename and not _ODD_SPACE.search(filename)
    if simple and len(filename) <= MAX_LINE // 3:
        quoted = filename.replace("\\", "\\\\").replace('"', '\\"')
        return f';\r\n name="{quoted}"', f';\r\n filename="{quoted}"'
    return f';\r\n name="{_approximate(filename)}"', _extended("filename", filename)


def _approximate(filename: str) -> str:
    """*filename* in plain ASCII: letters without their accents, its beginning and extension."""
    letters = unicodedata.normalize("NFKD", filename)
    bare = "".join(letter for letter in letters if not unicodedata.combining(letter))
    plain = re.sub(r"[^A-Za-z0-9._()-]+", "_", bare)
    stem, dot, extension = plain.rpartition(".")
    return plain[:60] if len(extension) > 10 else (stem[:50] + dot + extension)


def _extended(name: str, value: str) -> str:
    """*value* as RFC 2231 writes it, in sections of one line each."""
    pieces = []
    line = "utf-8''"
    for character in value:
        data = character.encode("utf-8")
        piece = character if _ATTRIBUTE.fullmatch(data) else "".join(f"%{b:02X}" for b in data)
        if len(line) + len(piece) > WIDTH - len(name) - 8:
            pieces.append(line)
            line = ""
        line += piece
    if not pieces:
        return f";\r\n {name}*={line}"
    pieces.append(line)
    return "".join(f";\r\n {name}*{number}*={piece}" for number, piece in enumerate(pieces))


def _check_text(field: str, value: str) -> None:
    if len(value) > MAX_VALUE:
        raise BadMessage(field, f"longer than {MAX_VALUE} characters")
    if _CONTROL.search(value):
        raise BadMessage(field, "a control character")
    if _SURROGATE.search(value):
        raise BadMessage(field, "half of a surrogate pair")


def _text_tokens(value: str, room: int) -> list[str]:
    """
    *value* cut where lines may break, each token with the white space before it.

    From the first word that needs encoding to the last, all becomes encoded words.
    """
    tokens = _TOKEN.findall(f" {value}")
    if not value or value[0] in " \t" or value[-1] in " \t":
        return [f" {word}" for word in encode_words(value, room)] if value else [" "]
    needy = [index for index, token in enumerate(tokens) if _needs_encoding(token)]
    if not needy:
        return tokens
    first, last = needy[0], needy[-1] + 1
    middle = "".join(tokens[first:last])
    blank = middle[: len(middle) - len(middle.lstrip(" \t"))]
    words = encode_words(middle[len(blank) :], room if first == 0 else WIDTH - 3)
    return [*tokens[:first], blank + words[0], *(f" {word}" for word in words[1:]), *tokens[last:]]


def _needs_encoding(token: str) -> bool:
    return not token.isascii() or "=?" in token or len(token) > MAX_LINE - MAX_NAME - 2


def _mailbox_tokens(field: str, mailbox: Mailbox) -> list[str]:
    addr = mailbox.addr
    if not _ADDR.fullmatch(addr) or len(addr) > MAX_LINE // 2:
        if not addr.isascii():
            raise BadMessage(field, "an address outside ASCII cannot stand in a header")
        raise BadMessage(field, "not an address")
    display = mailbox.display
    if not display:
        return [addr]
    if display.isascii() and "=?" not in display:
        if _PHRASE.fullmatch(display) and len(display) < MAX_LINE:
            return [*(display.split(" ") if len(display) > WIDTH // 2 else [display]), f"<{addr}>"]
        if len(display) < WIDTH - 12 and display.isprintable() and not _ODD_SPACE.search(display):
            quoted = display.replace("\\", "\\\\").replace('"', '\\"')
            return [f'"{quoted}"', f"<{addr}>"]
    _check_text(field, display)
    return [*encode_words(display, WIDTH - 12), f"<{addr}>"]


def _fold(start: str, tokens: Sequence[str]) -> str:
    """*start* and *tokens* on lines of at most :data:`WIDTH`, where the tokens allow that."""
    lines = [start + tokens[0]]
    for token in tokens[1:]:
        if len(lines[-1]) + len(token) <= WIDTH:
            lines[-1] += token
        else:
            lines.append(token)
    return "\r\n".join(lines) + "\r\n"
