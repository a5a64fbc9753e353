"""The order in which claimed messages are handed out."""

from __future__ import annotations

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.dispatch.ready import BY_AGE, Ready
from mailproxy.model import Claimed
from tests.dispatch.test_judge import claimed


def message(pk: int, priority: int = 2, due_since: float = 0.0) -> Claimed:
    return attrs.evolve(claimed(), pk=pk, priority=priority, due_since=due_since)


class ReadyTests(SynchronousTestCase):
    def test_the_most_urgent_first(self) -> None:
        """A smaller rank goes first; within a rank, what came first."""
        ready = Ready()
        for pk, rank in ((1, 2), (2, 0), (3, 2), (4, 1)):
            ready.push(message(pk), rank)
        self.assertEqual([2, 4, 1, 3], [ready.pop().pk for _ in range(4)])
        self.assertFalse(ready)

    def test_age_has_its_turn(self) -> None:
        """Of every so many, one is what has been due longest, however little urgent it is."""
        ready = Ready()
        ready.push(message(99, priority=3, due_since=1.0), 3)
        for pk in range(40):
            ready.push(message(pk, due_since=100.0), 1)
        order = [ready.pop().pk for _ in range(41)]
        self.assertEqual(BY_AGE - 1, order.index(99))

    def test_age_does_not_overtake_priority_0(self) -> None:
        """The oldest waits while there is something of priority 0."""
        ready = Ready()
        ready.push(message(99, priority=3, due_since=1.0), 3)
        for pk in range(40):
            ready.push(message(pk, priority=0, due_since=100.0), 0)
        order = [ready.pop().pk for _ in range(41)]
        self.assertEqual(40, order.index(99))

    def test_what_is_unwanted_is_taken_out_while_others_come(self) -> None:
        """Removing asks once for each, and keeps what is pushed meanwhile."""
        ready = Ready()
        for pk in range(5):
            ready.push(message(pk), 2)
        asked = []

        def odd(each: Claimed) -> bool:
            asked.append(each.pk)
            if each.pk == 1:
                ready.push(message(10), 0)
            return bool(each.pk % 2)

        ready.remove(odd)
        self.assertEqual([0, 1, 2, 3, 4], sorted(asked))
        self.assertEqual([10, 0, 2, 4], [ready.pop().pk for _ in range(4)])

    @given(st.lists(st.tuples(st.integers(0, 3), st.floats(0.0, 1e9)), max_size=80))
    def test_nothing_is_lost_or_doubled(self, waiting: list[tuple[int, float]]) -> None:
        """Whatever is pushed comes out once."""
        ready = Ready()
        for pk, (rank, since) in enumerate(waiting):
            ready.push(message(pk, rank, since), rank)
        taken = [ready.pop().pk for _ in range(len(waiting) // 2)]
        taken += [each.pk for each in ready.clear()]
        self.assertEqual(list(range(len(waiting))), sorted(taken))
        self.assertEqual(0, len(ready))
