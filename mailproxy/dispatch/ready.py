"""
The messages of one account that are claimed and not handed out yet, the most urgent first.

Pure.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from mailproxy.model import Claimed

#: Every so many messages one is taken by age, when claiming and when handing out.
BY_AGE = 16


class Ready:
    """Ordered by rank, then by the order of arrival."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Claimed]] = []
        self._order = 0
        self._handed = 0

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, message: Claimed, rank: int) -> None:
        """Add *message*; what has a smaller *rank* goes first."""
        self._order += 1
        heapq.heappush(self._heap, (rank, self._order, message))

    def pop(self) -> Claimed:
        """
        The most urgent, or every :data:`BY_AGE` th time what has been due longest.

        :raises IndexError: there is none.
        """
        self._handed += 1
        if self._handed % BY_AGE == 0:
            self._advance_oldest()
        return heapq.heappop(self._heap)[2]

    def _advance_oldest(self) -> None:
        """Put what has been due longest first; but priority 0 is not kept waiting."""
        heap = self._heap
        if heap[0][0] > 0:
            oldest = min(range(len(heap)), key=lambda at: heap[at][2].due_since)
            _, order, message = heap[oldest]
            heap[oldest] = (-1, order, message)
            heapq.heapify(heap)

    def remove(self, unwanted: Callable[[Claimed], bool]) -> None:
        """Take those out that are *unwanted*, which may push others meanwhile."""
        entries, self._heap = self._heap, []
        for entry in entries:
            if not unwanted(entry[2]):
                heapq.heappush(self._heap, entry)

    def clear(self) -> list[Claimed]:
        """Take all out. :return: them."""
        taken = [message for _, _, message in self._heap]
        self._heap.clear()
        return taken
