"""The database of a torture run, and when its server is restarted."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import psycopg
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.proving.children import NotProven
from mailproxy.proving.torture_database import WAYS, Embedded, File, Given, Restarts
from tests.scratch import scratch


def at_once(seconds: float) -> None:
    """Do not wait."""


class Chosen(random.Random):
    """Draws the fewest, and the choice it was made with."""

    def __init__(self, way: str) -> None:
        super().__init__(1)
        self._way = way

    def choice(self, seq: object) -> str:  # type: ignore[override]
        return self._way


class RestartsTests(SynchronousTestCase):
    def restarts(self, database: File | Given, most: int | None = None) -> Restarts:
        made = Restarts(database, random.Random(1), (0.0, 0.0), most)
        made.begin()
        return made

    def test_nobody_can(self) -> None:
        """A file, and a server whose restart nobody told, are left alone."""
        for database in (File(Path("mail.db")), Given("postgresql://localhost/mail")):
            made = self.restarts(database)
            made.when_due(at_once)
            self.assertEqual(({}, None), (made.done, made.every))

    def test_by_command(self) -> None:
        """The command is run when it is time, so often at most; later that is known."""
        marks = scratch(self) / "restarted"
        made = self.restarts(Given("postgresql://localhost/mail", f"sh -c 'echo >> {marks}'"), 2)
        self.assertFalse(made.since(0.0))
        for _ in range(3):
            made.when_due(at_once)
        self.assertEqual(("\n\n", {"by command": 2}), (marks.read_text(), made.done))
        self.assertTrue(made.since(made.back_at))
        self.assertFalse(made.since(made.back_at + 0.001))

    def test_in_vain(self) -> None:
        """A command that fails, or is not there, ends the run; what it said is told."""
        for command, said in (
            ("sh -c 'echo too bad; exit 3'", "(3): too bad"),
            ("/none", "No such"),
        ):
            made = self.restarts(Given("postgresql://localhost/mail", command))
            error = self.assertRaises(NotProven, made.when_due, at_once)
            self.assertIn(said, str(error))


class EmbeddedTests(SynchronousTestCase):
    def test_restarted(self) -> None:
        """What was committed is there after either way to stop, and nothing runs at the end."""
        database = Embedded(scratch(self) / "postgres", {"fsync": "off"})
        self.addCleanup(database.end)
        database.begin()
        self.assertIn("fsync=off", database.kind)
        with psycopg.connect(database.url) as connection:
            connection.execute("CREATE TABLE t (way TEXT)")
        for way in WAYS:
            waited: list[float] = []
            with psycopg.connect(database.url) as connection:
                connection.execute("INSERT INTO t VALUES (%s)", [way])
            self.assertEqual(way, database.restart(Chosen(way), waited.append))
            self.assertEqual(1, len(waited))
        with psycopg.connect(database.url) as connection:
            found = connection.execute("SELECT way FROM t").fetchall()
        self.assertEqual([(way,) for way in WAYS], found)
        database.end()
        self.assertRaises(psycopg.OperationalError, psycopg.connect, database.url)
        self.assertEqual({signal.SIGINT, signal.SIGQUIT}, set(WAYS.values()))
