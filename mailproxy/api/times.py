"""How the API writes instants."""

from __future__ import annotations

from datetime import UTC, datetime


def iso(instant: float) -> str:
    """ISO 8601, in UTC, to the second."""
    return datetime.fromtimestamp(instant, UTC).isoformat(timespec="seconds")


def seconds(instant: float | None) -> int | None:
    """Whole Unix seconds."""
    return None if instant is None else int(instant)
