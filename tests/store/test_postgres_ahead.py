"""What works of one transaction ask first is asked together, where nothing comes between."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.model import Claimed
from mailproxy.states import EventKind
from mailproxy.store import asking, outcomes, queue
from mailproxy.store.asking import Claim, Intents
from mailproxy.store.postgres_wire import Said, Wire
from mailproxy.store.transaction import Transaction
from mailproxy.store.works import Kind, Work, alone
from tests.build import account_spec, new_message, record
from tests.fakes import FakeClock, result
from tests.store.postgres_opened import Opened


class AheadTests(SynchronousTestCase):
    def setUp(self) -> None:
        clock = FakeClock()
        self.now = clock.now()
        self.opened = Opened(clock, random.Random(3))
        self.addCleanup(self.opened.close)
        self.store = self.opened.store
        self.account = result(self.store.put_account(account_spec(), self.now)).pk
        posted = [new_message(id=f"m{n}") for n in range(6)]
        result(self.store.enqueue(posted, self.now, 5.0))
        self.claimed = result(self.store.claim(self.account, 3, self.now))
        self.begin(self.claimed[0])
        self.steps: list[Sequence[Said]] = []
        plain = Wire.converse

        def counted(wire: Wire, said: Sequence[Said]) -> Any:
            self.steps.append(said)
            return plain(wire, said)

        self.patch(Wire, "converse", counted)

    def begin(self, claimed: Claimed) -> None:
        pairs = [(claimed.pk, claimed.token)]
        self.assertEqual([True], result(self.store.begin(pairs, "acct", self.now)))

    def together(self, *asked: tuple[Kind[Any, Any], Any]) -> list[Any]:
        """What the works come to in one transaction."""
        works = [Work(kind, call, Deferred(), 0.0) for kind, call in asked]
        self.store._writer._queue.extend(works)
        self.store._writer._transact()
        return [self.successResultOf(work.done) for work in works]

    def intent(self, n: int) -> tuple[Kind[Any, Any], Any]:
        each = self.claimed[n]
        return queue.BEGIN, Intents([(each.pk, each.token)], "acct", self.now)

    def outcome(self, n: int, **overrides: Any) -> tuple[Kind[Any, Any], Any]:
        return outcomes.RECORD, [record(self.claimed[n], at=self.now, **overrides)]

    def test_together(self) -> None:
        """An outcome, an intent and a claim have one step for their questions."""
        claim = queue.CLAIM, Claim(self.account, 9, self.now)
        good, begun, claimed = self.together(self.outcome(0), self.intent(1), claim)
        self.assertEqual(([True], [True]), (good, begun))
        self.assertEqual(["m3", "m4", "m5"], [each.id for each in claimed])
        # The beginning; the questions; the account's name; heads of the lane; leases; the end.
        self.assertEqual(6, len(self.steps))
        self.assertEqual(4, len(self.steps[1]))
        self.assertIn("accounts.id", self.steps[2][-1].sql)

    def test_the_same_message(self) -> None:
        """What an outcome before it ended is not begun."""
        held = {"begun": False, "kind": EventKind.HELD, "hold": "wait", "changes": ()}
        good, begun = self.together(self.outcome(1, **held), self.intent(1))
        self.assertEqual(([True], [False]), (good, begun))

    def test_twice(self) -> None:
        """An answer is good for one: the second claim of a lane finds what the first left."""
        claim = queue.CLAIM, Claim(self.account, 2, self.now)
        first, second, begun = self.together(claim, claim, self.intent(1))
        names = [[each.id for each in claimed] for claimed in (first, second)]
        self.assertEqual([["m3", "m4"], ["m5"]], names)
        self.assertEqual([True], begun)

    def test_others_come_behind(self) -> None:
        """What another kind of work changes comes after those that ask first, and is seen next."""
        text = "UPDATE lanes SET blocked = ?"
        block: Kind[int, Any] = alone(lambda tx, flag: tx.cursor.execute(text, (flag,)))
        _, good, begun = self.together((block, 1), self.outcome(0), self.intent(1))
        self.assertEqual(([True], [True]), (good, begun))
        self.assertEqual([[False]], self.together(self.intent(2)))

    def test_not_for_others(self) -> None:
        """An answer that nobody used is not good for another kind of work."""
        (statement, *values), *_ = asking.questions(Claim(self.account, 9, self.now))
        claims = attrs.evolve(queue.CLAIM, run=lambda _tx, calls: [[] for _ in calls])

        def change(tx: Transaction, _: None) -> int:
            tx.cursor.execute("UPDATE accounts SET version = 77")
            return int(tx.one(statement, *values)[0])

        claim = claims, Claim(self.account, 9, self.now)
        *_, version = self.together(claim, self.intent(1), (alone(change), None))
        self.assertEqual(77, version)

    def test_rolled_back(self) -> None:
        """After a part was rolled back its neighbours ask for themselves."""
        bad = alone(lambda _tx, _call: 1 / 0, ahead=outcomes.RECORD.ahead)
        works = [self.outcome(0), self.intent(1), (bad, self.outcome(2)[1])]
        made = [Work(kind, call, Deferred(), 0.0) for kind, call in works]
        self.store._writer._queue.extend(made)
        self.store._writer._transact()
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.failureResultOf(made[2].done)
        self.assertEqual([[True], [True]], [self.successResultOf(each.done) for each in made[:2]])
