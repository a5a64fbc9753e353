from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.delivery.deadline import Deadline
from tests.fakes import FakeClock


class DeadlineTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = FakeClock()
        self.missed: list[float] = []
        self.deadline = Deadline(self.clock, lambda: self.missed.append(self.clock.seconds()))

    def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.advance(1.0)

    def test_it_is_missed_when_it_was_set_last(self) -> None:
        """However it is moved, it is missed at the time set last, and once."""
        for seconds in (5.0, 30.0, 10.0):
            self.deadline.set(seconds)
        self.pass_time(60)
        self.assertEqual([10.0], self.missed)

    def test_none_is_never(self) -> None:
        """Set to None, it is not missed; set again, it is."""
        self.deadline.set(5.0)
        self.deadline.set(None)
        self.pass_time(60)
        self.assertEqual([], self.missed)
        self.deadline.set(5.0)
        self.pass_time(60)
        self.assertEqual([65.0], self.missed)

    def test_moving_it_starts_no_timer(self) -> None:
        """Put off a thousand times, one timer runs."""
        self.deadline.set(30.0)
        (first,) = self.clock.getDelayedCalls()
        for _ in range(1000):
            self.deadline.set(30.0)
        self.assertEqual([first], self.clock.getDelayedCalls())

    def test_stopped_it_leaves_nothing(self) -> None:
        """Stopped, there is no timer left."""
        self.deadline.set(30.0)
        self.deadline.stop()
        self.assertEqual([], self.clock.getDelayedCalls())
