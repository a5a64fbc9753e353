"""The windows of rate limits: never overshot, wherever one begins, and open as soon as may be."""

from __future__ import annotations

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.limits import (
    AHEAD,
    PARTS,
    Use,
    Window,
    exceeded,
    of_account,
    of_tenant,
    rejects,
    waiting,
)
from mailproxy.tenancy import RateLimits
from tests.fakes import EPOCH

#: Seconds between two moments at which somebody wants to hand messages over, and how many.
_asked = st.lists(
    st.tuples(
        st.one_of(
            st.floats(0, 2), st.floats(0, 90), st.sampled_from([0.0, 0.25, 1.0, 59.75, 60.0])
        ),
        st.integers(1, 700),
    ),
    max_size=60,
)


@attrs.define
class Exact:
    """What a window is held against: every message with its own instant."""

    seconds: int
    most: int
    taken: list[float] = attrs.Factory(list)

    def used(self, now: float) -> int:
        return sum(1 for at in self.taken if at + self.seconds > now)

    def room(self, now: float) -> int:
        return max(0, self.most - self.used(now))

    def overshot(self) -> bool:
        """Whether some window, wherever it begins, holds too many: the worst begin at a message."""
        return any(
            sum(1 for at in self.taken if first <= at < first + self.seconds) > self.most
            for first in set(self.taken)
        )


class WindowTests(SynchronousTestCase):
    @settings(max_examples=300, deadline=None)
    @given(_asked, st.one_of(st.integers(1, 12), st.integers(200, 900)))
    def test_never_overshot(self, asked: list[tuple[float, int]], most: int) -> None:
        """Whoever asks for however many and whenever, no window holds more than the limit."""
        window, exact, now = Window(60, most), Exact(60, most), EPOCH
        for pause, count in asked:
            now += pause
            window = window.at(now)
            took = min(count, window.room)
            window = window.take(took, now)
            exact.taken += [now] * took
            self.assertLessEqual(window.room, exact.room(now))
        self.assertFalse(exact.overshot())
        self.assertLessEqual(len(window.entries), 2 * PARTS)

    @settings(max_examples=300, deadline=None)
    @given(_asked, st.one_of(st.integers(1, 12), st.integers(230, 250), st.integers(241, 900)))
    def test_opens_in_time(self, asked: list[tuple[float, int]], most: int) -> None:
        """
        A full window has room at the instant it says, not before, and within a length of it.

        Up to a limit of 240 that is the exact instant; above, at most a 240th of the window later.
        """
        window, exact, now = Window(60, most), Exact(60, most), EPOCH
        for pause, count in asked:
            now += pause
            window = window.at(now)
            took = min(count, window.room)
            window = window.take(took, now)
            exact.taken += [now] * took
            opens = window.opens_at
            self.assertEqual(window.room == 0, opens is not None)
            if opens is None:
                continue
            self.assertGreater(opens, now)
            self.assertLessEqual(opens, now + 60)
            self.assertGreater(window.at(opens).room, 0)
            self.assertEqual(0, window.at(opens - 1e-3).room if opens - 1e-3 > now else 0)
            best = sorted(exact.taken)[-most] + 60
            self.assertLessEqual(opens, best if most <= PARTS else best + 60 / PARTS)

    @settings(max_examples=100, deadline=None)
    @given(st.sampled_from([60, 3600, 86_400]), st.integers(241, 10**6), st.integers(1, 10**4))
    def test_bounded(self, seconds: int, most: int, steps: int) -> None:
        """However many messages pass, a window keeps few pairs."""
        window = Window(seconds, most)
        for n in range(min(steps, 2000)):
            now = EPOCH + n * seconds / steps
            window = window.at(now).take(1, now)
        self.assertLessEqual(len(window.entries), PARTS + 1)

    def test_parts_leave_with_their_last(self) -> None:
        """Messages that share an instant stay in the window until the last of them leaves it."""
        window = Window(60, 300).take(150, EPOCH).take(150, EPOCH + 0.2)
        self.assertEqual(1, len(window.entries))
        self.assertEqual((0, EPOCH + 60.2), (window.at(EPOCH + 60.1).room, window.opens_at))

    def test_none_starves(self) -> None:
        """Where mail always waits, as much goes as the limit allows."""
        for most in (1, 7, 240, 1000):
            window, now, sent = Window(60, most), EPOCH, 0
            while now < EPOCH + 600:
                window = window.at(now)
                sent += (took := min(1 + sent % 3, window.room))
                window = window.take(took, now)
                now = window.opens_at or now + 0.01
            self.assertGreaterEqual(sent, most * 10 * (1 if most <= PARTS else 0.98), most)
            self.assertLessEqual(sent, most * 10 + most)

    def test_set_back(self) -> None:
        """After a clock was set back, what was handed over counts as just now, and not longer."""
        window = Window(60, 2).take(1, EPOCH + 7200).take(1, EPOCH + 7201)
        now = EPOCH
        self.assertEqual(0, window.at(now).room)
        self.assertEqual(EPOCH + 60, window.at(now).opens_at)
        near = Window(60, 2).take(2, EPOCH + AHEAD)
        self.assertEqual(EPOCH + AHEAD + 60, near.at(now).opens_at)

    def test_lowered(self) -> None:
        """A limit below what was handed over has room when enough of that has left."""
        window = Window(60, 9)
        for n in range(6):
            window = window.take(1, EPOCH + n)
        lowered = attrs.evolve(window, most=2)
        self.assertEqual((0, EPOCH + 64), (lowered.room, lowered.opens_at))

    def test_nothing_taken(self) -> None:
        """Taking none changes nothing."""
        self.assertEqual(Window(60, 1), Window(60, 1).take(0, EPOCH))
        self.assertEqual((0, 1, None), (Window(60, 1).used, Window(60, 1).room, None))


class DeclaredTests(SynchronousTestCase):
    def test_of_account(self) -> None:
        """The limits of an account, by seconds; what is not there limits nothing."""
        options = {"limit_per_minute": 5, "limit_per_day": 100, "limit_per_hour": None}
        self.assertEqual({60: 5, 86_400: 100}, of_account(options))
        self.assertEqual({}, of_account({}))

    def test_of_tenant(self) -> None:
        """The limits of a tenant, by seconds."""
        self.assertEqual({3600: 5}, of_tenant(RateLimits(5)))
        self.assertEqual({86_400: 7}, of_tenant(RateLimits(None, 7)))

    def test_rejects(self) -> None:
        """Only an account that says so has its mail fail."""
        self.assertTrue(rejects({"limit_behavior": "reject"}))
        self.assertFalse(rejects({"limit_behavior": "defer"}))
        self.assertFalse(rejects({}))

    def test_reasons(self) -> None:
        """A reason says which window it is, and when it is the tenant's."""
        self.assertEqual("rate limit exceeded (per minute)", exceeded(60, of_tenant=False))
        self.assertEqual(
            "rate limit exceeded (per day of the tenant)", Use("t", "", 86400, 1, 1).reason
        )

    def test_waiting(self) -> None:
        """Of several full windows the one counts that is full for longest."""
        free, short = Use("t", "a", 60, 5, 1), Use("t", "a", 60, 5, 5, EPOCH + 1)
        long = Use("t", "", 3600, 5, 5, EPOCH + 2)
        self.assertEqual(long, waiting([free, long, short]))
        self.assertIsNone(waiting([free]))
