"""Background work of the store, paced."""

from __future__ import annotations

from typing import cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.dispatch.caretaker import INTERVAL, STEPS, Caretaker
from mailproxy.errors import StoreUnavailable
from mailproxy.interfaces import IStatus
from tests.fakes import FakeClock


class Untidy:
    """A store with so many rows to tidy; raises, or waits, when told to."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.calls = 0
        self.error: Exception | None = None
        self.gate: Deferred[None] | None = None

    async def upkeep(self, now: float) -> int:
        self.calls += 1
        if self.gate is not None:
            await self.gate
        if self.error is not None:
            raise self.error
        self.steps -= 1
        return 500 if self.steps >= 0 else 0


class CaretakerTests(SynchronousTestCase):
    def begin(self, steps: int) -> Untidy:
        self.clock = FakeClock()
        self.store = Untidy(steps)
        self.caretaker = Caretaker(cast(IStatus, self.store), self.clock)
        self.caretaker.startService()
        return self.store

    def test_a_round_goes_on_until_nothing_is_left(self) -> None:
        """Each round works until there is nothing to do, up to a number of steps."""
        store = self.begin(3)
        self.clock.advance(INTERVAL)
        self.assertEqual(4, store.calls)
        store.steps = STEPS + 5
        self.clock.advance(INTERVAL)
        self.assertEqual(4 + STEPS, store.calls)
        self.clock.advance(INTERVAL)
        self.assertEqual(4 + STEPS + 6, store.calls)
        self.successResultOf(self.caretaker.stopService())

    def test_trouble_does_not_end_it(self) -> None:
        """A store that refuses, or raises, is asked again in the next round."""
        store = self.begin(1)
        store.error = StoreUnavailable("disk full")
        self.clock.advance(INTERVAL)
        store.error = KeyError("x")
        self.clock.advance(INTERVAL)
        self.assertEqual(1, len(self.flushLoggedErrors(KeyError)))
        store.error = None
        self.clock.advance(INTERVAL)
        self.assertEqual(4, store.calls)
        self.successResultOf(self.caretaker.stopService())

    def test_stopping_waits_for_the_step_under_way(self) -> None:
        """The store is not closed under a step that has begun."""
        store = self.begin(5)
        gate: Deferred[None] = Deferred()
        store.gate = gate
        self.clock.advance(INTERVAL)
        stopped = self.caretaker.stopService()
        self.assertNoResult(stopped)
        gate.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(1, store.calls)
