"""Attachments that are larger than their tenant wants, on the way and at the end of their time."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.delivery.attachments.large import Link, linked
from mailproxy.delivery.attachments.uploads import SWEEP, Sweeper, Uploads, fsspec_filesystem
from mailproxy.errors import StoreUnavailable
from mailproxy.filelinks import FileLinks
from mailproxy.model import Attachment
from mailproxy.tenancy import LargeFiles, Tenant
from mailproxy.threads import inline
from tests.build import content
from tests.delivery.attachments.house import HouseCase, greylisting, lacking
from tests.delivery.peer import Server
from tests.delivery.test_courier import claimed
from tests.fake_store import FakeStore
from tests.fakes import FakeClock, result

#: More than 5000 bytes is large.
LIMIT = 5000 / 2**20

BASE = "https://mail.example.com"


class LargeCase(HouseCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name).resolve()
        super().setUp()

    def want(self, action: str, **fields: Any) -> None:
        config: dict[str, Any] = {
            "enabled": True,
            "max_size_mb": LIMIT,
            "action": action,
            "storage_url": f"file://{self.folder}/files",
            "public_base_url": BASE,
            "file_ttl_days": 7,
        }
        config |= fields
        self.tenants["default"] = Tenant("default", large_file_config=LargeFiles(**config))

    def put_away(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file())


class PolicyTests(LargeCase):
    def test_warn(self) -> None:
        """Where large attachments are only told of, they are sent, and the timeline says so."""
        self.want("warn")
        self.source.answers |= {"big": b"x" * 5001, "small": b"y" * 5000}
        self.send("m1", lacking("big"), lacking("small"))
        self.assertEqual({"big", "small"}, set(self.files_of(self.arrived()[0])))
        notes = [event["data"].get("notes") for event in self.history()]
        self.assertIn(["large attachment: big, 5001 bytes"], [n for n in notes if n])

    def test_reject(self) -> None:
        """Where they are refused, the message fails at once, in words of their own."""
        self.want("reject")
        self.source.answers["big"] = b"x" * 5001
        self.send("m1", lacking("big"))
        self.assertEqual(("failed", 0), (self.stored().state, self.network.attempts))
        error = self.reports()[0].error or ""
        self.assertTrue(error.startswith("attachment big: larger than"), error)
        self.assertNotIn("Attachment fetch failed", error)

    def test_reject_what_came_along(self) -> None:
        """It makes no difference whether the attachment was fetched or came along."""
        self.want("reject")
        came = Attachment("big", "x/y", 1, 5001)
        self.send("m1", came, parts=(b"x" * 5001,))
        self.assertEqual("failed", self.stored().state)

    def test_not_large(self) -> None:
        """What is not large, and what nobody asked about, is left alone."""
        several: tuple[dict[str, Any], ...] = ({}, {"max_size_mb": 1.0}, {"enabled": False})
        for number, fields in enumerate(several):
            self.want("reject", **fields)
            size = 5001 if fields else 5000
            self.source.answers["a"] = b"x" * size
            self.send(f"m{number}", lacking("a"))
            self.assertEqual("sent", self.stored(f"m{number}").state)

    def test_rewrite(self) -> None:
        """A large attachment is put away, and a link to it stands in every text in its place."""
        self.want("rewrite")
        self.source.answers |= {"big": b"x" * 5001, "small": b"y"}
        page = "<html><BODY><p>Hi</p></body></html>"
        self.send("m1", lacking("big", name="Über & all.pdf"), lacking("small"), html=page)
        (mail,) = self.arrived()
        self.assertEqual({"small": b"y"}, self.files_of(mail))
        (path,) = self.put_away()
        self.assertEqual(b"x" * 5001, path.read_bytes())
        plain, html = self.texts(mail)
        self.assertIn("Hello.", plain)
        self.assertIn("Über & all.pdf (0.0 MB, until 2025-06-22)", plain)
        link = next(line for line in plain.splitlines() if line.startswith(BASE))
        self.assertIn("/v1/files/", link)
        self.assertIn(f'<a href="{link.replace("&", "&amp;")}">Über &amp; all.pdf</a>', html)
        self.assertLess(html.index("<ul>"), html.lower().index("</body>"))

    def texts(self, mail: Any) -> tuple[str, str]:
        return tuple(mail.get_body([kind]).get_content() for kind in ("plain", "html"))

    def test_rewrite_what_came_along(self) -> None:
        """What came along is read from the store, put away, and no longer stored."""
        self.want("rewrite")
        came = Attachment("big", "x/y", 1, 5001, "f" * 64)
        kept = Attachment("small", "x/y", 2, 1)
        self.send("m1", came, kept, parts=(b"x" * 5001, b"s"))
        (mail,) = self.arrived()
        self.assertEqual({"small": b"s"}, self.files_of(mail))
        self.assertEqual([b"x" * 5001], [path.read_bytes() for path in self.put_away()])

    def test_each_attempt_is_the_same(self) -> None:
        """The message is rewritten once: the second attempt has the same link."""
        self.stop(self.dispatcher)
        self.assemble(greylisting, Server)
        self.want("rewrite")
        self.source.answers["big"] = b"x" * 5001
        self.send("m1", lacking("big"))
        self.want("rewrite", public_base_url="https://other.example")
        self.wait(70.0)
        self.assertEqual("sent", self.stored().state)
        self.assertEqual(1, len(self.put_away()))
        self.assertIn(BASE, self.arrived()[-1].get_content())

    def test_not_once_it_was_tried(self) -> None:
        """A message that may have arrived somewhere stays what it is, whatever is said later."""
        self.stop(self.dispatcher)
        self.assemble(greylisting, Server)
        self.source.answers["big"] = b"x" * 5001
        self.send("m1", lacking("big"))
        self.want("reject")
        self.wait(70.0)
        self.assertEqual(["big"], list(self.files_of(self.arrived()[-1])))

    def test_cannot_be_put_away(self) -> None:
        """A place that does not take the file defers the message, and says why."""
        (self.folder / "files").write_text("in the way")
        self.want("rewrite")
        self.source.answers["big"] = b"x" * 5001
        self.send("m1", lacking("big"))
        reason = self.reports()[0].deferred_reason or ""
        self.assertTrue(reason.startswith("attachment big: it cannot be put away: "), reason)
        (self.folder / "files").unlink()
        self.wait(70.0)
        self.assertEqual("sent", self.stored().state)
        self.assertEqual(1, len(self.put_away()))

    def test_no_public_url(self) -> None:
        """Without a URL that the world can call there is no link to send."""
        self.want("rewrite", public_base_url="")
        self.source.answers["big"] = b"x" * 5001
        self.send("m1", lacking("big"))
        self.assertIn("public_base_url is not set", self.reports()[0].deferred_reason or "")
        self.assertEqual([], self.put_away())

    def test_without_fsspec(self) -> None:
        """Without the extra the message waits, and the reason names what is missing."""

        def missing(url: str) -> Any:
            raise ImportError("no module named s3fs, token=s3cret")

        self.uploads._filesystem = missing
        self.want("rewrite", storage_url="s3://bucket")
        self.source.answers["big"] = b"x" * 5001
        self.send("m1", lacking("big"))
        reason = self.reports()[0].deferred_reason or ""
        self.assertIn("the extra large-files", reason)
        self.assertNotIn("s3cret", reason)

    def test_store_away(self) -> None:
        """What cannot be written down is not put away."""
        self.want("rewrite")
        self.source.answers["big"] = b"x" * 5001
        self.store.fail_next(StoreUnavailable("disk full"), "keep_file")
        self.send("m1", lacking("big"))
        self.assertEqual([], self.put_away())
        self.wait(2.0)
        self.assertEqual("sent", self.stored().state)


class RemoteTests(LargeCase):
    """Places that are not this machine; fsspec's memory stands for them."""

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(self.forget)
        self.source.answers["big"] = b"x" * 5001

    def forget(self) -> None:
        filesystem, _ = fsspec_filesystem("memory://bucket")
        filesystem.store.clear()

    def test_public_bucket(self) -> None:
        """The link begins with the public URL, and its name is not to be guessed."""
        self.want("rewrite", storage_url="memory://bucket/a", public_base_url="https://cdn.test/a/")
        self.send("m1", lacking("big", name="../Ü b.pdf"))
        text = self.arrived()[0].get_content()
        link = next(line for line in text.splitlines() if line.startswith("https://"))
        self.assertRegex(link, r"^https://cdn\.test/a/[0-9a-f]{32}/b\.pdf$")
        filesystem, _ = fsspec_filesystem("memory://bucket")
        name = link.removeprefix("https://cdn.test/a/")
        self.assertEqual(b"x" * 5001, filesystem.cat(f"/bucket/a/{name}"))

    def test_signed(self) -> None:
        """Without a public URL the place itself signs the link, for as long as it is good."""

        class Signing:
            def makedirs(self, path: str, exist_ok: bool) -> None: ...
            def pipe_file(self, path: str, data: bytes) -> None: ...
            def sign(self, path: str, expiration: int) -> str:
                return f"https://s3.test/{path}?for={expiration}"

        self.uploads._filesystem = lambda url: (Signing(), url.partition("//")[2])
        self.want("rewrite", storage_url="s3://bucket", public_base_url="")
        self.send("m1", lacking("big"))
        self.assertIn("?for=604800", self.arrived()[0].get_content())


class SweepTests(LargeCase):
    def setUp(self) -> None:
        super().setUp()
        self.want("rewrite")
        self.source.answers["big"] = b"x" * 5001
        self.sweeper = Sweeper(self.uploads, self.clock)
        self.sweeper.startService()
        self.addCleanup(self.end)

    def end(self) -> None:
        if self.sweeper.running:
            self.successResultOf(self.sweeper.stopService())

    def test_removed_in_time(self) -> None:
        """A file goes when its time is over, with its directory, and is forgotten; not before."""
        self.send("m1", lacking("big"))
        self.clock.advance(7 * 86_400.0 - 1)
        self.assertEqual(1, len(self.put_away()))
        self.clock.advance(SWEEP + 1)
        self.assertEqual([], list((self.folder / "files").iterdir()))
        self.assertEqual({}, self.store.disk.files)

    def test_gone_already(self) -> None:
        """A file that somebody else removed is forgotten as well."""
        self.send("m1", lacking("big"))
        self.put_away()[0].unlink()
        self.clock.advance(8 * 86_400.0)
        self.assertEqual({}, self.store.disk.files)

    def test_cannot_be_removed(self) -> None:
        """One file that cannot be removed is tried again, and keeps no other."""
        for number in range(2):
            self.send(f"m{number}", lacking("big"))
        stuck = next(iter(self.store.disk.files.values()))

        def filesystem(url: str) -> Any:
            if url == stuck.url:
                raise PermissionError(errno.EACCES, "Permission denied")
            return fsspec_filesystem(url)

        self.uploads._filesystem = filesystem
        self.clock.advance(8 * 86_400.0)
        self.assertEqual([stuck.pk], list(self.store.disk.files))
        self.uploads._filesystem = fsspec_filesystem
        self.clock.advance(SWEEP)
        self.assertEqual({}, self.store.disk.files)

    def test_store_away(self) -> None:
        """A store that is away for a while ends nothing."""
        self.send("m1", lacking("big"))
        self.store.fail_next(StoreUnavailable("locked"), "forget_files")
        self.clock.advance(8 * 86_400.0)
        self.clock.advance(SWEEP)
        self.assertEqual({}, self.store.disk.files)


class LinkedTests(SynchronousTestCase):
    LINK = Link("a<b>.pdf", 3 * 2**20, "https://h/?a=1&b=2", 0.0)

    def test_texts(self) -> None:
        """Every text that is there gets the link; where there is none, a plain one is made."""
        for plain, page in (("text", None), (None, "<p>"), ("text", "<p>"), (None, None)):
            made = linked(content(plain=plain, html=page), [self.LINK])
            self.assertEqual(page is None or plain is not None, made.plain is not None)
            self.assertEqual(page is not None, made.html is not None)
            for text in filter(None, (made.plain, made.html)):
                self.assertIn("3.0 MB, until 1970-01-01", text)
        self.assertNotIn("a<b>", made.html or "")

    def test_nothing_to_link(self) -> None:
        """Without links nothing is touched."""
        letter = content(html="<p>")
        self.assertEqual(letter, linked(letter, []))

    @given(st.text(max_size=60), st.sampled_from(("", "</body>", "</BODY >\n</html>")))
    @settings(max_examples=100, deadline=None)
    def test_text_is_kept(self, text: str, end: str) -> None:
        """What the client wrote stays, in its order."""
        made = linked(content(plain=text, html=text + end), [self.LINK])
        self.assertTrue((made.plain or "").startswith(text.rstrip("\r\n")))
        before, _, after = (made.html or "").partition("\n<ul>")
        self.assertEqual(text + end, before + after.partition("</ul>\n")[2])


class NamesTests(SynchronousTestCase):
    def test_same_file_again(self) -> None:
        """Done again for the same message, the same file is written and the same link given."""
        with tempfile.TemporaryDirectory() as folder:
            clock = FakeClock()
            store = FakeStore(clock)
            uploads = Uploads(store, FileLinks([b"k"]), clock, inline)
            config = LargeFiles(True, 1.0, "rewrite", f"file://{folder}", BASE, 1)
            file = Attachment("a", "x/y", 1, 3, "f" * 64)
            links = {result(uploads.put(claimed(1), file, b"abc", config))[0] for _ in range(2)}
            other = result(uploads.put(claimed(2), file, b"abc", config))[0]
            again = attrs.evolve(file, sha256="e" * 64)
            third = result(uploads.put(claimed(1), again, b"abd", config))[0]
            self.assertEqual(3, len({*links, other, third}))
            self.assertEqual(3, len(store.disk.files))
