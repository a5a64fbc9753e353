"""The one wall clock, and names for things."""

from __future__ import annotations

import itertools
import random
import uuid

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mailproxy.clock import REREAD, SLEW, STEP, Names, SystemClock
from mailproxy.interfaces import IClock
from tests.fakes import EPOCH, FakeClock

HOUR = 3600.0
YEAR = 365 * 86400.0


class Machine:
    """A machine whose monotonic clock and wall clock move as the test says."""

    def __init__(self) -> None:
        self.mono = Clock()
        self.offset = EPOCH
        self.clock = SystemClock(self.mono, self.wall)

    def wall(self) -> float:
        return self.offset + self.mono.seconds()

    def live(self, seconds: float, step: float = 1.0) -> list[float]:
        """Let time go by; what the clock said on the way."""
        said = []
        for _ in range(int(seconds / step)):
            self.mono.advance(step)
            said.append(self.clock.now())
        return said


class SystemClockTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.machine = Machine()
        self.clock = self.machine.clock

    def test_interface(self) -> None:
        """The system's clock and the fake one are both IClock."""
        verifyObject(IClock, self.clock)
        verifyObject(IClock, FakeClock())

    def test_timers_are_the_reactor_s(self) -> None:
        """Timers run on the monotonic clock."""
        fired: list[int] = []
        self.clock.callLater(5, fired.append, 1)
        self.assertEqual(1, len(self.clock.getDelayedCalls()))
        self.machine.offset += YEAR
        self.machine.mono.advance(4.9)
        self.assertEqual([], fired)
        self.machine.mono.advance(0.1)
        self.assertEqual([1], fired)
        self.assertEqual(5.0, self.clock.seconds())

    def test_keeps_time(self) -> None:
        """While nobody touches the system's clock, both agree."""
        self.machine.live(10 * HOUR, 17.0)
        self.assertAlmostEqual(self.machine.wall(), self.clock.now(), places=3)

    def test_drift(self) -> None:
        """A wall clock that runs a little fast or slow is followed, without a word."""
        for rate in (1e-4, -1e-4):
            machine = Machine()
            with capturedLogs() as events:
                for _ in range(600):
                    machine.offset += rate * 60
                    machine.live(60, 30)
            self.assertEqual([], events)
            self.assertLess(abs(machine.wall() - machine.clock.now()), 0.1)

    def test_small_steps(self) -> None:
        """A difference of up to a minute is made good within two rereads and twice its length."""
        for step in (STEP, -STEP, 1.0, -1.0):
            machine = Machine()
            machine.offset += step
            said = machine.live(2 * REREAD + 2 * STEP / SLEW)
            self.assertLess(abs(machine.wall() - said[-1]), 0.01)
            self.assertEqual(sorted(said), said)

    def test_an_hour_s_step_is_followed_slowly(self) -> None:
        """A step of an hour, either way, is followed at a bounded rate, with one line in the log,
        and caught up with in the end."""
        for step in (HOUR, -HOUR):
            machine = Machine()
            machine.offset += step
            with capturedLogs() as events:
                said = [machine.clock.now(), *machine.live(HOUR / SLEW + 5 * REREAD)]
            self.assertEqual(1, len(events))
            for before, after in itertools.pairwise(said):
                self.assertGreaterEqual(after - before, 1 - SLEW - 1e-6)
                self.assertLessEqual(after - before, 1 + SLEW + 1e-6)
            self.assertLess(abs(machine.wall() - said[-1]), 0.01)

    def test_a_year_s_step_expires_nothing(self) -> None:
        """A clock set a year off and back again within an hour has moved ours by little."""
        for step in (YEAR, -YEAR):
            machine = Machine()
            machine.offset += step
            with capturedLogs() as events:
                machine.live(HOUR)
                self.assertLessEqual(abs(machine.clock.now() - EPOCH - HOUR), HOUR * SLEW + 1)
                machine.offset -= step
                machine.live(HOUR + 10 * REREAD)
            self.assertLess(abs(machine.wall() - machine.clock.now()), 1.0)
            self.assertEqual(1, len([e for e in events if e["log_level"].name == "warn"]))

    def test_each_step_is_told(self) -> None:
        """A second step, after the first was caught up with, is told again."""
        with capturedLogs() as events:
            for _ in range(2):
                self.machine.offset += HOUR
                self.machine.live(3 * HOUR, 10)
        self.assertEqual(2, len(events))

    @settings(deadline=None, max_examples=200)
    @given(
        st.lists(
            st.tuples(
                st.floats(0, 10_000, allow_nan=False),
                st.one_of(st.just(0.0), st.floats(-2 * YEAR, 2 * YEAR)),
            ),
            max_size=40,
        )
    )
    def test_never_backwards(self, life: list[tuple[float, float]]) -> None:
        """Whatever happens to the system's clock, ours never goes back and never runs more than
        half as fast again as time itself."""
        machine = Machine()
        last, seconds = machine.clock.now(), 0.0
        with capturedLogs():
            for passed, step in life:
                machine.mono.advance(passed)
                machine.offset += step
                seconds += passed
                now = machine.clock.now()
                self.assertGreaterEqual(now, last)
                self.assertLessEqual(now - EPOCH, seconds * (1 + SLEW) + 1e-3)
                self.assertGreaterEqual(now - EPOCH, seconds * (1 - SLEW) - 1e-3)
                last = now


class NamesTests(SynchronousTestCase):
    def test_keys_grow(self) -> None:
        """Keys grow, whether time passes or not, and also when it is not the newest time."""
        names = Names(random.Random(1))
        keys = [names.pk(now) for now in (EPOCH, EPOCH, EPOCH + 0.001, EPOCH - HOUR, EPOCH + 1)]
        self.assertEqual(sorted(set(keys)), keys)

    @settings(deadline=None)
    @given(st.lists(st.floats(EPOCH, EPOCH + 100 * YEAR), max_size=50), st.integers())
    def test_keys_are_unique_and_fit(self, instants: list[float], seed: int) -> None:
        """Keys of one process are unique and fit a signed 64-bit column for a century."""
        names = Names(random.Random(seed))
        keys = [names.pk(now) for now in instants]
        self.assertEqual(len(keys), len(set(keys)))
        self.assertEqual(sorted(keys), keys)
        for key in keys:
            self.assertTrue(0 < key < 2**63)

    def test_a_burst(self) -> None:
        """A hundred thousand keys of one millisecond are unique."""
        names = Names(random.Random(2))
        self.assertEqual(100_000, len({names.pk(EPOCH) for _ in range(100_000)}))

    def test_nodes_hardly_collide(self) -> None:
        """Two processes that start in the same millisecond begin at different keys."""
        self.assertNotEqual(Names().pk(EPOCH), Names().pk(EPOCH))

    def test_uuids_and_tokens(self) -> None:
        """UUIDs are of version 4; tokens fit a signed 64-bit column; a seed repeats both."""
        first, second = Names(random.Random(3)), Names(random.Random(3))
        for _ in range(20):
            name = first.uuid()
            self.assertEqual(4, uuid.UUID(name).version)
            self.assertEqual(name, second.uuid())
            token = first.token()
            self.assertTrue(0 <= token < 2**62)
            self.assertEqual(token, second.token())


class FollowingTests(SynchronousTestCase):
    """A clock that goes by the database's."""

    def setUp(self) -> None:
        self.machine = Machine()
        self.clock = self.machine.clock

    def test_at_once(self) -> None:
        """It is set at the start, whatever the system's says, and goes by the other then."""
        for hours in (1, -1):
            with self.subTest(hours=hours), capturedLogs() as logs:
                machine = Machine()
                machine.clock.follow(EPOCH + hours * HOUR)
                self.assertEqual(EPOCH + hours * HOUR, machine.clock.now())
                machine.offset -= 5 * HOUR
                self.assertEqual(EPOCH + hours * HOUR + 600, machine.live(600)[-1])
                (said,) = [each["log_format"] for each in logs]
                self.assertIn("going by the database's", said)

    def test_told_again(self) -> None:
        """A small difference is made good gently; a system clock that jumps is nothing to it."""
        self.clock.follow(EPOCH)
        self.machine.offset += HOUR
        before = self.machine.live(30)[-1]
        self.clock.follow(EPOCH + 30 + 2)
        after = self.machine.live(120)
        self.assertEqual(EPOCH + 150 + 2, after[-1])
        self.assertLess(before, after[0])
        steps = [b - a for a, b in itertools.pairwise(after)]
        self.assertLessEqual(max(steps), 1.0 + SLEW + 1e-6)

    def test_in_agreement(self) -> None:
        """Clocks that agree are nothing to talk about."""
        with capturedLogs() as logs:
            self.clock.follow(EPOCH + 1.5)
        self.assertEqual([], logs)
        self.assertEqual(EPOCH + 1.5, self.clock.now())
