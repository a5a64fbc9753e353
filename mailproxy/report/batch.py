"""
How many events the next report carries.

Pure. A receiver that finds a report too large, or breaks on it, gets smaller ones, which grow
again while it takes them. One that refuses a report gets half of it, and half of that, until the
one event is alone that it will not take.
"""

from __future__ import annotations

import attrs

from mailproxy.records import MAX_BATCH

#: From this failure in a row on, reports become smaller.
PATIENCE = 3


@attrs.define
class Batch:
    """:param most: events in a report at most."""

    most: int = MAX_BATCH
    _limit: int = attrs.field(init=False)
    #: Among this many of the oldest events there is one that is refused; 0 if none is known of.
    _suspects: int = 0
    _failures: int = 0

    def __attrs_post_init__(self) -> None:
        self._limit = self.most

    @property
    def size(self) -> int:
        """Events to offer next, at least 1."""
        if self._suspects:
            return max(1, min(self._limit, self._suspects // 2))
        return self._limit

    def taken(self, count: int) -> None:
        """A report of *count* events was taken."""
        self._failures = 0
        self._suspects = max(0, self._suspects - count)
        if count >= self._limit:
            self._limit = min(self.most, self._limit + max(1, self._limit // 8))

    def too_large(self, count: int) -> bool:
        """The report was too large. :return: whether its one event can never be taken."""
        self._limit = max(1, min(self._limit, count) // 2)
        return count == 1

    def refused(self, count: int) -> bool:
        """The report was refused. :return: whether its one event can never be taken."""
        self._suspects = 0 if count == 1 else count
        return count == 1

    def failed(self, count: int, *, timed_out: bool) -> None:
        """The report had no usable answer: in time, or at all."""
        self._failures += 1
        if count > 1 and (timed_out or self._failures >= PATIENCE):
            self._limit = max(1, min(self._limit, count) // 2)
