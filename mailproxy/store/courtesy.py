"""
Large submissions let urgent mail pass.

Urgent mail needs the writer three times until it leaves: it is stored, claimed, and its intent is
stored. A piece of a large submission that comes before each of them delays it by three pieces. So
the next piece waits while an urgent message is on its way, for a little at most: a stream of urgent
mail slows a large submission down and never stops it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from twisted.internet.task import deferLater

from mailproxy.interfaces import IClock
from mailproxy.model import NewMessage

#: Seconds an urgent message may take from its commit to its intent: two transactions and a turn of
#: the reactor each, on a machine that is busy.
CALM = 0.008

#: Seconds that one piece lets others pass, at most.
LONGEST = 0.02

#: Seconds between two looks whether the way is free.
STEP = 0.002


class Courtesy:
    """All of it in the reactor's thread."""

    def __init__(self, clock: IClock) -> None:
        self._clock = clock
        self._passing = 0
        self._calm_at = float("-inf")

    @contextmanager
    def passing(self, messages: Sequence[NewMessage]) -> Iterator[None]:
        """While *messages*, which are one transaction, are stored; those of priority 0 matter."""
        if not any(message.priority == 0 for message in messages):
            yield
            return
        self._passing += 1
        try:
            yield
        finally:
            self._passing -= 1
            self._calm_at = self._clock.seconds() + CALM

    async def let_pass(self) -> None:
        """Wait until no urgent message is on its way, :data:`LONGEST` at most."""
        limit = self._clock.seconds() + LONGEST
        while True:
            now = self._clock.seconds()
            if now >= limit or not (self._passing or now < self._calm_at):
                return
            await deferLater(self._clock, STEP)
