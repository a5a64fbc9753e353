"""Attachments from files of this machine: only those below the roots, and only files."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.delivery.attachments.files import FileSource
from mailproxy.delivery.attachments.source import Spool, Trouble
from mailproxy.model import Attachment
from mailproxy.threads import inline


class GrowingSpool(Spool):
    """A spool during whose first write *path* grows."""

    path: Path

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.size < 600_000:
            with self.path.open("ab") as file:
                file.write(b"more")


class FileCase(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.base = Path(folder.name).resolve()
        self.root = self.base / "tree"
        (self.root / "in" / "deep").mkdir(parents=True)
        (self.base / "secret").write_bytes(b"secret")
        (self.root / "a.pdf").write_bytes(b"content")
        (self.root / "in" / "deep" / "ü b").write_bytes(b"deep")

    def read(
        self, path: str | Path, *roots: tuple[str | None, Path], limit: int = 10_000_000
    ) -> bytes:
        source = FileSource(roots or ((None, self.root),), inline)
        spool = Spool(limit)
        self.addCleanup(spool.close)
        source.read("t1", str(path), spool)
        return spool.read()

    def trouble(
        self, path: str | Path, *roots: tuple[str | None, Path], limit: int = 10_000_000
    ) -> str:
        """How reading *path* fails, for good."""
        with self.assertRaises(Trouble) as caught:
            self.read(path, *roots, limit=limit)
        trouble: Trouble = caught.exception
        self.assertFalse(trouble.transient)
        return trouble.problem


class FileTests(FileCase):
    def test_read(self) -> None:
        """A regular file below a root is read, however deep it lies and whatever it is called."""
        self.assertEqual(b"content", self.read(self.root / "a.pdf"))
        self.assertEqual(b"deep", self.read(self.root / "in" / "deep" / "ü b"))
        self.assertEqual(b"content", self.read(f"{self.root}//./a.pdf"))

    def test_fetched(self) -> None:
        """The source gives what it read to the spool, in a thread, and knows no type."""
        source = FileSource([(None, self.root)], inline)
        spool = Spool(100)
        self.addCleanup(spool.close)
        wanted = Attachment("a", "", 0, storage_path=str(self.root / "a.pdf"))
        fetched = Deferred.fromCoroutine(source.fetch("t1", wanted, spool))
        self.assertEqual("", self.successResultOf(fetched))
        self.assertEqual(b"content", spool.read())
        self.assertIsNone(source.where("t1", wanted))

    def test_roots(self) -> None:
        """Any root will do; one that is a tenant's will do for that tenant only."""
        other = self.base / "other"
        other.mkdir()
        (other / "b").write_bytes(b"b")
        self.assertEqual(b"b", self.read(other / "b", (None, self.root), (None, other)))
        self.assertEqual(b"b", self.read(other / "b", ("t1", other)))
        self.assertIn("not below", self.trouble(other / "b", (None, self.root), ("t2", other)))

    def test_too_large(self) -> None:
        """A file over the cap is refused by its size, before it is read."""
        self.assertEqual("larger than 6 bytes", self.trouble(self.root / "a.pdf", limit=6))
        sparse = self.root / "sparse"
        with sparse.open("wb") as file:
            file.truncate(2**40)
        self.assertIn("larger than", self.trouble(sparse))

    def test_gone(self) -> None:
        """What is not there is not there for good."""
        for path in ("no", "a.pdf/x", "in/no/x", "in/deep", "x" * 300):
            problem = self.trouble(self.root / path)
            self.assertIn(problem, ("there is no such file", "not a regular file"))
        self.assertEqual("there is no such file", self.trouble("/x/y", (None, Path("/x"))))

    def test_unreadable(self) -> None:
        """A file that may not be read is refused like one that is not to be sent."""
        if os.getuid() == 0:
            return  # to whom everything is readable
        (self.root / "a.pdf").chmod(0)
        self.assertIn("may not be read", self.trouble(self.root / "a.pdf"))

    def test_f66_outside(self) -> None:
        """F66, S14: nothing outside the roots is read, by whatever path."""
        for path in (
            "/etc/passwd",
            self.base / "secret",
            f"{self.root}/../secret",
            f"{self.root}/in/../../secret",
            f"{self.root}/..",
            f"{self.root}",
            f"{self.root}/",
            f"{self.root}x/secret",
            "a.pdf",
            "",
            "/",
            f"{self.root}/a.pdf\0.txt",
        ):
            self.assertIn("not below", self.trouble(path), str(path))

    def test_f66_links(self) -> None:
        """F66: no link is followed, be it the file or a directory on the way to it."""
        (self.root / "file").symlink_to(self.base / "secret")
        (self.root / "inside").symlink_to(self.root / "a.pdf")
        (self.root / "dir").symlink_to(self.base)
        (self.root / "in" / "up").symlink_to("../..")
        (self.root / "loop").symlink_to("loop")
        for path in ("file", "inside", "dir/secret", "in/up/secret", "in/up/tree/a.pdf", "loop"):
            self.assertIn(
                self.trouble(self.root / path),
                ("not a regular file", "there is no such file",
                 "a link, or a file that may not be read"),
            )  # fmt: skip

    def test_root_through_a_link(self) -> None:
        """The operator may name a root through a link."""
        (self.base / "alias").symlink_to(self.root)
        got = self.read(self.base / "alias" / "a.pdf", (None, self.base / "alias"))
        self.assertEqual(b"content", got)

    def test_f66_pipe(self) -> None:
        """F66: a pipe that nobody writes to does not keep us waiting."""
        os.mkfifo(self.root / "pipe")
        self.assertEqual("not a regular file", self.trouble(self.root / "pipe"))

    def test_f66_device(self) -> None:
        """F66: a device is not read, also where it lies below a root."""
        self.assertEqual("not a regular file", self.trouble("/dev/zero", (None, Path("/dev"))))
        self.assertEqual("not a regular file", self.trouble("/dev/tty", (None, Path("/dev"))))

    def test_f66_socket_and_directory(self) -> None:
        """F66: neither a socket nor a directory is a file."""
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(self.root / "s"))
            self.assertEqual("not a regular file", self.trouble(self.root / "s"))
        self.assertEqual("not a regular file", self.trouble(self.root / "in"))

    def test_f66_grows(self) -> None:
        """F66: a file that grows while it is read is not sent, and is never read past the cap."""
        path = self.root / "log"
        path.write_bytes(b"x" * 300_000)
        spool = GrowingSpool(10_000_000)
        spool.path = path
        self.addCleanup(spool.close)
        source = FileSource([(None, self.root)], inline)
        with self.assertRaises(Trouble) as caught:
            source.read("t1", str(path), spool)
        self.assertTrue(caught.exception.transient)
        self.assertEqual("it changed while it was read", caught.exception.problem)
        tight = GrowingSpool(path.stat().st_size + 2)
        tight.path = path
        self.addCleanup(tight.close)
        with self.assertRaises(Trouble) as caught:
            source.read("t1", str(path), tight)
        self.assertIn("larger than", caught.exception.problem)
        self.assertLessEqual(tight.size, tight.limit)


class ReplacedTests(FileCase):
    """Somebody changes the tree between one step of the way and the next."""

    def walked(self, path: str, after: int, change: object) -> bytes:
        """Read *path*; *change* is done after so many steps of opening."""
        source = FileSource([(None, self.root)], inline)
        real, steps = os.open, iter(range(100))

        def opening(*args: object, **more: object) -> int:
            fd = real(*args, **more)  # type: ignore[arg-type]
            if next(steps) == after:
                change()  # type: ignore[operator]
            return fd

        self.patch(os, "open", opening)
        spool = Spool(1000)
        self.addCleanup(spool.close)
        source.read("t1", f"{self.root}/{path}", spool)
        return spool.read()

    def test_f66_directory_replaced(self) -> None:
        """F66: a directory that becomes a link once it was opened leads where it led."""
        (self.root / "in" / "secret").write_bytes(b"mine")

        def replace() -> None:
            (self.root / "in").rename(self.base / "moved")
            (self.root / "in").symlink_to(self.base)

        self.assertEqual(b"mine", self.walked("in/secret", 1, replace))

    def test_f66_directory_replaced_before(self) -> None:
        """F66: one that becomes a link before it is opened leads nowhere."""

        def replace() -> None:
            (self.root / "in").rename(self.base / "moved")
            (self.root / "in").symlink_to(self.base)

        with self.assertRaises(Trouble):
            self.walked("in/secret", 0, replace)

    def test_f66_file_replaced(self) -> None:
        """F66: a file that is replaced once it was opened is read as it was."""

        def replace() -> None:
            (self.root / "a.pdf").unlink()
            (self.root / "a.pdf").symlink_to(self.base / "secret")

        self.assertEqual(b"content", self.walked("a.pdf", 1, replace))
