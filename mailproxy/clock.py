"""
The one wall clock, and names for things: pks and uuids.

The wall clock is read at the start and advanced by the monotonic one, so that it never steps
back; every :data:`REREAD` seconds it is compared with the system's. A difference, ahead or behind,
is made good gently; if it is more than :data:`STEP`, somebody set the clock, and one line in the
log says so. Where several nodes have one database, its clock takes the place of the system's, so
that all nodes agree on what is due, too old, or too much for a minute.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from mailproxy.interfaces import IClock

#: Seconds between two looks at the system's wall clock.
REREAD = 60.0

#: A difference above this many seconds is a step of the clock, not drift.
STEP = 60.0

#: While a step is followed, wall seconds gained or lost per second.
SLEW = 0.5

_log = Logger()


@implementer(IClock)
class SystemClock:
    """
    :param reactor: gives the monotonic seconds and the timers.
    :param wall: reads the system's wall clock in Unix seconds.
    """

    def __init__(self, reactor: IReactorTime, wall: Callable[[], float] = time.time) -> None:
        self._reactor = reactor
        self._wall = wall
        self._base_mono = self._checked = reactor.seconds()
        self._base_wall = self._last = wall()
        self._owed = 0.0
        self._stepped = self._following = False

    def seconds(self) -> float:
        return float(self._reactor.seconds())

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object
    ) -> IDelayedCall:
        return self._reactor.callLater(delay, callable, *args, **kwargs)

    def getDelayedCalls(self) -> Any:
        return self._reactor.getDelayedCalls()

    def now(self) -> float:
        """The wall clock in Unix seconds; never less than the last answer."""
        mono = self.seconds()
        if mono - self._checked >= REREAD:
            self._reread(mono)
        elapsed = mono - self._base_mono
        shift = max(-SLEW * elapsed, min(SLEW * elapsed, self._owed))
        self._last = max(self._last, self._base_wall + elapsed + shift)
        return self._last

    def follow(self, instant: float) -> None:
        mono = self.seconds()
        offset = instant - mono
        self._wall = lambda: self.seconds() + offset
        if self._following:
            return  # a difference is made good as any other
        self._following = True
        difference = instant - self.now()
        if abs(difference) > STEP:
            _log.warn(
                "the system clock differs from the database's by {difference:.0f} s; "
                "going by the database's",
                difference=-difference,
            )
        self._base_mono = self._checked = mono
        self._base_wall = self._last = instant
        self._owed, self._stepped = 0.0, False

    def _reread(self, mono: float) -> None:
        elapsed = mono - self._base_mono
        shift = max(-SLEW * elapsed, min(SLEW * elapsed, self._owed))
        ours = self._base_wall + elapsed + shift
        difference = self._wall() - ours
        self._checked = self._base_mono = mono
        if abs(difference) <= STEP and not self._stepped:
            # Drift: followed at the same gentle rate, without a word.
            self._base_wall, self._owed = ours, difference
            return
        if abs(difference) > STEP and not self._stepped:
            _log.warn(
                "the system clock differs from ours by {difference:.0f} s; following slowly",
                difference=difference,
            )
        self._stepped = abs(difference) > STEP
        self._base_wall, self._owed = ours, difference


def seeded() -> random.Random:
    """
    A generator seeded by the system's: unpredictable enough for names, and it makes no system call.

    Not for secrets; those are drawn in :mod:`mailproxy.crypto`.
    """
    return random.Random(random.SystemRandom().getrandbits(256))


@attrs.define
class Names:
    """
    New names for rows and events, from an injected source of randomness.

    Primary keys grow with time (milliseconds since 2024 times 2**20, plus a counter that starts at
    random), so rows inserted together lie together, and nodes hardly ever collide; where they do,
    the unique key makes the store draw again.
    """

    rng: random.Random = attrs.field(factory=seeded)
    _last: int = 0

    def pk(self, now: float) -> int:
        """A new primary key, greater than every earlier one of this object; fits 63 bits."""
        base = self.floor(now)
        if base > self._last:
            self._last = base + self.rng.getrandbits(19)
        else:
            self._last += 1
        return self._last

    @staticmethod
    def floor(when: float) -> int:
        """No pk made at *when* or later is less than this."""
        return (int(when * 1000) - 1_704_067_200_000) << 20

    @staticmethod
    def made_at(pk: int) -> float:
        """When *pk* was made, in Unix seconds; to the millisecond, and no later."""
        return ((pk >> 20) + 1_704_067_200_000) / 1000

    def after(self, pk: int) -> None:
        """Make every later :meth:`pk` greater than *pk*, also if the clock was set back."""
        self._last = max(self._last, pk)

    def uuid(self) -> str:
        """A random UUID (version 4), in its usual form."""
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))

    def token(self) -> int:
        """A fencing token: 62 random bits."""
        return self.rng.getrandbits(62)
