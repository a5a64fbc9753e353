"""A database that was not closed is looked through before anything is done with it."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.errors import StoreRefused
from mailproxy.store.database import connect
from mailproxy.store.embedded import EmbeddedStore
from mailproxy.store.options import StoreOptions
from mailproxy.store.soundness import left_open, look_through
from tests.build import account_spec, new_message
from tests.fakes import FakeClock, result
from tests.store.opened import Opened, fresh


class SoundnessTests(SynchronousTestCase):
    """F17: a page that is damaged."""

    def damaged(self, table: str, *, closed: bool = False, seconds: float = 10.0) -> EmbeddedStore:
        """The next process's store, not yet opened, on a file in which *table*'s root is torn."""
        options = StoreOptions(check_seconds=seconds)
        opened = Opened(fresh(self), FakeClock(), random.Random(1), options=options)
        self.addCleanup(opened.close)
        account = result(opened.store.put_account(account_spec(), 1.0))
        result(opened.store.enqueue([new_message(account_id=account.id)], 1.0, 5.0))
        opened.sql("PRAGMA wal_checkpoint(TRUNCATE)")
        (root,) = opened.sql("SELECT rootpage FROM sqlite_master WHERE name = ?", table)[0]
        (size,) = opened.sql("PRAGMA page_size")[0]
        self.path = fresh(self).with_suffix(".db")
        held = bytearray(opened.path.read_bytes())
        held[(root - 1) * size : (root - 1) * size + 8] = b"\xff" * 8
        self.path.write_bytes(held)
        if not closed:
            shutil.copyfile(f"{opened.path}-wal", f"{self.path}-wal")
        store = opened.make(self.path)
        self.addCleanup(store.close)
        return store

    def test_damage_is_refused(self) -> None:
        """F17: damage to what is to be done stops the start in one line; the file is left alone."""
        for name in ("recipients", "messages_claim"):
            store = self.damaged(name)
            before = self.path.read_bytes()

            error = self.assertRaises(StoreRefused, store.open)

            self.assertIn(str(self.path), str(error))
            self.assertIn("table messages" if "_" in name else name, str(error))
            self.assertNotIn("\n", str(error))
            self.assertEqual(before, self.path.read_bytes())

    def test_bodies_are_looked_at_when_they_are_sent(self) -> None:
        """F17: damage to bodies does not stop the start."""
        self.damaged("payloads").open()

    def test_not_without_need(self) -> None:
        """A database that was closed is not looked through, nor is any where that is turned off."""
        self.damaged("recipients", closed=True).open()
        self.damaged("recipients", seconds=0.0).open()

    def test_whether_it_was_closed(self) -> None:
        """A store that was closed has no log; one that was killed has."""
        opened = Opened(fresh(self), FakeClock(), random.Random(1))
        self.addCleanup(opened.close)
        self.assertTrue(left_open(opened.path))
        opened.killed()
        self.assertTrue(left_open(opened.path))
        self.successResultOf(opened.store.close())
        self.assertFalse(left_open(opened.path))

    def test_within_its_time(self) -> None:
        """When the time is up the start goes on, and the log says how far it came."""
        path = fresh(self)
        with closing(connect(str(path))) as connection:
            connection.execute("CREATE TABLE numbers (n INTEGER)")
            connection.execute(
                "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 20000) "
                "INSERT INTO numbers SELECT n FROM c"
            )
            ticks = iter(range(1_000_000))
            with capturedLogs() as said:
                look_through(connection, path, 0.5, lambda: float(next(ticks)))

            self.assertIn("0 of 1 tables", str(formatEvent(said[0])))
            self.assertEqual(20000, connection.execute("SELECT max(n) FROM numbers").fetchone()[0])

    def test_what_cannot_be_read_at_all(self) -> None:
        """F17: where the tables cannot even be listed, that is damage as well."""
        path: Path = fresh(self)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE settings (name TEXT)")
        held = path.read_bytes()
        path.write_bytes(held[:100] + b"\xff" * 200 + held[300:])
        with closing(sqlite3.connect(path)) as connection:
            error = self.assertRaises(StoreRefused, look_through, connection, path, 1.0, float)
        self.assertIn("malformed", str(error))
