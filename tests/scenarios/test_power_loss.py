"""
F11: the power fails at any moment: what the disk had synced by then is there, of the rest any part.

The running service's every write and sync is noted, with marks between them of what clients and
the upstream knew by then; the disks that a loss of power would have left are made from that.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.scenarios.disk import Entry, FaultyDisk, PowerLoss, read_journal
from tests.scenarios.processes import Service, SinkProcess, account, message, wait_until

#: Submissions, and the bytes of each body: enough for the log to be moved into the database.
MESSAGES, BODY = 24, 1_000_000

#: One in so many changes of the disk is followed by a loss of power.
EVERY = 400

SEED = 11


class PowerLossTests(SynchronousTestCase):
    def recorded(self) -> tuple[FaultyDisk, Service, SinkProcess]:
        """A service that took and sent mail, killed; its disk remembers how it came there."""
        self.directory = Path(tempfile.mkdtemp(prefix="mailproxy-power-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        disk = FaultyDisk(self.directory, remember=True)
        sink = SinkProcess(self.directory, "--no-starttls").start()
        self.addCleanup(sink.end)
        service = Service(
            self.directory,
            GMP_DB_PATH=str(disk.path / "mail.db"),
            GMP_CLIENT_SYNC_URL=sink.sync_url,
            GMP_RETRY_DELAYS="0.2",
            **disk.environment(),
        ).start()
        self.addCleanup(service.end)
        service.call("POST", "/account", account(sink.smtp_port))
        marked: set[str] = set()
        for n in range(MESSAGES):
            small = message(f"small{n}")
            large = message(f"large{n}", body=f"{n:09}\n" * (BODY // 10))
            self.assertEqual(200, service.add(small, large).status)
            disk.mark(f"accepted small{n} large{n}")
            arrived = set(sink.get("/copies")["copies"]) - marked
            if arrived:
                disk.mark(f"arrived {' '.join(sorted(arrived))}")
                marked |= arrived
        service.kill()
        return disk, service, sink

    def test_what_was_promised_is_there(self) -> None:
        """F11: after each loss of power what was accepted is there, what left has its intent."""
        disk, service, sink = self.recorded()
        assert disk.journal is not None
        rng = random.Random(SEED)
        power, known = PowerLoss(), _Known()
        losses = moved = lost = 0
        for n, entry in enumerate(read_journal(disk.journal)):
            power.follow(entry)
            known.follow(entry)
            moved += entry.kind == "E" and entry.name == "mail.db" and bool(known.accepted)
            if known.accepted and (entry.kind == "M" or n % EVERY == 0):
                losses += 1
                lost += power.unsynced
                self.examine(power, known, None if losses % 4 == 0 else rng, f"entry {n}")
        self.assertGreater(losses, MESSAGES)
        self.assertGreater(moved, 0, "the log was never moved into the database")
        self.assertGreater(lost, 0, "there was never anything to lose")
        self.assertGreater(len(known.arrived), 0)
        self.unsynced(disk.journal)
        self.restarted(power, service, sink)

    def unsynced(self, journal: Path) -> None:
        """The proof fails for a disk whose syncs have no effect once mail is accepted."""
        power, known = PowerLoss(), _Known()
        for entry in read_journal(journal):
            known.follow(entry)
            if entry.kind not in "BE" or not known.accepted:
                power.follow(entry)
        with self.assertRaises(self.failureException):
            self.examine(power, known, None, "the end")
        shutil.rmtree(self.directory / "left")

    def examine(
        self, power: PowerLoss, known: _Known, rng: random.Random | None, when: str
    ) -> None:
        """Look at one disk that is left."""
        left = self.directory / "left"
        power.leave(left, rng)
        with closing(sqlite3.connect(left / "mail.db")) as found:
            self.assertEqual([("ok",)], found.execute("PRAGMA quick_check").fetchall(), when)
            stored = {row[0] for row in found.execute("SELECT id FROM messages")}
            self.assertEqual(set(), known.accepted - stored, when)
            begun = found.execute(
                "SELECT DISTINCT m.id FROM attempts a JOIN messages m ON m.pk=a.message_pk"
            )
            self.assertEqual(set(), known.arrived - {row[0] for row in begun}, when)
        shutil.rmtree(left)

    def restarted(self, power: PowerLoss, service: Service, sink: SinkProcess) -> None:
        """The service goes on from such a disk, and all that was accepted arrives."""
        database = Path(service.settings["GMP_DB_PATH"])
        for name in ("mail.db", "mail.db-wal", "mail.db-shm"):
            database.with_name(name).unlink(missing_ok=True)
        left = self.directory / "last"
        power.leave(left, None)
        for file in left.iterdir():
            shutil.copy(file, database.with_name(file.name))
        ids = {f"{size}{n}" for size in ("small", "large") for n in range(MESSAGES)}
        for name in ("LD_PRELOAD", "FAULTY_JOURNAL"):
            del service.settings[name]
        service.start()
        wait_until(
            lambda: all(state == "sent" for state in service.states().values()), what="the mail"
        )
        self.assertEqual(ids, set(service.states()))
        copies = sink.get("/copies")["copies"]
        self.assertEqual(ids, set(copies))
        timelines = {id: service.call("GET", f"/v1/messages/{id}").raw for id in copies}
        twice = {id for id, count in copies.items() if count > 1}
        self.assertEqual(set(), {id for id in twice if b"uncertain" not in timelines[id]})


class _Known:
    """What is known outside of the disk: ids that were accepted, and those that have arrived."""

    def __init__(self) -> None:
        self.accepted: set[str] = set()
        self.arrived: set[str] = set()

    def follow(self, entry: Entry) -> None:
        if entry.kind == "M":
            what, *ids = entry.name.split(" ")
            getattr(self, what).update(ids)
