"""Copies of a database that is written to while they are made."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.errors import StoreRefused
from mailproxy.store import backup
from mailproxy.store.backup import back_up, put_back
from tests.build import account_spec, new_message
from tests.fakes import FakeClock, result
from tests.store.opened import Opened, fresh

#: More than one step of a copy takes.
LARGE = backup.STEP * 4096 * 2


class BackupTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = FakeClock()
        self.opened = Opened(fresh(self), self.clock)
        self.addCleanup(self.opened.close)
        self.store = self.opened.store
        result(self.store.put_account(account_spec(), self.clock.now()))
        self.target = self.opened.path.with_name("copy.db")

    def add(self, *ids: str) -> None:
        messages = [new_message(id=id) for id in ids]
        result(self.store.enqueue(messages, self.clock.now(), 5.0))

    def ids(self, path: Path) -> set[str]:
        connection = sqlite3.connect(path)
        try:
            return {row[0] for row in connection.execute("SELECT id FROM messages")}
        finally:
            connection.close()

    def files(self) -> set[str]:
        names = {path.name for path in self.opened.path.parent.iterdir()}
        return {name for name in names if not name.startswith("mail.db")}

    def test_one_instant(self) -> None:
        """What is committed while it is copied is not in it, and does not begin it anew."""
        self.add("before")
        self.opened.sql("CREATE TABLE large (data BLOB)")
        self.opened.sql("INSERT INTO large VALUES (zeroblob(?))", LARGE)
        steps: list[int] = []

        def told(done: int, total: int) -> None:
            steps.append(done)
            self.add(f"during {len(steps)}")

        copied = back_up(self.opened.path, self.target, told)

        self.assertGreater(len(steps), 2)
        self.assertEqual(sorted(steps), steps)
        self.assertEqual({"before"}, self.ids(self.target))
        self.assertEqual((1, 1), (copied.messages, copied.unfinished))
        self.assertEqual(self.target.stat().st_size, copied.size)
        self.assertIn("during 1", self.ids(self.opened.path))
        self.assertEqual({"copy.db"}, self.files())

    def test_by_itself(self) -> None:
        """The copy is one file that needs no other, though the database has a log."""
        self.add("a")
        self.assertTrue(Path(f"{self.opened.path}-wal").exists())
        back_up(self.opened.path, self.target, lambda _done, _total: None)
        self.target.chmod(0o400)
        connection = sqlite3.connect(f"file:{self.target}?immutable=1", uri=True)
        self.addCleanup(connection.close)
        self.assertEqual("delete", connection.execute("PRAGMA journal_mode").fetchone()[0])
        self.assertEqual(1, connection.execute("SELECT count(*) FROM messages").fetchone()[0])

    def test_given_up(self) -> None:
        """An interruption in the middle leaves nothing behind."""

        def told(_done: int, _total: int) -> None:
            raise KeyboardInterrupt

        self.assertRaises(KeyboardInterrupt, back_up, self.opened.path, self.target, told)
        self.assertEqual(set(), self.files())

    def test_cannot_be_written(self) -> None:
        """A directory that is not there is one line."""
        target = self.target.parent / "nowhere" / "copy.db"
        error = self.assertRaises(
            StoreRefused, back_up, self.opened.path, target, lambda _done, _total: None
        )
        self.assertIn(f"cannot write {target}", str(error))

    def test_interrupted_on_the_way_back(self) -> None:
        """A database that could not be made ready does not get its name."""
        back_up(self.opened.path, self.target, lambda _done, _total: None)
        database = self.target.with_name("new.db")

        def restore() -> None:
            with put_back(self.target, database, lambda _done, _total: None) as draft:
                Path(f"{draft}-wal").touch()
                raise KeyboardInterrupt

        self.assertRaises(KeyboardInterrupt, restore)
        self.assertEqual({"copy.db"}, self.files())
