"""A queue is moved from one database to another: all of it, or nothing; and then served once."""

from __future__ import annotations

import random
import sqlite3
import tracemalloc
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Boolean, Float, Integer, LargeBinary, SmallInteger, Table
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.clock import Names
from mailproxy.crypto import Sealer, new_key
from mailproxy.errors import StoreRefused
from mailproxy.store.embedded import EmbeddedStore
from mailproxy.store.move import Moved, move, take_back
from mailproxy.store.moving import LOCAL, TABLES, Mark, Side, columns, select
from mailproxy.store.moving_file import FileSide
from mailproxy.store.moving_server import ServerSide
from mailproxy.store.postgres import PostgresStore
from tests.fakes import FakeClock
from tests.postgres import server
from tests.store.opened import empty_database, fresh
from tests.store.postgres_opened import migrated

KEY = new_key()
SEALER = Sealer([KEY])

#: Columns with secrets; what is in them has to open.
SEALED = {"accounts.password", "tenants.signing_secret", "dkim_keys.private"}

#: Columns whose value is read when keys are checked.
EMPTY = {"tenants.client_auth"}

TEXTS = ("", "a", "ä\u20ac\U0001f4e7", 'it\'s "quoted" \\ {a,b}', "two\r\nlines\t", "NULL", "\\N")
FLOATS = (0.0, -0.0, 0.1, 1e18, 1_700_000_000.123457, 5e-324, 1.7e308, -1.5, float("inf"))


def mark(place: str) -> Mark:
    return Mark("1" * 32, place, 1_700_000_000.0)


def value(rng: random.Random, table: Table, column: Any, n: int) -> Any:
    """Something that the column may hold; *n* makes keys differ."""
    name, kind = f"{table.name}.{column.name}", column.type
    unique = column.primary_key or any(
        index.unique and column.name in index.columns for index in table.indexes
    )
    if name in EMPTY or (column.nullable and rng.random() < 0.3):
        return None
    if name in SEALED:
        return SEALER.seal(rng.choice(TEXTS))
    if isinstance(kind, Boolean):
        return rng.randrange(2)
    if isinstance(kind, SmallInteger):
        return rng.choice((0, 1, 32767, -32768))
    if isinstance(kind, Integer):
        big = 2**62 if "BIGINT" in str(kind) else 2**31 - 100
        return n if unique else n + rng.choice((0, 7, big))
    if isinstance(kind, Float):
        return rng.choice(FLOATS)
    if isinstance(kind, LargeBinary):
        return b"%d" % n if unique else rng.randbytes(rng.choice((0, 1, 32, 3000)))
    return rng.choice(TEXTS) + (f" {n}" if unique else "")


def fill(path: Path, rng: random.Random, most: int = 6) -> None:
    """A migrated file with rows of all sorts in all tables."""
    path.write_bytes(empty_database())
    with changing(path) as connection:
        for table in TABLES:
            places = ", ".join("?" * len(table.columns))
            rows = [
                [value(rng, table, column, n) for column in table.columns]
                for n in range(rng.randrange(most))
            ]
            connection.executemany(
                f"INSERT INTO {table.name} ({columns(table)}) VALUES ({places})", rows
            )
        keep(connection, "key_check", SEALER.check_value())


@contextmanager
def changing(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as connection, connection:
        yield connection


def keep(connection: sqlite3.Connection, name: str, value: str) -> None:
    connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))


def content(path: Path) -> dict[str, list[Any]]:
    with changing(path) as connection:
        return {each.name: connection.execute(select(each)).fetchall() for each in TABLES}


def run(source: Side, target: Side, sealer: Sealer = SEALER) -> Moved:
    told: list[tuple[str, int, int]] = []
    done = move(source, target, sealer, mark(target.place), lambda *each: told.append(each))
    if not done.already:
        assert {table for table, _, _ in told} == {each.name for each in TABLES}
        assert all(done <= total for _, done, total in told)
    return done


def database() -> str:
    """An empty database of this program's schema on the server."""
    server().leave(migrated())
    return server().database(migrated())


def on_server(name: str) -> ServerSide:
    return ServerSide(server().url(name), f"server:{name}")


class MoveCase(SynchronousTestCase):
    """:ivar path: a filled file."""

    def setUp(self) -> None:
        self.folder = fresh(self)
        self.folder.mkdir()
        self.path = self.folder / "mail.db"
        fill(self.path, random.Random(5))

    def refused(self, source: Side, target: Side, why: str, sealer: Sealer = SEALER) -> None:
        """The move is refused, and can be tried again: everybody was let in again."""
        error = self.assertRaises(StoreRefused, run, source, target, sealer)
        self.assertIn(why, str(error))
        self.assertNotIn("secret@", str(error))

    def file_store(self, path: Path) -> EmbeddedStore:
        return EmbeddedStore(path, **self.common())

    def server_store(self, name: str) -> PostgresStore:
        return PostgresStore(server().url(name), **self.common())

    def common(self) -> dict[str, Any]:
        names = Names(random.Random(3))
        return {"clock": FakeClock(), "names": names, "sealer": SEALER, "reactor": None}

    def marks(self, path: Path) -> set[str]:
        with changing(path) as connection:
            names = {row[0] for row in connection.execute("SELECT name FROM settings")}
        return names & set(LOCAL)


class RoundTests(SynchronousTestCase):
    @settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, 2**32))
    def test_there_and_back(self, seed: int) -> None:
        """Whatever is in a queue comes back from the server as it was, into a new file."""
        folder = fresh(self)
        folder.mkdir()
        old, new = folder / "old.db", folder / "new.db"
        fill(old, random.Random(seed))
        before, name = content(old), database()

        there = run(FileSide(old), on_server(name))
        back = run(on_server(name), FileSide(new))

        self.assertEqual(before, content(new))
        self.assertEqual(there.tables, back.tables)
        self.assertEqual(
            {table: len(rows) for table, rows in before.items()},
            {each.table: each.rows for each in there.tables},
        )
        self.assertEqual(0o600, new.stat().st_mode & 0o777)


class MoveTests(MoveCase):
    def test_file_to_file(self) -> None:
        """From file to file; no digest is that of another table with rows."""
        new = self.folder / "new.db"
        done = run(FileSide(self.path), FileSide(new))
        self.assertEqual(content(self.path), content(new))
        filled = [each.digest for each in done.tables if each.rows]
        self.assertEqual(len(filled), len(set(filled)))
        self.assertEqual(({"moved"}, {"came"}), (self.marks(self.path), self.marks(new)))

    def test_new_keys(self) -> None:
        """What the next node stores comes after everything that was moved."""
        name, key = database(), 9 * 10**15
        with changing(self.path) as connection:
            connection.execute(
                "INSERT INTO command_log (pk, at, command) VALUES (?, 0, '')", (key,)
            )
            keep(connection, "greatest_pk", "17")
        run(FileSide(self.path), on_server(name))
        found = server().sql(name, "SELECT value FROM settings WHERE name = 'greatest_pk'")
        self.assertEqual([(str(key),)], found)

    def test_no_nul(self) -> None:
        """A server keeps no NUL in a text: it is replaced, as when the service writes it."""
        name = database()
        with changing(self.path) as connection:
            connection.execute("DELETE FROM recipients")
            connection.execute(
                "INSERT INTO recipients (message_pk, n, address, kind, state, reply) "
                "VALUES (1, 0, 'a', 'to', 'sent', ?)",
                ("250 o\0k",),
            )
        done = run(FileSide(self.path), on_server(name))
        self.assertEqual([("250 o\ufffdk",)], server().sql(name, "SELECT reply FROM recipients"))
        self.assertEqual(["recipients"], [each.table for each in done.tables if each.changed])

    def test_little_memory(self) -> None:
        """Rows pass through one by one: 32 MB take a few."""
        name, new = database(), self.folder / "new.db"
        with changing(self.path) as connection:
            rows: Iterable[Any] = ((1, 0, n, bytes(256 * 1024)) for n in range(1000, 1128))
            connection.executemany("INSERT INTO chunks VALUES (?, ?, ?, ?)", rows)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        run(FileSide(self.path), on_server(name))
        run(on_server(name), FileSide(new))
        self.assertLess(tracemalloc.get_traced_memory()[1], 6 * 2**20)
        self.assertEqual(content(self.path)["chunks"], content(new)["chunks"])


class ServedOnceTests(MoveCase):
    """Two services on two copies would send what waits twice."""

    def test_moved_file(self) -> None:
        """A file that was moved is not served; taken back it is."""
        new = self.folder / "new.db"
        run(FileSide(self.path), FileSide(new))
        error = self.assertRaises(StoreRefused, self.file_store(self.path).open)
        self.assertIn(f"was moved to sqlite:{new} (2023-11-14", str(error))
        self.assertEqual(f"sqlite:{new}", take_back(FileSide(self.path)).place)
        for path in (self.path, new):
            store = self.file_store(path)
            store.open()
            self.successResultOf(store.close())

    def test_moved_server(self) -> None:
        """A database that was moved is not served, and the node that tried is gone."""
        name, new = database(), self.folder / "new.db"
        run(FileSide(self.path), on_server(name))
        run(on_server(name), FileSide(new))
        error = self.assertRaises(StoreRefused, self.server_store(name).open)
        self.assertIn("was moved to", str(error))
        self.assertEqual([], server().sql(name, "SELECT id FROM nodes"))
        take_back(on_server(name))
        store = self.server_store(name)
        store.open()
        self.successResultOf(store.close())

    def test_not_moved(self) -> None:
        """What was not moved cannot be taken back."""
        error = self.assertRaises(StoreRefused, take_back, FileSide(self.path))
        self.assertIn("was not moved", str(error))

    def test_elsewhere(self) -> None:
        """A queue that was moved is not moved to a second place."""
        run(FileSide(self.path), FileSide(self.folder / "new.db"))
        self.refused(FileSide(self.path), FileSide(self.folder / "third.db"), "was moved to")
        self.assertFalse((self.folder / "third.db").exists())

    def test_twice(self) -> None:
        """The same command again finds it done."""
        name = database()
        first = run(FileSide(self.path), on_server(name))
        second = run(FileSide(self.path), on_server(name))
        self.assertEqual((first.mark, True), (second.mark, second.already))

    def test_cut_off(self) -> None:
        """Cut off between mark and copy, nothing is served; the same command goes on."""
        name = database()

        class CutOff(ServerSide):
            def commit(self) -> None:
                self._raw.close()
                super().commit()

        target = CutOff(server().url(name), f"server:{name}")
        self.refused(FileSide(self.path), target, "run the same command again")
        self.assertRaises(StoreRefused, self.file_store(self.path).open)
        self.assertEqual([], server().sql(name, "SELECT name FROM settings"))

        self.assertFalse(run(FileSide(self.path), on_server(name)).already)
        self.assertEqual(
            len(content(self.path)["messages"]),
            len(server().sql(name, "SELECT pk FROM messages")),
        )


class RefusalTests(MoveCase):
    """Whatever is refused leaves the source as it was."""

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(self.unmarked)

    def unmarked(self) -> None:
        self.assertEqual(set(), self.marks(self.path) & {"moved", "came"})

    def test_served_file(self) -> None:
        """A service has the file."""
        store = self.file_store(self.path)
        store.open()
        self.refused(FileSide(self.path), FileSide(self.folder / "new.db"), "is locked")
        self.successResultOf(store.close())

    def test_live_node(self) -> None:
        """A node has the database, as source or as target; a dead one has not."""
        name, new = database(), self.folder / "new.db"
        store = self.server_store(name)
        store.open()
        self.refused(on_server(name), FileSide(new), "1 nodes have server:")
        self.refused(FileSide(self.path), on_server(name), "1 nodes have server:")
        server().sql(name, "UPDATE nodes SET alive_until = 0")
        run(on_server(name), FileSide(new))
        self.successResultOf(store.close())

    def test_node_starts_meanwhile(self) -> None:
        """Who starts while a queue is moved waits, and finds it moved."""
        name = database()
        server().sql(name, f"INSERT INTO settings VALUES ('key_check', '{SEALER.check_value()}')")
        refusals: list[str] = []

        class Slow(FileSide):
            def finish(side) -> None:
                with psycopg.connect(server().url(name), autocommit=True) as other:
                    other.execute("SET lock_timeout = '50ms'")
                    try:
                        other.execute("INSERT INTO nodes VALUES ('n', 0, 1e10)")
                    except psycopg.errors.LockNotAvailable as error:
                        refusals.append(str(error))

        run(on_server(name), Slow(self.folder / "new.db"))
        self.assertEqual(1, len(refusals))

    def test_not_empty(self) -> None:
        """Something is in the target: it is named, and stays."""
        new = self.folder / "new.db"
        new.write_bytes(empty_database())
        with changing(new) as connection:
            connection.execute("INSERT INTO suspensions VALUES ('', '', 0)")
        self.refused(FileSide(self.path), FileSide(new), "rows in its table suspensions")
        self.assertEqual([("", "", 0.0)], content(new)["suspensions"])

    def test_another_tenant(self) -> None:
        """The tenant that migrations make is none; another is."""
        name = database()
        server().sql(name, "INSERT INTO tenants (id, created_at, updated_at) VALUES ('acme', 0, 0)")
        self.refused(FileSide(self.path), on_server(name), "rows in its table tenants")

    def test_key(self) -> None:
        """Another key would leave secrets behind that nobody can open."""
        new = self.folder / "new.db"
        self.refused(FileSide(self.path), FileSide(new), "encryption key", Sealer([new_key()]))
        self.assertFalse(new.exists())

    def test_damaged_text(self) -> None:
        """What the source cannot give is said, with the table."""
        with changing(self.path) as connection:
            connection.execute("INSERT INTO suspensions VALUES ('t', CAST(x'ff' AS TEXT), 0)")
        self.refused(FileSide(self.path), on_server(database()), "its table suspensions")

    def test_other_schema(self) -> None:
        """Source and target have the schema of this program."""
        old = self.folder / "old.db"
        old.write_bytes(empty_database())
        with changing(old) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '0001'")
        self.refused(FileSide(old), FileSide(self.folder / "new.db"), "`mailproxy migrate`")
        self.refused(FileSide(self.path), FileSide(old), "has schema 0001")

    def test_no_queue(self) -> None:
        """A source that is not there is not made; one without our tables is named."""
        other = self.folder / "other.db"
        self.refused(FileSide(other), on_server(database()), "there is no file")
        self.assertFalse(other.exists())
        with changing(other) as connection:
            connection.execute("CREATE TABLE t (x)")
        self.refused(FileSide(other), on_server(database()), "there is no queue")
        self.refused(on_server(server().database()), FileSide(other), "there is no queue")
        nowhere = FileSide(self.folder / "nowhere" / "new.db")
        self.refused(FileSide(self.path), nowhere, "there is no directory")

    def test_does_not_give_back(self) -> None:
        """A target that keeps something else than it was given is noticed."""
        name = database()
        server().sql(
            name,
            "CREATE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN NEW.since := NEW.since + 1; RETURN NEW; END $$; "
            "CREATE TRIGGER other BEFORE INSERT ON suspensions "
            "FOR EACH ROW EXECUTE FUNCTION other()",
        )
        with changing(self.path) as connection:
            connection.execute("INSERT INTO suspensions VALUES ('t', 'b', 1.5)")
        self.refused(FileSide(self.path), on_server(name), "does not give back")
        self.assertEqual([], server().sql(name, "SELECT pk FROM messages"))

    def test_too_large(self) -> None:
        """A number that a column of the server cannot hold is noticed."""
        with changing(self.path) as connection:
            connection.execute("UPDATE messages SET priority = 100000")
        self.refused(FileSide(self.path), on_server(database()), "into its table messages")
