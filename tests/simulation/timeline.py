"""
Virtual time: one queue of what happens next, for everybody in a world.

Instants that are equal keep the order in which they were asked for, so that a run depends on
nothing but its seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from heapq import heappop, heappush
from typing import Any

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall
from zope.interface import implementer


class Owner:
    """
    Whose calls they are.

    :ivar alive: what a dead owner had planned does not happen.
    :ivar frozen_until: until then nothing of it happens; it does not notice.
    :ivar cut_until: until then it does not reach the database that it shares.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.frozen_until = 0.0
        self.cut_until = 0.0
        self.calls: dict[Timer, None] = {}


@implementer(IDelayedCall)
class Timer:
    """One call in the future."""

    __slots__ = ("_line", "args", "function", "kwargs", "owner", "state", "when")

    def __init__(
        self,
        line: Timeline,
        owner: Owner,
        when: float,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self._line = line
        self.owner = owner
        self.when = when
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.state = "active"

    def cancel(self) -> None:
        self._check()
        self.state = "cancelled"
        self.owner.calls.pop(self, None)

    def reset(self, delay: float) -> None:
        self._check()
        self.when = self._line.now + delay
        self._line.push(self)

    def delay(self, secondsLater: float) -> None:
        self._check()
        self.when += secondsLater
        self._line.push(self)

    def _check(self) -> None:
        if self.state == "cancelled":
            raise AlreadyCancelled
        if self.state == "called":
            raise AlreadyCalled

    def active(self) -> bool:
        return self.state == "active"

    def getTime(self) -> float:
        return self.when

    def of(self, *kinds: type[object]) -> bool:
        """Whether it calls a method of one of these classes."""
        return isinstance(getattr(self.function, "__self__", None), kinds)

    def __repr__(self) -> str:
        name = getattr(self.function, "__qualname__", repr(self.function))
        return f"<{name} of {self.owner.name} at {self.when:.3f}>"


class Timeline:
    """
    :ivar now: virtual seconds since the world began.
    :ivar running: whose call is being made now, if any.
    :ivar steps: calls made so far.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self.running: Owner | None = None
        self._queue: list[tuple[float, int, Timer]] = []
        self._count = 0
        self._lines: list[str] = []

    # -- what happened ----------------------------------------------------------------------

    def note(self, text: str) -> None:
        """Add a line to the trace."""
        self._lines.append(f"{self.now:.6f} {text}")

    @property
    def trace(self) -> Sequence[str]:
        return self._lines

    @property
    def trace_hash(self) -> str:
        return blake2b("\n".join(self._lines).encode(), digest_size=12).hexdigest()

    # -- what will happen -------------------------------------------------------------------

    def later(
        self, owner: Owner, delay: float, function: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Timer:
        if delay < 0:
            raise ValueError(f"a delay of {delay} seconds")
        when = self.now + delay
        timer = Timer(self, owner, when, function, args, kwargs)
        if owner.alive:
            owner.calls[timer] = None
            self._count += 1
            heappush(self._queue, (when, self._count, timer))
        return timer

    def push(self, timer: Timer) -> None:
        self._count += 1
        heappush(self._queue, (timer.when, self._count, timer))

    def step(self, until: float) -> bool:
        """Let the next thing happen, unless it is after *until*. :return: whether it was not."""
        queue = self._queue
        while queue:
            when, _, timer = queue[0]
            if when > until:
                break
            heappop(queue)
            owner = timer.owner
            if timer.state != "active" or not owner.alive or timer.when > when:
                continue
            if owner.frozen_until > when:
                timer.when = owner.frozen_until
                self.push(timer)
                continue
            if when > self.now:
                self.now = when
            self.steps += 1
            self.running = owner
            owner.calls.pop(timer, None)
            timer.state = "called"
            timer.function(*timer.args, **timer.kwargs)
            self.running = None
            return True
        self.now = max(self.now, until)
        return False
