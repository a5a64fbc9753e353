"""
The body of a report: items as JSON, in one piece that is not too large.

Pure. What an item looks like is in :mod:`mailproxy.items`.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mailproxy.errors import ReportRefused, ReportTooLarge
from mailproxy.items import wire_item
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
            part = _encode(wire_item(item))
        except (ValueError, TypeError, OverflowError) as error:
            raise ReportRefused(f"cannot be written as JSON: {type(error).__name__}") from error
        size += len(part) + 1
        if size > most_bytes and len(items) > 1:
            raise ReportTooLarge(f"more than {most_bytes} bytes in one report")
        parts.append(part)
    return b'{"delivery_report":[' + b",".join(parts) + b"]}"
