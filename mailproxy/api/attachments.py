"""
Attachments as they are submitted: decoded and verified if they came along, else noted down to be
fetched when their message is about to leave.

What could never be fetched is refused here, by name.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Callable
from mimetypes import MimeTypes
from typing import Any

import attrs

from mailproxy.api.wire import AttachmentObject, Rejected
from mailproxy.credentials import read_auth, seal_auth
from mailproxy.model import DEFAULT_TENANT, Attachment
from mailproxy.urls import parse

BASE64 = "base64"
HTTP_URL = "http_url"
FILESYSTEM = "filesystem"
ENDPOINT = "endpoint"

#: The most characters of a path.
MAX_PATH = 4096

_PREFIX = "base64:"
_MODES = frozenset((BASE64, HTTP_URL, FILESYSTEM, ENDPOINT))
_ANY = "application/octet-stream"

# Only the table that comes with Python: the same name means the same type on every machine.
_types = MimeTypes()
_marker = re.compile(r"_?\{MD5:([0-9a-fA-F]{32})\}")
_control = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_hex32 = re.compile(r"[0-9a-fA-F]{32}")
_spaces = str.maketrans("", "", " \t\r\n")


@attrs.frozen
class AttachmentRules:
    """
    :param seal: makes of credentials what may be stored; None: none are taken.
    :param files_for: the tenants that may name files of this machine; None among them: all may.
    """

    seal: Callable[[str], str] | None = None
    files_for: frozenset[str | None] = frozenset()

    def may_name_files(self, tenant_id: str) -> bool:
        return None in self.files_for or tenant_id in self.files_for


def take_attachments(
    objects: list[AttachmentObject],
    tenant_id: str = DEFAULT_TENANT,
    rules: AttachmentRules = AttachmentRules(),
) -> tuple[tuple[Attachment, ...], tuple[bytes, ...]]:
    """
    The attachments, and the decoded content of each that came along, by ``Attachment.part``.

    :raises Rejected: one is not what it should be; the reason says which, and its field.
    """
    taken: list[Attachment] = []
    parts: list[bytes] = []
    for index, source in enumerate(objects):
        taken.append(_Taking(source, f"attachments[{index}]", tenant_id, rules).take(parts))
    return tuple(taken), tuple(parts)


def fetch_mode(source: AttachmentObject) -> str:
    """Where the content comes from: what the client says, else what the path looks like."""
    if source.fetch_mode:
        return source.fetch_mode
    path = source.storage_path
    if path.startswith(_PREFIX):
        return BASE64
    if path.startswith(("http://", "https://")):
        return HTTP_URL
    return FILESYSTEM if path.startswith("/") else ENDPOINT


@attrs.frozen
class _Taking:
    """One attachment on its way in. :param where: how reasons call it."""

    source: AttachmentObject
    where: str
    tenant_id: str
    rules: AttachmentRules

    def take(self, parts: list[bytes]) -> Attachment:
        """:param parts: grows by the content, if that came along."""
        source, mode = self.source, fetch_mode(self.source)
        if mode not in _MODES:
            raise self._rejected("fetch_mode", f"expected one of {', '.join(sorted(_MODES))}")
        name, marked = _filename(source.filename, self.where)
        md5 = source.content_md5 or marked
        if md5 and not _hex32.fullmatch(md5):
            raise self._rejected("content_md5", "expected 32 hex digits")
        kind = source.mime_type or _types.guess_type(name)[0] or _ANY
        auth = self._auth(source.auth, mode) if source.auth is not None else ""
        if mode == BASE64:
            return self._inline(Attachment(name, kind, 0, content_md5=md5.lower()), parts)
        self._check_path(mode, source.storage_path)
        return Attachment(
            name,
            kind,
            part=0,
            storage_path=source.storage_path,
            fetch_mode=mode,
            content_md5=md5.lower(),
            auth=auth,
        )

    def _inline(self, attachment: Attachment, parts: list[bytes]) -> Attachment:
        data = _decode(self.source.storage_path, self.where)
        md5 = attachment.content_md5
        if md5 and hashlib.md5(data, usedforsecurity=False).hexdigest() != md5:
            raise self._rejected("content_md5", "does not match the content")
        parts.append(data)
        digest = hashlib.sha256(data).hexdigest()
        return attrs.evolve(attachment, part=len(parts), size=len(data), sha256=digest)

    def _check_path(self, mode: str, path: str) -> None:
        """Whether there is any hope for it."""
        if not path or len(path) > MAX_PATH:
            raise self._rejected("storage_path", f"expected 1 to {MAX_PATH} characters")
        if _control.search(path):
            raise self._rejected("storage_path", "a control character")
        if mode == HTTP_URL:
            try:
                parse(path)
            except ValueError as error:
                raise self._rejected("storage_path", str(error)) from None
        if mode == FILESYSTEM:
            if not self.rules.may_name_files(self.tenant_id):
                text = "there is no directory here that attachments may come from"
                raise self._rejected("fetch_mode", text)
            if not path.startswith("/") or ".." in path.split("/"):
                raise self._rejected("storage_path", "expected an absolute path without ..")

    def _auth(self, fields: dict[str, Any], mode: str) -> str:
        try:
            auth = read_auth(fields)
        except ValueError as error:
            raise self._rejected("auth", str(error)) from None
        if mode in (BASE64, FILESYSTEM):
            return ""  # nobody is asked for it
        if self.rules.seal is None:
            raise self._rejected("auth", "credentials cannot be kept here")
        return seal_auth(auth, self.rules.seal)

    def _rejected(self, field: str, problem: str) -> Rejected:
        return Rejected(f"invalid {self.where}.{field}: {problem}")


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
