"""Pieces of large submissions let urgent mail pass."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.store.courtesy import CALM, LONGEST, STEP, Courtesy
from mailproxy.store.intake import WHOLE_ROWS
from tests.build import account_spec, new_message
from tests.fakes import FakeClock, result
from tests.store.opened import Opened, fresh

URGENT = [new_message(id="u", priority=0)]


class CourtesyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = FakeClock()
        self.courtesy = Courtesy(self.clock)

    def piece(self) -> Deferred[None]:
        """The next piece of a large submission is to be written: fires when it may."""
        return Deferred.fromCoroutine(self.courtesy.let_pass())

    def wait(self, seconds: float) -> None:
        self.clock.pump([STEP / 2] * round(2 * seconds / STEP))

    def test_nobody(self) -> None:
        """Where nothing urgent is about, a piece does not wait."""
        with self.courtesy.passing([new_message(priority=1)]):
            self.successResultOf(self.piece())
        self.successResultOf(self.piece())
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_while_it_is_stored(self) -> None:
        """A piece waits while an urgent message is stored, and until its intent will be."""
        with self.courtesy.passing(URGENT):
            piece = self.piece()
            self.wait(2 * STEP)
            self.assertNoResult(piece)
        self.wait(CALM - STEP)
        self.assertNoResult(piece)
        self.wait(2 * STEP)
        self.successResultOf(piece)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_it_failed(self) -> None:
        """One that could not be stored does not hold up pieces for ever."""
        passing = self.courtesy.passing(URGENT)
        passing.__enter__()
        passing.__exit__(ValueError, ValueError(), None)
        self.wait(CALM + STEP)
        self.successResultOf(self.piece())

    def test_a_stream_of_them(self) -> None:
        """However many come, each piece waits for the longest time at most."""
        with self.courtesy.passing(URGENT):
            piece = self.piece()
            self.wait(LONGEST + STEP)
            self.successResultOf(piece)


class PiecesTests(SynchronousTestCase):
    """On the store."""

    def test_pieces_wait(self) -> None:
        """While an urgent message is on its way the rest of a large submission waits."""
        clock = FakeClock()
        opened = Opened(fresh(self), clock)
        self.addCleanup(opened.close)
        store = opened.store
        result(store.put_account(account_spec(), clock.now()))
        result(store.enqueue(URGENT, clock.now(), 5.0))
        large = [new_message(id=f"m{n}") for n in range(WHOLE_ROWS + 1)]

        posted = Deferred.fromCoroutine(store.enqueue(large, clock.now(), 5.0))

        self.assertNoResult(posted)
        ((count,),) = opened.sql("SELECT count(*) FROM messages")
        self.assertTrue(1 < count < len(large), count)
        clock.pump([STEP] * round(CALM / STEP + 2))
        self.assertEqual(len(large), len(self.successResultOf(posted)))
