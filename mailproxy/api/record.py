"""How a message is shown: the record of ``GET /messages`` and of one message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET, UnsetType, convert

from mailproxy import payload
from mailproxy.address import format_mailbox
from mailproxy.api.shapes_messages import HistoryEvent, ShownMessage
from mailproxy.api.times import iso, seconds
from mailproxy.items import WireRecipient
from mailproxy.model import Content
from mailproxy.records import MessageRecord
from mailproxy.states import MessageState

#: Bytes of a body that are shown.
BODY_SHOWN = 64 * 1024

#: What was sent or taken back is kept without its text.
TEXTLESS = (MessageState.SENT, MessageState.CANCELLED)


def shown(
    record: MessageRecord,
    history: Sequence[dict[str, Any]] | UnsetType = UNSET,
    *,
    brief: bool = False,
) -> ShownMessage:
    """
    *record* as callers read it.

    :param history: its timeline, if that is asked for.
    :param brief: its text was not read.
    """
    return ShownMessage(
        id=record.id,
        tenant_id=record.tenant_id,
        account_id=record.account_id,
        priority=record.priority,
        batch_code=record.batch or None,
        deferred_ts=seconds(record.not_before),
        expires_at=seconds(record.not_after),
        sent_ts=seconds(record.sent_ts),
        error_ts=seconds(record.error_ts),
        error=record.error,
        deferred_reason=record.deferred_reason,
        reported_ts=seconds(record.reported_ts),
        created_at=iso(record.accepted_at),
        updated_at=iso(record.updated_at),
        state=MessageState(record.state),
        attempts=record.attempts,
        message_id=record.message_id,
        recipients=[
            WireRecipient(each.address, each.state, each.code, each.reply)
            for each in record.recipients
        ],
        message=_message(record, brief),
        history=UNSET if history is UNSET else convert(history, list[HistoryEvent]),
    )


def _message(record: MessageRecord, brief: bool) -> dict[str, Any]:
    """What the client submitted, in its own words, as far as it is still stored."""
    message: dict[str, Any] = {
        "id": record.id,
        "account_id": record.account_id,
        "priority": record.priority,
        "deferred_ts": seconds(record.not_before),
        "expires_at": seconds(record.not_after),
        "batch_code": record.batch or None,
        "retry_count": _retries(record),
    }
    if record.payload is None:
        return message
    try:
        content = payload.load(record.payload)
    except ValueError:
        return message | {"damaged": True}
    message["from"] = format_mailbox(content.sender)
    for name in ("to", "cc", "bcc"):
        mailboxes = getattr(content, name)
        if mailboxes:
            message[name] = [format_mailbox(mailbox) for mailbox in mailboxes]
    if content.reply_to:
        message["reply_to"] = ", ".join(map(format_mailbox, content.reply_to))
    message["subject"] = content.subject
    if content.raw:
        message["raw"] = True
    elif record.state not in TEXTLESS and not brief:
        message |= _bodies(content)
    if content.return_path:
        message["return_path"] = content.return_path
    if content.headers:
        message["headers"] = dict(content.headers)
    if (dsn := content.dsn) is not None:
        said = {"notify": [word.lower() for word in dsn.notify], "ret": dsn.ret.lower()}
        message["dsn"] = {k: v for k, v in {**said, "envid": dsn.envid}.items() if v}
    if content.attachments:
        message["attachments"] = [
            {
                "filename": each.filename,
                "mime_type": each.mime_type,
                "size": each.size if each.part else None,  # else it is still to be fetched
                "sha256": each.sha256 or None,
            }
            for each in content.attachments
        ]
    return message


def _bodies(content: Content) -> dict[str, Any]:
    plain, html = content.plain, content.html
    if plain is not None and html is not None:
        return _cut({"body_html": html, "body_plain": plain})
    if html is not None:
        return _cut({"body": html}) | {"content_type": "html"}
    return _cut({"body": plain or ""}) | {"content_type": "plain"}


def _cut(texts: dict[str, str]) -> dict[str, Any]:
    """*texts* up to :data:`BODY_SHOWN` each, with ``body_truncated`` where that was less."""
    shown: dict[str, Any] = {}
    for name, text in texts.items():
        data = text.encode()[: BODY_SHOWN + 1] if len(text) * 4 > BODY_SHOWN else b""
        if len(data) > BODY_SHOWN:
            text = data[:BODY_SHOWN].decode("utf-8", "ignore")
            shown["body_truncated"] = True
        shown[name] = text
    return shown


def _retries(record: MessageRecord) -> int:
    """Attempts that had to be followed by another."""
    waiting = record.state in (MessageState.DEFERRED, MessageState.QUEUED)
    return record.attempts if waiting else max(0, record.attempts - 1)
