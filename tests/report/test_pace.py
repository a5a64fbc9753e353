from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.report.pace import (
    AFTER_TIMEOUT,
    AGAIN,
    CROWD,
    CROWD_GATHER,
    CROWDED,
    EXTRA,
    GATHER,
    JITTER,
    LONGEST_REST,
    Pace,
)


def started(interval: float = 300.0) -> Pace:
    """A pace whose first call was taken at 0."""
    pace = Pace(interval, lambda: 0.0)
    pace.begin(0.0)
    pace.taken(0.0)
    return pace


class PaceTests(SynchronousTestCase):
    def test_first_call_is_due_at_once(self) -> None:
        """Before any contact a call is due, with or without events."""
        pace = Pace(300.0, lambda: 0.0)
        self.assertLessEqual(pace.due(), 0.0)
        self.assertTrue(pace.begin(0.0))

    def test_empty_after_the_interval(self) -> None:
        """Without contact an empty call is due after the interval."""
        pace = started()
        self.assertEqual(300.0, pace.due())
        self.assertTrue(pace.begin(300.0))

    def test_events_gather_for_a_moment(self) -> None:
        """The first event sets the time of the call; those after it do not put it off."""
        pace = started()
        pace.events(10.0)
        pace.events(10.02)
        self.assertEqual(10.0 + GATHER, pace.due())
        self.assertFalse(pace.begin(10.0 + GATHER), "no empty report is due then")

    def test_queued_asks_again_soon(self) -> None:
        """An application with more to submit is called again at a bounded rate."""
        pace = started()
        pace.taken(10.0, queued=7)
        self.assertEqual(10.0 + AGAIN, pace.due())
        self.assertTrue(pace.begin(10.0 + AGAIN))

    def test_no_empty_call_before_the_wish(self) -> None:
        """``next_sync_after`` puts off empty reports, also those asked for by ``queued``."""
        pace = started()
        pace.taken(0.0, queued=1, quiet_until=1000.0)
        self.assertEqual(1000.0, pace.due())

    def test_events_do_not_wait_for_the_wish(self) -> None:
        """``next_sync_after`` is about empty reports only."""
        pace = started()
        pace.taken(0.0, quiet_until=1000.0)
        pace.events(5.0)
        self.assertEqual(5.0 + GATHER, pace.due())
        self.assertFalse(pace.begin(6.0))

    def test_run_now_overrides_rest_and_wish(self) -> None:
        """Run-now calls at once in a rest and before ``next_sync_after``."""
        pace = started()
        pace.taken(0.0, quiet_until=1000.0)
        pace.failed(1.0)
        pace.run_now()
        self.assertLessEqual(pace.due(), 1.0)
        self.assertTrue(pace.begin(1.0))

    def test_one_extra_call_a_second(self) -> None:
        """Run-now again and again leads to at most one extra call a second."""
        pace = started()
        pace.run_now()
        pace.begin(10.0)
        pace.taken(10.0)
        pace.run_now()
        self.assertEqual(10.0 + EXTRA, pace.due())

    def test_nothing_cuts_the_rest_after_a_time_out(self) -> None:
        """After a time-out there is no call for 60 s, run-now or not."""
        pace = started()
        pace.failed(10.0)
        pace.timed_out(10.0)
        pace.run_now()
        pace.events(11.0)
        self.assertEqual(10.0 + AFTER_TIMEOUT, pace.due())

    def test_rests_double(self) -> None:
        """Each failure in a row doubles the rest, up to five minutes; an answer ends that."""
        pace = started()
        rests = []
        for _ in range(11):
            pace.failed(0.0)
            rests.append(pace.due())
        self.assertEqual([1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300], rests)
        pace.taken(0.0)
        pace.failed(0.0)
        self.assertEqual(1.0, pace.due())

    def test_rests_are_shortened_at_random(self) -> None:
        """Rests differ, so that tenants of one receiver do not all call it at once."""
        pace = Pace(300.0, lambda: 0.5)
        pace.failed(0.0)
        self.assertEqual(1.0 - JITTER / 2, pace.rest_until)

    def test_the_receiver_may_ask_for_a_rest(self) -> None:
        """``Retry-After`` is honoured between one second and five minutes."""
        pace = started()
        for asked, rest in ((30.0, 30.0), (0.0, 1.0), (86400.0, LONGEST_REST)):
            pace.failed(0.0, asked)
            self.assertEqual(rest, pace.rest_until)

    def test_an_empty_call_that_failed_is_still_owed(self) -> None:
        """A call wanted for its own sake is repeated after the rest, events or not."""
        pace = started()
        pace.run_now()
        empty = pace.begin(10.0)
        pace.failed(10.0, empty=empty)
        self.assertEqual(11.0, pace.due())
        self.assertTrue(pace.begin(11.0))

    def test_events_during_a_call_wait_to_gather(self) -> None:
        """After a call that took all there was, events born meanwhile gather again."""
        pace = started()
        pace.events(10.0)
        pace.begin(10.1)
        pace.events(10.2)
        pace.taken(11.0)
        self.assertEqual(11.0 + GATHER, pace.due())

    def test_a_crowd_gathers_for_longer(self) -> None:
        """While reports are of many events, the next ones gather for longer; then not any more."""
        pace = started()
        pace.events(10.0)
        pace.begin(10.1)
        pace.events(10.2)
        pace.taken(11.0, events=CROWD)
        self.assertEqual(11.0 + CROWD_GATHER, pace.due())
        pace.begin(11.0 + CROWD_GATHER)
        pace.taken(11.5, events=CROWD - 1)
        pace.events(11.0 + CROWDED - 0.01)
        self.assertEqual(11.0 + CROWDED - 0.01 + CROWD_GATHER, pace.due())
        pace.begin(13.0)
        pace.taken(13.0, events=1)
        pace.events(14.0)
        self.assertEqual(14.0 + GATHER, pace.due())

    def test_more_waits_for_nothing(self) -> None:
        """After a full report the next one goes at once."""
        pace = started()
        pace.taken(11.0)
        pace.more(11.0)
        self.assertEqual(11.0, pace.due())

    def test_a_receiver_that_refuses_everything_is_given_time(self) -> None:
        """One parked event delays nothing; several in a row come slower and slower."""
        pace = started()
        pace.parked(0.0)
        self.assertEqual(0.0, pace.due())
        pace.parked(0.0)
        self.assertEqual(1.0, pace.due())
        pace.parked(1.0)
        self.assertEqual(3.0, pace.due())
        pace.taken(3.0)
        pace.parked(3.0)
        self.assertEqual(3.0, pace.due())

    @given(
        st.lists(
            st.tuples(
                st.floats(0.0, 400.0),
                st.sampled_from(["events", "run_now", "go", "fail", "time out", "park"]),
                st.integers(0, 3),
                st.none() | st.floats(-1e300, 1e300),
            ),
            max_size=30,
        ),
        st.floats(0.0, 0.999),
    )
    @settings(deadline=None)
    def test_promises(self, steps: list[tuple[float, str, int, float | None]], draw: float) -> None:
        """Whatever happens, some call is due in time, and none is while one must not be made."""
        pace = Pace(300.0, lambda: draw)
        now = quiet = 0.0
        for wait, what, queued, after in steps:
            now += wait
            if what == "events":
                pace.events(now)
                self.assertLessEqual(pace.due(), max(now, quiet) + LONGEST_REST)
            elif what == "run_now":
                pace.run_now()
                self.assertLessEqual(pace.due(), max(now + EXTRA, quiet))
            elif pace.due() <= now:
                self.assertGreaterEqual(now, quiet)
                empty = pace.begin(now)
                if what == "go":
                    pace.taken(now, queued, after)
                    self.assertGreaterEqual(pace.due(), now)
                else:
                    pace.failed(now, after, empty=empty)
                    if what == "time out":
                        quiet = now + AFTER_TIMEOUT
                        pace.timed_out(now)
                    self.assertGreaterEqual(pace.due(), max(now, quiet))
                    self.assertLessEqual(pace.due(), now + LONGEST_REST)
