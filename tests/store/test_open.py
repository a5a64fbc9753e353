"""Opening a store: one process, one schema, one key, and commits that last."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.clock import Names
from mailproxy.crypto import Sealer, new_key
from mailproxy.errors import StoreRefused
from mailproxy.store.database import Database, connect
from mailproxy.store.embedded import EmbeddedStore
from mailproxy.store.migrate import MIGRATIONS, migrate, newest
from mailproxy.store.tables import metadata
from tests.build import new_message
from tests.fakes import FakeClock, result
from tests.store.opened import Opened, empty_database, fresh


class OpenCase(SynchronousTestCase):
    def opened(self) -> Opened:
        made = Opened(fresh(self), FakeClock(), random.Random(1))
        self.addCleanup(made.close)
        return made

    def another(self, path: Path) -> EmbeddedStore:
        """A store of another process, with a key of its own; not opened."""
        return EmbeddedStore(
            path,
            clock=FakeClock(),
            names=Names(random.Random(2)),
            sealer=Sealer([new_key()]),
            reactor=None,
        )


class ListedTests(OpenCase):
    """The process that has the file is listed, and no other as alive."""

    def test_a_kill(self) -> None:
        """Whoever was killed is known to be dead as soon as the file has been opened again."""
        opened = self.opened()
        killed, now = opened.store.node_id, FakeClock().now()
        result(opened.store.heartbeat(now))

        new = opened.killed()

        listed = {each.id: (each.alive, each.alive_until) for each in result(new.nodes(now))}
        self.assertEqual({killed: (False, now), new.node_id: (True, now + 60.0)}, listed)

    def test_the_start_that_is_stored(self) -> None:
        """What is stored of a process with its first heartbeat is when it started."""
        clock = FakeClock()
        opened = Opened(fresh(self), clock)
        self.addCleanup(opened.close)
        started_at = clock.now()
        clock.advance(20.0)
        result(opened.store.heartbeat(clock.now()))

        self.assertEqual([(started_at,)], opened.sql("SELECT started_at FROM nodes"))


class LockTests(OpenCase):
    """F19: one process, one file."""

    def test_a_second_process_is_refused(self) -> None:
        """A second process is refused in one line that names the file, and harms nothing."""
        opened = self.opened()
        second = opened.make(opened.path)

        error = self.assertRaises(StoreRefused, second.open)

        self.assertIn(f"{opened.path}.lock", str(error))
        self.assertNotIn("\n", str(error))
        self.assertEqual([], result(opened.store.accounts(None)))

    def test_the_lock_ends_with_the_store(self) -> None:
        """What one process has closed, the next may open."""
        opened = self.opened()
        self.successResultOf(opened.store.close())

        second = opened.make(opened.path)
        second.startService()

        self.addCleanup(second.stopService)
        self.assertTrue(second.healthy())

    def test_nothing_is_opened_before_the_start(self) -> None:
        """Making a store touches no file, so that a daemon may fork first."""
        folder = fresh(self)
        folder.mkdir()

        self.another(folder / "mail.db")

        self.assertEqual([], list(folder.iterdir()))

    def test_no_such_directory(self) -> None:
        """A path that cannot be is refused in one line."""
        store = self.another(fresh(self) / "missing" / "mail.db")

        error = self.assertRaises(StoreRefused, store.open)

        self.assertIn("missing", str(error))

    def test_not_a_database(self) -> None:
        """A file that is no database is refused and stays as it is."""
        path = fresh(self)
        path.write_bytes(b"something else entirely" * 100)

        self.assertRaises(StoreRefused, self.another(path).open)

        self.assertEqual(b"something else entirely" * 100, path.read_bytes())


class SchemaTests(OpenCase):
    """F18: the schema is ours, or we do not start."""

    def test_the_migrations_make_the_tables(self) -> None:
        """The migrations lead to exactly the tables that the program knows."""
        connection = connect(str(fresh(self)))
        migrate(connection)
        engine = create_engine("sqlite://", creator=lambda: connection)
        with engine.connect() as opened:
            context = MigrationContext.configure(opened)

            difference = compare_metadata(context, metadata)

        self.assertEqual([], difference)

    def test_migrating_twice(self) -> None:
        """A database that is up to date is left as it is."""
        connection = connect(str(fresh(self)))
        self.addCleanup(connection.close)

        self.assertEqual(migrate(connection), migrate(connection))

    def test_the_default_tenant_exists(self) -> None:
        """The tenant ``default`` is there from the first migration."""
        connection = connect(str(fresh(self)))
        self.addCleanup(connection.close)

        migrate(connection)

        found = connection.execute("SELECT id, active FROM tenants").fetchall()
        self.assertEqual([("default", 1)], found)

    def test_a_newer_schema_is_refused(self) -> None:
        """A database of a newer program is refused, and not touched."""
        opened = self.opened()
        self.successResultOf(opened.store.close())
        opened.sql("UPDATE alembic_version SET version_num='9999'")
        before = opened.path.read_bytes()

        error = self.assertRaises(StoreRefused, opened.make(opened.path).open)

        self.assertIn("9999", str(error))
        self.assertEqual(before, opened.path.read_bytes())

    def test_the_newest_revision(self) -> None:
        """The program knows its own revision without asking what makes the steps."""
        script = Config()
        script.set_main_option("script_location", str(MIGRATIONS))
        self.assertEqual([newest()], ScriptDirectory.from_config(script).get_heads())

    def test_a_start_loads_nothing_for_steps_it_does_not_make(self) -> None:
        """Where the schema is the program's own, opening the store does not load Alembic."""
        path = fresh(self)
        path.write_bytes(empty_database())
        program = (
            "import sys; from mailproxy.store.database import connect; "
            "from mailproxy.store.migrate import migrate; import mailproxy.service; "
            f"print(migrate(connect({str(path)!r})), 'alembic' in sys.modules)"
        )
        said = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60.0
        )
        self.assertEqual(f"{newest()} False\n", said.stdout, said.stderr)

    def test_a_failed_migration_leaves_nothing(self) -> None:
        """A migration that fails half-way leaves the database as it was."""
        folder = fresh(self)
        versions = folder / "versions"
        versions.mkdir(parents=True)
        source = Path(migrate.__code__.co_filename).with_name("migrations") / "env.py"
        (folder / "env.py").write_text(source.read_text())
        (versions / "0001_half.py").write_text(
            "import sqlalchemy as sa\n"
            "from alembic import op\n"
            "revision = '0001'\n"
            "down_revision = None\n"
            "def upgrade():\n"
            "    op.create_table('half', sa.Column('pk', sa.Integer))\n"
            "    op.execute('INSERT INTO nowhere VALUES (1)')\n"
        )
        connection = connect(str(fresh(self)))
        self.addCleanup(connection.close)

        error = self.assertRaises(StoreRefused, migrate, connection, folder)

        self.assertIn("nowhere", str(error))
        self.assertEqual([], connection.execute("SELECT name FROM sqlite_master").fetchall())
        self.assertFalse(connection.in_transaction)


class KeyTests(OpenCase):
    """F20: a wrong key is a clear refusal."""

    def test_another_key_is_refused(self) -> None:
        """F20: a database made with another key is refused in words, and its lock given back."""
        opened = self.opened()
        self.successResultOf(opened.store.close())

        error = self.assertRaises(StoreRefused, self.another(opened.path).open)

        self.assertIn("encryption key", str(error))
        opened.store.open()
        self.assertTrue(opened.store.healthy())


class DurabilityTests(OpenCase):
    """An answer means that the data is on the disk."""

    def test_the_writer_syncs_each_commit(self) -> None:
        """The writing connection has a write-ahead log and ``synchronous=FULL``."""
        made: list[sqlite3.Connection] = []

        def remember(path: str) -> sqlite3.Connection:
            made.append(connect(path))
            return made[-1]

        opened = Opened(fresh(self), FakeClock(), connect=remember)
        self.addCleanup(opened.close)
        result(opened.store.heartbeat(1.0))

        writer = made[0]
        self.assertEqual(("wal",), writer.execute("PRAGMA journal_mode").fetchone())
        self.assertEqual((2,), writer.execute("PRAGMA synchronous").fetchone())
        self.assertTrue(writer.total_changes)

    def test_readers_cannot_write(self) -> None:
        """A reading connection refuses to write."""
        opened = self.opened()
        reader = Database(opened.path, 1 << 20).open_reader()
        self.addCleanup(reader.close)

        self.assertRaises(sqlite3.OperationalError, reader.execute, "DELETE FROM tenants")

    def test_what_was_answered_is_in_the_file(self) -> None:
        """A copy of the files taken right after the answer has the message."""
        opened = self.opened()
        opened.sql("SELECT 1")
        result(opened.store.enqueue([new_message(account_id="none")], 1.0, 5.0))
        result(opened.store.suspend(None, None, 1.0))

        after = opened.killed()

        self.assertEqual(("*",), result(after.suspension(None)).batches)
