"""
F12: there is no room where large mail is kept while it comes in, nor where links lead to; then
there is.
"""

from __future__ import annotations

import errno
import shutil
import tempfile
from base64 import b64encode
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


class UploadTests(StorageCase):
    def test_no_room_for_what_is_put_away(self) -> None:
        """F12: where links lead to there is no room: the message waits, and goes when there is."""
        self.begin(on_disk="TMPDIR")
        large = {
            "enabled": True,
            "max_size_mb": 0.05,
            "action": "rewrite",
            "storage_url": f"file://{self.disk.path}/large",
            "public_base_url": self.service.url,
            "file_ttl_days": 1,
        }
        tenant = {"id": "default", "large_file_config": large}
        self.assertEqual(200, self.service.call("POST", "/tenant", tenant).status)
        data = b"A page of a report.\n" * 5_000
        file = {"filename": "report.txt", "storage_path": f"base64:{b64encode(data).decode()}"}
        self.disk.fail(write=errno.ENOSPC)
        self.assertEqual(200, self.service.add(message("report", attachments=[file])).status)
        self.assertEqual(200, self.service.add(message("small")).status)
        wait_until(lambda: "small" in self.reported(), RECOVERY, "small mail")
        wait_until(lambda: b"No space left" in self.about("report"), RECOVERY, "the deferral")
        self.assertEqual(["small"], list(self.sink.get("/copies")["copies"]))

        self.disk.heal()

        self.arrived(["report", "small"])
        (put,) = (self.disk.path / "large").rglob("report.txt")
        self.assertEqual(data, put.read_bytes())
        self.assertNotIn("Traceback", self.service.output())
