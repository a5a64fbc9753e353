"""
What happened in the last hour, in steps of some seconds: of all tenants together, and of each.

Kept in memory, in rings of fixed size. Pure.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import attrs

#: Seconds of a step, and how many steps are kept: an hour.
STEP, KEPT = 10.0, 360

#: Tenants of which steps are kept though nobody looks at them. A track takes 7 kB.
MOST_TRACKS = 1000

#: Steps of "the last minute".
MINUTE = 6

_UNKNOWN = -1


@attrs.frozen
class Counted:
    """Messages since the start of the process: what counters say. *accepted* is not by tenant."""

    accepted: int = 0
    sent: int = 0
    deferred: int = 0
    failed: int = 0

    def since(self, before: Counted) -> Counted:
        return Counted(
            self.accepted - before.accepted,
            self.sent - before.sent,
            self.deferred - before.deferred,
            self.failed - before.failed,
        )


_COLUMNS = ("accepted", "sent", "deferred", "failed")


class Track:
    """
    The steps of one tenant, or of all.

    :param number: of the first step that can be told.
    """

    def __init__(self, number: int) -> None:
        self.first = number
        self.active = number
        self._counts = {name: array("q", [0]) * KEPT for name in _COLUMNS}
        self._pending = array("q", [_UNKNOWN]) * KEPT

    def note(self, number: int, counted: Counted, pending: int | None) -> None:
        """Step *number* is over. :param pending: messages that wait; None: not known."""
        slot = number % KEPT
        for name, column in self._counts.items():
            column[slot] = getattr(counted, name)
        self._pending[slot] = _UNKNOWN if pending is None else pending
        if counted != Counted():
            self.active = number

    def after(self, number: int, last: int) -> dict[str, list[int] | list[int | None]]:
        """The steps behind *number*, up to *last*, by column, the oldest first."""
        numbers = range(max(number + 1, self.first, last - KEPT + 1), last + 1)
        shown: dict[str, list[int] | list[int | None]] = {
            name: [column[n % KEPT] for n in numbers] for name, column in self._counts.items()
        }
        waiting = [self._pending[n % KEPT] for n in numbers]
        shown["pending"] = [None if each == _UNKNOWN else each for each in waiting]
        return shown

    def total(self, steps: int, last: int) -> Counted:
        """What was counted in the last *steps* steps."""
        numbers = range(max(self.first, last - min(steps, KEPT) + 1), last + 1)
        return Counted(*(sum(self._counts[name][n % KEPT] for n in numbers) for name in _COLUMNS))


class Tracks:
    """All tracks; the one of all tenants together is that of None."""

    def __init__(self) -> None:
        self.last = 0
        self._before: dict[str | None, Counted] = {}
        self._tracks: dict[str | None, Track] = {None: Track(1)}

    def follow(self, tenant_id: str | None) -> Track:
        """The track of a tenant, which is begun if need be."""
        return self._tracks.setdefault(tenant_id, Track(self.last + 1))

    def note(
        self, counted: dict[str | None, Counted], pending: dict[str | None, int | None]
    ) -> None:
        """
        One more step is over.

        :param counted: what the counters say now, of each tenant that has any, and of all.
        :param pending: messages that wait, of whom it is known.
        """
        self.last += 1
        for tenant_id, now in counted.items():
            before = self._before.get(tenant_id, Counted())
            track = self._tracks.get(tenant_id)
            if track is None and now != before and len(self._tracks) <= MOST_TRACKS:
                track = self._tracks[tenant_id] = Track(self.last)
            if track is not None:
                track.note(self.last, now.since(before), pending.get(tenant_id))
        for tenant_id in self._tracks.keys() - counted.keys():
            self._tracks[tenant_id].note(self.last, Counted(), pending.get(tenant_id))
        self._before = dict(counted)

    def since_step(self, tenant_id: str | None, now: Counted) -> Counted:
        """What was counted since the last step ended. :param now: what the counters say."""
        return now.since(self._before.get(tenant_id, Counted()))

    def drop(self, watched: Sequence[str | None]) -> None:
        """Forget tenants, save those *watched*, of whom nothing was counted in all that is kept."""
        old = self.last - KEPT
        for tenant_id, track in list(self._tracks.items()):
            if tenant_id is not None and tenant_id not in watched and track.active < old:
                del self._tracks[tenant_id]
