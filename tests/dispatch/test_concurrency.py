"""How many sessions an account bears."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.dispatch.concurrency import MOST, ONCE, REGAIN, Concurrency

FAST = 0.02


class ConcurrencyTests(SynchronousTestCase):
    def test_it_starts_with_all(self) -> None:
        """An account has all its sessions until there is trouble."""
        self.assertEqual((MOST, False), (Concurrency().target, Concurrency().limited))

    def test_trouble_halves_once(self) -> None:
        """Sixteen sessions put off at one moment are one trouble, not sixteen."""
        sessions = Concurrency()
        told = [sessions.troubled(16 - n, 5.0) for n in range(16)]
        self.assertEqual([True] + [False] * 15, told)
        self.assertEqual(8, sessions.target)
        sessions.troubled(8, 5.0 + ONCE)
        self.assertEqual(4, sessions.target)

    def test_good_attempts_give_them_back_one_by_one(self) -> None:
        """As many good attempts as there are sessions are worth one more, up to all of them."""
        sessions = Concurrency()
        sessions.troubled(8, 0.0)
        grown = []
        for n in range(1, 100):
            if sessions.well(FAST, 8):
                grown.append(n)
        self.assertEqual([4, 9, 15, 22], grown)
        self.assertFalse(sessions.limited)

    def test_slow_replies_give_none_back(self) -> None:
        """While attempts take longer than usual, there are no more sessions."""
        sessions = Concurrency()
        sessions.troubled(16, 0.0)
        for _ in range(7):
            sessions.well(0.5, 16)
        self.assertFalse(any(sessions.well(2.0, 16) for _ in range(3)))
        self.assertEqual(8, sessions.target)

    def test_a_server_that_is_always_slow_is_not_held_back(self) -> None:
        """Slow is compared with the account's own usual time."""
        sessions = Concurrency()
        sessions.troubled(4, 0.0)
        for _ in range(30):
            sessions.well(20.0, 4)
        self.assertFalse(sessions.limited)

    def test_a_refused_session_is_tried_again_later(self) -> None:
        """The server has room for ten: the eleventh is asked for after so many good attempts."""
        sessions = Concurrency()
        sessions.refused(10)
        grown = [n for n in range(1, 2 * REGAIN + 1) if sessions.well(FAST, 16)]
        self.assertEqual([REGAIN, 2 * REGAIN], grown)
        self.assertEqual(12, sessions.target)

    def test_after_a_storm_it_begins_with_one(self) -> None:
        """The first success adds one at once, up to half; then it goes slowly."""
        sessions = Concurrency()
        sessions.restart(16)
        self.assertEqual(1, sessions.target)
        for _ in range(7):
            sessions.well(FAST, 16)
        self.assertEqual(8, sessions.target)
        sessions.well(FAST, 16)
        self.assertEqual(8, sessions.target)

    def test_the_only_session_is_never_taken(self) -> None:
        """An account with one session keeps it."""
        sessions = Concurrency()
        sessions.restart(1)
        self.assertFalse(sessions.limited)
        for at in range(20):
            sessions.troubled(1, at * 10.0)
        self.assertEqual(1, sessions.target)

    @given(
        st.integers(1, 100),
        st.lists(
            st.tuples(st.sampled_from(("trouble", "refused", "well", "restart")), st.floats(0, 9))
        ),
    )
    def test_it_stays_between_one_and_all(self, most: int, steps: list[tuple[str, float]]) -> None:
        """Whatever happens there is a session; enough good attempts bring all of them back."""
        sessions, at = Concurrency(), 0.0
        for what, number in steps:
            at += number
            in_use = max(1, min(most, sessions.target))
            before = min(most, sessions.target)
            if what == "trouble":
                sessions.troubled(in_use, at)
                self.assertLessEqual(sessions.target, max(1, before))
            elif what == "refused":
                sessions.refused(in_use - 1)
                self.assertLessEqual(sessions.target, max(1, before))
            elif what == "restart":
                sessions.restart(most)
            else:
                sessions.well(number, most)
                self.assertLessEqual(min(most, sessions.target), before + 1)
            self.assertGreaterEqual(sessions.target, 1)
        for _ in range((most + 1) * max(most, REGAIN) + 200):
            sessions.well(10.0, most)
        self.assertFalse(sessions.target < most)
