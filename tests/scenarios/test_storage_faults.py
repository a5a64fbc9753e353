"""
A disk that fails under the running service, and comes back: what is refused meanwhile was not
stored, what was accepted arrives once and is reported, and nobody has to start anything again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import smtplib
import socket
import sqlite3
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.scenarios.disk import HANGS, FaultyDisk
from tests.scenarios.processes import (
    Answer,
    Service,
    SinkProcess,
    account,
    free_port,
    http,
    message,
    wait_until,
)

#: Seconds within which everything goes on once the disk is well.
RECOVERY = 10.0

#: Seconds within which the service says that it lives, whatever its disk does.
PROMPT = 0.1

#: Sessions of the account.
SESSIONS = 2

#: How disks fail: the calls that do, and what they answer.
FULL = {"write": errno.ENOSPC}
READ_ONLY = {"write": errno.EROFS, "sync": errno.EROFS, "open": errno.EROFS}
UNSYNCED = {"sync": errno.EIO}
BROKEN = {"write": errno.EIO, "sync": errno.EIO, "read": errno.EIO, "open": errno.EIO}


class StorageCase(SynchronousTestCase):
    """A service of which a part lies on a disk of its own; its log and its sink's do not."""

    def begin(self, *options: str, on_disk: str = "GMP_DB_PATH", **settings: str) -> None:
        """
        :param options: of the sink.
        :param on_disk: ``GMP_DB_PATH`` if that is the database, ``TMPDIR`` for temporary files.
        :param settings: of the service.
        """
        self.directory = Path(tempfile.mkdtemp(prefix="mailproxy-faults-"))
        self.disk = FaultyDisk(self.directory)
        lies = {"GMP_DB_PATH": self.directory, "TMPDIR": self.directory, on_disk: self.disk.path}
        self.database = lies["GMP_DB_PATH"] / "mail.db"
        self.sink = SinkProcess(self.directory, "--no-starttls", *options).start()
        self.addCleanup(self.sink.end)
        self.door = free_port()
        self.service = Service(
            self.directory,
            GMP_DB_PATH=str(self.database),
            GMP_SMTP_LISTEN=f"tcp:{self.door}:interface=127.0.0.1",
            GMP_SMTP_ALLOW="127.0.0.1",
            GMP_CLIENT_SYNC_URL=self.sink.sync_url,
            GMP_RETRY_DELAYS="0.2",
            TMPDIR=str(lies["TMPDIR"]),
            **self.disk.environment(),
            **settings,
        ).start()
        self.addCleanup(self.service.end)
        fields = account(self.sink.smtp_port, max_sessions=SESSIONS)
        self.assertEqual(200, self.service.call("POST", "/account", fields).status)

    def hand_in(self, id: str, text: str = "Hello\n") -> int:
        """Offer a message by SMTP. :return: the code of the answer to it."""
        fields = f"From: a@example.test\nX-Mailproxy-Id: {id}\n\n{text}"
        with smtplib.SMTP("127.0.0.1", self.door, timeout=20) as client:
            try:
                client.sendmail("a@example.test", [f"{id}@example.test"], fields)
            except smtplib.SMTPRecipientsRefused as refused:
                return int(next(iter(refused.recipients.values()))[0])
            except smtplib.SMTPResponseException as refused:
                return refused.smtp_code
        return 250

    def refused(self, id: str, code: int = 451) -> None:
        """Both doors put the message off, SMTP with *code*; the service lives and says why."""
        answer = self.service.add(message(f"{id}-rest"))
        self.assertEqual(503, answer.status, answer.raw)
        self.assertGreater(int(answer.headers["Retry-After"]), 0)
        self.assertIn("nothing was stored", answer.body["error"])
        self.assertEqual(code, self.hand_in(f"{id}-smtp"))
        self.assertEqual(200, self.timed("/livez").status)
        ready = self.timed("/readyz")
        self.assertEqual(503, ready.status)
        self.assertEqual("the store does not take writes", ready.body["error"])

    def timed(self, path: str) -> Answer:
        """
        An answer that does not wait for the disk.

        It comes within :data:`PROMPT` of what another process beside it needs for an answer, since
        a machine that is busy keeps both waiting.
        """
        usual = self.took(self.sink.url + "/stats")[0]
        seconds, answer = self.took(self.service.url + path)
        usual = max(usual, self.took(self.sink.url + "/stats")[0])
        self.assertLess(seconds, PROMPT + 3 * usual)
        return answer

    def took(self, url: str) -> tuple[float, Answer]:
        """Seconds until an answer, and the answer."""
        began = time.monotonic()
        answer = http("GET", url, timeout=5.0)
        return time.monotonic() - began, answer

    def ready(self) -> None:
        """It finds out by itself that the disk is well, and takes mail."""
        wait_until(
            lambda: http("GET", f"{self.service.url}/readyz").status == 200,
            RECOVERY,
            "the service to be ready again",
        )

    def accepted(self, id: str) -> list[str]:
        """Hand in by both doors what they refused before. :return: the ids."""
        names = [f"{id}-rest", f"{id}-smtp"]
        self.assertEqual(set(), set(names) & set(self.service.states()))
        self.assertEqual(200, self.service.add(message(names[0])).status)
        self.assertEqual(250, self.hand_in(names[1]))
        return names

    def arrived(self, ids: list[str]) -> None:
        """Each of these, and nothing else, arrives exactly once and is reported as sent."""
        wait_until(lambda: set(ids) <= self.reported(), RECOVERY, "the reports")
        self.assertEqual(dict.fromkeys(ids, 1), self.sink.get("/copies")["copies"])
        self.assertEqual(dict.fromkeys(ids, "sent"), self.service.states())

    def reported(self) -> set[str]:
        """What the receiver was told was sent."""
        reports = self.sink.get("/reports")["reports"]
        return {item["id"] for each in reports for item in each["items"] if item.get("sent_ts")}

    def about(self, id: str) -> bytes:
        """All that is known of a message."""
        return self.service.call("GET", f"/v1/messages/{id}").raw

    def query(self, statement: str) -> list[Any]:
        """What another process finds in the database."""
        with closing(sqlite3.connect(self.database)) as other:
            return other.execute(statement).fetchall()


class IntakeTests(StorageCase):
    def test_every_failure_is_refused_and_recovered_from(self) -> None:
        """F12, F14: full, read-only, broken: 503 and 45x, nothing stored; then all goes on."""
        self.begin()
        ids: list[str] = []
        ways = {"full": FULL, "read-only": READ_ONLY, "unsynced": UNSYNCED, "broken": BROKEN}
        for name, way in ways.items():
            self.disk.fail(**way)
            self.refused(name, 452 if way is FULL else 451)
            self.disk.heal()
            self.ready()
            ids += self.accepted(name)
        self.arrived(ids)
        self.assertIn("database or disk is full", self.service.output())
        self.assertIn("disk I/O error", self.service.output())
        self.assertNotIn("Traceback", self.service.output())

    def test_what_was_refused_is_not_found_after_a_kill(self) -> None:
        """F14: a submission whose sync failed is not there when the log is read again."""
        self.begin()
        self.disk.fail(**UNSYNCED)
        self.assertEqual(503, self.service.add(message("lost-rest")).status)
        self.service.kill()
        self.disk.heal()
        self.service.start()
        self.arrived(self.accepted("lost"))


class DeliveryTests(StorageCase):
    def test_outcomes_are_kept_until_they_can_be_stored(self) -> None:
        """F13: no body is begun without its intent; outcomes wait in memory, and none is lost."""
        self.begin("--delay", "250-250ms")
        ids = [f"m{n}" for n in range(20)]
        self.assertEqual(200, self.service.add(*map(message, ids)).status)
        wait_until(lambda: self.copies() >= SESSIONS, what="bodies under way")
        self.disk.fail(**FULL)
        wait_until(
            lambda: "delivery pauses" in self.service.output(), RECOVERY, "delivery to pause"
        )
        before = -1
        while before != (before := self.copies()):
            time.sleep(0.8)  # three times what a body takes
        self.assertLess(before, len(ids))
        begun = self.query("SELECT count(DISTINCT message_pk) FROM attempts")
        self.assertLessEqual(before, begun[0][0])
        self.disk.heal()
        self.arrived(ids)
        self.assertIn("delivery goes on", self.service.output())

    def copies(self) -> int:
        return int(self.sink.get("/stats")["accepted"])


class LockedTests(StorageCase):
    def test_another_process_has_the_database(self) -> None:
        """F15: locked by a stranger: refused after a bound, nothing blocks; then all goes on."""
        self.begin()
        with closing(sqlite3.connect(self.database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with ThreadPoolExecutor(2) as threads:
                answers = [
                    threads.submit(self.service.add, message("lost-rest")),
                    threads.submit(self.service.add, message("lost-too")),
                ]
                for _ in range(10):
                    self.assertEqual(200, self.timed("/livez").status)
                    time.sleep(0.1)
                self.assertEqual(200, self.service.call("GET", "/messages").status)
                self.assertEqual([503, 503], [each.result(30).status for each in answers])
            other.execute("ROLLBACK")
        self.ready()
        self.arrived(self.accepted("lost"))


class HangingTests(StorageCase):
    def test_a_disk_that_answers_nothing(self) -> None:
        """F14, F15: while the disk hangs, livez answers at once; then what waited is stored."""
        self.begin()
        for operation in ("sync", "write", "read"):
            self.disk.fail(**{operation: HANGS})
            with ThreadPoolExecutor(3) as threads:
                waiting = [
                    threads.submit(self.service.add, message(f"{operation}{n}")) for n in range(2)
                ]
                waiting.append(threads.submit(self.service.call, "GET", "/messages"))
                for _ in range(8):
                    self.assertEqual(200, self.timed("/livez").status)
                    time.sleep(0.02)
                if operation != "read":  # which the database may have no need of
                    self.assertFalse(any(each.done() for each in waiting[:2]))
                self.disk.heal()
                added = [each.result(30).status for each in waiting[:2]]
                self.assertEqual(200, waiting[2].result(30).status)
            self.assertEqual([200, 200], added, operation)
        self.arrived([f"{operation}{n}" for operation in ("sync", "write", "read") for n in (0, 1)])


class DescriptorTests(StorageCase):
    def test_no_more_files_can_be_opened(self) -> None:
        """F21: at the limit of open files connections wait; the service lives, and recovers."""
        self.begin()
        assert self.service.process is not None
        pid = self.service.process.pid
        used = max(map(int, os.listdir(f"/proc/{pid}/fd"))) + 1
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 8, hard))
        crowd = [socket.create_connection(("127.0.0.1", self.door), 5.0) for _ in range(30)]
        greeted = 0
        for each in crowd:
            self.addCleanup(each.close)
            each.settimeout(0.1)
            with contextlib.suppress(OSError):
                greeted += each.recv(100).startswith(b"220")
        for each in crowd:
            each.close()
        self.assertGreater(greeted, 0)
        self.assertLess(greeted, len(crowd))
        self.assertTrue(self.service.alive)
        ids = [f"m{n}" for n in range(10)]
        self.assertEqual(200, self.service.add(*map(message, ids)).status)
        self.arrived(ids)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


class DamagedTests(StorageCase):
    """The database is found damaged, or not as it was left."""

    def refusal(self) -> str:
        """Start it; it ends by itself. :return: what it says then."""
        before = len(self.service.output())
        self.service.spawn()
        assert self.service.process is not None
        self.assertNotEqual(0, self.service.process.wait(30.0))
        said = self.service.output()[before:]
        self.assertNotIn("Traceback", said)
        (line,) = [line for line in said.splitlines() if line.startswith("mailproxy: ")]
        return line

    def test_a_start_is_refused_in_one_line(self) -> None:
        """F14, F17: a damaged file and a read-only directory: one line; nothing is made anew."""
        self.begin()
        self.service.terminate()
        whole = self.database.read_bytes()
        self.disk.fail(**READ_ONLY)
        self.assertIn("GMP_DB_PATH", self.refusal())
        self.disk.heal()
        size = int.from_bytes(whole[16:18], "big")
        damages = {
            "its head": b"\xff" * 100 + whole[100:],
            "cut in half": whole[: len(whole) // size // 2 * size],
            "torn": whole[:size] + b"\xff" * (len(whole) - size),
        }
        for name, damage in damages.items():
            self.database.write_bytes(damage)
            line = self.refusal()
            self.assertIn(str(self.database), line, name)
            self.assertEqual(damage, self.database.read_bytes(), name)
        self.database.write_bytes(whole)
        self.service.start()
        self.assertEqual(200, self.service.add(message("m")).status)
        self.arrived(["m"])

    def test_a_damaged_page_costs_one_message(self) -> None:
        """F17: the message whose page is damaged is held; the others go on."""
        self.begin()
        self.service.call("POST", "/commands/suspend")
        text = "damaged " * 20_000
        self.assertEqual(200, self.service.add(message("bad", body=text), message("m")).status)
        self.service.terminate()
        whole = self.database.read_bytes()
        size = int.from_bytes(whole[16:18], "big")
        # A page full of the text: its first four bytes lead to the next one.
        full = (
            n for n in range(0, len(whole), size) if whole.count(b"damaged ", n, n + size) > 500
        )
        at = next(full)
        self.database.write_bytes(whole[:at] + b"\xff" * 4 + whole[at + 4 :])
        self.service.start()
        self.service.call("POST", "/commands/activate")
        self.assertEqual(200, self.service.add(message("later")).status)
        wait_until(lambda: self.reported() == {"m", "later"}, RECOVERY, "the reports")
        self.assertEqual({"m": 1, "later": 1}, self.sink.get("/copies")["copies"])
        self.assertEqual({"bad": "held", "m": "sent", "later": "sent"}, self.service.states())
        damaged = [each["id"] for each in self.service.messages() if "damaged" in each["message"]]
        self.assertEqual(["bad"], damaged)
        for id in ("bad", "m"):
            self.assertEqual(200, self.service.call("GET", f"/v1/messages/{id}").status, id)

    def test_the_log_is_read_when_its_index_is_gone(self) -> None:
        """F11: after a kill the write-ahead log alone, without its index, brings all back."""
        self.begin()
        self.service.call("POST", "/commands/suspend")
        ids = [f"m{n}" for n in range(5)]
        self.assertEqual(200, self.service.add(*map(message, ids)).status)
        self.service.kill()
        index = self.database.with_name("mail.db-shm")
        self.assertTrue(self.database.with_name("mail.db-wal").stat().st_size)
        index.unlink()
        self.service.start()
        self.service.call("POST", "/commands/activate")
        self.arrived(ids)
