"""A ledger that others are still writing, read line by line."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec


class Tail:
    """The lines of a ledger that is still being written. :ivar items: what they say."""

    def __init__(self, path: Path, read: Callable[[Any], Any]) -> None:
        self._path = path
        self._read = read
        self._at = 0
        self._lock = threading.Lock()
        self.items: list[Any] = []

    def look(self) -> list[Any]:
        """Read the lines that were added. :return: all items."""
        with self._lock:
            if self._path.exists():
                with self._path.open("rb") as file:
                    file.seek(self._at)
                    whole = file.read().rpartition(b"\n")[0]
                if whole:
                    self._at += len(whole) + 1
                    self.items += (self._read(msgspec.json.decode(x)) for x in whole.split(b"\n"))
            return self.items
