"""Nodes of one service: who lives, what the dead leave behind, what all share."""

from __future__ import annotations

import random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.model import Account, Claimed, RecipientChange
from mailproxy.states import EventKind, RecipientState
from mailproxy.store.options import StoreOptions
from mailproxy.store.postgres import PostgresStore
from tests.build import account_spec, new_message, record
from tests.fakes import FakeClock, result
from tests.store.postgres_opened import Opened


class NodesCase(SynchronousTestCase):
    """Two nodes with one account."""

    def setUp(self) -> None:
        self.clock = FakeClock()
        self.opened = Opened(self.clock, random.Random(5), options=StoreOptions())
        self.addCleanup(self.opened.close)
        self.first = self.opened.store
        self.second = self.opened.another()
        self.account: Account = result(self.first.put_account(account_spec(), self.clock.now()))

    def post(self, *ids: str) -> None:
        messages = [new_message(id=each) for each in ids]
        result(self.first.enqueue(messages, self.clock.now(), 5.0))

    def claim(self, store: PostgresStore, limit: int = 10) -> list[Claimed]:
        return list(result(store.claim(self.account.pk, limit, self.clock.now())))

    def begin(self, store: PostgresStore, *claimed: Claimed) -> list[bool]:
        leases = [(each.pk, each.token) for each in claimed]
        return list(result(store.begin(leases, "acct", self.clock.now())))

    def dead(self, store: PostgresStore) -> None:
        """The server has not heard of that node for too long."""
        self.opened.sql(f"UPDATE nodes SET alive_until = 0 WHERE id = '{store.node_id}'")

    def abandoned(self, store: PostgresStore) -> list[Claimed]:
        return list(result(store.abandoned(self.clock.now())))


class ClaimTests(NodesCase):
    def test_each_once(self) -> None:
        """What one node has claimed another is not given."""
        self.post("m1", "m2", "m3")
        mine, others = self.claim(self.first, 2), self.claim(self.second)
        self.assertEqual(["m1", "m2"], [each.id for each in mine])
        self.assertEqual(["m3"], [each.id for each in others])
        self.assertEqual([True, True], self.begin(self.first, *mine))
        self.assertEqual([False], self.begin(self.second, mine[0]))

    def test_one_order(self) -> None:
        """Primary keys follow each other over all nodes, though their clocks do not agree."""
        self.post("m1")
        self.clock.advance(-3600.0)
        messages = [new_message(id="m2")]
        result(self.second.enqueue(messages, self.clock.now(), 5.0))
        rows = self.opened.sql("SELECT id FROM messages ORDER BY pk")
        self.assertEqual([("m1",), ("m2",)], rows)


class DeathTests(NodesCase):
    def test_living(self) -> None:
        """F49: a node that lives keeps its claims, whatever the clocks of others say."""
        self.post("m1")
        (claimed,) = self.claim(self.first)
        self.clock.advance(7200.0)
        result(self.first.heartbeat(self.clock.now()))

        self.assertEqual([], self.abandoned(self.second))
        self.assertEqual([True], self.begin(self.first, claimed))

    def test_not_begun(self) -> None:
        """What a dead node had only claimed goes back at once, and the dead cannot begin it."""
        self.post("m1")
        (claimed,) = self.claim(self.first)
        self.dead(self.first)

        self.assertEqual([], self.abandoned(self.second))
        (again,) = self.claim(self.second)
        self.assertEqual("m1", again.id)
        self.assertEqual([False], self.begin(self.first, claimed))
        self.assertEqual([True], self.begin(self.second, again))

    def test_begun(self) -> None:
        """What it had begun is one other node's to judge; its own outcome comes as evidence."""
        self.post("m1")
        (claimed,) = self.claim(self.first)
        self.assertEqual([True], self.begin(self.first, claimed))
        self.dead(self.first)

        (found,) = self.abandoned(self.second)
        self.assertEqual(("m1", 1), (found.id, found.attempts))
        self.assertEqual([], self.abandoned(self.opened.another()))
        unsure = record(
            found,
            RecipientChange(0, RecipientState.UNCERTAIN),
            at=self.clock.now(),
            attempt=1,
            kind=EventKind.UNCERTAIN,
        )
        self.assertEqual([True], result(self.second.record([unsure])))
        self.assertEqual("uncertain", self.state("m1"))

        result(self.first.record([record(claimed, at=self.clock.now())]))
        self.assertEqual("sent", self.state("m1"))

    def test_many(self) -> None:
        """All of it is taken over, in steps."""
        ids = [f"m{n}" for n in range(300)]
        self.post(*ids)
        self.claim(self.first, 300)
        self.dead(self.first)

        self.assertEqual([], self.abandoned(self.second))
        self.assertEqual(300, len(self.claim(self.second, 500)))

    def test_leaves(self) -> None:
        """A node that ends in good order is waited for by nobody."""
        self.post("m1")
        self.claim(self.second)
        result(self.second.close())

        self.assertEqual([], self.abandoned(self.first))
        self.assertEqual(1, len(self.claim(self.first)))

    def test_cut_off(self) -> None:
        """A node that could not renew for 45 seconds begins nothing, before others take over."""
        self.post("m1")
        (claimed,) = self.claim(self.first)
        self.clock.advance(45.5)
        self.assertEqual([False], self.begin(self.first, claimed))

        result(self.first.heartbeat(self.clock.now()))
        self.assertEqual([True], self.begin(self.first, claimed))

    def test_woken(self) -> None:
        """A node that was taken for dead is told so, and lives again."""
        self.dead(self.first)
        result(self.first.heartbeat(self.clock.now()))
        self.post("m1")
        self.claim(self.first)
        self.assertEqual([], self.abandoned(self.second))
        self.assertEqual([], self.claim(self.second))

    def test_forgotten(self) -> None:
        """A node that has been dead for a day is removed, by the server's clock."""
        self.dead(self.second)
        self.clock.advance(30 * 86_400.0)
        result(self.first.heartbeat(self.clock.now()))
        while result(self.first.upkeep(self.clock.now())):
            pass
        self.assertEqual([(self.first.node_id,)], self.opened.sql("SELECT id FROM nodes"))

    def test_upkeep(self) -> None:
        """One node at a time does it: the next one when the first has died, or has ended."""
        self.post("m1", "m2")
        self.assertEqual(1, self.end_one(self.first))
        self.assertEqual(0, self.end_one(self.second))
        self.dead(self.first)
        self.assertEqual(1, self.end_one(self.second))

        self.post("m3")
        third = self.opened.another()
        self.assertEqual(0, self.end_one(third))
        result(self.second.close())
        self.assertEqual(1, self.end_one(third))

    def end_one(self, store: PostgresStore) -> int:
        """Have the oldest message's time be over, and *store* look. :return: how many ended."""
        self.opened.sql(
            "UPDATE messages SET not_after = 1 WHERE pk = "
            "(SELECT min(pk) FROM messages WHERE finished_at IS NULL)"
        )
        before = self.ended()
        result(store.upkeep(self.clock.now()))
        return self.ended() - before

    def ended(self) -> int:
        (row,) = self.opened.sql("SELECT count(*) FROM messages WHERE finished_at IS NOT NULL")
        return int(row[0])

    def state(self, message_id: str) -> Any:
        found = result(self.first.message("default", message_id))
        return None if found is None else found.state


class LimitTests(NodesCase):
    def test_together(self) -> None:
        """Ten times: nodes that claim and begin in turns never exceed a limit together."""
        for seed in range(10):
            with self.subTest(seed=seed):
                self._together(f"a{seed}", random.Random(seed))

    def _together(self, account_id: str, rng: random.Random) -> None:
        self.account = result(
            self.first.put_account(
                account_spec(id=account_id, options='{"limit_per_minute": 5}'), self.clock.now()
            )
        )
        messages = [new_message(id=f"{account_id}-{n}", account_id=account_id) for n in range(25)]
        result(self.first.enqueue(messages, self.clock.now(), 5.0))
        begun: list[float] = []
        held: list[tuple[PostgresStore, Claimed]] = []
        for _ in range(30):
            self.clock.advance(rng.choice((0.5, 3.0, 9.0)))
            store = rng.choice((self.first, self.second))
            result(store.heartbeat(self.clock.now()))
            held += [(store, each) for each in self.claim(store, 4)]
            rng.shuffle(held)
            for owner, claimed in held[:3]:
                if self.begin(owner, claimed) == [True]:
                    begun.append(self.clock.now())
            del held[:3]
        for owner, claimed in held:
            result(owner.release([(claimed.pk, claimed.token)]))

        self.assertGreaterEqual(len(begun), 8)
        for start in begun:
            within = [each for each in begun if start <= each < start + 60.0]
            self.assertLessEqual(len(within), 5)
