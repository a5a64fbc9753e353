"""
Messages composed when they were checked, kept for the moments until they are sent.

Composing is a pure function, and a message that leaves at once would be composed twice with the
same arguments. What is kept here is found only by all of them, so it can be nothing but what
composing would give again; what is not found is composed.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

#: Bytes kept, contents and bodies together, and counted generously.
LIMIT = 16 * 1024 * 1024

#: Seconds, by the messages' own dates, after which what nobody asked for makes room.
FRESH = 30

#: Bytes of an entry beside its content and its body, about.
_OWN = 700


class _Kept(NamedTuple):
    payload: bytes
    date: int
    body: bytes


class Composed:
    """
    :param limit: bytes; what does not fit is not kept.

    Messages with parts of their own are not for this: *payload* has to say all.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._used = 0
        self._kept: dict[tuple[str, str], _Kept] = {}
        self._lock = threading.Lock()

    def keep(self, payload: bytes, mail_id: str, message_id: str, date: float, body: bytes) -> None:
        """Keep *body*, which the other arguments make; may be called in any thread."""
        kept = _Kept(payload, int(date), body)
        with self._lock:
            self._drop((mail_id, message_id))
            while self._used + _size(kept) > self._limit:
                oldest = next(iter(self._kept), None)
                if oldest is None or self._kept[oldest].date + FRESH > kept.date:
                    return
                self._drop(oldest)
            self._kept[mail_id, message_id] = kept
            self._used += _size(kept)

    def take(self, payload: bytes, mail_id: str, message_id: str, date: float) -> bytes | None:
        """The body of exactly these arguments, which is kept no longer; None if there is none."""
        if (mail_id, message_id) not in self._kept:
            return None
        with self._lock:
            kept = self._drop((mail_id, message_id))
        if kept is None or kept.date != int(date) or kept.payload != payload:
            return None
        return kept.body

    def _drop(self, key: tuple[str, str]) -> _Kept | None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._used -= _size(kept)
        return kept


def _size(kept: _Kept) -> int:
    return _OWN + len(kept.payload) + len(kept.body)
