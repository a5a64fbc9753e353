"""
The digest of a submission: two with the same are the same mail.

What only says when it is sent - priority, deferred_ts, batch_code - is not in it. Keys in order,
absent ones left out, so that a field added later changes no digest. Recipients are their parsed
addresses. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from mailproxy.model import Attachment, Content, NewRecipient

_encode = msgspec.json.Encoder().encode

#: Octets that are hashed without letting go of the interpreter: with 2048 and more hashlib lets
#: another thread have it, and winning it back from a busy one takes longer than hashing 2 kB.
_HELD = 2047

#: Octets above which another thread is let in meanwhile: they take some tenths of a millisecond.
_LONG = 256 * 1024


def content_digest(
    content: Content, account_id: str | None, message_id: str | None, test: bool
) -> bytes:
    """
    SHA-256 of what the client wrote, 32 bytes.

    :param message_id: the client's own; None if it was made here.
    :param test: a test and real mail are not the same, whatever they say.
    """
    fields: dict[str, Any] = {}
    if account_id:
        fields["account_id"] = account_id
    if content.attachments:
        fields["attachments"] = [_attachment(each) for each in content.attachments]
    if content.bcc:
        fields["bcc"] = [mailbox.addr for mailbox in content.bcc]
    if content.html is not None:
        fields["body_html"] = content.html
    if content.plain is not None:
        fields["body_plain"] = content.plain
    if content.cc:
        fields["cc"] = [mailbox.addr for mailbox in content.cc]
    if content.dsn is not None:
        fields["dsn"] = content.dsn
    fields["from"] = (content.sender.display, content.sender.addr)
    if content.headers:
        fields["headers"] = sorted(content.headers)
    if message_id:
        fields["message_id"] = message_id
    if content.reply_to:
        fields["reply_to"] = [mailbox.addr for mailbox in content.reply_to]
    if content.return_path:
        fields["return_path"] = content.return_path
    if content.subject:
        fields["subject"] = content.subject
    if test:
        fields["test"] = True
    if content.to:
        fields["to"] = [mailbox.addr for mailbox in content.to]
    return _hashed(_encode(fields)).digest()


def raw_digest(
    data: bytes,
    envelope_from: str,
    recipients: Sequence[NewRecipient],
    account_id: str | None,
    test: bool,
) -> bytes:
    """
    The same for a message that came as bytes.

    :param data: as :func:`mailproxy.raw.read` leaves them.
    """
    fields: dict[str, Any] = {}
    if account_id:
        fields["account_id"] = account_id
    fields["raw"] = _hashed(data).hexdigest()
    fields["return_path"] = envelope_from
    if test:
        fields["test"] = True
    fields["to"] = [recipient.address for recipient in recipients]
    return hashlib.sha256(_encode(fields)).digest()


def _hashed(data: bytes) -> hashlib._Hash:
    """SHA-256 of *data*, which keeps the interpreter where that is short."""
    if len(data) > _LONG:
        return hashlib.sha256(data)
    found = hashlib.sha256(data[:_HELD])
    for start in range(_HELD, len(data), _HELD):
        found.update(data[start : start + _HELD])
    return found


def _attachment(attachment: Attachment) -> tuple[str, ...]:
    """Its content, or where that is to be found."""
    if attachment.part:
        return attachment.filename, attachment.mime_type, attachment.sha256
    return (
        attachment.filename,
        attachment.mime_type,
        attachment.fetch_mode,
        attachment.storage_path,
        attachment.content_md5,
    )
