"""
When a tenant's report endpoint is called next.

Pure: instants are monotonic seconds that the caller brings in, and so is the randomness.

An answer is owed soon after an event, and now and then without one, since the application submits
its mail inside our call. A call that failed is repeated later and later; run-now may cut that
waiting short, but nothing cuts the rest after a time-out: the receiver may still be at work.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs

#: Seconds for which events gather, so that a burst becomes few reports.
GATHER = 0.025

#: Events in a report that make it one of a crowd; seconds for which they gather then; and seconds
#: after such a report for which that holds. A call costs more than what it tells of: ten of them a
#: second are enough where hundreds of events are born in it.
CROWD = 8
CROWD_GATHER = 0.1
CROWDED = 1.0

#: Seconds between calls while the application has more to submit.
AGAIN = 1.0

#: Seconds between two calls made because of run-now.
EXTRA = 1.0

#: Seconds to leave a receiver alone that did not answer in time.
AFTER_TIMEOUT = 60.0

#: Seconds between the first failed call and the next; doubled each time, up to the longest.
FIRST_REST, LONGEST_REST = 1.0, 300.0

#: Seconds until another try while another node calls; doubled each time, up to the longest.
FIRST_TURN, LONGEST_TURN = 1.0, 5.0

#: A rest is shortened by up to this part, so that not all tenants of a receiver call together.
JITTER = 0.2


@attrs.define
class Pace:
    """
    :param interval: seconds without contact after which an empty report is due.
    :param draw: gives numbers from 0 up to, but not including, 1.
    """

    interval: float
    draw: Callable[[], float]
    failures: int = 0
    #: No call before this, except by run-now.
    rest_until: float = -math.inf
    #: No call before this at all.
    floor: float = -math.inf
    #: No empty call before this, except by run-now.
    no_empty_before: float = -math.inf
    _events_at: float = math.inf
    _empty_at: float = -math.inf
    _forced: bool = False
    _extra_at: float = -math.inf
    _parks: int = 0
    #: Whether the call that was begun last is made because of run-now.
    _asked: bool = False
    #: Whether the next call is to be made whatever others did.
    _owed: bool = False
    _turns: int = 0
    #: Until when events gather for longer.
    _crowded_until: float = -math.inf

    def events(self, now: float) -> None:
        """There may be events to report."""
        self._events_at = min(self._events_at, now + self._gather(now))

    def run_now(self) -> None:
        """One call is wanted whatever it carries, and whatever failed before."""
        self._forced = True

    def forgive(self) -> None:
        """What failed before counts no more, and no wish for quiet; a time-out does."""
        self.failures = self._parks = 0
        self.rest_until = self.no_empty_before = -math.inf

    def due(self) -> float:
        """When the next call is due; in the past if it is now."""
        regular = max(min(self._events_at, self._empty_due()), self.rest_until)
        forced = self._extra_at if self._forced else math.inf
        return max(min(regular, forced), self.floor)

    def begin(self, now: float) -> bool:
        """
        A call is made now.

        :return: whether it is to be made also if there is nothing to report.
        """
        empty = self._forced or max(self._empty_due(), self.rest_until) <= now
        self._asked = self._forced
        if self._forced:
            self._forced, self._extra_at = False, now + EXTRA
        self._events_at = math.inf
        return empty

    def refused(self, now: float) -> None:
        """
        The call that was begun cannot be made: another node calls just now.

        That one may have what was to be told, and will look again; it may also end before it does.
        """
        self._turns += 1
        wait = min(FIRST_TURN * 2.0 ** min(self._turns - 1, 16), LONGEST_TURN)
        self.rest_until = max(self.rest_until, now + wait)
        self.more(now)
        if self._asked:
            self._forced, self._extra_at = True, now + wait

    def granted(self, now: float, empty_in: float | None, *, empty: bool) -> bool:
        """
        The call that was begun can be made; others may have called in the meantime.

        :param empty_in: seconds until an empty report is due by the last call of whichever node.
        :return: whether it is to be made also if there is nothing to report.
        """
        self._turns = 0
        if empty_in is None or self._owed:
            return empty
        self._empty_at, self.no_empty_before = now + empty_in, -math.inf
        return self._asked or (empty and empty_in <= 0.0)

    def taken(
        self, now: float, queued: int = 0, quiet_until: float | None = None, events: int = 0
    ) -> None:
        """
        The receiver took what was offered, if anything was.

        :param queued: messages it still wants to submit.
        :param quiet_until: when it next wants an empty report, at the earliest.
        :param events: how many it took.
        """
        if events >= CROWD:
            self._crowded_until = now + CROWDED
        self.failures = self._parks = 0
        self._owed = False
        self.rest_until = -math.inf
        self._empty_at = now + (min(AGAIN, self.interval) if queued > 0 else self.interval)
        self.no_empty_before = -math.inf if quiet_until is None else quiet_until
        if self._events_at < math.inf:
            self._events_at = max(self._events_at, now + self._gather(now))

    def more(self, now: float) -> None:
        """There is more to report, and nothing to wait for."""
        self._events_at = now

    def parked(self, now: float) -> None:
        """
        An event was refused for good; the rest goes on at once.

        A receiver that refuses one event after the other is given time to be repaired.
        """
        self._parks += 1
        if self._parks > 1:
            self.rest_until = now + self._rest(self._parks - 1)
        self.more(now)

    def failed(self, now: float, asked: float | None = None, *, empty: bool = False) -> None:
        """
        Nothing was taken, or it could not be stored that it was.

        :param asked: seconds the receiver asked us to wait.
        :param empty: whether the call was owed whatever it carried; then it still is.
        """
        self.failures += 1
        rest = self._rest(self.failures)
        if asked is not None:
            rest = min(max(asked, FIRST_REST), LONGEST_REST)
        self.rest_until = now + rest
        self._events_at = now
        if empty:
            self.owe(now)

    def owe(self, now: float) -> None:
        """The next call is to be made whatever it carries."""
        self._owed = True
        self._empty_at = min(self._empty_at, now)

    def timed_out(self, now: float) -> None:
        """The last call had no answer in time; to be told beside :meth:`failed`."""
        self.floor = now + AFTER_TIMEOUT

    def empty_in(self, now: float) -> float:
        """Seconds until an empty report is due."""
        return self._empty_due() - now

    def _gather(self, now: float) -> float:
        return CROWD_GATHER if now < self._crowded_until else GATHER

    def _empty_due(self) -> float:
        return max(self._empty_at, self.no_empty_before)

    def _rest(self, times: int) -> float:
        doubled = FIRST_REST * 2.0 ** min(times - 1, 16)
        return min(doubled, LONGEST_REST) * (1.0 - JITTER * self.draw())
