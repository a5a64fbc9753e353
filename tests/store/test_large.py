"""Large submissions on the SQLite store: in pieces, whole in the end, and once for each key."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailproxy.clock import SystemClock
from mailproxy.errors import PartlyStored, StoreBusy, StoreUnavailable
from mailproxy.model import Enqueued, NewMessage
from mailproxy.states import Verdict
from mailproxy.store.database import connect
from mailproxy.store.face_intake import PATIENCE
from mailproxy.store.intake import PIECE_ROWS, WHOLE_ROWS, cut
from mailproxy.tenancy import Answered, KeyReused, Once
from tests.build import account_spec, new_message
from tests.fakes import FakeClock, result
from tests.store.opened import Opened, fresh

QUEUED = Enqueued(Verdict.QUEUED)

#: More pages than a test's database ever has.
ENDLESS = 1_000_000


def many(count: int, **fields: Any) -> list[NewMessage]:
    return [new_message(id=f"m{n}", **fields) for n in range(count)]


def answer(verdicts: Sequence[Enqueued]) -> bytes:
    return str(len(verdicts)).encode()


def once(body: str = "body") -> Once:
    return Once("default", "key", sha256(body.encode()).digest(), answer)


class CutTests(SynchronousTestCase):
    def lengths(self, messages: Sequence[NewMessage]) -> list[int]:
        """How long the pieces are, which have to be all of it in order."""
        pieces = list(cut(messages))
        ends = [end for _, end, _ in pieces]
        self.assertEqual([0, *ends[:-1]], [start for start, _, _ in pieces])
        self.assertEqual(len(messages), ends[-1])
        return [end - start for start, end, _ in pieces]

    def test_small_messages(self) -> None:
        """
        What fits into one transaction is one piece, nothing is one empty piece, and what is larger
        is cut into small ones.
        """
        self.assertEqual([0], self.lengths([]))
        self.assertEqual([WHOLE_ROWS], self.lengths(many(WHOLE_ROWS)))
        pieces = self.lengths(many(WHOLE_ROWS + 1))
        self.assertEqual([PIECE_ROWS, PIECE_ROWS, WHOLE_ROWS + 1 - 2 * PIECE_ROWS], pieces)

    def test_heavy_messages(self) -> None:
        """Long texts and many recipients make shorter pieces, but none is empty."""
        self.assertLess(max(self.lengths(many(300, text="x" * 100_000))), 25)
        crowd = [f"u{n}@example.org" for n in range(1000)]
        self.assertEqual([1, 1, 1], self.lengths(many(3, to=crowd)))
        self.assertLess(max(self.lengths(many(60, parts=(bytes(500_000),)))), 5)


class FullDiskTests(SynchronousTestCase):
    """The disk is full for a while."""

    def setUp(self) -> None:
        self.clock = FakeClock()
        self.connections: list[sqlite3.Connection] = []
        self.opened = Opened(fresh(self), self.clock, connect=self.connect)
        self.addCleanup(self.opened.close)
        self.store = self.opened.store
        self.account = result(self.store.put_account(account_spec(), self.clock.now()))

    def connect(self, path: str) -> sqlite3.Connection:
        self.connections.append(connect(path))
        return self.connections[-1]

    def room_for(self, pages: int) -> None:
        """From now on there is room for so many more pages."""
        writer = self.connections[0]
        ((used,),) = writer.execute("PRAGMA page_count")
        writer.execute(f"PRAGMA max_page_count={used + pages}")

    def post(self, count: int, key: Once | None = None) -> Deferred[list[Enqueued]]:
        return Deferred.fromCoroutine(
            self.store.enqueue(many(count, text="x" * 2000), self.clock.now(), 5.0, key)
        )

    def stored(self) -> int:
        ((count,),) = self.opened.sql("SELECT count(*) FROM messages")
        return int(count)

    def pass_the_time(self, seconds: float) -> None:
        self.clock.pump([0.25] * int(seconds * 4))

    def test_room_for_nothing(self) -> None:
        """Where not even the first piece can be stored, nothing is, and that is said."""
        self.room_for(1)
        self.failureResultOf(self.post(1000), StoreUnavailable)
        self.assertEqual(0, self.stored())

    def test_room_comes(self) -> None:
        """Where a later piece cannot be stored it is tried until it is: then all are there."""
        self.room_for(500)
        posted = self.post(1000)
        self.pass_the_time(5)
        self.assertNoResult(posted)
        self.assertTrue(0 < self.stored() < 1000, self.stored())

        self.room_for(ENDLESS)
        self.pass_the_time(5)

        self.assertEqual([QUEUED] * 1000, self.successResultOf(posted))
        claimed = result(self.store.claim(self.account.pk, 2000, self.clock.now()))
        self.assertEqual(1000, len({each.id for each in claimed}))

    def test_room_never_comes(self) -> None:
        """Where the rest cannot be stored for long, neither *stored* nor *not stored* is said."""
        self.room_for(500)
        posted = self.post(1000, once())
        self.pass_the_time(PATIENCE + 1)
        self.failureResultOf(posted, PartlyStored)
        self.room_for(ENDLESS)

        again = self.post(1000, once())

        self.assertEqual([QUEUED] * 1000, self.successResultOf(again))
        self.failureResultOf(self.post(1000, once()), Answered)
        self.assertEqual(1000, self.stored())

    def test_closed_meanwhile(self) -> None:
        """A store that is closed does not try on."""
        self.room_for(500)
        posted = self.post(1000)
        self.successResultOf(self.store.close())
        self.pass_the_time(1)
        self.failureResultOf(posted, PartlyStored)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_the_same_key_meanwhile(self) -> None:
        """A request whose key is in use waits its time for the first, and stores nothing."""
        self.room_for(500)
        first = self.post(1000, once())
        second = self.post(1000, once())
        third = self.post(1, once("other"))
        self.pass_the_time(5)
        for refused in (second, third):
            self.failureResultOf(refused, StoreBusy)
        fourth = self.post(1, once("other"))
        self.room_for(ENDLESS)
        self.pass_the_time(4)
        self.assertEqual(1000, len(self.successResultOf(first)))
        self.failureResultOf(fourth, KeyReused)


class ThreadedTests(TestCase):
    """With the writer's thread and a real reactor."""

    async def setUp(self) -> None:  # type: ignore[override]
        self.clock = SystemClock(reactor)
        self.opened = Opened(
            fresh(self),
            self.clock,
            random.Random(5),
            reactor=reactor,  # type: ignore[arg-type]
        )
        self.addCleanup(self.opened.close)
        self.store = self.opened.store
        self.account = await self.store.put_account(account_spec(), self.clock.now())

    def post(self, messages: Sequence[NewMessage], key: Once | None = None) -> Deferred[Any]:
        return Deferred.fromCoroutine(self.store.enqueue(messages, self.clock.now(), 20.0, key))

    async def test_others_pass_between_the_pieces(self) -> None:
        """What is submitted, claimed and begun beside a large submission is done before its end."""
        large = self.post([new_message(id=f"bulk{n}", priority=3) for n in range(20 * WHOLE_ROWS)])
        await self.post([new_message(priority=0)])

        (claimed,) = await self.store.claim(self.account.pk, 1, self.clock.now() + 1, urgent=True)
        begun = await self.store.begin([(claimed.pk, claimed.token)], "acct", self.clock.now())

        self.assertEqual((["m1"], [True]), ([claimed.id], begun))
        self.assertFalse(large.called, "the large submission was stored before")
        self.assertEqual(20 * WHOLE_ROWS, len(await large))

    async def test_one_is_first(self) -> None:
        """Of many connections that send the same key at once exactly one is first."""

        def caught(failure: Any) -> Any:
            return failure.trap(Answered, KeyReused)

        ours = [self.post(many(600), once()).addErrback(caught) for _ in range(5)]
        theirs = self.post([new_message(id="theirs")], once("other")).addErrback(caught)

        answers = await gatherResults([*ours, theirs])

        self.assertEqual(1, sum(isinstance(each, list) for each in answers))
        self.assertEqual([[QUEUED] * 600, *[Answered] * 4, KeyReused], answers)
        ((count,),) = self.opened.sql("SELECT count(*) FROM messages")
        self.assertEqual(600, count)
