"""
A message as it goes on the wire, from what the client wrote.

The same arguments give the same bytes: every attempt of a message is identical. The output is
ASCII in lines of at most 998 characters that end in CRLF, so that no upstream needs an extension
for it and none has a reason to change it. Pure.
"""

from __future__ import annotations

import binascii
import hashlib
import re
import struct
from collections.abc import Iterator, Mapping

import attrs

from mailproxy.errors import BadMessage
from mailproxy.headers import (
    MAX_LINE,
    check_message_id,
    check_name,
    date_header,
    filename_parameters,
    is_reserved_header,
    mailbox_header,
    text_header,
)
from mailproxy.lines import canonical, lines_fit
from mailproxy.model import Attachment, Content
from mailproxy.raw import finish, given_back

__all__ = ["compose", "is_reserved_header"]

_BASE64 = "Content-Transfer-Encoding: base64\r\n"
_QUOTED = "Content-Transfer-Encoding: quoted-printable\r\n"
_SEVEN_BIT = "Content-Transfer-Encoding: 7bit\r\n"

_ASCII = bytes(range(128))
_TOKEN = r"[A-Za-z0-9!#$&^_.+-]{1,127}"
_PARAMETER = rf"{_TOKEN}=(?:[A-Za-z0-9!#$&^_.+:/-]+|\"[^\"\\\x00-\x1f\x7f]*\")"
_TYPE = re.compile(rf"(?P<type>{_TOKEN}/{_TOKEN})(?P<parameters>(?:[ ]*;[ ]*{_PARAMETER})*)[ ]*;?")
_CHARSET = re.compile(r";[ ]*charset=\"?([A-Za-z0-9][A-Za-z0-9_.:-]{0,39})\"?", re.IGNORECASE)


@attrs.frozen
class _Entity:
    """
    A MIME entity: its own headers and its encoded body.

    :param opaque: its encoding cannot hold a boundary of ours.
    """

    headers: str
    body: bytes
    opaque: bool


def compose(
    content: Content,
    *,
    mail_id: str,
    message_id: str,
    date: float,
    parts: Mapping[int, bytes],
) -> bytes:
    """
    The RFC 5322 message: canonical line ends, a CRLF at the end, no dots doubled.

    :param mail_id: the submission's id, for ``X-Genro-Mail-ID``.
    :param message_id: ``<...>``, the same for every attempt.
    :param date: Unix seconds, shown in UTC; a fraction is cut.
    :param parts: the decoded attachments, by ``Attachment.part``; of a raw message part 1 is all,
        unless it was kept as text.
    :raises BadMessage: a field cannot stand in a message; names it as submissions do.
    """
    if content.raw:
        data = given_back(content.plain, parts)
        if data is None:
            raise BadMessage("message", "its content is missing")
        return finish(data, mail_id=mail_id, message_id=message_id, date=date)
    entity = _entity(content, message_id, parts)
    head = _head(content, mail_id, message_id, date)
    return f"{head}{entity.headers}\r\n".encode("ascii") + entity.body


def _head(content: Content, mail_id: str, message_id: str, date: float) -> str:
    check_message_id(message_id)
    lines = [
        mailbox_header("from", "From", (content.sender,)),
        mailbox_header("to", "To", content.to),
        mailbox_header("cc", "Cc", content.cc),
        mailbox_header("reply_to", "Reply-To", content.reply_to),
        text_header("subject", "Subject", content.subject),
        date_header(int(date)),
        f"Message-ID: {message_id}\r\n",
        text_header("id", "X-Genro-Mail-ID", mail_id),
    ]
    for name, value in content.headers:
        check_name(name)
        if is_reserved_header(name):
            raise BadMessage(f"headers.{name}", "a header that is not the client's to set")
        lines.append(text_header(f"headers.{name}", name, value))
    lines.append("MIME-Version: 1.0\r\n")
    return "".join(lines)


def _entity(content: Content, message_id: str, parts: Mapping[int, bytes]) -> _Entity:
    """The body with everything that belongs to it."""
    texts = list(_texts(content))
    if len(texts) == 1 and not content.attachments:
        return texts[0]
    seed = hashlib.sha256(message_id.encode("ascii", "replace"))
    for text in texts:
        seed.update(text.body)
    for attachment in content.attachments:
        seed.update(f"\0{attachment.filename}".encode("utf-8", "replace"))
    body = texts if len(texts) < 2 else [_multipart("alternative", texts, seed.hexdigest())]
    if not content.attachments:
        return body[0]
    files = [_attachment(attachment, parts) for attachment in content.attachments]
    return _multipart("mixed", [*body, *files], seed.hexdigest())


def _texts(content: Content) -> Iterator[_Entity]:
    """The text parts, plain first; an empty one if there is nothing else at all."""
    both = content.plain is not None and content.html is not None
    if content.plain is not None:
        yield _text("body_plain" if both else "body", "plain", content.plain)
    if content.html is not None:
        yield _text("body_html" if both else "body", "html", content.html)
    elif content.plain is None and not content.attachments:
        yield _text("body", "plain", "")


def _text(field: str, subtype: str, text: str) -> _Entity:
    """A text part; its last line gets the CRLF it may lack."""
    try:
        data = canonical(text.encode("utf-8"))
    except UnicodeEncodeError:
        raise BadMessage(field, "half of a surrogate pair") from None
    if data and not data.endswith(b"\r\n"):
        data += b"\r\n"
    kind = f"Content-Type: text/{subtype}; charset=utf-8\r\n"
    if text.isascii() and b"\0" not in data and lines_fit(data, MAX_LINE):
        return _Entity(kind + _SEVEN_BIT, data, opaque=False)
    high = len(data.translate(None, _ASCII))
    if high * 6 > len(data):
        return _Entity(kind + _BASE64, _base64(data), opaque=True)
    return _Entity(kind + _QUOTED, binascii.b2a_qp(data), opaque=True)


def _attachment(attachment: Attachment, parts: Mapping[int, bytes]) -> _Entity:
    data = _part(parts, attachment.part)
    name, filename = filename_parameters("attachments", attachment.filename)
    headers = (
        f"Content-Type: {_mime_type(attachment.mime_type)}{name}\r\n"
        f"{_BASE64}"
        f"Content-Disposition: attachment{filename}\r\n"
    )
    return _Entity(headers, _base64(data), opaque=True)


def _part(parts: Mapping[int, bytes], number: int) -> bytes:
    data = parts.get(number)
    if data is None:
        raise BadMessage("attachments", "the content of one is missing")
    return data


def _mime_type(text: str) -> str:
    """
    The type to declare, with its charset and no other parameter.

    A composite type may not be in base64 (RFC 2045, section 6.4): it goes as a plain file.
    """
    match = _TYPE.fullmatch(text or "application/octet-stream")
    if match is None:
        raise BadMessage("attachments", "a mime_type that is not type/subtype")
    kind = match["type"].lower()
    if kind.startswith(("multipart/", "message/")):
        return "application/octet-stream"
    charset = _CHARSET.search(match["parameters"])
    return f'{kind}; charset="{charset[1]}"' if charset else kind


def _multipart(subtype: str, entities: list[_Entity], seed: str) -> _Entity:
    boundary = _boundary(subtype, entities, seed)
    opening = f"--{boundary}\r\n"
    pieces: list[bytes] = []
    for entity in entities:
        pieces += (f"{opening}{entity.headers}\r\n".encode("ascii"), entity.body)
        opening = f"\r\n--{boundary}\r\n"
    pieces.append(f"\r\n--{boundary}--\r\n".encode("ascii"))
    headers = f'Content-Type: multipart/{subtype};\r\n boundary="{boundary}"\r\n'
    return _Entity(headers, b"".join(pieces), opaque=False)


def _boundary(subtype: str, entities: list[_Entity], seed: str) -> str:
    """
    A boundary that stands in none of *entities*.

    ``=_`` can occur neither in quoted-printable nor in base64 (RFC 2045, section 6.7), so only
    what is sent as it is has to be searched.
    """
    attempt = 0
    while True:
        digest = hashlib.sha256(f"{subtype} {attempt} {seed}".encode("ascii")).hexdigest()
        boundary = f"=_{digest[:32]}"
        needle = boundary.encode("ascii")
        if not any(needle in entity.body for entity in entities if not entity.opaque):
            return boundary
        attempt += 1


_LINE = 76
_BLOCK = 1024
_unpack = struct.Struct(f"{_LINE}s" * _BLOCK).unpack


def _base64(data: bytes) -> bytes:
    """*data* in base64, lines of 76, each with its CRLF; whole blocks of lines at a time."""
    text = binascii.b2a_base64(data, newline=False)
    size = _LINE * _BLOCK
    whole = len(text) - len(text) % size
    view = memoryview(text)
    pieces = [b"\r\n".join(_unpack(view[at : at + size])) for at in range(0, whole, size)]
    rest = [text[at : at + _LINE] for at in range(whole, len(text), _LINE)]
    if rest:
        pieces.append(b"\r\n".join(rest))
    return b"\r\n".join([*pieces, b""]) if pieces else b""
