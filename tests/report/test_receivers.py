"""Whatever a receiver does, and whatever the store fails at: nothing is lost, nothing overlaps."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.errors import (
    ReportRefused,
    ReportTooLarge,
    ReportUnanswered,
    SinkUnavailable,
)
from mailproxy.metrics import Metrics
from mailproxy.records import ReportItem
from mailproxy.report.answer import Taken
from mailproxy.report.reporter import Reporter
from tests.fakes import EPOCH, FakeClock
from tests.report.fakes import Answer, FakeReports, FakeSink

#: What a receiver may do with a call, besides taking it.
MOODS: dict[str, Callable[[], Answer]] = {
    "takes": Taken,
    "wants more": lambda: Taken(queued=5),
    "wants peace": lambda: Taken(next_sync_after=EPOCH + 500.0),
    "is down": lambda: SinkUnavailable("HTTP 503", 7.0),
    "hangs": lambda: ReportUnanswered("no answer within 300 s"),
    "has a limit": lambda: _at_most_two,
    "refuses": lambda: ReportRefused("HTTP 422"),
}


def _at_most_two(items: Sequence[ReportItem]) -> Taken:
    if len(items) > 2:
        raise ReportTooLarge("HTTP 413")
    return Taken()


class World:
    """A reporter, its store and one receiver, all on one clock."""

    def __init__(self, moods: Sequence[tuple[str, float]], latency: float) -> None:
        self.clock = FakeClock()
        self.store = FakeReports(self.clock)
        self.store.latency = latency
        self.sink = FakeSink(self.clock, [self._slowly(*each) for each in moods])
        self.reporter = Reporter(
            self.store,
            lambda tenant: self.sink,
            self.clock,
            Metrics(),
            rng=random.Random(1),
        )
        self.store.subscribe(self.reporter)

    def _slowly(self, mood: str, seconds: float) -> Callable[[Sequence[ReportItem]], Any]:
        def answer(items: Sequence[ReportItem]) -> Any:
            made = MOODS[mood]()

            def late() -> Any:
                return made(items) if callable(made) else made

            return deferLater(self.clock, seconds, late) if seconds else late()

        return answer


class ReceiverTests(SynchronousTestCase):
    @given(
        moods=st.lists(
            st.tuples(st.sampled_from(sorted(MOODS)), st.sampled_from([0.0, 0.1, 20.0])),
            max_size=12,
        ),
        steps=st.lists(
            st.tuples(
                st.sampled_from(["add", "add", "run now", "break", "mend", "wait"]),
                st.integers(0, 5),
                st.sampled_from([0.0, 0.03, 1.0, 100.0]),
            ),
            max_size=25,
        ),
        latency=st.sampled_from([0.0, 0.01]),
    )
    @settings(deadline=None, max_examples=150)
    def test_promises(
        self,
        moods: list[tuple[str, float]],
        steps: list[tuple[str, int, float]],
        latency: float,
    ) -> None:
        """
        Every event is taken or parked in the end; calls never overlap; an event that is offered
        again is the same event; an acknowledgement covers nothing that was not in a call; there
        are no two items of one id in a call.
        """
        world = World(moods, latency)
        store, clock = world.store, world.clock
        world.reporter.startService()
        for what, number, seconds in steps:
            if what == "add":
                store.add(*(f"m{each}" for each in range(number)))
            elif what == "run now":
                world.reporter.run_now("default")
            elif what == "break":
                store.broken.add(["acked", "unreported", "park_event"][number % 3])
            elif what == "mend":
                store.broken.clear()
            clock.advance(seconds)
            self.check(world)
        store.broken.clear()
        clock.pump([1.0] * 400 + [0.02] * 200)
        self.check(world)
        self.assertEqual([], store.waiting())
        stopped = world.reporter.stopService()
        clock.pump([10.0])
        self.successResultOf(stopped)
        self.assertEqual([], clock.getDelayedCalls())

    def check(self, world: World) -> None:
        self.assertLessEqual(world.sink.most_open, 1)
        told: set[int] = set()
        taken = {pk for items in world.sink.taken for each in items for pk in each.event_pks}
        for items in world.sink.offered:
            ids = [each.id for each in items]
            self.assertEqual(len(ids), len(set(ids)))
            self.assertLessEqual(len(items), 500)
            told.update(pk for each in items for pk in each.event_pks)
            for each in items:
                # An item is its newest event, whatever older ones it stands for.
                self.assertEqual(f"e{each.event_pks[-1]}", each.event_id)
        self.assertLessEqual(set(world.store.reported()), taken)
        self.assertLessEqual({e.pk for e in world.store.events if e.parked}, told)
