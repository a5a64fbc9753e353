"""When an account is left alone, and when it is tried again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.dispatch.breaker import LIMIT, SLOWER, STRIKE, Breaker, State


class BreakerTests(SynchronousTestCase):
    def test_strikes_in_a_row_open_it(self) -> None:
        """Five strikes, or twenty-five refusals for now, with no success between them."""
        for points, count in ((STRIKE, 5), (SLOWER, 25)):
            breaker = Breaker()
            said = [breaker.strike(points, 0.0) for _ in range(count)]
            self.assertEqual([False] * (count - 1) + [True], said)

    def test_a_success_forgets_them(self) -> None:
        """Strikes before a success do not count."""
        breaker = Breaker()
        for _ in range(100):
            self.assertFalse(any(breaker.strike(STRIKE, 0.0) for _ in range(4)))
            self.assertFalse(breaker.works(0.0))

    def test_only_a_probe_counts_while_it_is_open(self) -> None:
        """What older sessions say changes nothing; the probe's success closes it."""
        breaker = Breaker()
        breaker.open(100.0, 60.0)
        self.assertFalse(breaker.strike(STRIKE, 120.0))
        self.assertFalse(breaker.works(159.9))
        self.assertIs(State.OPEN, breaker.state(159.9))
        self.assertIs(State.PROBING, breaker.state(160.0))
        self.assertTrue(breaker.works(160.0))
        self.assertIs(State.CLOSED, breaker.state(160.0))

    def test_one_failed_probe_opens_it_again(self) -> None:
        """While it is tried, one strike is enough, and the failures in a row are counted."""
        breaker = Breaker()
        breaker.open(0.0, 60.0)
        self.assertTrue(breaker.strike(SLOWER, 60.0))
        breaker.open(60.0, 120.0)
        self.assertEqual((2, 180.0), (breaker.failures, breaker.until))
        breaker.close()
        self.assertEqual(0, breaker.failures)

    def test_a_process_finds_it_open(self) -> None:
        """What was parked before the start stays so until its probe."""
        breaker = Breaker()
        breaker.found_open(50.0)
        self.assertIs(State.OPEN, breaker.state(49.0))
        self.assertTrue(breaker.works(50.0))

    @given(
        st.lists(
            st.tuples(st.sampled_from(("strike", "slower", "works", "wait")), st.floats(0.0, 400.0))
        )
    )
    def test_it_keeps_its_word(self, steps: list[tuple[str, float]]) -> None:
        """
        Whatever happens: closed it bears less than the limit in a row; open it says nothing before
        its instant, and after it the next word decides.
        """
        breaker, now, row = Breaker(), 0.0, 0
        for what, pause in steps:
            was_open, due = not breaker.closed, now >= breaker.until
            if what == "wait":
                now += pause
            elif what == "works":
                self.assertEqual(was_open and due, breaker.works(now))
                self.assertEqual(was_open and not due, not breaker.closed)
                row = 0
            else:
                points = STRIKE if what == "strike" else SLOWER
                row = 0 if was_open else row + points
                opens = breaker.strike(points, now)
                self.assertEqual(due if was_open else row >= LIMIT, opens)
                if opens:
                    breaker.open(now, pause)
                    row = 0
                    self.assertEqual(now + pause, breaker.until)
