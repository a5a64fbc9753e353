"""Intents and outcomes on their way to the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.dispatch.recorder import FIRST_PAUSE, MOST, Intents, Recorder
from mailproxy.errors import StoreUnavailable
from mailproxy.interfaces import IQueue
from mailproxy.model import Record
from mailproxy.states import EventKind
from tests.fakes import FakeClock


def record(pk: int) -> Record:
    return Record(pk, pk, 1, EventKind.OUTCOME, (), None, 0.0)


class SlowStore:
    """Answers when the test says so; keeps what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[Any], Deferred[list[bool]]]] = []

    def record(self, records: Sequence[Record]) -> Deferred[list[bool]]:
        return self._asked([each.pk for each in records])

    def begin(
        self,
        intents: Sequence[tuple[int, int]],
        account: str,
        now: float,
        *,
        through: tuple[int, int] | None = None,
    ) -> Deferred[list[bool]]:
        return self._asked([pk for pk, _ in intents])

    def _asked(self, pks: list[Any]) -> Deferred[list[bool]]:
        answer: Deferred[list[bool]] = Deferred()
        self.calls.append((pks, answer))
        return answer

    def answer(self, good: bool = True) -> None:
        pks, answer = self.calls.pop(0)
        answer.callback([good] * len(pks))

    def refuse(self) -> None:
        self.calls.pop(0)[1].errback(StoreUnavailable("disk full"))

    @property
    def asked(self) -> list[list[Any]]:
        return [pks for pks, _ in self.calls]


class RecorderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = FakeClock()
        self.store = SlowStore()
        self.recorder = Recorder(cast(IQueue, self.store), self.clock)

    def test_what_comes_while_a_call_is_out_goes_together(self) -> None:
        """The first outcome goes at once; those that come meanwhile go in one call."""
        first = self.recorder.add(record(1))
        later = [self.recorder.add(record(pk)) for pk in (2, 3)]
        self.assertEqual([[1]], self.store.asked)
        self.store.answer()
        self.assertEqual([[2, 3]], self.store.asked)
        self.assertTrue(self.successResultOf(first))
        self.store.answer(False)
        self.assertEqual([False, False], [self.successResultOf(each) for each in later])
        self.assertTrue(self.recorder.idle)

    def test_a_call_has_a_bounded_size(self) -> None:
        """No more than a bounded number of outcomes goes in one call."""
        for pk in range(MOST + 2):
            self.recorder.add(record(pk))
        self.store.answer()
        self.assertEqual(MOST, len(self.store.asked[0]))

    def test_an_outcome_is_offered_until_it_is_stored(self) -> None:
        """What the store refuses is kept, in order, and offered again after a growing pause."""
        result = self.recorder.add(record(1))
        self.store.refuse()
        self.assertTrue(self.recorder.stuck)
        self.recorder.add(record(2))
        self.assertEqual([], self.store.asked)
        self.clock.advance(FIRST_PAUSE)
        self.assertEqual([[1, 2]], self.store.asked)
        self.store.refuse()
        self.clock.advance(FIRST_PAUSE)
        self.assertEqual([], self.store.asked)
        self.clock.advance(FIRST_PAUSE)
        self.store.answer()
        self.assertTrue(self.successResultOf(result))
        self.assertFalse(self.recorder.stuck)

    def test_given_up(self) -> None:
        """Once it has given up, what the store refused is offered no more, and no timer is left."""
        self.recorder.add(record(1))
        self.store.refuse()
        self.recorder.give_up()
        self.assertEqual([], self.clock.getDelayedCalls())
        self.clock.advance(FIRST_PAUSE * 10)
        self.assertEqual([], self.store.asked)

    def test_given_up_while_the_store_is_asked(self) -> None:
        """A refusal that comes after it has given up leads to no further offer."""
        self.recorder.add(record(1))
        self.recorder.give_up()
        self.store.refuse()
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertEqual([], self.store.asked)

    def test_a_bug_in_the_store_does_not_end_the_loop(self) -> None:
        """An exception nobody foresaw is logged, and the outcome is offered again."""
        result = self.recorder.add(record(1))
        self.store.calls.pop(0)[1].errback(KeyError("x"))
        self.assertEqual(1, len(self.flushLoggedErrors(KeyError)))
        self.clock.advance(FIRST_PAUSE)
        self.store.answer()
        self.assertTrue(self.successResultOf(result))


class IntentsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = FakeClock()
        self.store = SlowStore()
        self.recorder = Recorder(cast(IQueue, self.store), self.clock)
        self.intents = Intents(cast(IQueue, self.store), self.recorder, self.clock, "main")

    def test_intents_gather_like_outcomes(self) -> None:
        """Intents asked for while a call is out go in one call."""
        asked = [self.intents.ask(pk, pk) for pk in (1, 2, 3)]
        self.store.answer()
        self.store.answer()
        self.assertEqual([True] * 3, [self.successResultOf(each) for each in asked])

    def test_a_store_that_fails_grants_nothing(self) -> None:
        """If the store fails, no intent stands, and nothing is sent."""
        asked = self.intents.ask(1, 1)
        self.store.refuse()
        self.assertFalse(self.successResultOf(asked))

    def test_no_intent_while_an_outcome_cannot_be_stored(self) -> None:
        """Intents wait until the outcomes before them are stored."""
        self.recorder.add(record(1))
        self.store.refuse()
        asked = self.intents.ask(2, 2)
        self.assertEqual([], self.store.asked)
        self.clock.advance(FIRST_PAUSE)
        self.store.answer()
        self.assertEqual([[2]], self.store.asked)
        self.store.answer()
        self.assertTrue(self.successResultOf(asked))
