"""
Attachments that come with their message: decoded and verified when they are taken in.

Content that would have to be fetched is refused here, by name.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from mimetypes import MimeTypes

from mailproxy.api.wire import AttachmentObject, Rejected
from mailproxy.model import Attachment

BASE64 = "base64"
_PREFIX = "base64:"
_MODES = frozenset((BASE64, "http_url", "filesystem", "endpoint"))
_ANY = "application/octet-stream"

# Only the table that comes with Python: the same name means the same type on every machine.
_types = MimeTypes()
_marker = re.compile(r"_?\{MD5:([0-9a-fA-F]{32})\}")
_control = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_hex32 = re.compile(r"[0-9a-fA-F]{32}")
_spaces = str.maketrans("", "", " \t\r\n")


def take_attachments(
    objects: list[AttachmentObject],
) -> tuple[tuple[Attachment, ...], tuple[bytes, ...]]:
    """
    The attachments, and the decoded content of each.

    :raises Rejected: one is not what it should be; the reason says which, and its field.
    """
    taken = []
    parts = []
    for index, source in enumerate(objects):
        attachment, data = _take(source, f"attachments[{index}]", index + 1)
        taken.append(attachment)
        parts.append(data)
    return tuple(taken), tuple(parts)


def fetch_mode(source: AttachmentObject) -> str:
    """Where the content comes from: what the client says, else what the path looks like."""
    if source.fetch_mode:
        return source.fetch_mode
    path = source.storage_path
    if path.startswith(_PREFIX):
        return BASE64
    if path.startswith(("http://", "https://")):
        return "http_url"
    return "filesystem" if path.startswith("/") else "endpoint"


def _take(source: AttachmentObject, where: str, part: int) -> tuple[Attachment, bytes]:
    mode = fetch_mode(source)
    if mode not in _MODES:
        raise Rejected(f"invalid {where}.fetch_mode: expected one of {', '.join(sorted(_MODES))}")
    if mode != BASE64:
        raise Rejected(f"invalid {where}.fetch_mode: {mode} attachments are not supported yet")
    name, marked = _filename(source.filename, where)
    md5 = source.content_md5 or marked
    if md5 and not _hex32.fullmatch(md5):
        raise Rejected(f"invalid {where}.content_md5: expected 32 hex digits")
    data = _decode(source.storage_path, where)
    if md5 and hashlib.md5(data, usedforsecurity=False).hexdigest() != md5.lower():
        raise Rejected(f"invalid {where}.content_md5: does not match the content")
    kind = source.mime_type or _types.guess_type(name)[0] or _ANY
    digest = hashlib.sha256(data).hexdigest()
    return Attachment(name, kind, part, len(data), digest, content_md5=md5.lower()), data


def _filename(text: str, where: str) -> tuple[str, str]:
    """The name without the marker of a digest, and that digest, "" for none."""
    if _control.search(text):
        raise Rejected(f"invalid {where}.filename: a control character")
    match = _marker.search(text)
    name = text if match is None else text[: match.start()] + text[match.end() :]
    if not 1 <= len(name) <= 255 or name.isspace():
        raise Rejected(f"invalid {where}.filename: expected 1 to 255 characters")
    return name, "" if match is None else match[1]


def _decode(text: str, where: str) -> bytes:
    """Base64 with its padding; line breaks and spaces are passed over."""
    try:
        raw = text.removeprefix(_PREFIX).translate(_spaces).encode("ascii")
        return binascii.a2b_base64(raw, strict_mode=True)
    except (ValueError, UnicodeEncodeError):
        raise Rejected(f"invalid {where}.storage_path: not base64") from None
