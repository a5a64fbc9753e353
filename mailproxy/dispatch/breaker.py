"""
When an account is left alone: after so many strikes in a row, until a probe succeeds.

Pure. Closed, mail flows and strikes are counted; one success forgets them. Open, nothing but a
probe is sent, one at a time, after a pause that grows with every probe that fails.
"""

from __future__ import annotations

from enum import StrEnum

#: Points in a row that open it.
LIMIT = 25

#: Points of one strike (421, 454, no reply), and of one refusal for now (another 4xx).
STRIKE, SLOWER = 5, 1


class State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


class Breaker:
    """
    Instants are Unix seconds; they may be any that grow.

    :ivar failures: how often in a row it was opened without having been closed.
    :ivar until: when it is open, the instant of the next probe.
    """

    def __init__(self) -> None:
        self._points = 0
        self._open = False
        self.failures = 0
        self.until = 0.0

    @property
    def closed(self) -> bool:
        return not self._open

    def state(self, now: float) -> State:
        if not self._open:
            return State.CLOSED
        return State.OPEN if now < self.until else State.PROBING

    def strike(self, points: int, now: float) -> bool:
        """
        Something went wrong. :return: whether it is to be opened (again).

        What sessions say that were open before is no news while it is open.
        """
        if not self._open:
            self._points += points
            return self._points >= LIMIT
        return now >= self.until

    def open(self, now: float, pause: float) -> None:
        """Leave the account alone for *pause* seconds."""
        self._open = True
        self._points = 0
        self.failures += 1
        self.until = now + pause

    def works(self, now: float) -> bool:
        """
        Something went well. :return: whether that closed it.

        As with strikes: only a probe's word counts while it is open.
        """
        if not self._open:
            self.forgive()
            return False
        if now < self.until:
            return False
        self.close()
        return True

    def forgive(self) -> None:
        """Something went well, and it is closed: strikes before it do not count."""
        self._points = 0

    def close(self) -> None:
        """As new."""
        self._open = False
        self._points = self.failures = 0

    def found_open(self, until: float) -> None:
        """It was open when the process started."""
        self._open = True
        self._points = self.failures = 0
        self.until = until
