"""``mailproxy migrate``, up and down, on both databases."""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.__main__ import group
from mailproxy.crypto import new_key
from mailproxy.store.database import LockFile
from mailproxy.store.migrate import newest
from tests.postgres import server
from tests.scenarios.processes import TOKEN


class MigrateCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.environment = {"GMP_API_TOKEN": TOKEN, "GMP_ENCRYPTION_KEY": new_key()}

    def migrate(self, *arguments: str) -> Result:
        return CliRunner().invoke(group(), ["migrate", *arguments], env=self.environment)

    def assertAt(self, revision: str, *arguments: str) -> None:
        found = self.migrate(*arguments)
        self.assertEqual((0, f"{revision}\n"), (found.exit_code, found.output))

    def assertRefused(self, why: str, *arguments: str) -> None:
        found = self.migrate(*arguments)
        self.assertEqual(2, found.exit_code, found.output)
        self.assertIn(why, found.output)


class FileTests(MigrateCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = Path(tempfile.mkdtemp(prefix="mailproxy-migrate-")) / "mail.db"
        self.environment["GMP_DB_PATH"] = str(self.path)

    def columns(self) -> set[str]:
        connection = sqlite3.connect(self.path)
        try:
            return {row[1] for row in connection.execute("PRAGMA table_info(nodes)")}
        finally:
            connection.close()

    def test_up_and_down(self) -> None:
        """From nothing to the newest, all the way back to the first, and up again."""
        self.assertAt(newest())
        self.assertIn("version", self.columns())
        self.assertAt("0001", "--to", "0001")
        self.assertNotIn("version", self.columns())
        self.assertAt("0003", "--to", "0003")
        self.assertAt(newest())
        self.assertIn("version", self.columns())

    def test_unknown(self) -> None:
        """A revision that does not exist is refused, and nothing is changed."""
        self.assertAt("0002", "--to", "0002")
        self.assertRefused("there is no schema '7'", "--to", "7")
        self.assertNotIn("version", self.columns())

    def test_taken(self) -> None:
        """A database that a service has is left alone."""
        self.assertAt(newest())
        lock = LockFile(self.path.with_name("mail.db.lock"))
        lock.acquire()
        self.addCleanup(lock.release)
        self.assertRefused("another process has the store", "--to", "0001")


class ServerTests(MigrateCase):
    def setUp(self) -> None:
        super().setUp()
        self.name = server().database()
        self.environment["GMP_DB_PATH"] = server().url(self.name)

    def test_up_and_down(self) -> None:
        """The same on a server."""
        self.assertAt(newest())
        self.assertAt("0001", "--to", "0001")
        self.assertAt(newest())

    def test_taken(self) -> None:
        """While a node lives there is no way back; a newer schema it can live with."""
        self.assertAt(newest())
        server().sql(
            self.name,
            "INSERT INTO nodes (id, started_at, alive_until) VALUES ('n', 0, 1e10)",
        )
        self.assertRefused("1 nodes have the database", "--to", "0001")
        self.assertAt(newest())

    def test_away(self) -> None:
        """No server is one line, without the password."""
        self.environment["GMP_DB_PATH"] = "postgresql://me:hunter2@127.0.0.1:9/mail"
        self.assertRefused("cannot open the database")
        self.assertNotIn("hunter2", self.migrate().output)
