"""One process of the service in a torture run, life after life."""

from __future__ import annotations

import collections
import signal
import threading
import time
from collections.abc import Callable, Iterable

import attrs

from mailproxy.crash import VARIABLE
from mailproxy.proving.children import STEP, Child, NotProven, Pause
from mailproxy.proving.torture_client import Api, NoAnswer
from mailproxy.proving.torture_plan import Answered, End, Killed, Passed

#: Seconds the service may take until it serves.
START = 60.0

#: Seconds after which a node that could not start, because its database was away, is started again.
AGAIN = 0.3


@attrs.define
class Kills:
    """
    How often the service was killed.

    :ivar at: by what ended it: a crash point, or ``at random``, ``after an answer``,
        ``at the start``.
    :ivar on_work: of these, while something accepted had not come to its end.
    """

    at: collections.Counter[str] = attrs.Factory(collections.Counter)
    on_work: int = 0
    _lock: threading.Lock = attrs.field(factory=threading.Lock, repr=False, eq=False)

    @property
    def total(self) -> int:
        return self.at.total()

    def add(self, what: str, on_work: bool) -> None:
        with self._lock:
            self.at[what] += 1
            self.on_work += on_work


@attrs.frozen
class Around:
    """
    What all nodes share.

    :param patience: seconds after which a life is killed that does not come to its end by itself.
    :param up: called whenever a node serves.
    :param busy: whether something accepted has not come to its end.
    :param disturbed: whether the database's server has been away since an instant (monotonic).
    """

    pause: Pause
    kills: Kills
    patience: float
    up: Callable[[], None]
    busy: Callable[[], bool]
    disturbed: Callable[[float], bool]

    def wait(self, condition: Callable[[], bool], patience: float, step: float = STEP) -> bool:
        """
        Wait for *condition*. :return: whether it came true in *patience* seconds.

        :raises Stopped: the run was stopped.
        """
        end = time.monotonic() + patience
        while True:
            try:
                if condition():
                    return True
            except NoAnswer:
                pass
            if time.monotonic() > end:
                return False
            self.pause.pause(step)


@attrs.define(eq=False)
class Node:
    """
    One process of the service after the other, on the same ports.

    :param child: how it is started.
    """

    child: Child
    api: Api
    smtp_port: int
    around: Around
    _answers: int = 0
    _kill_at: int | None = None
    _born: float = 0.0

    def torture(self, ends: Iterable[End], until: float) -> None:
        """Start it, let it work, and see it killed, for each of *ends*, until that instant."""
        for end in ends:
            if time.monotonic() >= until:
                break
            self.live(end, until)

    def live(self, end: End, until: float) -> None:
        """One life."""
        more = {VARIABLE: f"{end.point}:{end.count}"} if isinstance(end, Passed) else {}
        self.spawn(**more)
        if isinstance(end, Killed) and end.young:
            self.around.pause.pause(end.seconds)
            if self.child.alive or not self._turned_away():
                self._kill("at the start")
            return
        up = self.wait_up(dies=isinstance(end, Passed), **more)
        if up:
            self.around.up()
            patience = min(self.around.patience, max(0.5, until - time.monotonic()))
            match end:
                case Killed():
                    self.around.pause.pause(min(end.seconds, patience))
                    self._kill("at random")
                    return
                case Answered():
                    self._kill_at = self._answers + end.count
            self.around.wait(lambda: not self.child.alive, patience)
            self._kill_at = None
        if self.child.alive:
            self._kill("at random")  # it did not come so far
        else:
            self._died(end.point if isinstance(end, Passed) else "after an answer")

    def spawn(self, **more: str) -> None:
        """Start it, with *more* in its environment."""
        self._born = time.monotonic()
        self.child.spawn(**more)

    def wait_up(self, *, dies: bool = False, **more: str) -> bool:
        """
        Wait until it serves. :return: whether it does; one that *dies* may not.

        :raises NotProven: it ended by itself, or did not serve in time.
        """
        while True:
            self.around.wait(lambda: not self.child.alive or self.api.ready(), START)
            if self.child.alive:
                return True
            assert self.child.process is not None
            if dies and self.child.process.returncode == -signal.SIGKILL:
                return False
            if not self._turned_away():
                raise NotProven(f"the service ended by itself: {self.child.tail()}")
            self.around.pause.pause(AGAIN)
            self.spawn(**more)

    def _turned_away(self) -> bool:
        """Whether it did not start because the database was away, as it should."""
        process = self.child.process
        return (
            process is not None
            and process.returncode is not None
            and process.returncode > 0
            and self.around.disturbed(self._born)
        )

    def answered(self) -> None:
        """In the submitter's thread, right after an answer of this node: nothing in between."""
        self._answers += 1
        if self._kill_at is not None and self._answers >= self._kill_at:
            process = self.child.process
            if process is not None:
                process.kill()

    def _kill(self, what: str) -> None:
        self.child.kill()
        self._died(what)

    def _died(self, what: str) -> None:
        process = self.child.process
        assert process is not None
        if process.returncode != -signal.SIGKILL:
            raise NotProven(f"the service ended by itself: {self.child.tail()}")
        self.around.kills.add(what, self.around.busy())


class Work(threading.Thread):
    """Something that is done beside. :ivar failure: why it ended before its time, if it did."""

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        super().__init__(daemon=True, name=name)
        self._work = work
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            self._work()
        except Exception as error:
            self.failure = error
