"""Every statement of the store is one that a PostgreSQL server understands."""

from __future__ import annotations

import json
import pkgutil
import re
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import psycopg
from psycopg import RawCursor
from psycopg.pq import ExecStatus
from twisted.trial.unittest import SynchronousTestCase

from mailproxy import store
from mailproxy.store.compiling import Bulk, Statement
from mailproxy.store.postgres_server import Server
from mailproxy.store.postgres_sql import translated, translated_bulk
from mailproxy.store.postgres_values import ARRAYS, adapt, keys
from tests.postgres import server
from tests.store.postgres_opened import migrated


def of_the_store(kind: type[Any]) -> list[Any]:
    """The statements that stand in the modules of the store, by themselves or in a dict."""
    found = []
    for module in pkgutil.iter_modules(store.__path__):
        for value in vars(import_module(f"{store.__name__}.{module.name}")).values():
            values = value.values() if isinstance(value, dict) else (value,)
            found += [each for each in values if isinstance(each, kind)]
    return found


class StatementTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.connection = psycopg.connect(server().url(migrated()), autocommit=True)
        self.addCleanup(self.connection.close)

    def assertPrepared(self, sql: str) -> None:
        result = self.connection.pgconn.prepare(b"", sql.encode())
        said = result.error_message.decode()
        self.assertEqual(ExecStatus.COMMAND_OK, result.status, f"{sql}: {said}")

    def test_statements(self) -> None:
        """What Core makes for SQLite it makes for the server, whose schema has it all."""
        found = of_the_store(Statement)
        self.assertGreater(len(found), 200)
        for statement in found:
            self.assertPrepared(translated(statement.sql).sql)

    def test_many_rows(self) -> None:
        """A statement for a row becomes one for arrays of them."""
        found = of_the_store(Bulk)
        self.assertGreater(len(found), 20)
        for statement in found:
            self.assertPrepared(translated(statement.sql).sql)
            self.assertPrepared(translated_bulk(statement).sql)


class PlanTests(SynchronousTestCase):
    """What the server does for a statement, as the store's sessions have it planned."""

    #: Tables that grow with the mail.
    LARGE = frozenset(
        (
            *("messages", "recipients", "attempts", "events", "payloads", "texts", "chunks"),
            *("tombstones", "bounces", "suppressions"),
        )
    )

    def test_no_scan(self) -> None:
        """No statement reads a table from end to end that grows with the mail."""
        scanned = []
        for sql, plan in self.plans():
            scanned += [(t, sql) for t in re.findall(r"Seq Scan on (\w+)", plan) if t in self.LARGE]
        self.assertEqual([], scanned)

    def test_no_sort(self) -> None:
        """
        Who takes the first few of a large table finds them in order: none are sorted first.

        All events of one message are.
        """
        sorting = [
            sql
            for sql, plan in self.plans()
            if plan.startswith("Limit") and "Sort" in plan and self.large(plan)
            if "events.message_pk = $1" not in sql
        ]
        self.assertEqual([], sorting)

    def test_by_a_key(self) -> None:
        """
        Rows of a large table are found by what is looked up in an index, not by a look at each.

        A statement that is to find messages by their keys says so in that index; the others named
        here walk through what waits, or through bounces to be sent.
        """
        walks = ("messages.finished_at IS NULL", "ORDER BY bounces.pk")
        walking, filtered = [], []
        for sql, plan in self.plans():
            for table, below in re.findall(r"Index.* Scan.* on (\w+)  .*\n(.*)", plan + "\n"):
                if table in self.LARGE and "Index Cond" not in below:
                    walking += [] if any(each in sql for each in walks) else [(table, sql)]
            if re.search(
                r"(Filter: .*\b(message_|body_)?pk = ANY \(\$|(Hash|Merge) \w*Join)", plan
            ):
                filtered.append(sql)
        self.assertEqual(([], []), (walking, filtered))

    def large(self, plan: str) -> bool:
        return any(f" on {table} " in plan for table in self.LARGE)

    def plans(self) -> list[tuple[str, str]]:
        """Each statement of the store, and what the server would do."""
        connection = Server(server().url(migrated()), 0.0, "tests").connect()
        self.addCleanup(connection.close)
        found = []
        texts = [translated(each.sql).sql for each in of_the_store(Statement)]
        texts += [translated_bulk(each).sql for each in of_the_store(Bulk)]
        for sql in texts:
            rows = connection.execute(
                f"EXPLAIN (GENERIC_PLAN) {sql}".encode(), prepare=False
            ).fetchall()
            found.append((sql, "\n".join(row[0] for row in rows)))
        return found


class ArrayTests(SynchronousTestCase):
    """Arrays are written by hand: the server has to read what was meant."""

    def read(self, type_: str, values: Sequence[Any]) -> Any:
        with psycopg.connect(server().url(migrated())) as connection:
            adapt(connection)
            cursor = RawCursor(connection)
            written = ARRAYS[type_](values)
            (found,) = cursor.execute(f"SELECT $1::{type_}[]", [written]).fetchone() or ()
            return found

    def test_texts(self) -> None:
        """Whatever stands in a text stays in it, but for NUL, which the server does not know."""
        texts = ["", "NULL", "null", 'a"b', "a\\b", "{a,b}", " x ", "\n", "ä😀", "\\", '\\"', None]
        self.assertEqual(texts, self.read("VARCHAR", texts))
        self.assertEqual(["a\ufffdb"], self.read("VARCHAR", ["a\0b"]))
        self.assertEqual([], self.read("VARCHAR", []))

    def test_numbers(self) -> None:
        """Numbers keep every bit; flags are small integers."""
        integers = [0, -1, 2**63 - 1, -(2**63), None]
        self.assertEqual(integers, self.read("BIGINT", integers))
        self.assertEqual([1, 0, None], self.read("SMALLINT", [True, False, None]))
        floats = [0.1, 1e18, 1750000000.1234567, -0.0, 5e-324, None, 3]
        self.assertEqual(floats, self.read("FLOAT", floats))

    def test_bytes(self) -> None:
        """All bytes."""
        for values in ([bytes(range(256)), b"", None], [b"a" * 70_000], [None], []):
            self.assertEqual(values, self.read("BYTEA", values))

    def testkeys(self) -> None:
        """Lists of keys come as JSON."""
        self.assertEqual("{1,22}", keys("[1,22]"))
        self.assertEqual("{}", keys("[]"))
        names = ["a", 'b"c', "d\\e", "ü"]
        self.assertEqual(ARRAYS["VARCHAR"](names), keys(json.dumps(names)))
