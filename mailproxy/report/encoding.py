"""
Report items as the JSON that receivers read.

Pure. The seven keys of the first clients are always there; what was added since stands behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from mailproxy.errors import ReportRefused, ReportTooLarge
from mailproxy.records import ReportItem

#: A report is split rather than made larger than this many bytes.
MOST_BYTES = 4 * 1024 * 1024

_encode = msgspec.json.Encoder().encode


def encode(items: Sequence[ReportItem], most_bytes: int = MOST_BYTES) -> bytes:
    """
    Make the body of one report.

    A single item may be larger than *most_bytes*: it cannot be split.

    :param items: 0 or more.
    :raises ReportTooLarge: more than one item, and they do not fit.
    :raises ReportRefused: an item has no JSON form (a damaged row).
    """
    parts: list[bytes] = []
    size = 0
    for item in items:
        try:
            part = _encode(as_json(item))
        except (ValueError, TypeError, OverflowError) as error:
            raise ReportRefused(f"cannot be written as JSON: {type(error).__name__}") from error
        size += len(part) + 1
        if size > most_bytes and len(items) > 1:
            raise ReportTooLarge(f"more than {most_bytes} bytes in one report")
        parts.append(part)
    return b'{"delivery_report":[' + b",".join(parts) + b"]}"


def as_json(item: ReportItem) -> dict[str, Any]:
    """One item as receivers see it; instants are whole Unix seconds."""
    wire: dict[str, Any] = {
        "id": item.id,
        "account_id": item.account_id,
        "priority": item.priority,
        "sent_ts": _seconds(item.sent_ts),
        "error_ts": _seconds(item.error_ts),
        "error": item.error,
        "deferred_ts": _seconds(item.deferred_ts),
        "tenant_id": item.tenant_id,
        "event_id": item.event_id,
        "generation": item.generation,
        "deferred_reason": item.deferred_reason,
        "recipients": [
            {"address": each.address, "state": each.state, "code": each.code, "reply": each.reply}
            for each in item.recipients
        ],
        "message_id": item.message_id,
    }
    if item.uncertain:
        wire["uncertain"] = True
    return wire


def _seconds(when: float | None) -> int | None:
    return None if when is None else int(when)
