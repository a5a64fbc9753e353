"""F12: the directory for temporary files is full while large mail comes in; then it is not."""

from __future__ import annotations

import errno
import shutil
import tempfile
from pathlib import Path

from tests.scenarios.processes import message, wait_until
from tests.scenarios.test_storage_faults import RECOVERY, StorageCase

#: More than any part of the service keeps in memory of what comes in.
LARGE = "A line of a large message.\n" * 60_000


class SpoolTests(StorageCase):
    def test_no_room_for_what_comes_in(self) -> None:
        """F12: large mail is put off, small mail goes; with room all is taken, and arrives once."""
        files = Path(tempfile.mkdtemp(prefix="mailproxy-files-"))
        self.addCleanup(shutil.rmtree, files)
        (files / "large.txt").write_text(LARGE)
        self.begin(on_disk="TMPDIR", GMP_ATTACHMENT_ROOTS=str(files))
        file = {"filename": "large.txt", "storage_path": str(files / "large.txt")}
        # It looks for a directory that it can write to when it first needs one.
        self.assertEqual(200, self.service.add(message("first", body=LARGE)).status)
        self.disk.fail(write=errno.ENOSPC)

        answer = self.service.add(message("rest", body=LARGE))
        self.assertEqual(503, answer.status, answer.raw)
        self.assertGreater(int(answer.headers["Retry-After"]), 0)
        self.assertIn("nothing was stored", answer.body["error"])
        self.assertEqual(452, self.hand_in("smtp", LARGE))
        self.assertEqual(200, self.service.add(message("file", attachments=[file])).status)
        self.assertEqual(200, self.service.add(message("small")).status)
        self.assertEqual(250, self.hand_in("little"))
        wait_until(lambda: {"small", "little"} <= self.reported(), RECOVERY, "small mail")
        wait_until(lambda: b"no room for it" in self.about("file"), RECOVERY, "the deferral")
        self.assertEqual(200, self.timed("/readyz").status)
        self.assertEqual({"first", "small", "little", "file"}, set(self.service.states()))

        self.disk.heal()
        self.assertEqual(200, self.service.add(message("rest", body=LARGE)).status)
        self.assertEqual(250, self.hand_in("smtp", LARGE))
        self.arrived(["first", "rest", "smtp", "file", "small", "little"])
        self.assertNotIn("Traceback", self.service.output())
        self.assertNotIn("Unhandled", self.service.output())
        self.assertEqual([], [each.name for each in self.disk.path.iterdir()])

    def about(self, id: str) -> bytes:
        """All that is known of a message."""
        return self.service.call("GET", f"/v1/messages/{id}").raw
