"""
F14 and then F11: a disk that does not sync, and a loss of power after that.

Whatever such a disk has of what it was to write: what was accepted is there, and what was refused
is not, once the store has found out that the disk is well. While it is not, nobody can know.
"""

from __future__ import annotations

import errno
import random
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.scenarios.disk import FaultyDisk, PowerLoss, read_journal
from tests.scenarios.processes import Service, account, free_port, http, message, wait_until

#: How often the disk fails.
FAILURES = 3

#: One in so many changes of the disk is followed by a loss of power.
EVERY = 10

SEED = 14

#: Bytes of what is refused: many frames in the log.
BODY = 40_000


class _Whole(random.Random):
    """Draws everything, and all of it."""

    def random(self) -> float:
        return 0.0


class FailedSyncTests(SynchronousTestCase):
    def recorded(self) -> Path:
        """The journal of a disk whose syncs failed at times, with marks of what clients knew."""
        directory = Path(tempfile.mkdtemp(prefix="mailproxy-unsynced-"))
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        disk = FaultyDisk(directory, remember=True)
        service = Service(
            directory,
            GMP_DB_PATH=str(disk.path / "mail.db"),
            GMP_SCHEDULER_ACTIVE="0",
            **disk.environment(),
        ).start()
        self.addCleanup(service.end)
        service.call("POST", "/account", account(free_port()))
        for n in range(FAILURES):
            self.assertEqual(200, service.add(message(f"before{n}")).status)
            disk.mark(f"accepted before{n}")
            disk.fail(sync=errno.EIO)
            for id in (f"lost{n}", f"gone{n}"):
                answer = service.add(message(id, body="refused " * (BODY // 8)))
                self.assertEqual(503, answer.status)
                disk.mark(f"refused {id}")
            disk.heal()
            wait_until(lambda: http("GET", f"{service.url}/readyz").status == 200, what="ready")
            disk.mark("well")
            self.assertEqual(200, service.add(message(f"after{n}")).status)
            disk.mark(f"accepted after{n}")
        self.assertEqual(FAILURES, service.output().count("may be found after a loss of power"))
        service.kill()
        assert disk.journal is not None
        return disk.journal

    def test_what_was_said_holds_without_power(self) -> None:
        """F11, F14: nothing accepted is lost; nothing refused comes back once the disk is well."""
        rng = random.Random(SEED)
        power = PowerLoss()
        said: dict[str, set[str]] = {"accepted": set(), "refused": set(), "doubted": set()}
        in_log: set[str] = set()
        losses = came_back = 0
        for n, entry in enumerate(read_journal(self.recorded())):
            power.follow(entry)
            if entry.kind == "M":
                self.told(entry.name, said)
            if not said["accepted"]:
                continue
            if entry.kind == "F":
                # A disk that has taken all before its failure, and nothing later.
                in_log |= self.left(power, _Whole())
            if entry.kind in "MF" or n % EVERY == 0:
                losses += 1
                found = self.left(power, rng)
                self.assertEqual(set(), said["accepted"] - found)
                self.assertEqual(set(), said["refused"] & found)
            came_back += len(said["doubted"] & in_log)
        self.assertGreater(losses, 10 * FAILURES)
        self.assertEqual(2 * FAILURES, len(said["refused"]))
        # Nothing can be done about these: docs/operations.md speaks of them.
        self.assertGreater(came_back, 0)

    def told(self, mark: str, said: dict[str, set[str]]) -> None:
        """What clients know from now on."""
        what, _, id = mark.partition(" ")
        if what == "well":
            said["refused"] |= said["doubted"]
            said["doubted"].clear()
        else:
            said["doubted" if what == "refused" else what].add(id)

    def left(self, power: PowerLoss, rng: random.Random) -> set[str]:
        """The ids in the database that a loss of power would leave now."""
        with tempfile.TemporaryDirectory(prefix="mailproxy-unsynced-") as directory:
            disk = Path(directory) / "disk"
            power.leave(disk, rng)
            with closing(sqlite3.connect(disk / "mail.db")) as found:
                return {row[0] for row in found.execute("SELECT id FROM messages")}
