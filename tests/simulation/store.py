"""
The store of a simulated process: the fake one, whose disk outlives it, with the time that a disk
takes, and its failures.

Between a call and its commit, and between the commit and its answer, time passes; a process that is
killed meanwhile has lost the work, or only the answer.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred

from mailproxy.clock import Names
from mailproxy.errors import StoreBusy, StoreUnavailable
from mailproxy.interfaces import IClock, crashpoint
from mailproxy.model import Stored
from mailproxy.payload import load
from mailproxy.records import ReportItem
from mailproxy.states import EventKind
from tests.fake_store import FakeStore
from tests.fake_store_intake import Change
from tests.fake_store_rows import Disk, MessageRow
from tests.simulation.judge import Intent
from tests.simulation.network import Reactor

T = TypeVar("T")


class Rows(dict[int, MessageRow]):
    """
    :param told: called with every new one.

    :ivar removed: the messages that were there once, and are not any more.
    """

    def __init__(self, told: Callable[[MessageRow], None]) -> None:
        super().__init__()
        self.removed: list[MessageRow] = []
        self._told = told

    def __setitem__(self, pk: int, row: MessageRow) -> None:
        super().__setitem__(pk, row)
        self._told(row)

    def __delitem__(self, pk: int) -> None:
        self.removed.append(self[pk])
        super().__delitem__(pk)

    def pop(self, pk: int, *default: Any) -> Any:
        if pk in self:
            self.removed.append(self[pk])
        return super().pop(pk, *default)


@attrs.define
class SimulatedDisk(Disk):
    """
    :param alive: until when, in virtual seconds, nodes count as alive that share the disk.
    :param peers: the stores of those that run.
    :param greatest: the greatest primary key that any of them gave away.
    """

    greatest: int = 0
    alive: dict[str, float] = attrs.Factory(dict)
    peers: list[Any] = attrs.Factory(list)


def new_disk(told: Callable[[MessageRow], None]) -> SimulatedDisk:
    return SimulatedDisk(messages=Rows(told))


@attrs.define
class Medium:
    """
    The disk's ways.

    :param least, most: seconds that one half of a work takes.
    :param failing: the part of all works that fail, while it is in a mood to.
    :param stuck_until: until then, virtual seconds, nothing is committed.
    """

    rng: random.Random
    least: float = 0.0002
    most: float = 0.003
    failing: float = 0.0
    stuck_until: float = 0.0

    def pause(self) -> float:
        return self.rng.uniform(self.least, self.most)

    def fails(self) -> bool:
        return self.failing > 0 and self.rng.random() < self.failing


#: The crash points that follow a commit.
_MARKS = {
    "enqueue": "enqueue-commit",
    "claim": "claim",
    "begin": "intent",
    "record": "outcome-commit",
    "acked": "ack-commit",
}

_TEXT = re.compile(r"^version ([0-9]+) of ([^ ]+) of ", re.MULTILINE)

#: What only paces things, and is not worth a line of the trace.
QUIET = ("upkeep", "heartbeat", "keys_used")


class SimulatedStore(FakeStore):
    """
    :param medium: how fast and how well the disk works.

    Works are committed in the order in which they were asked for, as by one writer.

    :ivar intents: those that were committed, by the ids of their events.
    """

    intents: dict[str, Intent]
    disk: SimulatedDisk

    running = 0

    #: What only paces things, and takes no time.
    quiet: Collection[str] = QUIET

    def __init__(
        self, clock: IClock, names: Names, disk: SimulatedDisk, reactor: Reactor, medium: Medium
    ) -> None:
        names.after(max(disk.messages, default=0))
        super().__init__(clock, names, disk=disk)  # type: ignore[arg-type]  # any clock will do
        self._reactor = reactor
        self._line = reactor._line
        self._medium = medium
        self._kept_up = -1
        self._working = 0
        self._ended: Deferred[None] = Deferred()
        self._turn = 0.0
        reactor.owner.store = self  # type: ignore[attr-defined]

    # -- a service ---------------------------------------------------------------------------

    def startService(self) -> None:
        self.running = 1

    def stopService(self) -> Deferred[None]:
        """Fires when what it was asked for is done."""
        self.running = 0
        self._check_last()
        return self._ended

    def _check_last(self) -> None:
        if not self.running and not self._working and not self._ended.called:
            self.close()
            self._ended.callback(None)

    def die(self) -> None:
        """The process is killed."""
        self.close()

    # -- how work is done --------------------------------------------------------------------

    def free_at(self) -> float:
        """When the next work can be committed, virtual seconds."""
        return self._medium.stuck_until

    async def _later(self, seconds: float) -> None:
        done: Deferred[None] = Deferred()
        self._line.later(self._reactor.owner, seconds, done.callback, None)
        self._working += 1
        await done
        self._working -= 1
        self._check_last()

    async def _write(
        self, method: str, now: float, work: Callable[[Change], T], deadline: float | None = None
    ) -> T:
        if method in self.quiet and self._reactor.owner.alive and not self._medium.failing:
            return await super()._write(method, now, work)
        medium, line = self._medium, self._line
        asked = line.now
        self._turn = max(self._turn, line.now + medium.pause(), self.free_at())
        await self._later(self._turn - line.now)
        self._check_alive()
        if deadline is not None and line.now - asked > deadline:
            raise StoreBusy("the work waited past its deadline")
        if medium.fails():
            self._well = False
            line.note(f"store {method} fails")
            raise StoreUnavailable("the disk failed")
        change = Change(self.disk, self.names, self.node_id, now)
        result = self.commit(method, change, work)
        await self._later(medium.pause())
        self._well = True
        self._tell(change)
        return result

    def commit(self, method: str, change: Change, work: Callable[[Change], T]) -> T:
        """The moment after which a crash finds it done."""
        result = work(change)
        self.writes.append(method)
        if method == "begin":
            self._note_intents()
        if method not in QUIET:
            self._line.note(f"store {method} {_said(result)}")
        if method in _MARKS:
            crashpoint(_MARKS[method])
        return result

    def _note_intents(self) -> None:
        for row in self.disk.messages.values():
            event = row.events[-1]
            if event.kind is EventKind.INTENT and event.event_id not in self.intents:
                version, _ = said_of(row)
                self.intents[event.event_id] = Intent(
                    self._line.now, row.tenant_id, row.id, version, event.at
                )

    def _tell(self, change: Change) -> None:
        if self._reactor.owner.alive:
            super()._tell(change)

    async def upkeep(self, now: float) -> int:
        """Nothing to do where nothing was written since there was nothing to do."""
        if self._kept_up == len(self.writes):
            self._check_alive()
            return 0
        done = await super().upkeep(now)
        self._kept_up = -1 if done else len(self.writes)
        return done

    # -- what is read may be old when it comes -------------------------------------------------

    async def unreported(self, tenant_id: str, limit: int) -> list[ReportItem]:
        found = await super().unreported(tenant_id, limit)
        await self._later(self._medium.pause())
        return found

    async def contents(self, pks: Sequence[int]) -> dict[int, Stored]:
        found = await super().contents(pks)
        await self._later(self._medium.pause())
        return found

    async def due_accounts(self, now: float) -> tuple[list[int], float | None]:
        found = await super().due_accounts(now)
        await self._later(self._medium.pause())
        return found


def said_of(row: MessageRow) -> tuple[int, str]:
    """The version and the name that the text of a message says."""
    text = load(row.payload or b"").plain
    found = _TEXT.search(row.parts[1].decode("latin-1") if text is None else text)
    assert found is not None, row
    return int(found[1]), found[2]


def _said(result: Any) -> str:
    """A result for the trace: how many, how many of them true; nothing that is drawn at random."""
    if isinstance(result, list):
        return f"{len(result)}:{sum(each is True for each in result)}"
    return str(result) if isinstance(result, bool | int) else ""
