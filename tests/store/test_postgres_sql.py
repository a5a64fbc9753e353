"""Every statement of the store is one that a PostgreSQL server understands."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import Any

import psycopg
from psycopg.pq import ExecStatus
from twisted.trial.unittest import SynchronousTestCase

from mailproxy import store
from mailproxy.store.compiling import Bulk, Statement
from mailproxy.store.postgres_sql import translated, translated_bulk
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
