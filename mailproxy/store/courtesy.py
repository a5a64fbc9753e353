"""
Large submissions let urgent mail pass.

Urgent mail needs the writer three times until it leaves: it is stored, claimed, and its intent is
stored. A piece of a large submission that comes before each of them delays it by three pieces, and
a slice of one that is judged meanwhile keeps the interpreter from the writer. So the next piece or
slice waits while an urgent message is on its way: for a little, and for a share of the large one's
time at most. A stream of urgent mail slows a large submission down and never stops it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from twisted.internet.task import deferLater

from mailproxy.interfaces import IClock
from mailproxy.model import Claimed, NewMessage

#: Seconds in which an urgent message that is stored is claimed, and one that is claimed has its
#: intent, on a machine that is busy. What takes longer is held up by something else.
CALM = 0.02

#: Seconds that one piece lets others pass, at most.
LONGEST = 0.02

#: Part of the time of a large submission for which it lets others pass, at most.
SHARE = 0.25

#: Seconds between two looks whether the way is free.
STEP = 0.002


class Courtesy:
    """
    Which urgent messages are on their way. All of it in the reactor's thread.

    Where there are several nodes each knows of those that it stored itself.
    """

    def __init__(self, clock: IClock) -> None:
        self._clock = clock
        self._passing = 0
        #: Until when each is waited for, the soonest first: by tenant and id while it is not
        #: claimed, then by its primary key.
        self._on_the_way: dict[Hashable, float] = {}

    @contextmanager
    def passing(self, messages: Sequence[NewMessage]) -> Iterator[None]:
        """While *messages*, which are one transaction, are stored; those of priority 0 matter."""
        urgent = [message for message in messages if message.priority == 0]
        if not urgent:
            yield
            return
        self._passing += 1
        try:
            yield
            for message in urgent:
                self._expect((message.tenant_id, message.id))
        finally:
            self._passing -= 1

    def claimed(self, messages: Iterable[Claimed]) -> None:
        """They are claimed; their intents follow."""
        if self._on_the_way:
            for message in messages:
                if self._on_the_way.pop((message.tenant_id, message.id), None) is not None:
                    self._expect(message.pk)

    def begun(self, intents: Sequence[tuple[int, int]]) -> None:
        """The intents of these, primary key and token, were stored or refused."""
        if self._on_the_way:
            for pk, _ in intents:
                self._on_the_way.pop(pk, None)

    def _expect(self, key: Hashable) -> None:
        self._on_the_way.pop(key, None)  # to be the last one, as its time is
        self._on_the_way[key] = self._clock.seconds() + CALM
        self._forget()

    def _forget(self) -> None:
        """Those that did not come in their time."""
        now = self._clock.seconds()
        while self._on_the_way:
            first = next(iter(self._on_the_way))
            if self._on_the_way[first] > now:
                return
            del self._on_the_way[first]

    @property
    def free(self) -> bool:
        """Whether no urgent message is on its way."""
        if self._passing:
            return False
        self._forget()
        return not self._on_the_way

    def share(self) -> Share:
        """For one large submission that begins now."""
        return Share(self, self._clock)


class Share:
    """What one large submission gives others of its time."""

    def __init__(self, courtesy: Courtesy, clock: IClock) -> None:
        self._courtesy = courtesy
        self._clock = clock
        self._began = clock.seconds()
        self._given = -LONGEST

    async def let_pass(self) -> None:
        """Wait until no urgent message is on its way; within :data:`LONGEST` and its share."""
        if self._courtesy.free:
            return
        came = self._clock.seconds()
        until = came + min(LONGEST, SHARE * (came - self._began) - self._given)
        now = came
        while now < until and not self._courtesy.free:
            await deferLater(self._clock, STEP)
            now = self._clock.seconds()
        self._given += now - came
