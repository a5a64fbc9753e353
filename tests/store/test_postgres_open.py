"""A PostgreSQL server is taken for the store, or refused with one line; nodes start together."""

from __future__ import annotations

import random

import psycopg
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.clock import Names
from mailproxy.crypto import Sealer, new_key
from mailproxy.errors import StoreRefused
from mailproxy.store.migrate import newest
from mailproxy.store.postgres import PostgresStore
from mailproxy.store.postgres_migrate import migrate
from mailproxy.store.postgres_server import Server
from mailproxy.store.tables import metadata
from tests.fakes import FakeClock
from tests.postgres import server
from tests.store.postgres_opened import Opened, migrated


def store(url: str, key: str | None = None) -> PostgresStore:
    return PostgresStore(
        url,
        clock=FakeClock(),
        names=Names(random.Random(3)),
        sealer=Sealer([key or new_key()]),
        reactor=None,
    )


class SchemaTests(SynchronousTestCase):
    """F18: the schema is ours, or we do not start."""

    def test_the_migrations_make_the_tables(self) -> None:
        """The migrations lead to exactly the tables that the program knows."""
        url = server().url(migrated()).replace("postgresql:", "postgresql+psycopg:")
        engine = create_engine(url, poolclass=NullPool)
        with engine.connect() as opened:
            difference = compare_metadata(MigrationContext.configure(opened), metadata)

        # What only a server needs is only in its migration; a flag is a small integer there.
        others = [each for each in difference if isinstance(each, tuple)]
        self.assertEqual(
            [
                ("remove_index", "messages_leased"),
                # They end with the key, as SQLite's do.
                *(
                    (what, name)
                    for name in ("messages_claim", "messages_destination")
                    for what in ("remove_index", "add_index")
                ),
            ],
            [(what, found.name) for what, found in others],
        )
        for ((what, _, _, _, _, before, after),) in (
            each for each in difference if isinstance(each, list)
        ):
            self.assertEqual(
                ("modify_type", "SMALLINT", "BOOLEAN"), (what, str(before), str(after))
            )

    def test_two_at_once(self) -> None:
        """Of two nodes that find an empty database, one migrates it and the other finds it done."""
        dialled = Server(server().url(server().database()), 0.0, "tests")

        self.assertEqual(newest(), migrate(dialled))
        self.assertEqual(newest(), migrate(dialled))

    def test_a_newer_schema_is_refused(self) -> None:
        """A database of a newer program is refused, and not touched."""
        server().leave(migrated())
        name = server().database(migrated())
        server().sql(name, "UPDATE alembic_version SET version_num='9999'")

        error = self.assertRaises(StoreRefused, store(server().url(name)).open)

        self.assertIn("'9999'", str(error))
        self.assertIn("newer", str(error))
        self.assertEqual([], server().sql(name, "SELECT name FROM settings"))


class RefusalTests(SynchronousTestCase):
    def refusal(self, url: str, key: str | None = None) -> str:
        error = self.assertRaises(StoreRefused, store(url, key).open)
        self.assertNotIn(":secret", str(error))
        return str(error)

    def test_nobody_there(self) -> None:
        """No server: one line with where it should be, and without the password."""
        said = self.refusal("postgresql://me:secret@127.0.0.1:9/mail")
        self.assertIn("127.0.0.1", said)
        self.assertNotIn("\n", said)

    def test_wrong_password(self) -> None:
        """A refused login is told as the server tells it."""
        url = server().url("postgres").replace(":secret@", ":secret1@")
        self.assertIn("password authentication failed", self.refusal(url))

    def test_encoding(self) -> None:
        """A database that cannot keep all of Unicode is refused."""
        server().sql("postgres", "DROP DATABASE IF EXISTS latin")
        server().sql("postgres", "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
        self.assertIn("LATIN1", self.refusal(server().url("latin")))

    def test_another_key(self) -> None:
        """Secrets sealed with another key are not opened: the start is refused."""
        opened = Opened(FakeClock())
        self.addCleanup(opened.close)
        self.assertIn("GMP_ENCRYPTION_KEY", self.refusal(server().url(opened.name), new_key()))


class SessionTests(SynchronousTestCase):
    def test_durable(self) -> None:
        """A database whose commits are not safe by default: those of the store are."""
        name = server().database()
        server().sql(name, f"ALTER DATABASE {name} SET synchronous_commit = off")
        connection = Server(server().url(name), 0.0, "tests").connect()
        self.addCleanup(connection.close)

        self.assertEqual([("on",)], connection.execute("SHOW synchronous_commit").fetchall())

    def test_named(self) -> None:
        """The server's list of connections tells which node is whose."""
        connection = Server(server().url("postgres"), 0.0, "abcd").connect()
        self.addCleanup(connection.close)
        found = psycopg.connect(server().url("postgres"))
        self.addCleanup(found.close)

        names = found.execute("SELECT application_name FROM pg_stat_activity").fetchall()
        self.assertIn(("mailproxy abcd",), names)
