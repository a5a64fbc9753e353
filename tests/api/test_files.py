"""Large files given out to whoever has the link."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.api.streaming import STALLED
from mailproxy.filelinks import FileLinks
from mailproxy.tenancy import LargeFile
from tests.api.door import Door, Reply, request
from tests.fakes import EPOCH, result

DATA = bytes(range(256)) * 1000


class FilesTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name).resolve()
        self.path = self.folder / "big"
        self.path.write_bytes(DATA)
        self.links = FileLinks([b"key"])
        self.door = Door(links=self.links)
        self.file = LargeFile(7, "default", f"file://{self.path}", "a.pdf", len(DATA), EPOCH + 60)
        self.keep(self.file)

    def keep(self, file: LargeFile) -> None:
        result(self.door.store.keep_file(file))

    def target(self, pk: int = 7, name: str = "a.pdf", expires: float = EPOCH + 60) -> str:
        url = urlsplit(self.links.link("http://h", pk, name, int(expires)))
        return f"{url.path}?{url.query}"

    def get(self, target: str) -> Reply:
        return self.door.call("GET", target, token=None)

    def test_given_out(self) -> None:
        """The link opens the file for anyone: to be saved, not to be looked at."""
        reply = self.get(self.target())
        self.assertEqual((200, DATA), (reply.status, reply.body))
        expected = {
            "content-length": str(len(DATA)),
            "content-type": "application/octet-stream",
            "content-disposition": "attachment; filename=\"a.pdf\"; filename*=UTF-8''a.pdf",
            "x-content-type-options": "nosniff",
        }
        self.assertEqual(expected, {name: reply.headers.get(name) for name in expected})

    def test_any_name(self) -> None:
        """The name is the sender's, in a form that no name can break out of."""
        self.keep(attrs.evolve(self.file, name='ü";\r\nX: y'))
        disposition = self.get(self.target(name="x")).headers["content-disposition"]
        self.assertEqual(
            "attachment; filename=\"attachment\"; filename*=UTF-8''%C3%BC%22%3B%0D%0AX%3A%20y",
            disposition,
        )

    def test_empty(self) -> None:
        """A file of no bytes is a file."""
        self.path.write_bytes(b"")
        reply = self.get(self.target())
        self.assertEqual((200, b""), (reply.status, reply.body))

    def test_no_other_link(self) -> None:
        """Whatever is wrong with a link, it leads nowhere, and does not say why."""
        good = self.target()
        signature = good.rpartition("=")[2]
        for target in (
            "/v1/files/7/a.pdf",
            good.replace("/7/", "/8/"),
            good.replace("expires=1", "expires=2"),
            good[:-1],
            good.replace(signature, "%C3%A9"),
            good.replace("/7/", "/x/"),
            good.replace("/7/", f"/{'9' * 19}/"),
            good.replace("/7/", "/-7/"),
            self.target(8),
            self.target(expires=EPOCH),
        ):
            reply = self.get(target)
            self.assertEqual((404, "Not Found"), (reply.status, reply.json["error"]), target)

    def test_over(self) -> None:
        """A link whose time is over leads nowhere."""
        target = self.target()
        self.door.clock.advance(60.0)
        self.assertEqual(404, self.get(target).status)

    def test_only_what_was_put_away(self) -> None:
        """What is not a file of this machine, or not a regular one, is not given out."""
        (self.folder / "link").symlink_to("/etc/passwd")
        os.mkfifo(self.folder / "pipe")
        for pk, url in enumerate(
            (
                f"file://{self.folder}/link",
                f"file://{self.folder}/pipe",
                f"file://{self.folder}",
                f"file://{self.folder}/gone",
                "s3://bucket/a",
                "relative",
            ),
            10,
        ):
            self.keep(attrs.evolve(self.file, pk=pk, url=url))
            self.assertEqual(404, self.get(self.target(pk)).status, url)

    def test_no_links(self) -> None:
        """A service that gives nothing out knows no link."""
        self.door = Door()
        self.keep(self.file)
        self.assertEqual(404, self.get(self.target()).status)

    def test_slow_reader(self) -> None:
        """A client that takes nothing is given up, and the file is closed."""
        before = len(os.listdir("/proc/self/fd"))
        connection = self.door.connect()
        connection.transport.full = True
        connection.send(request("GET", self.target(), None, None, None))
        self.assertLess(len(connection.transport.value()), len(DATA))
        self.door.clock.advance(STALLED)
        self.assertFalse(connection.open)
        self.assertEqual(before, len(os.listdir("/proc/self/fd")))

    def test_cut_short(self) -> None:
        """A file that shrinks while it is given out is never one that looks whole."""
        connection = self.door.connect()
        connection.transport.full = True
        connection.send(request("GET", self.target(), None, None, None))
        self.path.write_bytes(b"")
        connection.transport.full = False
        producer = connection.transport.producer
        assert producer is not None
        producer.resumeProducing()
        self.assertFalse(connection.open)
