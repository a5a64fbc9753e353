"""
When an alarm is worth a line in the log: not each time that the same one is raised.

Pure. A server that answers every message in the same way would fill the log; how often it did is
in the metric.
"""

from __future__ import annotations

from collections import OrderedDict

#: Seconds for which the same alarm of an account is not told again.
QUIET = 600.0

#: Alarms that are remembered at once; of more, the one told longest ago is forgotten.
MOST_REMEMBERED = 1000


class Alarms:
    """:param quiet: seconds between two lines about the same."""

    def __init__(self, quiet: float = QUIET, most: int = MOST_REMEMBERED) -> None:
        self._quiet = quiet
        self._most = most
        self._told: OrderedDict[tuple[str, ...], float] = OrderedDict()
        self._kept: dict[tuple[str, ...], int] = {}

    def __len__(self) -> int:
        return len(self._told)

    def raised(self, *about: str, now: float) -> int | None:
        """
        It is so again.

        :param about: what tells this alarm from others.
        :param now: an instant in seconds of any clock that grows.
        :return: how often it was not told since the last line; None: nor is it to be told now.
        """
        told = self._told.get(about)
        if told is not None and now - told < self._quiet:
            self._kept[about] = self._kept.get(about, 0) + 1
            return None
        self._told[about] = now
        self._told.move_to_end(about)
        while len(self._told) > self._most:
            self._kept.pop(self._told.popitem(last=False)[0], None)
        return self._kept.pop(about, 0)
