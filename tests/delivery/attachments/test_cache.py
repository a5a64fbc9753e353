"""What was fetched before, in memory and on disk."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.delivery.attachments.cache import Cache, MemoryCache
from mailproxy.delivery.attachments.disk import DiskCache, Found, digests
from mailproxy.threads import inline
from tests.fakes import FakeClock, result


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def content_of(found: Found | None) -> bytes | None:
    if found is not None:
        assert found.sha256 == hashlib.sha256(found.data).hexdigest()
    return None if found is None else found.data


class CacheCase(SynchronousTestCase):
    """:ivar cache: in memory for 100 s, and on disk for 1000 s."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name) / "cache"
        self.clock = FakeClock()
        self.start()

    def start(self, memory: int = 1000, disk: int = 1000) -> None:
        """The cache as the next process has it."""
        self.memory = MemoryCache(memory, 100.0)
        self.disk = DiskCache(self.folder, disk, 1000.0)
        self.cache = Cache(self.clock.now, self.memory, self.disk, inline)

    def keep(self, data: bytes, tenant: str = "t1") -> None:
        result(self.cache.keep(tenant, *digests(data), data))

    def found(self, data: bytes, tenant: str = "t1") -> bytes | None:
        return content_of(result(self.cache.find(tenant, md5(data))))

    def in_memory(self, data: bytes) -> bytes | None:
        return content_of(self.memory.find("t1", md5(data), self.clock.now()))

    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file())


class CacheTests(CacheCase):
    def test_found_again(self) -> None:
        """What was kept is found by its MD5, also the empty file."""
        for data in (b"content", b""):
            self.assertIsNone(self.found(data))
            self.keep(data)
            self.assertEqual(data, self.found(data))

    def test_s15_not_for_another_tenant(self) -> None:
        """S15: to know the MD5 of another tenant's file is of no use, in memory or on disk."""
        self.keep(b"private")
        self.assertIsNone(self.found(b"private", "t2"))
        self.start()
        self.assertIsNone(self.found(b"private", "t2"))
        self.assertIsNone(self.found(b"private", "t1/../t1"))
        self.assertEqual(b"private", self.found(b"private"))

    def test_ages(self) -> None:
        """Content is fetched anew after its time: sooner in memory, later on disk."""
        self.keep(b"x")
        self.clock.advance(99.0)
        self.assertEqual(b"x", self.in_memory(b"x"))
        self.clock.advance(1.0)
        self.assertIsNone(self.in_memory(b"x"))
        self.assertEqual(0, self.memory.size)
        self.assertEqual(b"x", self.found(b"x"))  # from the disk, and so in memory again
        self.assertEqual(b"x", self.in_memory(b"x"))
        self.clock.advance(900.0)
        self.assertIsNone(self.found(b"x"))
        self.assertEqual([], self.files())

    def test_survives_a_restart(self) -> None:
        """What is on disk is there after a restart, and its age goes on."""
        self.keep(b"x" * 100)
        self.start()
        self.assertEqual(b"x" * 100, self.found(b"x" * 100))
        self.clock.advance(1000.0)
        self.start()
        self.assertIsNone(self.found(b"x" * 100))

    def test_least_recently_used_goes(self) -> None:
        """Where there is no more room, what was used longest ago goes first."""
        self.start(memory=300, disk=300)
        for letter in (b"a", b"b", b"c"):
            self.keep(letter * 100)
        self.found(b"a" * 100)
        self.keep(b"d" * 100)
        kept = [letter for letter in (b"a", b"b", b"c", b"d") if self.in_memory(letter * 100)]
        self.assertEqual([b"a", b"c", b"d"], kept)
        self.assertEqual((300, 300, 3), (self.memory.size, self.disk.size, len(self.files())))

    def test_use_counts_across_a_restart(self) -> None:
        """The disk remembers what was used last."""
        self.start(memory=0, disk=300)
        for letter in (b"a", b"b", b"c"):
            self.keep(letter * 100)
            self.clock.advance(1.0)
        self.found(b"a" * 100)
        self.start(memory=0, disk=300)
        self.keep(b"d" * 100)
        self.assertIsNone(self.found(b"b" * 100))
        self.assertEqual(b"a" * 100, self.found(b"a" * 100))

    def test_too_large_to_keep(self) -> None:
        """What is larger than all the room drives nothing out."""
        self.keep(b"small")
        self.keep(b"x" * 1001)
        self.assertIsNone(self.found(b"x" * 1001))
        self.assertEqual(b"small", self.found(b"small"))

    def test_kept_twice(self) -> None:
        """The same content counts once, and its time begins anew."""
        self.keep(b"x" * 10)
        self.clock.advance(99.0)
        self.keep(b"x" * 10)
        self.assertEqual((10, 10, 1), (self.memory.size, self.disk.size, len(self.files())))
        self.clock.advance(99.0)
        self.assertEqual(b"x" * 10, self.in_memory(b"x" * 10))

    def test_spoilt_on_disk(self) -> None:
        """What is not what its name says is not given out, and goes."""
        for spoil in (b"", b"X" + b"x" * 99, b"x" * 101, None):
            self.keep(b"x" * 100)
            self.start(memory=0)
            (path,) = self.files()
            if spoil is None:
                path.unlink()
                path.symlink_to("/etc/passwd")
            else:
                path.write_bytes(spoil)
            self.assertIsNone(self.found(b"x" * 100))
            self.assertEqual(([], 0), (self.files(), self.disk.size))

    def test_strangers_in_the_directory(self) -> None:
        """Half a file of a process that was killed goes at the next start; others stay."""
        self.keep(b"x")
        folder = self.files()[0].parent
        (folder / ".part-1-1").write_bytes(b"half")
        (folder / "README").write_bytes(b"hello")
        (self.folder / "notes").write_bytes(b"hello")
        self.start()
        self.assertEqual(b"x", self.found(b"x"))
        self.assertEqual(3, len(self.files()))

    def test_private(self) -> None:
        """Nobody else may read what is on disk."""
        self.keep(b"x")
        (path,) = self.files()
        modes = [p.stat().st_mode & 0o777 for p in (path, path.parent, self.folder)]
        self.assertEqual([0o600, 0o700, 0o700], modes)

    def test_no_room_on_disk(self) -> None:
        """A disk that cannot be written is no reason to fail, nor one that cannot be read."""
        self.folder.write_bytes(b"in the way")
        self.keep(b"x")
        self.assertEqual(b"x", self.found(b"x"))
        self.assertIsNone(self.found(b"y"))

    def test_without_a_disk(self) -> None:
        """Without a place for it nothing is written."""
        cache = Cache(self.clock.now, self.memory, None, inline)
        result(cache.keep("t1", *digests(b"x"), b"x"))
        self.assertEqual(b"x", content_of(result(cache.find("t1", md5(b"x")))))
        self.assertFalse(self.folder.exists())

    def test_digests(self) -> None:
        """MD5 and SHA-256, as everybody computes them."""
        expected = (md5(b"x"), hashlib.sha256(b"x").hexdigest())
        self.assertEqual(expected, digests(b"x"))


class MemoryPropertyTests(SynchronousTestCase):
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(("keep", "find")),
                st.sampled_from(("t1", "t2")),
                st.binary(max_size=12),
                st.sampled_from((0.0, 1.0, 60.0)),
            ),
            max_size=60,
        )
    )
    @settings(max_examples=150, deadline=None)
    def test_against_a_model(self, steps: list[tuple[str, str, bytes, float]]) -> None:
        """Never more than the room, never another's, never what is over its time."""
        cache, kept, now = MemoryCache(40, 100.0), dict[tuple[str, bytes], float](), 0.0
        for what, tenant, data, after in steps:
            now += after
            if what == "keep":
                cache.keep(tenant, *digests(data), data, now)
                kept[tenant, data] = now
                self.assertEqual(data, content_of(cache.find(tenant, md5(data), now)))
            elif (found := content_of(cache.find(tenant, md5(data), now))) is not None:
                self.assertEqual(data, found)
                self.assertLess(now - kept[tenant, data], 100.0)
            self.assertLessEqual(cache.size, 40)
