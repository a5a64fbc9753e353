"""
The program without its sockets: the API on connections in memory, a store, the dispatcher and the
reporter on a virtual clock. The upstream and the application do as they are told, and keep a model.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailproxy.dispatch.dispatcher import Dispatcher, DispatchOptions
from mailproxy.errors import ReportUnanswered, SinkUnavailable
from mailproxy.interfaces import ICourier, IFeed, IReportSink, IStore, ReportAnswer
from mailproxy.model import Account, Claimed, Outcome, Reply
from mailproxy.records import ReportItem
from mailproxy.report.reporter import Reporter
from mailproxy.states import Phase
from tests.api.door import Door
from tests.fake_store import FakeStore
from tests.fake_store_intake import Change
from tests.fakes import FakeClock, Taken, result
from tests.same_id.model import DEFERRED, FAILED, SENT, UNSURE, Model

OK = Reply(250, "2.0.0 Ok")
GO = Reply(354, "go on")
NO = Reply(550, "5.1.1 no such user")
LATER = Reply(451, "4.3.0 later")


@attrs.frozen
class Answer:
    """
    What the upstream does with one message.

    :param refuse: recipients, by index, that get 550.
    :param end: ``ok``, ``later`` (451), ``kept`` or ``lost`` (no reply; the copy is kept, or not).
    """

    refuse: frozenset[int] = frozenset()
    end: str = "ok"


@implementer(ICourier)
class Upstream:
    """
    :ivar answers: what is done with the next messages, in order; then all is accepted.
    :ivar holding: whether bodies wait for :meth:`go_on` before they are answered.
    """

    def __init__(self, model: Model, clock: FakeClock) -> None:
        self.model = model
        self.clock = clock
        self.store: IStore | None = None
        self.answers: list[Answer] = []
        self.holding = False
        self.held: list[Deferred[None]] = []

    async def carry(self, account: Account, feed: IFeed) -> None:
        while (message := feed.next()) is not None:
            text = await self._text(message)
            if not await feed.begin(message):
                continue
            addresses = [recipient.address for recipient in message.recipients]
            self.model.check(self.model.begin, message.id, text, addresses)
            answer = self.answers.pop(0) if self.answers else Answer()
            if self.holding:
                waiting: Deferred[None] = Deferred()
                self.held.append(waiting)
                await waiting
            outcome, told = self._outcome(message.id, addresses, answer)
            self.model.check(self.model.finish, message.id, told, self.clock.now())
            await feed.finish(message, outcome)

    def completes(self, message: Claimed, feed: IFeed) -> bool:
        """Nothing of these messages has to be fetched."""
        return False

    async def _text(self, message: Claimed) -> str:
        assert self.store is not None
        stored = (await self.store.contents([message.pk])).get(message.pk)
        return "" if stored is None else (stored.content.plain or "").strip()

    def _outcome(
        self, id: str, addresses: Sequence[str], answer: Answer
    ) -> tuple[Outcome, dict[str, str]]:
        replies = tuple(NO if n in answer.refuse else OK for n in range(len(addresses)))
        taken = [a for a, reply in zip(addresses, replies, strict=True) if reply is OK]
        told = dict.fromkeys(addresses, FAILED)
        if not taken:
            return Outcome(Phase.RCPT, OK, replies), told
        if answer.end in ("ok", "kept"):
            self.model.check(self.model.keep, id, taken)
        if answer.end in ("kept", "lost"):
            self.model.lose(id, taken)
            end = Outcome(Phase.FINAL, OK, replies, GO, None, "connection lost")
            return end, told | dict.fromkeys(taken, UNSURE)
        final, state = (OK, SENT) if answer.end == "ok" else (LATER, DEFERRED)
        return Outcome(Phase.FINAL, OK, replies, GO, final), told | dict.fromkeys(taken, state)

    def go_on(self, which: int = 0) -> None:
        """Let one held body be answered."""
        self.held.pop(which).callback(None)

    async def close(self, deadline: float) -> None:
        """There are no sessions."""


def once_each(items: Sequence[ReportItem]) -> None:
    assert len({item.id for item in items}) == len(items), "an id twice in one report"


@implementer(IReportSink)
class Application:
    """
    :ivar holding: whether a call stays open until :meth:`answer`.
    :ivar inside: called within a call, before it is answered: what the application posts there.
    :ivar heard: the newest final item that was taken, by id.
    :ivar events: the ids of final events offered, by id and generation.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.holding = False
        self.inside: Callable[[Sequence[ReportItem]], None] | None = None
        self.open: Deferred[str] | None = None
        self.heard: dict[str, ReportItem] = {}
        self.uncertain: set[str] = set()
        self.events: dict[tuple[str, int], set[str]] = {}
        self.overlaps = 0
        self._calls = 0

    async def send(self, items: Sequence[ReportItem]) -> ReportAnswer:
        self.overlaps += self._calls
        self._calls += 1
        try:
            self.model.check(once_each, items)
            covered = self.model.offer(items)
            for item in items:
                if item.sent_ts is not None or item.error is not None:
                    event = self.events.setdefault((item.id, item.generation), set())
                    event.add(item.event_id)
            if self.inside is not None:
                self.model.check(self.inside, items)
            how = "taken"
            if self.holding:
                self.open = Deferred()
                how = await self.open
            return self._answered(how, items, covered)
        finally:
            self._calls -= 1

    def _answered(
        self, how: str, items: Sequence[ReportItem], covered: dict[str, int]
    ) -> ReportAnswer:
        if how == "error":
            raise SinkUnavailable("the answer is an error")
        if how != "lost":
            self.model.take(covered)
        for item in items:
            if item.sent_ts is not None or item.error is not None:
                self.heard[item.id] = item
            if item.uncertain:
                self.uncertain.add(item.id)
        if how == "lost":
            raise ReportUnanswered("no answer in time")
        return Taken()

    def answer(self, how: str) -> None:
        """Answer the open call: ``taken``, ``error``, or ``lost`` (it heard, we do not)."""
        call, self.open = self.open, None
        assert call is not None
        call.callback(how)


class Watched(FakeStore):
    """:ivar taken: called one by one, each at the moment a submission is committed."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.taken: list[Callable[[], None]] = []

    def _tell(self, change: Change) -> None:
        if self.taken and self.writes[-1] == "enqueue":
            self.taken.pop(0)()
        super()._tell(change)


class World:
    """:param open_store: makes the store."""

    def __init__(self, open_store: Callable[..., Any]) -> None:
        self.model = Model()
        self.door = Door(store=open_store)  # type: ignore[arg-type]
        self.clock = self.door.clock
        self.store = self.door.store
        self.upstream = Upstream(self.model, self.clock)
        self.upstream.store = self.store
        self.app = Application(self.model)
        options = DispatchOptions(retry_delays=(60.0,))
        rng = random.Random(3)
        self.dispatcher = Dispatcher(
            self.store, self.upstream, self.clock, rng, self.door.metrics, options
        )
        self.reporter = Reporter(
            self.store, lambda tenant_id: self.app, self.clock, self.door.metrics, rng=rng
        )
        assert self.door.put_account(id="acct", is_default=True).status == 200
        self.store.subscribe(self.reporter)
        self.dispatcher.startService()
        self.reporter.startService()

    @property
    def now(self) -> float:
        return self.clock.now()

    def run_now(self) -> None:
        assert self.door.call("POST", "/commands/run-now").status == 200
        self.dispatcher.run_now()
        self.reporter.run_now(None)

    def states(self) -> dict[str, str]:
        """The state of every message the service lists."""
        listed = self.door.call("GET", "/messages").json["messages"]
        found = {each["id"]: each["state"] for each in listed}
        assert len(found) == len(listed), "an id twice in the list"
        return found

    def settle(self) -> None:
        """Let hours pass, while everybody is well."""
        for _ in range(60):
            self.clock.advance(90.0)

    def stop(self) -> None:
        done = [self.dispatcher.stopService(), self.reporter.stopService()]
        self.clock.pump([0.5] * 20)
        for each in done:
            result(each)
