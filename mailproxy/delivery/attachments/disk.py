"""
The part of the cache that outlives a restart: files whose names say what has to be in them.

A file is written aside and then given its name, and what is read is compared with that name, so
that half a file, or one that somebody changed, is never sent. Its time of change is when it was
fetched, its time of access when it was last used.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from threading import Lock

import attrs

_NAME = re.compile(r"([0-9a-f]{32})-([0-9a-f]{64})-([0-9]{1,12})")
_ASIDE = ".part-"

_Hint = tuple[str, str]


@attrs.frozen
class Found:
    data: bytes
    sha256: str


@attrs.frozen
class _Entry:
    path: Path
    size: int
    since: float


class DiskCache:
    """
    To be called in threads; blocks.

    :param directory: made if it is not there; belongs to this cache alone.
    :param max_bytes: of content; the least recently used goes first.
    :param ttl: seconds after which content is fetched anew.
    """

    def __init__(self, directory: Path, max_bytes: int, ttl: float) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._ttl = ttl
        self._lock = Lock()
        self._entries: OrderedDict[_Hint, _Entry] | None = None
        self._aside = 0
        self.size = 0

    def find(self, tenant_id: str, md5: str, now: float) -> Found | None:
        """:raises OSError: the directory cannot be read."""
        hint = (_folder(tenant_id), md5)
        with self._lock:
            entries = self._loaded()
            entry = entries.get(hint)
            if entry is None:
                return None
            if now - entry.since >= self._ttl:
                self._drop(hint)
                return None
            entries.move_to_end(hint)
        found = _read(entry)
        if found is None:
            with self._lock:
                if self._loaded().get(hint) == entry:
                    self._drop(hint)
            return None
        os.utime(entry.path, (now, entry.since))
        return found

    def keep(self, tenant_id: str, md5: str, sha256: str, data: bytes, now: float) -> None:
        """:raises OSError: it cannot be written."""
        if len(data) > self._max_bytes:
            return
        hint = (_folder(tenant_id), md5)
        path = self._directory / hint[0] / f"{md5}-{sha256}-{len(data)}"
        with self._lock:
            self._loaded()
            self._aside += 1
            aside = path.with_name(f"{_ASIDE}{os.getpid()}-{self._aside}")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(aside, path, data, now)
        with self._lock:
            entries = self._loaded()
            old = entries.pop(hint, None)
            if old is not None:
                self.size -= old.size
                if old.path != path:
                    old.path.unlink(missing_ok=True)
            entries[hint] = _Entry(path, len(data), now)
            self.size += len(data)
            while self.size > self._max_bytes:
                self._drop(next(iter(entries)))

    def _drop(self, hint: _Hint) -> None:
        assert self._entries is not None
        entry = self._entries.pop(hint)
        self.size -= entry.size
        entry.path.unlink(missing_ok=True)

    def _loaded(self) -> OrderedDict[_Hint, _Entry]:
        """What is there, the least recently used first; what was left half written goes."""
        if self._entries is None:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = sorted(_listed(self._directory), key=lambda each: each[0])
            self._entries = OrderedDict((hint, entry) for _, hint, entry in found)
            self.size = sum(entry.size for entry in self._entries.values())
        return self._entries


def digests(data: bytes) -> tuple[str, str]:
    """MD5 and SHA-256, in hex."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest(), hashlib.sha256(data).hexdigest()


def _folder(tenant_id: str) -> str:
    return hashlib.sha256(tenant_id.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def _listed(directory: Path) -> Iterator[tuple[float, _Hint, _Entry]]:
    for folder in directory.iterdir():
        if not folder.is_dir():
            continue
        for path in folder.iterdir():
            if path.name.startswith(_ASIDE):
                path.unlink(missing_ok=True)
            elif match := _NAME.fullmatch(path.name):
                about = path.lstat()
                entry = _Entry(path, int(match[3]), about.st_mtime)
                yield about.st_atime, (folder.name, match[1]), entry


def _read(entry: _Entry) -> Found | None:
    """What is in the file, if it is what its name says."""
    match = _NAME.fullmatch(entry.path.name)
    assert match is not None  # only such names are kept
    try:
        fd = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(fd, "rb") as file:
            data = file.read(entry.size + 1)
    except OSError:
        return None
    if len(data) != entry.size or digests(data) != (match[1], match[2]):
        return None
    return Found(data, match[2])


def _write(aside: Path, path: Path, data: bytes, now: float) -> None:
    try:
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        os.utime(aside, (now, now))
        os.replace(aside, path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
