"""A transaction that could not be synced does not come back, and a sick store is tried again."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.errors import StoreUnavailable
from mailproxy.store.burial import bury
from mailproxy.store.database import connect
from mailproxy.store.probing import PAUSE, Probing
from tests.fakes import FakeClock
from tests.store.opened import Opened, fresh


class BurialTests(SynchronousTestCase):
    def found_after_a_crash(self, buried: bool) -> list[tuple[str]]:
        """
        Bring about what a failed sync leaves: frames that are in the log, and in no index.

        :return: what is found when the log is read anew.
        """
        folder = fresh(self)
        folder.mkdir()
        path, log = folder / "mail.db", folder / "mail.db-wal"
        with closing(connect(str(path))) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT)")
            connection.execute("CREATE TABLE kept (name TEXT)")
            connection.execute("INSERT INTO settings VALUES ('serial', '1')")
            before = self.copied(folder, fresh(self))
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO kept VALUES ('refused')")
            connection.execute("UPDATE settings SET value='2' WHERE name='serial'")
            connection.execute("COMMIT")
            after = log.read_bytes()
        with closing(connect(str(before / "mail.db"))) as connection:
            connection.execute("SELECT * FROM kept").fetchall()  # it knows the log as it was
            old = (before / "mail.db-wal").read_bytes()
            self.assertEqual(old, after[: len(old)])
            with (before / "mail.db-wal").open("r+b") as file:
                file.seek(len(old))
                file.write(after[len(old) :])
            if buried:
                bury(connection, 2)
            crashed = self.copied(before, fresh(self))
        with closing(connect(str(crashed / "mail.db"))) as connection:
            return connection.execute("SELECT name FROM kept").fetchall()

    def copied(self, source: Path, target: Path) -> Path:
        """The database and its log, without the index: what is left after a crash."""
        target.mkdir()
        for name in ("mail.db", "mail.db-wal"):
            shutil.copy(source / name, target / name)
        return target

    def test_it_would_come_back(self) -> None:
        """F14: what a failed sync leaves in the log is found after a crash."""
        self.assertEqual([("refused",)], self.found_after_a_crash(buried=False))

    def test_it_does_not_come_back(self) -> None:
        """F14: what was buried is not."""
        self.assertEqual([], self.found_after_a_crash(buried=True))

    def test_a_connection_that_takes_nothing(self) -> None:
        """Where nothing can be written, burying leaves no transaction open and raises nothing."""
        path = fresh(self)
        with closing(connect(str(path))) as connection:
            connection.execute("CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT)")
            connection.execute("PRAGMA query_only=ON")

            bury(connection, 2)

            self.assertFalse(connection.in_transaction)


class ProbingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.tries: list[Deferred[None]] = []
        self.probing = Probing(self.clock, self.write)

    def write(self) -> Deferred[None]:
        self.tries.append(Deferred())
        return self.tries[-1]

    def test_until_it_succeeds(self) -> None:
        """A store that refused is tried again, one try at a time, until it takes a write."""
        self.probing.told(healthy=False)
        self.probing.told(healthy=False)
        self.clock.advance(PAUSE)
        self.assertEqual(1, len(self.tries))
        self.probing.told(healthy=False)
        self.clock.advance(PAUSE)
        self.assertEqual(1, len(self.tries))
        self.tries[0].errback(StoreUnavailable("still full"))
        self.clock.advance(PAUSE)
        self.assertEqual(2, len(self.tries))
        self.tries[1].callback(None)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_not_needed_any_more(self) -> None:
        """A write of somebody else's that goes through ends it, and so does the store's end."""
        self.probing.told(healthy=False)
        self.probing.told(healthy=True)
        self.assertEqual([], self.clock.getDelayedCalls())
        self.probing.told(healthy=False)
        self.probing.stop()
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_a_store_recovers_by_itself(self) -> None:
        """F12: a store with no room is not healthy; with room it is again, and nobody asked."""
        made: list[sqlite3.Connection] = []

        def remember(path: str) -> sqlite3.Connection:
            made.append(connect(path))
            return made[-1]

        clock = FakeClock()
        opened = Opened(fresh(self), clock, random.Random(1), connect=remember)
        self.addCleanup(opened.close)
        made[0].execute("PRAGMA query_only=ON")
        refused = Deferred.fromCoroutine(opened.store.heartbeat(clock.now()))
        self.failureResultOf(refused, StoreUnavailable)
        clock.advance(PAUSE)
        self.assertFalse(opened.store.healthy())

        made[0].execute("PRAGMA query_only=OFF")
        clock.advance(PAUSE)

        self.assertTrue(opened.store.healthy())
