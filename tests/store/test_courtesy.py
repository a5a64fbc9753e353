"""Large submissions let urgent mail pass."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.store.courtesy import CALM, LONGEST, SHARE, STEP, Courtesy
from mailproxy.store.intake import WHOLE_ROWS
from tests.build import account_spec, new_message
from tests.fakes import FakeClock, result
from tests.store.opened import Opened, fresh

URGENT = [new_message(id="u", priority=0)]


class CourtesyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = FakeClock()
        self.courtesy = Courtesy(self.clock)
        self.share = self.courtesy.share()

    def step(self) -> Deferred[None]:
        """The next step of a large submission is to be done: fires when it may."""
        return Deferred.fromCoroutine(self.share.let_pass())

    def wait(self, seconds: float) -> None:
        self.clock.pump([STEP / 2] * round(2 * seconds / STEP))

    def test_nobody(self) -> None:
        """Where nothing urgent is about, a step does not wait."""
        with self.courtesy.passing([new_message(priority=1)]):
            self.successResultOf(self.step())
        self.successResultOf(self.step())
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_while_it_is_stored(self) -> None:
        """A step waits while an urgent message is stored, and for what should follow."""
        with self.courtesy.passing(URGENT):
            self.wait(CALM)
            step = self.step()
            self.wait(STEP)
            self.assertNoResult(step)
        self.wait(CALM / 2)
        self.assertNoResult(step)
        self.wait(CALM)
        self.successResultOf(step)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_what_never_comes(self) -> None:
        """One that is stored and not claimed, as its lane is suspended, is not waited for long."""
        with self.courtesy.passing(URGENT):
            pass
        self.wait(CALM)
        self.assertTrue(self.courtesy.free)

    def test_the_same_again(self) -> None:
        """One that is handed in twice is waited for since the last time, and others before it."""
        for id in ("u", "v", "u"):
            with self.courtesy.passing([new_message(id=id, priority=0)]):
                self.wait(CALM / 2)
        self.wait(CALM / 2)
        self.assertFalse(self.courtesy.free)
        self.wait(CALM / 2)
        self.assertTrue(self.courtesy.free)

    def test_it_failed(self) -> None:
        """One that could not be stored is not on its way."""
        passing = self.courtesy.passing(URGENT)
        passing.__enter__()
        self.assertFalse(self.courtesy.free)
        passing.__exit__(ValueError, ValueError(), None)
        self.successResultOf(self.step())

    def test_a_stream_of_them(self) -> None:
        """However many come, one step waits for the longest time at most."""
        with self.courtesy.passing(URGENT):
            self.wait(10 * LONGEST / SHARE)
            step = self.step()
            self.wait(LONGEST - STEP)
            self.assertNoResult(step)
            self.wait(2 * STEP)
            self.successResultOf(step)

    def test_the_share(self) -> None:
        """Under a stream without an end the steps wait for a share of the time, all together."""
        began, waited = self.clock.seconds(), 0.0
        with self.courtesy.passing(URGENT):
            for _ in range(200):
                came, step = self.clock.seconds(), self.step()
                while not step.called:
                    self.wait(STEP)
                waited += self.clock.seconds() - came
                self.wait(STEP)  # its work
        share = waited / (self.clock.seconds() - began)
        self.assertGreater(share, SHARE / 2)
        self.assertLess(waited, SHARE * (self.clock.seconds() - began) + LONGEST + STEP)

    def test_another_has_its_own(self) -> None:
        """What one large submission gave does not count for another."""
        with self.courtesy.passing(URGENT):
            for _ in range(10):
                self.step()
                self.wait(LONGEST + STEP)
            short = self.step()
            self.wait(LONGEST / 2)
            self.successResultOf(short)
            self.share = self.courtesy.share()
            long = self.step()
            self.wait(LONGEST - STEP)
            self.assertNoResult(long)
            self.wait(2 * STEP)
            self.successResultOf(long)


class PiecesTests(SynchronousTestCase):
    """On the store."""

    def setUp(self) -> None:
        self.clock = FakeClock()
        self.opened = Opened(fresh(self), self.clock)
        self.addCleanup(self.opened.close)
        self.store = self.opened.store
        self.account = result(self.store.put_account(account_spec(), self.clock.now()))
        result(self.store.enqueue(URGENT, self.clock.now(), 5.0))

    async def may_go_on(self) -> None:
        await self.store.courtesy()()

    def test_until_it_begins(self) -> None:
        """
        While an urgent message is on its way the rest of a large submission waits: until it is
        claimed, and then until its intent is stored, which ends it.
        """
        large = [new_message(id=f"m{n}") for n in range(WHOLE_ROWS + 1)]

        posted = Deferred.fromCoroutine(self.store.enqueue(large, self.clock.now(), 5.0))

        ((count,),) = self.opened.sql("SELECT count(*) FROM messages")
        self.assertTrue(1 < count < len(large), count)
        self.clock.advance(STEP)
        (claimed,) = result(self.store.claim(self.account.pk, 1, self.clock.now()))
        self.clock.advance(STEP)
        self.assertNoResult(posted)
        result(self.store.begin([(claimed.pk, claimed.token)], "acct", self.clock.now()))
        self.clock.advance(STEP)
        self.assertEqual(len(large), len(self.successResultOf(posted)))

    def test_others_do_not_end_it(self) -> None:
        """The claim and the intent of mail that is not urgent change nothing."""
        result(self.store.enqueue([new_message(id="m", priority=2)], self.clock.now(), 5.0))
        step = Deferred.fromCoroutine(self.may_go_on())
        urgent, other = result(self.store.claim(self.account.pk, 2, self.clock.now()))
        result(self.store.begin([(other.pk, other.token)], "acct", self.clock.now()))
        self.clock.advance(STEP)
        self.assertNoResult(step)
        result(self.store.begin([(urgent.pk, urgent.token)], "acct", self.clock.now()))
        self.clock.advance(STEP)
        self.successResultOf(step)
