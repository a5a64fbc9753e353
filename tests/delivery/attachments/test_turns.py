"""Whose turn it is to fetch."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.delivery.attachments.turns import Turns


def _note(value: None, order: list[str], tenant: str) -> None:
    order.append(tenant)


class TurnsTests(SynchronousTestCase):
    def test_one_tenant(self) -> None:
        """A tenant has so many turns at once, in order, and the next when one is over."""
        turns = Turns(10, 2)
        first, second, third, fourth = [turns.take("a") for _ in range(4)]
        self.assertTrue(first.called and second.called)
        self.assertFalse(third.called)
        turns.give("a")
        self.assertTrue(third.called)
        self.assertFalse(fourth.called)

    def test_room_for_others(self) -> None:
        """A tenant that has all its turns, and many waiting, keeps nobody else from one."""
        turns = Turns(3, 2)
        for _ in range(100):
            turns.take("hung").addErrback(lambda _: None)
        self.assertTrue(turns.take("b").called)

    def test_all_taken(self) -> None:
        """When all turns are taken, the tenants that wait are let in one after the other."""
        turns = Turns(2, 2)
        order: list[str] = []
        for tenant in ("a", "a", "b", "b", "b", "c"):
            turns.take(tenant).addCallback(_note, order, tenant)
        for _ in range(2):
            turns.give("a")
        self.assertEqual(["a", "a", "b", "c"], order)

    def test_going_away(self) -> None:
        """Who no longer waits is passed over."""
        turns = Turns(1, 1)
        turns.take("a")
        gone, waiting = turns.take("a"), turns.take("a")
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        turns.give("a")
        self.assertTrue(waiting.called)
        turns.give("a")
        self.assertEqual(0, turns.taken)

    def test_a_thousand_in_a_row(self) -> None:
        """Any number may be done at once, one after the other."""
        turns = Turns(1, 1)
        turns.take("a")
        done: list[str] = []

        def at_once(value: None, name: str) -> None:
            done.append(name)
            turns.give("a")

        for n in range(2000):
            turns.take("a").addCallback(at_once, str(n))
        turns.give("a")
        self.assertEqual([str(n) for n in range(2000)], done)

    @given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2)), max_size=60))
    @settings(max_examples=150, deadline=None)
    def test_never_too_many(self, steps: list[tuple[str, int]]) -> None:
        """Whoever comes and goes, nobody has too many turns, and no turn is left unused."""
        turns = Turns(3, 2)
        running: list[str] = []
        waiting: dict[Deferred[None], str] = {}
        for tenant, what in steps:
            if what == 0 and tenant in running:
                running.remove(tenant)
                turns.give(tenant)
            elif what == 1 and waiting:
                turn = next(iter(waiting))
                turn.addErrback(lambda _: None)
                del waiting[turn]
                turn.cancel()
            else:
                waiting[turns.take(tenant)] = tenant
            for turn in [turn for turn in waiting if turn.called]:
                running.append(waiting.pop(turn))
            self.assertLessEqual(len(running), 3)
            self.assertLessEqual(max((running.count(t) for t in "abc"), default=0), 2)
            if len(running) < 3:
                self.assertEqual([], [t for t in waiting.values() if running.count(t) < 2])
