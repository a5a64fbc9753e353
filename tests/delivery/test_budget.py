from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.delivery.budget import Budget


class BudgetTests(SynchronousTestCase):
    def test_what_is_too_large_goes_alone(self) -> None:
        """A body over the limit is let in when there is no other, and not before."""
        budget = Budget(10)
        self.assertTrue(budget.take(3))
        turn = budget.wait(50)
        self.assertNoResult(turn)
        budget.give(3)
        self.successResultOf(turn)
        self.assertFalse(budget.take(1))
        budget.give(50)
        self.assertTrue(budget.take(1))

    def test_nobody_overtakes(self) -> None:
        """What would fit waits behind what came before it."""
        budget = Budget(10)
        budget.take(8)
        first = budget.wait(5)
        self.assertFalse(budget.take(1))
        second = budget.wait(1)
        self.assertNoResult(second)
        budget.give(8)
        self.successResultOf(first)
        self.successResultOf(second)

    @settings(deadline=None)
    @given(st.lists(st.integers(0, 20), max_size=30), st.integers(1, 15))
    def test_the_limit_holds_and_everybody_gets_in(self, sizes: list[int], limit: int) -> None:
        """In memory is at most the limit, or a single body; in the end everything was let in."""
        budget = Budget(limit)
        inside: list[int] = []

        def let_in(_: None, size: int) -> None:
            inside.append(size)
            self.assertTrue(budget.used <= limit or sum(map(bool, inside)) == 1)

        for size in sizes:
            turn: Deferred[None] = budget.wait(size)
            turn.addCallback(let_in, size)
        for _ in sizes:
            size = inside.pop(0)
            budget.give(size)
        self.assertEqual(([], 0), (inside, budget.used))
