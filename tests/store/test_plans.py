"""
No statement of the hot paths ever reads through the queue: asked of the planner itself.

With many rows, and again with the statistics of ANALYZE, which invite it to plans whose cost grows
with the queue.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from types import ModuleType

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.filled import fill, lane
from mailproxy.store import (
    accounts,
    acts,
    acts_again,
    acts_bulk,
    acts_walk,
    answers,
    bodies,
    boot,
    bounces,
    commands_log,
    declared,
    deletion,
    delivered,
    destinations,
    eventlog,
    face_bounces,
    fetching,
    keys,
    lane_flags,
    limits,
    listing,
    overdue,
    prepared,
    purge,
    rates,
    removal,
    reports,
    reseal,
    restored,
    retention,
    statements,
    statements_intake,
    statements_outcomes,
    suppressions,
    suspensions,
    tenants,
    timeline,
    upkeep,
)
from mailproxy.store.compiling import SIZES, Bulk, Statement
from tests.fakes import FakeClock, result
from tests.store.opened import Opened, fresh

MODULES = (
    accounts,
    acts,
    acts_again,
    acts_bulk,
    acts_walk,
    answers,
    bodies,
    boot,
    bounces,
    commands_log,
    declared,
    deletion,
    delivered,
    destinations,
    eventlog,
    face_bounces,
    fetching,
    keys,
    lane_flags,
    limits,
    listing,
    overdue,
    prepared,
    purge,
    rates,
    removal,
    reports,
    reseal,
    restored,
    retention,
    statements,
    statements_intake,
    statements_outcomes,
    suppressions,
    suspensions,
    tenants,
    timeline,
    upkeep,
)

#: Tables that grow with the queue or the history.
LARGE = (
    "messages",
    "recipients",
    "events",
    "attempts",
    "payloads",
    "texts",
    "chunks",
    "tombstones",
    "suppressions",
    "answers",
)

#: Walks through the open messages, which are meant: at a start after a crash, and on a reader for
#: the mail of a deleted account.
WALKS = {"_OTHERS_SEALED", "_LEASED", "_OTHERS", "_OTHERS_OF_TENANT"}

#: Statements that sort, but only the few rows of one message, one request, or a small table.
SORTS = {
    "_EVENTS",
    "_EVENTS_OF",
    "DEFAULT_ACCOUNTS",
    "_LAST",
    "_DUE_ACCOUNTS",
    "_GOOD",
    "_BY_USE",
    "_DUE",
}

LISTS = ("pks", "pairs", "ids", "lanes")


def statements_of(module: ModuleType) -> Iterator[tuple[str, Statement]]:
    for name, value in vars(module).items():
        if isinstance(value, Statement):
            yield name, value
        elif isinstance(value, Bulk):
            for size, text in zip(SIZES, value.texts, strict=True):
                count = ("count",) if value.counted and size > 1 else ()
                yield name, Statement(text, (*value.names * size, *count))
        elif name.isupper() and isinstance(value, (tuple, dict)):
            values = value.values() if isinstance(value, dict) else value
            yield from ((name, each) for each in values if isinstance(each, Statement))


class PlanTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.opened = Opened(fresh(self), FakeClock())
        self.addCleanup(self.opened.close)
        self.connection = sqlite3.connect(self.opened.path, isolation_level=None)
        self.addCleanup(self.connection.close)
        self.connection.execute("PRAGMA synchronous=OFF")
        lane(self.connection, 1, 1)
        fill(self.connection, [1], 100_000, now=1.0, due=1.0)
        self.connection.execute(
            "UPDATE messages SET finished_at=5, claim_at=NULL, state='sent' WHERE pk % 2"
        )
        self.connection.execute(
            "INSERT INTO events (pk, event_id, message_pk, generation, kind, at, final, stream)"
            " SELECT pk + 1000000, zeroblob(16), pk, 1, 'outcome', 1, 1, 'default'"
            " FROM messages WHERE pk % 2"
        )

    def plan(self, statement: Statement) -> str:
        values = ["[1, 2]" if name in LISTS else 1 for name in statement.names]
        rows = self.connection.execute(f"EXPLAIN QUERY PLAN {statement.sql}", values)
        return " | ".join(row[3] for row in rows)

    def test_nothing_reads_through_a_large_table(self) -> None:
        """Every statement finds its rows by a key or an index, before and after ANALYZE."""
        for analyzed in (False, True):
            if analyzed:
                self.connection.execute("ANALYZE")
            for module in MODULES:
                for name, statement in statements_of(module):
                    if statement.sql.startswith("INSERT"):
                        continue
                    plan = self.plan(statement)
                    if name not in WALKS:
                        scanned = [each for each in LARGE if f"SCAN {each}" in plan]
                        self.assertEqual([], scanned, f"{name} ({analyzed=}): {plan}")
                    if name not in SORTS:
                        self.assertNotIn("TEMP B-TREE", plan, f"{name} ({analyzed=})")

    def test_a_claim_walks_its_lane_in_order(self) -> None:
        """The due messages of a lane come from its index alone, in order, without sorting."""
        self.connection.execute("ANALYZE")

        plan = self.plan(statements.DUE_MESSAGES)

        self.assertEqual(
            "SEARCH messages USING COVERING INDEX messages_claim (lane=? AND claim_at<?)", plan
        )

    def test_the_intent_goes_by_key(self) -> None:
        """The fenced intent looks only at the messages it names, and at their lanes."""
        self.connection.execute("ANALYZE")

        fence, plan = self.plan(statements.BEGINNING), self.plan(statements.BEGIN)

        self.assertIn("SEARCH messages USING INTEGER PRIMARY KEY", fence)
        self.assertIn("SEARCH lanes USING INTEGER PRIMARY KEY", fence)
        self.assertIn("SEARCH messages USING INTEGER PRIMARY KEY", plan)

    def test_a_store_with_statistics_claims_in_order(self) -> None:
        """With statistics, a claim from a deep lane still gives the oldest first."""
        self.connection.execute("ANALYZE")
        self.connection.execute(
            "INSERT INTO accounts (pk, tenant_id, id, host, port, tls_mode, timeout, ttl,"
            " max_sessions, on_uncertain, created_at, updated_at)"
            " VALUES (1, 'default', 'a', 'h', 25, 'plain', 30, 300, 8, 'retry', 0, 0)"
        )

        claimed = result(self.opened.store.claim(1, 3, 10.0))

        pks = self.connection.execute(
            "SELECT pk FROM messages WHERE finished_at IS NULL ORDER BY pk LIMIT 3"
        ).fetchall()
        self.assertEqual([pk for (pk,) in pks], [each.pk for each in claimed])
