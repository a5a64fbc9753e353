"""Judging one element, as the tests of elements and attachments do it."""

from __future__ import annotations

from typing import Any

import msgspec

from mailproxy import payload
from mailproxy.api.elements import Judge
from mailproxy.api.wire import Rejected
from mailproxy.model import Content, NewMessage
from tests.api.door import message
from tests.fakes import EPOCH

#: Stands in every bad value, and must stand in no answer.
CANARY = "canary8f3a"


def judge(**overrides: Any) -> Judge:
    values: dict[str, Any] = {
        "tenant_id": None,
        "tenant_exists": {"default"}.__contains__,
        "now": EPOCH,
        "default_priority": 2,
        "new_id": lambda: "0" * 32,
        "helo_name": "mail.example.com",
        "max_bytes": 1_000_000,
        "max_recipients": 1000,
    }
    return Judge(**{**values, **overrides})


def accept(**fields: Any) -> NewMessage:
    return judge().judge(msgspec.json.encode(message(**fields)))


def content(**fields: Any) -> Content:
    return payload.load(accept(**fields).payload)


def reason(raw: Any, **rules: Any) -> str:
    """Why an element is rejected, whether given as bytes or as a value."""
    data = raw if isinstance(raw, bytes) else msgspec.json.encode(raw)
    try:
        judge(**rules).judge(data)
    except Rejected as rejected:
        return rejected.reason
    raise AssertionError("the element was accepted")
