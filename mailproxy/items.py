"""
Report items as receivers read them: in a report, and where an application pulls them.

Pure. The seven keys of the first clients are always there; what was added since stands behind.
"""

from __future__ import annotations

from typing import Any

import msgspec

from mailproxy.records import ReportItem


class WireRecipient(msgspec.Struct):
    """What became of one recipient."""

    address: str
    state: str
    code: int | None
    reply: str


class WireItem(msgspec.Struct, kw_only=True):
    """One item; instants are whole Unix seconds."""

    id: str
    account_id: str
    priority: int
    sent_ts: int | None
    error_ts: int | None
    error: str | None
    deferred_ts: int | None
    tenant_id: str
    event_id: str
    generation: int
    deferred_reason: str | None
    recipients: list[WireRecipient]
    message_id: str
    uncertain: bool | msgspec.UnsetType = msgspec.UNSET
    test: bool | msgspec.UnsetType = msgspec.UNSET
    through: str | msgspec.UnsetType = msgspec.UNSET


def wire_item(item: ReportItem) -> WireItem:
    """
    *item* as receivers see it.

    :raises OverflowError: an instant is none (a damaged row); likewise ``ValueError``.
    """
    return WireItem(**fields(item))


def fields(item: ReportItem) -> dict[str, Any]:
    """The fields of a :class:`WireItem`, for types that have more."""
    return {
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
            WireRecipient(each.address, each.state, each.code, each.reply)
            for each in item.recipients
        ],
        "message_id": item.message_id,
        "uncertain": item.uncertain or msgspec.UNSET,
        "test": item.test or msgspec.UNSET,
        "through": item.through or msgspec.UNSET,
    }


def _seconds(when: float | None) -> int | None:
    return None if when is None else int(when)
