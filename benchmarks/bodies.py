"""What benchmarks hand in: messages and calls, made before any clock runs."""

from __future__ import annotations

import json
from typing import Any

_LINE = "The quick brown fox jumps over the lazy dog, again and again.\n"


def text(size: int) -> str:
    """A body of *size* bytes."""
    return (_LINE * (size // len(_LINE) + 1))[:size]


#: The common mail, of 2 kB.
BODY = text(2048)


def element(id: str, **fields: Any) -> dict[str, Any]:
    """One message of a call."""
    return {
        "id": id,
        "from": "Shop <shop@example.test>",
        "to": [f"{id}@example.test"],
        "subject": f"Your order {id}",
        "body": BODY,
        **fields,
    }


def call_bodies(count: int, size: int, prefix: str, **fields: Any) -> list[bytes]:
    """
    Ready-made request bodies for *count* messages in calls of *size*.

    :param prefix: of the ids; they are numbered.
    """
    return [
        json.dumps(
            {
                "messages": [
                    element(f"{prefix}{n}", account_id="main", **fields)
                    for n in range(first, min(first + size, count))
                ]
            }
        ).encode()
        for first in range(0, count, size)
    ]
