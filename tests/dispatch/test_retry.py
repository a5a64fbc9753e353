"""When a deferred message is tried again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.dispatch.retry import (
    DEFAULT_DELAYS,
    JITTER,
    LONGEST_HINT,
    LONGEST_PROBE,
    GiveUp,
    RetryAt,
    after_deferral,
    hint_in,
    probe_delay,
)

NOW = 1_750_000_000.0


class AfterDeferralTests(SynchronousTestCase):
    def test_each_attempt_waits_its_own_delay(self) -> None:
        """The n-th failed attempt waits the n-th delay, and the last delay repeats."""
        waits = []
        for attempts in range(1, 9):
            decided = after_deferral(attempts, NOW, NOW + 1e6)
            assert isinstance(decided, RetryAt)
            waits.append(decided.when - NOW)
        self.assertEqual([*DEFAULT_DELAYS, DEFAULT_DELAYS[-1], DEFAULT_DELAYS[-1]], waits)

    def test_an_attempt_at_or_behind_the_age_limit_is_not_made(self) -> None:
        """A message that would be tried at its age limit or later is given up."""
        self.assertEqual(GiveUp(), after_deferral(1, NOW, NOW + 60.0))
        self.assertEqual(RetryAt(NOW + 60.0), after_deferral(1, NOW, NOW + 60.1))

    def test_the_servers_word_wins_over_the_schedule(self) -> None:
        """A wait the server asked for replaces the delay, up to a limit."""
        self.assertEqual(RetryAt(NOW + 5.0), after_deferral(3, NOW, NOW + 1e6, hint=5.0))
        self.assertEqual(RetryAt(NOW + LONGEST_HINT), after_deferral(3, NOW, NOW + 1e6, hint=1e9))

    def test_attempts_start_at_one(self) -> None:
        """No attempt, no decision."""
        self.assertRaises(ValueError, after_deferral, 0, NOW, NOW + 1.0)
        self.assertRaises(ValueError, after_deferral, 1, NOW, NOW + 1.0, ())

    @given(
        st.integers(1, 1000),
        st.lists(st.floats(0.1, 1e5), min_size=1, max_size=8),
        st.floats(-1, 1),
    )
    def test_jitter_spreads_within_its_share(
        self, attempts: int, delays: list[float], jitter: float
    ) -> None:
        """Whatever the schedule, a retry lies within the jitter's share of its delay."""
        decided = after_deferral(attempts, 0.0, 1e9, delays, jitter=jitter)
        assert isinstance(decided, RetryAt)
        delay = delays[min(attempts, len(delays)) - 1]
        self.assertLessEqual(abs(decided.when - delay), delay * JITTER * 1.0001)


class ProbeTests(SynchronousTestCase):
    def test_probes_double_up_to_a_limit(self) -> None:
        """A parked account is tried after a doubling pause, which has a longest value."""
        self.assertEqual(
            [10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0],
            [probe_delay(n, 10.0) for n in range(1, 8)],
        )
        self.assertEqual(LONGEST_PROBE, probe_delay(10**9, 1.0))


class HintTests(SynchronousTestCase):
    def test_known_forms(self) -> None:
        """The wait in a reply is found with its unit."""
        for text, seconds in [
            ("4.7.0 Too many, try again in 300 seconds", 300.0),
            ("4.7.1 Greylisted, please try again in 5 minutes", 300.0),
            ("rate limited; retry after 2 hours", 7200.0),
            ("Try again later", None),
            ("mailbox 15 is full", None),
        ]:
            self.assertEqual(seconds, hint_in(text), text)

    @given(st.text(max_size=300))
    def test_any_text_is_read_without_harm(self, text: str) -> None:
        """Whatever a server says, a hint is a number of seconds or none."""
        found = hint_in(text)
        self.assertTrue(found is None or found >= 0.0)
