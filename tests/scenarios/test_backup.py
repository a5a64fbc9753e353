"""A backup of a running service, put back elsewhere: what was unfinished waits for an operator."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.__main__ import group
from mailproxy.acts import RESTORED
from mailproxy.crypto import new_key
from mailproxy.store.backup import examine
from mailproxy.store.migrate import newest
from tests.postgres import server
from tests.scenarios.processes import Service, SinkProcess, account, message, wait_until
from tests.scratch import scratch


class BackupTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = scratch(self)
        self.file = self.directory / "copy.db"

    def service(self, name: str, **settings: str) -> Service:
        folder = self.directory / name
        folder.mkdir()
        made = Service(folder, **settings)
        self.addCleanup(made.end)
        return made

    def run_on(self, service: Service, *arguments: str | Path) -> Result:
        environment = {k: v for k, v in service.settings.items() if k.startswith("GMP_")}
        return CliRunner().invoke(group(), [str(each) for each in arguments], env=environment)

    def test_there_and_back(self) -> None:
        """
        Sent while it goes on; put back: what had not ended is held and nothing of it is sent, what
        ended is reported again, a release sends, and accounts still log in with their passwords.
        """
        sink = SinkProcess(self.directory).start()
        self.addCleanup(sink.end)
        first = self.service("first", GMP_CLIENT_SYNC_URL="http://127.0.0.1:9/sync").start()
        first.call("POST", "/account", account(sink.smtp_port, id="main", user=None))
        first.add(message("done"))
        wait_until(lambda: first.states()["done"] == "sent", what="done to be sent")
        first.call("POST", "/commands/suspend")
        first.add(message("one"), message("two"), message("three"))

        done = self.run_on(first, "backup", self.file)

        self.assertEqual(0, done.exit_code, done.output)
        self.assertIn("4 messages, 3 of them unfinished", done.output)
        self.assertIn(str(self.directory / "first" / "encryption-key"), done.output)
        self.assertEqual(0o600, self.file.stat().st_mode & 0o777)
        self.assertEqual([], list(self.directory.glob(".copy.db*")))
        first.call("POST", "/commands/activate")  # they leave after the backup
        wait_until(lambda: set(first.states().values()) == {"sent"}, what="all to be sent")
        first.terminate()

        second = self.service("second", GMP_CLIENT_SYNC_URL=sink.sync_url)
        missing = self.run_on(second, "restore", self.file)
        self.assertEqual(2, missing.exit_code, missing.output)
        self.assertIn("GMP_ENCRYPTION_KEY", missing.output)
        self.assertFalse((self.directory / "second" / "mail.db").exists())
        key = (self.directory / "first" / "encryption-key").read_text()
        (self.directory / "second" / "encryption-key").write_text(key)
        back = self.run_on(second, "restore", self.file)
        self.assertEqual(0, back.exit_code, back.output)
        self.assertIn("3 messages were unfinished", back.output)

        second.start()
        second.call("POST", "/commands/activate")  # the copy was made while it was suspended
        held = dict.fromkeys(("one", "two", "three"), "held")
        self.assertEqual({"done": "sent"} | held, second.states())
        shown = second.call("GET", "/v1/messages/one").body["message"]
        self.assertEqual(RESTORED, shown["deferred_reason"])
        closed = second.call("POST", "/v1/messages/two/close", {"end": "sent"})
        self.assertEqual("sent", closed.body["state"])
        second.call("POST", "/v1/messages/one/release")
        wait_until(lambda: second.states()["one"] == "sent", what="one to be sent again")
        self.assertEqual("held", second.states()["three"])
        self.assertEqual(5, sink.get("/stats")["accepted"])  # four the first time, and one again
        wait_until(lambda: self.reported(second) == {"done", "one", "two"}, what="the reports")

        taken = self.run_on(second, "restore", self.file)
        self.assertEqual(1, taken.exit_code, taken.output)
        self.assertIn("another process has the store", taken.output)

    def reported(self, service: Service) -> set[str]:
        return {each["id"] for each in service.messages() if each["reported_ts"] is not None}


class RefusedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = scratch(self)
        self.database = self.directory / "mail.db"
        self.file = self.directory / "copy.db"
        self.environment = {
            "GMP_DB_PATH": str(self.database),
            "GMP_ENCRYPTION_KEY": new_key(),
            "GMP_API_TOKEN": "0123456789abcdef0123456789abcdef",
        }

    def invoke(self, *arguments: str | Path, **settings: str) -> Result:
        environment = self.environment | settings
        return CliRunner().invoke(group(), [str(each) for each in arguments], env=environment)

    def refused(self, status: int, why: str, *arguments: str | Path, **settings: str) -> None:
        done = self.invoke(*arguments, **settings)
        self.assertEqual(status, done.exit_code, done.output)
        self.assertIn(why, done.output)

    def make(self) -> None:
        """A database as a first start leaves it, and a copy of it."""
        self.assertEqual(0, self.invoke("migrate").exit_code)
        done = self.invoke("backup", self.file)
        self.assertEqual(0, done.exit_code, done.output)

    def test_nothing_is_overwritten(self) -> None:
        """Neither a file by a backup, nor a database by a restore."""
        self.refused(1, "there is no database", "backup", self.file)
        self.make()
        before = self.file.read_bytes()
        self.refused(1, f"{self.file} is there already", "backup", self.file)
        self.assertEqual(before, self.file.read_bytes())
        self.refused(1, f"{self.database} is there", "restore", self.file)
        self.database.rename(self.directory / "away")
        wal = Path(f"{self.database}-wal")
        wal.touch()
        self.refused(1, f"{wal} is there", "restore", self.file)

    def test_what_is_no_backup(self) -> None:
        """Another file, another database, a damaged one: refused, and nothing is left of them."""
        self.refused(1, "there is no file", "restore", self.file)
        self.file.write_bytes(b"no database at all, " * 500)
        self.refused(1, "file is not a database", "restore", self.file)
        self.file.unlink()
        sqlite3.connect(self.file).execute("CREATE TABLE x (y)").connection.close()
        self.refused(1, "no database of mailproxy", "restore", self.file)
        self.file.unlink()
        self.make()
        self.database.unlink()
        with self.file.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * 8192)
        self.refused(1, "mail.db", "restore", self.file)
        names = {path.name for path in self.directory.iterdir()} - {"mail.db.lock"}
        self.assertEqual({"copy.db"}, names)

    def test_another_key(self) -> None:
        """Passwords that could not be opened later are found out now."""
        self.assertEqual(0, self.invoke("migrate").exit_code)
        self.assertEqual(0, self.invoke("restore", "--hold-only").exit_code)  # as a start does
        self.assertEqual(0, self.invoke("backup", self.file).exit_code)
        self.database.unlink()
        self.refused(1, "key is not the one", "restore", self.file, GMP_ENCRYPTION_KEY=new_key())
        self.assertFalse(self.database.exists())
        self.assertEqual(0, self.invoke("restore", self.file).exit_code)
        done = self.invoke("restore", "--hold-only", "--json")
        self.assertEqual('{\n  "ok": true,\n  "held": 0\n}\n', done.output)

    def test_another_schema(self) -> None:
        """A copy of an older release is brought up; one of a newer is refused and left alone."""
        self.assertEqual(0, self.invoke("migrate", "--to", "0001").exit_code)
        self.assertEqual(0, self.invoke("backup", self.file).exit_code)
        self.database.unlink()
        self.assertEqual(0, self.invoke("restore", self.file).exit_code)
        self.assertEqual(newest(), examine(self.database).schema)
        self.database.unlink()
        connection = sqlite3.connect(self.file)
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
        connection.close()
        self.refused(1, "made by a newer one", "restore", self.file)
        self.assertFalse(self.database.exists())

    def test_on_a_server(self) -> None:
        """What was restored by other means is held there, too, but not beside a node."""
        name = server().database()
        self.environment["GMP_DB_PATH"] = server().url(name)
        self.environment["GMP_DATA_DIR"] = str(self.directory)
        self.assertEqual(0, self.invoke("migrate").exit_code)
        done = self.invoke("restore", "--hold-only")
        self.assertEqual(0, done.exit_code, done.output)
        self.assertIn("held: 0 messages", done.output)
        server().sql(name, "INSERT INTO nodes (id, started_at, alive_until) VALUES ('n', 0, 1e10)")
        self.refused(1, "nodes have the database: stop them", "restore", "--hold-only")
        server().sql(name, "UPDATE nodes SET alive_until = 0")
        self.assertEqual(0, self.invoke("restore", "--hold-only").exit_code)

    def test_usage(self) -> None:
        """Both or neither of FILE and --hold-only, and a database on a server."""
        self.refused(2, "either the FILE", "restore")
        self.refused(2, "either the FILE", "restore", "--hold-only", self.file)
        url = "postgresql://me:hunter2@127.0.0.1:9/mail"
        self.refused(2, "pg_dump", "backup", self.file, GMP_DB_PATH=url)
        self.refused(2, "pg_dump", "restore", self.file, GMP_DB_PATH=url)
        done = self.invoke("restore", "--hold-only", GMP_DB_PATH=url)
        self.assertEqual(1, done.exit_code)
        self.assertNotIn("hunter2", done.output)
